//! Node Discovery v4 as a state machine, and the codec of its packets.
//!
//! [`Discv4`] has no socket, no clock and no keys: the driver checks and makes signatures ([`packet`]) and tells the
//! time. The contract of driving it:
//!
//! 1. For each datagram: [`packet::Unverified::parse`], [`Discv4::admit`] (cheap checks), then
//!    [`packet::Unverified::recover`] (dear), then [`Discv4::handle_packet`].
//! 2. After that, after each command, and when [`Discv4::poll_timeout`] is due ([`Discv4::handle_timeout`]): drain
//!    [`Discv4::poll_transmit`] and [`Discv4::poll_event`].
//! 3. A [`Transmit`] that has a `request` must be reported to [`Discv4::handle_sealed`] before it is sent: its answer
//!    names the hash. Datagrams to one address have to leave in the order given: a pong that proves our endpoint must
//!    not be overtaken by the question that needs the proof.

mod ask;
mod body;
mod bonds;
mod candidates;
mod clock;
mod echoes;
mod external_ip;
mod local;
pub mod message;
pub mod packet;
#[cfg(test)]
mod packet_tests;
mod rate;
mod reach;
mod receive;
mod rejected;
mod replay;
mod requests;
mod round_trip;
mod search;
pub mod stats;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use self::ask::{Answer, RequestError};
pub use self::candidates::{Candidates, NotCandidate};
pub use self::local::{ExternalEndpoint, LocalContent, OwnEndpoint};
pub use self::rate::{Limits, Rate};
pub use self::reach::{Families, OutOfReach, Reach};
pub use self::rejected::Rejected;

use self::bonds::Bonds;
use self::clock::Drift;
use self::echoes::Echoes;
use self::external_ip::ExternalIp;
use self::local::Local;
use self::message::Message;
use self::rate::RateLimits;
use self::replay::ReplayFilter;
use self::requests::Requests;
use self::round_trip::RoundTrip;
use self::search::{Resolving, Search};
use self::stats::Stats;
use crate::table::{Seed, Table, TableConfig};
use crate::{Enr, NodeId, NodeRecord, Now, PublicKey, TendermintEntry, Watched};

/// How long an answer is waited for (go-ethereum `respTimeout`).
const TIMEOUT: Duration = Duration::from_millis(500);

/// How far ahead our packets' expirations are (go-ethereum `expiration`).
const EXPIRATION: Duration = Duration::from_secs(20);

/// How far ahead an expiration may be. Without a bound a captured packet could be replayed for ever; go-ethereum has
/// none, and reads values beyond 2^63 as past.
const MAX_EXPIRATION: Duration = Duration::from_secs(60 * 60);

/// Requests under way by default: a crawler's thousands fit, and a flood of pings cannot make more.
const MAX_REQUESTS: usize = 8192;

/// Answers waiting to be taken by the driver. Beyond that they are dropped: the asker will ask again.
const MAX_QUEUED_REPLIES: usize = 8192;

/// Lookups at a time that the owner of the machine may start.
const MAX_LOOKUPS: usize = 64;

/// What the machine is made from.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our public key: who we are.
    pub key: PublicKey,
    /// Sizes and times of the table.
    pub table: TableConfig,
    /// Nodes every refresh starts from.
    pub bootnodes: Vec<NodeRecord>,
    /// Nodes of an earlier run, with their last pongs.
    pub seeds: Vec<Seed>,
    /// Whom we talk to and hear.
    pub reach: Reach,
    /// Our own endpoint as far as it is known.
    pub endpoint: OwnEndpoint,
    /// The `tm` pair of our record.
    pub tendermint: Option<TendermintEntry>,
    /// How much strangers may ask of us.
    pub limits: Limits,
    /// Requests under way at a time; 8,192.
    pub max_requests: usize,
}

impl Config {
    /// The defaults for a node with this key that listens on this UDP port.
    pub fn new(key: PublicKey, udp: u16) -> Config {
        Config {
            key,
            table: TableConfig::default(),
            bootnodes: Vec::new(),
            seeds: Vec::new(),
            reach: Reach::default(),
            endpoint: OwnEndpoint { udp, ..OwnEndpoint::default() },
            tendermint: None,
            limits: Limits::default(),
            max_requests: MAX_REQUESTS,
        }
    }
}

/// Names one request until its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// Names one lookup until its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(u64);

/// A message to sign and send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub message: Message,
    /// For a request: what to tell [`Discv4::handle_sealed`].
    pub request: Option<RequestId>,
}

/// Something to tell the owner of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node has come into the table.
    NodeAdded(NodeRecord),
    /// A node has gone from the table.
    NodeRemoved(NodeRecord),
    /// A request has its answer, or will not get one.
    RequestDone {
        /// As returned when it was made.
        request: RequestId,
        /// What came of it.
        outcome: Result<Answer, RequestError>,
    },
    /// A lookup has ended.
    LookupDone {
        /// As returned when it was started.
        lookup: LookupId,
        /// The closest nodes that answered, closest first; at most the bucket size. Empty if nobody is known.
        closest: Vec<NodeRecord>,
    },
    /// Remember of this node how many FindNode requests in a row have brought nothing now; that it lives is not said.
    FindFailures {
        /// Who.
        id: NodeId,
        /// Where it was asked.
        ip: IpAddr,
        /// How many; 0 if the last one brought nodes.
        failures: u32,
    },
    /// Remember this node, and that it is alive.
    Store {
        /// The node, as it is in the table.
        record: NodeRecord,
        /// Liveness checks it has passed.
        checks: u32,
        /// FindNode requests in a row that brought nothing.
        find_failures: u32,
        /// Whether all that speaks for it is that it contacted us.
        inbound: bool,
    },
    /// Our own record has to say this from now on: sign it, then [`Discv4::set_local_record`]. The first event of
    /// every machine.
    LocalRecordChanged(LocalContent),
    /// Most of those who answer us, or have proven their endpoint, agree that our wall clock is wrong. Packets are refused
    /// for it: theirs by us, or ours by them. Told once, and again after ten minutes at the earliest.
    ClockOff {
        /// Seconds by which ours is ahead; negative if it is behind. Right within a minute.
        ahead: i64,
    },
}

/// The machine; see the module for how to drive it.
#[derive(Debug)]
pub struct Discv4 {
    key: PublicKey,
    id: NodeId,
    rng: StdRng,
    reach: Reach,
    max_requests: usize,
    table: Table,
    bonds: Bonds,
    rates: RateLimits,
    replays: ReplayFilter,
    requests: Requests,
    echoes: Echoes,
    round_trip: RoundTrip,
    watched: Watched,
    drift: Drift,
    searches: BTreeMap<LookupId, Search>,
    next_lookup: u64,
    resolving: BTreeMap<RequestId, Resolving>,
    candidates: Candidates,
    /// Searches whose next step can be taken.
    ready: VecDeque<LookupId>,
    external: ExternalIp,
    local: Local,
    content: LocalContent,
    record: Option<Enr>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    stats: Stats,
}

impl Discv4 {
    /// A machine that knows its bootnodes and seeds and starts its first refresh at the first
    /// [`Discv4::handle_timeout`]. Everything random in it follows from `seed`.
    pub fn new(now: Now, config: Config, seed: [u8; 32]) -> Discv4 {
        let mut rng = StdRng::from_seed(seed);
        let id = config.key.node_id();
        let reach = config.reach;
        let bootnodes = config.bootnodes.iter().filter_map(|node| reach.place(node)).collect();
        let placed = config.seeds.iter();
        let seeds: Vec<Seed> =
            placed.filter_map(|seed| Some(Seed { record: reach.place(&seed.record)?, ..*seed })).collect();
        let mut bonds = Bonds::default();
        // What has answered is the endpoint that was stored, whichever of the node's we are to deal with now.
        for Seed { record, last_pong, find_failures, .. } in &config.seeds {
            let age = now.wall.duration_since(*last_pong).unwrap_or_default();
            bonds.restore(now.monotonic, record.id(), record.endpoint(), age, *find_failures);
        }
        let limits = config.table.subnet_limits;
        let mut table = Table::new(now.monotonic, id, config.table, bootnodes, &mut rng);
        table.remember(now.wall, seeds);
        let local = Local::new(config.endpoint, config.tendermint);
        let content = local.content();
        Discv4 {
            key: config.key,
            id,
            rng,
            reach,
            max_requests: config.max_requests,
            table,
            bonds,
            rates: RateLimits::new(now.monotonic, config.limits),
            replays: ReplayFilter::new(),
            requests: Requests::default(),
            echoes: Echoes::default(),
            round_trip: RoundTrip::default(),
            watched: Watched::new(now),
            drift: Drift::default(),
            searches: BTreeMap::new(),
            next_lookup: 0,
            resolving: BTreeMap::new(),
            candidates: Candidates::new(limits),
            ready: VecDeque::new(),
            external: ExternalIp::default(),
            events: VecDeque::from([Event::LocalRecordChanged(content.clone())]),
            local,
            content,
            record: None,
            transmits: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.watched.has_jumped(now, self.poll_timeout()) {
            self.requests.excuse(now.monotonic, TIMEOUT);
        }
        while let Some(request) = self.requests.overdue(now.monotonic) {
            self.deadline_passed(now, request);
        }
        self.table.handle_timeout(now.monotonic);
        self.settle(now);
    }

    /// A request was sealed in a datagram with this hash. Before it is sent, so that no answer comes too early.
    pub fn handle_sealed(&mut self, request: RequestId, hash: [u8; 32]) {
        if let Some(request) = self.requests.get_mut(request) {
            request.hashes.push(hash);
        }
    }

    /// Our own record, signed by the driver: what ENR requests are answered with from now on.
    pub fn set_local_record(&mut self, record: Enr) {
        self.record = Some(record);
    }

    /// Changes the `tm` pair of our record.
    pub fn set_tendermint(&mut self, entry: Option<TendermintEntry>) {
        self.local.tendermint = entry;
        self.local_changed();
    }

    /// What gateways and STUN servers say of where we are, all of it: at most one endpoint of each family counts.
    pub fn set_external(&mut self, endpoints: &[ExternalEndpoint]) {
        self.local.set_external(endpoints);
        self.local_changed();
    }

    /// The next message to sign and send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let transmit = self.transmits.pop_front()?;
        self.stats.sent.add(transmit.message.kind());
        Some(transmit)
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Discv4::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.table.poll_timeout(), self.requests.next_deadline()].into_iter().flatten().min()
    }

    /// Who we are.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The nodes we know.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// At most `count` random nodes of the table, from all distances alike.
    pub fn random_nodes(&mut self, count: usize) -> Vec<NodeRecord> {
        self.table.random_nodes(count)
    }

    /// Our own record, once the driver has signed it.
    pub fn local_record(&self) -> Option<&Enr> {
        self.record.as_ref()
    }

    /// What our own record has to say.
    pub fn local_content(&self) -> &LocalContent {
        &self.content
    }

    /// Whom we deal with.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Plain counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Seconds by which our wall clock is ahead of most others' (negative: behind), if they agree that it is wrong.
    pub fn clock_ahead(&self) -> Option<i64> {
        self.drift.ahead()
    }

    /// Requests under way.
    pub fn requests_under_way(&self) -> usize {
        self.requests.len()
    }

    /// (id, address) pairs remembered for their endpoint proofs.
    pub fn bonds(&self) -> usize {
        self.bonds.len()
    }

    /// 64 random bytes: a lookup target that hits no place on purpose.
    pub fn random_target(&mut self) -> [u8; 64] {
        let mut target = [0; 64];
        self.rng.fill_bytes(&mut target);
        target
    }

    fn allows(&self, ip: IpAddr) -> bool {
        self.reach.allows(ip)
    }

    /// The one way out: nothing leaves for an address that is out of reach.
    fn transmit(&mut self, transmit: Transmit) {
        if self.allows(transmit.to.ip()) {
            self.transmits.push_back(transmit);
        } else {
            self.stats.sends_withheld = self.stats.sends_withheld.saturating_add(1);
        }
    }

    /// Somebody worth believing has written this expiration.
    fn hear_clock(&mut self, now: Now, from: IpAddr, expiration: u64) {
        if let Some(ahead) = self.drift.vote(now, from, expiration) {
            self.events.push_back(Event::ClockOff { ahead });
        }
    }

    fn expiration(now: Now) -> u64 {
        now.unix_seconds().saturating_add(EXPIRATION.as_secs())
    }

    fn our_seq(&self) -> Option<u64> {
        self.record.as_ref().map(Enr::seq)
    }

    fn local_changed(&mut self) {
        let content = self.local.content();
        if content != self.content {
            self.content = content.clone();
            self.events.push_back(Event::LocalRecordChanged(content));
        }
    }
}
