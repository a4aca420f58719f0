//! Which address is visited next. Four lanes share a bounded number of visits, so that no flood in one of them keeps another waiting:
//! who is served stays checked, however many false addresses [liars](super::sources) bring.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Instant,
};

use kadwire_wire::{PeerAddress, PeerId};

use super::sources::{Sources, Taken};
use crate::visit::Trouble;

/// Why an address is visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// It is served: is it still true?
    Recheck,
    /// A peer gave it for itself, or the operator named it.
    Introduced,
    /// Somebody told us of it, and nobody has checked it.
    Fresh,
    /// The same, from a source that is [doubtful](super::sources).
    Doubtful,
    /// It was not reached the last time.
    Retry,
}

/// The lanes with a time for each address; in the other two sources take turns instead.
const TIMED: [Lane; 3] = [Lane::Recheck, Lane::Introduced, Lane::Retry];

/// Introduced addresses that may wait: each costs its sender a handshake.
const MAX_INTRODUCED: usize = 1_024;

/// Of those, introduced from one network (/24 of IPv4, /48 of IPv6), waiting or being visited. A host that lets us wait costs a visit for
/// seconds; who finds no room is visited when it calls again.
const MAX_INTRODUCED_OF_NETWORK: usize = 4;

/// When something is due, made unique by a number.
type Key = (Instant, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In its source's queue.
    Waiting,
    Due(Lane, Key),
    InFlight(Lane),
}

/// What is known of visits to one address.
#[derive(Debug)]
pub(super) struct Check {
    place: Place,
    /// Visits in a row that did not reach it.
    pub(super) failures: u32,
    /// Visits in a row that reached it, asked, and got no answer.
    pub(super) unanswered: u32,
    /// What went wrong the last time.
    pub(super) trouble: Option<Trouble>,
    /// Who told us of it, until the first visit has shown what that is worth.
    source: Option<PeerId>,
    /// Not in the book: its own peer claims it, and what it claims if this is not true. For a configured seed there is nothing else.
    pub(super) claim: Option<Claim>,
    /// The network that it takes up a place of, as long as it is in that lane.
    introducer: Option<IpAddr>,
    /// It was never visited, and who told us of it was never right, or is doubtful.
    pub(super) is_unproven: bool,
}

/// An address that a peer gives for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// To be tried if this is not where it is.
    pub(super) or_else: Option<PeerAddress>,
    /// The peer is connected with us while we dial: it may have no room for a second connection, which says nothing.
    pub(super) is_here: bool,
    /// The network that it introduced itself from, if the places of that are limited.
    pub(super) by: Option<IpAddr>,
}

#[derive(Debug)]
pub(super) struct Schedule {
    checks: HashMap<PeerAddress, Check>,
    due: [BTreeMap<Key, PeerAddress>; TIMED.len()],
    sources: Sources,
    in_flight: [usize; 5],
    /// Introduced addresses, waiting and being visited, by network.
    introduced: HashMap<IpAddr, usize>,
    parallel: usize,
    number: u64,
    /// Of unchecked and failed addresses, whose turn it is.
    retry_is_next: bool,
}

impl Schedule {
    /// For up to `parallel` visits at once.
    pub(super) fn new(parallel: usize) -> Self {
        Schedule {
            checks: HashMap::new(),
            due: std::array::from_fn(|_| BTreeMap::new()),
            sources: Sources::default(),
            in_flight: [0; 5],
            introduced: HashMap::new(),
            parallel: parallel.max(1),
            number: 0,
            retry_is_next: false,
        }
    }

    pub(super) fn check(&self, address: &PeerAddress) -> Option<&Check> {
        self.checks.get(address)
    }

    pub(super) fn check_mut(&mut self, address: &PeerAddress) -> Option<&mut Check> {
        self.checks.get_mut(address)
    }

    /// Every check, in no particular order.
    pub(super) fn checks(&self) -> impl Iterator<Item = &Check> {
        self.checks.values()
    }

    /// How many more unchecked addresses `source` may have waiting.
    pub(super) fn room_of(&self, source: &PeerId) -> usize {
        self.sources.room_of(source)
    }

    /// Puts an unchecked address into the queue of who told us.
    pub(super) fn put_fresh(&mut self, source: PeerId, address: PeerAddress) {
        if !self.checks.contains_key(&address) {
            let check = Check { source: Some(source), ..Check::new(Place::Waiting) };
            self.checks.insert(address.clone(), check);
            self.sources.put(source, address);
        }
    }

    /// The source is no peer any more: what its word was worth is forgotten.
    pub(super) fn forget_source(&mut self, source: &PeerId) {
        self.sources.forget(source);
    }

    /// Visits an address at `when` that its own peer claims, if there is room for its network. Whether that is so.
    pub(super) fn introduce(&mut self, when: Instant, address: PeerAddress, claim: Claim) -> bool {
        let by = claim.by;
        if by.and_then(|by| self.introduced.get(&by)).is_some_and(|count| *count >= MAX_INTRODUCED_OF_NETWORK) {
            return false;
        }
        let Some(check) = self.put(Lane::Introduced, when, address) else { return false };
        (check.claim, check.introducer) = (Some(claim), by);
        if let Some(by) = by {
            *self.introduced.entry(by).or_default() += 1;
        }
        true
    }

    /// Visits an address at `when`, whatever was planned for it. One that is being visited is left alone.
    pub(super) fn put(&mut self, lane: Lane, when: Instant, address: PeerAddress) -> Option<&mut Check> {
        let at = index(lane)?;
        if lane == Lane::Introduced && self.due[at].len() >= MAX_INTRODUCED {
            return None;
        }
        match self.checks.get_mut(&address).map(|check| (check.place, &mut check.introducer)) {
            Some((Place::InFlight(_), _)) => return None,
            Some((place, introducer)) => {
                let introducer = introducer.take();
                self.leave(place, introducer);
            }
            None => {}
        }
        self.number += 1;
        let key = (when, self.number);
        self.due[at].insert(key, address.clone());
        let check = self.checks.entry(address).or_insert(Check::new(Place::Waiting));
        check.place = Place::Due(lane, key);
        Some(check)
    }

    /// The next address to visit, now in flight until [`Self::landed`] or [`Self::forget`].
    pub(super) fn poll(&mut self, now: Instant) -> Option<PeerAddress> {
        if self.in_flight.iter().sum::<usize>() >= self.parallel {
            return None;
        }
        let (lane, address) = self
            .take_due(Lane::Recheck, now)
            .or_else(|| self.take_due(Lane::Introduced, now))
            .or_else(|| self.take_stranger(now))?;
        self.in_flight[lane as usize] += 1;
        self.checks.get_mut(&address)?.place = Place::InFlight(lane);
        Some(address)
    }

    fn take_due(&mut self, lane: Lane, now: Instant) -> Option<(Lane, PeerAddress)> {
        if !self.has_room(lane) {
            return None;
        }
        let first = self.due[index(lane)?].first_entry().filter(|first| first.key().0 <= now)?;
        Some((lane, first.remove()))
    }

    /// Those whom nobody has checked, and those who failed, take turns.
    fn take_stranger(&mut self, now: Instant) -> Option<(Lane, PeerAddress)> {
        if !self.has_room(Lane::Fresh) {
            return None;
        }
        self.retry_is_next = !self.retry_is_next;
        match self.retry_is_next {
            true => self.take_fresh().or_else(|| self.take_due(Lane::Retry, now)),
            false => self.take_due(Lane::Retry, now).or_else(|| self.take_fresh()),
        }
    }

    fn take_fresh(&mut self) -> Option<(Lane, PeerAddress)> {
        while let Some(taken) = self.sources.take(self.has_room(Lane::Doubtful)) {
            let Taken { source, address, is_doubtful, is_unproven } = taken;
            match self.checks.get_mut(&address) {
                Some(check) if check.place == Place::Waiting && check.source == Some(source) => {
                    check.is_unproven = is_unproven;
                    return Some((if is_doubtful { Lane::Doubtful } else { Lane::Fresh }, address));
                }
                // It was planned otherwise, or forgotten, meanwhile.
                _ => self.sources.judge(&source, None),
            }
        }
        None
    }

    /// Half of the visits at most are for those who introduce themselves, and as many for those that will hardly be reached: dials into the
    /// void take seconds. A quarter is free of strangers, and a quarter of re-checks.
    fn has_room(&self, lane: Lane) -> bool {
        let [recheck, introduced, fresh, doubtful, retry] = self.in_flight;
        let (half, most) = (self.parallel.div_ceil(2), (self.parallel * 3).div_ceil(4));
        match lane {
            Lane::Recheck => recheck < most,
            Lane::Introduced => introduced < half,
            Lane::Fresh => fresh + doubtful + retry < most,
            Lane::Doubtful | Lane::Retry => doubtful + retry < half && fresh + doubtful + retry < most,
        }
    }

    fn leave(&mut self, place: Place, introducer: Option<IpAddr>) {
        if let Some(by) = introducer
            && let Some(count) = self.introduced.get_mut(&by)
        {
            *count -= 1;
            if *count == 0 {
                self.introduced.remove(&by);
            }
        }
        match place {
            Place::Waiting => {}
            Place::Due(lane, key) => {
                if let Some(at) = index(lane) {
                    self.due[at].remove(&key);
                }
            }
            Place::InFlight(lane) => self.in_flight[lane as usize] -= 1,
        }
    }

    /// The visit that was to begin waits until then. Its source is not judged by it.
    pub(super) fn put_off(&mut self, address: &PeerAddress, until: Instant) {
        let Some(check) = self.checks.get_mut(address) else { return };
        let (place, introducer) = (check.place, check.introducer.take());
        check.place = Place::Waiting;
        if let (Some(source), Place::InFlight(Lane::Fresh | Lane::Doubtful)) = (check.source.take(), place) {
            self.sources.judge(&source, None);
        }
        self.leave(place, introducer);
        self.put(Lane::Retry, until, address.clone());
    }

    /// The visit is over. `false` if none was under way. The address must then be put somewhere, or forgotten.
    pub(super) fn landed(&mut self, address: &PeerAddress, reached: bool) -> bool {
        let Some(check) = self.checks.get_mut(address) else { return false };
        let place @ Place::InFlight(lane) = check.place else { return false };
        (check.place, check.is_unproven) = (Place::Waiting, false);
        let introducer = check.introducer.take();
        if let Some(source) = check.source.take()
            && matches!(lane, Lane::Fresh | Lane::Doubtful)
        {
            self.sources.judge(&source, Some(reached));
        }
        self.leave(place, introducer);
        true
    }

    pub(super) fn forget(&mut self, address: &PeerAddress) {
        if let Some(check) = self.checks.remove(address) {
            if let (Some(source), Place::InFlight(Lane::Fresh | Lane::Doubtful)) = (check.source, check.place) {
                self.sources.judge(&source, None);
            }
            self.leave(check.place, check.introducer);
        }
    }

    /// When the next address is due, if there is room for the visit.
    pub(super) fn first_due(&self) -> Option<Instant> {
        if self.in_flight.iter().sum::<usize>() >= self.parallel {
            return None;
        }
        let firsts = TIMED.iter().zip(&self.due).filter(|(lane, _)| self.has_room(**lane));
        firsts.filter_map(|(_, due)| due.keys().next()).map(|key| key.0).min()
    }

    /// Addresses that wait for their first visit.
    pub(super) fn unchecked(&self) -> usize {
        self.sources.waiting()
    }

    /// Whether an address is being visited, or about to be, that was never reached and has not failed either.
    pub(super) fn is_exploring(&self, now: Instant) -> bool {
        let introduced = index(Lane::Introduced).and_then(|at| self.due[at].keys().next());
        self.sources.waiting() > 0
            || self.in_flight[Lane::Fresh as usize] + self.in_flight[Lane::Doubtful as usize] > 0
            || self.in_flight[Lane::Introduced as usize] > 0
            || introduced.is_some_and(|key| key.0 <= now)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.iter().sum()
    }

    #[cfg(test)]
    pub(super) fn assert_bounds(&self) {
        self.sources.assert_bounds();
        let waiting = self.sources.waiting();
        assert!(self.in_flight() <= self.parallel);
        let introduced = self.checks.values().filter(|check| check.introducer.is_some()).count();
        assert_eq!(introduced, self.introduced.values().sum::<usize>());
        let due: usize = self.due.iter().map(BTreeMap::len).sum();
        assert!(self.checks.len() <= waiting + due + self.in_flight(), "every check is somewhere");
    }
}

fn index(lane: Lane) -> Option<usize> {
    TIMED.iter().position(|timed| *timed == lane)
}

impl Check {
    fn new(place: Place) -> Self {
        Check {
            place,
            failures: 0,
            unanswered: 0,
            trouble: None,
            source: None,
            claim: None,
            introducer: None,
            is_unproven: false,
        }
    }

    /// Whether it is about to be visited because somebody else told of it.
    pub(super) fn is_hearsay(&self) -> bool {
        matches!(self.place, Place::InFlight(Lane::Fresh | Lane::Doubtful | Lane::Retry))
    }

    pub(super) fn is_in_flight(&self) -> bool {
        matches!(self.place, Place::InFlight(_))
    }
}
