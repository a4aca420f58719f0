//! The seam between discovery and policy: what somebody *claims*. Every source of peers (discv4, PEX, the configuration, a peer that
//! dialed us) produces [`Candidate`]s, and nothing else enters the peer policy. A claim is proved only by a handshake.

use kadwire_wire::address::{PeerAddress, PeerId};

use crate::count::reasons;

/// A peer said to be at an address, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who is said to be where.
    pub address: PeerAddress,
    /// Who said so.
    pub source: Source,
}

/// Who claims that a peer is at an address. It decides where the claim goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The operator: a persistent peer, dialed before all others and for ever.
    Config,
    /// Ethereum discovery: waits in the dialer's short queue; what is not wanted now is found again later.
    Discv4,
    /// An address answered by this connected peer: kept in the address book under the peer's own address group.
    Pex(PeerId),
    /// An address that a peer who dialed us gives for itself: looked into, and kept once the peer was found there.
    Inbound,
}

reasons! {
    /// A kind of [`Source`], for counters.
    SourceKind, counted by
    /// How many candidates each kind of source brought.
    Candidates,
    {
        /// The operator.
        Config = "config",
        /// Ethereum discovery.
        Discv4 = "discv4",
        /// The answers of peers.
        Pex = "pex",
        /// What peers that dialed us say of themselves.
        Inbound = "inbound",
    }
}

impl From<Source> for SourceKind {
    fn from(source: Source) -> Self {
        match source {
            Source::Config => SourceKind::Config,
            Source::Discv4 => SourceKind::Discv4,
            Source::Pex(_) => SourceKind::Pex,
            Source::Inbound => SourceKind::Inbound,
        }
    }
}

impl Candidate {
    /// A claim of `source` about `address`.
    pub fn new(address: PeerAddress, source: Source) -> Self {
        Candidate { address, source }
    }
}
