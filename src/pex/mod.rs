//! Peer exchange: asking peers for addresses and answering those who ask (CometBFT `p2p/pex`, channel 0x00).
//!
//! [`Pex`] is the machine: it keeps whom we asked, who may ask us, and when to ask again. It holds no addresses: they
//! live in the peer manager's book, which [`run`], the driver, reaches through the router. It does not dial either;
//! the peer manager dials from the book whenever it has room.
//!
//! Two rules protect us, and both are CometBFT's: an answer that we did not ask for is misbehaviour, and a peer may ask
//! only so often. CometBFT's own clients break the second rule now and then (cometbft #4620), so we leave such a request
//! unanswered, and only insistence is misbehaviour.

mod allowance;
mod reactor;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use kadwire_discovery::Now;
use kadwire_wire::{
    address::{PeerAddress, PeerId},
    tendermint::pex_message::{MAX_PEX_ADDRESSES, MAX_PEX_ADDRESSES_V2, PexError, PexMessage},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use tracing::debug;

use crate::peers::Report;

use self::allowance::{Allowance, Verdict};

pub use crate::visit::channel;
pub use reactor::run;

/// Between two looks at the book for missing addresses (CometBFT `defaultEnsurePeersPeriod`); jittered by a quarter
/// so that nodes started together do not ask together.
const ENSURE_PERIOD: Duration = Duration::from_secs(30);

/// Between two of our requests to one peer. CometBFT bans who asks again within 10 s; the rest is for a request that
/// was held up on the way while the next one was not.
const ASK_INTERVAL: Duration = Duration::from_secs(15);

/// What went on between us and a peer is remembered for this long after its connection ended. A peer that reconnects keeps its
/// allowance, and an answer that was due on the old connection may come on the new one: when two nodes dial each other at
/// once, one connection takes the other's place.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Departed peers remembered.
const MAX_REMEMBERED: usize = 1_024;

/// Who asks whom for addresses, and when.
///
/// ```text
///   peer up (we dialed it) ──────────┐
///   every 30 s, book wants more ──> Ask(peer) ──> asked ── addresses ──> Learned
///                                                  (nothing asked) ── addresses ──> Report
///   request ── within the allowance ──> Answer;  above it: ignored;  insisting: Report
/// ```
#[derive(Debug)]
pub struct Pex {
    peers: BTreeMap<PeerId, Peer>,
    departed: BTreeMap<PeerId, (Instant, Peer)>,
    /// What the book said last: until it says otherwise, a fresh node needs addresses.
    wants_more: bool,
    next_ensure: Instant,
    actions: VecDeque<Action>,
    rng: StdRng,
    stats: Stats,
}

/// What the driver is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this peer a request. If it cannot be sent, tell [`Pex::handle_unsent`].
    Ask(PeerId),
    /// Send this peer a selection of the book.
    Answer {
        /// Whom.
        to: PeerId,
        /// In which messages: those that it asked in.
        version: Version,
        /// The most addresses that it takes.
        most: usize,
    },
    /// Put what this peer answered into the book.
    Learned(PeerId, Vec<PeerAddress>),
    /// A peer that dialed us says it can be reached here: find out, and keep it only if it is there.
    Introduced(PeerAddress),
    /// Tell the peer manager about this peer.
    Report(PeerId, Report),
    /// Find out whether the book wants more addresses and tell [`Pex::handle_book`].
    CheckBook,
}

/// The messages of a request and its answer. We ask in the first, which everybody understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// IP addresses: CometBFT 0.34–1.0, and what Tendermint v0.35 asks of nodes that speak MConnection.
    V1,
    /// URLs, 100 at most: Tendermint v0.35.
    V2,
}

/// What has happened since the start; all values only grow.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Requests that we sent.
    pub asked: u64,
    /// Requests that we answered.
    pub answered: u64,
    /// Requests above the allowance, left unanswered.
    pub too_frequent: u64,
    /// Answers that nobody asked for.
    pub unsolicited: u64,
    /// Messages that could not be decoded.
    pub malformed: u64,
    /// Messages of a kind that we do not know.
    pub unknown: u64,
    /// Addresses in the answers that we asked for.
    pub learned: u64,
    /// Entries of those answers that were no addresses.
    pub skipped: u64,
    /// Peers that dialed us and gave an address for themselves.
    pub introduced: u64,
}

#[derive(Debug)]
struct Peer {
    /// The most addresses that it takes in one answer.
    takes: usize,
    /// A request is on its way on this connection and not answered.
    outstanding: bool,
    /// Answers that may come: to that request, and to those on earlier connections.
    due: u32,
    last_asked: Option<Instant>,
    allowance: Allowance,
}

impl Pex {
    /// A machine that looks at the book at once. `seed` decides whom it asks and when.
    pub fn new(now: Now, seed: u64) -> Self {
        Self {
            peers: BTreeMap::new(),
            departed: BTreeMap::new(),
            wants_more: true,
            next_ensure: now.monotonic,
            actions: VecDeque::new(),
            rng: StdRng::seed_from_u64(seed),
            stats: Stats::default(),
        }
    }

    /// A connection to `peer` stands. One that we dialed is asked while the book wants more; one that dialed us is not
    /// (CometBFT `AddPeer`), but `reachable_at`, where it says it listens, and `declared_at`, another IP, are looked into.
    pub fn handle_peer_up(
        &mut self,
        now: Now,
        peer: PeerId,
        dialed: bool,
        reachable_at: Option<PeerAddress>,
        declared_at: Option<PeerAddress>,
    ) {
        let before = self.departed.remove(&peer).filter(|(at, _)| now.monotonic < *at + REMEMBERED);
        let before = before.map_or_else(|| Peer::new(now.monotonic), |(_, before)| before);
        self.peers.insert(peer, Peer { outstanding: false, ..before });
        if dialed {
            if self.wants_more {
                self.ask(now, peer);
            }
            return;
        }
        self.stats.introduced += u64::from(reachable_at.is_some() || declared_at.is_some());
        self.actions.extend([reachable_at, declared_at].into_iter().flatten().map(Action::Introduced));
    }

    /// Notes that `peer` takes no more than so many addresses in one answer.
    pub fn limit_answers(&mut self, peer: &PeerId, most: usize) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.takes = most;
        }
    }

    /// The connection to `peer` is gone.
    pub fn handle_peer_down(&mut self, now: Now, peer: PeerId) {
        if let Some(gone) = self.peers.remove(&peer)
            && self.departed.len() < MAX_REMEMBERED
        {
            self.departed.insert(peer, (now.monotonic, gone));
        }
    }

    /// A message came in on channel 0x00.
    pub fn handle_message(&mut self, now: Now, from: PeerId, message: &[u8]) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        match PexMessage::decode(message) {
            Ok(PexMessage::Request) => self.handle_request(now, from, Version::V1),
            Ok(PexMessage::RequestV2) => self.handle_request(now, from, Version::V2),
            Ok(PexMessage::Addresses { .. } | PexMessage::AddressesV2 { .. }) if peer.due == 0 => {
                self.stats.unsolicited += 1;
                self.misbehaved(from, "sent addresses that nobody asked for");
            }
            Ok(PexMessage::Addresses { addresses, skipped } | PexMessage::AddressesV2 { addresses, skipped }) => {
                peer.outstanding = false;
                peer.due -= 1;
                self.stats.learned += addresses.len() as u64;
                self.stats.skipped += skipped as u64;
                self.actions.push_back(Action::Learned(from, addresses));
            }
            // Of a later version: of no use to us, and no harm.
            Err(PexError::UnknownMessage) => {
                self.stats.unknown += 1;
                self.actions.push_back(Action::Report(from, Report::Bad));
            }
            Err(error) => {
                self.stats.malformed += 1;
                self.misbehaved(from, &error.to_string());
            }
        }
    }

    fn handle_request(&mut self, now: Now, from: PeerId, version: Version) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        match peer.allowance.request(now.monotonic) {
            Verdict::Answer => {
                self.stats.answered += 1;
                let most = match version {
                    Version::V1 => peer.takes,
                    Version::V2 => MAX_PEX_ADDRESSES_V2,
                };
                self.actions.push_back(Action::Answer { to: from, version, most });
            }
            Verdict::Ignore => self.stats.too_frequent += 1,
            Verdict::Insists => {
                self.stats.too_frequent += 1;
                self.misbehaved(from, "asks for addresses too often");
            }
        }
    }

    /// A request could not be sent after all.
    pub fn handle_unsent(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer)
            && peer.outstanding
        {
            peer.outstanding = false;
            peer.due -= 1;
        }
    }

    /// The answer to [`Action::CheckBook`]: while the book wants more, one peer that may be asked is, at random.
    pub fn handle_book(&mut self, now: Now, wants_more: bool) {
        self.wants_more = wants_more;
        if !wants_more {
            return;
        }
        let askable = self.peers.iter().filter(|(_, peer)| peer.may_be_asked(now.monotonic)).map(|(id, _)| *id);
        if let Some(peer) = askable.choose(&mut self.rng) {
            self.ask(now, peer);
        }
    }

    /// Looks at the book when it is time.
    pub fn handle_timeout(&mut self, now: Now) {
        if now.monotonic >= self.next_ensure {
            let jitter = ENSURE_PERIOD / 4;
            self.next_ensure =
                now.monotonic + ENSURE_PERIOD - jitter + self.rng.random_range(Duration::ZERO..2 * jitter);
            self.departed.retain(|_, (at, _)| now.monotonic < *at + REMEMBERED);
            self.actions.push_back(Action::CheckBook);
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Pex::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Instant {
        self.next_ensure
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn ask(&mut self, now: Now, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.may_be_asked(now.monotonic)
        {
            peer.outstanding = true;
            peer.due += 1;
            peer.last_asked = Some(now.monotonic);
            self.stats.asked += 1;
            self.actions.push_back(Action::Ask(id));
        }
    }

    fn misbehaved(&mut self, peer: PeerId, why: &str) {
        debug!(%peer, why, "misbehaved");
        self.actions.push_back(Action::Report(peer, Report::Misbehaved));
    }
}

impl Peer {
    fn new(now: Instant) -> Self {
        let allowance = Allowance::new(now);
        Peer { takes: MAX_PEX_ADDRESSES, outstanding: false, due: 0, last_asked: None, allowance }
    }

    /// One request at a time, and none so soon after the last that the peer would call it too soon.
    fn may_be_asked(&self, now: Instant) -> bool {
        !self.outstanding && self.last_asked.is_none_or(|last| now.saturating_duration_since(last) >= ASK_INTERVAL)
    }
}

#[cfg(test)]
mod tests;
