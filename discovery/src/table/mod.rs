//! The Kademlia table as a machine: which nodes we know, which of them live, and what to do to keep it that way.
//!
//! It sends nothing. [`Table::poll_action`] says what it wants (check this node, look up ourselves), and its owner
//! reports back. Rules: go-ethereum's `p2p/discover/table.go` of today (spec sheet kademlia_table §5); where it
//! differs, the constant or method says why.
//!
//! ```text
//!            add_found            ┌─ new ──────────┐  answered   ┌─ slow ─┐  missed: checks / 3  ┌─ fast ─┐
//! (neighbours, bootnodes, seeds)─>│ never answered │────────────>│  live  │─────────────────────>│        │
//!  add_inbound (proven) ─────────>└───────┬────────┘             └────────┘<─────────────────────└───┬────┘
//!                                         │ missed                            answered               │ no checks left
//!                                         v                                                          v
//!                                         └──────────> gives way to a random replacement <───────────┘
//! ```

mod bucket;
mod config;
mod distance;
mod eviction;
mod guests;
mod lookup;
mod questions;
mod refresh;
mod revalidation;
mod run;
mod seeds;
mod silence;
mod subnet_limit;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub use self::bucket::Entry;
pub use self::config::{Refreshing, Revalidation, TableConfig};
pub use self::lookup::{ALPHA, Found, Lookup, Step};
pub use self::questions::Prefer;
pub use self::seeds::{FRESHEST_SEEDS, SEED_COUNT, SEED_MAX_AGE, Seed};
pub use self::subnet_limit::SubnetLimits;

use self::bucket::Bucket;
use self::distance::bucket_index;
use self::refresh::Refresh;
use self::revalidation::{CheckLists, Pace};
use self::run::Run;
use self::seeds::Seeds;
use self::silence::Silence;
use self::subnet_limit::SubnetCounts;
use crate::key::NodeId;
use crate::record::NodeRecord;

/// `at` plus `pause`; an unrepresentable instant stays where it is.
pub(crate) fn after(at: Instant, pause: Duration) -> Instant {
    at.checked_add(pause).unwrap_or(at)
}

/// Why a node did not come into a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdded {
    /// It is this node.
    #[error("our own id")]
    Own,
    /// It contacted us before our own first refresh was done: a restarting node is not to be filled from outside.
    #[error("inbound node before the first refresh")]
    Initialising,
    /// It is there; its record may have been updated.
    #[error("already in the table")]
    Known,
    /// Its bucket is full; it may have become a replacement.
    #[error("bucket is full")]
    BucketFull,
    /// As many nodes of its bucket or network as may have come by themselves, and nothing else is known of it.
    #[error("too many nodes came by themselves")]
    InboundShare,
    /// Its network has its share of the table or of the bucket.
    #[error("too many nodes of its network")]
    SubnetLimit,
}

/// Something the owner of the table has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ping the node, then [`Table::check_done`].
    Check(NodeRecord),
    /// Look up our own id, then [`Table::refresh_lookup_done`].
    LookupSelf,
    /// Look up a random target, then [`Table::refresh_lookup_done`].
    LookupRandom,
    /// Ask the node for those it knows near the target, add them, then [`Table::find_done`].
    Find {
        /// Whom.
        node: NodeRecord,
        /// Near what: 64 random bytes.
        target: [u8; 64],
    },
}

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// It answered.
    Answered,
    /// It did not.
    Missed,
    /// It was not asked after all; nothing is known.
    NotMade,
}

/// A change of the table's contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableEvent {
    /// In a bucket now.
    Added(NodeRecord),
    /// In no bucket any more.
    Removed(NodeRecord),
    /// It has turned out to be alive, or has passed a check, or others know it too: worth remembering.
    Alive {
        /// The node.
        record: NodeRecord,
        /// Liveness checks it has passed.
        checks: u32,
        /// Whether it is there only because it contacted us.
        inbound: bool,
    },
}

/// Smallest bucket, as a fraction of its size, in which `findnode` failures remove a node (go-ethereum
/// `bucketSize/4`): a small network must not be forgotten because it has nothing to tell.
const USABLE_BUCKET_DIVISOR: usize = 4;

/// The table. Owns no socket and reads no clock; see the module.
#[derive(Debug)]
pub struct Table {
    local: NodeId,
    config: TableConfig,
    rng: StdRng,
    bootnodes: Vec<NodeRecord>,
    /// Nodes of an earlier run, and those that have gone but were alive: where to begin again if everything is lost.
    seeds: Seeds,
    buckets: Vec<Bucket>,
    len: usize,
    subnets: SubnetCounts,
    revalidation: CheckLists,
    refresh: Refresh,
    /// The run under way, of a table that refreshes by [`Refreshing::Runs`].
    run: Option<Run>,
    silence: Silence,
    actions: VecDeque<Action>,
    events: VecDeque<TableEvent>,
}

impl Table {
    /// An empty table of the node `local`; the first refresh is due at `now`.
    pub fn new(
        now: Instant,
        local: NodeId,
        config: TableConfig,
        bootnodes: Vec<NodeRecord>,
        rng: &mut StdRng,
    ) -> Table {
        let config = TableConfig { buckets: config.buckets.clamp(1, 256), ..config };
        let slow_check = match config.revalidation {
            Revalidation::FastSlow { slow } => Some(slow),
            Revalidation::PingOldest => None,
        };
        Table {
            local,
            rng: StdRng::from_rng(rng),
            bootnodes,
            seeds: Seeds::default(),
            buckets: (0..config.buckets).map(|_| Bucket::default()).collect(),
            len: 0,
            subnets: SubnetCounts::default(),
            revalidation: CheckLists::new(config.fast_check, slow_check),
            refresh: Refresh::new(now, config.refreshing),
            run: None,
            silence: Silence::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            config,
        }
    }

    // --- Nodes in ---

    /// A node somebody told us of: a neighbour, a bootnode, a seed. It enters unverified and is checked soon.
    ///
    /// # Errors
    /// Why it is not in a bucket because of this call.
    pub fn add_found(&mut self, now: Instant, record: &NodeRecord) -> Result<(), NotAdded> {
        self.add(now, record, false)
    }

    /// Nodes of an earlier run, for every refresh that starts with an empty table: at most [`FRESHEST_SEEDS`] and
    /// [`SEED_COUNT`], those that answered last, and none that did not answer within [`SEED_MAX_AGE`].
    pub fn remember(&mut self, wall: SystemTime, seeds: Vec<Seed>) {
        self.seeds.restore(seeds, &self.local, wall);
    }

    /// A record that the node itself has sent. Taken if the node is in a bucket and the record is newer.
    pub fn update(&mut self, now: Instant, record: &NodeRecord) {
        self.bump(now, record, false);
    }

    fn add(&mut self, now: Instant, record: &NodeRecord, inbound: bool) -> Result<(), NotAdded> {
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

    // --- Nodes out ---

    /// Takes a node out of its bucket; a random replacement takes its place.
    fn remove(&mut self, now: Instant, id: &NodeId) {
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

    // --- Liveness ---

    /// A node has answered from `from`, whatever it was asked. Makes it live at once: that its next check would
    /// find the same is no reason to hide it from others until then, as go-ethereum does.
    pub fn answered(&mut self, now: Instant, id: &NodeId, from: SocketAddr) {
        self.silence.broken();
        if let Some(entry) = self.bucket_mut(id).and_then(|bucket| bucket.get_mut(id))
            && entry.endpoint() == from
        {
            entry.seen = Some(now);
            entry.misses = 0;
            if !entry.live {
                entry.live = true;
                entry.checks = entry.checks.max(1);
                let alive = entry.alive();
                self.events.push_back(alive);
                self.revalidation.put(now, *id, Pace::Slow, &mut self.rng);
            } else {
                self.revalidation.heard(id);
            }
        }
    }

    /// The outcome of [`Action::Check`].
    pub fn check_done(&mut self, now: Instant, id: &NodeId, outcome: Check) {
        // Without an entry it was removed meanwhile: nothing brings it back.
        if self.revalidation.finish(id) && self.get(id).is_some() {
            match outcome {
                Check::Answered => self.check_passed(now, id),
                Check::Missed => self.check_missed(now, id),
                Check::NotMade => {}
            }
        }
        self.check_seeds();
    }

    /// Seeds do not wait for their turn among the others: whether they live is what a restarted node must know first.
    fn check_seeds(&mut self) {
        while let Some(id) = self.seeds.next_check(self.revalidation.under_way()) {
            let Some(entry) = self.get(&id).filter(|entry| !entry.live) else { continue };
            let check = Action::Check(entry.record.clone());
            if self.revalidation.begin(id) {
                self.actions.push_back(check);
            }
        }
    }

    fn check_passed(&mut self, now: Instant, id: &NodeId) {
        self.silence.broken();
        if let Some(entry) = self.bucket_mut(id).and_then(|bucket| bucket.get_mut(id)) {
            entry.checks = entry.checks.saturating_add(1);
            entry.misses = 0;
            entry.live = true;
            entry.seen = Some(now);
            let alive = entry.alive();
            self.events.push_back(alive);
        }
        self.make_most_recent(id);
        self.revalidation.put(now, *id, Pace::Slow, &mut self.rng);
    }

    fn check_missed(&mut self, now: Instant, id: &NodeId) {
        let (allowed, revalidation) = (self.config.misses, self.config.revalidation);
        let is_seed = self.seeds.contains(id);
        self.silence.missed(now);
        let is_our_fault = self.silence.is_ours(now);
        let Some(bucket) = self.bucket_mut(id) else { return };
        let has_replacement = !bucket.replacements.is_empty();
        let is_last = bucket.entries.len() <= 1;
        let Some(entry) = bucket.get_mut(id) else { return };
        if is_our_fault && entry.seen.is_some() {
            return self.revalidation.put(now, *id, Pace::Fast, &mut self.rng);
        }
        entry.checks = match revalidation {
            Revalidation::FastSlow { .. } => entry.checks.checked_div(3).unwrap_or(0),
            Revalidation::PingOldest => 0,
        };
        entry.misses = entry.misses.saturating_add(1);
        let was_alive = entry.seen.is_some();
        // Seeds were alive not long ago: one lost ping at the start is not to cost us one of them.
        let spared = !has_replacement && (was_alive || is_last || is_seed) && entry.misses < allowed;
        if entry.checks == 0 && !spared {
            return self.remove(now, id);
        }
        if entry.checks == 0 {
            entry.live = false; // still ours to ask, no longer told to others
        }
        let pace = if was_alive { Pace::Fast } else { Pace::New };
        self.revalidation.put(now, *id, pace, &mut self.rng);
    }

    /// Whether so many checks in a row were missed that the fault is taken to be ours: nobody is forgotten for that.
    pub fn hears_nobody(&self, now: Instant) -> bool {
        self.silence.is_ours(now)
    }

    // --- Refresh and timers ---

    /// Asks for a refresh now; joins the one that is running.
    pub fn refresh(&mut self, now: Instant) {
        self.refresh.request(now);
    }

    /// A lookup asked for by [`Action::LookupSelf`] or [`Action::LookupRandom`] has ended.
    /// `answered` is the number of nodes it found: a refresh that reaches nobody is tried again soon.
    pub fn refresh_lookup_done(&mut self, now: Instant, answered: usize) {
        let step = self.refresh.lookup_done(now, answered == 0, &mut self.rng);
        if step == refresh::Step::LookupRandom {
            self.actions.push_back(Action::LookupRandom);
        }
    }

    /// Whether the first refresh has ended.
    pub fn is_initialised(&self) -> bool {
        self.refresh.completed_once()
    }

    /// Whether the last refresh reached nobody: the next comes by itself, within two minutes.
    pub fn is_lonely(&self) -> bool {
        self.refresh.is_lonely()
    }

    /// Whether a refresh is running.
    pub fn is_refreshing(&self) -> bool {
        self.refresh.is_running()
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(step) = self.refresh.start_if_due(now) {
            let seeds = if self.is_empty() { self.seeds.nodes() } else { Vec::new() };
            // A run is too frequent to try again, each time, a bootnode that has gone.
            let bootnodes =
                if self.is_empty() || step != refresh::Step::Run { self.bootnodes.clone() } else { Vec::new() };
            for record in &bootnodes {
                _ = self.add_found(now, record);
            }
            let entered = seeds.iter().filter(|(record, inbound)| self.add(now, record, *inbound).is_ok());
            let entered = entered.map(|(record, _)| record.id()).collect();
            self.seeds.check_first(entered);
            self.check_seeds();
            match step {
                refresh::Step::Run => self.start_run(now),
                _ => self.actions.push_back(Action::LookupSelf),
            }
        }
        self.run_timeout(now);
        let (buckets, local, recent) = (&self.buckets, &self.local, self.config.check_not_within);
        let wants = |id: &NodeId| {
            let bucket = buckets.get(bucket_index(local.log_distance(id), buckets.len()));
            let seen = bucket.and_then(|bucket| bucket.get(id)).and_then(Entry::seen);
            seen.is_none_or(|seen| now.saturating_duration_since(seen) >= recent)
        };
        for id in self.revalidation.run(now, &mut self.rng, wants).into_iter().flatten() {
            if let Some(record) = self.get(&id).map(|entry| entry.record.clone()) {
                self.actions.push_back(Action::Check(record));
            }
        }
    }

    /// When to call [`Table::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.revalidation.next(), self.refresh.next(), self.round_until()].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next change of contents.
    pub fn poll_event(&mut self) -> Option<TableEvent> {
        self.events.pop_front()
    }

    // --- Counts and places ---

    /// Whether the subnet limits have room for one more.
    fn fits(&self, record: &NodeRecord) -> bool {
        let limits = &self.config.subnet_limits;
        let Some(subnet) = limits.subnet(record.ip()) else { return true };
        let in_table = self.subnets.count(&subnet);
        if in_table < limits.bucket.min(limits.table) {
            return true; // nor can the bucket have more of them
        }
        let in_bucket = self
            .bucket(&record.id())
            .map_or(0, |bucket| bucket.records().filter(|other| limits.subnet(other.ip()) == Some(subnet)).count());
        in_table < limits.table && in_bucket < limits.bucket
    }

    fn count(&mut self, record: &NodeRecord) {
        self.subnets.add(self.config.subnet_limits.subnet(record.ip()));
    }

    fn uncount(&mut self, record: &NodeRecord) {
        self.subnets.remove(self.config.subnet_limits.subnet(record.ip()));
    }

    fn bucket(&self, id: &NodeId) -> Option<&Bucket> {
        self.buckets.get(bucket_index(self.local.log_distance(id), self.buckets.len()))
    }

    fn bucket_mut(&mut self, id: &NodeId) -> Option<&mut Bucket> {
        let at = bucket_index(self.local.log_distance(id), self.buckets.len());
        self.buckets.get_mut(at)
    }
}

#[cfg(test)]
mod tests;
