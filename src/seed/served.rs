//! Whom the seed passes on: peers that it reached itself, at the address where it did. A dense list, so that a random part of it is cheap.

use std::collections::HashMap;

use kadwire_wire::{PeerAddress, PeerId};
use rand::{rngs::StdRng, seq::index};

use crate::book::Group;

/// Part of what is served in one answer, in percent, at least and at most (CometBFT `getSelectionPercent`, `minGetSelection`,
/// `maxGetSelection`).
const PERCENT: usize = 23;
pub(super) const LEAST: usize = 32;
const MOST: usize = 250;

/// Addresses of one group (/16 of IPv4, /32 of IPv6) in one answer: an owner of many nodes in one network gets no more of our word.
const MOST_OF_GROUP: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Served {
    addresses: Vec<PeerAddress>,
    by_id: HashMap<PeerId, usize>,
}

impl Served {
    /// Serves a peer there, and nowhere else. Whether it was not served before.
    pub(super) fn insert(&mut self, address: PeerAddress) -> bool {
        match self.by_id.get(&address.id()) {
            Some(&at) => {
                self.addresses[at] = address;
                false
            }
            None => {
                self.by_id.insert(address.id(), self.addresses.len());
                self.addresses.push(address);
                true
            }
        }
    }

    /// Serves a peer no more. `false` if it was not.
    pub(super) fn remove(&mut self, id: &PeerId) -> bool {
        let Some(at) = self.by_id.remove(id) else { return false };
        self.addresses.swap_remove(at);
        if let Some(moved) = self.addresses.get(at) {
            self.by_id.insert(moved.id(), at);
        }
        true
    }

    pub(super) fn address_of(&self, id: &PeerId) -> Option<&PeerAddress> {
        self.addresses.get(*self.by_id.get(id)?)
    }

    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// How many there are for `asker`, who needs no word about itself.
    pub(super) fn len_for(&self, asker: &PeerId) -> usize {
        self.len() - usize::from(self.by_id.contains_key(asker))
    }

    /// A random part of all: 23 %, 32 to 250 addresses, 32 at most of one network; `group` says which network counts.
    pub(super) fn selection(
        &self,
        asker: &PeerId,
        group: impl Fn(&PeerAddress) -> Option<Group>,
        rng: &mut StdRng,
    ) -> Vec<PeerAddress> {
        let size = (self.len() * PERCENT / 100).clamp(LEAST, MOST);
        // Some more than wanted, for those that are passed over.
        let drawn = index::sample(rng, self.len(), self.len().min(size * 4));
        let mut of_group: HashMap<Group, usize> = HashMap::new();
        let fits = |address: &&PeerAddress| {
            let Some(group) = group(address) else { return true };
            let count = of_group.entry(group).or_default();
            *count += 1;
            *count <= MOST_OF_GROUP
        };
        let others = drawn.iter().filter_map(|at| self.addresses.get(at)).filter(|address| address.id() != *asker);
        others.filter(fits).take(size).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::dial::tests::{address, id};

    fn selection(served: &Served, asker: u32) -> Vec<PeerAddress> {
        let group = |address: &PeerAddress| Some(Group::of(address, true));
        served.selection(&id(asker), group, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn who_is_removed_is_not_served_and_the_others_are() {
        let mut served = Served::default();
        for n in 1..=40 {
            served.insert(address(n));
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
            served.insert(address(n));
        }
        assert_eq!(selection(&served, 0).len(), MOST_OF_GROUP);
        for (all, answered) in [(10, 10), (100, 32), (400, 92), (3_000, 250)] {
            let mut served = Served::default();
            // Each in a /16 of its own.
            for n in 0..all {
                served.insert(crate::dial::tests::peer_at(n, &format!("{}.{}.0.1:1", 30 + n / 200, n % 200)));
            }
            assert_eq!(selection(&served, 9_999).len(), answered, "{all}");
        }
    }
}
