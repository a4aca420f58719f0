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
    /// Every reason, in a fixed order.
    pub const ALL: [Rejected; 10] = [
        Rejected::Expired,
        Rejected::TooFarAhead,
        Rejected::NotAllowed,
        Rejected::Unsolicited,
        Rejected::NoEndpointProof,
        Rejected::Replayed,
        Rejected::SourceRate,
        Rejected::TotalRate,
        Rejected::OwnKey,
        Rejected::ForeignRecord,
    ];

    /// How many reasons there are.
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// A short name for metrics: lower case, words joined by `_`.
    pub fn name(self) -> &'static str {
        match self {
            Rejected::Expired => "expired",
            Rejected::TooFarAhead => "too_far_ahead",
            Rejected::NotAllowed => "not_allowed",
            Rejected::Unsolicited => "unsolicited",
            Rejected::NoEndpointProof => "no_endpoint_proof",
            Rejected::Replayed => "replayed",
            Rejected::SourceRate => "source_rate",
            Rejected::TotalRate => "total_rate",
            Rejected::OwnKey => "own_key",
            Rejected::ForeignRecord => "foreign_record",
        }
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Rejected::Expired | Rejected::TooFarAhead | Rejected::Unsolicited | Rejected::Replayed => Blame::Misbehaved,
            Rejected::NoEndpointProof | Rejected::SourceRate | Rejected::ForeignRecord => Blame::Misbehaved,
            Rejected::NotAllowed | Rejected::TotalRate | Rejected::OwnKey => Blame::Local,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_in_its_place_and_has_a_name_of_its_own() {
        for (at, why) in Rejected::ALL.iter().enumerate() {
            assert_eq!(*why as usize, at);
            assert_eq!(Rejected::ALL.iter().filter(|other| other.name() == why.name()).count(), 1, "{why}");
        }
        assert_eq!(Rejected::COUNT, Rejected::ForeignRecord as usize + 1, "the last one");
    }
}
