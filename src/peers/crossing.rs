//! Two nodes that dial each other at the same moment have two connections, and must keep one, without a word about which.
//!
//! Whose rule? A CometBFT node keeps the connection that it *added first* and closes the other (`switch.go`, `filterPeer`); go-ethereum does
//! the same, with a reason (`server.go`, `postHandshakeChecks`). Two such nodes may each close the one that the other keeps. So the second
//! connection is held beside the first for [`PATIENCE`]: whoever has a rule of its own closes one of them by then, and the other stays. If
//! both are still there the other end waits like us (it is one of ours), and the one dialed by the smaller id stays, at both ends.
//!
//! The one that stays takes the place of the first, whoever dialed: there may be no other, and the other end may have closed the first
//! already. As soon as a place of its own side is free it takes that one, so that both sides' limits hold again. Reactors hear nothing if
//! the first stays, otherwise its end and the other's beginning; a held connection is not read from, so nothing that came on it is lost.

use std::time::Duration;

use kadwire_discovery::Now;
use kadwire_wire::address::{PeerAddress, PeerId};

use super::{Because, Connected, ConnectionId, Direction, Event, PeerManager, State, set::PeerSet};
use crate::dial::WhyNot;

/// How long two crossed connections are both kept: the other end knows of both after one round trip, and says which it keeps after another.
const PATIENCE: Duration = Duration::from_secs(1);

/// Both sides of two crossed connections see the second one within this time: it is longer than a dial with its handshake may last (60 s,
/// where the router cuts it) and the filters asked before and after (5 s each). A newcomer that comes later was dialed by a peer that has lost
/// the first one.
const CROSSING: Duration = Duration::from_secs(75);

/// A node that is slower than [`PATIENCE`] may close the one that we kept. If the last of two crossed connections ends within this time, the
/// peer is there, and its address may be dialed again as soon as its back-off allows.
const BOTH_LOST: Duration = Duration::from_secs(10);

/// What a newcomer finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meeting {
    /// No connection with its peer.
    Nobody,
    /// One that its peer must have lost.
    Lost(ConnectionId, Option<Direction>),
    /// One that it crossed with.
    Crossed,
}

/// What a connection of this direction with `peer` finds there.
pub(super) fn meet(set: &PeerSet, now: Now, peer: &PeerId, direction: Direction) -> Result<Meeting, WhyNot> {
    let Some(standing) = set.standing(peer) else { return Ok(Meeting::Nobody) };
    if set.held(peer).is_some() {
        return Err(WhyNot::AlreadyConnected);
    }
    if now.monotonic.saturating_duration_since(standing.since) > CROSSING && direction == Direction::Inbound {
        return Ok(Meeting::Lost(standing.connection, standing.place));
    }
    if standing.direction == direction {
        return Err(WhyNot::AlreadyConnected);
    }
    Ok(Meeting::Crossed)
}

impl PeerManager {
    /// Keeps a connection beside the one that it crossed with.
    pub(super) fn hold(&mut self, now: Now, connected: Connected) {
        let of_standing = || self.set.standing(&connected.peer).and_then(|standing| standing.dialed.clone());
        let crossed = connected.dialed.clone().or_else(of_standing);
        self.set.hold(Connected { crossed, place: None, ..connected }, now.monotonic + PATIENCE);
    }

    /// Decides between crossed connections that both ends still have.
    pub(super) fn settle(&mut self, now: Now) {
        let due: Vec<PeerId> = self.set.held_until(now.monotonic).collect();
        for peer in due {
            let Some(held) = self.set.held(&peer) else { continue };
            let dialed_by_smaller = match held.direction {
                Direction::Outbound => self.own_id < peer,
                Direction::Inbound => peer < self.own_id,
            };
            self.stats.refusals.count(WhyNot::LostCrossing);
            if !dialed_by_smaller {
                let held = held.connection;
                self.close(held, Because::Replaced);
            } else if let Some(standing) = self.set.standing(&peer) {
                let (connection, place, protected) = (standing.connection, standing.place, standing.protected);
                self.close(connection, Because::Replaced);
                self.set.release_place(connection);
                self.promote(&peer, place, protected);
            }
        }
    }

    /// Connections in a place of the other side take one of their own, if it is free.
    pub(super) fn take_own_places(&mut self) {
        let elsewhere: Vec<_> = self.set.elsewhere().collect();
        for (connection, direction) in elsewhere {
            if self.set.taken(direction).open < self.slots.of(direction) {
                self.set.take_own_place(connection);
            }
        }
    }

    /// A connection is over. Whether another takes its place.
    pub(super) fn succeed(&mut self, closed: &Connected) -> bool {
        closed.stands() && self.promote(&closed.peer, closed.place, closed.protected)
    }

    fn promote(&mut self, peer: &PeerId, place: Option<Direction>, protected: bool) -> bool {
        let Some(connected) = self.set.promote(peer, place, protected) else { return false };
        if connected.state == State::Ready {
            let (connection, direction) = (connected.connection, connected.direction);
            self.events.push_back(Event::Up { peer: *peer, connection, direction });
        }
        true
    }

    /// The address to dial again, if the last of two crossed connections has ended too soon.
    pub(super) fn lost_crossing(&self, now: Now, closed: &Connected) -> Option<PeerAddress> {
        let lasted = now.monotonic.saturating_duration_since(closed.since);
        let is_last = self.set.standing(&closed.peer).is_none();
        closed.crossed.clone().filter(|_| is_last && !closed.closed_by_us && lasted < BOTH_LOST)
    }
}
