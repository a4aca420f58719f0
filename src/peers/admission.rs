//! Who gets in: a proven identity becomes a connection, or is refused for a named reason.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use kadwire_discovery::Now;
use kadwire_wire::address::{PeerAddress, PeerId};

use super::{
    Action, Because, Connected, ConnectionId, Direction, PeerManager, State,
    crossing::{self, Meeting},
    eviction::{self, Newcomer, Place},
};
use crate::{
    book::Origin,
    dial::{Places, Subnet, WhyNot},
};

/// What a peer sent before it hung up is heard for this long: it waits in the queues of a reactor and of the router.
const LAST_WORD: Duration = Duration::from_secs(10);

/// Departed peers whose last word may be on its way.
pub(super) const MAX_DEPARTED: usize = 256;

impl PeerManager {
    pub(super) fn admit(
        &mut self,
        now: Now,
        connection: ConnectionId,
        peer: PeerId,
        remote: Option<SocketAddr>,
        dialed: Option<PeerAddress>,
    ) -> Result<(), WhyNot> {
        let direction = if dialed.is_some() { Direction::Outbound } else { Direction::Inbound };
        let admitted = self.find_place(now, peer, direction, remote);
        let connected = |place, protected, dialed| Connected {
            connection,
            peer,
            direction,
            remote,
            dialed,
            since: now.monotonic,
            state: State::Connected,
            protected,
            place,
            has_queues: false,
            announced: false,
            closed_by_us: false,
            crossed: None,
        };
        match admitted {
            Ok(Admission::Beside) => self.hold(now, connected(None, self.is_protected(&peer), dialed)),
            Ok(Admission::Place { place, leaving }) => {
                if let Some((leaving, because)) = leaving {
                    self.close(leaving, because);
                    if because == Because::Replaced {
                        self.set.release_place(leaving);
                    }
                }
                self.set.insert(connected(place, self.is_protected(&peer), dialed));
            }
            Err(why) => {
                self.stats.refusals.count(why);
                if let Some(address) = &dialed
                    && self.set.standing(&peer).is_none()
                {
                    self.dialer.no_place(now, address);
                }
            }
        }
        self.schedule(now);
        admitted.map(|_| ())
    }

    /// Whether a peer that dialed us and has proven its key would be taken: go-ethereum's first checkpoint, before the Hello. The second is
    /// `handle_accepted`, as all may have changed by then. (Whom we dial is checked before, and in `handle_dialed`.)
    pub(super) fn would_take(&self, now: Now, peer: PeerId, remote: Option<SocketAddr>) -> Result<(), WhyNot> {
        self.find_place(now, peer, Direction::Inbound, remote).map(|_| ())
    }

    fn find_place(
        &self,
        now: Now,
        peer: PeerId,
        direction: Direction,
        remote: Option<SocketAddr>,
    ) -> Result<Admission, WhyNot> {
        if peer == self.own_id {
            return Err(WhyNot::SelfId);
        }
        if self.book.is_banned(now.wall, &peer) {
            return Err(WhyNot::Banned);
        }
        match crossing::meet(&self.set, now, &peer, direction)? {
            Meeting::Nobody => {}
            Meeting::Lost(other, place) => {
                return Ok(Admission::Place { place, leaving: Some((other, Because::Replaced)) });
            }
            Meeting::Crossed => return Ok(Admission::Beside),
        }
        let score_of = |id: &PeerId| self.score(id);
        let is_full = self.limited() >= self.slots.total;
        if self.is_protected(&peer) && self.places == Places::Everybody {
            return Ok(Admission::Place { place: Some(direction), leaving: None });
        }
        if self.is_protected(&peer) {
            let leaving = match is_full && !self.unconditional.contains(&peer) {
                true => Some((self.stranger().ok_or(WhyNot::NoSlots)?, Because::Evicted)),
                false => None,
            };
            return Ok(Admission::Place { place: None, leaving });
        }
        // A static peer of a node that dials nobody else.
        if self.places == Places::Everybody
            && direction == Direction::Outbound
            && self.slots.of(Direction::Outbound) == 0
            && self.dialer.is_persistent(&peer)
        {
            return match is_full {
                true => Err(WhyNot::NoSlots),
                false => Ok(Admission::Place { place: Some(direction), leaving: None }),
            };
        }
        if self.has_duplicate_ip(remote.map(|remote| remote.ip()), &peer) {
            return Err(WhyNot::DuplicateIp);
        }
        let subnet_of = |remote: Option<SocketAddr>| Subnet::limited(remote.map(|remote| remote.ip()), self.limit_lan);
        let subnet = subnet_of(remote).filter(|_| direction == Direction::Inbound);
        // An anchor that is being dialed has its place until it is known whether it comes; the operator's peers go first all the same.
        let kept = match direction == Direction::Outbound && !self.dialer.is_persistent(&peer) {
            true => self.anchors.places_kept_from(&peer),
            false => 0,
        };
        let newcomer = Newcomer { direction, score: self.score(&peer), subnet, kept };
        let place = eviction::place(&self.set, &self.slots, newcomer, score_of, |other| subnet_of(other.remote))?;
        let leaving = match place {
            Place::Free if is_full => return Err(WhyNot::NoSlots),
            Place::Free => None,
            Place::InsteadOf(other, because) => Some((other, because)),
        };
        Ok(Admission::Place { place: Some(direction), leaving })
    }

    /// Connections that count against all that there may be: unconditional peers come on top, unless everybody takes a place.
    pub(super) fn limited(&self) -> usize {
        let counts = |id| self.places == Places::Everybody || !self.unconditional.contains(id);
        self.peers().filter(|connected| counts(&connected.peer)).count()
    }

    /// Whether a peer at this IP would be the second one there.
    pub(super) fn has_duplicate_ip(&self, ip: Option<IpAddr>, peer: &PeerId) -> bool {
        !self.allow_duplicate_ip && ip.is_some_and(|ip| self.set.has_other_at(ip, peer))
    }

    /// Who leaves for a persistent peer when all connections are taken: rather somebody who dialed us.
    fn stranger(&self) -> Option<ConnectionId> {
        let lowest = |direction| eviction::lowest(&self.set, direction, |id| self.score(id));
        lowest(Direction::Inbound).or_else(|| lowest(Direction::Outbound)).map(|(_, connection)| connection)
    }

    pub(super) fn is_protected(&self, id: &PeerId) -> bool {
        self.unconditional.contains(id) || (self.places == Places::Strangers && self.dialer.is_persistent(id))
    }

    /// Who speaks: a peer that is connected, or that hung up after its last word, which may reach us after its end. Seeds always do that.
    pub(super) fn origin_of(&self, now: Now, id: &PeerId) -> Option<Origin> {
        let connected = self.set.standing(id).map(|peer| Origin { id: *id, socket: peer.remote });
        let late = |(left, origin): &&(Instant, Origin)| {
            origin.id == *id && now.monotonic.saturating_duration_since(*left) <= LAST_WORD
        };
        let departed = || self.departed.iter().rev().find(late).map(|(_, origin)| *origin);
        connected.or_else(departed).filter(|_| !self.book.is_banned(now.wall, id))
    }

    pub(super) fn close_peer(&mut self, id: &PeerId, because: Because) {
        let both = [self.set.standing(id), self.set.held(id)].map(|peer| peer.map(|peer| peer.connection));
        for connection in both.into_iter().flatten() {
            self.close(connection, because);
        }
    }

    pub(super) fn close(&mut self, connection: ConnectionId, because: Because) {
        if let Some(peer) = self.set.close(connection) {
            self.stats.evicted += u64::from(matches!(because, Because::Evicted | Because::Crowded));
            self.actions.push_back(Action::Close { connection, peer, because });
            // Whoever leaves does not come back through the other of two crossed connections.
            if because != Because::Replaced
                && let Some(held) = self.set.held(&peer).map(|held| held.connection)
            {
                self.close(held, because);
            }
        }
    }
}

/// How a newcomer is let in.
#[derive(Clone, Copy, Debug)]
enum Admission {
    /// It takes this place, if it needs one, and somebody leaves for it.
    Place { place: Option<Direction>, leaving: Option<(ConnectionId, Because)> },
    /// It is held beside the connection that it crossed with.
    Beside,
}
