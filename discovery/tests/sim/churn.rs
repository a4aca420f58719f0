//! Nodes that leave without a word at random moments, and new ones that come in their place.

use std::collections::VecDeque;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Index, Network};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// In each hour, this share of the nodes that are on at its beginning leave, each at a random moment. For each of them a
/// node with a new identity at a new address joins through the bootnodes, which stay.
pub struct Churn {
    hourly: f64,
    bootnodes: Vec<Index>,
    /// Who leaves in this hour, soonest first.
    leaving: VecDeque<(Duration, Index)>,
    hour_ends: Duration,
    /// Nodes replaced so far.
    pub replaced: usize,
}

impl Churn {
    /// Begins at `now`.
    pub fn new(now: Duration, hourly: f64, bootnodes: Vec<Index>) -> Churn {
        Churn { hourly, bootnodes, leaving: VecDeque::new(), hour_ends: now, replaced: 0 }
    }

    /// The next departure, or the next hour.
    pub(super) fn next(&self) -> Duration {
        self.leaving.front().map_or(self.hour_ends, |(at, _)| *at)
    }

    fn begin_hour(&mut self, mut on: Vec<Index>, rng: &mut StdRng) {
        let begins = self.hour_ends;
        self.hour_ends += HOUR;
        on.retain(|index| !self.bootnodes.contains(index));
        on.shuffle(rng);
        on.truncate((on.len() as f64 * self.hourly).round() as usize);
        let mut leaving: Vec<_> =
            on.into_iter().map(|index| (begins + HOUR.mul_f64(rng.random_range(0.0..1.0)), index)).collect();
        leaving.sort_unstable();
        self.leaving = leaving.into();
    }
}

impl Network {
    /// One node leaves and another comes; or an hour begins.
    pub(super) fn replace_next(&mut self) {
        let on = self.on();
        let Some(churn) = &mut self.churn else { return };
        let Some((_, gone)) = churn.leaving.pop_front() else { return churn.begin_hour(on, &mut self.rng) };
        churn.replaced += 1;
        let bootnodes: Vec<_> = churn.bootnodes.iter().map(|index| self.nodes[*index].record()).collect();
        self.switch_off(gone);
        let new = self.add();
        self.switch_on(new, |config| config.bootnodes = bootnodes);
    }
}
