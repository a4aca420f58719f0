//! Ethereum's peer wire: RLPx (devp2p `rlpx.md`, EIP-8) and the base protocol "p2p" version 5, as machines.
//!
//! In the order a connection uses it: a [`Handshake`] that proves both static keys and gives a [`FrameWriter`] and a [`FrameReader`];
//! then, in frames, an exchange of [`Hello`](hello::Hello) and messages of several protocols over one stream
//! ([`Multiplex`](multiplex::Multiplex)).
//!
//! Secrets are wiped when they are dropped: keys and what is agreed on, the ciphers' round keys, and the hashes that took in a secret, whose state
//! would give it back (the authenticators' keccak among them). Not wiped are the points on the stack while the curve multiplies, what the
//! compiler copies when it moves a value, and messages, which their users hold anyway.

pub mod capability;
mod curve;
pub mod disconnect;
mod ecies;
mod error;
mod frame;
mod handshake;
pub mod hello;
pub mod message;
pub mod multiplex;
mod rlp_list;

pub use curve::{KeyError, PublicKey, SecretKey};
pub use error::{FrameError, HandshakeError};
pub use frame::{FrameBuffer, FrameReader, FrameWriter, MAX_FRAME};
pub use handshake::{Handshake, Secured};
pub use rlp_list::RlpError;
