//! How often we knock at one door because of what others say. Whoever tells us of addresses chooses whom we dial, and ids and ports cost
//! nothing: without this, many sources with a few addresses each would make a seed, and every seed they tell, dial one victim without end.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use crate::peers::host;

/// Visits are counted over this time.
const WINDOW: Duration = Duration::from_secs(60);

/// Visits within [`WINDOW`] to one IP (IPv6: /64), and to one network (/24, /48). A hoster's network may have some dozen peers, an IP a few.
const MOST: Limits = Limits { of_host: 16, of_network: 64 };

/// The same where the word is worth little: of a source that was never right or is doubtful, or of an address that was never reached and
/// failed before (one that fails is visited five times in its first minute). What these take is half of all, so that false addresses at a
/// true peer's door do not keep us from it.
const MOST_UNLIKELY: Limits = Limits { of_host: 8, of_network: 32 };

/// Doors that are remembered, of each kind. With more of them within [`WINDOW`], new ones wait.
const MAX_DOORS: usize = 16_384;

#[derive(Clone, Copy)]
struct Limits {
    of_host: usize,
    of_network: usize,
}

/// The recent visits, each door's oldest first.
#[derive(Debug, Default)]
pub(super) struct Doors {
    hosts: HashMap<IpAddr, VecDeque<Instant>>,
    networks: HashMap<IpAddr, VecDeque<Instant>>,
}

impl Doors {
    /// Notes a visit to `ip` now, if there may be one. Otherwise says when to ask again.
    pub(super) fn knock(&mut self, now: Instant, ip: IpAddr, is_unlikely: bool) -> Result<(), Instant> {
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
        for doors in [&mut self.hosts, &mut self.networks] {
            doors.retain(|_, visits| visits.back().is_some_and(|last| *last + WINDOW > now));
        }
    }
}

fn check(doors: &mut HashMap<IpAddr, VecDeque<Instant>>, now: Instant, at: IpAddr, most: usize) -> Result<(), Instant> {
    let room = doors.len() < MAX_DOORS;
    let Some(visits) = doors.get_mut(&at) else { return if room { Ok(()) } else { Err(now + WINDOW) } };
    while visits.front().is_some_and(|first| *first + WINDOW <= now) {
        visits.pop_front();
    }
    // Once all but `most - 1` of them are over.
    let full = visits.len().checked_sub(most).and_then(|over| visits.get(over));
    full.map_or(Ok(()), |last| Err(*last + WINDOW))
}

/// /24 of IPv4, /48 of IPv6.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & !0xff).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !((1 << 80) - 1)).into(),
    }
}

#[cfg(test)]
mod tests {
    use kadwire_discovery::Now;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_door_is_knocked_at_so_often_in_a_minute() {
        let (start, mut doors) = (Now::read().monotonic, Doors::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        // Every second one more, as long as it may be: false addresses stop at eight, others go on.
        let knocks = |doors: &mut Doors, is_unlikely| {
            (0..30).filter(|second| doors.knock(at(*second), ip("24.1.1.1"), is_unlikely).is_ok()).count()
        };
        assert_eq!((knocks(&mut doors, true), knocks(&mut doors, false)), (8, 8));
        assert_eq!(doors.knock(at(30), ip("24.1.1.1"), false), Err(at(60)), "when the first is over");
        assert_eq!(doors.knock(at(60), ip("24.1.1.1"), false), Ok(()));
        // One host of IPv6 has a /64.
        assert_eq!((0..99).filter(|n| doors.knock(start, ip(&format!("2a00::{n:x}")), true).is_ok()).count(), 8);
        doors.expire(at(120));
        assert!(doors.hosts.is_empty() && doors.networks.is_empty());
    }

    #[test]
    fn so_is_a_network() {
        let (now, mut doors) = (Now::read().monotonic, Doors::default());
        let mut knocks = |is_unlikely| {
            (0..=255).filter(|n| doors.knock(now, ip(&format!("24.1.1.{n}")), is_unlikely).is_ok()).count()
        };
        assert_eq!((knocks(true), knocks(false)), (32, 32));
        assert_eq!(doors.knock(now, ip("24.1.2.1"), true), Ok(()), "the next one is another");
    }

    #[test]
    fn no_more_doors_than_so_many_are_remembered() {
        let (now, mut doors) = (Now::read().monotonic, Doors::default());
        let at = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0x1800_0000 + (n << 8)));
        let taken = (0..20_000).filter(|n| doors.knock(now, at(*n), false).is_ok()).count();
        assert_eq!((taken, doors.hosts.len(), doors.networks.len()), (MAX_DOORS, MAX_DOORS, MAX_DOORS));
        assert_eq!(doors.knock(now, at(0), false), Ok(()), "who is known is not kept out");
    }
}
