//! Where a [`Status`] comes from: handles of what runs, asked when somebody wants to know. Nothing is kept and nothing is counted here.

use std::future::Future;

use kadwire_discovery::{
    Discovery, DiscoveryStats,
    discv4::{Rejected, message::Kind},
};
use kadwire_wire::{
    address::{PeerAddress, PeerId},
    transport::Direction,
};
use tokio::{sync::watch, time::Instant};

use super::{Chain, Counts, DialFailure, Found, MAX_PEERS_SHOWN, Peer, Role, Status, Wire};
use crate::{
    node::{Node, WalkStats},
    router::{self, Handle},
    seed,
};

/// Something whose status can be asked for. Cheap to clone.
pub trait Source: Clone + Send + Sync + 'static {
    /// How it stands now.
    fn status(&self) -> impl Future<Output = Status> + Send;
}

/// A [`Node`], which may be stopped all the same: then its status is empty.
#[derive(Clone, Debug)]
pub struct NodeSource {
    since: Instant,
    discovery: Option<Discovery>,
    walked: watch::Receiver<WalkStats>,
    wires: Vec<WireSource>,
}

#[derive(Clone, Debug)]
struct WireSource {
    id: PeerId,
    /// Where it can be dialed, if it takes connections.
    address: Option<PeerAddress>,
    router: Handle,
}

impl NodeSource {
    /// Looks at `node`, which has just been started.
    pub fn new(node: &Node) -> Self {
        let wire = |id: PeerId, address: Option<&PeerAddress>, router: &Handle| WireSource {
            id,
            address: address.cloned(),
            router: router.clone(),
        };
        let tendermint = node.tendermint().map(|side| wire(side.id(), side.local_address(), side.router()));
        let ethereum = node.ethereum().map(|side| wire(side.id(), side.local_address(), side.router()));
        NodeSource {
            since: Instant::now(),
            discovery: node.discovery().cloned(),
            walked: node.walked(),
            wires: tendermint.into_iter().chain(ethereum).collect(),
        }
    }
}

impl Source for NodeSource {
    async fn status(&self) -> Status {
        let mut status = begin(Role::Node, self.since, self.discovery.as_ref()).await;
        for wire in &self.wires {
            let walked = *self.walked.borrow();
            status.wires.extend(wire.status(walked).await);
        }
        status
    }
}

/// A bootnode: discovery alone.
#[derive(Clone, Debug)]
pub struct BootnodeSource {
    since: Instant,
    discovery: Discovery,
}

impl BootnodeSource {
    /// Looks at `discovery`, which has just been started.
    pub fn new(discovery: &Discovery) -> Self {
        BootnodeSource { since: Instant::now(), discovery: discovery.clone() }
    }
}

impl Source for BootnodeSource {
    async fn status(&self) -> Status {
        begin(Role::Bootnode, self.since, Some(&self.discovery)).await
    }
}

/// A seed with its chains.
#[derive(Clone, Debug)]
pub struct SeedSource {
    since: Instant,
    chains: Vec<ChainSource>,
}

#[derive(Clone, Debug)]
struct ChainSource {
    id: String,
    address: PeerAddress,
    seeds: usize,
    handle: seed::Handle,
}

impl SeedSource {
    /// A seed without chains yet.
    pub fn new() -> Self {
        SeedSource { since: Instant::now(), chains: Vec::new() }
    }

    /// One of its chains: the id, where it is dialed, how many peers it begins with.
    pub fn add(&mut self, id: impl Into<String>, address: PeerAddress, seeds: usize, handle: seed::Handle) {
        self.chains.push(ChainSource { id: id.into(), address, seeds, handle });
    }
}

impl Default for SeedSource {
    fn default() -> Self {
        SeedSource::new()
    }
}

impl Source for SeedSource {
    async fn status(&self) -> Status {
        let mut status = begin(Role::Seed, self.since, None).await;
        for ChainSource { id, address, seeds, handle } in &self.chains {
            let Some(now) = handle.status().await else { continue };
            let seed::Status { known, reachable, unchecked, unreachable, banned, guests, answered, put_off, .. } = now;
            let unreachable = unreachable.into_iter().map(|(cause, count)| (cause.to_owned(), count as u64)).collect();
            let (id, address, seeds) = (id.clone(), address.to_string(), *seeds);
            status.chains.push(Chain {
                id,
                address,
                seeds,
                known,
                reachable,
                unchecked,
                unreachable,
                banned,
                guests,
                answered,
                put_off,
            });
        }
        status
    }
}

/// What every role has.
async fn begin(role: Role, since: Instant, discovery: Option<&Discovery>) -> Status {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let mut status = Status { role, version, uptime_seconds: since.elapsed().as_secs(), ..Status::default() };
    if let Some(discovery) = discovery {
        let record = discovery.local_record();
        status.enode = Some(record.to_string());
        status.enr = record.enr().map(ToString::to_string);
        if let Ok(stats) = discovery.stats().await {
            let advertised = Some(record.ip());
            let listen = Some(discovery.local_address());
            status.discovery = Some(super::Discovery { listen, advertised, ..stats.into() });
        }
    }
    status
}

impl From<DiscoveryStats> for super::Discovery {
    fn from(stats: DiscoveryStats) -> Self {
        let (udp, discv4, malformed) = (stats.udp, stats.discv4, stats.udp.malformed);
        let malformed = [
            ("too_small", malformed.too_small),
            ("too_big", malformed.too_big),
            ("bad_hash", malformed.bad_hash),
            ("unknown_kind", malformed.unknown_kind),
            ("bad_body", malformed.bad_body),
            ("bad_signature", malformed.bad_signature),
            ("bad_record", malformed.bad_record),
            ("busy", udp.dropped_strangers.saturating_add(udp.dropped_known)),
        ];
        let rejected = Rejected::ALL.iter().map(|why| (why.name(), discv4.rejected.get(*why)));
        let refused = named(malformed.into_iter().chain(rejected));
        let accepted = named(Kind::ALL.iter().map(|kind| (message(*kind), discv4.received.get(*kind))));
        let answers = [Kind::Pong, Kind::Neighbors, Kind::EnrResponse];
        super::Discovery {
            listen: None,
            advertised: None,
            bootnodes: stats.bootnodes,
            netrestrict: stats.netrestrict,
            public_only: stats.public_only,
            table: stats.table_nodes,
            live: stats.table_live,
            bonds: stats.bonds,
            lookups: discv4.lookups,
            requests_answered: discv4.requests_answered,
            requests_timed_out: discv4.requests_timed_out,
            sends_withheld: discv4.sends_withheld,
            answers_given: answers.iter().map(|kind| discv4.sent.get(*kind)).sum(),
            received: udp.received,
            received_bytes: udp.received_bytes,
            sent: udp.sent,
            sent_bytes: udp.sent_bytes,
            send_errors: udp.send_errors,
            accepted,
            refused,
            clock_ahead_seconds: stats.clock_ahead,
        }
    }
}

/// A message's name among the metrics.
fn message(kind: Kind) -> &'static str {
    match kind {
        Kind::Ping => "ping",
        Kind::Pong => "pong",
        Kind::FindNode => "find_node",
        Kind::Neighbors => "neighbors",
        Kind::EnrRequest => "enr_request",
        Kind::EnrResponse => "enr_response",
    }
}

impl WireSource {
    /// `None` when its router has stopped.
    async fn status(&self, walked: WalkStats) -> Option<Wire> {
        let stats = self.router.stats().await?;
        let peers = self.router.peers();
        let peers = peers.iter().take(MAX_PEERS_SHOWN).map(|peer| shown(peer)).collect();
        let name = match self.id {
            PeerId::Ethereum(_) => "rlpx",
            _ => "tendermint",
        };
        let found = found(self.id, walked);
        let (name, address) = (name.to_owned(), self.address.as_ref().map(ToString::to_string));
        Some(Wire { name, address, peers, found, ..stats.into() })
    }
}

/// What the walk brought for the wire on which we are `own`.
pub(super) fn found(own: PeerId, walked: WalkStats) -> Found {
    let (without_record, other_wire, filtered, candidates) = match own {
        PeerId::Ethereum(_) => (walked.filtered_unseen, walked.not_ethereum, walked.filtered, walked.ethereum),
        _ => (walked.unanswered, walked.not_tendermint, 0, walked.tendermint),
    };
    Found { nodes: walked.found, without_record, other_wire, filtered, candidates }
}

fn shown(peer: &router::Peer) -> Peer {
    Peer {
        id: peer.id.to_string(),
        remote: peer.remote.to_string(),
        inbound: peer.direction == Direction::Inbound,
        seconds: peer.since.elapsed().as_secs(),
    }
}

impl From<router::Stats> for Wire {
    fn from(stats: router::Stats) -> Self {
        let (peers, dials, transport) = (stats.peers, stats.dials, stats.transport);
        let failure = |failure: router::DialFailure| DialFailure {
            address: failure.address.to_string(),
            error: failure.error.to_string(),
        };
        Wire {
            inbound: dials.inbound,
            max_inbound: dials.inbound_most,
            outbound: dials.outbound,
            max_outbound: dials.outbound_most,
            configured: dials.operators + dials.seeds,
            wanted: dials.wanted,
            waiting: dials.candidates_waiting,
            dialing: dials.under_way,
            book: peers.book,
            anchors: dials.anchors,
            anchors_dialed: dials.anchors_dialed,
            anchors_reached: dials.anchors_reached,
            candidates: named(dials.candidates.iter().map(|(source, count)| (source.name(), count))),
            refused: named(dials.refused.iter().map(|(why, count)| (why.name(), count))),
            dials: dials.tried,
            dials_connected: dials.succeeded,
            dials_failed: named(dials.failed.iter().map(|(why, count)| (why.name(), count))),
            last_dial_failure: stats.last_dial_failure.map(failure),
            accepted: transport.accepted,
            accepts_connected: dials.accepted,
            handshakes_failed: named([
                ("malformed", transport.handshakes_malformed),
                ("misbehaved", transport.handshakes_misbehaved),
                ("incompatible", transport.handshakes_incompatible),
                ("failed", transport.handshakes_failed),
            ]),
            received_bytes: transport.bytes_received,
            sent_bytes: transport.bytes_sent,
            evicted: peers.evicted,
            banned: peers.banned,
            ..Wire::default()
        }
    }
}

/// Those that are not 0.
fn named<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> Counts {
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    counts.map(|(name, count)| (name.to_owned(), count)).collect()
}
