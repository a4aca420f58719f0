//! SecretConnection: an encrypted stream whose two ends proved their ed25519 keys (CometBFT `p2p/conn/secret_connection.go`,
//! a station-to-station handshake over X25519, Merlin and HKDF-SHA256; then ChaCha20-Poly1305 frames of 1044 bytes).
//!
//! [`Handshake`] is driven to its end with bytes from the stream and yields a [`Secured`]: the proven key, and a [`Sealer`]
//! and an [`Opener`], which work in place on many frames per call ([`SealBuffer`], [`OpenBuffer`]).
//!
//! Stricter than CometBFT: ephemeral keys have exactly 32 bytes, signatures are verified strictly (no small-order keys),
//! handshake messages have at most 512 bytes, empty frames are refused, and an exhausted nonce is an error.

mod ephemeral;
mod frame;
mod handshake;
mod key_schedule;

pub use frame::{DATA_SIZE, FrameError, OpenBuffer, Opener, SEALED_SIZE, SealBuffer, Sealer};
pub use handshake::{Handshake, SecretConnectionError, Secured};
