//! "Why have I no peers?": how a node, bootnode or seed stands, what that means, and the ways to ask.
//!
//! [`Status`] is a plain snapshot: everything a node knows about its way to peers, from the first datagram to the last refusal. It is
//! JSON on the wire. [`diagnose`] turns one into sentences, the most likely cause first; [`metrics`] into Prometheus text. Both are pure.
//! [`serve`] is the driver that answers `GET /status` and `GET /metrics`; [`fetch`](fetch::fetch) is its other end. What it is not: a
//! place where anything is decided. Fields, metrics and findings: `docs/status.md`.
//!
//! ```text
//! bootnodes ─udp─> table ─lookups─> nodes found ─record, filter─> candidates ─check─> dials ─handshake─> peers
//!    nobody      nothing arrives   nobody else      none fits       refused           failed by cause   full, gone
//! ```

mod advice;
mod cause;
mod collect;
mod diagnose;
pub mod fetch;
mod metrics;
mod serve;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

pub use cause::{Cause, Finding};
pub use collect::{BootnodeSource, NodeSource, SeedSource, Source};
pub use diagnose::diagnose;
pub use metrics::metrics;
pub use serve::{Serving, serve};

/// Counts by name. Names are lower case, words joined by `_`.
pub type Counts = BTreeMap<String, u64>;

/// How things stand. Counters count from the start and only grow; a reader of another version finds missing fields at zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// What runs.
    pub role: Role,
    /// Of kadwire.
    pub version: String,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Our record as an enode URL, if we have discovery.
    pub enode: Option<String>,
    /// The same, signed (`enr:…`).
    pub enr: Option<String>,
    /// Discovery, if there is.
    pub discovery: Option<Discovery>,
    /// Each way to talk to peers: the dial scheduler and the peers of a node.
    pub wires: Vec<Wire>,
    /// Each chain of a seed.
    pub chains: Vec<Chain>,
}

/// What kind of process a [`Status`] is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Discovers, dials and is dialed.
    #[default]
    Node,
    /// Answers discovery and dials nobody: its peers are the live nodes of its table.
    Bootnode,
    /// Tells the nodes of Tendermint chains whom to dial: its peers are those that it reached.
    Seed,
}

/// Discovery over UDP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Discovery {
    /// Where the socket is bound.
    pub listen: Option<SocketAddr>,
    /// The IP of our record: where others look for us.
    pub advertised: Option<IpAddr>,
    /// Nodes to begin with.
    pub bootnodes: usize,
    /// Whether only some networks are dealt with (`--netrestrict`).
    pub netrestrict: bool,
    /// Whether nothing is sent to private addresses (`--public-only`).
    pub public_only: bool,
    /// Nodes in the table.
    pub table: usize,
    /// Those that answered us.
    pub live: usize,
    /// Endpoint proofs remembered.
    pub bonds: usize,
    /// Lookups started.
    pub lookups: u64,
    /// Our requests that were answered.
    pub requests_answered: u64,
    /// Our requests that were not, in time.
    pub requests_timed_out: u64,
    /// Packets and requests of ours withheld, since their address is out of reach: not allowed, or of a family we have no socket for.
    pub sends_withheld: u64,
    /// Requests of others that we answered.
    pub answers_given: u64,
    /// Datagrams read from the socket.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Datagrams handed to the socket.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams that the socket did not take.
    pub send_errors: u64,
    /// Packets taken, by message.
    pub accepted: Counts,
    /// Datagrams refused, by cause: those that are no packets, and packets against a rule.
    pub refused: Counts,
    /// Seconds by which our clock is ahead of most nodes' (negative: behind), if they agree that it is wrong.
    pub clock_ahead_seconds: Option<i64>,
}

/// A way to talk to peers: Tendermint's, or Ethereum's RLPx.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wire {
    /// `tendermint` or `rlpx`.
    pub name: String,
    /// Where peers can dial us, with our id; absent if we do not listen.
    pub address: Option<String>,
    /// Peers that dialed us.
    pub inbound: usize,
    /// How many of them there may be.
    pub max_inbound: usize,
    /// Peers that we dialed.
    pub outbound: usize,
    /// How many of them there may be, the operator's own apart.
    pub max_outbound: usize,
    /// Peers that the operator named: persistent, static, seeds.
    pub configured: usize,
    /// Dials wanted now.
    pub wanted: usize,
    /// Candidates that wait for their turn now.
    pub waiting: usize,
    /// Dials under way.
    pub dialing: usize,
    /// Addresses in the book.
    pub book: usize,
    /// Peers to dial first after a restart ([`anchors`](crate::anchors)), as they were last chosen.
    pub anchors: usize,
    /// Such peers of the last run that were dialed.
    pub anchors_dialed: usize,
    /// Those of them that became peers.
    pub anchors_reached: usize,
    /// What discovery's walk found, before it is known whether it fits.
    pub found: Found,
    /// Candidates told to the dial scheduler, by source.
    pub candidates: Counts,
    /// Candidates that were not dialed and connections that were not taken, by reason ([`WhyNot`](crate::peers::WhyNot)).
    pub refused: Counts,
    /// Dials started.
    pub dials: u64,
    /// Dials that became connections.
    pub dials_connected: u64,
    /// Dials that did not, or that ended within ten seconds, by cause ([`WhyFailed`](crate::peers::WhyFailed)).
    pub dials_failed: Counts,
    /// The latest of them.
    pub last_dial_failure: Option<DialFailure>,
    /// Streams that others opened.
    pub accepted: u64,
    /// Those that became peers.
    pub accepts_connected: u64,
    /// Handshakes that failed, of both directions, by whose fault it was: `malformed`, `misbehaved`, `incompatible`, `failed`.
    pub handshakes_failed: Counts,
    /// Bytes read from streams, as they are on the wire, those of handshakes too.
    pub received_bytes: u64,
    /// Bytes written, likewise.
    pub sent_bytes: u64,
    /// Peers closed for better ones.
    pub evicted: u64,
    /// Peers banned.
    pub banned: u64,
    /// Who is connected: the first [`MAX_PEERS_SHOWN`] by id.
    pub peers: Vec<Peer>,
}

/// Peers named in a [`Status`]. The counts are of all.
pub const MAX_PEERS_SHOWN: usize = 256;

/// What a walk through discovery brings for one wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Nodes found.
    pub nodes: u64,
    /// Those whose signed record could not be had.
    pub without_record: u64,
    /// Those that do not speak this wire: no pair `tm`, no TCP port.
    pub other_wire: u64,
    /// Those that a filter on the record left out: another chain, as a rule.
    pub filtered: u64,
    /// Those told to the dial scheduler.
    pub candidates: u64,
}

/// A dial that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DialFailure {
    /// Whom we dialed.
    pub address: String,
    /// Why there is no connection.
    pub error: String,
}

/// Somebody connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// The identity that the handshake proved.
    pub id: String,
    /// The other end of the stream.
    pub remote: String,
    /// Whether it dialed us.
    pub inbound: bool,
    /// Seconds since the connection was taken up.
    pub seconds: u64,
}

/// One chain of a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Chain {
    /// Its id.
    pub id: String,
    /// Where the seed is dialed for it.
    pub address: String,
    /// Peers to begin with.
    pub seeds: usize,
    /// Addresses in the book.
    pub known: usize,
    /// Those that we reached and pass on.
    pub reachable: usize,
    /// Those that nobody has checked yet.
    pub unchecked: usize,
    /// Those that were not reached the last time, by cause.
    pub unreachable: Counts,
    /// Peers kept away for misbehaviour.
    pub banned: usize,
    /// Guests connected.
    pub guests: usize,
    /// Guests answered.
    pub answered: u64,
    /// Visits put off: their host or network had enough of them.
    pub put_off: u64,
}

impl Status {
    /// How many peers there are: connections of a node, live nodes of a bootnode's table, addresses that a seed reached.
    pub fn peers(&self) -> usize {
        match self.role {
            Role::Node => sum(self.wires.iter().map(Wire::connected)),
            Role::Bootnode => self.discovery.as_ref().map_or(0, |discovery| discovery.live),
            Role::Seed => sum(self.chains.iter().map(|chain| chain.reachable)),
        }
    }
}

impl Wire {
    /// Peers of both directions.
    pub fn connected(&self) -> usize {
        self.inbound.saturating_add(self.outbound)
    }
}

/// The sum of figures that may have come over the network.
fn sum(figures: impl IntoIterator<Item = usize>) -> usize {
    figures.into_iter().fold(0, usize::saturating_add)
}

/// The sum of all counts.
pub(crate) fn total(counts: &Counts) -> u64 {
    counts.values().fold(0, |sum, count| sum.saturating_add(*count))
}

/// The count of one name.
pub(crate) fn of(counts: &Counts, name: &str) -> u64 {
    counts.get(name).copied().unwrap_or(0)
}
