//! Whom the seed passes on: peers that it reached itself, at the address where it did. Kept by network, because an answer draws the network
//! first: whoever has a thousand peers in one network gets no more of our word than who has one elsewhere.

use std::{collections::HashMap, net::IpAddr};

use kadwire_wire::{PeerAddress, PeerId};
use rand::{RngExt, rngs::StdRng, seq::index};

use crate::{book::Group, peers::host};

/// Part of what is served in one answer, in percent, at least and at most (CometBFT `getSelectionPercent`, `minGetSelection`,
/// `maxGetSelection`).
const PERCENT: usize = 23;
pub(super) const LEAST: usize = 32;
const MOST: usize = 250;

/// One network gets so many in a hundred addresses of an answer, as long as others are known.
const PERCENT_OF_NETWORK: usize = 10;

/// Peers served at one IP (IPv6: /64). Ports and keys are free, and a CometBFT node connects to one peer of an IP anyway
/// (`allow_duplicate_ip`).
const MOST_OF_IP: usize = 4;

/// Peers served of one network (/16, /32): each of them is visited every two minutes, before all others, for up to 10 s if it is slow. The
/// largest hosters' networks have some dozen peers of a chain.
const MOST_OF_NETWORK: usize = 128;

/// What counts as one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    /// /16 of IPv4, /32 of IPv6.
    Group(Group),
    /// An address of the private network that the book is meant for: each counts for itself.
    Own(PeerId),
}

#[derive(Debug, Default)]
pub(super) struct Served {
    by_id: HashMap<PeerId, Place>,
    /// The members of each network, which are never none, and where each network is.
    networks: Vec<(Network, Vec<PeerAddress>)>,
    by_network: HashMap<Network, usize>,
    /// Peers at each IP that is limited.
    of_ip: HashMap<IpAddr, usize>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    network: Network,
    member: usize,
}

impl Served {
    /// Whether a peer may be served there: it is already, or its IP and its network have few. `group` is the network by which the book
    /// limits it.
    pub(super) fn has_room(&self, address: &PeerAddress, group: Option<Group>) -> bool {
        let ip = address.ip().map(host);
        let of_ip = ip.and_then(|ip| self.of_ip.get(&ip)).copied().unwrap_or(0);
        let is_there = self.address_of(&address.id()).is_some_and(|there| there.ip().map(host) == ip);
        let Some(group) = group else { return true };
        let members = self.by_network.get(&Network::Group(group)).and_then(|at| self.networks.get(*at));
        let of_network = members.map_or(0, |(_, members)| members.len());
        is_there || (of_ip < MOST_OF_IP && of_network < MOST_OF_NETWORK)
    }

    /// Serves a peer there, and nowhere else. Whether it was not served before.
    pub(super) fn insert(&mut self, address: PeerAddress, group: Option<Group>) -> bool {
        let id = address.id();
        let was_served = self.remove(&id);
        let network = group.map_or(Network::Own(id), Network::Group);
        if let (Some(ip), Network::Group(_)) = (address.ip(), network) {
            *self.of_ip.entry(host(ip)).or_default() += 1;
        }
        let at = *self.by_network.entry(network).or_insert_with(|| {
            self.networks.push((network, Vec::new()));
            self.networks.len() - 1
        });
        let members = &mut self.networks[at].1;
        self.by_id.insert(id, Place { network, member: members.len() });
        members.push(address);
        !was_served
    }

    /// Serves a peer no more. `false` if it was not.
    pub(super) fn remove(&mut self, id: &PeerId) -> bool {
        let Some(Place { network, member }) = self.by_id.remove(id) else { return false };
        let at = self.by_network[&network];
        let members = &mut self.networks[at].1;
        let removed = members.swap_remove(member);
        if let Some(place) = members.get(member).and_then(|moved| self.by_id.get_mut(&moved.id())) {
            place.member = member;
        }
        if members.is_empty() {
            self.by_network.remove(&network);
            self.networks.swap_remove(at);
            if let Some((moved, _)) = self.networks.get(at) {
                self.by_network.insert(*moved, at);
            }
        }
        if let (Some(ip), Network::Group(_)) = (removed.ip().map(host), network)
            && let Some(count) = self.of_ip.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                self.of_ip.remove(&ip);
            }
        }
        true
    }

    pub(super) fn address_of(&self, id: &PeerId) -> Option<&PeerAddress> {
        let Place { network, member } = self.by_id.get(id)?;
        self.networks.get(*self.by_network.get(network)?)?.1.get(*member)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many there are for `asker`, who needs no word about itself.
    pub(super) fn len_for(&self, asker: &PeerId) -> usize {
        self.len() - usize::from(self.by_id.contains_key(asker))
    }

    /// A random part of all: 23 %, 32 to 250 addresses. One of each of so many networks, then a second of each, and so on. From 32 addresses
    /// on no network gets more than a tenth: with few networks the answer is shorter.
    pub(super) fn selection(&self, asker: &PeerId, rng: &mut StdRng) -> Vec<PeerAddress> {
        let size = (self.len() * PERCENT / 100).clamp(LEAST, MOST);
        // One more than wanted, because that of the asker may have nobody else.
        let drawn = index::sample(rng, self.networks.len(), self.networks.len().min(size + 1));
        // Each from one of its members on, whichever that is.
        let drawn = drawn.iter().filter_map(|at| self.networks.get(at));
        let mut networks: Vec<_> = drawn.map(|(_, members)| (members, rng.random_range(0..members.len()))).collect();
        let mut answer = Vec::with_capacity(size);
        for round in 0.. {
            let is_enough = answer.len() >= LEAST && (round + 1) * 100 > answer.len() * PERCENT_OF_NETWORK;
            networks.retain(|(members, _)| members.len() > round);
            if is_enough || networks.is_empty() {
                break;
            }
            let members = networks.iter().map(|(members, first)| &members[(first + round) % members.len()]);
            let wanted = size - answer.len();
            answer.extend(members.filter(|address| address.id() != *asker).take(wanted).cloned());
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::dial::tests::{address, id};

    fn selection(served: &Served, asker: u32) -> Vec<PeerAddress> {
        served.selection(&id(asker), &mut StdRng::seed_from_u64(1))
    }

    fn insert(served: &mut Served, address: PeerAddress) {
        let group = Some(Group::of(&address, true));
        served.insert(address, group);
    }

    #[test]
    fn who_is_removed_is_not_served_and_the_others_are() {
        let mut served = Served::default();
        for n in 1..=40 {
            insert(&mut served, address(n));
        }
        assert!(served.remove(&id(1)) && served.remove(&id(40)) && !served.remove(&id(40)));
        assert_eq!((served.len(), served.len_for(&id(2)), served.len_for(&id(1))), (38, 37, 38));
        assert!((2..=39).all(|n| served.address_of(&id(n)) == Some(&address(n))));
        assert!((0..50).all(|_| !selection(&served, 2).contains(&address(2))));
    }

    #[test]
    fn an_answer_is_a_part_of_all_and_one_network_a_part_of_an_answer() {
        let mut served = Served::default();
        // All of 256 in one /16.
        for n in 0..256 {
            insert(&mut served, address(n));
        }
        assert_eq!(selection(&served, 0).len(), LEAST, "there is nobody else");
        for (all, answered) in [(10, 10), (100, 32), (400, 92), (3_000, 250)] {
            let mut served = Served::default();
            // Each in a /16 of its own.
            for n in 0..all {
                insert(&mut served, crate::dial::tests::peer_at(n, &format!("{}.{}.0.1:1", 30 + n / 200, n % 200)));
            }
            assert_eq!(selection(&served, 9_999).len(), answered, "{all}");
        }
    }
}
