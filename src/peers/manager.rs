//! The machine that composes book, dial scheduler and set: what is claimed and commanded, and what comes out. What the router
//! saw is in `seen`; how it decides in `admission` and `schedule`.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use kadwire_discovery::Now;
use kadwire_wire::address::{PeerAddress, PeerId};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tracing::{info, warn};

use super::{
    Action, Answered, Because, Config, Connected, Direction, Event, Refused, Report, Score, Slots, Stats,
    declared::Declared,
    dial_stats::DialStats,
    incoming::Incoming,
    schedule::{UPGRADE_INTERVAL, known},
    score::{LOWEST, PERSISTENT, Scores},
    set::PeerSet,
};
use crate::{
    anchors::Anchors,
    book::{Added, Book, Origin},
    candidate::{Candidate, Source, SourceKind},
    dial::{DialConfig, Dialer, Kind, Places, WhyNot},
};

/// How long a peer that broke the rules is banned (CometBFT, `defaultBanTime`).
const BAN: Duration = Duration::from_secs(24 * 60 * 60);

/// Addresses taken from one PEX answer (Tendermint 0.35, `maxAddresses`): one answer of 900 owned 86 % of a CometBFT seed's gossip.
const MAX_PER_ANSWER: usize = 100;

/// Addresses of one group (/16 of IPv4, /32 of IPv6) taken from one PEX answer, local networks apart.
const MAX_PER_ANSWER_AND_GROUP: usize = 32;

/// The peer policy. See the module's documentation for how to drive it.
#[derive(Debug)]
pub struct PeerManager {
    pub(super) own_id: PeerId,
    pub(super) slots: Slots,
    pub(super) unconditional: BTreeSet<PeerId>,
    pub(super) places: Places,
    pub(super) fallback: Option<Duration>,
    pub(super) resolve: bool,
    pub(super) allow_duplicate_ip: bool,
    pub(super) limit_lan: bool,
    pub(super) book: Book,
    pub(super) dialer: Dialer,
    pub(super) anchors: Anchors,
    pub(super) set: PeerSet,
    pub(super) incoming: Incoming,
    pub(super) declared: Declared,
    pub(super) scores: Scores,
    pub(super) rng: StdRng,
    pub(super) actions: VecDeque<Action>,
    pub(super) events: VecDeque<Event>,
    /// Who was connected until a moment ago, the last of them at the end.
    pub(super) departed: VecDeque<(Instant, Origin)>,
    /// Since when there has been no peer.
    pub(super) lonely_since: Option<Instant>,
    pub(super) wake: Option<Instant>,
    /// Discovery and the book take turns, so that neither starves the other (go-ethereum's FairMix).
    pub(super) book_is_next: bool,
    pub(super) stats: Stats,
    /// What is counted so far; the rest of it is looked up when asked for.
    pub(super) counted: DialStats,
}

impl PeerManager {
    /// A policy that knows what is in `book`. Nothing happens before the first [`PeerManager::handle_timeout`].
    pub fn new(config: Config, book: Book) -> Self {
        let mut rng = StdRng::seed_from_u64(config.seed);
        let mut dialer = Dialer::new(DialConfig {
            own_id: config.own_id,
            own_sockets: config.own_sockets.clone(),
            outbound: config.slots.of(Direction::Outbound),
            places: config.places,
            dialing: config.slots.dialing,
            netrestrict: config.netrestrict,
            public_only: config.public_only,
            limit_lan: config.limit_lan,
            persistent_backoff: config.persistent_backoff,
            fallback: config.fallback,
            seed: rng.random(),
        });
        let mut stats = Stats::default();
        let [persistent, seeds] =
            [config.persistent, config.seeds].map(|named| without_ourselves(named, &dialer, &mut stats));
        persistent.into_iter().for_each(|address| dialer.add_persistent(address));
        seeds.into_iter().for_each(|address| dialer.add_seed(address));
        let mut book = book;
        book.add_own(config.own_id, config.own_sockets);
        PeerManager {
            own_id: config.own_id,
            slots: config.slots,
            unconditional: config.unconditional,
            places: config.places,
            fallback: config.fallback,
            resolve: config.resolve,
            allow_duplicate_ip: config.allow_duplicate_ip,
            limit_lan: config.limit_lan,
            book,
            dialer,
            anchors: Anchors::new(config.anchors, config.slots.of(Direction::Outbound)),
            set: PeerSet::default(),
            incoming: Incoming::new(config.attempts_per_ip, config.throttle, config.limit_lan),
            declared: Declared::default(),
            scores: Scores::new(config.scores),
            rng,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            departed: VecDeque::new(),
            lonely_since: None,
            wake: None,
            book_is_next: false,
            stats,
            counted: DialStats::default(),
        }
    }

    // What is claimed, commanded and reported.

    /// Takes up what somebody claims. The operator's peers become persistent, discovered ones wait in the dialer's queue, and what peers
    /// say goes to the book.
    pub fn add(&mut self, now: Now, candidate: Candidate) -> Result<(), Refused> {
        let kind = SourceKind::from(candidate.source);
        self.counted.candidates.count(kind);
        let added = self.take_up(now, candidate);
        if added.is_ok() {
            self.counted.candidates_taken.count(kind);
        }
        if let Err(Refused::Dial(why)) = added {
            self.stats.refusals.count(why);
        }
        self.schedule(now);
        added
    }

    fn take_up(&mut self, now: Now, Candidate { address, source }: Candidate) -> Result<(), Refused> {
        match source {
            Source::Config => {
                let id = address.id();
                if self.dialer.is_own(&address) {
                    return Err(WhyNot::SelfId.into());
                }
                // It would never be dialed: the operator contradicts itself, and hears of it.
                if address.ip().is_some_and(|ip| self.dialer.is_restricted(ip)) {
                    return Err(WhyNot::NetRestricted.into());
                }
                self.dialer.add_persistent(address);
                self.protect(&id);
            }
            Source::Discv4 => {
                self.dialer.add_candidate(now, address, known(&self.set, &self.incoming, &self.book, now))?
            }
            Source::Pex(from) => {
                let origin = self.origin_of(now, &from).ok_or(Refused::UnknownSource)?;
                self.book.add(now.wall, &address, &origin)?;
            }
            Source::Inbound => {
                let peer = self.set.standing(&address.id()).ok_or(Refused::UnknownSource)?;
                if peer.direction != Direction::Inbound {
                    return Err(Refused::Reached);
                }
                let seen = peer.remote.map(|remote| remote.ip().to_canonical());
                self.book.may_keep(now.wall, &address)?;
                if let Some(ip) = address.ip().filter(|ip| seen != Some(*ip)) {
                    if self.dialer.is_restricted(ip) {
                        return Err(self.stats.refusals.count(WhyNot::NetRestricted).into());
                    }
                    if !self.declared.allow(now.monotonic, ip) {
                        return Err(Refused::TooMany);
                    }
                }
                self.actions.push_back(Action::Probe(address));
            }
        }
        Ok(())
    }

    /// Takes up one PEX answer of a peer that is connected, or was until a moment ago (a seed answers and hangs up): a random choice of at most 100 addresses, at most 32 of one group.
    pub fn add_answer(
        &mut self,
        now: Now,
        from: &PeerId,
        mut addresses: Vec<PeerAddress>,
    ) -> Result<Answered, Refused> {
        let origin = self.origin_of(now, from).ok_or(Refused::UnknownSource)?;
        addresses.shuffle(&mut self.rng);
        let (mut answered, mut taken) = (Answered::default(), 0);
        let mut groups = std::collections::HashMap::new();
        for address in addresses {
            self.counted.candidates.count(SourceKind::Pex);
            let in_group = match self.book.limited_group(&address) {
                Some(group) => groups.entry(group).or_insert(0_usize),
                None => &mut 0,
            };
            if taken >= MAX_PER_ANSWER || *in_group >= MAX_PER_ANSWER_AND_GROUP {
                answered.beyond += 1;
                continue;
            }
            match self.book.add(now.wall, &address, &origin) {
                Ok(added) => {
                    taken += 1;
                    *in_group += 1;
                    self.counted.candidates_taken.count(SourceKind::Pex);
                    match added {
                        Added::New => answered.new += 1,
                        Added::Known => answered.known += 1,
                    }
                }
                Err(_) => answered.refused += 1,
            }
        }
        self.schedule(now);
        Ok(answered)
    }

    /// Dials an address at once, for the library's user or a crawler. It must pass [`Dialer::check_dial`] and find a free dial.
    pub fn dial(&mut self, now: Now, address: PeerAddress) -> Result<(), WhyNot> {
        let checked = self.dialer.check_dial(now, &address, known(&self.set, &self.incoming, &self.book, now));
        let checked = checked.and_then(|()| match (self.dialer.has_free_dial(), self.dialer.pace_allows(now)) {
            (true, true) => Ok(()),
            (false, _) => Err(WhyNot::NoSlots),
            (_, false) => Err(WhyNot::TooFast),
        });
        match checked {
            Ok(()) => self.start(now, address, Kind::Requested),
            Err(why) => return Err(self.stats.refusals.count(why)),
        }
        self.schedule(now);
        Ok(())
    }

    /// Keeps a peer whose address is not known: discovery is asked for it.
    pub fn add_persistent_id(&mut self, now: Now, id: PeerId) -> Result<(), WhyNot> {
        if id == self.own_id {
            return Err(self.stats.refusals.count(WhyNot::SelfId));
        }
        self.dialer.add_unplaced(id);
        self.protect(&id);
        self.schedule(now);
        Ok(())
    }

    /// No longer keeps a peer; one that is connected stays, and takes a place. If it is named again it may be dialed at once.
    pub fn remove_persistent(&mut self, now: Now, id: &PeerId) {
        self.dialer.remove_persistent(id);
        self.protect(id);
        self.schedule(now);
    }

    /// Lets this peer in from now on whatever the limits. If it is connected, its connection counts as such at once.
    pub fn add_unconditional(&mut self, now: Now, id: PeerId) {
        self.unconditional.insert(id);
        self.protect(&id);
        self.schedule(now);
    }

    /// Lets this peer in like any other from now on. If it is connected it stays while there is a place for it; where everybody takes places
    /// (go-ethereum), it has one.
    pub fn remove_unconditional(&mut self, now: Now, id: &PeerId) {
        self.unconditional.remove(id);
        self.protect(id);
        self.schedule(now);
    }

    /// Makes a live connection what its peer is now.
    fn protect(&mut self, id: &PeerId) {
        self.set.protect(id, self.is_protected(id), self.places == Places::Everybody);
    }

    /// Whether the operator named this address, as a persistent peer or as a seed.
    pub fn is_configured(&self, address: &PeerAddress) -> bool {
        self.dialer.is_configured(address)
    }

    /// Ends the connection with a peer, if there is one.
    pub fn disconnect(&mut self, now: Now, id: &PeerId) {
        self.close_peer(id, Because::Requested);
        self.schedule(now);
    }

    /// Takes up what a reactor found about a peer.
    pub fn report(&mut self, now: Now, id: &PeerId, report: Report) {
        match report {
            // Reports come as often as messages: they start no dials at once.
            Report::Good => self.scores.adjust(*id, 1),
            Report::Bad => self.scores.adjust(*id, -1),
            Report::Misbehaved => self.ban(now, id, BAN),
        }
        self.wake = self.wake.or_else(|| now.monotonic.checked_add(UPGRADE_INTERVAL));
    }

    /// Closes a peer and keeps it away for a time; an earlier, longer ban stays.
    pub fn ban(&mut self, now: Now, id: &PeerId, time: Duration) {
        self.stats.banned += 1;
        self.book.mark_bad(now.wall, id, time);
        self.close_peer(id, Because::Misbehaved);
        self.schedule(now);
    }

    // What comes out.

    /// The next thing the router must do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next thing reactors should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`PeerManager::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// How many candidates discovery should bring now. At 0 nothing need be looked up.
    pub fn wanted(&self) -> usize {
        self.dialer.wanted(self.outbound_taken())
    }

    // What can be read.

    /// The address book.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Addresses to answer a peer that asks for some: a random part of the book, without its own.
    pub fn advertise(&mut self, to: &PeerId) -> Vec<PeerAddress> {
        let mut selection = self.book.selection();
        selection.retain(|address| address.id() != *to);
        selection
    }

    /// The same as [`PeerManager::advertise`], with `bias` percent of addresses that are not proven old: what seeds answer.
    pub fn advertise_with_bias(&mut self, to: &PeerId, bias: usize) -> Vec<PeerAddress> {
        let mut selection = self.book.selection_with_bias(bias);
        selection.retain(|address| address.id() != *to);
        selection
    }

    /// The connections that reactors know of or soon will, in the order they were made.
    pub fn peers(&self) -> impl Iterator<Item = &Connected> {
        self.set.iter().filter(|connected| connected.stands())
    }

    /// A peer's connection.
    pub fn peer(&self, id: &PeerId) -> Option<&Connected> {
        self.set.standing(id)
    }

    /// What a peer is worth now.
    pub fn score(&self, id: &PeerId) -> Score {
        score(&self.scores, &self.dialer, &self.set, id)
    }

    /// Whether there is a dial under way to this peer.
    pub fn is_dialing(&self, id: &PeerId) -> bool {
        self.dialer.dialing().any(|address| address.id() == *id)
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        let count = |direction| self.peers().filter(|connected| connected.direction == direction).count();
        Stats {
            inbound: count(Direction::Inbound),
            outbound: count(Direction::Outbound),
            dialing: self.dialer.dialing().count(),
            half_open: self.incoming.len(),
            book: self.book.len(),
            ..self.stats
        }
    }

    #[cfg(test)]
    pub(crate) fn connection_state(&self, id: &PeerId) -> Option<super::State> {
        use super::State;
        let of_peer = self.set.iter().filter(|connected| connected.peer == *id);
        of_peer.map(|connected| connected.state).min_by_key(|state| matches!(state, State::Held | State::Closing))
    }

    #[cfg(test)]
    pub(crate) fn places_taken(&self, direction: Direction) -> super::set::Taken {
        self.set.taken(direction)
    }
}

/// The peers or seeds that the operator named, without ourselves: one list for all nodes is usual (`cometbft testnet` writes such). Who is
/// outside the networks stays, as discovery may find it elsewhere.
fn without_ourselves(named: Vec<PeerAddress>, dialer: &Dialer, stats: &mut Stats) -> Vec<PeerAddress> {
    let (own, others): (Vec<_>, Vec<_>) = named.into_iter().partition(|address| dialer.is_own(address));
    for address in own {
        stats.refusals.count(WhyNot::SelfId);
        info!(%address, "this node is among its own peers or seeds: passed over");
    }
    for address in others.iter().filter(|address| address.ip().is_some_and(|ip| dialer.is_restricted(ip))) {
        stats.refusals.count(WhyNot::NetRestricted);
        warn!(%address, "a peer or seed that is outside the networks we deal with: not dialed");
    }
    others
}

/// The operator's word counts first, then a persistent peer is worth most; a connected one has made up for the dials that failed before.
fn score(scores: &Scores, dialer: &Dialer, set: &PeerSet, id: &PeerId) -> Score {
    if let Some(fixed) = scores.fixed(id) {
        return fixed;
    }
    if dialer.is_persistent(id) {
        return PERSISTENT;
    }
    let failures = if set.standing(id).is_some() { 0 } else { dialer.failures_of(id) };
    scores.of(id).saturating_sub(Score::try_from(failures).unwrap_or(Score::MAX)).max(LOWEST)
}
