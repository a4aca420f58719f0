//! The addresses that we reached, by network and host, and draws from them in which none has much more than its part: one host can listen on
//! ten thousand ports, one network has many hosts. What a draw costs grows with the draw.

use std::{collections::HashMap, hash::Hash, net::IpAddr};

use rand::{rngs::StdRng, seq::SliceRandom, seq::index};

use super::sources::Source;

/// Part of a draw, in percent, that one network has as long as others fill the rest, and one host as soon as there is another.
const MOST_PERCENT: usize = 10;

/// Where an address is: its network, and within it the host. In a private network that the book is meant for, every peer is a network.
pub(crate) type Place = (Source, Option<IpAddr>);

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crowds {
    networks: Dense<Source, Dense<Option<IpAddr>, Vec<usize>>>,
    hosts: usize,
}

impl Crowds {
    /// Adds a slot that is not in.
    pub(crate) fn insert(&mut self, (network, host): Place, slot: usize) {
        let hosts = self.networks.entry(network);
        let before = hosts.items.len();
        hosts.entry(host).push(slot);
        self.hosts += hosts.items.len() - before;
    }

    /// Takes a slot out, if it is in.
    pub(crate) fn remove(&mut self, (network, host): Place, slot: usize) {
        let Some(hosts) = self.networks.get_mut(&network) else { return };
        let Some(held) = hosts.get_mut(&host) else { return };
        let Some(at) = held.iter().position(|held| *held == slot) else { return };
        held.swap_remove(at);
        if held.is_empty() {
            hosts.remove(&host);
            self.hosts -= 1;
        }
        if hosts.items.is_empty() {
            self.networks.remove(&network);
        }
    }

    /// Up to `size` different slots in random order, of each network about as many as of any other. A network has more than a tenth of
    /// `size` only if the others have no more; a host has never more than a tenth of the draw, which is the shorter for it, unless it is alone.
    pub(crate) fn draw(&self, size: usize, rng: &mut StdRng) -> Vec<usize> {
        let part = |of: usize| (of * MOST_PERCENT / 100).max(1);
        let most_of_host = if self.hosts == 1 { size } else { part(self.hosts.min(size)) };
        let drawn: Vec<_> = sample(&self.networks.items, size, rng).collect();
        let room = |most| drawn.iter().map(|(_, hosts)| room(hosts, most_of_host, most)).collect::<Vec<_>>();
        let mut rooms = room(part(size));
        if rooms.iter().sum::<usize>() < size {
            rooms = room(size);
        }
        let mut slots = Vec::with_capacity(size);
        for ((_, hosts), share) in drawn.iter().zip(level(size, &rooms)) {
            let drawn: Vec<_> = sample(&hosts.items, share, rng).collect();
            let rooms: Vec<_> = drawn.iter().map(|(_, held)| held.len().min(most_of_host)).collect();
            for ((_, held), share) in drawn.iter().zip(level(share, &rooms)) {
                slots.extend(sample(held, share, rng));
            }
        }
        slots.shuffle(rng);
        slots
    }

    #[cfg(test)]
    pub(crate) fn check(&self, mut expected: Vec<(Place, usize)>) {
        let all = self.networks.items.iter().flat_map(|(network, hosts)| {
            hosts.items.iter().flat_map(|(host, held)| held.iter().map(|slot| ((*network, *host), *slot)))
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(_, slot)| *slot);
        expected.sort_by_key(|(_, slot)| *slot);
        assert_eq!(all, expected);
        assert_eq!(self.networks.items.iter().map(|(_, hosts)| hosts.items.len()).sum::<usize>(), self.hosts);
        assert!(self.networks.items.iter().all(|(_, hosts)| hosts.items.iter().all(|(_, held)| !held.is_empty())));
    }
}

/// How many slots a network can give if no host gives more than `most_of_host`; it is not counted beyond `enough`.
fn room(hosts: &Dense<Option<IpAddr>, Vec<usize>>, most_of_host: usize, enough: usize) -> usize {
    let mut room = 0;
    for (_, held) in &hosts.items {
        room += held.len().min(most_of_host);
        if room >= enough {
            return enough;
        }
    }
    room
}

/// Shares of `amount` that are as equal as the rooms allow.
fn level(amount: usize, rooms: &[usize]) -> Vec<usize> {
    let (mut shares, mut left) = (vec![0; rooms.len()], amount);
    let mut open: Vec<usize> = (0..rooms.len()).filter(|at| rooms[*at] > 0).collect();
    while left > 0 && !open.is_empty() {
        for at in open.iter().take(left) {
            shares[*at] += 1;
        }
        left -= left.min(open.len());
        open.retain(|at| shares[*at] < rooms[*at]);
    }
    shares
}

/// Up to `amount` different ones in random order.
fn sample<'a, T>(of: &'a [T], amount: usize, rng: &mut StdRng) -> impl Iterator<Item = &'a T> + use<'a, T> {
    index::sample(rng, of.len(), amount.min(of.len())).into_iter().map(|at| &of[at])
}

/// A map that can be drawn from.
#[derive(Clone, Debug)]
struct Dense<K, V> {
    items: Vec<(K, V)>,
    at: HashMap<K, usize>,
}

impl<K, V> Default for Dense<K, V> {
    fn default() -> Self {
        Dense { items: Vec::new(), at: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash, V: Default> Dense<K, V> {
    fn entry(&mut self, key: K) -> &mut V {
        let at = *self.at.entry(key).or_insert(self.items.len());
        if at == self.items.len() {
            self.items.push((key, V::default()));
        }
        &mut self.items[at].1
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = *self.at.get(key)?;
        Some(&mut self.items[at].1)
    }

    fn remove(&mut self, key: &K) {
        let Some(at) = self.at.remove(key) else { return };
        self.items.swap_remove(at);
        if let Some((moved, _)) = self.items.get(at) {
            self.at.insert(*moved, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;
    use crate::book::Group;

    fn place(network: u8, host: u8) -> Place {
        (Source::Network(Group::V4([44, network])), Some([44, network, 0, host].into()))
    }

    /// `networks` of so many hosts and ports each; slots are numbered from 0 on.
    fn crowds(networks: &[(u8, usize)]) -> Crowds {
        let (mut crowds, mut slot) = (Crowds::default(), 0);
        for (network, (hosts, ports)) in (0..).zip(networks) {
            for host in 0..*hosts {
                for _ in 0..*ports {
                    crowds.insert(place(network, host), slot);
                    slot += 1;
                }
            }
        }
        crowds
    }

    #[test]
    fn a_draw_is_shared_out_among_networks_and_hosts() {
        // (networks: hosts, ports), draw, how many of the first network, how many in all
        let tens = |n: usize, first| [vec![first], vec![(1, 1); n]].concat();
        for (networks, size, first, all) in [
            (vec![], 32, 0, 0),
            (vec![(1, 5)], 32, 5, 5),
            (vec![(1, 100)], 32, 32, 32),
            // One host of many ports among others has a tenth, whatever the answer could hold.
            (tens(100, (1, 10_000)), 250, 10, 110),
            (tens(10, (1, 10_000)), 250, 1, 11),
            // A network of many hosts has a tenth if others fill the rest, and what is left if they do not.
            (vec![(100, 1); 10], 100, 10, 100),
            (vec![(200, 1), (40, 1), (40, 1)], 100, 34, 100),
            (tens(10, (200, 1)), 100, 90, 100),
            (tens(100, (200, 3)), 100, 1, 100),
        ] {
            let (crowds, mut rng) = (crowds(&networks), StdRng::seed_from_u64(1));
            let of_first = networks.first().map_or(0, |(hosts, ports)| usize::from(*hosts) * ports);
            for _ in 0..20 {
                let draw = crowds.draw(size, &mut rng);
                assert_eq!(draw.iter().collect::<BTreeSet<_>>().len(), draw.len(), "they differ");
                let theirs = draw.iter().filter(|slot| **slot < of_first).count();
                assert!(theirs.abs_diff(first) <= 1 && draw.len().abs_diff(all) <= 1, "{theirs} of {}", draw.len());
            }
        }
    }

    #[test]
    fn what_is_taken_out_is_not_drawn() {
        let (mut crowds, mut rng) = (crowds(&[(3, 4), (1, 1)]), StdRng::seed_from_u64(1));
        for slot in [12, 0, 1, 2, 3, 3] {
            crowds.remove(place(u8::from(slot == 12), 0), slot);
        }
        crowds.check((4..12).map(|slot| (place(0, (slot / 4) as u8), slot)).collect());
        assert!(crowds.draw(250, &mut rng).iter().all(|slot| (4..12).contains(slot)));
    }
}
