//! What ends a connection above its frames, and why a message is not queued.

use bytes::Bytes;

use super::{super::disconnect::DisconnectReason, super::hello::MAX_BASE_MESSAGE_SIZE, super::message::MessageError};
use crate::Blame;

/// What ended the connection: the peer hung up, broke a rule, or went silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MultiplexError {
    /// The peer hung up, and says why.
    #[error("disconnected by the peer: {0}")]
    Disconnected(DisconnectReason),
    /// Frame data that is no message, or one larger than its protocol allows.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A message code that belongs to no shared protocol.
    #[error("message code {0:#x} is out of range")]
    UnknownCode(u64),
    /// A base message of more than 2048 bytes.
    #[error("base message {code:#04x} of {len} bytes, at most {MAX_BASE_MESSAGE_SIZE} are allowed")]
    BaseTooLarge {
        /// Its code.
        code: u64,
        /// Its payload as it came, in bytes.
        len: usize,
    },
    /// Hello came a second time.
    #[error("hello after the handshake")]
    SecondHello,
    /// No frame came in time.
    #[error("read timeout")]
    ReadTimeout,
}

impl MultiplexError {
    /// Whose fault it is. Silence may be the network's.
    pub fn blame(&self) -> Blame {
        match self {
            MultiplexError::Disconnected(reason) => reason.blame(),
            MultiplexError::Message(error) => error.blame(),
            MultiplexError::UnknownCode(_) | MultiplexError::SecondHello => Blame::Misbehaved,
            MultiplexError::BaseTooLarge { .. } => Blame::Misbehaved,
            MultiplexError::ReadTimeout => Blame::Local,
        }
    }

    /// What the peer is told before we hang up ([`Multiplex::disconnect`](super::Multiplex::disconnect)); nothing if it hung up itself.
    pub fn reason(&self) -> Option<DisconnectReason> {
        match self {
            MultiplexError::Disconnected(_) => None,
            MultiplexError::ReadTimeout => Some(DisconnectReason::ReadTimeout),
            MultiplexError::UnknownCode(_) => Some(DisconnectReason::Subprotocol),
            _ => Some(DisconnectReason::Protocol),
        }
    }
}

/// Why a message was not queued. Always this side's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// There is no such shared protocol.
    #[error("no shared protocol {0}")]
    UnknownProtocol(u8),
    /// The message can never be sent.
    #[error(transparent)]
    Refused(#[from] RefusedMessage),
    /// The protocol's queue is full; here is the message.
    #[error("the protocol's queue is full")]
    Full(Bytes),
    /// This side hangs up.
    #[error("the connection is ending")]
    Disconnecting,
}

/// Why a message can never be sent on a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedMessage {
    /// The message does not begin with a code.
    #[error("the message has no code in front")]
    NoCode,
    /// The protocol has fewer messages.
    #[error("message code {code}, the protocol has {length}")]
    CodeOutOfRange {
        /// The protocol's own code.
        code: u64,
        /// How many it has.
        length: u16,
    },
    /// The payload is larger than the protocol allows, or its frame larger than a frame can be.
    #[error("message of {len} bytes, at most {max} are allowed")]
    TooLarge {
        /// The payload, or the frame data made of it, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
}

impl QueueError {
    /// Never the peer's.
    pub fn blame(&self) -> Blame {
        Blame::Local
    }
}

/// Why settings are refused. Always this side's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MultiplexConfigError {
    /// The ping interval is zero, or not less than the read timeout.
    #[error("ping interval must be more than zero and less than the read timeout")]
    PingInterval,
    /// More than a day.
    #[error("read timeout must be at most a day")]
    ReadTimeout,
}
