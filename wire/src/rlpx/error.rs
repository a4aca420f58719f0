//! Why a handshake or a frame was refused, and whose fault it is.

use super::{
    RlpError,
    frame::MAX_FRAME,
    handshake::{MAX_PACKET, MIN_PACKET},
};
use crate::Blame;

/// Why a handshake failed; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The packet's size (in bytes, without the prefix) is beyond the limit.
    #[error("handshake packet of {0} bytes, at most {MAX_PACKET} are allowed")]
    TooLong(usize),
    /// The packet's size (in bytes, without the prefix) leaves no room for a message.
    #[error("handshake packet of {0} bytes, at least {MIN_PACKET} are needed")]
    TooShort(usize),
    /// The stream ended before the packet did.
    #[error("stream ended {missing} bytes or more before the end of the handshake packet")]
    Cut {
        /// How many bytes were known to be missing.
        missing: usize,
    },
    /// The packet does not begin with a point of the curve.
    #[error("handshake packet was sealed with a key that is not a point of the curve")]
    NotAPoint,
    /// The packet is not for us, or it was altered.
    #[error("handshake packet cannot be opened: wrong authenticator")]
    WrongMac,
    /// The packet was opened, but its content is not the message that it should be.
    #[error("handshake message: {0}")]
    Rlp(#[from] RlpError),
    /// The peer's static key is not a point of the curve.
    #[error("the peer's static key is not a point of the curve")]
    StaticKey,
    /// The peer's ephemeral key is not a point of the curve.
    #[error("the peer's ephemeral key is not a point of the curve")]
    EphemeralKey,
    /// The signature is of no key.
    #[error("the signature in the handshake is of no key")]
    Signature,
}

impl HandshakeError {
    /// Whose fault it is. A stream that ends blames nobody.
    pub fn blame(&self) -> Blame {
        use HandshakeError::*;
        match self {
            TooLong(_) | TooShort(_) | NotAPoint | WrongMac | Rlp(_) => Blame::Malformed,
            StaticKey | EphemeralKey | Signature => Blame::Misbehaved,
            Cut { .. } => Blame::Local,
        }
    }
}

/// Why a frame cannot be read or written; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The header's authenticator is wrong: altered, reordered or replayed.
    #[error("frame header has a wrong authenticator")]
    HeaderMac,
    /// The frame's authenticator is wrong: altered, reordered or replayed.
    #[error("frame has a wrong authenticator")]
    FrameMac,
    /// The peer sends more in one frame than is allowed at this time.
    #[error("frame of {size} bytes, at most {max} are allowed")]
    TooLong {
        /// What the header says, in bytes.
        size: usize,
        /// What is allowed, in bytes.
        max: usize,
    },
    /// The peer's frame holds no data, not even a message code.
    #[error("frame holds no data")]
    Empty,
    /// We were to send a frame that holds nothing, or more than a frame can.
    #[error("cannot send a frame of {0} bytes: it must have 1 to {MAX_FRAME}")]
    CannotSend(usize),
}

impl FrameError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            FrameError::HeaderMac | FrameError::FrameMac => Blame::Malformed,
            FrameError::TooLong { .. } | FrameError::Empty => Blame::Misbehaved,
            FrameError::CannotSend(_) => Blame::Local,
        }
    }
}
