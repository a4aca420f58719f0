//! The peer policy: whom to know, whom to dial, who stays. A machine: one task, the router, owns it and tells it the time; there is no lock
//! on it and no second opinion about peers.
//!
//! [`PeerManager`] composes the [book](crate::book) (what we know and how good it is), the [dial scheduler](crate::dial) (whether and when
//! to try) and the set of connections with its rules of [eviction](Slots) (who stays). Facts: ADR-062, go-ethereum `p2p/server.go`,
//! CometBFT `p2p/switch.go`; what differs says so where it does.
//!
//! ```text
//! Candidate --add--> book, queue --schedule--> Action::Dial --> handle_dialed / handle_dial_failed
//! socket --handle_incoming--> half-open (--> handle_identified) --> handle_accepted / handle_incoming_failed
//! static peer not reached --> Action::Resolve --> handle_resolved
//! own word of a peer --add--> Action::Probe --> handle_probed --> book
//! crossed dials --> held ~1 s --> one of the two
//! connected --handle_ready--> Event::Up ... Action::Close ... handle_closed --> Event::Down
//! ```
//!
//! The contract of driving it: after every call, take all of [`PeerManager::poll_action`] and [`PeerManager::poll_event`], and call
//! [`PeerManager::handle_timeout`] at [`PeerManager::poll_timeout`]. Each [`Action::Dial`] is answered once, by `handle_dialed` or
//! `handle_dial_failed`; each connection taken ends with one `handle_closed`.

mod admission;
mod anchors;
mod crossing;
mod declared;
mod dial_stats;
mod eviction;
mod incoming;
mod manager;
mod role;
mod schedule;
mod score;
mod seen;
mod set;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use ipnet::IpNet;
use kadwire_wire::address::{PeerAddress, PeerId};

pub use crate::dial::{Ended, Failures, Places, Refusals, WhyFailed, WhyNot};
pub use dial_stats::DialStats;
pub use eviction::Slots;
pub use manager::PeerManager;
pub use role::Role;
pub use score::{Report, Score};
pub use set::{Connected, ConnectionId, Direction, State};

pub(crate) use declared::Declared;
pub(crate) use incoming::Incoming;
pub(crate) use set::host;

use crate::{anchors::Anchor, book::NotAdded};

/// What the peer policy must be told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's identity.
    pub own_id: PeerId,
    /// Where this node is known to listen; never dialed.
    pub own_sockets: BTreeSet<SocketAddr>,
    /// How many connections and dials there may be.
    pub slots: Slots,
    /// Peers to keep connected whatever it takes.
    pub persistent: Vec<PeerAddress>,
    /// Peers that are always let in (CometBFT: unconditional; go-ethereum: trusted).
    pub unconditional: BTreeSet<PeerId>,
    /// Whether persistent and unconditional peers take places.
    pub places: Places,
    /// Whom to ask when nobody else is known.
    pub seeds: Vec<PeerAddress>,
    /// Whom to dial before others: peers of the last run ([`anchors::file`](crate::anchors::file)). They get a quarter of the dialed places.
    pub anchors: Vec<Anchor>,
    /// If given, `seeds` are bootnodes with a TCP port, which are dialed in turn, as peers to keep, once there has been no peer for this
    /// time. go-ethereum 1.8: [`FALLBACK`]; today's has no such fallback.
    pub fallback: Option<Duration>,
    /// Whether discovery may be asked where a persistent peer is that was not reached ([`Action::Resolve`]).
    pub resolve: bool,
    /// If not empty, only these networks are dialed or let in.
    pub netrestrict: Vec<IpNet>,
    /// Only public addresses are dialed. Whoever dials us from another one is let in: that TCP address is proven.
    pub public_only: bool,
    /// Scores that the operator gives, in place of reported ones.
    pub scores: BTreeMap<PeerId, Score>,
    /// Attempts of one IP to connect within 10 s (Tendermint, `max_incoming_connection_attempts`: 100).
    pub attempts_per_ip: u32,
    /// If given, an IP whose connection was let in to its handshake is not let in again within this time; private networks and loopback are
    /// exempt as with `limit_lan`. go-ethereum: 30 s (`inboundThrottleTime`); Tendermint has none.
    pub throttle: Option<Duration>,
    /// Whether two peers may have the same IP (CometBFT, `allow_duplicate_ip`); persistent and unconditional peers always may.
    pub allow_duplicate_ip: bool,
    /// Whether limits per IP and subnet hold for private networks and, those per IP, for loopback. go-ethereum exempts both. Attempts
    /// are counted for all.
    pub limit_lan: bool,
    /// The longest wait between two dials of a persistent peer (CometBFT, `persistent_peers_max_dial_period`).
    pub persistent_backoff: Duration,
    /// Where randomness starts.
    pub seed: u64,
}

impl Config {
    /// The defaults: 40 inbound, 10 outbound, nobody known.
    pub fn new(own_id: PeerId) -> Self {
        Config {
            own_id,
            own_sockets: BTreeSet::new(),
            slots: Slots::default(),
            persistent: Vec::new(),
            unconditional: BTreeSet::new(),
            places: Places::Strangers,
            seeds: Vec::new(),
            anchors: Vec::new(),
            fallback: None,
            resolve: false,
            netrestrict: Vec::new(),
            public_only: false,
            scores: BTreeMap::new(),
            attempts_per_ip: 100,
            throttle: None,
            allow_duplicate_ip: true,
            limit_lan: false,
            persistent_backoff: crate::dial::PERSISTENT_BACKOFF,
            seed: 0,
        }
    }

    /// go-ethereum's rules: everybody takes a place and nobody loses it to a better peer, an IP connects once in 30 s, static peers that are not
    /// reached are looked for by discovery, and dials go on as slots allow. `slots` as [`Slots::ethereum`] makes them. Bootnodes are not dialed, as in
    /// today's go-ethereum; for the rule of 1.8 set `seeds` and `fallback: Some(FALLBACK)`.
    pub fn ethereum(own_id: PeerId, slots: Slots) -> Self {
        Config { slots, places: Places::Everybody, resolve: true, throttle: Some(THROTTLE), ..Config::new(own_id) }
    }
}

/// Without any peer for so long, a bootnode is dialed (go-ethereum 1.8 `p2p/dial.go`, `fallbackInterval`).
pub const FALLBACK: Duration = Duration::from_secs(20);

/// An IP is let in once in this time (go-ethereum `p2p/server.go`, `inboundThrottleTime`).
const THROTTLE: Duration = Duration::from_secs(30);

/// What the router must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to this address and prove its identity.
    Dial(PeerAddress),
    /// End this connection.
    Close {
        /// Which one.
        connection: ConnectionId,
        /// Whose it is.
        peer: PeerId,
        /// Why.
        because: Because,
    },
    /// Find out whether the peer is at this address that it gives for itself, without becoming its peer once more. Say
    /// [`PeerManager::handle_probed`], `handle_probe_refused` or `handle_probe_failed`; one that there is no room for may be left undone.
    Probe(PeerAddress),
    /// Ask discovery where this peer is now, and answer with [`PeerManager::handle_resolved`].
    Resolve(PeerId),
    /// Drop this inbound connection, whose handshake is not done: newer ones need its room.
    Abort(ConnectionId),
}

/// Why the policy ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Because {
    /// A peer with a better score takes its place.
    Evicted,
    /// Its network has many places, and a peer from elsewhere takes this one.
    Crowded,
    /// Another connection with the same peer takes its place.
    Replaced,
    /// The peer broke the rules and is banned.
    Misbehaved,
    /// The node's own wish.
    Requested,
}

/// What reactors are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer is there, and messages can be sent to it.
    Up {
        /// Who.
        peer: PeerId,
        /// On which connection.
        connection: ConnectionId,
        /// Who dialed.
        direction: Direction,
    },
    /// A peer's connection is gone. One that was replaced goes after the new one came up: compare the numbers. Of two that crossed, the one
    /// that stays may come up right after.
    Down {
        /// Who.
        peer: PeerId,
        /// On which connection it was.
        connection: ConnectionId,
    },
}

/// Why a candidate is not taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The dial scheduler has no use for it.
    #[error("not dialed: {0}")]
    Dial(#[from] WhyNot),
    /// The book does not keep it.
    #[error("not kept: {0}")]
    Book(#[from] NotAdded),
    /// Whom we dialed gives an address for itself.
    #[error("we know where this peer is")]
    Reached,
    /// Peers elsewhere had us look into that host often enough lately.
    #[error("this host was looked into often enough")]
    TooMany,
    /// The peer that is said to have told us is not connected.
    #[error("its source is not connected")]
    UnknownSource,
}

/// What became of one PEX answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Addresses the book did not know.
    pub new: usize,
    /// Addresses it knew already.
    pub known: usize,
    /// Addresses it refused, each for a reason of its own.
    pub refused: usize,
    /// Addresses beyond what one answer may bring.
    pub beyond: usize,
}

/// Counters of the peer policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Peers connected that dialed us, closing ones not counted.
    pub inbound: usize,
    /// Peers connected that we dialed.
    pub outbound: usize,
    /// Dials under way.
    pub dialing: usize,
    /// Inbound handshakes under way.
    pub half_open: usize,
    /// Addresses in the book.
    pub book: usize,
    /// Dials started so far.
    pub dials: u64,
    /// Dials that failed so far.
    pub dials_failed: u64,
    /// Connections closed so far for a better peer, or for one of a less crowded network.
    pub evicted: u64,
    /// Peers banned so far.
    pub banned: u64,
    /// Refusals by reason.
    pub refusals: Refusals,
}

#[cfg(test)]
mod tests;
