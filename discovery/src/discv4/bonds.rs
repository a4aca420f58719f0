//! Endpoint proofs, ours and theirs (Node Discovery v4, "Endpoint Proof"): who has shown within 24 h that it receives
//! what we send to its address, and to whom we have shown it.
//!
//! Kept apart from the table: a node whose bucket is full has proven its endpoint all the same. A proof is of a pair
//! (id, IP address); the port may change behind a NAT, so it is only noted.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::MAX_EXPIRATION;
use crate::Now;
use crate::address::network;
use crate::key::NodeId;

/// How long a proof lasts (go-ethereum `bondExpiration`; the specification says 12 h at least).
pub(crate) const PROOF_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// FindNode failures in a row beyond which we prove ourselves again: they may have forgotten us (go-ethereum
/// `maxFindnodeFailures` in `ensureBond`).
const MAX_TRUSTED_FAILURES: u32 = 5;

/// Pairs remembered, some 13 MB with their indexes (6.3 MiB for half of them: `tests/discv4_sybil.rs`).
const MAX_BONDS: usize = 65_536;

/// Pairs of one network (IPv4 /24, IPv6 /48): beyond this its own give way, not those of others. Identities are free,
/// networks are not: it takes 32 of them to drive out a proof of somebody else.
const MAX_BONDS_OF_NETWORK: usize = 2048;

/// One part in so many is forgotten at a time when there are too many, so that choosing them costs little for each.
const FORGET_AT_ONCE: usize = 16;

/// What we know of an (id, address) pair.
#[derive(Debug, Clone, Copy, Default)]
struct Bond {
    /// When it last answered a ping of ours.
    proven: Option<Instant>,
    /// When it last pinged us (and got its answer).
    pinged_us: Option<Instant>,
    /// UDP port it was last seen at.
    udp: u16,
    /// TCP port its last ping named.
    tcp: u16,
    /// The ping of it that lasts longest.
    ping: PingSeen,
    find_failures: u32,
    /// A question of ours has had no answer since their last ping: our pong may have been lost.
    doubted: bool,
}

impl Bond {
    fn is_proven(&self, now: Instant) -> bool {
        is_recent(self.proven, now)
    }

    /// What to forget first: what was never proven, then what is oldest.
    fn worth(&self) -> Worth {
        (self.proven, self.pinged_us)
    }
}

/// A ping, as far as it takes to know it again. It is answered by less than it weighs, so it may come as often as somebody
/// likes; but not from another port than its sender's, where it would move him.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PingSeen {
    port: u16,
    /// Unix seconds; 0 before the first.
    expiration: u64,
    /// The first bytes of the datagram's hash.
    hash: [u8; 8],
}

impl PingSeen {
    pub(crate) fn new(from: SocketAddr, hash: &[u8; 32], expiration: u64) -> PingSeen {
        PingSeen { port: from.port(), expiration, hash: hash.first_chunk().copied().unwrap_or_default() }
    }

    /// Whether this one, of the same node, is an old one from another port. An honest node that moves writes a new one; if it
    /// does so within the second, one that says something else.
    fn is_replay_after(&self, now: Now, before: PingSeen) -> bool {
        // One that claims to be valid for longer than is allowed comes from before a step of the clock.
        let is_of_now = before.expiration <= now.unix_seconds().saturating_add(MAX_EXPIRATION.as_secs());
        let is_old = self.expiration < before.expiration || self.hash == before.hash;
        self.port != before.port && is_of_now && is_old
    }
}

type Worth = (Option<Instant>, Option<Instant>);

fn is_recent(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now.saturating_duration_since(at) < PROOF_LIFETIME)
}

/// What the pairs at some place have shown, so that no packet needs to look at all of them.
#[derive(Debug, Default)]
struct Place {
    pairs: usize,
    /// When any of them last answered a ping of ours.
    proven: Option<Instant>,
}

/// Pairs by the place they are at: a network, an address, an endpoint.
#[derive(Debug)]
struct Places<K>(HashMap<K, Place>);

impl<K> Default for Places<K> {
    fn default() -> Places<K> {
        Places(HashMap::new())
    }
}

impl<K: Hash + Eq> Places<K> {
    fn pairs(&self, at: &K) -> usize {
        self.0.get(at).map_or(0, |place| place.pairs)
    }

    fn is_proven(&self, now: Instant, at: &K) -> bool {
        self.0.get(at).is_some_and(|place| is_recent(place.proven, now))
    }

    fn proven(&mut self, at: &K, when: Option<Instant>) {
        if let Some(place) = self.0.get_mut(at) {
            place.proven = place.proven.max(when);
        }
    }

    fn enter(&mut self, at: K) {
        let place = self.0.entry(at).or_default();
        place.pairs = place.pairs.saturating_add(1);
    }

    /// The last one to leave takes the place's proof with it; others keep it.
    fn leave(&mut self, at: &K) {
        let Some(place) = self.0.get_mut(at) else { return };
        place.pairs = place.pairs.saturating_sub(1);
        if place.pairs == 0 {
            self.0.remove(at);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Bonds {
    pairs: BTreeMap<(IpAddr, NodeId), Bond>,
    networks: Places<IpAddr>,
    addresses: Places<IpAddr>,
    endpoints: Places<SocketAddr>,
}

impl Bonds {
    /// `id` has answered a ping of ours from `from`.
    pub(crate) fn pong_received(&mut self, now: Instant, id: NodeId, from: SocketAddr) {
        self.proven(now, id, from, Some(now));
    }

    /// `id` has pinged us from `from` and gets its answer.
    pub(crate) fn ping_received(&mut self, now: Instant, id: NodeId, from: SocketAddr, tcp: u16, ping: PingSeen) {
        let bond = self.seen_at(now, id, from);
        bond.pinged_us = Some(now);
        bond.doubted = false;
        bond.tcp = tcp;
        // Not the last one: somebody may send it an earlier one again.
        if bond.ping.expiration <= ping.expiration || bond.ping.port != ping.port {
            bond.ping = ping;
        }
    }

    /// Whether a ping of `id` from `ip` is an old one that somebody else sends from another port.
    pub(crate) fn is_replay(&self, now: Now, id: NodeId, ip: IpAddr, ping: PingSeen) -> bool {
        self.get(id, ip).is_some_and(|bond| ping.is_replay_after(now, bond.ping))
    }

    /// Whether `id` has proven that it is at `ip`: it may ask for neighbours and for our record.
    pub(crate) fn is_proven(&self, now: Instant, id: NodeId, ip: IpAddr) -> bool {
        self.get(id, ip).is_some_and(|bond| bond.is_proven(now))
    }

    /// Whether anybody has proven to be at `ip`: all that can be known before a signature is checked.
    pub(crate) fn is_address_proven(&self, now: Instant, ip: IpAddr) -> bool {
        self.addresses.is_proven(now, &ip)
    }

    /// Whether anybody has proven to be at this address, and was last seen at this port.
    pub(crate) fn is_endpoint_proven(&self, now: Instant, from: SocketAddr) -> bool {
        self.endpoints.is_proven(now, &from)
    }

    /// Whether they should answer our FindNode: they have pinged us, and nothing speaks against it since.
    pub(crate) fn are_we_proven(&self, now: Instant, id: NodeId, ip: IpAddr) -> bool {
        self.get(id, ip).is_some_and(|bond| {
            is_recent(bond.pinged_us, now) && !bond.doubted && bond.find_failures <= MAX_TRUSTED_FAILURES
        })
    }

    /// They have not answered a question: before the next one, we prove ourselves again. go-ethereum does that after
    /// six failures only, since its pings cost it a second each.
    pub(crate) fn doubt_ours(&mut self, id: NodeId, ip: IpAddr) {
        if let Some(bond) = self.pairs.get_mut(&(ip, id)) {
            bond.doubted = true;
        }
    }

    /// When they last answered a ping of ours.
    pub(crate) fn last_pong(&self, id: NodeId, ip: IpAddr) -> Option<Instant> {
        self.get(id, ip)?.proven
    }

    /// The TCP port of their last ping, if they have pinged us.
    pub(crate) fn tcp_of_ping(&self, now: Instant, id: NodeId, ip: IpAddr) -> Option<u16> {
        self.get(id, ip).filter(|bond| is_recent(bond.pinged_us, now)).map(|bond| bond.tcp)
    }

    /// A FindNode has brought nodes (`true`) or nothing. Returns the failures in a row.
    pub(crate) fn find_done(&mut self, now: Instant, id: NodeId, at: SocketAddr, brought_nodes: bool) -> u32 {
        let bond = self.entry(now, id, at);
        bond.find_failures = if brought_nodes { 0 } else { bond.find_failures.saturating_add(1) };
        bond.find_failures
    }

    /// FindNode failures in a row.
    pub(crate) fn find_failures(&self, id: NodeId, ip: IpAddr) -> u32 {
        self.get(id, ip).map_or(0, |bond| bond.find_failures)
    }

    /// A proof of an earlier run, and how often the node had failed us then.
    pub(crate) fn restore(&mut self, now: Instant, id: NodeId, at: SocketAddr, age: Duration, find_failures: u32) {
        self.proven(now, id, at, now.checked_sub(age));
        self.entry(now, id, at).find_failures = find_failures;
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    fn get(&self, id: NodeId, ip: IpAddr) -> Option<&Bond> {
        self.pairs.get(&(ip, id))
    }

    fn proven(&mut self, now: Instant, id: NodeId, at: SocketAddr, when: Option<Instant>) {
        self.seen_at(now, id, at).proven = when;
        self.addresses.proven(&at.ip(), when);
        self.endpoints.proven(&at, when);
    }

    /// Notes the port; a proof goes with its pair.
    fn seen_at(&mut self, now: Instant, id: NodeId, at: SocketAddr) -> &mut Bond {
        self.enter(now, id, at);
        let Bonds { pairs, endpoints, .. } = self;
        let bond = pairs.entry((at.ip(), id)).or_default();
        if bond.udp != at.port() {
            endpoints.leave(&SocketAddr::new(at.ip(), bond.udp));
            endpoints.enter(at);
            endpoints.proven(&at, bond.proven);
            bond.udp = at.port();
        }
        bond
    }

    fn entry(&mut self, now: Instant, id: NodeId, at: SocketAddr) -> &mut Bond {
        self.enter(now, id, at);
        self.pairs.entry((at.ip(), id)).or_default()
    }

    /// Makes the pair if it is not there.
    fn enter(&mut self, now: Instant, id: NodeId, at: SocketAddr) {
        let key = (at.ip(), id);
        if self.pairs.contains_key(&key) {
            return;
        }
        self.make_room(now, at.ip());
        self.networks.enter(network(at.ip()));
        self.addresses.enter(at.ip());
        self.endpoints.enter(at);
        self.pairs.insert(key, Bond { udp: at.port(), ..Bond::default() });
    }

    fn make_room(&mut self, now: Instant, ip: IpAddr) {
        let network = network(ip);
        if self.networks.pairs(&network) >= MAX_BONDS_OF_NETWORK {
            let (first, last) = network_range(network);
            let pairs = self.pairs.range((first, NodeId([0; 32]))..=(last, NodeId([0xff; 32])));
            let worths = pairs.map(|(key, bond)| (bond.worth(), *key)).collect();
            self.forget_least(worths);
        }
        if self.pairs.len() >= MAX_BONDS {
            let is_over = |bond: &Bond| !bond.is_proven(now) && !is_recent(bond.pinged_us, now);
            let over: Vec<_> = self.pairs.iter().filter(|(_, bond)| is_over(bond)).map(|(key, _)| *key).collect();
            over.iter().for_each(|key| self.forget(key));
        }
        if self.pairs.len() >= MAX_BONDS {
            let worths = self.pairs.iter().map(|(key, bond)| (bond.worth(), *key)).collect();
            self.forget_least(worths);
        }
    }

    fn forget_least(&mut self, mut worths: Vec<(Worth, (IpAddr, NodeId))>) {
        let count = worths.len().checked_div(FORGET_AT_ONCE).unwrap_or(0);
        if count < worths.len() {
            worths.select_nth_unstable(count);
            worths.iter().take(count).for_each(|(_, key)| self.forget(key));
        }
    }

    fn forget(&mut self, key: &(IpAddr, NodeId)) {
        let Some(bond) = self.pairs.remove(key) else { return };
        let (ip, _) = *key;
        self.networks.leave(&network(ip));
        self.addresses.leave(&ip);
        self.endpoints.leave(&SocketAddr::new(ip, bond.udp));
    }
}

/// The first and the last address of a network, as [`network`] gives it.
fn network_range(network: IpAddr) -> (IpAddr, IpAddr) {
    match network {
        IpAddr::V4(v4) => (network, Ipv4Addr::from(u32::from(v4) | 0xff).into()),
        IpAddr::V6(v6) => (network, Ipv6Addr::from(u128::from(v6) | (u128::MAX >> 48)).into()),
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const A: NodeId = NodeId([0xa; 32]);
    const B: NodeId = NodeId([0xb; 32]);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn id(n: u32) -> NodeId {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&n.to_be_bytes());
        NodeId(id)
    }

    #[test]
    fn a_proof_is_of_id_and_address_whatever_the_port() {
        let (mut bonds, now) = (Bonds::default(), Now::read().monotonic);
        bonds.pong_received(now, A, at("23.1.1.1:30303"));
        assert!(bonds.is_proven(now, A, at("23.1.1.1:1").ip()));
        assert!(!bonds.is_proven(now, B, at("23.1.1.1:1").ip()), "another id at the address");
        assert!(!bonds.is_proven(now, A, at("23.1.1.2:1").ip()), "the id at another address");
        assert!(bonds.is_address_proven(now, at("23.1.1.1:1").ip()));
        assert!(!bonds.is_address_proven(now, at("23.1.1.2:1").ip()));
        assert!(bonds.is_endpoint_proven(now, at("23.1.1.1:30303")));
        assert!(!bonds.is_endpoint_proven(now, at("23.1.1.1:30304")));
    }

    #[test]
    fn a_proof_lasts_24_hours() {
        let (mut bonds, now) = (Bonds::default(), Now::read().monotonic);
        bonds.pong_received(now, A, at("23.1.1.1:30303"));
        bonds.ping_received(now, A, at("23.1.1.1:30303"), 1, PingSeen::default());
        let (ip, last) = (at("23.1.1.1:1").ip(), now + PROOF_LIFETIME - Duration::from_secs(1));
        assert!(bonds.is_proven(last, A, ip) && bonds.are_we_proven(last, A, ip));
        let over = now + PROOF_LIFETIME;
        assert!(!bonds.is_proven(over, A, ip) && !bonds.are_we_proven(over, A, ip));
    }

    #[test]
    fn a_ping_proves_nothing_of_its_sender() {
        let (mut bonds, now) = (Bonds::default(), Now::read().monotonic);
        bonds.ping_received(now, A, at("23.1.1.1:30303"), 30304, PingSeen::default());
        assert!(!bonds.is_proven(now, A, at("23.1.1.1:1").ip()));
        assert_eq!(bonds.tcp_of_ping(now, A, at("23.1.1.1:1").ip()), Some(30304));
    }

    #[test]
    fn more_than_five_failures_and_we_prove_ourselves_again() {
        let (mut bonds, now) = (Bonds::default(), Now::read().monotonic);
        let endpoint = at("23.1.1.1:30303");
        bonds.ping_received(now, A, endpoint, 0, PingSeen::default());
        for failures in 1..=5 {
            assert_eq!(bonds.find_done(now, A, endpoint, false), failures);
            assert!(bonds.are_we_proven(now, A, endpoint.ip()));
        }
        bonds.find_done(now, A, endpoint, false);
        assert!(!bonds.are_we_proven(now, A, endpoint.ip()));
        assert_eq!(bonds.find_done(now, A, endpoint, true), 0);
        assert!(bonds.are_we_proven(now, A, endpoint.ip()));
    }

    #[test]
    fn an_unanswered_question_casts_doubt_until_their_next_ping() {
        let (mut bonds, now) = (Bonds::default(), Now::read().monotonic);
        let endpoint = at("23.1.1.1:30303");
        bonds.ping_received(now, A, endpoint, 0, PingSeen::default());
        bonds.doubt_ours(A, endpoint.ip());
        assert!(!bonds.are_we_proven(now, A, endpoint.ip()));
        bonds.ping_received(now, A, endpoint, 0, PingSeen::default());
        assert!(bonds.are_we_proven(now, A, endpoint.ip()));
    }

    /// 200,000 unproven strangers do not drive out a single proof; nor do the identities of one address.
    #[test]
    fn floods_do_not_drive_out_proofs() {
        let (mut bonds, start) = (Bonds::default(), Now::read().monotonic);
        for n in 0..1000 {
            bonds.pong_received(start, id(n), SocketAddr::new(Ipv4Addr::from(n << 8).into(), 30303));
        }
        for n in 0..200_000 {
            let now = start + Duration::from_millis(u64::from(n));
            bonds.ping_received(
                now,
                id(n),
                SocketAddr::new(Ipv4Addr::from(0x8000_0000 + n).into(), 30303),
                0,
                PingSeen::default(),
            );
            assert!(bonds.len() <= MAX_BONDS);
        }
        for n in 0..10_000 {
            let now = start + Duration::from_secs(300) + Duration::from_millis(u64::from(n));
            bonds.pong_received(now, id(n), at("23.1.1.1:30303"));
        }
        assert!(bonds.networks.pairs(&network(at("23.1.1.1:1").ip())) <= MAX_BONDS_OF_NETWORK);
        let now = start + Duration::from_secs(400);
        assert!((0..1000).all(|n| bonds.is_proven(now, id(n), Ipv4Addr::from(n << 8).into())));
    }

    /// 100,000 identities with proofs from 16 networks: less than half of the places, and nobody else's proof is lost.
    #[test]
    fn sixteen_networks_of_proven_identities_take_half_of_the_places() {
        let (mut bonds, start) = (Bonds::default(), Now::read().monotonic);
        for n in 0..1000 {
            bonds.pong_received(start, id(n), SocketAddr::new(Ipv4Addr::from(n << 8).into(), 30303));
        }
        for n in 0..100_000_u32 {
            let now = start + Duration::from_millis(u64::from(n));
            let ip = Ipv4Addr::from(0x1700_0000 | (n & 15) << 8 | (n >> 4) & 0xff);
            let from = SocketAddr::new(ip.into(), 1025 + u16::try_from(n >> 12).unwrap());
            bonds.ping_received(now, id(n), from, 0, PingSeen::default());
            bonds.pong_received(now, id(n), from);
        }
        assert!(bonds.len() <= 1000 + 16 * MAX_BONDS_OF_NETWORK);
        let now = start + Duration::from_secs(200);
        assert!((0..1000).all(|n| bonds.is_proven(now, id(n), Ipv4Addr::from(n << 8).into())));
    }

    /// The indexes say what a look at every pair would say.
    #[test]
    fn places_follow_their_pairs() {
        let (mut bonds, start) = (Bonds::default(), Now::read().monotonic);
        let mut rng = StdRng::seed_from_u64(1);
        for step in 0..20_000_u64 {
            let now = start + Duration::from_secs(step * 3);
            let ip = Ipv4Addr::new(23, 1, rng.random_range(0..2), rng.random_range(0..4));
            let from = SocketAddr::new(ip.into(), rng.random_range(2000..2004));
            let id = id(rng.random_range(0..3000));
            match rng.random_range(0..3) {
                0 => bonds.pong_received(now, id, from),
                1 => bonds.ping_received(now, id, from, 1, PingSeen::default()),
                _ => _ = bonds.find_done(now, id, from, false),
            }
        }
        let now = start + Duration::from_secs(60_000);
        assert!(bonds.len() <= 2 * MAX_BONDS_OF_NETWORK);
        assert_eq!(bonds.networks.0.values().map(|place| place.pairs).sum::<usize>(), bonds.len());
        for (ip, place) in &bonds.addresses.0 {
            let pairs: Vec<_> = bonds.pairs.iter().filter(|((at, _), _)| at == ip).collect();
            assert_eq!(place.pairs, pairs.len());
            assert!(bonds.is_address_proven(now, *ip) || pairs.iter().all(|(_, bond)| !bond.is_proven(now)));
            for port in 2000..2004 {
                let endpoint = SocketAddr::new(*ip, port);
                let mut there = pairs.iter().filter(|(_, bond)| bond.udp == port);
                assert_eq!(bonds.endpoints.pairs(&endpoint), there.clone().count());
                assert!(bonds.is_endpoint_proven(now, endpoint) || there.all(|(_, bond)| !bond.is_proven(now)));
            }
        }
    }
}
