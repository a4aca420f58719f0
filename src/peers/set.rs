//! Who is connected. One connection per id counts; a second one of the same id exists only while it, or the one it replaced, is being
//! closed.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use kadwire_wire::address::{PeerAddress, PeerId};

use crate::dial::WhyNot;

/// A connection, numbered by the router. Numbers are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Who dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// They dialed us.
    Inbound,
    /// We dialed them.
    Outbound,
}

/// How far a connection has come.
///
/// ```text
/// dialed or accepted -> Connected -> Ready (Up) -> Closing -> gone (Down, if it was up)
///                                 \---------------/
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The identity is proven; the router is setting up queues.
    Connected,
    /// Reactors know of it.
    Ready,
    /// We asked for its end.
    Closing,
}

/// A connection and what policy knows of it.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The router's number.
    pub connection: ConnectionId,
    /// The proven identity.
    pub peer: PeerId,
    /// Who dialed.
    pub direction: Direction,
    /// The other end, if it has an IP.
    pub remote: Option<SocketAddr>,
    /// The address we dialed.
    pub dialed: Option<PeerAddress>,
    /// Since when it is connected.
    pub since: Instant,
    /// How far it has come.
    pub state: State,
    /// Whether it takes no place and is never evicted: persistent and unconditional peers.
    pub protected: bool,
    /// The side whose place it takes. One that replaces a crossed connection inherits that one's place, whoever dialed, so that both ends
    /// can always keep the same of the two.
    pub(crate) place: Option<Direction>,
    pub(crate) announced: bool,
    pub(crate) closed_by_us: bool,
}

/// Both sides of two crossed connections see the second one within this time: it is longer than a dial with its handshake may last (60 s,
/// where the router cuts it) and the filters asked before and after (5 s each). A newcomer that comes later was dialed by a peer that has lost
/// the first one.
const CROSSING: Duration = Duration::from_secs(75);

/// The connections.
#[derive(Debug, Default)]
pub(crate) struct PeerSet {
    connections: BTreeMap<ConnectionId, Connected>,
    /// The one connection of each id that is not closing.
    standing: HashMap<PeerId, ConnectionId>,
    /// How many connections of each id are open, closing ones included.
    open: HashMap<PeerId, usize>,
}

impl PeerSet {
    /// The connection with `id` that is not closing.
    pub(crate) fn standing(&self, id: &PeerId) -> Option<&Connected> {
        self.connections.get(self.standing.get(id)?)
    }

    /// Whether any connection of this id is still open.
    pub(crate) fn is_open(&self, id: &PeerId) -> bool {
        self.open.contains_key(id)
    }

    /// Which of two connections of one id stays: an error if the one that exists does, else the one that must leave for the newcomer, if
    /// any. Both ends must decide alike without a word: of two that crossed, the one dialed by the smaller id stays.
    pub(crate) fn resolve(
        &self,
        now: Instant,
        own: &PeerId,
        peer: &PeerId,
        direction: Direction,
    ) -> Result<Option<&Connected>, WhyNot> {
        let Some(standing) = self.standing(peer) else { return Ok(None) };
        if now.saturating_duration_since(standing.since) > CROSSING && direction == Direction::Inbound {
            return Ok(Some(standing));
        }
        if standing.direction == direction {
            return Err(WhyNot::AlreadyConnected);
        }
        let dialed_by_smaller = match direction {
            Direction::Outbound => own < peer,
            Direction::Inbound => peer < own,
        };
        if dialed_by_smaller { Ok(Some(standing)) } else { Err(WhyNot::LostCrossing) }
    }

    pub(crate) fn insert(&mut self, connected: Connected) {
        self.standing.insert(connected.peer, connected.connection);
        *self.open.entry(connected.peer).or_default() += 1;
        self.connections.insert(connected.connection, connected);
    }

    /// Marks a standing connection as closing; `None` if there is none or it closes already.
    pub(crate) fn close(&mut self, connection: ConnectionId) -> Option<PeerId> {
        let connected = self.connections.get_mut(&connection)?;
        if connected.state == State::Closing {
            return None;
        }
        connected.state = State::Closing;
        connected.closed_by_us = true;
        self.standing.remove(&connected.peer);
        Some(connected.peer)
    }

    pub(crate) fn ready(&mut self, connection: ConnectionId) -> Option<&Connected> {
        let connected = self.connections.get_mut(&connection)?;
        if connected.state != State::Connected {
            return None;
        }
        connected.state = State::Ready;
        connected.announced = true;
        Some(connected)
    }

    pub(crate) fn remove(&mut self, connection: ConnectionId) -> Option<Connected> {
        let connected = self.connections.remove(&connection)?;
        if self.standing.get(&connected.peer) == Some(&connection) {
            self.standing.remove(&connected.peer);
        }
        if let Some(open) = self.open.get_mut(&connected.peer) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&connected.peer);
            }
        }
        Some(connected)
    }

    /// Frees the place of a connection that closes because another of the same id took it over.
    pub(crate) fn release_place(&mut self, connection: ConnectionId) {
        if let Some(connected) = self.connections.get_mut(&connection) {
            connected.place = None;
        }
    }

    /// Changes whether a peer's connection takes a place.
    pub(crate) fn protect(&mut self, id: &PeerId, protected: bool) {
        if let Some(connection) = self.standing.get(id)
            && let Some(connected) = self.connections.get_mut(connection)
        {
            connected.protected = protected;
            connected.place = (!protected).then_some(connected.direction);
        }
    }

    /// All connections in the order of their numbers, closing ones included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connected> {
        self.connections.values()
    }

    /// Places taken on one side: by those that stay, and by all that are still open.
    pub(crate) fn taken(&self, direction: Direction) -> Taken {
        let mut taken = Taken::default();
        for connected in self.iter().filter(|c| c.place == Some(direction)) {
            taken.open += 1;
            taken.staying += usize::from(connected.state != State::Closing);
        }
        taken
    }

    /// Whether somebody else than `id` is connected from this IP, or to it.
    pub(crate) fn has_other_at(&self, ip: IpAddr, id: &PeerId) -> bool {
        let at = |c: &&Connected| c.remote.is_some_and(|remote| remote.ip().to_canonical() == ip.to_canonical());
        self.iter().filter(|c| c.state != State::Closing && c.peer != *id).any(|c| at(&c))
    }

    /// Open inbound connections from one host: an IPv4 address or a /64 of IPv6.
    pub(crate) fn inbound_from(&self, ip: IpAddr) -> usize {
        let same = |remote: SocketAddr| host(remote.ip()) == host(ip);
        self.iter().filter(|c| c.direction == Direction::Inbound && c.remote.is_some_and(same)).count()
    }
}

/// How many places of one side are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// By connections that are not being closed.
    pub(crate) staying: usize,
    /// By those and the ones that are.
    pub(crate) open: usize,
}

/// What counts as one host: an IPv4 address, or the /64 that one IPv6 host usually has to itself.
pub(crate) fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}
