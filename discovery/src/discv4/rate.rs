//! Rates by source, in bounded memory: how many pings of strangers we answer, and how many silent addresses we ping.
//!
//! A ping makes us recover a key, sign an answer and sign a ping of our own, all before its sender has shown that it
//! exists. Who has proven its endpoint is not limited here.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use lru::LruCache;

use super::Rejected;

/// A token bucket, as the rate and burst of one (GCRA: the state of a source is one instant).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens at first, and the most that gather.
    pub burst: u32,
    /// Time for one more token. What is longer than a hundred years is never.
    pub period: Duration,
}

/// Time for one more token where there is to be none: a hundred years, which every clock can count.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Rate {
    /// `per_second` tokens a second, at most `burst` at once. With 0 a second, those of the first burst are all.
    pub const fn new(burst: u32, per_second: u32) -> Rate {
        let period = match 1_000_000_000_u64.checked_div(per_second as u64) {
            Some(nanos) => Duration::from_nanos(nanos),
            None => NEVER,
        };
        Rate { burst, period }
    }

    /// Takes a token; `until` is the state: when the bucket will be full again.
    fn take(&self, until: &mut Instant, now: Instant) -> bool {
        let (full_at, period) = ((*until).max(now), self.period.min(NEVER));
        let tolerance = period.saturating_mul(self.burst.saturating_sub(1));
        if self.burst == 0 || full_at.saturating_duration_since(now) > tolerance {
            return false;
        }
        *until = full_at.checked_add(period).unwrap_or(full_at);
        true
    }

    /// Whether the bucket is full again: as if it had never been used.
    fn is_full(until: Instant, now: Instant) -> bool {
        until <= now
    }

    /// Gives a token back.
    fn refund(&self, until: &mut Instant) {
        *until = until.checked_sub(self.period.min(NEVER)).unwrap_or(*until);
    }
}

/// How many pings of strangers are answered, and how many pings silent addresses get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Pings from one IP address (or IPv6 /64) from endpoints that have proven nothing. Default: 1,024 at once, then
    /// 8 a second: hundreds of new nodes behind one address (a crawl, a local network, go-ethereum's test suite)
    /// pass, and 200 flooding addresses make 1,600 a second, a quarter of one core.
    pub stranger_pings: Rate,
    /// The same from all addresses together. Default: 4,096 at once, then 2,000 a second: a third of one core.
    pub all_stranger_pings: Rate,
    /// Unanswered pings of ours to one endpoint: 5, then one each 20 s, since the silence may be lost packets. Answers
    /// give them back.
    pub pings_to_silent_endpoint: Rate,
    /// Unanswered pings of ours to one IP address; 256, then 2 a second.
    pub pings_to_silent_address: Rate,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            stranger_pings: Rate::new(1024, 8),
            all_stranger_pings: Rate::new(4096, 2000),
            pings_to_silent_endpoint: Rate { burst: 5, period: Duration::from_secs(20) },
            pings_to_silent_address: Rate::new(256, 2),
        }
    }
}

/// Sources remembered by each limit. A forgotten source starts anew; the total limit holds all the same.
const MAX_SOURCES: usize = 8192;

/// A map that forgets what was used longest ago. Grows on demand only.
#[derive(Debug)]
pub(crate) struct Recent<K: Hash + Eq, V> {
    limit: usize,
    entries: LruCache<K, V>,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    pub(crate) fn new(limit: usize) -> Recent<K, V> {
        Recent { limit, entries: LruCache::unbounded() }
    }

    /// The value of `key`, made by `new` if it is not there.
    pub(crate) fn entry(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        if self.entries.len() >= self.limit && !self.entries.contains(&key) {
            self.entries.pop_lru();
        }
        self.entries.get_or_insert_mut(key, new)
    }

    /// The value of `key`; this is no use of it.
    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        self.entries.peek(key)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// Forgets, oldest use first, what `is_over` says.
    pub(crate) fn forget_while(&mut self, is_over: impl Fn(&V) -> bool) {
        while self.entries.peek_lru().is_some_and(|(_, value)| is_over(value)) {
            self.entries.pop_lru();
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// The state of [`Limits`].
#[derive(Debug)]
pub(crate) struct RateLimits {
    limits: Limits,
    strangers: Recent<IpAddr, Instant>,
    all_strangers: Instant,
    silent_endpoints: Recent<SocketAddr, Instant>,
    silent_addresses: Recent<IpAddr, Instant>,
}

impl RateLimits {
    pub(crate) fn new(now: Instant, limits: Limits) -> RateLimits {
        RateLimits {
            limits,
            strangers: Recent::new(MAX_SOURCES),
            all_strangers: now,
            silent_endpoints: Recent::new(MAX_SOURCES),
            silent_addresses: Recent::new(MAX_SOURCES),
        }
    }

    /// May a ping from an unproven endpoint be answered? Its own address is asked first, so that one flooding address
    /// does not use up what is there for all.
    pub(crate) fn admit_stranger_ping(&mut self, now: Instant, from: IpAddr) -> Result<(), Rejected> {
        let Limits { stranger_pings, all_stranger_pings, .. } = &self.limits;
        self.strangers.forget_while(|until| Rate::is_full(*until, now));
        if !stranger_pings.take(self.strangers.entry(source(from), || now), now) {
            return Err(Rejected::SourceRate);
        }
        if !all_stranger_pings.take(&mut self.all_strangers, now) {
            return Err(Rejected::TotalRate);
        }
        Ok(())
    }

    /// May an unproven endpoint be pinged? Counts as unanswered until [`RateLimits::answered`].
    pub(crate) fn admit_ping_back(&mut self, now: Instant, to: SocketAddr) -> bool {
        let Limits { pings_to_silent_endpoint, pings_to_silent_address, .. } = &self.limits;
        self.silent_endpoints.forget_while(|until| Rate::is_full(*until, now));
        self.silent_addresses.forget_while(|until| Rate::is_full(*until, now));
        pings_to_silent_endpoint.take(self.silent_endpoints.entry(to, || now), now)
            && pings_to_silent_address.take(self.silent_addresses.entry(source(to.ip()), || now), now)
    }

    /// A ping was answered from `from`.
    pub(crate) fn answered(&mut self, from: SocketAddr) {
        if let Some(until) = self.silent_endpoints.get_mut(&from) {
            self.limits.pings_to_silent_endpoint.refund(until);
        }
        if let Some(until) = self.silent_addresses.get_mut(&source(from.ip())) {
            self.limits.pings_to_silent_address.refund(until);
        }
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 /64, which any host can use all of.
fn source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Now;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Now::read().monotonic;
        let (rate, mut state) = (Rate::new(10, 2), start);
        let taken = |state: &mut Instant, at| (0..100).filter(|_| rate.take(state, at)).count();
        assert_eq!(taken(&mut state, start), 10);
        assert_eq!(taken(&mut state, start + Duration::from_millis(499)), 0);
        assert_eq!(taken(&mut state, start + Duration::from_millis(500)), 1);
        assert_eq!(taken(&mut state, start + Duration::from_secs(2)), 3);
        assert_eq!(taken(&mut state, start + Duration::from_secs(3600)), 10, "never more than the burst");
    }

    #[test]
    fn a_rate_of_none_a_second_is_a_burst_and_nothing_after() {
        let start = Now::read().monotonic;
        for rate in [Rate::new(3, 0), Rate { burst: 3, period: Duration::MAX }] {
            let mut state = start;
            let taken = (0..100).filter(|n| rate.take(&mut state, start + Duration::from_secs(n * 3600))).count();
            assert_eq!(taken, 3, "{rate:?}");
        }
        assert!(!Rate::new(0, 0).take(&mut start.clone(), start));
    }

    #[test]
    fn the_source_is_asked_before_the_total() {
        let now = Now::read().monotonic;
        let limits =
            Limits { stranger_pings: Rate::new(10, 1), all_stranger_pings: Rate::new(15, 1), ..Limits::default() };
        let mut rates = RateLimits::new(now, limits);
        let mut pings = |ip: &str, count: usize| {
            let ip = ip.parse().unwrap();
            (0..count).filter(|_| rates.admit_stranger_ping(now, ip).is_ok()).count()
        };
        assert_eq!(pings("23.1.1.1", 1000), 10);
        assert_eq!(pings("2a00::1", 3), 3);
        assert_eq!(pings("2a00::2", 1000), 2, "another address of the same /64, and the total is used up");
        assert_eq!(rates.admit_stranger_ping(now, "2a00:0:0:1::3".parse().unwrap()), Err(Rejected::TotalRate));
        assert_eq!(rates.admit_stranger_ping(now, "23.1.1.1".parse().unwrap()), Err(Rejected::SourceRate));
    }

    /// Any host can use all of the /64 that it is in.
    #[test]
    fn an_ipv6_64_is_one_source() {
        let now = Now::read().monotonic;
        let mut rates = RateLimits::new(now, Limits { stranger_pings: Rate::new(10, 1), ..Limits::default() });
        let mut admitted = |net: u16| {
            let hosts = (0..100_u16).map(|host| IpAddr::from([0x2a00, 0, 0, net, host, 0, 0, host]));
            hosts.filter(|ip| rates.admit_stranger_ping(now, *ip).is_ok()).count()
        };
        assert_eq!((admitted(1), admitted(2)), (10, 10));
        let to = |port| SocketAddr::new("2a00::1".parse().unwrap(), port);
        assert_eq!(
            (1..1000).filter(|port| rates.admit_ping_back(now, to(*port))).count(),
            256,
            "silent ports of one host"
        );
    }

    #[test]
    fn a_silent_endpoint_gets_five_pings_one_that_answers_any_number() {
        let now = Now::read().monotonic;
        let mut rates = RateLimits::new(now, Limits::default());
        let (silent, alive) = ("23.1.1.1:30303".parse().unwrap(), "23.1.1.2:30303".parse().unwrap());
        assert_eq!((0..200).filter(|_| rates.admit_ping_back(now, silent)).count(), 5);
        for _ in 0..1000 {
            assert!(rates.admit_ping_back(now, alive));
            rates.answered(alive);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let now = Now::read().monotonic;
        let mut rates = RateLimits::new(now, Limits::default());
        for n in 0..100_000_u32 {
            _ = rates.admit_stranger_ping(now, std::net::Ipv4Addr::from(n).into());
        }
        assert_eq!(rates.strangers.len(), MAX_SOURCES);
    }
}
