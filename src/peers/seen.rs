//! What the router saw, and what follows from it: sockets accepted, handshakes and dials that ended, probes, connections that are over.

use std::net::{IpAddr, SocketAddr};

use kadwire_discovery::Now;
use kadwire_wire::address::{PeerAddress, PeerId};

use super::{Action, ConnectionId, Direction, Event, PeerManager, Score, admission::MAX_DEPARTED, schedule::known};
use crate::{
    book::Origin,
    dial::{Ended, Kind, SHORT_LIVED, WhyFailed, WhyNot},
};

/// Malformed bytes or broken rules on a connection lower the score by this much.
const BLAMED: Score = 10;

/// Addresses looked at for one feeler.
const FEELER_LOOKS: usize = 16;

impl PeerManager {
    /// A socket was accepted. On success its handshake may begin; otherwise drop it. Say `handle_accepted` or `handle_incoming_failed`
    /// when it is over.
    pub fn handle_incoming(&mut self, now: Now, connection: ConnectionId, ip: Option<IpAddr>) -> Result<(), WhyNot> {
        if ip.is_some_and(|ip| self.dialer.is_restricted(ip.to_canonical())) {
            return Err(self.stats.refusals.count(WhyNot::NetRestricted));
        }
        let connected = ip.map_or(0, |ip| self.set.inbound_from(ip));
        match self.incoming.begin(now.monotonic, connection, ip, &self.slots, connected) {
            Ok(None) => {}
            Ok(Some(oldest)) => self.actions.push_back(Action::Abort(oldest)),
            Err(why) => return Err(self.stats.refusals.count(why)),
        }
        Ok(())
    }

    /// The handshake of an accepted socket failed or was cut.
    pub fn handle_incoming_failed(&mut self, now: Now, connection: ConnectionId) {
        self.incoming.end(connection);
        // Its peer may be dialed again.
        self.schedule(now);
    }

    /// A filter of the library's user keeps out whoever opened this socket: `Filtered` or `FilterTimeout`.
    pub fn handle_incoming_filtered(&mut self, now: Now, connection: ConnectionId, why: WhyNot) {
        self.stats.refusals.count(why);
        self.handle_incoming_failed(now, connection);
    }

    /// Whoever opened this socket has proven its key, and the rest of the handshake is to come: go-ethereum's checkpoint before the Hello.
    /// On an error refuse it with the reason, and say `handle_incoming_failed`. While the handshake lasts the peer is not dialed.
    pub fn handle_identified(
        &mut self,
        now: Now,
        connection: ConnectionId,
        peer: PeerId,
        remote: Option<SocketAddr>,
    ) -> Result<(), WhyNot> {
        if let Err(why) = self.would_take(now, peer, remote) {
            return Err(self.stats.refusals.count(why));
        }
        match self.incoming.identify(connection, peer) {
            true => Ok(()),
            false => Err(self.stats.refusals.count(WhyNot::Stale)),
        }
    }

    /// Discovery knows where one of the operator's peers is, or does not.
    pub fn handle_resolved(&mut self, now: Now, id: &PeerId, found: Option<PeerAddress>) {
        self.counted.resolved += u64::from(found.is_some());
        self.dialer.resolved(now, id, found.as_ref());
        self.schedule(now);
    }

    /// The handshake of an accepted socket proved who it is. On an error the router closes the connection itself.
    pub fn handle_accepted(
        &mut self,
        now: Now,
        connection: ConnectionId,
        peer: PeerId,
        remote: Option<SocketAddr>,
    ) -> Result<(), WhyNot> {
        if !self.incoming.end(connection) {
            return Err(self.stats.refusals.count(WhyNot::Stale));
        }
        self.admit(now, connection, peer, remote, None)?;
        self.counted.accepted += 1;
        Ok(())
    }

    /// A dial ended with the expected identity. On an error the router closes the connection itself.
    pub fn handle_dialed(
        &mut self,
        now: Now,
        connection: ConnectionId,
        address: &PeerAddress,
        remote: Option<SocketAddr>,
    ) -> Result<(), WhyNot> {
        let Some(kind) = self.dialer.succeeded(address) else {
            return Err(self.stats.refusals.count(WhyNot::Stale));
        };
        // Proven by our own dial, whatever becomes of the connection. Seeds are asked, not kept as peers; Ethereum's peers are discovery's to
        // remember.
        if kind != Kind::Seed && address.id().tendermint().is_some() {
            let proven = remote.and_then(|remote| PeerAddress::from_socket(address.id(), remote).ok());
            self.book.mark_reached(now.wall, proven.as_ref().unwrap_or(address));
        }
        let admitted = self.admit(now, connection, address.id(), remote, Some(address.clone()));
        self.anchors.finish(&address.id(), admitted.is_ok());
        match admitted {
            Ok(()) => self.counted.succeeded += 1,
            Err(_) => drop(self.counted.failed.count(WhyFailed::RefusedByUs)),
        }
        admitted
    }

    /// A dial failed. Whoever answered and is not what was said ([`WhyFailed::blame`]) is not dialed there again soon.
    pub fn handle_dial_failed(&mut self, now: Now, address: &PeerAddress, why: WhyFailed) {
        self.stats.dials_failed += 1;
        self.counted.failed.count(why);
        self.book.mark_attempt(now.wall, address);
        self.anchors.finish(&address.id(), false);
        if self.dialer.failed(now, address, why.blame()).is_some() {
            self.book.remove(address);
            self.anchors.forget(&address.id());
        }
        // It may be elsewhere by now.
        if self.resolve && why.is_unreached() && self.dialer.may_resolve(now, &address.id()) {
            self.ask_where(address.id());
        }
        self.schedule(now);
    }

    /// A dialed peer is who it should be, and a filter of the library's user keeps it out. One that was refused is left alone for as long
    /// as one of another network.
    pub fn handle_dialed_filtered(&mut self, now: Now, address: &PeerAddress, why: WhyNot) {
        self.stats.refusals.count(why);
        let why = if why == WhyNot::Filtered { WhyFailed::Filtered } else { WhyFailed::FilterTimeout };
        self.handle_dial_failed(now, address, why);
    }

    /// A peer known from its own word was found at this address without connecting to it once more: the address may be passed on.
    pub fn handle_probed(&mut self, now: Now, address: &PeerAddress) {
        self.book.mark_reached(now.wall, address);
    }

    /// A probe found a listener that closed the stream without a word. A CometBFT node does that to every IP it is connected with
    /// (`allow_duplicate_ip`, off by default), so no probe of one that dialed us ever succeeds; but anybody's listener may. The address is
    /// kept to be dialed when the peer is gone, and passed on only then. For one IP this is done once: identities are free.
    pub fn handle_probe_refused(&mut self, now: Now, address: &PeerAddress) {
        let (id, Some(ip)) = (address.id(), address.ip()) else { return };
        let is_theirs = self.set.standing(&id).is_some_and(|peer| {
            peer.direction == Direction::Inbound && peer.remote.is_some_and(|remote| remote.ip().to_canonical() == ip)
        });
        if !is_theirs {
            return self.handle_probe_failed(now, address);
        }
        let is_taken = |other: &PeerAddress| other.ip() == Some(ip) && other.id() != id;
        if !self.set.has_other_at(ip, &id) && !self.book.addresses().any(is_taken) {
            // Without room for it in the book, it stays unknown.
            let _ = self.book.add(now.wall, address, &Origin { id, socket: address.socket_addr() });
        }
    }

    /// Nobody was found there, or somebody else.
    pub fn handle_probe_failed(&mut self, now: Now, address: &PeerAddress) {
        self.book.mark_attempt(now.wall, address);
    }

    /// An address of the book, untried ones first, to find out whether it is there without taking a place: what we pass on is proven, and
    /// what is dead makes room, also while all places are taken (Bitcoin Core's feelers).
    pub fn feeler(&mut self, now: Now) -> Option<PeerAddress> {
        (0..FEELER_LOOKS).find_map(|_| {
            let address = self.book.pick(100)?.clone();
            self.dialer
                .check_dial(now, &address, known(&self.set, &self.incoming, &self.book, now))
                .is_ok()
                .then_some(address)
        })
    }

    /// The connection has its queues: reactors are told.
    pub fn handle_ready(&mut self, connection: ConnectionId) {
        if let Some(ready) = self.set.ready(connection) {
            let (peer, direction) = (ready.peer, ready.direction);
            self.events.push_back(Event::Up { peer, connection, direction });
        }
    }

    /// A connection ended, for whatever reason: at least it is known whose fault it was.
    pub fn handle_closed(&mut self, now: Now, connection: ConnectionId, ended: impl Into<Ended>) {
        let Ended { blame, why } = ended.into();
        let Some(closed) = self.set.remove(connection) else { return };
        if closed.announced {
            self.events.push_back(Event::Down { peer: closed.peer, connection });
        }
        let goes_on = self.succeed(&closed) || self.set.standing(&closed.peer).is_some();
        if blame.is_peer() {
            self.scores.adjust(closed.peer, -BLAMED);
        } else {
            if self.departed.len() >= MAX_DEPARTED {
                self.departed.pop_front();
            }
            self.departed.push_back((now.monotonic, Origin { id: closed.peer, socket: closed.remote }));
        }
        match self.lost_crossing(now, &closed) {
            Some(address) => self.dialer.lost_crossing(now, &address),
            None => {
                let lasted = now.monotonic.saturating_duration_since(closed.since);
                // If another connection with it goes on, the end of this one says nothing about the address.
                let failed = (!closed.closed_by_us && !goes_on).then_some(why);
                if closed.dialed.is_some() && lasted < SHORT_LIVED {
                    failed.map(|why| self.counted.failed.count(why));
                }
                self.dialer.disconnected(now, closed.peer, closed.dialed.as_ref(), lasted, failed);
            }
        }
        self.schedule(now);
    }

    /// Time has passed: call it first of all, and then whenever [`PeerManager::poll_timeout`] says.
    pub fn handle_timeout(&mut self, now: Now) {
        self.schedule(now);
    }
}
