//! Anchors: the peers that we dialed and have had longest, to be dialed first after a restart, so that whoever waits for one (or brings one
//! about) does not get all the places that we dial. Bitcoin Core's idea (`anchors.dat`: two block-relay-only peers, written at the end).
//!
//! What differs. They are written while the node runs too, so that a crash costs none. Who has been a peer longest goes before others over any
//! number of restarts, and keeps its turn for a day if it is away or has no place for us, so that a row of restarts does not wear the honest
//! ones out; after that it still gives way only to a peer that is there. And no more than a quarter of the dialed places is theirs, in case
//! they are the attacker's: the others are open to everybody at each start.
//!
//! A machine: [`mod@file`] reads and writes; the [`PeerManager`](crate::peers::PeerManager) says who is connected, and dials.

pub mod file;

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, SystemTime},
};

use kadwire_wire::address::{PeerAddress, PeerId};

use crate::book::Group;

/// A peer to come back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Who it is, and the IP and port at which we reached it.
    pub address: PeerAddress,
    /// Since when it is a peer, restarts of ours not counted.
    pub since: SystemTime,
    /// When it was connected last.
    pub seen: SystemTime,
}

/// Anchors of one wire: twice as many as an Ethereum node has places for by default, because half of them may be away or full. (Bitcoin Core
/// has 2 for 2 of its 10 places.)
pub const MAX_ANCHORS: usize = 8;

/// Younger peers are no anchors: a dead one may go unnoticed for so long (MConnection: a ping each 60 s, and 45 s for its answer).
const MIN_AGE: Duration = Duration::from_secs(105);

/// An anchor that is away, or has no place for us, keeps its turn for so long. Shorter, and an attacker that restarts us a few times is rid
/// of it; longer, and nodes that are gone for good stand for ones that are there.
const MAX_AWAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The anchors: those of the last run while they are dialed, and those for the next one.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    /// Those for the next start, in the order in which they will be dialed.
    kept: Vec<Anchor>,
    /// Those of the last run whose turn has not come.
    waiting: VecDeque<PeerAddress>,
    /// Those that are dialed now. A place is kept for each until its dial ends.
    dialing: BTreeSet<PeerId>,
    /// So many of them are to be peers again.
    places: usize,
    dialed: usize,
    reached: usize,
}

impl Anchors {
    /// Those of the last run, for a quarter of the dialed `places` (rounded up), and never for the only one.
    pub(crate) fn new(mut anchors: Vec<Anchor>, places: usize) -> Self {
        anchors.truncate(MAX_ANCHORS);
        let waiting = anchors.iter().map(|anchor| anchor.address.clone()).collect();
        Anchors { kept: anchors, waiting, places: places.div_ceil(4).min(places / 2), ..Anchors::default() }
    }

    /// Whose turn it is to be dialed, while there are not enough of them. Each has one.
    pub(crate) fn next(&mut self) -> Option<PeerAddress> {
        let wanted = self.dialing.len() + self.reached < self.places;
        wanted.then(|| self.waiting.pop_front()).flatten()
    }

    /// One is dialed now.
    pub(crate) fn start(&mut self, id: PeerId) {
        self.dialing.insert(id);
        self.dialed += 1;
    }

    /// A dial ended, and made a peer or not.
    pub(crate) fn finish(&mut self, id: &PeerId, is_peer: bool) {
        self.reached += usize::from(self.dialing.remove(id) && is_peer);
    }

    /// Somebody else is where this one should be.
    pub(crate) fn forget(&mut self, id: &PeerId) {
        self.kept.retain(|anchor| anchor.address.id() != *id);
    }

    /// Places that are kept for others than this peer while their dials last.
    pub(crate) fn places_kept_from(&self, id: &PeerId) -> usize {
        if self.dialing.contains(id) { 0 } else { self.dialing.len() }
    }

    /// Chooses those for the next start anew: of the `peers` that we dialed and the earlier ones, if these are not away for too long, those that
    /// we have had longest, one of each network; then, while there are too few, the other earlier ones.
    pub(crate) fn choose(
        &mut self,
        now: SystemTime,
        mut peers: Vec<Anchor>,
        is_welcome: impl Fn(&PeerId) -> bool,
        network_of: impl Fn(&PeerAddress) -> Option<Group>,
    ) {
        for peer in &mut peers {
            let known = self.kept.iter().find(|known| known.address.id() == peer.address.id());
            peer.since = known.map_or(peer.since, |known| known.since);
        }
        peers.retain(|peer| now.duration_since(peer.since).is_ok_and(|age| age >= MIN_AGE));
        let is_away = |known: &Anchor| peers.iter().all(|peer| peer.address.id() != known.address.id());
        let away = self.kept.drain(..).filter(is_away);
        let long = |anchor: &Anchor| now.duration_since(anchor.seen).is_ok_and(|away| away >= MAX_AWAY);
        let (long, lately): (Vec<_>, Vec<_>) = away.partition(long);
        peers.extend(lately);
        peers.sort_by_key(|peer| (peer.since, peer.address.id()));
        let mut networks = BTreeSet::new();
        for anchor in peers.into_iter().chain(long).filter(|anchor| is_welcome(&anchor.address.id())) {
            if self.kept.len() < MAX_ANCHORS
                && network_of(&anchor.address).is_none_or(|network| networks.insert(network))
            {
                self.kept.push(anchor);
            }
        }
    }

    /// Those for the next start.
    pub(crate) fn kept(&self) -> &[Anchor] {
        &self.kept
    }

    /// How many of the last run were dialed.
    pub(crate) fn dialed(&self) -> usize {
        self.dialed
    }

    /// How many of these became peers.
    pub(crate) fn reached(&self) -> usize {
        self.reached
    }
}

#[cfg(test)]
mod tests;
