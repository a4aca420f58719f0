//! Whom to visit, and what a visit changes.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use kadwire_discovery::Now;
use kadwire_wire::{Host, PeerAddress, PeerId};
use rand::{RngExt, seq::SliceRandom};
use tracing::debug;

use super::{
    Lane, REQUEST_INTERVAL, Seed,
    guests::{AFTER_LEAVING, SILENCE},
    schedule::{Check, Claim},
};
use crate::{
    book::{Added, Origin},
    peers::host,
    visit::{Answer, Trouble},
};

/// Addresses taken from one answer (Tendermint 0.35, `maxAddresses`): one answer of 900 owned 86 % of a CometBFT seed's gossip.
const MAX_PER_ANSWER: usize = 100;

/// Addresses of one group (/16 of IPv4, /32 of IPv6) taken from one answer.
const MAX_PER_ANSWER_AND_GROUP: usize = 32;

/// Addresses of one IP (IPv6: /64) taken from one answer: ids and ports are free, and nobody makes us knock at one door for each of them.
const MAX_PER_ANSWER_AND_IP: usize = 4;

/// Visits in a row that fail before an address is served no more: one may have been bad luck.
const DEMOTED_AFTER: u32 = 2;

/// Requests in a row that were not answered before an address counts as none of a peer: each holds a visit for seconds.
const UNANSWERED_GIVEN_UP_AFTER: u32 = 3;

/// Visits in a row that fail before an address is given up: one that its own peer claims, one that was never reached (8: a quarter of an
/// hour), one that was (CometBFT `maxAttemptsToDial`, 16: half a day). Whoever comes back dials us, or is told again.
const CLAIM_GIVEN_UP_AFTER: u32 = 3;
const GIVEN_UP_AFTER: u32 = 8;
const REACHED_GIVEN_UP_AFTER: u32 = 16;

/// The longest wait before an address that failed is visited again.
const MAX_BACKOFF: Duration = Duration::from_secs(3_600);

/// The longest wait before a configured seed is visited again while nobody is served (CometBFT dials its seeds every 30 s then).
const LONELY_BACKOFF: Duration = Duration::from_secs(30);

/// What lives at such an address is not what was said; it is not looked at again for so long, whoever repeats it.
const WRONG_FOR: Duration = Duration::from_secs(3_600);

/// How much rarer a configured name is resolved and visited again than an address: what it led to is visited anyway.
const NAMES_RARER: u32 = 8;

/// Who breaks the rules is kept away for a day (CometBFT `defaultBanTime`).
pub(super) const BAN: Duration = Duration::from_secs(24 * 60 * 60);

/// A visit to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Whom to dial.
    pub address: PeerAddress,
    /// What for.
    pub errand: Errand,
}

/// What to do at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// See that the peer is there and of our network, and ask for addresses.
    Ask,
    /// The same, without asking: that would be too soon.
    Look,
    /// See that the peer is there, and no more: we are connected with it, so its network is known, and a second connection would not do.
    Prove,
}

/// What came of a visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visited {
    /// The peer proved its identity and that it is of our network.
    Reached {
        /// Where the stream went.
        remote: Option<SocketAddr>,
        /// Its answer, if it was asked.
        answer: Option<Result<Answer, Trouble>>,
    },
    /// It did not.
    Failed(Trouble),
}

impl Seed {
    /// Whom to visit now. Every visit must be followed by one [`Self::handle_visited`].
    pub fn poll_visit(&mut self, now: Now) -> Option<Visit> {
        while let Some(address) = self.schedule.poll(now.monotonic) {
            if self.is_wanted(now, &address) {
                if let Err(later) = self.admit(now, &address) {
                    self.stats.put_off += 1;
                    self.schedule.put_off(&address, later);
                    continue;
                }
                self.stats.visits += 1;
                let errand = match () {
                    () if self.is_of_guest(&address) => Errand::Prove,
                    () if self.asked.contains(now.monotonic, &address.id()) => Errand::Look,
                    () => Errand::Ask,
                };
                return Some(Visit { address, errand });
            }
            self.let_go(&address);
        }
        None
    }

    /// The book may have let go of an address, or taken another one of that peer, since the visit was planned.
    fn is_wanted(&self, now: Now, address: &PeerAddress) -> bool {
        let id = address.id();
        let claimed = self.schedule.check(address).is_some_and(|check| check.claim.is_some());
        !self.book.is_banned(now.wall, &id)
            && (claimed || self.is_seed(address) || self.book.address_of(&id) == Some(address))
    }

    /// Whether this address may be visited now. Where others tell us to go, we go only so often; otherwise says when.
    fn admit(&mut self, now: Now, address: &PeerAddress) -> Result<(), Instant> {
        let (Some(check), Some(ip)) = (self.schedule.check(address), address.ip()) else { return Ok(()) };
        if !check.is_hearsay() || self.is_seed(address) || self.book.limited_group(address).is_none() {
            return Ok(());
        }
        let is_unlikely = (check.is_unproven || check.failures > 0) && !self.book.is_good(&address.id());
        self.visit_limits.admit(now.monotonic, ip, is_unlikely)
    }

    /// Whether its peer gave it for itself, and is here.
    fn is_of_guest(&self, address: &PeerAddress) -> bool {
        let claim = self.schedule.check(address).and_then(|check| check.claim.as_ref());
        claim.is_some_and(|claim| claim.is_here)
    }

    fn is_seed(&self, address: &PeerAddress) -> bool {
        self.config.seeds.contains(address)
    }

    /// Takes what came of a visit.
    pub fn handle_visited(&mut self, now: Now, address: &PeerAddress, visited: Visited) {
        if !self.schedule.landed(address, matches!(visited, Visited::Reached { .. })) {
            return;
        }
        match visited {
            Visited::Reached { remote, answer } => self.handle_reached(now, address, remote, answer),
            Visited::Failed(trouble) => self.handle_failed(now, address, trouble),
        }
        self.release(now);
    }

    fn handle_reached(
        &mut self,
        now: Now,
        address: &PeerAddress,
        remote: Option<SocketAddr>,
        answer: Option<Result<Answer, Trouble>>,
    ) {
        let id = address.id();
        if let (Some(answer), Some(check)) = (&answer, self.schedule.check_mut(address)) {
            check.unanswered = if *answer == Err(Trouble::Unanswered) { check.unanswered + 1 } else { 0 };
            if check.unanswered >= UNANSWERED_GIVEN_UP_AFTER {
                return self.handle_failed(now, address, Trouble::Unanswered);
            }
        }
        self.stats.reached += 1;
        self.backoff.clear(address);
        if answer.is_some() {
            self.asked.insert(id, now.monotonic + REQUEST_INTERVAL);
        }
        if let Some(Err(Trouble::BadPex)) = answer {
            debug!(%address, "its answer cannot be read: banned");
            self.stats.malformed += 1;
            self.ban(now, &id);
            return self.let_go(address);
        }
        // A name is not passed on, but what it leads to.
        let at = match address.host() {
            Host::Name(_) => remote.and_then(|remote| PeerAddress::from_socket(id, remote).ok()),
            _ => Some(address.clone()),
        };
        let unasked = self.is_of_guest(address);
        if let Some(at) = at.as_ref().filter(|at| !self.served.has_room(at, self.book.limited_group(at)))
            && !self.is_seed(address)
        {
            // One more where there are enough: neither kept nor believed, and not visited again soon, whoever repeats it.
            self.stats.crowded += 1;
            self.backoff.fail_for(now.monotonic, at, WRONG_FOR);
            self.book.remove(address);
            return self.let_go(address);
        }
        match at.filter(|at| self.keep(now, at)) {
            // Nobody has asked it yet.
            Some(at) if unasked => self.plan_recheck(now, at, REQUEST_INTERVAL),
            Some(at) if at == *address => self.plan_recheck(now, at, self.config.recheck_after),
            kept => {
                // Reached, but not to be kept: a private address in a strict book. Or a name.
                kept.into_iter().for_each(|at| self.plan_recheck(now, at, self.config.recheck_after));
                match self.is_seed(address) {
                    true => self.plan_recheck(now, address.clone(), self.config.recheck_after * NAMES_RARER),
                    false => self.let_go(address),
                }
            }
        }
        if let Some(Ok(answer)) = answer {
            let socket = remote.or(address.socket_addr());
            self.learn(now, Origin { id, socket }, answer);
        }
    }

    /// Keeps and serves a peer where it was reached, if the book takes it.
    fn keep(&mut self, now: Now, at: &PeerAddress) -> bool {
        self.book.mark_reached(now.wall, at);
        let id = at.id();
        let kept = self.book.address_of(&id) == Some(at);
        if kept && self.served.insert(at.clone(), self.book.limited_group(at)) {
            self.news = Some(now.monotonic);
        }
        kept
    }

    fn plan_recheck(&mut self, now: Now, address: PeerAddress, after: Duration) {
        // Spread by a tenth, so that those reached in one burst are not checked in one for ever.
        let spread = self.rng.random_range(Duration::ZERO..=after / 10);
        if let Some(check) = self.schedule.put(Lane::Recheck, now.monotonic + after - spread, address) {
            (check.failures, check.trouble, check.claim) = (0, None, None);
        }
    }

    fn handle_failed(&mut self, now: Now, address: &PeerAddress, trouble: Trouble) {
        let id = address.id();
        debug!(%address, %trouble, "not reached");
        self.stats.failures.count(trouble);
        if trouble == Trouble::OurselvesThere {
            self.book.add_own(self.config.own_id, address.socket_addr());
            return self.let_go(address);
        }
        if trouble == Trouble::HandshakeClosed && self.served.address_of(&id) == Some(address) && self.guests.has(&id) {
            // It lives: it is our guest. A CometBFT node takes no second connection with an IP it has one with, which says nothing.
            self.schedule.put(Lane::Recheck, now.monotonic + SILENCE + AFTER_LEAVING, address.clone());
            return;
        }
        let Some(check) = self.schedule.check_mut(address) else { return };
        let claim = check.claim.take();
        if let Some(Claim { or_else, is_here: true, by }) = claim {
            // It is visited again when it has left, which it may have done by now.
            self.schedule.forget(address);
            let is_planned = match self.guests.has(&id) {
                true => or_else.is_some_and(|other| {
                    self.introduce(now.monotonic, other, Claim { or_else: None, is_here: true, by })
                }),
                false => {
                    let claim = Claim { or_else, is_here: false, by };
                    self.introduce(now.monotonic + AFTER_LEAVING, address.clone(), claim)
                }
            };
            if self.schedule.check(address).is_none() && self.book.address_of(&id) == Some(address) {
                // Somebody else told us of it too: it is visited whatever becomes of the guest.
                self.schedule.put(Lane::Retry, now.monotonic + SILENCE + AFTER_LEAVING, address.clone());
            }
            if !is_planned {
                self.guests.could_not_visit(&id);
            }
            return;
        }
        let failures = check.failures + 1;
        (check.failures, check.trouble) = (failures, Some(trouble));
        let is_claim = claim.is_some() && self.book.address_of(&id) != Some(address);
        if let Some(Claim { or_else, by, .. }) = claim {
            let alone = Claim { or_else: None, is_here: false, by };
            check.claim = Some(alone.clone());
            if let Some(other) = or_else {
                self.introduce(now.monotonic, other, alone);
            }
        }
        self.book.mark_attempt(now.wall, address);
        let is_wrong = is_wrong(trouble);
        if self.served.address_of(&id) == Some(address) && (is_wrong || failures >= DEMOTED_AFTER) {
            debug!(%address, %trouble, "no longer served");
            self.stats.demoted += 1;
            self.served.remove(&id);
            if self.served.len() == 0 {
                self.call_seeds(now);
            }
        }
        let is_seed = self.is_seed(address);
        if is_wrong {
            self.backoff.fail_for(now.monotonic, address, WRONG_FOR);
        } else {
            let longest = match is_seed {
                true if self.served.len() == 0 => LONELY_BACKOFF,
                true => self.config.recheck_after,
                false => MAX_BACKOFF,
            };
            self.backoff.fail(now.monotonic, address, longest, &mut self.rng);
        }
        let patience = match () {
            () if is_claim => CLAIM_GIVEN_UP_AFTER,
            () if self.book.is_good(&id) => REACHED_GIVEN_UP_AFTER,
            () => GIVEN_UP_AFTER,
        };
        if !is_seed && (is_wrong || failures >= patience) {
            self.stats.dropped += 1;
            self.book.remove(address);
            return self.let_go(address);
        }
        let again = self.backoff.waits_until(now.monotonic, address).unwrap_or(now.monotonic);
        self.schedule.put(Lane::Retry, again, address.clone());
    }

    /// Plans nothing more for an address, and does not serve it.
    fn let_go(&mut self, address: &PeerAddress) {
        self.schedule.forget(address);
        let id = address.id();
        if self.served.address_of(&id) == Some(address) {
            self.served.remove(&id);
        }
        if self.book.address_of(&id).is_none() {
            self.schedule.forget_source(&id);
        }
    }

    /// Visits the configured seeds at once.
    pub(super) fn call_seeds(&mut self, now: Now) {
        for seed in self.config.seeds.clone() {
            self.schedule.put(Lane::Introduced, now.monotonic, seed);
        }
    }

    /// Visits at `when` an address that a peer gives for itself, unless that was done lately. Whether it will be visited then.
    pub(super) fn introduce(&mut self, when: std::time::Instant, address: PeerAddress, claim: Claim) -> bool {
        let is_busy = |check: &Check| check.is_in_flight() || check.claim.is_some();
        if self.served.address_of(&address.id()) == Some(&address) || self.schedule.check(&address).is_some_and(is_busy)
        {
            return true;
        }
        // What failed before is left alone as long as it must: a peer that calls again and again does not make us call back each time, nor
        // keep a place for it.
        self.backoff.waits_until(when, &address).is_none() && self.schedule.introduce(when, address, claim)
    }

    /// Keeps a peer away for a day.
    pub(super) fn ban(&mut self, now: Now, id: &PeerId) {
        self.served.remove(id);
        self.book.mark_bad(now.wall, id, BAN);
    }

    /// Takes up an answer: a random choice, bounded for each network and source.
    fn learn(&mut self, now: Now, origin: Origin, answer: Answer) {
        let Answer { mut addresses, skipped } = answer;
        self.stats.skipped += skipped as u64;
        addresses.shuffle(&mut self.rng);
        let room = self.schedule.room_of(&origin.id).min(MAX_PER_ANSWER);
        let (mut taken, mut of_group, mut of_ip) = (0, HashMap::new(), HashMap::new());
        for address in addresses {
            let (in_group, at_ip) = match self.book.limited_group(&address) {
                Some(group) => {
                    let ip = address.ip().map(host);
                    (of_group.entry(group).or_insert(0_usize), of_ip.entry(ip).or_insert(0_usize))
                }
                None => (&mut 0, &mut 0),
            };
            if self.served.address_of(&address.id()) == Some(&address) {
                // Old news costs no room.
                continue;
            }
            if self.backoff.waits_until(now.monotonic, &address).is_some() {
                // It failed lately. If it is not in the book, it was given up, and is not taken back because somebody repeats it.
                self.stats.failed_lately += 1;
                continue;
            }
            if taken >= room || *in_group >= MAX_PER_ANSWER_AND_GROUP || *at_ip >= MAX_PER_ANSWER_AND_IP {
                self.stats.beyond += 1;
                continue;
            }
            match self.book.add(now.wall, &address, &origin) {
                Ok(Added::New) => {
                    taken += 1;
                    *in_group += 1;
                    *at_ip += 1;
                    self.stats.learned += 1;
                    self.schedule.put_fresh(origin.id, address);
                }
                Ok(Added::Known) => {}
                Err(_) => self.stats.not_kept += 1,
            }
        }
    }
}

/// Whether something else is there than was said, so that it makes no sense to look again soon.
fn is_wrong(trouble: Trouble) -> bool {
    use Trouble::{BadNodeInfo, Incompatible, NoPex, NotAllowed, Unanswered, Unsupported, WrongId, WrongNetwork};
    matches!(
        trouble,
        WrongId | WrongNetwork | NoPex | BadNodeInfo | Incompatible | Unsupported | NotAllowed | Unanswered
    )
}
