//! Where addresses are kept: 256 "new" buckets for what we were told, 64 "old" ones for what we reached, 64 places in each.
//!
//! A keyed hash of the networks of an address and of who told us of it picks the bucket: whoever floods us from one network reaches 32 new
//! buckets of 256, and does not know which (CometBFT `addrbook.go`, after Bitcoin Core's addrman). The hash is HighwayHash-64 as there: fast,
//! and safe as long as the key is secret. The key is kept in the file (CometBFT makes a new one at every start), so a place outlives the process.

use std::{cmp::Reverse, collections::HashMap, time::SystemTime};

use highway::{HighwayHash, HighwayHasher, Key};
use kadwire_wire::address::{PeerAddress, PeerId};
use sha2::{Digest, Sha256};

use super::{
    crowds::{Crowds, Place},
    entry::{Entry, Kind, Origin},
    group::{Group, host, is_routable},
    slots::Slots,
    sources::{Source, Sources},
};

/// Buckets for addresses that we were told of (CometBFT, `newBucketCount`).
pub(crate) const NEW_BUCKETS: u16 = 256;

/// Buckets for addresses that we reached (CometBFT, `oldBucketCount`).
pub(crate) const OLD_BUCKETS: u16 = 64;

/// Places in a bucket (CometBFT, `newBucketSize` and `oldBucketSize`; it lets in 65).
pub(crate) const BUCKET_SIZE: usize = 64;

/// New buckets that addresses told from one network can get into (CometBFT, `newBucketsPerGroup`).
pub(crate) const NEW_PER_GROUP: u64 = 32;

/// Old buckets that addresses of one network can get into (CometBFT, `oldBucketsPerGroup`).
pub(crate) const OLD_PER_GROUP: u64 = 4;

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
        self.new_bucket_of(&source, one_of)
    }

    fn new_bucket_of(&self, source: &[u8], one_of: u64) -> u16 {
        (self.hash([source, &one_of.to_be_bytes()]) % u64::from(NEW_BUCKETS)) as u16
    }

    /// All that addresses told from there can get into.
    fn new_buckets(&self, origin: &Origin) -> impl Iterator<Item = u16> + use<'_> {
        let source = origin.group(self.strict).bytes();
        (0..NEW_PER_GROUP).map(move |one_of| self.new_bucket_of(&source, one_of))
    }

    pub(crate) fn source_of(&self, entry: &Entry) -> Source {
        entry.origin.source(self.strict)
    }

    /// The network by which the addresses of one answer are limited; `None` for those of a private network that the book is meant for.
    pub(crate) fn limited_group(&self, address: &PeerAddress) -> Option<Group> {
        let exempt = !self.strict && address.ip().is_none_or(|ip| !is_routable(ip));
        (!exempt).then(|| Group::of(address, self.strict))
    }

    /// Where an address is, for [`Crowds`].
    fn place(&self, address: &PeerAddress) -> Place {
        let network = self.limited_group(address).map_or(Source::Peer(address.id()), Source::Network);
        (network, address.ip().map(host))
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
    /// Buckets and lists hold slots of it.
    slots: Slots,
    by_id: HashMap<PeerId, usize>,
    new: Vec<Vec<usize>>,
    old: Vec<Vec<usize>>,
    old_count: usize,
    /// Those that [`Entry::is_proven`], whatever their kind.
    proven: Crowds,
    /// Those in new buckets, by who told us of them.
    sources: Sources,
    placement: Placement,
}

impl Buckets {
    pub(crate) fn new(placement: Placement) -> Self {
        Buckets {
            slots: Slots::default(),
            by_id: HashMap::new(),
            new: vec![Vec::new(); usize::from(NEW_BUCKETS)],
            old: vec![Vec::new(); usize::from(OLD_BUCKETS)],
            old_count: 0,
            proven: Crowds::default(),
            sources: Sources::default(),
            placement,
        }
    }

    pub(crate) fn placement(&self) -> &Placement {
        &self.placement
    }

    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn old_len(&self) -> usize {
        self.old_count
    }

    pub(crate) fn proven(&self) -> &Crowds {
        &self.proven
    }

    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    pub(crate) fn get(&self, id: &PeerId) -> Option<&Entry> {
        self.slots.get(*self.by_id.get(id)?)
    }

    /// Changes the record of an entry; its place, address and origin are changed by the other methods only. `false` if it is not known.
    pub(crate) fn update(&mut self, id: &PeerId, change: impl FnOnce(&mut Entry)) -> bool {
        let Some(&at) = self.by_id.get(id) else { return false };
        self.unlist(at);
        change(&mut self.slots[at]);
        self.list(at);
        true
    }

    /// The entries of each bucket of a kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> &[Vec<usize>] {
        match kind {
            Kind::New => &self.new,
            Kind::Old => &self.old,
        }
    }

    /// Puts an unknown address into its new bucket, where another one makes room if there is none.
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
        entry.buckets.sort_unstable();
        entry.buckets.dedup();
        entry.buckets.retain(|bucket| self.has_room(entry.kind, *bucket));
        entry.buckets.truncate(most);
        if entry.buckets.is_empty() {
            entry.buckets.extend(self.room_near(entry.kind, own));
        }
        let placed = !entry.buckets.is_empty();
        if placed {
            self.push(entry);
        }
        placed
    }

    /// Puts a known new address into one more bucket, as told by another source.
    pub(crate) fn insert_again(&mut self, now: SystemTime, id: &PeerId, bucket: u16) {
        let Some(&at) = self.by_id.get(id) else { return };
        let entry = &self.slots[at];
        if entry.kind == Kind::Old || entry.buckets.contains(&bucket) || entry.buckets.len() >= MAX_BUCKETS_PER_ADDRESS
        {
            return;
        }
        self.make_room(now, bucket);
        self.slots[at].buckets.push(bucket);
        self.new[usize::from(bucket)].push(at);
    }

    /// Moves a new address to its old bucket. If that is full, its longest untried address goes back to a new bucket that its source can get
    /// into and that has room, or to the place that this one leaves: nothing is lost. (CometBFT drops an address here.)
    pub(crate) fn promote(&mut self, now: SystemTime, id: &PeerId) {
        let Some(&at) = self.by_id.get(id) else { return };
        if self.slots[at].kind == Kind::Old {
            return;
        }
        self.unlist(at);
        let left = std::mem::take(&mut self.slots[at].buckets);
        for bucket in &left {
            self.new[usize::from(*bucket)].retain(|held| *held != at);
        }
        let bucket = self.placement.old_bucket(&self.slots[at].address);
        self.demote_oldest(now, bucket, left.first().copied());
        let entry = &mut self.slots[at];
        (entry.kind, entry.buckets) = (Kind::Old, vec![bucket]);
        self.old[usize::from(bucket)].push(at);
        self.list(at);
    }

    /// Makes room in an old bucket. What leaves it stays within the new buckets of its source, or takes the place that was `left`: one
    /// host's ten thousand live identities do not spread over the book.
    fn demote_oldest(&mut self, now: SystemTime, bucket: u16, left: Option<u16>) {
        let held = &self.old[usize::from(bucket)];
        if held.len() < BUCKET_SIZE {
            return;
        }
        let Some(at) = held.iter().copied().min_by_key(|at| self.slots[*at].last_attempt) else { return };
        let entry = &self.slots[at];
        let own = self.placement.new_bucket(&entry.address, &entry.origin);
        let targets = [own].into_iter().chain(self.placement.new_buckets(&entry.origin)).chain(left);
        let target = { targets }.find(|bucket| self.has_room(Kind::New, *bucket)).unwrap_or(own);
        self.make_room(now, target);
        self.old[usize::from(bucket)].retain(|held| *held != at);
        self.unlist(at);
        let entry = &mut self.slots[at];
        (entry.kind, entry.buckets) = (Kind::New, vec![target]);
        self.new[usize::from(target)].push(at);
        self.list(at);
    }

    /// Forgets an address.
    pub(crate) fn remove(&mut self, id: &PeerId) -> Option<Entry> {
        let at = *self.by_id.get(id)?;
        let entry = &self.slots[at];
        for bucket in entry.buckets.clone() {
            let held = match entry.kind {
                Kind::New => &mut self.new[usize::from(bucket)],
                Kind::Old => &mut self.old[usize::from(bucket)],
            };
            held.retain(|held| *held != at);
        }
        Some(self.take(at))
    }

    /// Makes room in a new bucket: a bad address leaves it. If there is none, it is one that we never reached, of the source with the most
    /// of them in this bucket, and of those the one untried for longest: who floods a bucket drives out its own addresses. If we reached all
    /// of them, it is one of the network and host with the most. (CometBFT looks at the time only, so that its oldest and best go first.)
    fn make_room(&mut self, now: SystemTime, bucket: u16) {
        let held = &self.new[usize::from(bucket)];
        if held.len() < BUCKET_SIZE {
            return;
        }
        let bad = held.iter().copied().find(|at| self.slots[*at].is_bad(now));
        let Some(at) = bad.or_else(|| self.least_wanted(held)) else { return };
        self.new[usize::from(bucket)].retain(|held| *held != at);
        let entry = &mut self.slots[at];
        entry.buckets.retain(|held| *held != bucket);
        if entry.buckets.is_empty() {
            self.take(at);
        }
    }

    fn least_wanted(&self, held: &[usize]) -> Option<usize> {
        let told: Vec<usize> = held.iter().copied().filter(|at| self.slots[*at].last_success.is_none()).collect();
        if !told.is_empty() {
            return self.oldest_of_most(&told, |entry| self.placement.source_of(entry));
        }
        let network = |entry: &Entry| self.placement.place(&entry.address).0;
        let largest = network(&self.slots[self.oldest_of_most(held, network)?]);
        let held: Vec<usize> = held.iter().copied().filter(|at| network(&self.slots[*at]) == largest).collect();
        self.oldest_of_most(&held, |entry| self.placement.place(&entry.address))
    }

    /// Of those whose `key` most others have too, the one untried for longest. There are few keys where it matters.
    fn oldest_of_most<K: PartialEq>(&self, held: &[usize], key: impl Fn(&Entry) -> K) -> Option<usize> {
        let last_attempt = |at: usize| self.slots[at].last_attempt;
        // Key, how many have it, and the longest untried of them.
        let mut found: Vec<(K, usize, usize)> = Vec::new();
        for at in held.iter().copied() {
            let key = key(&self.slots[at]);
            match found.iter_mut().find(|(known, ..)| *known == key) {
                Some((_, count, oldest)) => {
                    *count += 1;
                    if last_attempt(at) < last_attempt(*oldest) {
                        *oldest = at;
                    }
                }
                None => found.push((key, 1, at)),
            }
        }
        let most = found.into_iter().max_by_key(|(_, count, oldest)| (*count, Reverse(last_attempt(*oldest))));
        most.map(|(.., oldest)| oldest)
    }

    fn has_room(&self, kind: Kind, bucket: u16) -> bool {
        self.of_kind(kind).get(usize::from(bucket)).is_some_and(|held| held.len() < BUCKET_SIZE)
    }

    /// `own` if it has room, or the next bucket that has.
    fn room_near(&self, kind: Kind, own: u16) -> Option<u16> {
        let all = match kind {
            Kind::New => NEW_BUCKETS,
            Kind::Old => OLD_BUCKETS,
        };
        (0..all).map(|step| (own + step) % all).find(|bucket| self.has_room(kind, *bucket))
    }

    fn push(&mut self, entry: Entry) {
        let (id, kind, buckets) = (entry.address.id(), entry.kind, entry.buckets.clone());
        let at = self.slots.insert(entry);
        for bucket in buckets {
            match kind {
                Kind::New => self.new[usize::from(bucket)].push(at),
                Kind::Old => self.old[usize::from(bucket)].push(at),
            }
        }
        self.by_id.insert(id, at);
        self.list(at);
    }

    /// Takes out an entry that is in no bucket any more.
    fn take(&mut self, at: usize) -> Entry {
        self.unlist(at);
        let entry = self.slots.remove(at);
        self.by_id.remove(&entry.address.id());
        entry
    }

    /// Puts an entry on the lists that it belongs to by its kind and record.
    fn list(&mut self, at: usize) {
        let entry = &self.slots[at];
        let source = self.placement.source_of(entry);
        match entry.kind {
            Kind::New => self.sources.insert(source, at),
            Kind::Old => self.old_count += 1,
        }
        if entry.last_success.is_some() {
            self.sources.credit(source);
        }
        if entry.is_proven() {
            self.proven.insert(self.placement.place(&entry.address), at);
        }
    }

    /// Undoes [`Buckets::list`], before kind or record change.
    fn unlist(&mut self, at: usize) {
        let entry = &self.slots[at];
        let source = self.placement.source_of(entry);
        match entry.kind {
            Kind::New => self.sources.remove(source, at),
            Kind::Old => self.old_count -= 1,
        }
        if entry.last_success.is_some() {
            self.sources.discredit(source);
        }
        self.proven.remove(self.placement.place(&entry.address), at);
    }

    /// Panics unless every index, count and bound holds.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        assert_eq!((self.by_id.len(), self.slots.iter().count()), (self.len(), self.len()));
        for entry in self.slots.iter() {
            let at = self.by_id[&entry.address.id()];
            assert_eq!(&self.slots[at], entry);
            let most = if entry.kind == Kind::New { MAX_BUCKETS_PER_ADDRESS } else { 1 };
            assert!((1..=most).contains(&entry.buckets.len()), "{entry:?}");
            for bucket in &entry.buckets {
                let held = &self.of_kind(entry.kind)[usize::from(*bucket)];
                assert_eq!(held.iter().filter(|held| **held == at).count(), 1);
            }
        }
        let count = |what: fn(&Entry) -> bool| self.slots.iter().filter(|entry| what(entry)).count();
        assert_eq!(count(|entry| entry.kind == Kind::Old), self.old_count);
        let proven = self.slots.iter().filter(|entry| entry.is_proven());
        self.proven.check(proven.map(|e| (self.placement.place(&e.address), self.by_id[&e.address.id()])).collect());
        self.sources.check(self.len() - self.old_count, count(|entry| entry.last_success.is_some()));
        let held: usize = self.new.iter().chain(&self.old).map(Vec::len).sum();
        assert_eq!(held, self.slots.iter().map(|entry| entry.buckets.len()).sum::<usize>());
        assert!(self.new.iter().chain(&self.old).all(|held| held.len() <= BUCKET_SIZE));
    }
}
