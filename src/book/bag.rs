//! A set of slots to draw from at random, at a cost that does not grow with it.

use std::collections::HashMap;

use rand::{RngExt, rngs::StdRng, seq::index};

#[derive(Clone, Debug, Default)]
pub(crate) struct Bag {
    slots: Vec<usize>,
    /// Where each of them is.
    place: HashMap<usize, usize>,
}

impl Bag {
    /// `false` if it was in already.
    pub(crate) fn insert(&mut self, slot: usize) -> bool {
        if self.place.contains_key(&slot) {
            return false;
        }
        self.place.insert(slot, self.slots.len());
        self.slots.push(slot);
        true
    }

    /// `false` if it was not in.
    pub(crate) fn remove(&mut self, slot: usize) -> bool {
        let Some(place) = self.place.remove(&slot) else { return false };
        self.slots.swap_remove(place);
        if let Some(moved) = self.slots.get(place) {
            self.place.insert(*moved, place);
        }
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn pick(&self, rng: &mut StdRng) -> Option<usize> {
        (!self.slots.is_empty()).then(|| self.slots[rng.random_range(0..self.slots.len())])
    }

    /// Different slots in random order: `amount`, or all if there are fewer.
    pub(crate) fn sample(&self, amount: usize, rng: &mut StdRng) -> impl Iterator<Item = usize> {
        let drawn = index::sample(rng, self.len(), amount.min(self.len()));
        drawn.into_iter().map(|place| self.slots[place])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn draws_are_of_what_is_in_and_differ() {
        let (mut bag, mut rng) = (Bag::default(), StdRng::seed_from_u64(1));
        assert_eq!((bag.pick(&mut rng), bag.sample(3, &mut rng).count()), (None, 0));
        for slot in 0..100 {
            assert!(bag.insert(slot) && !bag.insert(slot));
        }
        for slot in (0..100).step_by(2) {
            assert!(bag.remove(slot) && !bag.remove(slot));
        }
        let odd: BTreeSet<usize> = (0..100).filter(|slot| slot % 2 == 1).collect();
        assert_eq!(bag.sample(1_000, &mut rng).collect::<BTreeSet<_>>(), odd);
        assert_eq!(bag.sample(20, &mut rng).collect::<BTreeSet<_>>().len(), 20);
        let picked: BTreeSet<usize> = (0..2_000).filter_map(|_| bag.pick(&mut rng)).collect();
        assert_eq!(picked, odd);
    }
}
