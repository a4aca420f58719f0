//! Endpoint proofs, ours and theirs (Node Discovery v4, "Endpoint Proof"): who has shown within 24 h that it receives
//! what we send to its address, and to whom we have shown it.
//!
//! Kept apart from the table: a node whose bucket is full has proven its endpoint all the same. A proof is of a pair
//! (id, IP address); the port may change behind a NAT, so it is only noted.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::key::NodeId;

/// How long a proof lasts (go-ethereum `bondExpiration`; the specification says 12 h at least).
pub(crate) const PROOF_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// FindNode failures in a row beyond which we prove ourselves again: they may have forgotten us (go-ethereum
/// `maxFindnodeFailures` in `ensureBond`).
const MAX_TRUSTED_FAILURES: u32 = 5;

/// Pairs remembered, about 10 MB.
const MAX_BONDS: usize = 65_536;

/// Pairs forgotten at a time when there are too many, so that choosing them costs little for each.
const FORGET_AT_ONCE: usize = MAX_BONDS / 16;

/// Pairs of one address: beyond this its own oldest give way, not those of others. Identities are free.
const MAX_BONDS_OF_ADDRESS: usize = 2048;

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
    find_failures: u32,
    /// A question of ours has had no answer since their last ping: our pong may have been lost.
    doubted: bool,
}

impl Bond {
    fn is_proven(&self, now: Instant) -> bool {
        is_recent(self.proven, now)
    }

    /// What to forget first: what was never proven, then what is oldest.
    fn worth(&self) -> (Option<Instant>, Option<Instant>) {
        (self.proven, self.pinged_us)
    }
}

fn is_recent(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now.saturating_duration_since(at) < PROOF_LIFETIME)
}

#[derive(Debug, Default)]
pub(crate) struct Bonds(BTreeMap<(IpAddr, NodeId), Bond>);

impl Bonds {
    /// `id` has answered a ping of ours from `from`.
    pub(crate) fn pong_received(&mut self, now: Instant, id: NodeId, from: SocketAddr) {
        let bond = self.entry(now, id, from);
        bond.proven = Some(now);
        bond.udp = from.port();
    }

    /// `id` has pinged us from `from` and gets its answer.
    pub(crate) fn ping_received(&mut self, now: Instant, id: NodeId, from: SocketAddr, tcp: u16) {
        let bond = self.entry(now, id, from);
        bond.pinged_us = Some(now);
        bond.doubted = false;
        bond.udp = from.port();
        bond.tcp = tcp;
    }

    /// Whether `id` has proven that it is at `ip`: it may ask for neighbours and for our record.
    pub(crate) fn is_proven(&self, now: Instant, id: NodeId, ip: IpAddr) -> bool {
        self.get(id, ip).is_some_and(|bond| bond.is_proven(now))
    }

    /// Whether anybody has proven to be at `ip`: all that can be known before a signature is checked.
    pub(crate) fn is_address_proven(&self, now: Instant, ip: IpAddr) -> bool {
        self.of_address(ip).any(|(_, bond)| bond.is_proven(now))
    }

    /// Whether anybody has proven to be at this address, and was last seen at this port.
    pub(crate) fn is_endpoint_proven(&self, now: Instant, from: SocketAddr) -> bool {
        self.of_address(from.ip()).any(|(_, bond)| bond.udp == from.port() && bond.is_proven(now))
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
        if let Some(bond) = self.0.get_mut(&(ip, id)) {
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

    /// A proof of an earlier run.
    pub(crate) fn restore(&mut self, now: Instant, id: NodeId, at: SocketAddr, age: Duration) {
        let proven = now.checked_sub(age);
        let bond = self.entry(now, id, at);
        bond.proven = proven;
        bond.udp = at.port();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, id: NodeId, ip: IpAddr) -> Option<&Bond> {
        self.0.get(&(ip, id))
    }

    fn of_address(&self, ip: IpAddr) -> impl Iterator<Item = (&(IpAddr, NodeId), &Bond)> {
        self.0.range((ip, NodeId([0; 32]))..=(ip, NodeId([0xff; 32])))
    }

    fn entry(&mut self, now: Instant, id: NodeId, at: SocketAddr) -> &mut Bond {
        let key = (at.ip(), id);
        if !self.0.contains_key(&key) {
            self.make_room(now, at.ip());
        }
        self.0.entry(key).or_default()
    }

    fn make_room(&mut self, now: Instant, ip: IpAddr) {
        if self.of_address(ip).count() >= MAX_BONDS_OF_ADDRESS {
            let least = self.of_address(ip).min_by_key(|(_, bond)| bond.worth()).map(|(key, _)| *key);
            least.into_iter().for_each(|key| _ = self.0.remove(&key));
        }
        if self.0.len() >= MAX_BONDS {
            self.0.retain(|_, bond| bond.is_proven(now) || is_recent(bond.pinged_us, now));
        }
        if self.0.len() >= MAX_BONDS {
            let mut worths: Vec<_> = self.0.values().map(Bond::worth).collect();
            let (_, threshold, _) = worths.select_nth_unstable(FORGET_AT_ONCE);
            let threshold = *threshold;
            self.0.retain(|_, bond| bond.worth() > threshold);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::Now;

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
        bonds.ping_received(now, A, at("23.1.1.1:30303"), 1);
        let (ip, last) = (at("23.1.1.1:1").ip(), now + PROOF_LIFETIME - Duration::from_secs(1));
        assert!(bonds.is_proven(last, A, ip) && bonds.are_we_proven(last, A, ip));
        let over = now + PROOF_LIFETIME;
        assert!(!bonds.is_proven(over, A, ip) && !bonds.are_we_proven(over, A, ip));
    }

    #[test]
    fn a_ping_proves_nothing_of_its_sender() {
        let (mut bonds, now) = (Bonds::default(), Now::read().monotonic);
        bonds.ping_received(now, A, at("23.1.1.1:30303"), 30304);
        assert!(!bonds.is_proven(now, A, at("23.1.1.1:1").ip()));
        assert_eq!(bonds.tcp_of_ping(now, A, at("23.1.1.1:1").ip()), Some(30304));
    }

    #[test]
    fn more_than_five_failures_and_we_prove_ourselves_again() {
        let (mut bonds, now) = (Bonds::default(), Now::read().monotonic);
        let endpoint = at("23.1.1.1:30303");
        bonds.ping_received(now, A, endpoint, 0);
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
        bonds.ping_received(now, A, endpoint, 0);
        bonds.doubt_ours(A, endpoint.ip());
        assert!(!bonds.are_we_proven(now, A, endpoint.ip()));
        bonds.ping_received(now, A, endpoint, 0);
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
            bonds.ping_received(now, id(n), SocketAddr::new(Ipv4Addr::from(0x8000_0000 + n).into(), 30303), 0);
            assert!(bonds.len() <= MAX_BONDS);
        }
        for n in 0..10_000 {
            let now = start + Duration::from_secs(300) + Duration::from_millis(u64::from(n));
            bonds.pong_received(now, id(n), at("23.1.1.1:30303"));
        }
        assert!(bonds.of_address(at("23.1.1.1:1").ip()).count() <= MAX_BONDS_OF_ADDRESS);
        let now = start + Duration::from_secs(400);
        assert!((0..1000).all(|n| bonds.is_proven(now, id(n), Ipv4Addr::from(n << 8).into())));
    }
}
