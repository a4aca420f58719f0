//! Discovered addresses that wait for a free place: short, in order of arrival, and from many networks, so that one network that floods
//! discovery does not own the next dials (False Friends, arXiv 1908.10141).

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
};

use kadwire_wire::address::{PeerAddress, PeerId};

use super::WhyNot;

/// Candidates that may wait. Discovery is pulled, so a longer queue would only grow stale.
pub(crate) const MAX_QUEUED: usize = 128;

/// Candidates of one /24 (IPv6: /64) that may wait together, and peers of one that we dial, as in go-ethereum's table (two per bucket).
pub(crate) const MAX_PER_SUBNET: usize = 2;

/// The waiting candidates: one per id, few per subnet.
#[derive(Debug, Default)]
pub(crate) struct CandidateQueue {
    waiting: VecDeque<PeerAddress>,
    ids: HashSet<PeerId>,
    subnets: HashMap<Subnet, usize>,
    limit_lan: bool,
}

impl CandidateQueue {
    /// With `limit_lan`, private networks are limited like all others; loopback never is.
    pub(crate) fn new(limit_lan: bool) -> Self {
        CandidateQueue { limit_lan, ..CandidateQueue::default() }
    }

    pub(crate) fn push(&mut self, address: PeerAddress) -> Result<(), WhyNot> {
        if self.ids.contains(&address.id()) {
            return Err(WhyNot::AlreadyQueued);
        }
        if self.waiting.len() >= MAX_QUEUED {
            return Err(WhyNot::QueueFull);
        }
        if let Some(subnet) = Subnet::limited(address.ip(), self.limit_lan) {
            let count = self.subnets.entry(subnet).or_default();
            if *count >= MAX_PER_SUBNET {
                return Err(WhyNot::SubnetFull);
            }
            *count += 1;
        }
        self.ids.insert(address.id());
        self.waiting.push_back(address);
        Ok(())
    }

    pub(crate) fn pop(&mut self) -> Option<PeerAddress> {
        let address = self.waiting.pop_front()?;
        self.ids.remove(&address.id());
        if let Some(subnet) = Subnet::limited(address.ip(), self.limit_lan)
            && let Some(count) = self.subnets.get_mut(&subnet)
        {
            *count -= 1;
            if *count == 0 {
                self.subnets.remove(&subnet);
            }
        }
        Some(address)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// A /24 of IPv4 or a /64 of IPv6: what one host or one small network usually has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subnet {
    V4([u8; 3]),
    V6([u8; 8]),
}

impl Subnet {
    /// The subnet by which an address is limited: none for names, loopback and, unless `limit_lan`, private networks.
    pub(crate) fn limited(ip: Option<IpAddr>, limit_lan: bool) -> Option<Self> {
        let ip = ip.filter(|ip| !ip.to_canonical().is_loopback() && (limit_lan || !is_lan(ip)))?;
        Some(Subnet::of(ip))
    }

    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Subnet::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Subnet::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// Loopback, private and link-local addresses (go-ethereum's netutil.IsLAN).
pub(crate) fn is_lan(ip: &IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial::tests::{address, peer_at};

    #[test]
    fn two_of_one_subnet_wait_and_the_third_is_refused() {
        let mut queue = CandidateQueue::new(true);
        for (n, at, expected) in [
            (1, "44.1.1.1:1", Ok(())),
            (2, "44.1.1.2:1", Ok(())),
            (3, "44.1.1.3:1", Err(WhyNot::SubnetFull)),
            (3, "44.1.2.3:1", Ok(())),
            (3, "44.1.3.3:1", Err(WhyNot::AlreadyQueued)),
            (4, "10.0.0.1:1", Ok(())),
            (5, "10.0.0.2:1", Ok(())),
            (6, "10.0.0.3:1", Err(WhyNot::SubnetFull)),
            (7, "127.0.0.1:1", Ok(())),
            (8, "127.0.0.1:2", Ok(())),
            (9, "127.0.0.1:3", Ok(())),
        ] {
            assert_eq!(queue.push(peer_at(n, at)), expected, "{n} at {at}");
        }
        // The first leaves and makes room for another of its network.
        assert_eq!(queue.pop(), Some(peer_at(1, "44.1.1.1:1")));
        assert_eq!(queue.push(peer_at(1, "44.1.1.3:1")), Ok(()));
    }

    #[test]
    fn private_networks_are_limited_only_if_asked() {
        let mut queue = CandidateQueue::new(false);
        for n in 0..10 {
            assert_eq!(queue.push(peer_at(n, &format!("10.0.0.{}:1", n + 1))), Ok(()));
        }
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut queue = CandidateQueue::new(true);
        let refused = (0..1000).filter(|n| queue.push(address(*n)) == Err(WhyNot::QueueFull)).count();
        assert_eq!((queue.len(), refused), (MAX_QUEUED, 1000 - MAX_QUEUED));
        while queue.pop().is_some() {}
        assert!(queue.ids.is_empty() && queue.subnets.is_empty());
    }
}
