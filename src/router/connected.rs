//! Who is connected: a snapshot that the router publishes and everybody else reads, and the events between two snapshots.
//!
//! A subscriber that looks late misses nothing and queues nothing: its events are the difference between what it saw last and
//! what is now, so they are bounded by the number of peers.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use kadwire_discovery::is_public;
use kadwire_wire::{
    address::{PeerAddress, PeerId},
    transport::{CloseReason, Connection, Direction, Endpoint, PeerInfo, Sender},
};
use tokio::{sync::watch, time::Instant};

/// A peer we are, or were, connected with.
#[derive(Debug)]
pub struct Peer {
    /// The identity that the handshake proved.
    pub id: PeerId,
    /// Who dialed.
    pub direction: Direction,
    /// The other end of the stream. For an inbound socket, the port is not one that can be dialed.
    pub remote: Endpoint,
    /// What the peer says of itself.
    pub info: PeerInfo,
    /// When the connection was taken up.
    pub since: Instant,
    /// Tells two connections with the same peer apart; grows.
    pub(super) number: u64,
    pub(crate) sender: Sender,
}

impl Peer {
    pub(super) fn new(number: u64, connection: &Connection) -> Self {
        Self {
            id: connection.peer,
            direction: connection.direction,
            remote: connection.remote,
            info: connection.info.clone(),
            since: Instant::now(),
            number,
            sender: connection.sender.clone(),
        }
    }

    /// Whether the peer has a channel that we have too.
    pub fn has_channel(&self, channel: u8) -> bool {
        self.sender.has_channel(channel)
    }

    /// Why the connection is over, if it is.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.sender.close_reason()
    }

    /// What the connection has carried.
    pub fn stats(&self) -> kadwire_wire::stats::ConnectionStats {
        self.sender.stats()
    }

    /// Where the peer can be dialed, as far as its word goes: for a peer that dialed us, the IP we see with the port it says
    /// it listens on, so that nobody can name somebody else's address; in memory, its id.
    pub fn reachable_at(&self) -> Option<PeerAddress> {
        let Endpoint::Socket(socket) = self.remote else {
            return Some(PeerAddress::memory(self.id));
        };
        PeerAddress::from_socket(self.id, (socket.ip(), self.info.listen_port()?).into()).ok()
    }

    /// Where the peer says it can be dialed (CometBFT, `external_address`), if that is another IP than the one we see. Its word proves
    /// nothing: only a dial does.
    pub fn declared_at(&self) -> Option<PeerAddress> {
        let Endpoint::Socket(socket) = self.remote else { return None };
        declared_at(self.id, &self.info.tendermint()?.listen_addr, socket.ip().to_canonical())
    }
}

/// A stranger cannot make us look into networks that are private to us: from a public IP, only public ones may be named.
fn declared_at(id: PeerId, listen_addr: &str, seen: IpAddr) -> Option<PeerAddress> {
    let place = listen_addr.strip_prefix("tcp://").unwrap_or(listen_addr);
    let address: PeerAddress = format!("{id}@{place}").parse().ok()?;
    let ip = address.ip()?;
    (ip != seen && (is_public(ip) || !is_public(seen))).then_some(address)
}

/// Everybody connected, in the order of their ids.
pub(super) type PeerMap = Arc<BTreeMap<PeerId, Arc<Peer>>>;

/// A peer came or went.
#[derive(Debug, Clone)]
pub enum PeerEvent {
    /// A connection stands and messages flow.
    Up(Arc<Peer>),
    /// It is over. A message to this peer is now refused.
    Down(Arc<Peer>, CloseReason),
}

impl PeerEvent {
    pub(super) fn down(peer: Arc<Peer>) -> Self {
        let reason = peer.close_reason().unwrap_or(CloseReason::Dropped);
        PeerEvent::Down(peer, reason)
    }

    /// Whom it is about.
    pub fn peer(&self) -> &Arc<Peer> {
        match self {
            PeerEvent::Up(peer) | PeerEvent::Down(peer, _) => peer,
        }
    }
}

impl fmt::Display for PeerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerEvent::Up(peer) => write!(f, "up {} {}", peer.id, peer.remote),
            PeerEvent::Down(peer, reason) => write!(f, "down {} {}: {reason}", peer.id, peer.remote),
        }
    }
}

/// Peers coming and going, from the first one connected. Independent of every other subscriber; a late reader sees the
/// difference, so a peer that came and went in between is not told of, and one that came back is told as down, then up.
#[derive(Debug, Clone)]
pub struct PeerEvents {
    peers: watch::Receiver<PeerMap>,
    told: BTreeMap<PeerId, Arc<Peer>>,
    pending: VecDeque<PeerEvent>,
}

impl PeerEvents {
    pub(super) fn new(peers: watch::Receiver<PeerMap>) -> Self {
        Self { peers, told: BTreeMap::new(), pending: VecDeque::new() }
    }

    /// The next event; `None` when the router has stopped and every peer's end was told. Cancel-safe.
    pub async fn next(&mut self) -> Option<PeerEvent> {
        loop {
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            if self.peers.changed().await.is_err() {
                return self.try_next();
            }
        }
    }

    /// The next event that has already happened.
    pub fn try_next(&mut self) -> Option<PeerEvent> {
        if self.pending.is_empty() {
            let now = self.peers.borrow_and_update().clone();
            self.pending.extend(difference(&mut self.told, &now, |_| true));
        }
        self.pending.pop_front()
    }
}

/// What happened between `told` and `now` to the peers that `matter`, and brings `told` up to date. Departures come first, so
/// that a peer that came back goes down before it comes up.
pub(super) fn difference(
    told: &mut BTreeMap<PeerId, Arc<Peer>>,
    now: &PeerMap,
    matter: impl Fn(&Peer) -> bool,
) -> Vec<PeerEvent> {
    let mut events = Vec::new();
    told.retain(|id, peer| {
        let stays = now.get(id).is_some_and(|other| other.number == peer.number);
        if !stays {
            events.push(PeerEvent::down(peer.clone()));
        }
        stays
    });
    for (id, peer) in now.iter().filter(|(_, peer)| matter(peer)) {
        told.entry(*id).or_insert_with(|| {
            events.push(PeerEvent::Up(peer.clone()));
            peer.clone()
        });
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_may_declare_another_address_but_not_one_of_our_private_networks() {
        let id = PeerId::Tendermint([7; 20]);
        for (listen_addr, seen, declared) in [
            ("tcp://5.6.7.8:26656", "9.9.9.9", Some("5.6.7.8:26656")),
            ("5.6.7.8:1", "9.9.9.9", Some("5.6.7.8:1")),
            ("tcp://[2600::1]:26656", "9.9.9.9", Some("[2600::1]:26656")),
            // What we see anyway.
            ("tcp://9.9.9.9:26656", "9.9.9.9", None),
            ("tcp://0.0.0.0:26656", "9.9.9.9", None),
            // Names lead anywhere.
            ("tcp://node.example.org:26656", "9.9.9.9", None),
            ("tcp://10.0.0.1:26656", "9.9.9.9", None),
            ("tcp://127.0.0.1:26656", "9.9.9.9", None),
            ("tcp://169.254.169.254:80", "9.9.9.9", None),
            // Among ourselves all is private.
            ("tcp://10.0.0.1:26656", "10.0.0.2", Some("10.0.0.1:26656")),
            ("tcp://127.0.0.5:26656", "127.0.0.1", Some("127.0.0.5:26656")),
            ("5.6.7.8", "9.9.9.9", None),
            ("5.6.7.8:0", "9.9.9.9", None),
            ("", "9.9.9.9", None),
        ] {
            let expected = declared.map(|place| format!("{id}@{place}").parse().unwrap());
            assert_eq!(declared_at(id, listen_addr, seen.parse().unwrap()), expected, "{listen_addr} seen at {seen}");
        }
    }
}
