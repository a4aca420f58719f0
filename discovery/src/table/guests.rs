//! Guests: nodes that are in the table because they contacted us, and that no lookup of ours has found so far.
//!
//! Whoever pings us chooses when, how often and with which keys, so an attacker's nodes are there before anybody else's,
//! above all after a restart (Marcus, Heilman, Goldberg 2018). A lookup goes where we choose. So guests get half of a bucket
//! and of what one network may have ([`TableConfig::inbound`](super::TableConfig::inbound)), are no replacements, and our
//! lookups start from others. They are told of and checked as everybody is: so a new node becomes known, is found, and is a
//! guest no longer. go-ethereum makes no difference between the two.
//!
//! On a local network, where a handful of nodes find each other, half a bucket would only keep the last of them unknown until
//! somebody looks around again. So in a bucket without any node of the internet, guests from the local network get all of it.

use std::time::Instant;

use super::{Entry, NotAdded, Table};
use crate::record::NodeRecord;

impl Table {
    /// A node that contacted us and has proven its endpoint; the caller vouches for the proof.
    ///
    /// # Errors
    /// Why it is not in a bucket because of this call.
    pub fn add_inbound(&mut self, now: Instant, record: &NodeRecord) -> Result<(), NotAdded> {
        if !self.refresh.completed_once() {
            return Err(NotAdded::Initialising);
        }
        self.add(now, record, true)
    }

    /// Whether a node that is in no bucket would be a guest, and if so, whether there is a place for it: in its bucket, and
    /// in its network's share, of which guests get the same part as of a bucket (one of two in a bucket, five of ten in
    /// the table).
    pub(super) fn place_for_guest(&self, record: &NodeRecord) -> Option<bool> {
        let id = record.id();
        let bucket = self.bucket(&id).filter(|bucket| self.has_guests() && bucket.replacement(&id).is_none())?;
        let limits = self.config.subnet_limits;
        let share = |limit: usize| {
            let share = limit.saturating_mul(self.config.inbound);
            share.checked_div(self.config.bucket_size).unwrap_or(0)
        };
        let is_local = |ip| limits.subnet(ip).is_none();
        let are_local = is_local(record.ip()) && bucket.entries.iter().all(|entry| is_local(entry.record.ip()));
        let room = if are_local { self.config.bucket_size } else { self.config.inbound };
        if bucket.entries.len() >= self.config.bucket_size || bucket.inbound() >= room {
            return Some(false);
        }
        let Some(network) = limits.subnet(record.ip()) else { return Some(true) };
        let is_same = |entry: &&Entry| entry.inbound && limits.subnet(entry.record.ip()) == Some(network);
        let (here, everywhere) = (bucket.entries.iter().filter(is_same), self.entries().filter(is_same));
        Some(here.count() < share(limits.bucket) && everywhere.count() < share(limits.table))
    }

    /// Whether the table tells guests from others at all.
    fn has_guests(&self) -> bool {
        self.config.inbound < self.config.bucket_size
    }
}
