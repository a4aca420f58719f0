//! Whom the operator named: persistent (static) peers, and seeds (bootnodes) to ask when nobody else is known.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use kadwire_discovery::Now;
use kadwire_wire::address::{PeerAddress, PeerId};
use rand::seq::SliceRandom;

use super::{Dialer, Kind, WhyNot};

impl Dialer {
    /// Dials this address before all others and for as long as it takes.
    pub fn add_persistent(&mut self, address: PeerAddress) {
        self.unplaced.remove(&address.id());
        if !self.persistent.contains(&address) {
            self.persistent.push(address);
        }
    }

    /// A peer to be dialed wherever discovery finds it: [`Dialer::next_to_resolve`] says when to look.
    pub(crate) fn add_unplaced(&mut self, id: PeerId) {
        if !self.is_persistent(&id) {
            self.unplaced.insert(id);
        }
    }

    /// Dials all addresses of this peer like any other from now on, and at once if it is named again: the operator knows why.
    pub fn remove_persistent(&mut self, id: &PeerId) {
        for address in self.persistent.extract_if(.., |address| address.id() == *id) {
            self.history.remove(&address);
            self.backoff.clear(&address);
        }
        self.unplaced.remove(id);
        self.resolving.forget(id);
    }

    /// Discovery knows, or does not, where one of the operator's peers is. Its new address takes the place of the old ones, but for names.
    pub(crate) fn resolved(&mut self, now: Now, id: &PeerId, found: Option<&PeerAddress>) {
        let found = found.filter(|address| address.id() == *id);
        self.resolving.answered(now.monotonic, id, found.is_some());
        let Some(found) = found.filter(|_| self.is_persistent(id) || self.unplaced.contains(id)) else { return };
        self.persistent.retain(|address| address.id() != *id || address.ip().is_none());
        self.add_persistent(found.clone());
    }

    /// Whether discovery should be asked now where a peer is that was not reached. It is not asked about the same one too often.
    pub(crate) fn may_resolve(&mut self, now: Now, id: &PeerId) -> bool {
        self.is_persistent(id) && self.resolving.ask(now.monotonic, id)
    }

    /// One of the operator's peers without a known address, if discovery should be asked about it now.
    pub(crate) fn next_to_resolve(&mut self, now: Now) -> Option<PeerId> {
        let Dialer { unplaced, resolving, .. } = self;
        unplaced.iter().find(|id| resolving.ask(now.monotonic, id)).copied()
    }

    /// Whether the operator wants this peer kept.
    pub fn is_persistent(&self, id: &PeerId) -> bool {
        self.persistent.iter().any(|address| address.id() == *id)
    }

    /// Whether the operator named this address, as a persistent peer or as a seed.
    pub fn is_configured(&self, address: &PeerAddress) -> bool {
        self.persistent.contains(address) || self.seeds.contains(address)
    }

    /// An address to ask when nobody else is known.
    pub fn add_seed(&mut self, address: PeerAddress) {
        if !self.seeds.contains(&address) {
            self.seeds.push_back(address);
        }
    }

    /// The next of the operator's peers to dial; needs a free dial, but no free outbound place.
    pub(crate) fn next_persistent(
        &self,
        now: Now,
        known: impl Fn(&PeerId) -> Result<(), WhyNot>,
    ) -> Option<PeerAddress> {
        if self.dialing.len() >= self.config.dialing {
            return None;
        }
        self.persistent.iter().find(|address| self.check_dial(now, address, &known).is_ok()).cloned()
    }

    /// Those of the operator's peers that may be dialed now, in random order, so that none of many waits for ever (dial.go, `staticPool`).
    pub(crate) fn ready_static(&mut self, now: Now, known: impl Fn(&PeerId) -> Result<(), WhyNot>) -> Vec<PeerAddress> {
        let ready = self.persistent.iter().filter(|address| self.check_dial(now, address, &known).is_ok());
        let mut ready: Vec<_> = ready.cloned().collect();
        ready.shuffle(&mut self.rng);
        ready
    }

    /// A configured seed among those that may be dialed, and only one at a time. Seeds are chosen at random; bootnodes take turns, as in
    /// go-ethereum 1.8 (`dial.go`, `newTasks`).
    pub(crate) fn next_seed(&mut self, now: Now, known: impl Fn(&PeerId) -> Result<(), WhyNot>) -> Option<PeerAddress> {
        if self.dialing.len() >= self.config.dialing || self.dialing.values().any(|dial| dial.kind == Kind::Seed) {
            return None;
        }
        let mut order: Vec<usize> = (0..self.seeds.len()).collect();
        if self.config.fallback.is_none() {
            order.shuffle(&mut self.rng);
        }
        let may_be_dialed = |at: &usize| self.seeds.get(*at).is_some_and(|a| self.check_dial(now, a, &known).is_ok());
        let at = order.into_iter().find(may_be_dialed)?;
        let seed = self.seeds.remove(at)?;
        self.seeds.push_back(seed.clone());
        Some(seed)
    }

    /// The operator's peers.
    pub(crate) fn persistent_ids(&self) -> BTreeSet<PeerId> {
        self.persistent.iter().map(PeerAddress::id).chain(self.unplaced.iter().copied()).collect()
    }

    /// How many seeds the operator named.
    pub(crate) fn seeds(&self) -> usize {
        self.seeds.len()
    }

    /// When one of the operator's peers (or, if asked for, a seed) that must wait now may be dialed. `banned_for` says for how long a peer is
    /// kept away.
    pub(crate) fn next_ready(
        &self,
        now: Now,
        seeds: bool,
        banned_for: impl Fn(&PeerId) -> Option<Duration>,
    ) -> Option<Instant> {
        let seeds = self.seeds.iter().filter(|_| seeds);
        let later = self.persistent.iter().chain(seeds).filter_map(|address| {
            let waits = [
                self.history.deadline(address),
                self.cooling.deadline(&address.id()),
                self.backoff.waits_until(now.monotonic, address),
                banned_for(&address.id()).map(|left| now.monotonic + left),
            ];
            waits.into_iter().flatten().max().filter(|at| *at > now.monotonic)
        });
        let resolve = self.unplaced.iter().filter_map(|id| self.resolving.next(id));
        later.chain(resolve.filter(|at| *at > now.monotonic)).min()
    }
}
