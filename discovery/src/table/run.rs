//! A run of discovery as the C++ table makes it ([`Refreshing::Runs`]): rounds of questions towards a random target,
//! each to the nearest nodes that the table has by then (spec sheet kademlia_table §7).
//!
//! Unlike a [`Lookup`](super::Lookup) it has no result, and asks nobody who is not in the table: what it finds is what
//! the table took. A round ends with its last answer, so that the wait for it is a bound and not a pause.

use std::time::Instant;

use rand::Rng;

use super::{Action, Prefer, Refreshing, Table, after};
use crate::key::NodeId;

#[derive(Debug)]
pub(crate) struct Run {
    target: [u8; 64],
    rounds_left: u32,
    tried: Vec<NodeId>,
    awaited: Vec<NodeId>,
    /// When the round is over, whoever has not answered.
    until: Instant,
}

impl Table {
    pub(super) fn start_run(&mut self, now: Instant) {
        let Refreshing::Runs { rounds, .. } = self.config.refreshing else { return };
        let mut target = [0; 64];
        self.rng.fill_bytes(&mut target);
        self.run = Some(Run { target, rounds_left: rounds, tried: Vec::new(), awaited: Vec::new(), until: now });
        self.next_round(now);
    }

    /// Asks the next nodes; without any, or without a round left, the run is over.
    fn next_round(&mut self, now: Instant) {
        let Refreshing::Runs { round, .. } = self.config.refreshing else { return };
        let Some(mut run) = self.run.take() else { return };
        let mut nodes = Vec::new();
        if run.rounds_left > 0 {
            nodes = self.closest(&NodeId::of_target(&run.target), self.config.bucket_size, Prefer::All);
            nodes.retain(|node| !run.tried.contains(&node.id()));
            nodes.truncate(self.config.alpha);
        }
        if nodes.is_empty() {
            self.refresh.lookup_done(now, false, self.len, &mut self.rng);
            return;
        }
        run.awaited = nodes.iter().map(|node| node.id()).collect();
        run.tried.extend(&run.awaited);
        run.rounds_left = run.rounds_left.saturating_sub(1);
        run.until = after(now, round);
        self.actions.extend(nodes.into_iter().map(|node| Action::Find { node, target: run.target }));
        self.run = Some(run);
    }

    /// [`Action::Find`] has ended: the nodes of the answer, if one came, are in the table.
    pub fn find_done(&mut self, now: Instant, id: &NodeId) {
        let Some(run) = &mut self.run else { return };
        run.awaited.retain(|awaited| awaited != id);
        if run.awaited.is_empty() {
            self.next_round(now);
        }
    }

    pub(super) fn run_timeout(&mut self, now: Instant) {
        if self.round_until().is_some_and(|until| until <= now) {
            self.next_round(now);
        }
    }

    pub(super) fn round_until(&self) -> Option<Instant> {
        self.run.as_ref().map(|run| run.until)
    }
}
