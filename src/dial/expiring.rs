//! A small bounded set of keys with a deadline each: the dial history and the cool-down after a disconnect.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    time::Instant,
};

/// Keys, each until its deadline. When full, the key that would end first makes room.
#[derive(Debug)]
pub(crate) struct Expiring<K> {
    until: HashMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
    capacity: usize,
}

impl<K: Clone + Eq + Hash + Ord> Expiring<K> {
    pub(crate) fn new(capacity: usize) -> Self {
        Expiring { until: HashMap::new(), order: BTreeSet::new(), capacity: capacity.max(1) }
    }

    /// Keeps `key` until `deadline`; a later deadline wins over an earlier one.
    pub(crate) fn insert(&mut self, key: K, deadline: Instant) {
        if let Some(&known) = self.until.get(&key) {
            if known >= deadline {
                return;
            }
            self.remove(&key);
        }
        if self.until.len() >= self.capacity
            && let Some((_, first)) = self.order.pop_first()
        {
            self.until.remove(&first);
        }
        self.order.insert((deadline, key.clone()));
        self.until.insert(key, deadline);
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(deadline) = self.until.remove(key) {
            self.order.remove(&(deadline, key.clone()));
        }
    }

    pub(crate) fn contains(&self, now: Instant, key: &K) -> bool {
        self.until.get(key).is_some_and(|&deadline| deadline > now)
    }

    /// Forgets what has ended.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((deadline, _)) = self.order.first()
            && *deadline <= now
        {
            if let Some((_, key)) = self.order.pop_first() {
                self.until.remove(&key);
            }
        }
    }

    pub(crate) fn deadline(&self, key: &K) -> Option<Instant> {
        self.until.get(key).copied()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.until.len(), self.order.len());
        self.until.len()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests: a fixed base for virtual time")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_ends_at_its_deadline_and_the_first_to_end_makes_room() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut set = Expiring::new(2);
        set.insert("a", at(10));
        set.insert("b", at(5));
        assert!(set.contains(at(4), &"b") && !set.contains(at(5), &"b"));
        set.insert("c", at(20));
        assert!(!set.contains(start, &"b"), "the third pushed out the one that ends first");
        set.insert("a", at(1));
        assert!(set.contains(at(9), &"a"), "an earlier deadline changes nothing");
        set.expire(at(10));
        assert_eq!((set.len(), set.deadline(&"c")), (1, Some(at(20))));
        set.remove(&"c");
        assert_eq!(set.len(), 0);
    }
}
