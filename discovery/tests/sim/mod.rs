//! A virtual network of discv4 machines: seeded links, a clock that jumps, no sockets, no signatures.
//!
//! Packets pass between the machines as authenticated values with made-up hashes, so that all the time goes into what
//! is tested. Everything follows from one seed, which is printed; `SIM_SEED=…` replays. [`Network::step`] delivers what
//! is due, or else jumps to the next moment at which anything happens (as quinn-proto's `Pair::step`).

#![allow(dead_code, unreachable_pub, missing_docs, reason = "shared by several test binaries, each using a part")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, SystemTime};

use kadwire_discovery::discv4::message::Kind;
use kadwire_discovery::discv4::packet::Packet;
use kadwire_discovery::discv4::{Config, Discv4, Event, LookupId};
use kadwire_discovery::{NodeId, NodeRecord, Now, PublicKey, SecretKey};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// The seed of this run: `SIM_SEED`, or `default`. Printed, so that a failure can be replayed.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    println!("SIM_SEED={seed}");
    seed
}

/// What every link does to packets.
#[derive(Clone, Debug)]
pub struct Links {
    /// One-way delay; each pair of nodes has its own, drawn from this range.
    pub delay: Range<Duration>,
    /// Most that is added to the delay. Changes every 10 ms, so that packets sent together mostly arrive in order.
    pub jitter: Duration,
    /// Share of packets delayed by up to 30 ms more, so that others overtake them.
    pub reordered: f64,
    /// Share of packets lost.
    pub loss: f64,
}

impl Default for Links {
    fn default() -> Links {
        Links {
            delay: Duration::from_millis(5)..Duration::from_millis(120),
            jitter: Duration::from_millis(3),
            reordered: 0.01,
            loss: 0.0,
        }
    }
}

impl Links {
    pub fn lossy(loss: f64) -> Links {
        Links { loss, ..Links::default() }
    }
}

/// Index of a node in its network.
pub type Index = usize;

pub struct SimNode {
    pub key: PublicKey,
    pub id: NodeId,
    pub address: SocketAddr,
    /// `None` while it is off.
    pub machine: Option<Discv4>,
    /// Results of lookups, as they ended.
    pub lookups: BTreeMap<LookupId, Vec<NodeRecord>>,
    wake: Option<Duration>,
}

impl SimNode {
    pub fn record(&self) -> NodeRecord {
        NodeRecord::new(self.key, self.address.ip(), self.address.port(), 30303).unwrap()
    }

    pub fn machine(&mut self) -> &mut Discv4 {
        self.machine.as_mut().expect("node is on")
    }
}

struct Delivery {
    at: Duration,
    order: u64,
    from: SocketAddr,
    to: Index,
    packet: Packet,
}

impl PartialEq for Delivery {
    fn eq(&self, other: &Delivery) -> bool {
        self.order == other.order
    }
}
impl Eq for Delivery {}
impl PartialOrd for Delivery {
    fn partial_cmp(&self, other: &Delivery) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Delivery {
    fn cmp(&self, other: &Delivery) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A packet sent, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Logged {
    pub at: Duration,
    pub from: Index,
    pub to: Index,
    pub kind: Kind,
    pub is_lost: bool,
}

/// Totals of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub sent: u64,
    pub lost: u64,
    pub delivered: u64,
    pub refused: u64,
}

pub struct Network {
    pub links: Links,
    pub nodes: Vec<SimNode>,
    pub rng: StdRng,
    pub traffic: Traffic,
    /// If set, every packet sent is noted here.
    pub log: Option<Vec<Logged>>,
    start: Now,
    /// Time since the start.
    elapsed: Duration,
    by_address: HashMap<SocketAddr, Index>,
    in_flight: BinaryHeap<Reverse<Delivery>>,
    /// Moments at which machines want to be woken; those that do not match `SimNode::wake` any more are skipped.
    alarms: BinaryHeap<Reverse<(Duration, Index)>>,
    packets: u64,
    pair_seed: u64,
    trace: u64,
}

impl Network {
    pub fn new(seed: u64, links: Links) -> Network {
        let mut rng = StdRng::seed_from_u64(seed);
        // The monotonic clock has no fixed origin, but only differences of it matter; the wall clock is fixed.
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let start = Now { wall, ..Now::read() };
        Network {
            links,
            nodes: Vec::new(),
            pair_seed: rng.next_u64(),
            rng,
            traffic: Traffic::default(),
            log: None,
            start,
            elapsed: Duration::ZERO,
            by_address: HashMap::new(),
            in_flight: BinaryHeap::new(),
            alarms: BinaryHeap::new(),
            packets: 0,
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Adds a node that is off, with a key and an address (in a /24 of its own) of its own.
    pub fn add(&mut self) -> Index {
        let index = self.nodes.len();
        let ip = Ipv4Addr::from(0x1800_0001 + ((index as u32) << 8));
        self.add_at(SocketAddr::new(IpAddr::V4(ip), 30303))
    }

    pub fn add_at(&mut self, address: SocketAddr) -> Index {
        let index = self.nodes.len();
        let key = *SecretKey::random(&mut self.rng).public();
        let node = SimNode { id: key.node_id(), key, address, machine: None, lookups: BTreeMap::new(), wake: None };
        self.nodes.push(node);
        self.by_address.insert(address, index);
        index
    }

    /// Switches a node on, with a fresh machine.
    pub fn switch_on(&mut self, index: Index, config: impl FnOnce(&mut Config)) {
        let node = &mut self.nodes[index];
        let mut settings = Config::new(node.key, node.address.port());
        settings.endpoint.explicit_ips = vec![node.address.ip()];
        settings.endpoint.tcp = 30303;
        config(&mut settings);
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        node.machine = Some(Discv4::new(self.start.after(self.elapsed), settings, seed));
        self.drain(index);
    }

    /// Switches a node off: it forgets everything, and what is on its way to it is lost.
    pub fn switch_off(&mut self, index: Index) {
        self.nodes[index].machine = None;
        self.nodes[index].wake = None;
    }

    pub fn now(&self) -> Now {
        self.start.after(self.elapsed)
    }

    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Hash of everything delivered so far, in order.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// Does something with a machine, then sends what it wants sent.
    pub fn with<T>(&mut self, index: Index, action: impl FnOnce(&mut Discv4, Now) -> T) -> T {
        let now = self.now();
        let result = action(self.nodes[index].machine(), now);
        self.drain(index);
        result
    }

    /// Delivers the next packet or wakes the next machine, whichever is due first and not after `until`; `false` if
    /// nothing is, and then it is `until`.
    pub fn step(&mut self, until: Duration) -> bool {
        while let Some(Reverse((at, index))) = self.alarms.peek()
            && self.nodes[*index].wake != Some(*at)
        {
            self.alarms.pop();
        }
        let delivery = self.in_flight.peek().map(|Reverse(delivery)| delivery.at);
        let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
        match [delivery, alarm].into_iter().flatten().min() {
            Some(at) if at <= until => self.elapsed = self.elapsed.max(at),
            _ => {
                self.elapsed = self.elapsed.max(until);
                return false;
            }
        }
        if delivery.is_some_and(|delivery| alarm.is_none_or(|alarm| delivery <= alarm)) {
            let Some(Reverse(delivery)) = self.in_flight.pop() else { return false };
            self.deliver(delivery);
        } else if let Some(Reverse((_, index))) = self.alarms.pop() {
            self.nodes[index].wake = None;
            self.with(index, |machine, now| machine.handle_timeout(now));
        }
        true
    }

    pub fn run_for(&mut self, span: Duration) {
        let until = self.elapsed + span;
        while self.step(until) {}
    }

    /// Runs until `done` or `span` is over; says which.
    pub fn run_until(&mut self, span: Duration, mut done: impl FnMut(&Network) -> bool) -> bool {
        let until = self.elapsed + span;
        while !done(self) {
            if !self.step(until) {
                return done(self);
            }
        }
        true
    }

    fn deliver(&mut self, delivery: Delivery) {
        let Delivery { from, to, packet, .. } = delivery;
        self.note(&packet, to);
        let now = self.now();
        let Some(machine) = &mut self.nodes[to].machine else { return };
        let accepted =
            machine.admit(now, from, &packet.header()).and_then(|()| machine.handle_packet(now, from, packet));
        match accepted {
            Ok(()) => self.traffic.delivered += 1,
            Err(_) => self.traffic.refused += 1,
        }
        self.drain(to);
    }

    /// Takes everything out of a machine: packets onto the links, results to the node, its next alarm.
    fn drain(&mut self, index: Index) {
        while let Some(machine) = &mut self.nodes[index].machine
            && let Some(transmit) = machine.poll_transmit()
        {
            self.packets += 1;
            let mut hash = [0; 32];
            for (n, chunk) in hash.chunks_exact_mut(8).enumerate() {
                chunk.copy_from_slice(&mix(self.packets, n as u64 + 1).to_be_bytes());
            }
            if let Some(request) = transmit.request {
                machine.handle_sealed(request, hash);
            }
            let packet = Packet { from: self.nodes[index].key, hash, message: transmit.message };
            self.send(index, transmit.to, packet);
        }
        let node = &mut self.nodes[index];
        let Some(machine) = &mut node.machine else { return };
        while let Some(event) = machine.poll_event() {
            if let Event::LookupDone { lookup, closest } = event {
                node.lookups.insert(lookup, closest);
            }
        }
        let wake =
            machine.poll_timeout().map(|at| at.saturating_duration_since(self.start.monotonic).max(self.elapsed));
        if wake != node.wake {
            node.wake = wake;
            self.alarms.extend(wake.map(|at| Reverse((at, index))));
        }
    }

    fn send(&mut self, from: Index, to: SocketAddr, packet: Packet) {
        self.traffic.sent += 1;
        let Some(&to) = self.by_address.get(&to) else { return };
        let is_lost = self.links.loss > 0.0 && self.rng.random_bool(self.links.loss);
        if let Some(log) = &mut self.log {
            log.push(Logged { at: self.elapsed, from, to, kind: packet.message.kind(), is_lost });
        }
        if is_lost {
            self.traffic.lost += 1;
            return;
        }
        let Range { start, end } = self.links.delay;
        let pair = ((from.min(to) as u64) << 32) | from.max(to) as u64;
        let spread = (end - start).as_nanos() as u64;
        let own = Duration::from_nanos(mix(pair, self.pair_seed) % spread.max(1));
        let weather = mix(pair ^ (self.elapsed.as_millis() as u64 / 10), !self.pair_seed);
        let mut late = Duration::from_nanos(weather % (self.links.jitter.as_nanos() as u64 + 1));
        if self.rng.random_bool(self.links.reordered) {
            late += Duration::from_millis(self.rng.random_range(0..30));
        }
        let at = self.elapsed + start + own + late;
        let from = self.nodes[from].address;
        self.in_flight.push(Reverse(Delivery { at, order: self.packets, from, to, packet }));
    }

    fn note(&mut self, packet: &Packet, to: Index) {
        for value in [self.elapsed.as_nanos() as u64, to as u64, packet.message.kind() as u64] {
            self.trace = (self.trace ^ value).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.trace = mix(self.trace, u64::from_be_bytes(*packet.hash.first_chunk().unwrap()));
    }

    // --- Global knowledge ---

    /// Nodes that are on.
    pub fn on(&self) -> Vec<Index> {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].machine.is_some()).collect()
    }

    /// The `count` nodes closest to `target` among those that are on, without `asker`.
    pub fn closest(&self, target: &NodeId, count: usize, asker: Index) -> Vec<NodeId> {
        let others = self.on().into_iter().filter(|index| *index != asker).map(|index| self.nodes[index].id);
        let mut ids: Vec<_> = others.map(|id| (target.distance(&id), id)).collect();
        if ids.len() > count {
            ids.select_nth_unstable(count);
            ids.truncate(count);
        }
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// A lookup from one node, run to its end: what it found, and how long it took.
    pub fn lookup(&mut self, asker: Index, target: [u8; 64]) -> (Vec<NodeId>, Duration) {
        let begun = self.elapsed;
        let lookup = self.with(asker, |machine, now| machine.lookup(now, target)).expect("not busy");
        let is_done = |network: &Network| network.nodes[asker].lookups.contains_key(&lookup);
        assert!(self.run_until(Duration::from_secs(60), is_done), "lookup did not end");
        let found = self.nodes[asker].lookups.remove(&lookup).unwrap_or_default();
        (found.iter().map(NodeRecord::id).collect(), self.elapsed - begun)
    }

    pub fn random_target(&mut self) -> [u8; 64] {
        let mut target = [0; 64];
        self.rng.fill_bytes(&mut target);
        target
    }

    /// A network of `count` nodes that join through node 0 within `joining`, one after the other.
    pub fn joined(seed: u64, links: Links, count: usize, joining: Duration) -> Network {
        let mut network = Network::new(seed, links);
        (0..count).for_each(|_| _ = network.add());
        let bootnode = network.nodes[0].record();
        network.switch_on(0, |_| {});
        for index in 1..count {
            network.run_for(joining / count as u32);
            network.switch_on(index, |config| config.bootnodes = vec![bootnode.clone()]);
        }
        network
    }
}

/// A good mixer of two words (splitmix64).
fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_add(b.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The outcome of many lookups.
#[derive(Debug, Default)]
pub struct LookupReport {
    /// Lookups that found exactly the true closest nodes.
    pub exact: usize,
    pub lookups: usize,
    /// True closest nodes found, and how many there were to find.
    pub found: usize,
    pub wanted: usize,
    pub times: Vec<Duration>,
}

impl LookupReport {
    pub fn median_time(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }
}

impl Network {
    /// `count` lookups of random targets from random nodes, one after the other.
    pub fn measure_lookups(&mut self, count: usize) -> LookupReport {
        let mut report = LookupReport::default();
        for _ in 0..count {
            let on = self.on();
            let asker = on[self.rng.random_range(0..on.len())];
            let target = self.random_target();
            let (found, time) = self.lookup(asker, target);
            let truth = self.closest(&NodeId::of_target(&target), 16, asker);
            report.lookups += 1;
            report.exact += usize::from(found == truth);
            report.found += truth.iter().filter(|id| found.contains(id)).count();
            report.wanted += truth.len();
            report.times.push(time);
        }
        report
    }
}
