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
mod entering;
mod eviction;
mod guests;
mod liveness;
mod lookup;
mod questions;
mod refresh;
mod revalidation;
mod run;
mod seeds;
mod silence;
mod subnet_limit;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

pub use self::bucket::Entry;
pub use self::config::{Refreshing, Revalidation, TableConfig};
pub use self::lookup::{ALPHA, Found, Lookup, Step};
pub use self::questions::Prefer;
pub use self::seeds::{FRESHEST_SEEDS, SEED_COUNT, SEED_MAX_AGE, Seed};
pub use self::subnet_limit::SubnetLimits;

use self::bucket::Bucket;
use self::distance::bucket_index;
use self::refresh::Refresh;
use self::revalidation::CheckLists;
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

    // --- Refresh and timers ---

    /// Asks for a refresh now; joins the one that is running.
    pub fn refresh(&mut self, now: Instant) {
        self.refresh.request(now);
    }

    /// A lookup asked for by [`Action::LookupSelf`] or [`Action::LookupRandom`] has ended.
    /// `answered` is the number of nodes it found: a refresh that reaches nobody is tried again soon.
    pub fn refresh_lookup_done(&mut self, now: Instant, answered: usize) {
        let step = self.refresh.lookup_done(now, answered == 0, self.len, &mut self.rng);
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
        // Not itself, at the address that it is about to leave.
        let is_same = |other: &&NodeRecord| other.id() != record.id() && limits.subnet(other.ip()) == Some(subnet);
        let in_bucket = self.bucket(&record.id()).map_or(0, |bucket| bucket.records().filter(is_same).count());
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
