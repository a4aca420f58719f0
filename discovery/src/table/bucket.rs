//! One bucket: the nodes in use, and the replacements that wait for one of them to fail.
//!
//! Only order and capacity; which node may enter is the table's decision.

use std::net::SocketAddr;
use std::time::Instant;

use super::TableEvent;
use crate::key::NodeId;
use crate::record::NodeRecord;

/// A node in use.
#[derive(Debug, Clone)]
pub struct Entry {
    pub(crate) record: NodeRecord,
    pub(crate) added: Instant,
    pub(crate) seen: Option<Instant>,
    pub(crate) checks: u32,
    pub(crate) misses: u32,
    pub(crate) live: bool,
    /// It is here because it contacted us; none of our lookups has found it.
    pub(crate) inbound: bool,
}

impl Entry {
    pub(crate) fn new(record: NodeRecord, now: Instant, inbound: bool) -> Entry {
        Entry { record, added: now, seen: None, checks: 0, misses: 0, live: false, inbound }
    }

    /// The node.
    pub fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// Whether it has answered from this endpoint since the endpoint was learned. Only live nodes are relayed.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether it is here only because it contacted us: none of our lookups has found it so far.
    pub fn is_inbound(&self) -> bool {
        self.inbound
    }

    /// Liveness checks passed; a failed one divides them by three.
    pub fn checks(&self) -> u32 {
        self.checks
    }

    /// When it came into its bucket.
    pub fn added(&self) -> Instant {
        self.added
    }

    /// When it last answered from this endpoint.
    pub fn seen(&self) -> Option<Instant> {
        self.seen
    }

    /// What there is to tell when it has answered.
    pub(crate) fn alive(&self) -> TableEvent {
        TableEvent::Alive { record: self.record.clone(), checks: self.checks, inbound: self.inbound }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.record.id()
    }

    pub(crate) fn endpoint(&self) -> SocketAddr {
        self.record.endpoint()
    }
}

/// Entries oldest first, replacements newest first (as go-ethereum keeps them today).
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) entries: Vec<Entry>,
    pub(crate) replacements: Vec<NodeRecord>,
}

impl Bucket {
    pub(crate) fn get(&self, id: &NodeId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id() == *id)
    }

    pub(crate) fn get_mut(&mut self, id: &NodeId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id() == *id)
    }

    /// Entries that are here only because they contacted us.
    pub(crate) fn inbound(&self) -> usize {
        self.entries.iter().filter(|entry| entry.inbound).count()
    }

    /// Takes a node out of the bucket.
    pub(crate) fn remove(&mut self, id: &NodeId) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.id() == *id)?;
        Some(self.entries.remove(at))
    }

    pub(crate) fn replacement(&self, id: &NodeId) -> Option<&NodeRecord> {
        self.replacements.iter().find(|record| record.id() == *id)
    }

    pub(crate) fn remove_replacement(&mut self, id: &NodeId) -> Option<NodeRecord> {
        let at = self.replacements.iter().position(|record| record.id() == *id)?;
        Some(self.replacements.remove(at))
    }

    /// Puts a replacement first; returns the one that falls off the end.
    pub(crate) fn push_replacement(&mut self, record: NodeRecord, limit: usize) -> Option<NodeRecord> {
        self.replacements.insert(0, record);
        if self.replacements.len() > limit { self.replacements.pop() } else { None }
    }

    /// Everything that counts for the subnet limits.
    pub(crate) fn records(&self) -> impl Iterator<Item = &NodeRecord> {
        self.entries.iter().map(Entry::record).chain(&self.replacements)
    }
}
