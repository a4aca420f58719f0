//! Which stored nodes start an empty table again.

use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::key::NodeId;
use crate::record::NodeRecord;

/// Seeds taken at a time (go-ethereum `seedCount`).
pub const SEED_COUNT: usize = 30;

/// Oldest pong of a usable seed (go-ethereum `seedMaxAge`): older addresses have mostly changed hands.
pub const SEED_MAX_AGE: Duration = Duration::from_secs(5 * 24 * 60 * 60);

/// A node of an earlier run.
#[derive(Debug, Clone)]
pub struct Seed {
    /// The node as last known.
    pub record: NodeRecord,
    /// Its last pong, by the wall clock.
    pub last_pong: SystemTime,
}

/// Draws at most [`SEED_COUNT`] of the seeds that are not too old. A pong "from the future" (the clock was set back)
/// counts as fresh: refusing it would empty the table because of a clock step.
pub(crate) fn select(mut seeds: Vec<Seed>, local: &NodeId, now: SystemTime, rng: &mut StdRng) -> Vec<Seed> {
    seeds.retain(|seed| {
        let age = now.duration_since(seed.last_pong).unwrap_or_default();
        age <= SEED_MAX_AGE && seed.record.id() != *local
    });
    seeds.shuffle(rng);
    seeds.truncate(SEED_COUNT);
    seeds
}
