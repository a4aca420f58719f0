//! What a [diagnosis](super::diagnose()) is made of: named causes, and findings that put them into words.

use serde::{Deserialize, Serialize};

/// What keeps a node from having peers, or that nothing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// There are peers.
    HasPeers,
    /// The settings allow no peers at all.
    NoPlaces,
    /// Nobody is dialed, by our own setting, and nobody dialed us.
    NotDialing,
    /// There is nobody to begin with.
    NobodyToAsk,
    /// It runs for seconds only.
    JustStarted,
    /// The socket does not take our datagrams.
    CannotSend,
    /// We may not send to anybody we know.
    OutOfReach,
    /// Nothing at all arrives by UDP.
    NothingArrives,
    /// What arrives is not discv4.
    NotDiscv4,
    /// Our clock is wrong.
    ClockOff,
    /// What arrives comes from networks we do not deal with.
    SourcesNotAllowed,
    /// Somebody answers us, but not those whom we asked.
    WrongBootnodeKey,
    /// Datagrams arrive, but nobody answers ours.
    NobodyAnswers,
    /// Whom we know knows nobody else.
    Alone,
    /// Nodes are found, but none speaks this wire.
    NoneSpeaksThisWire,
    /// Nodes are found, but a filter leaves all of them out.
    NonePassesTheFilter,
    /// Nodes are found, but none gives its record.
    NoRecords,
    /// We refuse whom we find.
    Refused,
    /// Dials fail.
    DialsFail,
    /// The peers that we dial are full.
    PeersAreFull,
    /// Dials are under way.
    StillDialing,
    /// Connections do not last.
    ConnectionsEnd,
    /// Others dial us, and we refuse them.
    InboundRefused,
    /// Nobody from outside ever dialed us.
    NobodyDialsUs,
    /// Our record gives an address at which others cannot reach us.
    AdvertisedUnreachable,
    /// Nothing conspicuous.
    Unknown,
}

/// One cause, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which.
    pub cause: Cause,
    /// What is the case: a plain sentence or two, with figures.
    pub says: String,
    /// What to do next.
    pub advice: String,
}
