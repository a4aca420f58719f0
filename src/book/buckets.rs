//! Where addresses are kept: 256 "new" buckets for what we were told, 64 "old" ones for what we reached, 64 places in each.
//!
//! A keyed hash of the networks of an address and of who told us of it picks the bucket: whoever floods us from one network reaches 32 new
//! buckets of 256, and does not know which (CometBFT `addrbook.go`, after Bitcoin Core's addrman). The hash is HighwayHash-64 as there: fast,
//! and safe as long as the key is secret. The key is kept in the file (CometBFT makes a new one at every start), so a place outlives the process.

use std::{collections::HashMap, time::SystemTime};

use highway::{HighwayHash, HighwayHasher, Key};
use kadwire_wire::address::{PeerAddress, PeerId};
use sha2::{Digest, Sha256};

use super::{
    entry::{Entry, Kind, Origin},
    group::Group,
};

/// Buckets for addresses that we were told of (CometBFT, `newBucketCount`).
pub(crate) const NEW_BUCKETS: u16 = 256;

/// Buckets for addresses that we reached (CometBFT, `oldBucketCount`).
pub(crate) const OLD_BUCKETS: u16 = 64;

/// Places in a bucket (CometBFT, `newBucketSize` and `oldBucketSize`; it lets in 65).
pub(crate) const BUCKET_SIZE: usize = 64;

/// New buckets that addresses told from one network can get into (CometBFT, `newBucketsPerGroup`).
const NEW_PER_GROUP: u64 = 32;

/// Old buckets that addresses of one network can get into (CometBFT, `oldBucketsPerGroup`).
const OLD_PER_GROUP: u64 = 4;

/// New buckets that one address may be in (CometBFT, `maxNewBucketsPerAddress`).
pub(crate) const MAX_BUCKETS_PER_ADDRESS: usize = 4;

/// Picks buckets by a keyed hash.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    key: Key,
    strict: bool,
}

impl Placement {
    /// `key` is the text in the file, of whatever length.
    pub(crate) fn new(key: &str, strict: bool) -> Self {
        let mut words = [0_u64; 4];
        for (word, bytes) in words.iter_mut().zip(Sha256::digest(key.as_bytes()).chunks_exact(8)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        Placement { key: Key(words), strict }
    }

    fn hash(&self, parts: [&[u8]; 2]) -> u64 {
        let mut hasher = HighwayHasher::new(self.key);
        for part in parts {
            // The length keeps two different pairs from running into the same bytes.
            hasher.append(&[u8::try_from(part.len()).unwrap_or(u8::MAX)]);
            hasher.append(part);
        }
        hasher.finalize64()
    }

    pub(crate) fn new_bucket(&self, address: &PeerAddress, origin: &Origin) -> u16 {
        let source = origin.group(self.strict).bytes();
        let one_of = self.hash([&Group::of(address, self.strict).bytes(), &source]) % NEW_PER_GROUP;
        (self.hash([&source, &one_of.to_be_bytes()]) % u64::from(NEW_BUCKETS)) as u16
    }

    pub(crate) fn old_bucket(&self, address: &PeerAddress) -> u16 {
        let one_of = self.hash([address.to_string().as_bytes(), &[]]) % OLD_PER_GROUP;
        let group = Group::of(address, self.strict).bytes();
        (self.hash([&group, &one_of.to_be_bytes()]) % u64::from(OLD_BUCKETS)) as u16
    }
}

/// All addresses with their places: at most (256 + 64) × 64 = 20,480. Every entry is in at least one bucket.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    /// Dense, so that a random choice among all is cheap; buckets hold indexes into it.
    entries: Vec<Entry>,
    by_id: HashMap<PeerId, usize>,
    new: Vec<Vec<usize>>,
    old: Vec<Vec<usize>>,
    old_count: usize,
    placement: Placement,
}

impl Buckets {
    pub(crate) fn new(placement: Placement) -> Self {
        Buckets {
            entries: Vec::new(),
            by_id: HashMap::new(),
            new: vec![Vec::new(); usize::from(NEW_BUCKETS)],
            old: vec![Vec::new(); usize::from(OLD_BUCKETS)],
            old_count: 0,
            placement,
        }
    }

    pub(crate) fn placement(&self) -> &Placement {
        &self.placement
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn old_len(&self) -> usize {
        self.old_count
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn get(&self, id: &PeerId) -> Option<&Entry> {
        self.entries.get(*self.by_id.get(id)?)
    }

    /// To change the record of an entry; its place and address are changed by the other methods only.
    pub(crate) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Entry> {
        self.entries.get_mut(*self.by_id.get(id)?)
    }

    /// The entries of each bucket of a kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> &[Vec<usize>] {
        match kind {
            Kind::New => &self.new,
            Kind::Old => &self.old,
        }
    }

    /// Puts an unknown address into its new bucket, where a bad or long untried one makes room if there is none.
    pub(crate) fn insert(&mut self, now: SystemTime, mut entry: Entry) {
        let bucket = self.placement.new_bucket(&entry.address, &entry.origin);
        self.make_room(now, bucket);
        entry.kind = Kind::New;
        entry.buckets = vec![bucket];
        self.push(entry);
    }

    /// Puts an unknown address that we reached into its old bucket.
    pub(crate) fn insert_old(&mut self, now: SystemTime, mut entry: Entry) {
        let bucket = self.placement.old_bucket(&entry.address);
        self.demote_oldest(now, bucket, None);
        entry.kind = Kind::Old;
        entry.buckets = vec![bucket];
        self.push(entry);
    }

    /// Takes a saved entry back into its saved places, as far as they exist and have room; without any, into another bucket of its kind.
    /// `false` if none has room.
    pub(crate) fn restore(&mut self, mut entry: Entry) -> bool {
        let (own, most) = match entry.kind {
            Kind::New => (self.placement.new_bucket(&entry.address, &entry.origin), MAX_BUCKETS_PER_ADDRESS),
            Kind::Old => (self.placement.old_bucket(&entry.address), 1),
        };
        let buckets = self.of_kind(entry.kind);
        let has_room = |bucket: &u16| buckets.get(usize::from(*bucket)).is_some_and(|held| held.len() < BUCKET_SIZE);
        entry.buckets.sort_unstable();
        entry.buckets.dedup();
        entry.buckets.retain(has_room);
        entry.buckets.truncate(most);
        if entry.buckets.is_empty() {
            let all = u16::try_from(buckets.len()).unwrap_or(u16::MAX);
            entry.buckets.extend((0..all).map(|step| (own + step) % all).find(has_room));
        }
        let placed = !entry.buckets.is_empty();
        if placed {
            self.push(entry);
        }
        placed
    }

    /// Puts a known new address into one more bucket, as told by another source.
    pub(crate) fn insert_again(&mut self, now: SystemTime, id: &PeerId, bucket: u16) {
        let Some(entry) = self.get(id) else { return };
        if entry.kind == Kind::Old || entry.buckets.contains(&bucket) || entry.buckets.len() >= MAX_BUCKETS_PER_ADDRESS
        {
            return;
        }
        self.make_room(now, bucket);
        // Making room may have moved the entry.
        let Some(&at) = self.by_id.get(id) else { return };
        self.entries[at].buckets.push(bucket);
        self.new[usize::from(bucket)].push(at);
    }

    /// Moves a new address to its old bucket. If that is full, its longest untried address goes back to a new bucket, and if its own there
    /// is full too, to the one that has just become free: nothing is lost. (CometBFT drops an address here.)
    pub(crate) fn promote(&mut self, now: SystemTime, id: &PeerId) {
        let Some(&at) = self.by_id.get(id) else { return };
        if self.entries[at].kind == Kind::Old {
            return;
        }
        let freed = std::mem::take(&mut self.entries[at].buckets);
        for bucket in &freed {
            self.new[usize::from(*bucket)].retain(|held| *held != at);
        }
        let bucket = self.placement.old_bucket(&self.entries[at].address);
        self.demote_oldest(now, bucket, freed.first().copied());
        let Some(&at) = self.by_id.get(id) else { return };
        self.entries[at].kind = Kind::Old;
        self.entries[at].buckets.push(bucket);
        self.old[usize::from(bucket)].push(at);
        self.old_count += 1;
    }

    fn demote_oldest(&mut self, now: SystemTime, bucket: u16, freed: Option<u16>) {
        if self.old[usize::from(bucket)].len() < BUCKET_SIZE {
            return;
        }
        let oldest = self.old[usize::from(bucket)].iter().copied().min_by_key(|at| self.entries[*at].last_attempt);
        let Some(at) = oldest else { return };
        let own = self.placement.new_bucket(&self.entries[at].address, &self.entries[at].origin);
        let target = if self.new[usize::from(own)].len() < BUCKET_SIZE { own } else { freed.unwrap_or(own) };
        self.old[usize::from(bucket)].retain(|held| *held != at);
        self.old_count -= 1;
        let id = self.entries[at].address.id();
        self.entries[at].kind = Kind::New;
        self.entries[at].buckets.clear();
        self.make_room(now, target);
        let Some(&at) = self.by_id.get(&id) else { return };
        self.entries[at].buckets.push(target);
        self.new[usize::from(target)].push(at);
    }

    /// Forgets an address.
    pub(crate) fn remove(&mut self, id: &PeerId) -> Option<Entry> {
        let at = *self.by_id.get(id)?;
        let (kind, buckets) = (self.entries[at].kind, self.entries[at].buckets.clone());
        for bucket in buckets {
            self.held_mut(kind, bucket).retain(|held| *held != at);
        }
        Some(self.take(at))
    }

    /// Makes room in a new bucket: a bad address leaves it, or else the one untried for longest.
    fn make_room(&mut self, now: SystemTime, bucket: u16) {
        let held = &self.new[usize::from(bucket)];
        if held.len() < BUCKET_SIZE {
            return;
        }
        let bad = held.iter().copied().find(|at| self.entries[*at].is_bad(now));
        let oldest = || held.iter().copied().min_by_key(|at| self.entries[*at].last_attempt);
        let Some(at) = bad.or_else(oldest) else { return };
        self.new[usize::from(bucket)].retain(|held| *held != at);
        self.entries[at].buckets.retain(|held| *held != bucket);
        if self.entries[at].buckets.is_empty() {
            self.take(at);
        }
    }

    fn push(&mut self, entry: Entry) {
        let at = self.entries.len();
        self.old_count += usize::from(entry.kind == Kind::Old);
        for bucket in &entry.buckets {
            match entry.kind {
                Kind::New => self.new[usize::from(*bucket)].push(at),
                Kind::Old => self.old[usize::from(*bucket)].push(at),
            }
        }
        self.by_id.insert(entry.address.id(), at);
        self.entries.push(entry);
    }

    /// Takes out an entry that is in no bucket any more; the last one moves to its index.
    fn take(&mut self, at: usize) -> Entry {
        let entry = self.entries.swap_remove(at);
        self.old_count -= usize::from(entry.kind == Kind::Old);
        self.by_id.remove(&entry.address.id());
        let last = self.entries.len();
        if let Some(moved) = self.entries.get(at) {
            self.by_id.insert(moved.address.id(), at);
            let (kind, buckets) = (moved.kind, moved.buckets.clone());
            for bucket in buckets {
                self.held_mut(kind, bucket).iter_mut().filter(|held| **held == last).for_each(|held| *held = at);
            }
        }
        entry
    }

    fn held_mut(&mut self, kind: Kind, bucket: u16) -> &mut Vec<usize> {
        match kind {
            Kind::New => &mut self.new[usize::from(bucket)],
            Kind::Old => &mut self.old[usize::from(bucket)],
        }
    }

    /// Panics unless every index, count and bound holds.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        assert_eq!(self.by_id.len(), self.entries.len());
        let mut old = 0;
        for (at, entry) in self.entries.iter().enumerate() {
            assert_eq!(self.by_id[&entry.address.id()], at);
            let most = if entry.kind == Kind::New { MAX_BUCKETS_PER_ADDRESS } else { 1 };
            assert!((1..=most).contains(&entry.buckets.len()), "{entry:?}");
            old += usize::from(entry.kind == Kind::Old);
            for bucket in &entry.buckets {
                let held = &self.of_kind(entry.kind)[usize::from(*bucket)];
                assert_eq!(held.iter().filter(|held| **held == at).count(), 1);
            }
        }
        assert_eq!(old, self.old_count);
        let held: usize = self.new.iter().chain(&self.old).map(Vec::len).sum();
        assert_eq!(held, self.entries.iter().map(|entry| entry.buckets.len()).sum::<usize>());
        assert!(self.new.iter().chain(&self.old).all(|held| held.len() <= BUCKET_SIZE));
    }
}
