//! What ends an MConnection.

use crate::{Blame, tendermint::protobuf};

/// A rule of the packet layer that was broken; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MConnectionError {
    /// A packet longer than the agreed payload allows, judged by its length prefix.
    #[error("packet of {len} bytes, at most {max} are allowed")]
    PacketTooLarge {
        /// The claimed length, in bytes.
        len: u64,
        /// The limit, in bytes.
        max: usize,
    },
    /// A packet that is not the protobuf message.
    #[error("packet cannot be decoded: {0}")]
    Undecodable(&'static str),
    /// A packet that is neither ping, pong nor message.
    #[error("unknown packet type")]
    UnknownPacket,
    /// A message on a channel that was not agreed on.
    #[error("unknown channel {0}")]
    UnknownChannel(i32),
    /// A message larger than its channel allows.
    #[error("message on channel {channel:#04x} exceeds {max} bytes")]
    MessageTooLarge {
        /// The channel.
        channel: u8,
        /// Its limit, in bytes.
        max: usize,
    },
    /// No pong came in time.
    #[error("pong timeout")]
    PongTimeout,
}

impl MConnectionError {
    /// Whose fault it is. A missing pong may be the network's.
    pub fn blame(&self) -> Blame {
        match self {
            MConnectionError::Undecodable(_) | MConnectionError::UnknownPacket => Blame::Malformed,
            MConnectionError::PacketTooLarge { .. } => Blame::Malformed,
            MConnectionError::UnknownChannel(_) | MConnectionError::MessageTooLarge { .. } => Blame::Misbehaved,
            MConnectionError::PongTimeout => Blame::Local,
        }
    }
}

impl From<protobuf::Undecodable> for MConnectionError {
    fn from(protobuf::Undecodable(why): protobuf::Undecodable) -> Self {
        MConnectionError::Undecodable(why)
    }
}
