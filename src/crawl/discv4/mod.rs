//! The Ethereum crawl: every node is asked for every useful bucket of its table, then for its record.
//!
//! [`Crawl`] is a machine: [`Crawl::poll_question`] says whom to ask what, [`Crawl::handle_answer`] takes the outcome. When nobody is left to
//! visit, all who answered are asked once more for their closest neighbours: a young node is in few tables, those of its neighbours, and is
//! named only when these have checked it. The crawl [is over](Crawl::is_over) when such a second look brings nothing new. A node is visited by one question after the other; many are visited at
//! once. Endpoint proofs and time-outs of single packets are the business of [`kadwire_discovery`]'s `Discovery`, which the driver asks.

mod buckets;
mod driver;
mod node;
mod targets;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use kadwire_discovery::{Enr, NodeId, NodeRecord, Now};

use self::buckets::{Buckets, FULL, Told};
pub use self::driver::crawl;
pub use self::node::EthNode;
use self::targets::Targets;
use super::topology::{Learned, Topology};
use super::{Config, Progress};

/// Endpoints remembered for one node id: the network may hold stale or false ones, and the first heard of need not be the true one.
const ENDPOINTS: usize = 4;

/// Second looks at most: a network that grows faster than it is crawled is not crawled for ever.
const MAX_SECOND_LOOKS: u32 = 4;

/// A question to one node.
#[derive(Debug, Clone)]
pub struct Question {
    /// Whom to ask.
    pub to: NodeRecord,
    /// What to ask.
    pub ask: Ask,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// FindNode with this target.
    Neighbors([u8; 64]),
    /// ENRRequest (EIP-868).
    Record,
    /// Ping: the last attempt at a silent node, which may live and not answer FindNode.
    Ping,
}

/// The outcome of a [`Question`].
#[derive(Debug, Clone)]
pub enum Answer {
    /// The nodes of a Neighbors answer, at most sixteen are read.
    Neighbors(Vec<NodeRecord>),
    /// Its record.
    Record(Enr),
    /// A Pong.
    Pong,
    /// None, for this cause: a short name in lower case, a key of `errors` in `crawl.json`.
    Failed(&'static str),
}

/// A visit to one node, from its first question to its last.
#[derive(Debug)]
struct Visit {
    next: Next,
    /// The endpoint in use, then others heard of.
    endpoints: Vec<NodeRecord>,
    /// How often the current question failed.
    failed: u32,
}

impl Visit {
    fn is_new(&self, record: &NodeRecord) -> bool {
        self.endpoints.len() < ENDPOINTS && self.endpoints.iter().all(|known| known.endpoint() != record.endpoint())
    }
}

/// ```text
///   Buckets(Closest) -> … -> Buckets(Done) -> Record -> gone      SecondLook -> gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Buckets(Buckets),
    Record,
    SecondLook,
}

/// The machine. See the module.
#[derive(Debug)]
pub struct Crawl {
    config: Config,
    own: NodeId,
    targets: Targets,
    topology: Topology<EthNode>,
    /// Nodes not yet done with.
    visits: HashMap<NodeId, Visit>,
    /// Nodes given up, which never answered at the endpoints heard of.
    silent: HashMap<NodeId, Visit>,
    /// Never visited.
    fresh: VecDeque<NodeId>,
    /// In a visit, with a next question.
    ready: VecDeque<NodeId>,
    /// To be asked again, when.
    again: BTreeMap<(Instant, u64), NodeId>,
    /// Makes the keys of `again` unique.
    retries: u64,
    /// Visits that hold one of `config.parallel` places.
    in_flight: usize,
    reachable: usize,
    /// Nodes first heard of since the last second look began.
    news: usize,
    second_looks: u32,
    over: bool,
    asked: u64,
    answered: u64,
}

impl Crawl {
    /// A crawl by the node `own`, which is left out of the result.
    pub fn new(config: Config, own: NodeId) -> Self {
        Crawl {
            topology: Topology::new(config.limits),
            config,
            own,
            targets: Targets::new(),
            visits: HashMap::new(),
            silent: HashMap::new(),
            fresh: VecDeque::new(),
            ready: VecDeque::new(),
            again: BTreeMap::new(),
            retries: 0,
            in_flight: 0,
            reachable: 0,
            news: 0,
            second_looks: 0,
            over: false,
            asked: 0,
            answered: 0,
        }
    }

    /// Adds a node to start from.
    pub fn add(&mut self, now: Now, record: NodeRecord) {
        let id = record.id();
        if id == self.own {
            return;
        }
        let node = EthNode {
            record: record.clone(),
            enr: record.enr().cloned(),
            first_seen: now.wall,
            reachable: false,
            error: None,
        };
        match self.topology.add(node) {
            Learned::New => {
                self.news += 1;
                let next = Next::Buckets(Buckets::Closest { again: false });
                self.visits.insert(id, Visit { next, endpoints: vec![record], failed: 0 });
                self.fresh.push_back(id);
            }
            Learned::Known => self.note_endpoint(id, record),
            Learned::Refused => {}
        }
    }

    /// Keeps another endpoint of a node that has not answered yet, and goes back to a node that was given up.
    fn note_endpoint(&mut self, id: NodeId, record: NodeRecord) {
        let reachable = self.topology.node(&id).is_some_and(|node| node.reachable);
        let visit = self.visits.get_mut(&id).or_else(|| self.silent.get_mut(&id));
        let Some(visit) = visit.filter(|visit| !reachable && visit.is_new(&record)) else { return };
        visit.endpoints.push(record);
        if let Some(mut visit) = self.silent.remove(&id) {
            visit.endpoints.rotate_right(1);
            visit.failed = 0;
            self.visits.insert(id, visit);
            self.fresh.push_back(id);
        }
    }

    /// Whom to ask what now. Every question must be followed by one [`Self::handle_answer`].
    pub fn poll_question(&mut self, now: Now) -> Option<Question> {
        if self.visits.is_empty() {
            self.look_again();
        }
        loop {
            let id = self.ready.pop_front().or_else(|| self.open_visit(now))?;
            if let Some(question) = self.question(id) {
                self.asked += 1;
                return Some(question);
            }
            self.close_visit(id);
        }
    }

    /// Everybody was visited. Those who answered once more, unless the last time brought nothing.
    fn look_again(&mut self) {
        self.over = self.news == 0 || self.second_looks >= MAX_SECOND_LOOKS;
        if self.over {
            return;
        }
        self.second_looks += 1;
        self.news = 0;
        for node in self.topology.nodes().iter().filter(|node| node.reachable) {
            let endpoints = vec![node.record.clone()];
            self.visits.insert(node.record.id(), Visit { next: Next::SecondLook, endpoints, failed: 0 });
            self.fresh.push_back(node.record.id());
        }
        self.over = self.visits.is_empty();
    }

    /// Takes a place for the next node to visit, if one is free.
    fn open_visit(&mut self, now: Now) -> Option<NodeId> {
        if self.in_flight >= self.config.parallel {
            return None;
        }
        let due = self.again.first_entry().filter(|entry| entry.key().0 <= now.monotonic);
        let id = due.map(|entry| entry.remove()).or_else(|| self.fresh.pop_front())?;
        self.in_flight += 1;
        Some(id)
    }

    fn close_visit(&mut self, id: NodeId) {
        self.visits.remove(&id);
        self.in_flight -= 1;
    }

    /// The next question of a visit; `None` when there is no more.
    fn question(&mut self, id: NodeId) -> Option<Question> {
        let visit = self.visits.get_mut(&id)?;
        let to = visit.endpoints.first()?.clone();
        let is_last_attempt = visit.failed > 0 && visit.failed + 1 == self.config.attempts;
        if is_last_attempt && self.topology.node(&id).is_some_and(|node| !node.reachable) {
            return Some(Question { to, ask: Ask::Ping });
        }
        loop {
            let buckets = match visit.next {
                Next::Buckets(buckets) => buckets,
                Next::Record => return Some(Question { to, ask: Ask::Record }),
                Next::SecondLook => {
                    let ask = Ask::Neighbors(*to.key().as_bytes());
                    return Some(Question { to, ask });
                }
            };
            let target = match buckets.distance() {
                Some(0) => Some(*to.key().as_bytes()),
                Some(distance) => self.targets.at(&id, distance),
                None => {
                    visit.next = Next::Record;
                    continue;
                }
            };
            match target {
                Some(target) => return Some(Question { to, ask: Ask::Neighbors(target) }),
                None => visit.next = Next::Buckets(buckets.skipped()),
            }
        }
    }

    /// Takes the outcome of a question put to `id`.
    pub fn handle_answer(&mut self, now: Now, id: NodeId, answer: Answer) {
        if !self.visits.contains_key(&id) {
            return;
        }
        match answer {
            Answer::Neighbors(nodes) => self.handle_neighbors(now, id, nodes),
            Answer::Record(enr) => self.handle_record(id, enr),
            Answer::Pong => self.handle_pong(id),
            Answer::Failed(cause) => self.handle_failure(now, id, cause),
        }
    }

    fn handle_neighbors(&mut self, now: Now, id: NodeId, nodes: Vec<NodeRecord>) {
        self.handle_life(id);
        self.answered += 1;
        let mut told = Told { count: nodes.len(), ..Told::default() };
        for node in nodes.into_iter().take(FULL) {
            let other = node.id();
            told.outermost = told.outermost.max(other.log_distance(&id));
            self.add(now, node);
            told.news += usize::from(self.topology.connect(id, other) == Learned::New);
        }
        told.all = self.topology.told_by(&id);
        self.advance(id, |next| match next {
            Next::Buckets(buckets) => Some(Next::Buckets(buckets.answered(told))),
            Next::Record | Next::SecondLook => None,
        });
    }

    fn handle_record(&mut self, id: NodeId, enr: Enr) {
        self.handle_life(id);
        self.answered += 1;
        if let Some(node) = self.topology.node_mut(&id)
            && enr.node_id() == id
        {
            node.enr = Some(enr);
        }
        self.advance(id, |_| None);
    }

    /// It lives: what it did not answer is asked once more, as of anybody.
    fn handle_pong(&mut self, id: NodeId) {
        self.handle_life(id);
        self.answered += 1;
        self.advance(id, Some);
    }

    fn handle_failure(&mut self, now: Now, id: NodeId, cause: &'static str) {
        let (Some(node), Some(visit)) = (self.topology.node_mut(&id), self.visits.get_mut(&id)) else { return };
        let reachable = node.reachable;
        visit.failed += 1;
        let attempts =
            if reachable { self.config.attempts } else { self.config.attempts.max(visit.endpoints.len() as u32) };
        if visit.failed < attempts {
            if !reachable {
                visit.endpoints.rotate_left(1);
            }
            // The place goes to somebody else meanwhile.
            self.in_flight -= 1;
            self.again.insert((now.monotonic + self.config.retry_after * visit.failed, self.retries), id);
            self.retries += 1;
            return;
        }
        if visit.next != Next::SecondLook {
            node.error = Some(cause);
        }
        if reachable {
            self.advance(id, |next| match next {
                Next::Buckets(buckets) => Some(Next::Buckets(buckets.skipped())),
                Next::Record | Next::SecondLook => None,
            });
        } else if let Some(visit) = self.visits.remove(&id) {
            self.in_flight -= 1;
            self.silent.insert(id, visit);
        }
    }

    /// It answered: the endpoint asked is the true one.
    fn handle_life(&mut self, id: NodeId) {
        let (Some(node), Some(visit)) = (self.topology.node_mut(&id), self.visits.get_mut(&id)) else { return };
        if !node.reachable {
            node.reachable = true;
            self.reachable += 1;
            visit.endpoints.truncate(1);
            if let Some(true_one) = visit.endpoints.first() {
                node.record = true_one.clone();
            }
        }
    }

    /// Goes on with the visit, or ends it.
    fn advance(&mut self, id: NodeId, step: impl FnOnce(Next) -> Option<Next>) {
        let Some(visit) = self.visits.get_mut(&id) else { return };
        visit.failed = 0;
        match step(visit.next) {
            Some(next) => {
                visit.next = next;
                self.ready.push_back(id);
            }
            None => self.close_visit(id),
        }
    }

    /// When to call [`Self::poll_question`] again even if no answer comes.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.again.keys().next().map(|&(due, _)| due).filter(|_| self.in_flight < self.config.parallel)
    }

    /// Nothing in flight, nobody left to visit, and nothing new at a second look; known once [`Self::poll_question`] gave `None`.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            found: self.topology.nodes().len(),
            reachable: self.reachable,
            edges: self.topology.edge_count(),
            waiting: self.fresh.len() + self.again.len(),
            in_flight: self.in_flight,
            asked: self.asked,
            answered: self.answered,
        }
    }

    /// What was learned.
    pub fn topology(&self) -> &Topology<EthNode> {
        &self.topology
    }

    /// What was learned, at the end.
    pub fn into_topology(self) -> Topology<EthNode> {
        self.topology
    }
}
