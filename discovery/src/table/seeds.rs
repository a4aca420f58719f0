//! Where an empty table begins again: nodes of an earlier run, and those that were alive in this one.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use crate::key::NodeId;
use crate::record::NodeRecord;

/// Seeds drawn at random (go-ethereum `seedCount`).
pub const SEED_COUNT: usize = 30;

/// Seeds taken for their late pongs, beside the random ones: as many as the table has room for, replacements included.
/// A full table is checked once around in about twenty minutes, so these are those that were in it at the end of the
/// last run, and some that had just left it. With go-ethereum's thirty a table takes minutes to fill.
pub const FRESHEST_SEEDS: usize = 17 * (16 + 10);

/// Oldest pong of a usable seed (go-ethereum `seedMaxAge`): older addresses have mostly changed hands.
pub const SEED_MAX_AGE: Duration = Duration::from_secs(5 * 24 * 60 * 60);

/// Most that is remembered.
const MAX_SEEDS: usize = FRESHEST_SEEDS + SEED_COUNT;

/// Seeds checked at a time: of a full table, half of it dead, all are through in five seconds.
const CHECKS_AT_ONCE: usize = 64;

/// A node of an earlier run.
#[derive(Debug, Clone)]
pub struct Seed {
    /// The node as last known.
    pub record: NodeRecord,
    /// Its last pong, by the wall clock.
    pub last_pong: SystemTime,
    /// FindNode requests in a row that brought nothing. The table makes no use of it: it goes on counting where the earlier
    /// run left off ([`Discv4`](crate::discv4::Discv4)).
    pub find_failures: u32,
    /// Whether all that speaks for it is that it contacted us (see [`TableConfig::inbound`](super::TableConfig::inbound)).
    pub inbound: bool,
}

/// What is remembered of nodes that are not in the table.
#[derive(Debug, Default)]
pub(crate) struct Seeds {
    /// The best last, each with what [`Seed::inbound`] says. They stay when they are used: perhaps it is our own network
    /// that is away.
    nodes: VecDeque<(NodeRecord, bool)>,
    /// In the table, but not checked yet.
    unchecked: VecDeque<NodeId>,
}

impl Seeds {
    /// Takes the seeds with the latest pongs of those that are not too old. A pong "from the future" (the clock was set
    /// back) counts as fresh: refusing it would empty the table because of a clock step.
    pub(crate) fn restore(&mut self, mut seeds: Vec<Seed>, local: &NodeId, now: SystemTime) {
        seeds.retain(|seed| {
            let age = now.duration_since(seed.last_pong).unwrap_or_default();
            age <= SEED_MAX_AGE && seed.record.id() != *local
        });
        seeds.sort_by_key(|seed| seed.last_pong);
        seeds.into_iter().for_each(|seed| self.remember(seed.record, seed.inbound));
    }

    /// A node that was alive has left the table.
    pub(crate) fn remember(&mut self, record: NodeRecord, inbound: bool) {
        self.nodes.retain(|(other, _)| other.id() != record.id());
        self.nodes.push_back((record, inbound));
        if self.nodes.len() > MAX_SEEDS {
            self.nodes.pop_front();
        }
    }

    pub(crate) fn contains(&self, id: &NodeId) -> bool {
        self.nodes.iter().any(|(record, _)| record.id() == *id)
    }

    /// All of them, the best first.
    pub(crate) fn nodes(&self) -> Vec<(NodeRecord, bool)> {
        self.nodes.iter().rev().cloned().collect()
    }

    /// These have come into the table and are to be checked at once.
    pub(crate) fn check_first(&mut self, entered: VecDeque<NodeId>) {
        self.unchecked = entered;
    }

    /// The next to check while `under_way` checks await their outcome.
    pub(crate) fn next_check(&mut self, under_way: usize) -> Option<NodeId> {
        if under_way < CHECKS_AT_ONCE { self.unchecked.pop_front() } else { None }
    }
}
