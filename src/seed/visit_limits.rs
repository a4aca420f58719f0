//! How often one host and one network are visited because of what others say. Whoever tells us of addresses chooses whom we dial, and ids
//! and ports cost nothing: without this, many sources with a few addresses each would make a seed, and every seed they tell, dial one
//! victim without end.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use kadwire_discovery::network;

use crate::peers::host;

/// Visits are counted over this time.
const WINDOW: Duration = Duration::from_secs(60);

/// Visits within [`WINDOW`] to one IP (IPv6: /64), and to one network (/24, /48). A hoster's network may have some dozen peers, an IP a few.
const MOST: Limits = Limits { of_host: 16, of_network: 64 };

/// The same where the word is worth little: of a source that was never right or is doubtful, or of an address that was never reached and
/// failed before (one that fails is visited five times in its first minute). What these take is half of all, so that false addresses at a
/// true peer's host do not keep us from it.
const MOST_UNLIKELY: Limits = Limits { of_host: 8, of_network: 32 };

/// Hosts, and networks, that are remembered. With more of them within [`WINDOW`], new ones wait.
const MAX_TRACKED: usize = 16_384;

#[derive(Clone, Copy)]
struct Limits {
    of_host: usize,
    of_network: usize,
}

/// The recent visits to each host and to each network, the oldest first.
#[derive(Debug, Default)]
pub(super) struct VisitLimits {
    hosts: HashMap<IpAddr, VecDeque<Instant>>,
    networks: HashMap<IpAddr, VecDeque<Instant>>,
}

impl VisitLimits {
    /// Notes a visit to `ip` now, if there may be one. Otherwise says when to ask again.
    pub(super) fn admit(&mut self, now: Instant, ip: IpAddr, is_unlikely: bool) -> Result<(), Instant> {
        let most = if is_unlikely { MOST_UNLIKELY } else { MOST };
        let (host, network) = (host(ip), network(ip));
        check(&mut self.hosts, now, host, most.of_host)?;
        check(&mut self.networks, now, network, most.of_network)?;
        self.hosts.entry(host).or_default().push_back(now);
        self.networks.entry(network).or_default().push_back(now);
        Ok(())
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: Instant) {
        for places in [&mut self.hosts, &mut self.networks] {
            places.retain(|_, visits| visits.back().is_some_and(|last| *last + WINDOW > now));
        }
    }
}

fn check(
    places: &mut HashMap<IpAddr, VecDeque<Instant>>,
    now: Instant,
    at: IpAddr,
    most: usize,
) -> Result<(), Instant> {
    let room = places.len() < MAX_TRACKED;
    let Some(visits) = places.get_mut(&at) else { return if room { Ok(()) } else { Err(now + WINDOW) } };
    while visits.front().is_some_and(|first| *first + WINDOW <= now) {
        visits.pop_front();
    }
    // Once all but `most - 1` of them are over.
    let full = visits.len().checked_sub(most).and_then(|over| visits.get(over));
    full.map_or(Ok(()), |last| Err(*last + WINDOW))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use kadwire_discovery::Now;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_host_is_visited_so_often_in_a_minute() {
        let (start, mut limits) = (Now::read().monotonic, VisitLimits::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        // Every second one more, as long as it may be: false addresses stop at eight, others go on.
        let admitted = |limits: &mut VisitLimits, is_unlikely| {
            (0..30).filter(|second| limits.admit(at(*second), ip("24.1.1.1"), is_unlikely).is_ok()).count()
        };
        assert_eq!((admitted(&mut limits, true), admitted(&mut limits, false)), (8, 8));
        assert_eq!(limits.admit(at(30), ip("24.1.1.1"), false), Err(at(60)), "when the first is over");
        assert_eq!(limits.admit(at(60), ip("24.1.1.1"), false), Ok(()));
        // One host of IPv6 has a /64.
        assert_eq!((0..99).filter(|n| limits.admit(start, ip(&format!("2a00::{n:x}")), true).is_ok()).count(), 8);
        limits.expire(at(120));
        assert!(limits.hosts.is_empty() && limits.networks.is_empty());
    }

    #[test]
    fn so_is_a_network() {
        let (now, mut limits) = (Now::read().monotonic, VisitLimits::default());
        let mut admitted = |is_unlikely| {
            (0..=255).filter(|n| limits.admit(now, ip(&format!("24.1.1.{n}")), is_unlikely).is_ok()).count()
        };
        assert_eq!((admitted(true), admitted(false)), (32, 32));
        assert_eq!(limits.admit(now, ip("24.1.2.1"), true), Ok(()), "the next one is another");
    }

    #[test]
    fn no_more_hosts_than_so_many_are_remembered() {
        let (now, mut limits) = (Now::read().monotonic, VisitLimits::default());
        let at = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0x1800_0000 + (n << 8)));
        let taken = (0..20_000).filter(|n| limits.admit(now, at(*n), false).is_ok()).count();
        assert_eq!((taken, limits.hosts.len(), limits.networks.len()), (MAX_TRACKED, MAX_TRACKED, MAX_TRACKED));
        assert_eq!(limits.admit(now, at(0), false), Ok(()), "who is known is not kept out");
    }
}
