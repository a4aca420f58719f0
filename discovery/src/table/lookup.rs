//! An iterative search for the nodes closest to a target, as an iterator machine (rust-libp2p `ClosestPeersIter`).
//!
//! It holds no node to its word: an answer counts as proof that the answerer lives, the nodes it names are
//! candidates only, and the result consists of answerers. It never sleeps: the caller asks [`Lookup::next`] whenever
//! something has changed. Spec sheet kademlia_table §6.

use std::collections::BTreeMap;

use crate::key::NodeId;
use crate::record::NodeRecord;

/// Requests of one lookup in flight (Kademlia's alpha; go-ethereum `alpha`).
pub const ALPHA: usize = 3;

/// Candidates kept beyond the closest; enough that an honest network never meets it. Bounds what liars can fill.
const MAX_CANDIDATES: usize = 512;

/// Requests in all after which a lookup ends with what it has. Honest networks of millions need well under 100;
/// without a bound, a liar could name closer nodes for ever.
const MAX_QUERIES: usize = 256;

/// What a lookup wants from its caller.
#[derive(Debug)]
pub enum Step {
    /// Ask this node, then report with [`Lookup::answered`] or [`Lookup::failed`].
    Query(NodeRecord),
    /// Answers are outstanding; nothing to do.
    Wait,
    /// Take the result.
    Finished,
}

/// ```text
/// New ──query──> Waiting ──answer──> Answered
///                  │ ^
///          failure │ │ again, if attempts are left and it is still among the closest
///                  v │
///                 Failed
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Waiting,
    Answered,
    Failed,
}

#[derive(Debug)]
struct Candidate {
    record: NodeRecord,
    state: State,
    attempts: u32,
}

/// One lookup. Candidates are ordered by distance to the target.
#[derive(Debug)]
pub struct Lookup {
    local: NodeId,
    target: NodeId,
    count: usize,
    alpha: usize,
    attempts: u32,
    candidates: BTreeMap<[u8; 32], Candidate>,
    in_flight: usize,
    queries: usize,
}

impl Lookup {
    /// A search for the `count` nodes closest to `target`, starting from `known`, with `alpha` requests at a time.
    /// A node that does not answer is asked up to `attempts` times, if by then it still is among the closest.
    pub fn new(
        local: NodeId,
        target: NodeId,
        count: usize,
        alpha: usize,
        attempts: u32,
        known: impl IntoIterator<Item = NodeRecord>,
    ) -> Lookup {
        let mut lookup =
            Lookup { local, target, count, alpha, attempts, candidates: BTreeMap::new(), in_flight: 0, queries: 0 };
        known.into_iter().for_each(|record| _ = lookup.add(record));
        lookup
    }

    /// What is searched for.
    pub fn target(&self) -> &NodeId {
        &self.target
    }

    /// Whether `id` was seen in this lookup: asked, waiting to be, or ourselves.
    pub fn has_seen(&self, id: &NodeId) -> bool {
        *id == self.local || self.candidates.contains_key(&self.target.distance(id))
    }

    /// The next thing to do. Call until it is not [`Step::Query`].
    pub fn next(&mut self) -> Step {
        if self.queries < MAX_QUERIES
            && self.in_flight < self.alpha
            && let Some(distance) = self.next_candidate()
            && let Some(candidate) = self.candidates.get_mut(&distance)
        {
            candidate.state = State::Waiting;
            candidate.attempts = candidate.attempts.saturating_add(1);
            self.in_flight = self.in_flight.saturating_add(1);
            self.queries = self.queries.saturating_add(1);
            return Step::Query(candidate.record.clone());
        }
        if self.in_flight > 0 { Step::Wait } else { Step::Finished }
    }

    /// The closest node worth asking among the `count` closest that may still be alive. Those not asked yet go first:
    /// a second attempt is for when there is nothing better to do.
    fn next_candidate(&self) -> Option<[u8; 32]> {
        let mut again = None;
        let hopeful = self.candidates.iter().filter(|(_, candidate)| {
            candidate.state != State::Failed || candidate.attempts < self.attempts
        });
        for (distance, candidate) in hopeful.take(self.count) {
            match candidate.state {
                State::New => return Some(*distance),
                State::Failed => again = again.or(Some(*distance)),
                State::Waiting | State::Answered => {}
            }
        }
        again
    }

    /// `id` has answered and named `nodes`. Returns those not seen before in this lookup.
    pub fn answered(&mut self, id: &NodeId, nodes: impl IntoIterator<Item = NodeRecord>) -> Vec<NodeRecord> {
        self.settle(id, State::Answered);
        nodes.into_iter().filter(|record| self.add(record.clone())).collect()
    }

    /// `id` has not answered.
    pub fn failed(&mut self, id: &NodeId) {
        self.settle(id, State::Failed);
    }

    /// The closest nodes that answered, closest first.
    pub fn into_result(self) -> Vec<NodeRecord> {
        let answered = self.candidates.into_values().filter(|candidate| candidate.state == State::Answered);
        answered.take(self.count).map(|candidate| candidate.record).collect()
    }

    fn settle(&mut self, id: &NodeId, state: State) {
        if let Some(candidate) = self.candidates.get_mut(&self.target.distance(id))
            && candidate.state == State::Waiting
        {
            candidate.state = state;
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }

    fn add(&mut self, record: NodeRecord) -> bool {
        let id = record.id();
        if self.has_seen(&id) {
            return false;
        }
        let distance = self.target.distance(&id);
        if self.candidates.len() >= MAX_CANDIDATES {
            // Make room by forgetting the farthest one that is not in use.
            match self.candidates.iter().rfind(|(_, candidate)| candidate.state != State::Waiting) {
                Some((&farthest, _)) if farthest > distance => _ = self.candidates.remove(&farthest),
                _ => return false,
            }
        }
        self.candidates.insert(distance, Candidate { record, state: State::New, attempts: 0 });
        true
    }
}
