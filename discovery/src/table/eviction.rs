//! Who has to go from a full bucket: the node silent for longest, if it does not answer a ping
//! ([`Revalidation::PingOldest`]). Entries then are in the order in which they were last heard.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Action, Revalidation, Table};
use crate::key::NodeId;

impl Table {
    /// A packet of a node, of whatever kind, has come from `from`: it is the most recent of its bucket now (C++
    /// `noteActiveNode`).
    pub fn heard(&mut self, id: &NodeId, from: SocketAddr) {
        if self.is_ordered() && self.get(id).is_some_and(|entry| entry.endpoint() == from) {
            self.make_most_recent(id);
        }
    }

    /// Whether the order of entries means anything.
    fn is_ordered(&self) -> bool {
        self.config.revalidation == Revalidation::PingOldest
    }

    pub(super) fn make_most_recent(&mut self, id: &NodeId) {
        if !self.is_ordered() {
            return;
        }
        if let Some(bucket) = self.bucket_mut(id)
            && let Some(entry) = bucket.remove(id)
        {
            bucket.entries.push(entry);
        }
    }

    /// A node waits for a place in its full bucket: the oldest there is asked whether it lives. One that has just
    /// answered is not, however many newcomers there are.
    pub(super) fn challenge_oldest(&mut self, now: Instant, newcomer: &NodeId) {
        if !self.is_ordered() {
            return;
        }
        let Some(bucket) = self.bucket(newcomer).filter(|bucket| bucket.replacement(newcomer).is_some()) else {
            return;
        };
        let Some(oldest) = bucket.entries.first() else { return };
        let quiet = oldest.seen.is_none_or(|seen| now.saturating_duration_since(seen) >= self.config.check_not_within);
        let record = oldest.record.clone();
        if quiet && self.revalidation.begin(record.id()) {
            self.actions.push_back(Action::Check(record));
        }
    }
}
