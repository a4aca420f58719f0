//! Who knocks: inbound connections before their handshake is done. They have a pool of their own, so that silent sockets never take the
//! place of a peer (500 of them keep honest peers out of a CometBFT node for 36 s), limits per IP, and a count of attempts per IP.

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    net::IpAddr,
    time::{Duration, Instant},
};

use kadwire_wire::address::PeerId;

use super::{
    eviction::Slots,
    set::{ConnectionId, host},
};
use crate::{
    dial::{Expiring, WhyNot, is_lan},
    time::FOR_EVER,
};

/// Attempts of one IP are counted over this time.
const WINDOW: Duration = Duration::from_secs(10);

/// IPs whose attempts are counted at once; when full, the longest-counted one starts anew.
const MAX_TRACKED: usize = 8_192;

/// The unfinished handshakes and the recent attempts.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// In the order of their numbers, and so of their arrival.
    half_open: BTreeMap<ConnectionId, HalfOpen>,
    /// How many unfinished handshakes each peer has that has proven its key.
    pending: HashMap<PeerId, usize>,
    per_ip: HashMap<IpAddr, usize>,
    attempts: HashMap<IpAddr, u32>,
    windows: VecDeque<(Instant, IpAddr)>,
    attempts_per_ip: u32,
    /// IPs from which a connection came a moment ago, and how long that counts.
    recent: Expiring<IpAddr>,
    throttle: Option<Duration>,
    limit_lan: bool,
}

/// An unfinished handshake.
#[derive(Clone, Copy, Debug)]
struct HalfOpen {
    /// Where it comes from, if that is limited.
    ip: Option<IpAddr>,
    /// Who has proven its key.
    peer: Option<PeerId>,
}

impl Incoming {
    pub(crate) fn new(attempts_per_ip: u32, throttle: Option<Duration>, limit_lan: bool) -> Self {
        Incoming {
            half_open: BTreeMap::new(),
            pending: HashMap::new(),
            per_ip: HashMap::new(),
            attempts: HashMap::new(),
            windows: VecDeque::new(),
            attempts_per_ip,
            recent: Expiring::new(MAX_TRACKED),
            throttle,
            limit_lan,
        }
    }

    /// Lets a new connection begin its handshake. When the pool is full the oldest unfinished one makes room and is returned: an honest
    /// handshake is over in milliseconds.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        ip: Option<IpAddr>,
        slots: &Slots,
        connected_from: usize,
    ) -> Result<Option<ConnectionId>, WhyNot> {
        if ip.is_some_and(|ip| self.count_attempt(now, host(ip)) > self.attempts_per_ip) {
            return Err(WhyNot::TooManyAttempts);
        }
        let limited = ip.filter(|ip| self.limit_lan || !is_lan(ip)).map(host);
        if let (Some(ip), Some(throttle)) = (limited, self.throttle) {
            self.recent.expire(now);
            if self.recent.contains(now, &ip) {
                return Err(WhyNot::Throttled);
            }
            self.recent.insert(ip, now + throttle.min(FOR_EVER));
        }
        if let Some(ip) = limited {
            let half_open = self.per_ip.get(&ip).copied().unwrap_or(0);
            if half_open >= slots.half_open_per_ip {
                return Err(WhyNot::TooManyHalfOpen);
            }
            if half_open + connected_from >= slots.per_ip {
                return Err(WhyNot::TooManyFromIp);
            }
        }
        let evicted = if self.half_open.len() >= slots.half_open.max(1) {
            self.half_open.first_key_value().map(|(oldest, _)| *oldest)
        } else {
            None
        };
        if let Some(oldest) = evicted {
            self.end(oldest);
        }
        self.half_open.insert(connection, HalfOpen { ip: limited, peer: None });
        if let Some(ip) = limited {
            *self.per_ip.entry(ip).or_default() += 1;
        }
        Ok(evicted)
    }

    /// Whoever opened this connection has proven its key. `false` if the handshake was given up before.
    pub(crate) fn identify(&mut self, connection: ConnectionId, peer: PeerId) -> bool {
        let Some(half_open) = self.half_open.get_mut(&connection) else { return false };
        if half_open.peer.is_none() {
            half_open.peer = Some(peer);
            *self.pending.entry(peer).or_default() += 1;
        }
        true
    }

    /// Whether a connection of this peer is about to be made, so that it need not be dialed.
    pub(crate) fn is_pending(&self, peer: &PeerId) -> bool {
        self.pending.contains_key(peer)
    }

    /// The handshake is over, well or not. `false` if it was given up before.
    pub(crate) fn end(&mut self, connection: ConnectionId) -> bool {
        let Some(HalfOpen { ip, peer }) = self.half_open.remove(&connection) else { return false };
        if let Some(ip) = ip {
            decrement(&mut self.per_ip, ip);
        }
        if let Some(peer) = peer {
            decrement(&mut self.pending, peer);
        }
        true
    }

    /// How many handshakes are unfinished.
    pub(crate) fn len(&self) -> usize {
        self.half_open.len()
    }

    fn count_attempt(&mut self, now: Instant, ip: IpAddr) -> u32 {
        while let Some((start, old)) = self.windows.front()
            && (now.saturating_duration_since(*start) >= WINDOW
                || (self.windows.len() >= MAX_TRACKED && !self.attempts.contains_key(&ip)))
        {
            self.attempts.remove(old);
            self.windows.pop_front();
        }
        let attempts = self.attempts.entry(ip).or_insert_with(|| {
            self.windows.push_back((now, ip));
            0
        });
        *attempts = attempts.saturating_add(1);
        *attempts
    }

    #[cfg(test)]
    pub(crate) fn tracked(&self) -> usize {
        assert_eq!(self.attempts.len(), self.windows.len());
        assert!(self.per_ip.values().sum::<usize>() <= self.half_open.len());
        assert!(self.pending.values().sum::<usize>() <= self.half_open.len());
        self.attempts.len()
    }
}

fn decrement<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests: a fixed base for virtual time")]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn slots() -> Slots {
        Slots { half_open: 4, half_open_per_ip: 2, per_ip: 3, ..Slots::default() }
    }

    #[test]
    fn one_ip_has_few_unfinished_handshakes_and_the_pool_pushes_out_the_oldest() {
        let (now, mut incoming) = (Instant::now(), Incoming::new(100, None, false));
        for (n, from, expected) in [
            (1, ip("44.0.0.1"), Ok(None)),
            (2, ip("44.0.0.1"), Ok(None)),
            (3, ip("44.0.0.1"), Err(WhyNot::TooManyHalfOpen)),
            // One IPv6 host has a whole /64.
            (4, ip("2600:1::1"), Ok(None)),
            (5, ip("2600:1::2"), Ok(None)),
            (6, ip("2600:1::3"), Err(WhyNot::TooManyHalfOpen)),
            // The pool of four is full: the oldest goes, and with it its IP's count.
            (7, ip("44.0.0.2"), Ok(Some(ConnectionId(1)))),
            (8, ip("44.0.0.1"), Ok(Some(ConnectionId(2)))),
            (9, ip("127.0.0.1"), Ok(Some(ConnectionId(4)))),
            (10, ip("127.0.0.1"), Ok(Some(ConnectionId(5)))),
            (11, ip("127.0.0.1"), Ok(Some(ConnectionId(7)))),
            (12, None, Ok(Some(ConnectionId(8)))),
        ] {
            assert_eq!(incoming.begin(now, ConnectionId(n), from, &slots(), 0), expected, "{n}");
        }
        assert!(!incoming.end(ConnectionId(1)), "given up before");
        assert!(incoming.end(ConnectionId(12)));
        assert_eq!(incoming.len(), 3);
    }

    #[test]
    fn connections_of_an_ip_count_with_its_handshakes() {
        let (now, mut incoming) = (Instant::now(), Incoming::new(100, None, false));
        assert_eq!(incoming.begin(now, ConnectionId(1), ip("44.0.0.1"), &slots(), 2), Ok(None));
        assert_eq!(incoming.begin(now, ConnectionId(2), ip("44.0.0.1"), &slots(), 2), Err(WhyNot::TooManyFromIp));
    }

    #[test]
    fn attempts_are_counted_in_a_window_and_the_memory_of_them_is_bounded() {
        let (start, mut incoming) = (Instant::now(), Incoming::new(3, None, false));
        let mut knock = |number: u64, after: u64, from: &str| {
            let begun = incoming.begin(start + Duration::from_secs(after), ConnectionId(number), ip(from), &slots(), 0);
            incoming.end(ConnectionId(number));
            begun.is_ok()
        };
        assert!([0, 1, 9].into_iter().all(|s| knock(s, s, "44.0.0.1")));
        assert!(!knock(4, 9, "44.0.0.1") && knock(5, 9, "44.0.0.2"));
        assert!(knock(6, 10, "44.0.0.1"), "the next window");
        for n in 0..20_000u32 {
            knock(10 + u64::from(n), 10, &IpAddr::from((0x2d00_0000 + n).to_be_bytes()).to_string());
        }
        assert_eq!(incoming.tracked(), MAX_TRACKED);
    }

    #[test]
    fn an_ip_comes_once_in_thirty_seconds_if_so_throttled_but_those_of_a_private_network_as_they_like() {
        let (start, mut incoming) = (Instant::now(), Incoming::new(100, Some(Duration::from_secs(30)), false));
        let refused = Err(WhyNot::Throttled);
        for (n, after, from, expected) in [
            (1, 0, "95.33.21.2", Ok(None)),
            (2, 1, "95.33.21.2", refused),
            (3, 1, "95.33.21.3", Ok(None)),
            (4, 29, "95.33.21.2", refused), // refusals do not make it longer
            (5, 30, "95.33.21.2", Ok(None)),
            (6, 59, "95.33.21.2", refused),
            (7, 59, "10.0.0.1", Ok(None)),
            (8, 59, "10.0.0.1", Ok(None)),
        ] {
            let begun = incoming.begin(start + Duration::from_secs(after), ConnectionId(n), ip(from), &slots(), 0);
            assert_eq!(begun, expected, "{n}");
            incoming.end(ConnectionId(n));
        }
    }

    #[test]
    fn a_peer_is_pending_until_all_its_handshakes_are_over() {
        let (now, peer) = (Instant::now(), crate::dial::tests::id(1));
        let mut incoming = Incoming::new(100, None, false);
        for n in [1, 2] {
            incoming.begin(now, ConnectionId(n), None, &slots(), 0).unwrap();
            assert!(incoming.identify(ConnectionId(n), peer) && incoming.identify(ConnectionId(n), peer));
        }
        incoming.end(ConnectionId(1));
        assert!(incoming.is_pending(&peer));
        incoming.end(ConnectionId(2));
        assert!(!incoming.is_pending(&peer) && !incoming.identify(ConnectionId(2), peer));
    }
}
