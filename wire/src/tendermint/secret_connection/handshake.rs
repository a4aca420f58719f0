//! The handshake as a machine: bytes in, bytes out, and in the end a proven key and the two frame ciphers.

use prost::Message;
use rand::CryptoRng;

use super::{
    FrameError, OpenBuffer, Opener, SEALED_SIZE, SealBuffer, Sealer,
    ephemeral::{Ephemeral, SmallOrder},
    key_schedule::{challenge, frame_keys},
};
use crate::{
    Blame,
    tendermint::{
        DelimitedError, delimit,
        key::{NodeKey, VerifyError, node_id, verify},
        split_delimited,
    },
};

/// The largest handshake message, in bytes. The two real ones have 34 and 102; CometBFT reads up to 1 MiB.
const MAX_MESSAGE: usize = 512;

/// One side of the handshake. Both sides do the same:
///
/// ```text
/// Ephemeral ── their ephemeral key ──▶ Authenticating ── their key and signature, in frames ──▶ Done
/// ```
///
/// Drive it with [`poll_transmit`](Self::poll_transmit), [`handle_bytes`](Self::handle_bytes) and
/// [`poll_secured`](Self::poll_secured). After an error it is dead. It holds at most two kilobytes.
pub struct Handshake<'k> {
    key: &'k NodeKey,
    state: State,
    transmit: Option<Vec<u8>>,
    secured: Option<Secured>,
}

enum State {
    Ephemeral {
        ours: Ephemeral,
        received: Vec<u8>,
    },
    Authenticating {
        challenge: [u8; 32],
        ciphers: Option<Box<(Sealer, Opener)>>,
        received: OpenBuffer,
        /// Bytes of the current frame in `received`.
        filled: usize,
    },
    Done,
}

/// What a finished handshake yields.
#[derive(Debug)]
pub struct Secured {
    /// The peer's ed25519 key, proven.
    pub key: [u8; 32],
    /// The peer's node id, which follows from the key.
    pub id: [u8; 20],
    /// For our frames.
    pub sealer: Sealer,
    /// For the peer's frames.
    pub opener: Opener,
    /// What was opened beyond the handshake: the beginning of the peer's next message.
    pub received: OpenBuffer,
}

impl<'k> Handshake<'k> {
    /// Begins, with an ephemeral key from `rng`.
    pub fn new(key: &'k NodeKey, rng: &mut impl CryptoRng) -> Self {
        let ours = Ephemeral::new(rng);
        let message = BytesValue { value: ours.public().to_vec() };
        let state = State::Ephemeral { ours, received: Vec::new() };
        Handshake { key, state, transmit: Some(delimit(&message.encode_to_vec())), secured: None }
    }

    /// Bytes to write to the stream.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.take()
    }

    /// Takes bytes from the stream and says how many; the rest belongs to [`Secured::opener`].
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<usize, SecretConnectionError> {
        let mut rest = bytes;
        while !rest.is_empty() && !matches!(self.state, State::Done) {
            let taken = match &mut self.state {
                State::Ephemeral { received, .. } => {
                    // Byte by byte, so that nothing of what follows is taken.
                    received.extend(rest.first());
                    self.handle_ephemeral()?;
                    1
                }
                State::Authenticating { received, filled, .. } => {
                    let room = SEALED_SIZE.saturating_sub(*filled);
                    let now = rest.get(..room).unwrap_or(rest);
                    received.spare(now.len()).extend_from_slice(now);
                    *filled = filled.saturating_add(now.len());
                    let taken = now.len();
                    if *filled == SEALED_SIZE {
                        *filled = 0;
                        self.handle_frame()?;
                    }
                    taken
                }
                State::Done => 0,
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(bytes.len().saturating_sub(rest.len()))
    }

    /// The result, once.
    pub fn poll_secured(&mut self) -> Option<Secured> {
        self.secured.take()
    }

    fn handle_ephemeral(&mut self) -> Result<(), SecretConnectionError> {
        let State::Ephemeral { ours, received } = &self.state else { return Ok(()) };
        let Some((message, _)) = split_delimited(received, MAX_MESSAGE)? else { return Ok(()) };
        let theirs = BytesValue::decode(message).map_err(|_| SecretConnectionError::Undecodable)?.value;
        let theirs: [u8; 32] =
            theirs.as_slice().try_into().map_err(|_| SecretConnectionError::EphemeralLength(theirs.len()))?;
        let public = ours.public();
        if theirs == public {
            return Err(SecretConnectionError::Reflected);
        }
        let shared = ours.agree(&theirs).map_err(|SmallOrder| SecretConnectionError::LowOrder)?;
        let least = public < theirs;
        let (lower, upper) = if least { (&public, &theirs) } else { (&theirs, &public) };
        let keys = frame_keys(&shared, least);
        let challenge = challenge(lower, upper, &shared);
        let (mut sealer, opener) = (Sealer::new(&keys.send), Opener::new(&keys.receive));

        let pub_key = ProtoPublicKey { ed25519: Some(self.key.public().to_vec()), secp256k1: None };
        let message = AuthSigMessage { pub_key: Some(pub_key), sig: self.key.sign(&challenge).to_vec() };
        let mut frames = SealBuffer::default();
        frames.put(&delimit(&message.encode_to_vec()));
        frames.seal(&mut sealer)?;
        // The caller may not have fetched our first message yet.
        self.transmit.get_or_insert_default().extend_from_slice(frames.sealed());
        let ciphers = Some(Box::new((sealer, opener)));
        self.state = State::Authenticating { challenge, ciphers, received: OpenBuffer::default(), filled: 0 };
        Ok(())
    }

    fn handle_frame(&mut self) -> Result<(), SecretConnectionError> {
        let State::Authenticating { challenge, ciphers, received, .. } = &mut self.state else { return Ok(()) };
        let Some((_, opener)) = ciphers.as_deref_mut() else { return Ok(()) };
        received.open(opener)?;
        let Some((message, len)) = split_delimited(received.plaintext(), MAX_MESSAGE)? else { return Ok(()) };
        let message = AuthSigMessage::decode(message).map_err(|_| SecretConnectionError::Undecodable)?;
        let key = message.ed25519_key()?;
        let signature = message.sig.as_slice().try_into().map_err(|_| SecretConnectionError::Signature)?;
        verify(&key, challenge, signature).map_err(|error| match error {
            VerifyError::Key => SecretConnectionError::WeakKey,
            VerifyError::Signature => SecretConnectionError::Signature,
        })?;
        received.consume(len);
        let received = std::mem::take(received);
        if let Some(ciphers) = ciphers.take() {
            let (sealer, opener) = *ciphers;
            self.secured = Some(Secured { key, id: node_id(&key), sealer, opener, received });
        }
        self.state = State::Done;
        Ok(())
    }
}

impl std::fmt::Debug for Handshake<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.state {
            State::Ephemeral { .. } => "Handshake::Ephemeral",
            State::Authenticating { .. } => "Handshake::Authenticating",
            State::Done => "Handshake::Done",
        })
    }
}

/// `google.protobuf.BytesValue`.
#[derive(Clone, PartialEq, Message)]
struct BytesValue {
    #[prost(bytes = "vec", tag = "1")]
    value: Vec<u8>,
}

/// `tendermint.p2p.AuthSigMessage`.
#[derive(Clone, PartialEq, Message)]
struct AuthSigMessage {
    #[prost(message, optional, tag = "1")]
    pub_key: Option<ProtoPublicKey>,
    #[prost(bytes = "vec", tag = "2")]
    sig: Vec<u8>,
}

impl AuthSigMessage {
    fn ed25519_key(&self) -> Result<[u8; 32], SecretConnectionError> {
        let key = self.pub_key.as_ref().ok_or(SecretConnectionError::MissingKey)?;
        match (&key.ed25519, &key.secp256k1) {
            (Some(key), None) => key.as_slice().try_into().map_err(|_| SecretConnectionError::KeyLength(key.len())),
            (_, Some(_)) => Err(SecretConnectionError::UnsupportedKey),
            // No key, or of a type that came later (bls12381, mldsa65, secp256k1eth).
            (None, None) => Err(SecretConnectionError::MissingKey),
        }
    }
}

/// `tendermint.crypto.PublicKey`, a oneof.
#[derive(Clone, PartialEq, Message)]
struct ProtoPublicKey {
    #[prost(bytes = "vec", optional, tag = "1")]
    ed25519: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    secp256k1: Option<Vec<u8>>,
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretConnectionError {
    /// A message of more than 512 bytes, by its length prefix.
    #[error("handshake message of {0} bytes, at most {MAX_MESSAGE} are allowed")]
    MessageTooLarge(u64),
    /// A message that is not the protobuf it should be.
    #[error("handshake message cannot be decoded")]
    Undecodable,
    /// An ephemeral key that does not have 32 bytes. (CometBFT cuts or pads it.)
    #[error("ephemeral key has {0} bytes, expected 32")]
    EphemeralLength(usize),
    /// Our own ephemeral key came back.
    #[error("the peer sent our own ephemeral key back")]
    Reflected,
    /// An ephemeral key of small order: the shared secret would be known to all.
    #[error("ephemeral key has small order")]
    LowOrder,
    /// A frame that cannot be read or written.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No identity key, or none of a type known here.
    #[error("the peer sent no identity key, or one of an unknown type")]
    MissingKey,
    /// A secp256k1 identity key.
    #[error("identity key is not ed25519")]
    UnsupportedKey,
    /// An identity key that does not have 32 bytes.
    #[error("identity key has {0} bytes, expected 32")]
    KeyLength(usize),
    /// An identity key that is no point of the curve, or one of small order, for which anybody can sign.
    #[error("identity key is not a valid point")]
    WeakKey,
    /// The signature over the challenge is not the key's.
    #[error("challenge verification failed")]
    Signature,
}

impl From<DelimitedError> for SecretConnectionError {
    fn from(error: DelimitedError) -> Self {
        match error {
            DelimitedError::BadLength => SecretConnectionError::Undecodable,
            DelimitedError::TooLarge(len) => SecretConnectionError::MessageTooLarge(len),
        }
    }
}

impl SecretConnectionError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        use SecretConnectionError::*;
        match self {
            MessageTooLarge(_) | Undecodable | EphemeralLength(_) | MissingKey | KeyLength(_) => Blame::Malformed,
            Reflected | LowOrder | WeakKey | Signature => Blame::Misbehaved,
            UnsupportedKey => Blame::Incompatible,
            Frame(error) => error.blame(),
        }
    }
}

#[cfg(test)]
mod tests;
