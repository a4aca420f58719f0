//! Guests: nodes that are in the table because they contacted us, and that no lookup of ours has found so far.
//!
//! Whoever pings us chooses when, how often and with which keys, so an attacker's nodes are there before anybody else's,
//! above all after a restart (Marcus, Heilman, Goldberg 2018). A lookup goes where we choose. So guests get half of a bucket
//! and are no replacements ([`TableConfig::inbound`](super::TableConfig::inbound)), and our lookups start from others. They are told of and checked as everybody is: so a new node becomes known, is found,
//! and is a guest no longer. go-ethereum makes no difference between the two.

use std::time::Instant;

use super::{NotAdded, Table};
use crate::key::NodeId;
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

    /// Whether a node would be a guest, and if so, whether there is no place for one.
    pub(super) fn guest(&self, id: &NodeId, inbound: bool) -> (bool, bool) {
        let Some(bucket) = self.bucket(id).filter(|_| inbound && self.has_guests()) else { return (false, false) };
        let is_full = bucket.entries.len() >= self.config.bucket_size || bucket.inbound() >= self.config.inbound;
        (bucket.replacement(id).is_none(), is_full)
    }

    /// Whether the table tells guests from others at all.
    fn has_guests(&self) -> bool {
        self.config.inbound < self.config.bucket_size
    }
}
