//! The Tendermint crawl: every PEX peer is dialed and asked for addresses.
//!
//! [`Crawl`] is a machine: [`Crawl::poll_visit`] says whom to dial, [`Crawl::handle_visited`] takes what came of it. A peer answers with a
//! *sample* of its address book (CometBFT: 23 %, at least 32, at most 250 addresses; pex.md §2), so one answer of 32 or more need not be all it
//! knows. Such a peer is visited again until its visits bring nothing new: two in a row, or four while some node was told only once (by Good
//! and Turing's rule the chance that the next address is a new one is about the share of those told once). Who has not been visited yet comes
//! first; but nobody waits for the others, of whom many are dead and take their time to show it.

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

/// So many visits in a row without news are enough for one peer, beside the first. A node in one book of 100 escapes six samples of 32 in one
/// case of ten, one in two such books in one of a hundred.
const QUIET_VISITS: u32 = 2;

/// The same while some node was told only once.
const QUIET_VISITS_UNSURE: u32 = 4;

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
        // A visit is mostly waiting: CometBFT 0.38 holds every answer back for 100 ms.
        let crawl = super::Config {
            parallel: 128,
            attempts: 2,
            retry_after: Duration::from_secs(1),
            ..super::Config::default()
        };
        Config { crawl, visits: 32, revisit_after: Duration::from_millis(100), answer_timeout: Duration::from_secs(5) }
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
    /// Visits in a row, the first one apart, whose answers told nobody new.
    quiet: u32,
    /// No address is left to try. Another one may yet be heard of.
    given_up: bool,
    visits: u32,
    /// When the last visit ended.
    left: Option<Instant>,
    /// Its last answer may not have been all.
    sampled: bool,
}

impl Standing {
    fn new(address: PeerAddress) -> Self {
        Standing {
            addresses: vec![address],
            current: 0,
            failed: 0,
            quiet: 0,
            given_up: false,
            visits: 0,
            left: None,
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
    /// Nodes that were told only once.
    told_once: usize,
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
            told_once: 0,
            over: false,
            asked: 0,
            answered: 0,
        }
    }

    /// Adds a peer to start from.
    pub fn add(&mut self, now: Now, address: PeerAddress) {
        self.learn(now, address);
    }

    /// Whether it is a node that was not known.
    fn learn(&mut self, now: Now, address: PeerAddress) -> bool {
        let id = address.id();
        if id == self.own || id.tendermint().is_none() {
            return false;
        }
        let node =
            TendermintNode { address: address.clone(), node_info: None, first_seen: now.wall, error: None, told: 0 };
        match self.topology.add(node) {
            Learned::New => {
                self.standing.insert(id, Standing::new(address));
                self.fresh.push_back(id);
                return true;
            }
            Learned::Known => self.note_address(id, address),
            Learned::Refused => {}
        }
        false
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
            // Somebody was told only once after others seemed to have told all.
            let everybody: Vec<PeerId> = self.topology.nodes().iter().map(|node| node.address.id()).collect();
            everybody.into_iter().for_each(|id| self.look_again(now, id));
            self.over = self.again.is_empty();
        }
        let due =
            || self.again.first_entry().filter(|entry| entry.key().0 <= now.monotonic).map(|entry| entry.remove());
        let id = self.fresh.pop_front().or_else(due)?;
        let standing = self.standing.get_mut(&id)?;
        standing.visits += 1;
        self.in_flight += 1;
        let address = standing.addresses.get(standing.current)?.clone();
        Some(Visit { address, has_answered: standing.sampled })
    }

    /// One visit more to a peer whose answers were samples, if that is likely to bring something.
    fn look_again(&mut self, now: Now, id: PeerId) {
        let Config { visits, revisit_after, .. } = self.config;
        let enough = if self.told_once > 0 { QUIET_VISITS_UNSURE } else { QUIET_VISITS };
        let worth_it = |standing: &&Standing| standing.sampled && standing.visits < visits && standing.quiet < enough;
        let Some(standing) = self.standing.get(&id).filter(worth_it) else { return };
        let wait = if standing.failed > 0 { self.config.crawl.retry_after * standing.failed } else { revisit_after };
        let due = standing.left.map_or(now.monotonic, |left| left + wait);
        self.again.insert((due, self.repeats), id);
        self.repeats += 1;
    }

    /// Takes what came of a visit to `id`.
    pub fn handle_visited(&mut self, now: Now, id: PeerId, visited: Visited) {
        let (Some(node), Some(standing)) = (self.topology.node_mut(&id), self.standing.get_mut(&id)) else { return };
        self.in_flight -= 1;
        standing.left = Some(now.monotonic);
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
        let is_first = standing.visits == 1;
        let mut news = false;
        for answer in visited.answers {
            news |= self.handle_answer(now, id, answer);
        }
        if let Some(standing) = self.standing.get_mut(&id) {
            standing.quiet = if news || is_first { 0 } else { standing.quiet + 1 };
        }
        self.look_again(now, id);
    }

    /// Whether it told of anybody new.
    fn handle_answer(&mut self, now: Now, id: PeerId, answer: Vec<PeerAddress>) -> bool {
        let mut news = false;
        // What stands in a whole book needs no second sample to be sure of.
        let weight = if Visited::is_sample(answer.len()) { 1 } else { 2 };
        for address in answer.into_iter().take(LONGEST_ANSWER) {
            let told = address.id();
            if told == id {
                continue;
            }
            news |= self.learn(now, address);
            self.topology.connect(id, told);
            if let Some(node) = self.topology.node_mut(&told) {
                self.told_once -= usize::from(node.told == 1);
                node.told = node.told.saturating_add(weight);
                self.told_once += usize::from(node.told == 1);
            }
        }
        news
    }

    fn handle_failure(&mut self, now: Now, id: PeerId, error: &'static str, hopeless: bool) {
        let (Some(node), Some(standing)) = (self.topology.node_mut(&id), self.standing.get_mut(&id)) else { return };
        standing.failed += 1;
        if standing.sampled {
            // It did answer earlier.
            standing.sampled = error != UNANSWERED && !hopeless && standing.failed < self.config.crawl.attempts;
            return self.look_again(now, id);
        }
        node.error = Some(error);
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
