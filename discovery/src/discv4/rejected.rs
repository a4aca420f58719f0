//! Why a packet was refused.

use crate::Blame;

/// Why a packet was refused. Never answered: an answer would tell a stranger, or hit somebody who asked nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rejected {
    /// Its expiration has passed (by the wall clock, to the second).
    #[error("expired")]
    Expired,
    /// Its expiration is more than an hour ahead.
    #[error("expires too far ahead")]
    TooFarAhead,
    /// The source is one that we do not deal with ([`Reach`](super::Reach)).
    #[error("source address is not allowed")]
    NotAllowed,
    /// An answer that nobody waits for: wrong source, wrong sender, wrong token, or too late.
    #[error("unsolicited answer")]
    Unsolicited,
    /// A FindNode or ENRRequest from somebody who has not proven to receive what we send.
    #[error("no endpoint proof")]
    NoEndpointProof,
    /// A request we have seen before.
    #[error("replayed")]
    Replayed,
    /// Too many pings of strangers from one address.
    #[error("too many pings from this address")]
    SourceRate,
    /// Too many pings of strangers.
    #[error("too many pings from strangers")]
    TotalRate,
    /// Signed with our own key.
    #[error("our own key")]
    OwnKey,
    /// A record of another node than the one that sent it.
    #[error("record of another node")]
    ForeignRecord,
}

impl Rejected {
    /// How many reasons there are.
    pub(crate) const COUNT: usize = Rejected::ForeignRecord as usize + 1;

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Rejected::Expired | Rejected::TooFarAhead | Rejected::Unsolicited | Rejected::Replayed => Blame::Misbehaved,
            Rejected::NoEndpointProof | Rejected::SourceRate | Rejected::ForeignRecord => Blame::Misbehaved,
            Rejected::NotAllowed | Rejected::TotalRate | Rejected::OwnKey => Blame::Local,
        }
    }
}
