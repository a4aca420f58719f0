//! The messages of a channel as one type (ADR-062, `Wrapper`).

use bytes::Bytes;

use super::Envelope;

/// All that may be said on one channel: usually an enum, with one variant for each member of the `oneof` that is on the wire. The type
/// system does what ADR-062 has the router do at run time: `From` a member wraps it, and a `match` unwraps it.
///
/// ```
/// use bytes::Bytes;
/// use kadwire::router::Wrapper;
///
/// enum Vote { Yes, No }
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("not a vote")]
/// struct NoVote;
///
/// impl Wrapper for Vote {
///     type Error = NoVote;
///
///     fn wrap(&self) -> Bytes {
///         Bytes::from_static(match self { Vote::Yes => &[1], Vote::No => &[0] })
///     }
///
///     fn unwrap(bytes: &[u8]) -> Result<Self, NoVote> {
///         match bytes { [1] => Ok(Vote::Yes), [0] => Ok(Vote::No), _ => Err(NoVote) }
///     }
/// }
/// ```
///
/// `examples/echo_reactor.rs` does it with protobuf.
pub trait Wrapper: Sized {
    /// Why bytes are no message of this channel: the sender's fault, to be [reported](super::Channel::report).
    type Error: std::error::Error;

    /// The bytes on the wire.
    fn wrap(&self) -> Bytes;

    /// Reads what a peer sent, of which nothing may be believed; at most the channel's `max_message_size` bytes.
    fn unwrap(bytes: &[u8]) -> Result<Self, Self::Error>;
}

impl Envelope {
    /// The message that came, as the channel's type.
    pub fn unwrapped<W: Wrapper>(&self) -> Result<W, W::Error> {
        W::unwrap(&self.message)
    }
}
