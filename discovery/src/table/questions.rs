//! What can be asked of a table: who is there, who is closest to a target, who is worth trying at random.

use rand::seq::SliceRandom;

use super::bucket::Entry;
use super::distance::{Closest, bucket_index};
use super::{Table, TableConfig};
use crate::key::NodeId;
use crate::record::NodeRecord;

/// Which nodes a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// Live nodes only: what is told to others. Where none is live, nothing is told. go-ethereum (`preferLive`) then tells
    /// of nodes that have never answered it: so a node that has just started, or lost its network, passes on what one
    /// liar told it, and has strangers ping whomever the liar wants. Silence costs nothing: whoever asks has other
    /// nodes, and ours are checked within seconds.
    Live,
    /// Nodes that our lookups have found; where these are too few, guests too (`guests.rs`): where our lookups start. Those
    /// who only contacted us are not asked where to go, or an attacker that pings us would lead them.
    Found,
    /// All of them.
    All,
}

impl Table {
    /// Its sizes and times.
    pub fn config(&self) -> &TableConfig {
        &self.config
    }

    /// Nodes every refresh starts from.
    pub fn bootnodes(&self) -> &[NodeRecord] {
        &self.bootnodes
    }

    /// Nodes in buckets.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bucket holds a node.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry of a node in a bucket.
    pub fn get(&self, id: &NodeId) -> Option<&Entry> {
        self.bucket(id)?.get(id)
    }

    /// The record of a node in a bucket or among the replacements: spares parsing what is known.
    pub fn record(&self, id: &NodeId) -> Option<&NodeRecord> {
        let bucket = self.bucket(id)?;
        bucket.get(id).map(Entry::record).or_else(|| bucket.replacement(id))
    }

    /// All nodes in buckets, the farthest bucket last.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flat_map(|bucket| &bucket.entries)
    }

    /// All replacements.
    pub fn replacements(&self) -> impl Iterator<Item = &NodeRecord> {
        self.buckets.iter().flat_map(|bucket| &bucket.replacements)
    }

    /// At most `count` nodes closest to `target`, closest first.
    pub fn closest(&self, target: &NodeId, count: usize, prefer: Prefer) -> Vec<NodeRecord> {
        let closest = match prefer {
            Prefer::Live => self.closest_of(target, count, |entry| entry.live),
            Prefer::Found => Some(self.closest_of(target, count, |entry| !entry.inbound))
                .filter(Closest::is_full)
                .unwrap_or_else(|| self.closest_of(target, count, |_| true)),
            Prefer::All => self.closest_of(target, count, |_| true),
        };
        closest.into_nodes()
    }

    fn closest_of(&self, target: &NodeId, count: usize, wanted: impl Fn(&Entry) -> bool) -> Closest<'_> {
        let mut closest = Closest::new(*target, count);
        // Nodes in the target's own bucket are closer to it than all others; those in the buckets before are as far
        // as the target is from us; each bucket after is farther than the one before it.
        let at = bucket_index(self.local.log_distance(target), self.buckets.len());
        let (before, rest) = self.buckets.split_at_checked(at).unwrap_or_default();
        let (own, after) = rest.split_at_checked(1).unwrap_or_default();
        for group in [own, before].into_iter().chain(after.chunks(1)) {
            for entry in group.iter().flat_map(|bucket| &bucket.entries).filter(|entry| wanted(entry)) {
                closest.push(&entry.record);
            }
            if closest.is_full() {
                break;
            }
        }
        closest
    }

    /// At most `count` random nodes, each bucket giving in turn, so that the few close ones come up as often as the
    /// many far ones (go-ethereum `ReadRandomNodes`). Nothing before the first refresh is done.
    pub fn random_nodes(&mut self, count: usize) -> Vec<NodeRecord> {
        if !self.is_initialised() {
            return Vec::new();
        }
        let mut piles: Vec<Vec<NodeRecord>> = self
            .buckets
            .iter()
            .filter(|bucket| !bucket.entries.is_empty())
            .map(|bucket| bucket.entries.iter().map(|entry| entry.record.clone()).collect())
            .collect();
        piles.shuffle(&mut self.rng);
        piles.iter_mut().for_each(|pile| pile.shuffle(&mut self.rng));
        let mut nodes = Vec::new();
        while nodes.len() < count && !piles.is_empty() {
            let room = count.saturating_sub(nodes.len());
            nodes.extend(piles.iter_mut().filter_map(Vec::pop).take(room));
            piles.retain(|pile| !pile.is_empty());
        }
        nodes
    }
}
