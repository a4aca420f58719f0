//! An attacker with few networks and many identities, as one object: it needs no machine for each.
//!
//! Every identity has an endpoint of its own (address and port), so that the attacker knows who is meant. It answers
//! everything at once, and sooner than honest nodes can: a ping with a pong and a ping of its own, a FindNode with
//! the sixteen of its own identities that are closest to the target, never anybody else. And it pings its victim, one
//! identity after the other, as fast as the victim admits strangers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use k256::elliptic_curve::BatchNormalize;
use k256::elliptic_curve::sec1::ToSec1Point;
use k256::{ProjectivePoint, Scalar};
use kadwire_discovery::discv4::message::{Endpoint, FindNode, MAX_NEIGHBORS, Message, Neighbor, Neighbors, Ping, Pong};
use kadwire_discovery::{NodeId, PublicKey};
use rand::RngExt;

use super::{Index, Network, Stray};

/// Its way to any node, and back.
const DELAY: Duration = Duration::from_millis(5);

/// How often it sends a handful of pings.
const TICK: Duration = Duration::from_millis(100);

const TICKS_PER_SECOND: u32 = 10;

/// Nodes in the answer to a FindNode.
const ANSWER: usize = 16;

/// What an attacker has.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    /// IPv4 /24s.
    pub networks: u32,
    /// Addresses in each of them.
    pub hosts: u32,
    pub identities: u32,
    /// Pings of strangers a second that its victim gets, beyond the first 4,096. A machine with default limits admits 8
    /// from each address and 2,000 in all.
    pub pings: u32,
}

impl Means {
    /// Pings a second that the victim admits, at most `pings`, and no identity more often than each five seconds.
    fn rate(&self) -> u32 {
        self.pings.min(self.networks * self.hosts * 8).min(2000).min((self.identities / 5).max(1))
    }

    /// And at once.
    fn burst(&self) -> u32 {
        (self.networks * self.hosts * 1024).min(4096).min(self.pings.saturating_mul(4))
    }
}

pub struct Adversary {
    pub means: Means,
    /// First two bytes of all its addresses.
    block: u16,
    keys: Vec<PublicKey>,
    /// Sorted.
    ids: Vec<(NodeId, u32)>,
    /// Whom it pings as fast as that one admits.
    pub victim: Option<Index>,
    next: u32,
    /// Pings that are due, times the ticks of a second.
    credit: u32,
    pinged: u64,
    next_tick: Duration,
}

impl Adversary {
    /// An attacker in 23.`block`.0.0/16.
    pub fn new(network: &mut Network, block: u8, means: Means) -> Adversary {
        let keys = keys(network, means.identities);
        let mut ids: Vec<_> = keys.iter().map(PublicKey::node_id).zip(0..).collect();
        ids.sort_unstable();
        network.strays = Some(Vec::new());
        let (block, next_tick) = (0x1700 | u16::from(block), network.elapsed());
        Adversary {
            means,
            block,
            keys,
            ids,
            victim: None,
            next: 0,
            credit: means.burst() * TICKS_PER_SECOND,
            pinged: 0,
            next_tick,
        }
    }

    /// Pings that its victim has got.
    pub fn pinged(&self) -> u64 {
        self.pinged
    }

    pub fn owns(&self, ip: IpAddr) -> bool {
        matches!(ip, IpAddr::V4(v4) if (u32::from(v4) >> 16) as u16 == self.block)
    }

    /// Runs the network with this attacker in it.
    pub fn run_for(&mut self, network: &mut Network, span: Duration) {
        let until = network.elapsed() + span;
        self.run_until(network, until, |_| false);
    }

    /// The same until `done`, or `until`; says whether it is done.
    pub fn run_until(
        &mut self,
        network: &mut Network,
        until: Duration,
        mut done: impl FnMut(&Network) -> bool,
    ) -> bool {
        while network.elapsed() < until && !done(network) {
            let has_strays = |network: &Network| network.strays.as_ref().is_some_and(|strays| !strays.is_empty());
            let tick = self.next_tick.min(until).max(network.elapsed());
            while !has_strays(network) && !done(network) && network.step(tick) {}
            for stray in network.strays.as_mut().map(std::mem::take).unwrap_or_default() {
                self.answer(network, stray);
            }
            if network.elapsed() >= self.next_tick {
                self.ping(network);
                self.next_tick += TICK;
            }
        }
        done(network)
    }

    /// A lookup of its victim, to the end.
    pub fn run_lookup(&mut self, network: &mut Network, asker: Index, target: [u8; 64]) -> Vec<NodeId> {
        let lookup = network.with(asker, |machine, now| machine.lookup(now, target)).expect("not busy");
        let until = network.elapsed() + Duration::from_secs(60);
        let is_done = |network: &Network| network.nodes[asker].lookups.contains_key(&lookup);
        assert!(self.run_until(network, until, is_done), "lookup did not end");
        let found = network.nodes[asker].lookups.remove(&lookup).unwrap_or_default();
        found.iter().map(|node| node.id()).collect()
    }

    /// Pings every honest node with so many of its identities, ten a second. They get as far into the tables as the rules
    /// of the honest nodes allow, and are passed on from there.
    pub fn visit_everybody(&mut self, network: &mut Network, visits: u32) {
        for round in 0..visits / 10 {
            for node in network.on() {
                for n in 0..10 {
                    let identity = (node as u32 * 7919 + round * 10 + n) % self.means.identities;
                    self.send_ping(network, identity, node, DELAY * (1 + n));
                }
            }
            self.run_for(network, Duration::from_secs(1));
        }
    }

    /// What it does to its victim by itself.
    fn ping(&mut self, network: &mut Network) {
        let Some(victim) = self.victim else { return };
        self.credit += self.means.rate();
        let count = (self.credit / TICKS_PER_SECOND).min(self.means.identities);
        self.credit %= TICKS_PER_SECOND;
        self.pinged += u64::from(count);
        for _ in 0..count {
            let identity = self.next;
            self.next = (self.next + 1) % self.means.identities;
            // Not all at once: packets of one tick are spread over it.
            self.send_ping(network, identity, victim, DELAY + TICK * (identity % 64) / 64);
        }
    }

    fn send_ping(&self, network: &mut Network, identity: u32, to: Index, after: Duration) {
        let (from, seen) = (self.endpoint(identity), network.nodes[to].address);
        let ping = Ping {
            version: 4,
            from: Endpoint::new(from, 30303),
            to: Endpoint::new(seen, 0),
            expiration: expiration(network),
            enr_seq: None,
        };
        network.inject(from, to, after, self.keys[identity as usize], Message::Ping(ping));
    }

    fn answer(&mut self, network: &mut Network, stray: Stray) {
        let Stray { from, to, packet } = stray;
        let (Some(identity), Some(asker)) = (self.at(to), network.at(&from)) else { return };
        let (key, expiration) = (self.keys[identity as usize], expiration(network));
        match packet.message {
            Message::Ping(ping) => {
                let to_asker = Endpoint::new(from, ping.from.tcp);
                let pong = Pong { to: to_asker, ping_hash: packet.hash, expiration, enr_seq: None };
                network.inject(to, asker, 2 * DELAY, key, Message::Pong(pong));
                // So that nothing keeps them from asking.
                self.send_ping(network, identity, asker, 2 * DELAY + Duration::from_micros(1));
            }
            Message::FindNode(FindNode { target, .. }) => {
                for nodes in self.closest(&NodeId::of_target(&target)).chunks(MAX_NEIGHBORS) {
                    let answer = Neighbors { nodes: nodes.to_vec(), skipped: 0, expiration };
                    network.inject(to, asker, 2 * DELAY, key, Message::Neighbors(answer));
                }
            }
            _ => {}
        }
    }

    /// Its identities closest to a target.
    fn closest(&self, target: &NodeId) -> Vec<Neighbor> {
        let at = self.ids.partition_point(|(id, _)| id < target);
        // Those that share the longest prefixes with the target are neighbours of its place.
        let around = at.saturating_sub(4 * ANSWER)..(at + 4 * ANSWER).min(self.ids.len());
        let mut closest: Vec<_> = self.ids[around].to_vec();
        closest.sort_unstable_by_key(|(id, _)| target.distance(id));
        closest.truncate(ANSWER);
        let neighbor = |(_, identity): &(NodeId, u32)| {
            let at = self.endpoint(*identity);
            Neighbor { ip: at.ip(), udp: at.port(), tcp: 30303, key: *self.keys[*identity as usize].as_bytes() }
        };
        closest.iter().map(neighbor).collect()
    }

    fn endpoint(&self, identity: u32) -> SocketAddr {
        let Means { networks, hosts, .. } = self.means;
        let (network, host, port) = (identity % networks, identity / networks % hosts, identity / networks / hosts);
        let ip = u32::from(self.block) << 16 | network << 8 | (host + 1);
        SocketAddr::new(Ipv4Addr::from(ip).into(), 1025 + port as u16)
    }

    fn at(&self, endpoint: SocketAddr) -> Option<u32> {
        let IpAddr::V4(ip) = endpoint.ip() else { return None };
        let (ip, Means { networks, hosts, identities, .. }) = (u32::from(ip), self.means);
        let (network, host) = (ip >> 8 & 0xff, (ip & 0xff).checked_sub(1)?);
        let port = u32::from(endpoint.port()).checked_sub(1025)?;
        let identity = (port * hosts + host) * networks + network;
        (self.owns(endpoint.ip()) && identity < identities).then_some(identity)
    }
}

fn expiration(network: &Network) -> u64 {
    network.now().unix_seconds() + 20
}

/// Keys of an arithmetic progression of secrets from a random one: a point addition each.
fn keys(network: &mut Network, count: u32) -> Vec<PublicKey> {
    const BATCH: usize = 100;
    let start = Scalar::from(network.rng.random::<u64>() >> 1);
    let mut point = ProjectivePoint::GENERATOR * start;
    let mut keys = Vec::new();
    while keys.len() < count as usize {
        let batch: [ProjectivePoint; BATCH] = std::array::from_fn(|_| {
            point += ProjectivePoint::GENERATOR;
            point
        });
        for point in <ProjectivePoint as BatchNormalize<[ProjectivePoint; BATCH]>>::batch_normalize(&batch) {
            let bytes: [u8; 64] = point.to_sec1_point(false).as_bytes()[1..].try_into().unwrap();
            keys.push(PublicKey::from_bytes(&bytes).unwrap());
        }
    }
    keys.truncate(count as usize);
    keys
}
