//! An iterative search for the nodes closest to a target, as an iterator machine (rust-libp2p `ClosestPeersIter`).
//!
//! It holds no node to its word: an answer counts as proof that the answerer lives, the nodes it names are
//! candidates only, and the result consists of answerers. Nor does it let one network fill the result: whoever has
//! enough keys has the closest to any target, but not the closest of many networks. It never sleeps: the caller asks
//! [`Lookup::poll`] whenever something has changed. Spec sheet kademlia_table §6.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::SubnetLimits;
use crate::key::NodeId;
use crate::record::NodeRecord;

/// Requests of one lookup in flight (Kademlia's alpha; go-ethereum `alpha`).
pub const ALPHA: usize = 3;

/// Candidates kept beyond the closest; enough that an honest network never meets it. Bounds what liars can fill.
const MAX_CANDIDATES: usize = 512;

/// Candidates of one network (IPv4 /24, IPv6 /48), more than can be of use: a liar's many must not drive out the others.
const MAX_CANDIDATES_OF_NETWORK: usize = 16;

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
///                │ │ ^ └─late─> Late ──answer──> Answered
///        failure │ │ │           │ failure
///                v │ │           v
///               Failed <─────────┘
///                  └─┘ again, if attempts are left and it is still among the closest
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Waiting,
    /// Still waited for, but others are asked meanwhile.
    Late,
    Answered,
    Failed,
}

#[derive(Debug)]
struct Candidate {
    record: NodeRecord,
    state: State,
    attempts: u32,
    network: Option<IpNet>,
    named_by: Option<IpAddr>,
}

impl Candidate {
    fn is_asked(&self) -> bool {
        matches!(self.state, State::Waiting | State::Late)
    }
}

/// A node that a lookup has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The node; it has answered.
    pub record: NodeRecord,
    /// Where the node is that named it first; `None` if it was known from the start.
    pub named_by: Option<IpAddr>,
}

/// Lets the first `limit` of each network pass. Those without a network are exempt.
fn few_of_each_network(limit: usize) -> impl FnMut(Option<IpNet>) -> bool {
    let mut seen: Vec<IpNet> = Vec::new();
    move |network| {
        let Some(network) = network else { return true };
        seen.push(network);
        seen.iter().filter(|other| **other == network).count() <= limit
    }
}

/// One lookup. Candidates are ordered by distance to the target.
#[derive(Debug)]
pub struct Lookup {
    local: NodeId,
    target: NodeId,
    count: usize,
    alpha: usize,
    attempts: u32,
    limits: SubnetLimits,
    candidates: BTreeMap<[u8; 32], Candidate>,
    in_flight: usize,
    queries: usize,
}

impl Lookup {
    /// A search for the `count` nodes closest to `target`, starting from `known`, with `alpha` requests at a time.
    /// A node that does not answer is asked up to `attempts` times, if by then it still is among the closest. Of one
    /// network at most `limits.bucket` nodes count as closest, the others as if they were not there.
    pub fn new(
        local: NodeId,
        target: NodeId,
        count: usize,
        alpha: usize,
        attempts: u32,
        limits: SubnetLimits,
        known: impl IntoIterator<Item = NodeRecord>,
    ) -> Lookup {
        let mut lookup = Lookup {
            local,
            target,
            count,
            alpha,
            attempts,
            limits,
            candidates: BTreeMap::new(),
            in_flight: 0,
            queries: 0,
        };
        known.into_iter().for_each(|record| _ = lookup.add(record, None));
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
    pub fn poll(&mut self) -> Step {
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
        if self.in_flight > 0 || self.awaits_late() { Step::Wait } else { Step::Finished }
    }

    /// Candidates in use or usable, closest first: those the result will come from.
    fn hopeful(&self) -> impl Iterator<Item = (&[u8; 32], &Candidate)> {
        let is_hopeful = |candidate: &Candidate| candidate.state != State::Failed || candidate.attempts < self.attempts;
        let mut has_room = few_of_each_network(self.limits.bucket);
        let counted =
            self.candidates.iter().filter(move |(_, candidate)| is_hopeful(candidate) && has_room(candidate.network));
        counted.take(self.count)
    }

    /// Whether a late answer would still matter.
    fn awaits_late(&self) -> bool {
        self.hopeful().any(|(_, candidate)| candidate.state == State::Late)
    }

    /// The closest node worth asking among the `count` closest that may still be alive. Those not asked yet go first:
    /// a second attempt is for when there is nothing better to do.
    fn next_candidate(&self) -> Option<[u8; 32]> {
        let mut again = None;
        for (distance, candidate) in self.hopeful() {
            match candidate.state {
                State::New => return Some(*distance),
                State::Failed => again = again.or(Some(*distance)),
                State::Waiting | State::Late | State::Answered => {}
            }
        }
        again
    }

    /// `id` has answered and named `nodes`. Returns those not seen before in this lookup.
    pub fn answered(&mut self, id: &NodeId, nodes: impl IntoIterator<Item = NodeRecord>) -> Vec<NodeRecord> {
        self.settle(id, State::Answered);
        let by = self.candidates.get(&self.target.distance(id)).map(|candidate| candidate.record.ip());
        nodes.into_iter().filter(|record| self.add(record.clone(), by)).collect()
    }

    /// `id` has not answered yet, but may: its place among the requests in flight goes to another.
    pub fn late(&mut self, id: &NodeId) {
        self.settle(id, State::Late);
    }

    /// `id` has not answered, and asking again is no use.
    pub fn given_up(&mut self, id: &NodeId) {
        self.settle(id, State::Failed);
        if let Some(candidate) = self.candidates.get_mut(&self.target.distance(id)) {
            candidate.attempts = candidate.attempts.max(self.attempts);
        }
    }

    /// `id` has not answered.
    pub fn failed(&mut self, id: &NodeId) {
        self.settle(id, State::Failed);
    }

    /// The closest nodes that answered, or are known to live all the same, closest first.
    pub fn into_result(self, is_alive: impl Fn(&NodeRecord) -> bool) -> Vec<Found> {
        let is_result = |candidate: &Candidate| candidate.state == State::Answered || is_alive(&candidate.record);
        let mut has_room = few_of_each_network(self.limits.bucket);
        let (count, candidates) = (self.count, self.candidates.into_values().filter(is_result));
        let counted = candidates.filter(|candidate| has_room(candidate.network)).take(count);
        counted.map(|candidate| Found { record: candidate.record, named_by: candidate.named_by }).collect()
    }

    fn settle(&mut self, id: &NodeId, state: State) {
        let Some(candidate) = self.candidates.get_mut(&self.target.distance(id)) else { return };
        match candidate.state {
            State::Waiting => self.in_flight = self.in_flight.saturating_sub(1),
            State::Late => {}
            State::New | State::Answered | State::Failed => return,
        }
        candidate.state = state;
    }

    fn add(&mut self, record: NodeRecord, named_by: Option<IpAddr>) -> bool {
        let id = record.id();
        if self.has_seen(&id) {
            return false;
        }
        let (distance, network) = (self.target.distance(&id), self.limits.subnet(record.ip()));
        let of_network = self.candidates.values().filter(|other| network.is_some() && other.network == network).count();
        let has_room = if of_network >= MAX_CANDIDATES_OF_NETWORK {
            self.make_room(&distance, |candidate| candidate.network == network)
        } else {
            self.candidates.len() < MAX_CANDIDATES || self.make_room(&distance, |_| true)
        };
        if has_room {
            self.candidates.insert(distance, Candidate { network, named_by, record, state: State::New, attempts: 0 });
        }
        has_room
    }

    /// Forgets the farthest candidate of a kind that is not in use, if it is farther than the new one.
    fn make_room(&mut self, distance: &[u8; 32], is_kind: impl Fn(&Candidate) -> bool) -> bool {
        let farthest = self.candidates.iter().rfind(|(_, candidate)| !candidate.is_asked() && is_kind(candidate));
        let Some(farthest) = farthest.map(|(farthest, _)| *farthest).filter(|farthest| farthest > distance) else {
            return false;
        };
        self.candidates.remove(&farthest).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::SecretKey;

    /// `count` nodes of networks of their own, sorted by distance to a random target.
    fn nodes(count: usize, seed: u64) -> (NodeId, Vec<NodeRecord>) {
        let mut rng = StdRng::seed_from_u64(seed);
        let target = NodeId(rng.random());
        let ips = (0x1800_0001_u32..).step_by(256).map(Ipv4Addr::from);
        let mut nodes: Vec<_> = ips.take(count).map(|ip| node(&mut rng, ip)).collect();
        nodes.sort_by_key(|node| target.distance(&node.id()));
        (target, nodes)
    }

    fn node(rng: &mut StdRng, ip: Ipv4Addr) -> NodeRecord {
        NodeRecord::new(*SecretKey::random(rng).public(), ip.into(), 30303, 0).unwrap()
    }

    fn result(lookup: Lookup) -> Vec<NodeRecord> {
        lookup.into_result(|_| false).into_iter().map(|found| found.record).collect()
    }

    fn lookup(target: NodeId, attempts: u32, known: &[NodeRecord]) -> Lookup {
        Lookup::new(NodeId([0; 32]), target, 16, ALPHA, attempts, SubnetLimits::default(), known.iter().cloned())
    }

    /// The queries it wants now.
    fn queries(lookup: &mut Lookup) -> Vec<NodeRecord> {
        std::iter::from_fn(|| match lookup.poll() {
            Step::Query(node) => Some(node),
            Step::Wait | Step::Finished => None,
        })
        .collect()
    }

    #[test]
    fn nothing_known_is_finished_at_once() {
        let mut lookup = lookup(NodeId([1; 32]), 2, &[]);
        assert!(matches!(lookup.poll(), Step::Finished));
        assert!(result(lookup).is_empty());
    }

    #[test]
    fn three_at_a_time_closest_first() {
        let (target, nodes) = nodes(6, 1);
        let mut lookup = lookup(target, 2, &nodes[2..]);
        assert_eq!(queries(&mut lookup), nodes[2..5]);
        assert!(matches!(lookup.poll(), Step::Wait));
        // A closer node is asked before those that were known.
        assert_eq!(lookup.answered(&nodes[3].id(), nodes[..1].to_vec()), nodes[..1]);
        assert_eq!(queries(&mut lookup), nodes[..1]);
    }

    #[test]
    fn seen_nodes_and_ourselves_are_not_new() {
        let (target, nodes) = nodes(4, 2);
        let limits = SubnetLimits::default();
        let mut lookup = Lookup::new(nodes[3].id(), target, 16, ALPHA, 2, limits, nodes[..2].to_vec());
        queries(&mut lookup);
        assert_eq!(lookup.answered(&nodes[0].id(), nodes.clone()), nodes[2..3]);
    }

    #[test]
    fn ends_when_the_sixteen_closest_have_answered() {
        let (target, nodes) = nodes(40, 3);
        let mut lookup = lookup(target, 2, &nodes[20..36]);
        let mut asked = 0;
        loop {
            let batch = queries(&mut lookup);
            if batch.is_empty() {
                break;
            }
            for node in batch {
                asked += 1;
                lookup.answered(&node.id(), nodes.clone());
            }
        }
        assert!(matches!(lookup.poll(), Step::Finished));
        assert_eq!(result(lookup), nodes[..16]);
        assert!(asked <= 16 + ALPHA, "{asked} queries");
    }

    #[test]
    fn silent_nodes_are_asked_again_when_nothing_better_is_left_and_then_give_way() {
        let (target, nodes) = nodes(17, 4);
        let mut lookup = lookup(target, 2, &nodes);
        let silent = nodes[0].id();
        let mut asked = Vec::new();
        loop {
            let batch = queries(&mut lookup);
            if batch.is_empty() {
                break;
            }
            for node in batch {
                asked.push(node.id());
                match node.id() == silent {
                    true => lookup.failed(&silent),
                    false => _ = lookup.answered(&node.id(), []),
                }
            }
        }
        assert_eq!(asked.iter().filter(|id| **id == silent).count(), 2);
        let last_two: Vec<_> = asked.iter().rev().take(2).collect();
        assert!(last_two.contains(&&silent), "asked again only at the end");
        assert_eq!(result(lookup), nodes[1..17], "its place goes to the next");
    }

    #[test]
    fn who_is_given_up_is_not_asked_again() {
        let (target, nodes) = nodes(3, 8);
        let mut lookup = lookup(target, 2, &nodes);
        assert_eq!(queries(&mut lookup), nodes);
        lookup.given_up(&nodes[0].id());
        nodes[1..].iter().for_each(|node| _ = lookup.answered(&node.id(), []));
        assert!(matches!(lookup.poll(), Step::Finished));
        assert_eq!(result(lookup), nodes[1..]);
    }

    #[test]
    fn a_late_node_holds_up_the_end_but_not_the_others() {
        let (target, nodes) = nodes(5, 7);
        let mut lookup = lookup(target, 1, &nodes);
        assert_eq!(queries(&mut lookup), nodes[..3]);
        lookup.late(&nodes[0].id());
        assert_eq!(queries(&mut lookup), nodes[3..4]);
        nodes[1..4].iter().for_each(|node| _ = lookup.answered(&node.id(), []));
        assert_eq!(queries(&mut lookup), nodes[4..]);
        lookup.answered(&nodes[4].id(), []);
        assert!(matches!(lookup.poll(), Step::Wait));
        lookup.answered(&nodes[0].id(), []);
        assert!(matches!(lookup.poll(), Step::Finished));
        assert_eq!(result(lookup), nodes);
    }

    #[test]
    fn answers_nobody_waits_for_change_nothing() {
        let (target, nodes) = nodes(3, 5);
        let mut lookup = lookup(target, 2, &nodes[..1]);
        lookup.failed(&nodes[2].id());
        lookup.failed(&nodes[0].id());
        assert_eq!(queries(&mut lookup), nodes[..1], "not asked yet, so it cannot have failed");
        lookup.answered(&nodes[0].id(), []);
        lookup.failed(&nodes[0].id());
        assert!(matches!(lookup.poll(), Step::Finished));
        assert_eq!(result(lookup), nodes[..1]);
    }

    /// Liars that always name closer nodes are asked a bounded number of times, and stored in bounded number.
    #[test]
    fn a_lookup_ends_even_if_everybody_lies() {
        let (target, nodes) = nodes(2000, 6);
        let mut far = nodes;
        let mut lookup = lookup(target, 2, &far.split_off(1999));
        let mut asked = 0;
        while let Step::Query(node) = lookup.poll() {
            asked += 1;
            lookup.answered(&node.id(), far.pop()); // a closer one each time
        }
        assert_eq!(asked, MAX_QUERIES);
        assert!(lookup.candidates.len() <= MAX_CANDIDATES);
    }

    /// Somebody with many keys has the sixteen closest to any target. Of one network two count; the others are not even
    /// asked.
    #[test]
    fn one_network_gets_two_places() {
        let (target, honest) = nodes(40, 8);
        let mut rng = StdRng::seed_from_u64(9);
        let mut liars: Vec<_> =
            (0..2000_u32).map(|n| node(&mut rng, Ipv4Addr::new(23, 1, 1, (n % 254) as u8 + 1))).collect();
        liars.sort_by_key(|node| target.distance(&node.id()));
        let mut lookup = lookup(target, 2, &[&honest[20..36], &liars[100..]].concat());
        let mut asked = Vec::new();
        loop {
            let batch = queries(&mut lookup);
            if batch.is_empty() {
                break;
            }
            for node in batch {
                let is_liar = liars.contains(&node);
                lookup.answered(&node.id(), if is_liar { liars[..16].to_vec() } else { honest[..16].to_vec() });
                asked.extend(is_liar.then_some(node));
            }
        }
        assert!(asked.len() <= 2 * ALPHA, "{} liars asked", asked.len());
        let found = lookup.into_result(|_| false);
        let nodes: Vec<_> = found.iter().map(|found| found.record.clone()).collect();
        assert_eq!(nodes.iter().filter(|node| liars.contains(node)).count(), 2);
        assert!(honest[..14].iter().all(|node| nodes.contains(node)));
        let by_liars = found.iter().filter(|found| liars.iter().any(|liar| found.named_by == Some(liar.ip())));
        assert_eq!(by_liars.count(), 2);
    }

    #[test]
    fn a_local_network_has_as_many_places_as_it_likes() {
        let mut rng = StdRng::seed_from_u64(10);
        let nodes: Vec<_> = (0..30).map(|_| node(&mut rng, Ipv4Addr::LOCALHOST)).collect();
        let mut lookup = lookup(NodeId([3; 32]), 2, &nodes);
        loop {
            let batch = queries(&mut lookup);
            if batch.is_empty() {
                break;
            }
            batch.iter().for_each(|node| _ = lookup.answered(&node.id(), []));
        }
        assert_eq!(result(lookup).len(), 16);
    }
}
