//! The XOR metric's use in the table: which bucket an id belongs to, and a list of the nodes closest to a target.
//!
//! The metric itself is [`NodeId::distance`](crate::key::NodeId::distance). Spec sheet kademlia_table §2.

use crate::key::NodeId;
use crate::record::NodeRecord;

/// Bits of a node id.
const ID_BITS: usize = 256;

/// The bucket of a node at `log_distance` in a table of `buckets`: one bucket for each of the largest distances, and
/// everything closer in the first. With 17 buckets the first holds the distances up to 240.
pub(crate) fn bucket_index(log_distance: u16, buckets: usize) -> usize {
    let merged = ID_BITS.saturating_sub(buckets);
    usize::from(log_distance).saturating_sub(merged).saturating_sub(1)
}

/// Nodes that are asked for at once, but for a caller who wants all: a bucketful, and the asker itself.
const USUAL: usize = 17;

/// At most `limit` nodes, closest to the target first (go-ethereum's `nodesByDistance`). Keeps no id twice.
#[derive(Debug)]
pub(crate) struct Closest<'a> {
    target: NodeId,
    limit: usize,
    nodes: Vec<([u128; 2], &'a NodeRecord)>,
}

impl<'a> Closest<'a> {
    pub(crate) fn new(target: NodeId, limit: usize) -> Closest<'a> {
        Closest { target, limit, nodes: Vec::with_capacity(limit.min(USUAL)) }
    }

    pub(crate) fn push(&mut self, node: &'a NodeRecord) {
        let distance = self.target.distance_words(&node.id());
        let is_too_far = self.is_full() && self.nodes.last().is_none_or(|(farthest, _)| *farthest <= distance);
        if is_too_far {
            return;
        }
        if let Err(at) = self.nodes.binary_search_by(|(other, _)| other.cmp(&distance)) {
            self.nodes.truncate(self.limit.saturating_sub(1));
            self.nodes.insert(at, (distance, node));
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.nodes.len() >= self.limit
    }

    pub(crate) fn into_nodes(self) -> Vec<NodeRecord> {
        self.nodes.into_iter().map(|(_, node)| node.clone()).collect()
    }
}
