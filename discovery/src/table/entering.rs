//! Who comes into a bucket and who goes out of one: places, replacements, and the share of each network.

use std::time::{Instant, SystemTime};

use rand::RngExt;

use super::revalidation::Pace;
use super::{Entry, NotAdded, Seed, Table, TableEvent};
use crate::key::NodeId;
use crate::record::NodeRecord;

/// Smallest bucket, as a fraction of its size, in which `findnode` failures remove a node (go-ethereum
/// `bucketSize/4`): a small network must not be forgotten because it has nothing to tell.
const USABLE_BUCKET_DIVISOR: usize = 4;

impl Table {
    /// A node somebody told us of: a neighbour, a bootnode, a seed. It enters unverified and is checked soon.
    ///
    /// # Errors
    /// Why it is not in a bucket because of this call.
    pub fn add_found(&mut self, now: Instant, record: &NodeRecord) -> Result<(), NotAdded> {
        self.add(now, record, false)
    }

    /// Nodes of an earlier run, for every refresh that starts with an empty table: at most
    /// [`FRESHEST_SEEDS`](super::FRESHEST_SEEDS) and [`SEED_COUNT`](super::SEED_COUNT), those that answered last, and none
    /// that did not answer within [`SEED_MAX_AGE`](super::SEED_MAX_AGE).
    pub fn remember(&mut self, wall: SystemTime, seeds: Vec<Seed>) {
        self.seeds.restore(seeds, &self.local, wall);
    }

    /// A record that the node itself has sent. Taken if the node is in a bucket and the record is newer.
    pub fn update(&mut self, now: Instant, record: &NodeRecord) {
        self.bump(now, record, false);
    }

    pub(super) fn add(&mut self, now: Instant, record: &NodeRecord, inbound: bool) -> Result<(), NotAdded> {
        let id = record.id();
        if id == self.local {
            return Err(NotAdded::Own);
        }
        let Some(bucket) = self.bucket(&id) else { return Err(NotAdded::Own) };
        let is_full = bucket.entries.len() >= self.config.bucket_size;
        if bucket.get(&id).is_some() {
            self.bump(now, record, inbound);
            if let Some(entry) = self.bucket_mut(&id).and_then(|bucket| bucket.get_mut(&id)) {
                let is_promoted = entry.inbound && !inbound;
                entry.inbound &= inbound;
                if is_promoted && entry.live {
                    let alive = entry.alive();
                    self.events.push_back(alive);
                }
            }
            return Err(NotAdded::Known);
        }
        let guest = if inbound { self.place_for_guest(record) } else { None };
        if guest == Some(false) {
            return Err(NotAdded::InboundShare);
        }
        if is_full {
            self.add_replacement(record);
            self.challenge_oldest(now, &id);
            return Err(NotAdded::BucketFull);
        }
        // A replacement that comes in keeps its place in the counts, unless its address has changed.
        let replaced = self.bucket_mut(&id).and_then(|bucket| bucket.remove_replacement(&id));
        if let Some(old) = &replaced {
            self.uncount(old);
        }
        if !self.fits(record) {
            return Err(NotAdded::SubnetLimit);
        }
        self.count(record);
        self.insert(now, record.clone(), guest.is_some());
        Ok(())
    }

    fn add_replacement(&mut self, record: &NodeRecord) {
        let (id, limit) = (record.id(), self.config.replacements);
        let is_there = self.bucket(&id).is_some_and(|bucket| bucket.replacement(&id).is_some());
        if is_there || !self.fits(record) {
            return;
        }
        self.count(record);
        if let Some(oldest) = self.bucket_mut(&id).and_then(|bucket| bucket.push_replacement(record.clone(), limit)) {
            self.uncount(&oldest);
        }
    }

    /// Puts a counted node into its bucket.
    fn insert(&mut self, now: Instant, record: NodeRecord, inbound: bool) {
        let id = record.id();
        if let Some(bucket) = self.bucket_mut(&id) {
            bucket.entries.push(Entry::new(record.clone(), now, inbound));
        }
        self.len = self.len.saturating_add(1);
        self.revalidation.put(now, id, Pace::New, &mut self.rng);
        self.events.push_back(TableEvent::Added(record));
    }

    /// Updates the record of a node in its bucket. The node itself (`inbound`) may change anything, others only
    /// bring a newer signed record. A new endpoint has to prove itself again.
    ///
    /// Unlike go-ethereum, an unsigned record of the endpoint we have does not replace a signed one: it says less.
    fn bump(&mut self, now: Instant, record: &NodeRecord, inbound: bool) {
        let id = record.id();
        let Some(entry) = self.bucket(&id).and_then(|bucket| bucket.get(&id)) else { return };
        let old = entry.record.clone();
        let moved = record.endpoint() != old.endpoint();
        let news = record.seq() > old.seq() || (inbound && (moved || old.enr().is_none()));
        if !news || *record == old {
            return;
        }
        if record.ip() != old.ip() {
            self.uncount(&old);
            let fits = self.fits(record);
            self.count(if fits { record } else { &old });
            if !fits {
                return;
            }
        }
        if let Some(entry) = self.bucket_mut(&id).and_then(|bucket| bucket.get_mut(&id)) {
            entry.record = record.clone();
            if moved {
                entry.live = false;
                entry.seen = None;
            }
        }
        if moved {
            self.revalidation.put(now, id, Pace::Fast, &mut self.rng);
        }
    }

    /// Takes a node out of its bucket; a random replacement takes its place.
    pub(super) fn remove(&mut self, now: Instant, id: &NodeId) {
        let Some(entry) = self.bucket_mut(id).and_then(|bucket| bucket.remove(id)) else { return };
        self.len = self.len.saturating_sub(1);
        self.uncount(&entry.record);
        self.revalidation.remove(id);
        if entry.seen.is_some() {
            self.seeds.remember(entry.record.clone(), entry.inbound);
        }
        self.events.push_back(TableEvent::Removed(entry.record));
        let waiting = self.bucket(id).map_or(0, |bucket| bucket.replacements.len());
        if waiting > 0 {
            let at = self.rng.random_range(0..waiting);
            if let Some(bucket) = self.bucket_mut(id) {
                let replacement = bucket.replacements.remove(at);
                self.insert(now, replacement, false);
            }
        }
        if self.len == 0 {
            self.refresh.table_became_empty(now, &mut self.rng);
        }
    }

    /// `failures` consecutive `findnode` requests to a node have brought nothing. Where its bucket can do without it, it
    /// goes; elsewhere it is checked soon.
    pub fn find_failed(&mut self, now: Instant, id: &NodeId, failures: u32) {
        let usable = self.config.bucket_size.checked_div(USABLE_BUCKET_DIVISOR).unwrap_or(0);
        let Some(bucket) = self.bucket(id).filter(|bucket| bucket.get(id).is_some()) else { return };
        if failures < self.config.find_failures {
            return;
        }
        match bucket.entries.len() >= usable {
            true => self.remove(now, id),
            false => self.revalidation.put(now, *id, Pace::Fast, &mut self.rng),
        }
    }
}
