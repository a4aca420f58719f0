//! The Tendermint crawl: every PEX peer is dialed and asked for addresses.
//!
//! [`Crawl`] is a machine: [`Crawl::poll_visit`] says whom to dial, [`Crawl::handle_visited`] takes what came of it. A peer answers with a
//! *sample* of its address book (CometBFT: 23 %, at least 32, at most 250 addresses; pex.md §2), so one answer of 32 or more need not be all it
//! knows. When everybody has been visited, those are visited again, until rounds bring nothing new: two in a row, or four while some node was
//! told only once (by Good and Turing's rule the chance that the next address is a new one is about the share of those told once).

mod driver;
mod node;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use kadwire_discovery::Now;
use kadwire_wire::tendermint::node_info::NodeInfo;
use kadwire_wire::{PeerAddress, PeerId};

pub use self::driver::{channel, crawl};
pub use self::node::TendermintNode;
use super::Progress;
use super::topology::{Learned, Topology};
use crate::visit::Trouble;

/// Addresses remembered for one id: others may tell stale or false ones.
const ADDRESSES: usize = 4;

/// Most addresses read from one answer (CometBFT `maxGetSelection`).
const LONGEST_ANSWER: usize = 250;

/// A shorter answer is the whole book (CometBFT `minGetSelection`).
const SHORTEST_SAMPLE: usize = 32;

/// So many rounds in a row without news end the crawl. A node in one book of 100 escapes six samples of 32 in one case of ten, one in two
/// such books in one of a hundred.
const QUIET_ROUNDS: u32 = 2;

/// The same while some node was told only once.
const QUIET_ROUNDS_UNSURE: u32 = 4;

/// The cause of a request that a peer lets go unanswered while it stays connected: it has been asked enough. Not so a peer that hangs up:
/// a seed answers one request a connection (CometBFT `pex_reactor.go`, `Receive`), and answers again on the next.
const UNANSWERED: &str = Trouble::Unanswered.name();

/// What a Tendermint crawl needs to be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// As for every crawl; an attempt is a visit that brought no answer.
    pub crawl: super::Config,
    /// Visits to one peer, at most.
    pub visits: u32,
    /// Wait before a peer is visited again: it must have noticed that we left, else we are a duplicate.
    pub revisit_after: Duration,
    /// Wait for the answer to a PexRequest.
    pub answer_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let crawl = super::Config {
            parallel: 64,
            attempts: 2,
            retry_after: Duration::from_secs(1),
            ..super::Config::default()
        };
        Config { crawl, visits: 32, revisit_after: Duration::from_millis(300), answer_timeout: Duration::from_secs(5) }
    }
}

/// A visit to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Whom to dial.
    pub address: PeerAddress,
    /// It has answered before. A peer that is asked too often does not always say so: no long wait this time.
    pub has_answered: bool,
}

/// What came of a visit.
#[derive(Debug, Clone, Default)]
pub struct Visited {
    /// What the peer says of itself, if the handshake came to its end.
    pub node_info: Option<NodeInfo>,
    /// PexRequests sent.
    pub asked: u32,
    /// The answers to them.
    pub answers: Vec<Vec<PeerAddress>>,
    /// What went wrong, if there is no answer: a key of `errors` in `crawl.json`.
    pub error: Option<&'static str>,
    /// No use to try this address again.
    pub hopeless: bool,
}

impl Visited {
    /// Whether an answer of so many addresses need not be all the peer knows.
    pub fn is_sample(addresses: usize) -> bool {
        addresses >= SHORTEST_SAMPLE
    }
}

/// Where the crawl stands with one peer.
#[derive(Debug)]
struct Standing {
    /// Addresses heard of, until it is reached; then the one that worked.
    addresses: Vec<PeerAddress>,
    /// The one in use.
    current: usize,
    /// Visits without an answer in a row, at the address in use.
    failed: u32,
    /// No address is left to try. Another one may yet be heard of.
    given_up: bool,
    visits: u32,
    last_visit: Option<Instant>,
    /// Its last answer may not have been all.
    sampled: bool,
}

impl Standing {
    fn new(address: PeerAddress) -> Self {
        Standing {
            addresses: vec![address],
            current: 0,
            failed: 0,
            given_up: false,
            visits: 0,
            last_visit: None,
            sampled: false,
        }
    }
}

/// The machine. See the module.
#[derive(Debug)]
pub struct Crawl {
    config: Config,
    own: PeerId,
    topology: Topology<TendermintNode>,
    standing: HashMap<PeerId, Standing>,
    fresh: VecDeque<PeerId>,
    /// To be visited again, when.
    again: BTreeMap<(Instant, u64), PeerId>,
    /// Makes the keys of `again` unique.
    repeats: u64,
    in_flight: usize,
    reachable: usize,
    /// Nodes first told in this round.
    news: usize,
    /// Rounds in a row without news.
    quiet: u32,
    over: bool,
    asked: u64,
    answered: u64,
}

impl Crawl {
    /// A crawl by the node `own`, which is left out of the result.
    pub fn new(config: Config, own: PeerId) -> Self {
        Crawl {
            topology: Topology::new(config.crawl.limits),
            config,
            own,
            standing: HashMap::new(),
            fresh: VecDeque::new(),
            again: BTreeMap::new(),
            repeats: 0,
            in_flight: 0,
            reachable: 0,
            news: 0,
            quiet: 0,
            over: false,
            asked: 0,
            answered: 0,
        }
    }

    /// Adds a peer to start from.
    pub fn add(&mut self, now: Now, address: PeerAddress) {
        let id = address.id();
        if id == self.own || id.tendermint().is_none() {
            return;
        }
        let node =
            TendermintNode { address: address.clone(), node_info: None, first_seen: now.wall, error: None, told: 0 };
        match self.topology.add(node) {
            Learned::New => {
                self.news += 1;
                self.standing.insert(id, Standing::new(address));
                self.fresh.push_back(id);
            }
            Learned::Known => self.note_address(id, address),
            Learned::Refused => {}
        }
    }

    /// Keeps another address of a peer that was not reached yet.
    fn note_address(&mut self, id: PeerId, address: PeerAddress) {
        let reached = self.topology.node(&id).is_some_and(|node| node.node_info.is_some());
        if let Some(standing) = self.standing.get_mut(&id)
            && !reached
            && standing.addresses.len() < ADDRESSES
            && !standing.addresses.contains(&address)
        {
            standing.addresses.push(address);
            if standing.given_up {
                standing.given_up = false;
                standing.current += 1;
                standing.failed = 0;
                self.fresh.push_back(id);
            }
        }
    }

    /// Whom to visit now. Every visit must be followed by one [`Self::handle_visited`].
    pub fn poll_visit(&mut self, now: Now) -> Option<Visit> {
        if self.in_flight >= self.config.crawl.parallel {
            return None;
        }
        if self.in_flight == 0 && self.fresh.is_empty() && self.again.is_empty() {
            self.next_round(now);
            self.over = self.again.is_empty();
        }
        let due = self.again.first_entry().filter(|entry| entry.key().0 <= now.monotonic);
        let id = due.map(|entry| entry.remove()).or_else(|| self.fresh.pop_front())?;
        let standing = self.standing.get_mut(&id)?;
        standing.visits += 1;
        standing.last_visit = Some(now.monotonic);
        self.in_flight += 1;
        let address = standing.addresses.get(standing.current)?.clone();
        Some(Visit { address, has_answered: standing.sampled })
    }

    /// Everybody was visited. Those whose answers were samples once more, if that is likely to bring something.
    fn next_round(&mut self, now: Now) {
        self.quiet = if self.news > 0 { 0 } else { self.quiet + 1 };
        self.news = 0;
        let told_once = self.topology.nodes().iter().any(|node| node.told == 1);
        if self.quiet >= if told_once { QUIET_ROUNDS_UNSURE } else { QUIET_ROUNDS } {
            return;
        }
        let Config { visits, revisit_after, .. } = self.config;
        for node in self.topology.nodes() {
            let id = node.address.id();
            let Some(standing) = self.standing.get(&id).filter(|standing| standing.sampled && standing.visits < visits)
            else {
                continue;
            };
            let due = standing.last_visit.map_or(now.monotonic, |last| last + revisit_after);
            self.again.insert((due, self.repeats), id);
            self.repeats += 1;
        }
    }

    /// Takes what came of a visit to `id`.
    pub fn handle_visited(&mut self, now: Now, id: PeerId, visited: Visited) {
        let (Some(node), Some(standing)) = (self.topology.node_mut(&id), self.standing.get_mut(&id)) else { return };
        self.in_flight -= 1;
        self.asked += u64::from(visited.asked);
        self.answered += visited.answers.len() as u64;
        if let Some(info) = visited.node_info {
            self.reachable += usize::from(node.node_info.is_none());
            node.node_info = Some(info);
            if let Some(true_one) = standing.addresses.get(standing.current).cloned() {
                node.address = true_one.clone();
                standing.addresses = vec![true_one];
                standing.current = 0;
            }
        }
        if visited.answers.is_empty() {
            self.handle_failure(now, id, visited.error.unwrap_or("no_answer"), visited.hopeless);
            return;
        }
        node.error = None;
        let is_sample = visited.answers.iter().any(|answer| Visited::is_sample(answer.len()));
        standing.sampled = is_sample && visited.error != Some(UNANSWERED);
        standing.failed = 0;
        for answer in visited.answers {
            self.handle_answer(now, id, answer);
        }
    }

    fn handle_answer(&mut self, now: Now, id: PeerId, answer: Vec<PeerAddress>) {
        // What stands in a whole book needs no second sample to be sure of.
        let weight = if Visited::is_sample(answer.len()) { 1 } else { 2 };
        for address in answer.into_iter().take(LONGEST_ANSWER) {
            let told = address.id();
            if told == id {
                continue;
            }
            self.add(now, address);
            self.topology.connect(id, told);
            if let Some(node) = self.topology.node_mut(&told) {
                node.told = node.told.saturating_add(weight);
            }
        }
    }

    fn handle_failure(&mut self, now: Now, id: PeerId, error: &'static str, hopeless: bool) {
        let (Some(node), Some(standing)) = (self.topology.node_mut(&id), self.standing.get_mut(&id)) else { return };
        if standing.sampled {
            // It did answer in an earlier round.
            standing.sampled = error != UNANSWERED && !hopeless;
            return;
        }
        node.error = Some(error);
        standing.failed += 1;
        if hopeless || standing.failed >= self.config.crawl.attempts {
            if standing.current + 1 >= standing.addresses.len() {
                standing.given_up = true;
                return;
            }
            standing.current += 1;
            standing.failed = 0;
        }
        self.again.insert((now.monotonic + self.config.crawl.retry_after * standing.failed, self.repeats), id);
        self.repeats += 1;
    }

    /// When to call [`Self::poll_visit`] again even if no visit ends.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.again.keys().next().map(|&(due, _)| due).filter(|_| self.in_flight < self.config.crawl.parallel)
    }

    /// Nothing in flight, nobody waiting, and another round would bring nothing; known once [`Self::poll_visit`] gave `None`.
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
    pub fn topology(&self) -> &Topology<TendermintNode> {
        &self.topology
    }

    /// What was learned, at the end.
    pub fn into_topology(self) -> Topology<TendermintNode> {
        self.topology
    }
}
