//! Seed mode: a node that lives to tell others whom to dial, and whose word is good because it tried every address itself.
//!
//! [`Seed`] is the machine. It owns the address [`Book`] and decides whom to visit, what to answer and whom to hang up on; it has no socket,
//! clock or file. [`start`] runs its driver. A *visit* is: dial, have the identity and the network proven, ask for addresses, hang up. A *guest*
//! is a peer that dialed us.
//!
//! ```text
//! told, introduced, configured ──visit──> reached ──> served ──visit every 2 min──┐
//!                         ^        │                    ^ └───────── reached ─────┤
//!                         │        └─ not reached       └──── reached ─────┐      │ not reached twice
//!                         └── 2 s, 4 s, 8 s … 1 h ──────┐                  │      v
//!                                                      waits <── demoted: not served, the reason kept
//! ```
//!
//! Where CometBFT's seed mode (`p2p/pex/pex_reactor.go`) crawls every 30 s, one address after the other, and passes on what it was told,
//! this one visits at once what a visit brings, 64 at a time, and passes on only what it reached. What others can make it do is bounded:
//! addresses taken from one answer, unchecked addresses of one source, visits of each kind and to each host and network, guests, unfinished
//! handshakes.

mod answers;
mod driver;
mod guests;
mod schedule;
mod served;
mod sources;
mod status;
mod visit_limits;
mod visits;

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use kadwire_discovery::Now;
use kadwire_wire::{PeerAddress, PeerId, tendermint::pex_message::PexMessage};
use rand::{SeedableRng, rngs::StdRng};

pub use driver::{Chain, Handle, Running, start};
pub use status::{Stats, Status};
pub use visits::{Errand, Visit, Visited};

use crate::{
    book::Book,
    dial::{Backoff, Expiring},
    peers::{ConnectionId, Declared, Slots},
    time::FOR_EVER,
};

use guests::Guests;
use schedule::{Lane, Schedule};
use served::Served;
use visit_limits::VisitLimits;

/// What a seed must be told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's identity.
    pub own_id: PeerId,
    /// Whom to visit first, and again whenever nobody else is there. The only addresses that may be names.
    pub seeds: Vec<PeerAddress>,
    /// Visits at the same time (64: a hundred peers at 100 ms each take a fifth of a second, and nobody notices the traffic).
    pub parallel: usize,
    /// Between two visits to an address that is served (CometBFT `minTimeBetweenCrawls`: 2 min).
    pub recheck_after: Duration,
    /// Guests and unfinished handshakes; `inbound`, the `half_open`s and `per_ip` count here.
    pub slots: Slots,
    /// Attempts of one IP to connect within 10 s (CometBFT `max_incoming_connection_attempts`: 100).
    pub attempts_per_ip: u32,
    /// Where randomness starts.
    pub seed: u64,
}

/// Guests at once (tenderseed's default). Each stays for milliseconds, if it behaves.
const MAX_GUESTS: usize = 1_000;

impl Config {
    /// The defaults.
    pub fn new(own_id: PeerId) -> Self {
        Config {
            own_id,
            seeds: Vec::new(),
            parallel: 64,
            recheck_after: Duration::from_secs(120),
            slots: Slots { inbound: MAX_GUESTS, ..Slots::default() },
            attempts_per_ip: 100,
            seed: 0,
        }
    }
}

/// Between two requests to one peer. CometBFT hangs up on who asks again within 10 s (`minReceiveRequestInterval`); a visit in the meantime
/// only looks whether it is there.
const REQUEST_INTERVAL: Duration = Duration::from_secs(10);

/// Peers of which it is remembered when they were asked, or called.
const MAX_ASKED: usize = 20_480;

/// Bans end, and are looked after, once a minute.
const TIDY: Duration = Duration::from_secs(60);

/// The machine. See the module.
///
/// The contract of driving it: call [`Self::poll_visit`] and [`Self::poll_action`] until they have nothing after every other call, and
/// [`Self::handle_timeout`] at [`Self::poll_timeout`]. Each visit ends with one [`Self::handle_visited`], each guest taken with one
/// [`Self::handle_closed`].
#[derive(Debug)]
pub struct Seed {
    config: Config,
    book: Book,
    schedule: Schedule,
    served: Served,
    backoff: Backoff,
    asked: Expiring<PeerId>,
    /// Guests that were visited while they were here.
    called: Expiring<PeerId>,
    /// How often a host was visited because guests from elsewhere declare it.
    declared: Declared,
    /// How often it was visited because others told of it.
    visit_limits: VisitLimits,
    /// When somebody new was reached, until that is a while ago.
    news: Option<Instant>,
    /// When the next guest may be answered, while hardly anybody is known.
    next_turn: Option<Instant>,
    /// When the next guest may be sent away to be visited, while nobody is known.
    next_sent_away: Option<Instant>,
    guests: Guests,
    actions: VecDeque<Action>,
    next_tidy: Instant,
    rng: StdRng,
    stats: Stats,
}

/// What the driver is to do with a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send these addresses, wait until they are written, hang up.
    Answer(ConnectionId, PexMessage),
    /// Hang up.
    HangUp(ConnectionId, Why),
    /// Drop this connection, whose handshake is not done: newer ones need its room.
    Abort(ConnectionId),
}

/// Why a guest is hung up on without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It asked for nothing for 30 s.
    Silent,
    /// It can only be visited when it has left, and nobody is known yet.
    ToBeVisited,
    /// It has been here longest, and another one wants in.
    Crowded,
    /// It sent addresses that nobody asked for.
    Unsolicited,
    /// It sent what is no message.
    Malformed,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Why::Silent => "it asked for nothing",
            Why::ToBeVisited => "it is visited when it has left",
            Why::Crowded => "another one needs its room",
            Why::Unsolicited => "it sent addresses that nobody asked for",
            Why::Malformed => "it sent what is no message of peer exchange",
        })
    }
}

impl Seed {
    /// A seed with what it knows from before. Nothing of it is served until it was reached again: those reached last time are visited first.
    pub fn new(now: Now, mut config: Config, book: Book) -> Self {
        config.recheck_after = config.recheck_after.min(FOR_EVER);
        let mut seed = Seed {
            schedule: Schedule::new(config.parallel),
            served: Served::default(),
            backoff: Backoff::default(),
            asked: Expiring::new(MAX_ASKED),
            called: Expiring::new(MAX_ASKED),
            declared: Declared::default(),
            visit_limits: VisitLimits::default(),
            news: None,
            next_turn: None,
            next_sent_away: None,
            guests: Guests::new(config.slots, config.attempts_per_ip),
            actions: VecDeque::new(),
            next_tidy: now.monotonic + TIDY,
            rng: StdRng::seed_from_u64(config.seed),
            stats: Stats::default(),
            config,
            book,
        };
        seed.book.add_own(seed.config.own_id, []);
        seed.call_seeds(now);
        seed.adopt(now);
        seed
    }

    /// Plans a visit to every address of the book that has none.
    fn adopt(&mut self, now: Now) {
        let unplanned = self.book.addresses().filter(|address| self.schedule.check(address).is_none());
        let unplanned: Vec<PeerAddress> = unplanned.cloned().collect();
        for address in unplanned {
            if self.book.is_good(&address.id()) {
                self.schedule.put(Lane::Recheck, now.monotonic, address);
            } else {
                self.schedule.put_fresh(address.id(), address);
            }
        }
    }

    /// What the book says now: to be saved.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Whether this peer is passed on to others.
    pub fn serves(&self, id: &PeerId) -> bool {
        self.served.address_of(id).is_some()
    }

    /// Lets go of guests that have been here too long, answers those that waited long enough, and ends bans.
    pub fn handle_timeout(&mut self, now: Now) {
        if now.monotonic >= self.next_tidy {
            self.next_tidy = now.monotonic + TIDY;
            self.asked.expire(now.monotonic);
            self.called.expire(now.monotonic);
            self.visit_limits.expire(now.monotonic);
            if self.book.reinstate(now.wall) > 0 {
                self.adopt(now);
            }
        }
        self.leave_silent(now);
        self.release(now);
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_visit`] are due, whatever else happens.
    pub fn poll_timeout(&self) -> Instant {
        let sooner = [self.schedule.first_due(), self.first_deadline()];
        sooner.into_iter().flatten().fold(self.next_tidy, Instant::min)
    }

    /// The next thing to do with a guest.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}
