//! A virtual network of discv4 machines: seeded links, a clock that jumps, no sockets, no signatures.
//!
//! Packets pass between the machines as authenticated values with made-up hashes, so that all the time goes into what
//! is tested. Everything follows from one seed, which is printed; `SIM_SEED=…` replays. [`Network::step`] delivers what
//! is due, or else jumps to the next moment at which anything happens (as quinn-proto's `Pair::step`).

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    reason = "shared by several test binaries, each using a part"
)]

pub mod adversary;
mod churn;
mod links;
mod report;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

pub use churn::Churn;
pub use links::Links;
pub use report::LookupReport;

use kadwire_discovery::discv4::message::{Kind, Message};
use kadwire_discovery::discv4::packet::Packet;
use kadwire_discovery::discv4::{Config, Discv4, Event, LookupId};
use kadwire_discovery::table::{Seed, TableConfig};
use kadwire_discovery::{NodeId, NodeRecord, Now, PublicKey, SecretKey};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The seed of this run: `SIM_SEED`, or `default`. Printed, so that a failure can be replayed.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    println!("SIM_SEED={seed}");
    seed
}

/// Index of a node in its network.
pub type Index = usize;

pub struct SimNode {
    pub key: PublicKey,
    pub id: NodeId,
    pub address: SocketAddr,
    /// `None` while it is off.
    pub machine: Option<Box<Discv4>>,
    /// Results of lookups, as they ended.
    pub lookups: BTreeMap<LookupId, Vec<NodeRecord>>,
    /// What its database holds, on or off.
    pub stored: BTreeMap<NodeId, Seed>,
    /// When its machine wants to be woken, and the alarm that is set: not later, or the machine would oversleep.
    wake: Option<Duration>,
    alarm: Option<Duration>,
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
    from: SocketAddr,
    to: Index,
    packet: Packet,
}

/// Packets on their way. The heap holds only times and places, which are cheap to move.
#[derive(Default)]
struct InFlight {
    due: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    deliveries: Vec<Option<Delivery>>,
    free: Vec<usize>,
}

impl InFlight {
    /// `order` decides between packets due at the same time.
    fn push(&mut self, at: Duration, order: u64, delivery: Delivery) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.deliveries.push(None);
            self.deliveries.len() - 1
        });
        self.deliveries[place] = Some(delivery);
        self.due.push(Reverse((at, order, place)));
    }

    fn next(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    fn pop(&mut self) -> Option<Delivery> {
        let Reverse((.., place)) = self.due.pop()?;
        self.free.push(place);
        self.deliveries[place].take()
    }
}

/// A packet to an address that no node of the network has.
pub struct Stray {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub packet: Packet,
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
    /// In the order of `Kind::ALL`.
    pub sent_by_kind: [u64; 6],
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
    /// The table of nodes that are switched on from now on.
    pub table: TableConfig,
    /// If set, packets to addresses outside of the network come here at once, for whoever plays those.
    pub strays: Option<Vec<Stray>>,
    /// If set, nodes leave and others come.
    pub churn: Option<Churn>,
    start: Now,
    /// Time since the start.
    elapsed: Duration,
    by_address: HashMap<SocketAddr, Index>,
    in_flight: InFlight,
    /// Moments at which to look whether a machine wants to be woken; those that are not `SimNode::alarm` are void.
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
            table: TableConfig::default(),
            strays: None,
            churn: None,
            start,
            elapsed: Duration::ZERO,
            by_address: HashMap::new(),
            in_flight: InFlight::default(),
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
        let (id, lookups, stored) = (key.node_id(), BTreeMap::new(), BTreeMap::new());
        let node = SimNode { id, key, address, machine: None, lookups, stored, wake: None, alarm: None };
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
        settings.table = self.table.clone();
        config(&mut settings);
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        node.machine = Some(Box::new(Discv4::new(self.start.after(self.elapsed), settings, seed)));
        self.drain(index);
    }

    /// Switches a node off: it forgets everything but what it has stored, and what is on its way to it is lost.
    pub fn switch_off(&mut self, index: Index) {
        self.nodes[index].machine = None;
        self.nodes[index].wake = None;
        self.nodes[index].alarm = None;
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

    /// Delivers the next packet, wakes the next machine or replaces the next node, whichever is due first and not after
    /// `until`; `false` if nothing is, and then it is `until`.
    pub fn step(&mut self, until: Duration) -> bool {
        while let Some(Reverse((at, index))) = self.alarms.peek()
            && self.nodes[*index].alarm != Some(*at)
        {
            self.alarms.pop();
        }
        let delivery = self.in_flight.next();
        let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
        let departure = self.churn.as_ref().map(Churn::next);
        let Some(at) = [departure, delivery, alarm].into_iter().flatten().min().filter(|at| *at <= until) else {
            self.elapsed = self.elapsed.max(until);
            return false;
        };
        self.elapsed = self.elapsed.max(at);
        if departure == Some(at) {
            self.replace_next();
        } else if delivery == Some(at) {
            let Some(delivery) = self.in_flight.pop() else { return false };
            self.deliver(delivery);
        } else if let Some(Reverse((_, index))) = self.alarms.pop() {
            self.nodes[index].alarm = None;
            if self.nodes[index].wake.is_some_and(|wake| wake <= at) {
                self.with(index, |machine, now| machine.handle_timeout(now));
            } else {
                self.set_alarm(index); // it was put off
            }
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
        let Delivery { from, to, packet } = delivery;
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
            let hash = packet_hash(self.packets);
            if let Some(request) = transmit.request {
                machine.handle_sealed(request, hash);
            }
            let SimNode { key, id, .. } = self.nodes[index];
            let packet = Packet { from: key, id, hash, message: transmit.message };
            self.send(index, transmit.to, packet);
        }
        let node = &mut self.nodes[index];
        let Some(machine) = &mut node.machine else { return };
        while let Some(event) = machine.poll_event() {
            match event {
                Event::LookupDone { lookup, closest } => _ = node.lookups.insert(lookup, closest),
                Event::Store { record, find_failures, inbound, .. } => {
                    let last_pong = self.start.after(self.elapsed).wall;
                    node.stored.insert(record.id(), Seed { record, last_pong, find_failures, inbound });
                }
                Event::FindFailures { id, ip, failures } => {
                    let stored = node.stored.get_mut(&id).filter(|seed| seed.record.ip() == ip);
                    stored.into_iter().for_each(|seed| seed.find_failures = failures);
                }
                _ => {}
            }
        }
        let wake = machine.poll_timeout();
        node.wake = wake.map(|at| at.saturating_duration_since(self.start.monotonic).max(self.elapsed));
        self.set_alarm(index);
    }

    /// Sets an alarm if the machine wants to be woken before the one that is set. One that comes too early is set anew
    /// when it goes off: machines put off their timers far more often than that.
    fn set_alarm(&mut self, index: Index) {
        let SimNode { wake, alarm, .. } = &mut self.nodes[index];
        if let Some(at) = *wake
            && alarm.is_none_or(|alarm| at < alarm)
        {
            *alarm = Some(at);
            self.alarms.push(Reverse((at, index)));
        }
    }

    fn send(&mut self, from: Index, to: SocketAddr, packet: Packet) {
        self.traffic.sent += 1;
        self.traffic.sent_by_kind[packet.message.kind() as usize - 1] += 1;
        let Some(&receiver) = self.by_address.get(&to) else {
            let from = self.nodes[from].address;
            return self.strays.iter_mut().for_each(|strays| strays.push(Stray { from, to, packet: packet.clone() }));
        };
        let (to, from_address) = (receiver, self.nodes[from].address);
        let delay = self.links.fate(self.elapsed, from, to, self.pair_seed, &mut self.rng);
        if let Some(log) = &mut self.log {
            let (at, kind) = (self.elapsed, packet.message.kind());
            log.push(Logged { at, from, to, kind, is_lost: delay.is_none() });
        }
        match delay {
            Some(delay) => {
                self.in_flight.push(self.elapsed + delay, self.packets, Delivery { from: from_address, to, packet })
            }
            None => self.traffic.lost += 1,
        }
    }

    /// A packet from somebody who is no node of the network, a moment after now. Returns its hash.
    pub fn inject(
        &mut self,
        from: SocketAddr,
        to: Index,
        after: Duration,
        key: PublicKey,
        message: Message,
    ) -> [u8; 32] {
        self.packets += 1;
        let hash = packet_hash(self.packets);
        let packet = Packet { from: key, id: key.node_id(), hash, message };
        self.in_flight.push(self.elapsed + after, self.packets, Delivery { from, to, packet });
        hash
    }

    /// Who has this address.
    pub fn at(&self, address: &SocketAddr) -> Option<Index> {
        self.by_address.get(address).copied()
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
        self.try_lookup(asker, target).expect("the asker stays")
    }

    /// The same; `None` if the asker leaves meanwhile.
    pub fn try_lookup(&mut self, asker: Index, target: [u8; 64]) -> Option<(Vec<NodeId>, Duration)> {
        let begun = self.elapsed;
        let lookup = self.with(asker, |machine, now| machine.lookup(now, target)).expect("not busy");
        let is_done = |network: &Network| {
            let asker = &network.nodes[asker];
            asker.lookups.contains_key(&lookup) || asker.machine.is_none()
        };
        assert!(self.run_until(Duration::from_secs(60), is_done), "lookup did not end");
        let found = self.nodes[asker].lookups.remove(&lookup)?;
        Some((found.iter().map(NodeRecord::id).collect(), self.elapsed - begun))
    }

    pub fn random_target(&mut self) -> [u8; 64] {
        let mut target = [0; 64];
        self.rng.fill_bytes(&mut target);
        target
    }

    /// A network of `count` nodes that join through node 0 within `joining`, one after the other.
    pub fn joined(seed: u64, links: Links, count: usize, joining: Duration) -> Network {
        Network::joined_through(seed, links, count, 1, joining)
    }

    /// The same through the first `bootnodes` nodes, which know each other.
    pub fn joined_through(seed: u64, links: Links, count: usize, bootnodes: usize, joining: Duration) -> Network {
        let mut network = Network::new(seed, links);
        network.join(count, bootnodes, joining);
        network
    }

    /// Fills an empty network in that way.
    pub fn join(&mut self, count: usize, bootnodes: usize, joining: Duration) {
        (0..count).for_each(|_| _ = self.add());
        let records: Vec<_> = self.nodes[..bootnodes].iter().map(SimNode::record).collect();
        for index in 0..count {
            if index >= bootnodes {
                self.run_for(joining / count as u32);
            }
            let others = records.iter().enumerate().filter(|(other, _)| *other != index);
            let others = others.map(|(_, record)| record.clone()).collect();
            self.switch_on(index, |config| config.bootnodes = others);
        }
    }
}

/// A hash that no other packet has.
fn packet_hash(packet: u64) -> [u8; 32] {
    let mut hash = [0; 32];
    for (n, chunk) in hash.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&mix(packet, n as u64 + 1).to_be_bytes());
    }
    hash
}

/// A good mixer of two words (splitmix64).
fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_add(b.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
