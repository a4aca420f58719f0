//! Who knocks: inbound connections before their handshake is done. They have a pool of their own, so that silent sockets never take the
//! place of a peer (500 of them keep honest peers out of a CometBFT node for 36 s), limits per IP, and a count of attempts per IP.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    eviction::Slots,
    set::{ConnectionId, host},
};
use crate::dial::{WhyNot, is_lan};

/// Attempts of one IP are counted over this time.
const WINDOW: Duration = Duration::from_secs(10);

/// IPs whose attempts are counted at once; when full, the longest-counted one starts anew.
const MAX_TRACKED: usize = 8_192;

/// The unfinished handshakes and the recent attempts.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// In the order of their numbers, and so of their arrival.
    half_open: BTreeMap<ConnectionId, Option<IpAddr>>,
    per_ip: HashMap<IpAddr, usize>,
    attempts: HashMap<IpAddr, u32>,
    windows: VecDeque<(Instant, IpAddr)>,
    attempts_per_ip: u32,
    limit_lan: bool,
}

impl Incoming {
    pub(crate) fn new(attempts_per_ip: u32, limit_lan: bool) -> Self {
        Incoming {
            half_open: BTreeMap::new(),
            per_ip: HashMap::new(),
            attempts: HashMap::new(),
            windows: VecDeque::new(),
            attempts_per_ip,
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
        self.half_open.insert(connection, limited);
        if let Some(ip) = limited {
            *self.per_ip.entry(ip).or_default() += 1;
        }
        Ok(evicted)
    }

    /// The handshake is over, well or not. `false` if it was given up before.
    pub(crate) fn end(&mut self, connection: ConnectionId) -> bool {
        let Some(ip) = self.half_open.remove(&connection) else { return false };
        if let Some(ip) = ip
            && let Some(count) = self.per_ip.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&ip);
            }
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
        self.attempts.len()
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
        let (now, mut incoming) = (Instant::now(), Incoming::new(100, false));
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
        let (now, mut incoming) = (Instant::now(), Incoming::new(100, false));
        assert_eq!(incoming.begin(now, ConnectionId(1), ip("44.0.0.1"), &slots(), 2), Ok(None));
        assert_eq!(incoming.begin(now, ConnectionId(2), ip("44.0.0.1"), &slots(), 2), Err(WhyNot::TooManyFromIp));
    }

    #[test]
    fn attempts_are_counted_in_a_window_and_the_memory_of_them_is_bounded() {
        let (start, mut incoming) = (Instant::now(), Incoming::new(3, false));
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
}
