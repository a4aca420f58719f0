//! Who told us of the addresses that are not in old buckets. Every source weighs about the same, however much it says: whoever tells us of
//! 100,000 addresses is dialed and passed on no more than whoever told us of ten.
//!
//! CometBFT has no such rule: there one source fills 32 of 256 new buckets, and with them an eighth of the dials and up to 86 % of the gossip
//! (measured; `docs/attacks.md`).

use std::collections::HashMap;

use kadwire_wire::address::PeerId;
use rand::{RngExt, rngs::StdRng, seq::index};

use super::{bag::Bag, group::Group};

/// What counts as one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// All peers of one network: identities are free, networks are not.
    Network(Group),
    /// One peer of a private network that the book is meant for, where all are in the same one.
    Peer(PeerId),
}

/// Addresses of one source that count when the book asks itself whether it has enough, and how likely it dials what it was told of.
/// CometBFT's largest answer; a quarter of what the book wants.
const MOST_COUNTED: usize = 250;

/// A source with this many addresses that we reached weighs [`MOST_WEIGHT`] times as much in dials as one with none.
const MOST_CREDIT: u32 = 8;

const MOST_WEIGHT: u32 = 1 + MOST_CREDIT;

/// Addresses looked at for each that is wanted, where some may not be passed on.
const LOOKS: usize = 4;

#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// Addresses in new buckets by who told us first; none of the bags is empty.
    told: Vec<(Source, Bag)>,
    at: HashMap<Source, usize>,
    /// Of all addresses that a source told us first, how many we reached.
    reached: HashMap<Source, u32>,
    counted: usize,
}

impl Sources {
    pub(crate) fn insert(&mut self, source: Source, slot: usize) {
        let at = *self.at.entry(source).or_insert(self.told.len());
        if at == self.told.len() {
            self.told.push((source, Bag::default()));
        }
        let (_, bag) = &mut self.told[at];
        if bag.insert(slot) && bag.len() <= MOST_COUNTED {
            self.counted += 1;
        }
    }

    pub(crate) fn remove(&mut self, source: Source, slot: usize) {
        let Some(&at) = self.at.get(&source) else { return };
        let (_, bag) = &mut self.told[at];
        if bag.remove(slot) && bag.len() < MOST_COUNTED {
            self.counted -= 1;
        }
        if bag.len() == 0 {
            self.told.swap_remove(at);
            self.at.remove(&source);
            if let Some((moved, _)) = self.told.get(at) {
                self.at.insert(*moved, at);
            }
        }
    }

    /// Notes that an address of this source was reached.
    pub(crate) fn credit(&mut self, source: Source) {
        *self.reached.entry(source).or_default() += 1;
    }

    /// Takes back one [`Sources::credit`]: the address is gone, or its record is.
    pub(crate) fn discredit(&mut self, source: Source) {
        if let Some(reached) = self.reached.get_mut(&source) {
            *reached -= 1;
            if *reached == 0 {
                self.reached.remove(&source);
            }
        }
    }

    /// How many sources there are.
    pub(crate) fn len(&self) -> usize {
        self.told.len()
    }

    /// How many addresses there are, with at most [`MOST_COUNTED`] of each source counted.
    pub(crate) fn counted(&self) -> usize {
        self.counted
    }

    /// A random address of a random source; one whose addresses proved true is up to nine times as likely as one that nothing is known of.
    pub(crate) fn pick(&self, rng: &mut StdRng) -> Option<usize> {
        if self.told.is_empty() {
            return None;
        }
        loop {
            let (source, bag) = &self.told[rng.random_range(0..self.told.len())];
            let credit = self.reached.get(source).map_or(0, |reached| (*reached).min(MOST_CREDIT));
            if rng.random_range(0..MOST_WEIGHT) <= credit {
                return bag.pick(rng);
            }
        }
    }

    /// Up to `amount` addresses that `may` be had, as many of each source as of any other, and at most `most`.
    pub(crate) fn sample(
        &self,
        amount: usize,
        most: usize,
        rng: &mut StdRng,
        may: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        let drawn = index::sample(rng, self.told.len(), self.told.len().min(amount));
        let mut shares: Vec<(&Bag, usize)> = drawn.into_iter().map(|at| (&self.told[at].1, 0)).collect();
        let mut left = amount;
        for round in 0..most {
            for (_, share) in shares.iter_mut().filter(|(bag, _)| bag.len() > round) {
                if left == 0 {
                    break;
                }
                *share += 1;
                left -= 1;
            }
        }
        let mut sample = Vec::with_capacity(amount - left);
        for (bag, share) in shares {
            sample.extend(bag.sample(share * LOOKS, rng).filter(|slot| may(*slot)).take(share));
        }
        sample
    }

    #[cfg(test)]
    pub(crate) fn check(&self, told: usize, reached: usize) {
        assert_eq!(self.told.iter().map(|(_, bag)| bag.len()).sum::<usize>(), told);
        assert_eq!(self.told.iter().map(|(_, bag)| bag.len().min(MOST_COUNTED)).sum::<usize>(), self.counted);
        assert_eq!(self.reached.values().sum::<u32>() as usize, reached);
        assert!(self.told.iter().enumerate().all(|(at, (source, bag))| self.at[source] == at && bag.len() > 0));
        assert_eq!(self.at.len(), self.told.len());
    }
}
