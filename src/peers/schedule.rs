//! Whom to dial now. Every change ends in [`PeerManager::schedule`], which starts the dials that are due, so that a caller never has to poke
//! it.

use std::time::Duration;

use kadwire_discovery::Now;
use kadwire_wire::address::{PeerAddress, PeerId};

use super::{Action, Because, Direction, PeerManager, eviction, incoming::Incoming, set::PeerSet};
use crate::{
    book::Book,
    dial::{Kind, MAX_PER_SUBNET, Places, Subnet, WhyNot},
};

/// While places are free and addresses are known that could not be dialed, another look is taken after this time.
const PICK_INTERVAL: Duration = Duration::from_secs(1);

/// While all places are taken, peers with a better score are looked for after this time (CometBFT, `ensurePeersPeriod`).
pub(super) const UPGRADE_INTERVAL: Duration = Duration::from_secs(30);

/// Addresses looked at in the book for each place to fill (CometBFT, `ensurePeers`: 3), and at least [`MIN_PICKS`].
const PICKS_PER_PLACE: usize = 3;

/// Addresses looked at in the book at least.
const MIN_PICKS: usize = 16;

/// Well-scored peers looked at for an upgrade.
const MAX_UPGRADE_LOOKS: usize = 16;

impl PeerManager {
    pub(super) fn start(&mut self, now: Now, address: PeerAddress, kind: Kind) {
        (self.stats.dials, self.counted.tried) = (self.stats.dials + 1, self.counted.tried + 1);
        self.dialer.start(now, address.clone(), kind);
        self.actions.push_back(Action::Dial(address));
    }

    /// Starts every dial that is due: the operator's peers, then those of the last run, discovered candidates and the book in turns, seeds,
    /// upgrades.
    pub(super) fn schedule(&mut self, now: Now) {
        self.dialer.expire(now);
        if self.book.need_more() {
            self.book.reinstate(now.wall);
        }
        self.settle(now);
        self.take_own_places();
        self.shed(Direction::Inbound);
        self.shed(Direction::Outbound);
        self.start_persistent(now);
        self.start_anchors(now);
        let falls_back = self.falls_back(now);
        if falls_back {
            self.start_seed(now);
        }
        let connected = self.outbound_taken();
        let mut nobody_left = false;
        while self.dialer.room(connected) > 0 && self.dialer.pace_allows(now) && !nobody_left {
            match self.next_dynamic(now, connected) {
                Some(address) => self.start(now, address, Kind::Dynamic),
                None => nobody_left = true,
            }
        }
        let ask_seeds = match self.fallback {
            Some(_) => falls_back,
            None => nobody_left && self.book.need_more(),
        };
        if ask_seeds && self.fallback.is_none() {
            self.start_seed(now);
        }
        self.upgrade(now);
        let room = self.dialer.room(connected) > 0;
        self.wake = [
            self.dialer.next_ready(now, ask_seeds, |id| self.book.banned_for(now.wall, id)),
            self.set.next_held(),
            self.lonely_since
                .zip(self.fallback)
                .and_then(|(since, after)| since.checked_add(after))
                .filter(|at| *at > now.monotonic),
            (room && !self.book.is_empty()).then(|| now.monotonic + PICK_INTERVAL),
            room.then(|| self.dialer.pace_allows_at(now)).flatten(),
            room.then(|| self.book.next_reinstatement(now.wall)).flatten().map(|after| now.monotonic + after),
            (connected >= self.slots.of(Direction::Outbound) && self.scores.best() > Some(0))
                .then(|| now.monotonic + UPGRADE_INTERVAL),
        ]
        .into_iter()
        .flatten()
        .min();
    }

    /// Starts the dials to the operator's peers, and looks for those whose place is not known.
    fn start_persistent(&mut self, now: Now) {
        while self.resolve
            && let Some(id) = self.dialer.next_to_resolve(now)
        {
            self.ask_where(id);
        }
        if self.places == Places::Strangers {
            while let Some(address) =
                self.dialer.next_persistent(now, known(&self.set, &self.incoming, &self.book, now))
            {
                self.start(now, address, Kind::Persistent);
            }
            return;
        }
        if self.room_for_static() == 0 {
            return;
        }
        for address in self.dialer.ready_static(now, known(&self.set, &self.incoming, &self.book, now)) {
            if self.room_for_static() == 0 || !self.dialer.pace_allows(now) {
                return;
            }
            // Two addresses of one peer are not dialed at once.
            if self.dialer.check_dial(now, &address, |_| Ok(())).is_ok() {
                self.start(now, address, Kind::Persistent);
            }
        }
    }

    /// How many more dials of static peers may start where everybody takes a place. Without outbound places nobody else is dialed, and they
    /// may have any that is free.
    fn room_for_static(&self) -> usize {
        if self.slots.of(Direction::Outbound) > 0 {
            return self.dialer.room(self.outbound_taken());
        }
        self.dialer.room_for(self.slots.total.saturating_sub(self.limited()).saturating_mul(2))
    }

    fn start_seed(&mut self, now: Now) {
        if self.places == Places::Everybody && self.dialer.room(self.outbound_taken()) == 0 {
            return;
        }
        if let Some(seed) = self.dialer.next_seed(now, known(&self.set, &self.incoming, &self.book, now)) {
            self.start(now, seed, Kind::Seed);
        }
    }

    /// Whether there has been no peer for so long that bootnodes are dialed.
    fn falls_back(&mut self, now: Now) -> bool {
        if self.peers().next().is_some() {
            self.lonely_since = None;
            return false;
        }
        let since = *self.lonely_since.get_or_insert(now.monotonic);
        self.fallback.is_some_and(|after| now.monotonic.saturating_duration_since(since) >= after)
    }

    pub(super) fn ask_where(&mut self, id: PeerId) {
        self.counted.resolves += 1;
        self.actions.push_back(Action::Resolve(id));
    }

    /// Outbound places that are taken, or that nobody could take because there are as many connections as there may be.
    pub(super) fn outbound_taken(&self) -> usize {
        let free = self.slots.total.saturating_sub(self.limited());
        let taken = self.set.taken(Direction::Outbound).staying;
        taken.max(self.slots.of(Direction::Outbound).saturating_sub(free))
    }

    /// Closes what is over the places of one side: peers that are no longer persistent may be too many.
    pub(super) fn shed(&mut self, direction: Direction) {
        // Where everybody takes a place, those who were trusted when they came stay.
        if self.places == Places::Everybody {
            return;
        }
        while self.set.taken(direction).staying > self.slots.of(direction) {
            let Some((_, connection)) = eviction::lowest(&self.set, direction, |id| self.score(id)) else { return };
            self.close(connection, Because::Evicted);
        }
    }

    fn next_dynamic(&mut self, now: Now, connected: usize) -> Option<PeerAddress> {
        self.book_is_next = !self.book_is_next;
        if self.book_is_next {
            self.next_discovered(now).or_else(|| self.pick(now, connected))
        } else {
            self.pick(now, connected).or_else(|| self.next_discovered(now))
        }
    }

    /// A discovered candidate whose subnet is not crowded; the others are dropped.
    fn next_discovered(&mut self, now: Now) -> Option<PeerAddress> {
        loop {
            let known = known(&self.set, &self.incoming, &self.book, now);
            let address = self.dialer.next_candidate(now, known, &mut self.stats.refusals)?;
            if !self.is_crowded(&address) {
                return Some(address);
            }
            self.stats.refusals.count(WhyNot::SubnetFull);
        }
    }

    /// Whether we are connected with, or dial, as many peers of one subnet as is good for us: whoever owns a /24 does not own our peers.
    /// Of one IP that is one, unless more are allowed.
    fn is_crowded(&self, address: &PeerAddress) -> bool {
        let id = address.id();
        let dialing_there = || self.dialer.dialing().any(|other| other.id() != id && other.ip() == address.ip());
        if !self.allow_duplicate_ip
            && address.ip().is_some()
            && (self.has_duplicate_ip(address.ip(), &id) || dialing_there())
        {
            return true;
        }
        let subnet_of = |ip| Subnet::limited(ip, self.limit_lan);
        let Some(subnet) = subnet_of(address.ip()) else { return false };
        let connected = self.set.iter().filter(|c| c.place == Some(Direction::Outbound));
        let connected = connected.filter(|c| subnet_of(c.remote.map(|remote| remote.ip())) == Some(subnet)).count();
        let dialing = self.dialer.dialing().filter(|dialed| subnet_of(dialed.ip()) == Some(subnet)).count();
        connected + dialing >= MAX_PER_SUBNET
    }

    /// An address from the book that may be dialed. The more peers there are, the more of them may be untried ones (CometBFT). If none of
    /// those looked at may be dialed, each side is looked at by itself: with few peers the bias leaves out the untried ones nine times of ten.
    fn pick(&mut self, now: Now, connected: usize) -> Option<PeerAddress> {
        let bias = bias(connected);
        let most = self.book.len() * PICKS_PER_PLACE;
        let looks = (self.dialer.room(connected) * PICKS_PER_PLACE).max(MIN_PICKS).min(most);
        for bias in [bias, 100, 0] {
            for _ in 0..looks {
                let address = self.book.pick(bias)?.clone();
                let checked = self.dialer.check_dial(now, &address, known(&self.set, &self.incoming, &self.book, now));
                if checked.is_ok() && !self.is_crowded(&address) {
                    return Some(address);
                }
            }
        }
        None
    }

    /// With all outbound places taken, dials known peers whose score is strictly higher than the lowest connected ones'.
    fn upgrade(&mut self, now: Now) {
        let taken = self.set.taken(Direction::Outbound);
        let places = self.slots.of(Direction::Outbound);
        let spare = self.slots.upgrade.saturating_sub(taken.open.saturating_sub(places));
        let under_way = self.dialer.dialing_of(Kind::Upgrade);
        if taken.staying < places || places == 0 || under_way >= spare || self.scores.best() <= Some(0) {
            return;
        }
        // Each upgrade under way has a claim on one of the lowest.
        let lowest = eviction::lowest_scores(&self.set, Direction::Outbound, |id| self.score(id));
        let mut targets = lowest.into_iter().skip(under_way).take(spare - under_way).peekable();
        let candidates: Vec<PeerId> = self.scores.ranked().map(|(id, _)| id).take(MAX_UPGRADE_LOOKS).collect();
        for id in candidates {
            let Some(target) = targets.peek() else { return };
            if self.score(&id) <= *target || !self.dialer.has_free_dial() || !self.dialer.pace_allows(now) {
                continue;
            }
            let Some(address) = self.book.address_of(&id).cloned() else { continue };
            if self.dialer.check_dial(now, &address, known(&self.set, &self.incoming, &self.book, now)).is_ok() {
                targets.next();
                self.start(now, address, Kind::Upgrade);
            }
        }
    }
}

/// The weight of untried addresses against those that we reached, in percent (CometBFT, `ensurePeers`).
fn bias(connected: usize) -> usize {
    connected.min(8) * 10 + 10
}

/// What speaks against dialing a peer, apart from the dial scheduler's own reasons.
pub(super) fn known<'a>(
    set: &'a PeerSet,
    incoming: &'a Incoming,
    book: &'a Book,
    now: Now,
) -> impl Fn(&PeerId) -> Result<(), WhyNot> + 'a {
    move |id| {
        if set.is_open(id) {
            return Err(WhyNot::AlreadyConnected);
        }
        if incoming.is_pending(id) {
            return Err(WhyNot::PendingInbound);
        }
        if book.is_banned(now.wall, id) {
            return Err(WhyNot::Banned);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_peers_the_more_untried_addresses_are_dialed() {
        assert_eq!([0, 1, 7, 8, 100].map(bias), [10, 20, 80, 90, 90]);
    }
}
