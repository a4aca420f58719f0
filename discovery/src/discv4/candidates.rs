//! Which of the nodes that random lookups find are handed to somebody who dials.
//!
//! A lookup is only as honest as those it asks: an attacker with two addresses that names nobody but itself came to own
//! the dials of a restarted node (Henningsen et al. 2019, "False Friends"; Marcus, Heilman, Goldberg 2018). Identities are
//! free, networks are not; so within a window one network gets few places, and one network's word counts for few. What is
//! handed out has answered us; these rules say how much of it may come from one hand.
//!
//! Only the random walk is ruled by this. A lookup, a crawl or a bootnode's answers are not.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::table::SubnetLimits;
use crate::{NodeId, NodeRecord};

/// Candidates that make a window: enough to fill the slots of a node (50 by default in go-ethereum) at once.
const WINDOW: usize = 64;

/// The oldest a candidate of the window can be: a small network behind few addresses gets its turn after that.
const WINDOW_TIME: Duration = Duration::from_secs(5 * 60);

/// One network's nodes may have named one candidate in so many of a full window: a quarter. In a window that is not full it
/// is the same number, 16: a network that is known from one bootnode can start.
const NAMED_SHARE: usize = 4;

/// Why a node is not handed to the dialer, for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCandidate {
    /// Its network (IPv4 /24, IPv6 /48) has its share of the window.
    #[error("too many candidates of its network")]
    Network,
    /// Those who named it have named their share of the window.
    #[error("too many candidates named by one network")]
    NamedBy,
}

/// The candidates handed out lately. What a network is, that LAN addresses are exempt unless asked, and how many of one may
/// be in a window (2), is as in the table: [`SubnetLimits`].
#[derive(Debug)]
pub struct Candidates {
    limits: SubnetLimits,
    /// Oldest first.
    window: VecDeque<Admitted>,
}

#[derive(Debug)]
struct Admitted {
    id: NodeId,
    network: Option<IpNet>,
    named_by: Option<IpNet>,
    at: Instant,
}

impl Candidates {
    /// An empty window.
    pub fn new(limits: SubnetLimits) -> Candidates {
        Candidates { limits, window: VecDeque::new() }
    }

    /// Takes a node into the window, unless there are too many of its kind. One that is there may come again: it takes no
    /// further place. `named_by` is the address of the node that named it, if it was not in our own table.
    ///
    /// # Errors
    /// Which share is used up.
    pub fn admit(&mut self, now: Instant, node: &NodeRecord, named_by: Option<IpAddr>) -> Result<(), NotCandidate> {
        let is_over = |admitted: &Admitted| now.saturating_duration_since(admitted.at) >= WINDOW_TIME;
        while self.window.front().is_some_and(is_over) {
            self.window.pop_front();
        }
        let network = self.limits.subnet(node.ip());
        let named_by = named_by.and_then(|ip| self.limits.subnet(ip));
        if self.window.iter().any(|admitted| admitted.id == node.id() && admitted.network == network) {
            return Ok(());
        }
        // The oldest makes place for the new one, if that is what it takes.
        let falls_out = self.window.len().saturating_add(1).saturating_sub(WINDOW);
        let count = |is_same: &dyn Fn(&Admitted) -> bool| {
            self.window.iter().skip(falls_out).filter(|admitted| is_same(admitted)).count()
        };
        if network.is_some() && count(&|admitted| admitted.network == network) >= self.limits.bucket {
            return Err(NotCandidate::Network);
        }
        if named_by.is_some() && count(&|admitted| admitted.named_by == named_by) >= WINDOW / NAMED_SHARE {
            return Err(NotCandidate::NamedBy);
        }
        self.window.drain(..falls_out.min(self.window.len()));
        self.window.push_back(Admitted { id: node.id(), network, named_by, at: now });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::{Now, SecretKey};

    struct World {
        now: Instant,
        candidates: Candidates,
        rng: StdRng,
    }

    impl World {
        fn new() -> World {
            World::with(SubnetLimits::default())
        }

        fn with(limits: SubnetLimits) -> World {
            World { now: Now::read().monotonic, candidates: Candidates::new(limits), rng: StdRng::seed_from_u64(1) }
        }

        fn node(&mut self, ip: &str) -> NodeRecord {
            NodeRecord::new(*SecretKey::random(&mut self.rng).public(), ip.parse().unwrap(), 30303, 0).unwrap()
        }

        /// A new node at this address comes up.
        fn admit(&mut self, ip: &str, named_by: Option<&str>) -> Result<(), NotCandidate> {
            let node = self.node(ip);
            self.candidates.admit(self.now, &node, named_by.map(|ip| ip.parse().unwrap()))
        }

        /// The same in a network of its own.
        fn admit_nth(&mut self, n: u32, named_by: Option<&str>) -> Result<(), NotCandidate> {
            self.admit(&Ipv4Addr::from(0x1800_0001 + (n << 8)).to_string(), named_by)
        }
    }

    #[test]
    fn two_of_a_network_and_all_who_are_there_again_and_again() {
        let mut world = World::new();
        let first = world.node("23.1.1.1");
        for _ in 0..100 {
            assert_eq!(world.candidates.admit(world.now, &first, None), Ok(()));
        }
        assert_eq!(world.admit("23.1.1.1", None), Ok(()));
        assert_eq!(world.admit("23.1.1.9", None), Err(NotCandidate::Network));
        assert_eq!(world.candidates.admit(world.now, &first, None), Ok(()));
        assert_eq!(world.admit("23.1.2.1", None), Ok(()));
        for (ip, expected) in [
            ("2a00:1:2:3::1", Ok(())),
            ("2a00:1:2:4::1", Ok(())),
            ("2a00:1:2:5::1", Err(NotCandidate::Network)),
            ("2a00:1:3:5::1", Ok(())),
        ] {
            assert_eq!(world.admit(ip, None), expected, "{ip}: an IPv6 network is a /48");
        }
    }

    /// All that one address names comes from networks of their own, as an attacker's would who rents some.
    #[test]
    fn one_hand_fills_a_quarter_of_the_window() {
        let mut world = World::new();
        let named = |world: &mut World, range: std::ops::Range<u32>, by: &str| {
            range.filter(|n| world.admit_nth(*n, Some(by)).is_ok()).count()
        };
        assert_eq!(named(&mut world, 0..100, "23.1.1.1"), 16);
        assert_eq!(named(&mut world, 100..200, "23.1.1.77"), 0, "another address of the same network");
        assert_eq!(named(&mut world, 200..300, "23.1.2.1"), 16);
        assert_eq!((300..400).filter(|n| world.admit_nth(*n, None).is_ok()).count(), 100, "of our own table");
        assert_eq!(named(&mut world, 400..500, "23.1.1.1"), 16, "the window has moved on");
    }

    #[test]
    fn the_window_moves_with_time_and_with_candidates() {
        let mut world = World::new();
        assert_eq!([1, 2, 3].map(|_| world.admit("23.1.1.1", None).is_ok()), [true, true, false]);
        world.now += WINDOW_TIME;
        assert_eq!([1, 2, 3].map(|_| world.admit("23.1.1.1", None).is_ok()), [true, true, false]);
        (0..62).for_each(|n| assert_eq!(world.admit_nth(n, None), Ok(())));
        assert_eq!(world.candidates.window.len(), WINDOW);
        assert_eq!(world.admit("23.1.1.1", None), Ok(()), "the oldest of its network is to fall out");
        assert_eq!(world.admit("23.1.1.1", None), Ok(()));
        assert_eq!(world.admit("23.1.1.1", None), Err(NotCandidate::Network));
        assert_eq!(world.candidates.window.len(), WINDOW);
    }

    #[test]
    fn a_local_network_is_exempt_unless_asked_for() {
        for (lan, expected) in [(false, 100), (true, 2)] {
            let mut world = World::with(SubnetLimits { lan, ..SubnetLimits::default() });
            let admitted = (0..100).filter(|_| world.admit("192.168.1.7", Some("192.168.1.1")).is_ok()).count();
            assert_eq!(admitted, expected, "lan: {lan}");
        }
    }
}
