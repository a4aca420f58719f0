//! Anchors: how those of the last run are dialed, and who is one for the next. [`crate::anchors`] has the choice itself.

use kadwire_discovery::Now;
use kadwire_wire::address::PeerAddress;

use super::{Connected, Direction, PeerManager, schedule::known};
use crate::{anchors::Anchor, dial::Kind};

impl PeerManager {
    /// Dials the peers of the last run, each once, as peers like any other.
    pub(super) fn start_anchors(&mut self, now: Now) {
        while self.dialer.room(self.outbound_taken()) > 0
            && self.dialer.pace_allows(now)
            && let Some(address) = self.anchors.next()
        {
            let known = known(&self.set, &self.incoming, &self.book, now);
            match self.dialer.check_dial(now, &address, known) {
                Ok(()) => {
                    self.anchors.start(address.id());
                    self.start(now, address, Kind::Dynamic);
                }
                Err(why) => drop(self.stats.refusals.count(why)),
            }
        }
    }

    /// Chooses the anchors for the next start among the peers as they are now: to be written to disk from time to time, and before the
    /// connections are closed at the end. The operator's peers are dialed anyway, and who dialed us has chosen itself: neither is one.
    pub fn choose_anchors(&mut self, now: Now) -> Vec<Anchor> {
        let chosen = self.peers().filter(|peer| peer.direction == Direction::Outbound && !self.is_operators(peer));
        let peers = chosen.filter_map(|peer| anchor(now, peer)).collect();
        let PeerManager { anchors, book, scores, .. } = self;
        let is_welcome = |id: &_| scores.of(id) >= 0 && !book.is_banned(now.wall, id);
        anchors.choose(now.wall, peers, is_welcome, |address| book.limited_group(address));
        anchors.kept().to_vec()
    }

    fn is_operators(&self, peer: &Connected) -> bool {
        let is_configured = peer.dialed.as_ref().is_some_and(|dialed| self.dialer.is_configured(dialed));
        is_configured || self.dialer.is_persistent(&peer.peer)
    }
}

/// A peer, if it can be come back to.
fn anchor(now: Now, peer: &Connected) -> Option<Anchor> {
    let socket = peer.remote.or(peer.dialed.as_ref()?.socket_addr())?;
    let address = PeerAddress::from_socket(peer.peer, socket).ok()?;
    let since = now.wall.checked_sub(now.monotonic.saturating_duration_since(peer.since))?;
    Some(Anchor { address, since, seen: now.wall })
}
