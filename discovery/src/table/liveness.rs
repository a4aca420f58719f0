//! Who lives: what an answer, a passed and a missed check do to an entry.

use std::net::SocketAddr;
use std::time::Instant;

use super::revalidation::Pace;
use super::{Action, Check, Revalidation, Table};
use crate::key::NodeId;

impl Table {
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
    pub(super) fn check_seeds(&mut self) {
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
}
