//! Whom the operator named: persistent (static) peers, and seeds (bootnodes) to ask when nobody else is known.

use std::{collections::BTreeSet, time::Instant};

use kadwire_discovery::Now;
use kadwire_wire::address::{PeerAddress, PeerId};
use rand::seq::SliceRandom;

use super::{Dialer, Kind, WhyNot};

impl Dialer {
    /// Dials this address before all others and for as long as it takes.
    pub fn add_persistent(&mut self, address: PeerAddress) {
        if !self.persistent.contains(&address) {
            self.persistent.push(address);
        }
    }

    /// Dials all addresses of this peer like any other from now on.
    pub fn remove_persistent(&mut self, id: &PeerId) {
        self.persistent.retain(|address| address.id() != *id);
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
            self.seeds.push(address);
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

    /// A configured seed, chosen at random among those that may be dialed, and only one at a time.
    pub(crate) fn next_seed(&mut self, now: Now, known: impl Fn(&PeerId) -> Result<(), WhyNot>) -> Option<PeerAddress> {
        if self.dialing.len() >= self.config.dialing || self.dialing.values().any(|dial| dial.kind == Kind::Seed) {
            return None;
        }
        let mut order: Vec<usize> = (0..self.seeds.len()).collect();
        order.shuffle(&mut self.rng);
        let mut seeds = order.into_iter().filter_map(|at| self.seeds.get(at));
        seeds.find(|address| self.check_dial(now, address, &known).is_ok()).cloned()
    }

    /// The operator's peers.
    pub(crate) fn persistent_ids(&self) -> BTreeSet<PeerId> {
        self.persistent.iter().map(PeerAddress::id).collect()
    }

    /// When one of the operator's peers (or, if asked for, a seed) that must wait now may be dialed.
    pub(crate) fn next_ready(&self, now: Now, seeds: bool) -> Option<Instant> {
        let seeds = if seeds { self.seeds.as_slice() } else { &[] };
        let later = self.persistent.iter().chain(seeds).filter_map(|address| {
            let waits = [
                self.history.deadline(address),
                self.cooling.deadline(&address.id()),
                self.backoff.waits_until(now.monotonic, address),
            ];
            waits.into_iter().flatten().max().filter(|at| *at > now.monotonic)
        });
        later.min()
    }
}
