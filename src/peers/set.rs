//! Who is connected. One connection per id counts; a second one of the same id exists only for a moment after two dials crossed, and
//! while it, or the one it replaced, is being closed.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Instant,
};

use kadwire_wire::address::{PeerAddress, PeerId};

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
///        \                ^     \---------------/
///         \-> Held -------/ (it stays) or -> Closing (it does not)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The identity is proven; the router is setting up queues.
    Connected,
    /// Reactors know of it.
    Ready,
    /// It crossed with the one that stands, and it is open which of the two stays. Nobody hears of it, and it takes no place.
    Held,
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
    /// Whether it is let in whatever the limits and never evicted: unconditional (trusted) peers, and persistent ones where only strangers take
    /// places.
    pub protected: bool,
    /// The side whose place it takes. One that replaces a crossed connection inherits that one's place, whoever dialed, so that both ends
    /// can always keep the same of the two, until there is a free one on its own side.
    pub(crate) place: Option<Direction>,
    /// Whether the router has made its queues.
    pub(crate) has_queues: bool,
    pub(crate) announced: bool,
    pub(crate) closed_by_us: bool,
    /// Of a connection that crossed with another: the address that we dialed then.
    pub(crate) crossed: Option<PeerAddress>,
}

impl Connected {
    /// Whether it is its peer's one connection: reactors know of it or soon will.
    pub(crate) fn stands(&self) -> bool {
        matches!(self.state, State::Connected | State::Ready)
    }
}

/// A connection that waits for what becomes of another.
#[derive(Clone, Copy, Debug)]
struct Held {
    connection: ConnectionId,
    until: Instant,
}

/// The connections.
#[derive(Debug, Default)]
pub(crate) struct PeerSet {
    connections: BTreeMap<ConnectionId, Connected>,
    /// The one connection of each id that is not closing.
    standing: HashMap<PeerId, ConnectionId>,
    /// The second connection of an id that has one standing, while it is open which of the two stays.
    held: BTreeMap<PeerId, Held>,
    /// How many connections of each id are open, closing ones included.
    open: HashMap<PeerId, usize>,
}

impl PeerSet {
    /// The connection with `id` that counts.
    pub(crate) fn standing(&self, id: &PeerId) -> Option<&Connected> {
        self.connections.get(self.standing.get(id)?)
    }

    /// Whether any connection of this id is still open.
    pub(crate) fn is_open(&self, id: &PeerId) -> bool {
        self.open.contains_key(id)
    }

    /// The connection with `id` that crossed with the standing one and waits for what becomes of it.
    pub(crate) fn held(&self, id: &PeerId) -> Option<&Connected> {
        self.connections.get(&self.held.get(id)?.connection)
    }

    /// Those that wait no longer at `now`, in the order of their ids.
    pub(crate) fn held_until(&self, now: Instant) -> impl Iterator<Item = PeerId> + '_ {
        self.held.iter().filter(move |(_, held)| held.until <= now).map(|(id, _)| *id)
    }

    /// When the first of them waits no longer.
    pub(crate) fn next_held(&self) -> Option<Instant> {
        self.held.values().map(|held| held.until).min()
    }

    /// Keeps a connection beside the standing one of its peer until then.
    pub(crate) fn hold(&mut self, connected: Connected, until: Instant) {
        if let Some(standing) = self.standing.get(&connected.peer)
            && let Some(standing) = self.connections.get_mut(standing)
        {
            standing.crossed.clone_from(&connected.crossed);
        }
        self.held.insert(connected.peer, Held { connection: connected.connection, until });
        self.add(Connected { state: State::Held, ..connected });
    }

    /// The held connection of a peer becomes the standing one, in the place of the one that was.
    pub(crate) fn promote(&mut self, peer: &PeerId, place: Option<Direction>, protected: bool) -> Option<&Connected> {
        let connection = self.held.remove(peer)?.connection;
        self.standing.insert(*peer, connection);
        let connected = self.connections.get_mut(&connection)?;
        (connected.state, connected.place, connected.protected) = (State::Connected, place, protected);
        if connected.has_queues {
            (connected.state, connected.announced) = (State::Ready, true);
        }
        Some(connected)
    }

    pub(crate) fn insert(&mut self, connected: Connected) {
        self.standing.insert(connected.peer, connected.connection);
        self.add(connected);
    }

    fn add(&mut self, connected: Connected) {
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
        let peer = connected.peer;
        self.forget_role(connection, &peer);
        Some(peer)
    }

    fn forget_role(&mut self, connection: ConnectionId, peer: &PeerId) {
        if self.standing.get(peer) == Some(&connection) {
            self.standing.remove(peer);
        }
        if self.held.get(peer).is_some_and(|held| held.connection == connection) {
            self.held.remove(peer);
        }
    }

    pub(crate) fn ready(&mut self, connection: ConnectionId) -> Option<&Connected> {
        let connected = self.connections.get_mut(&connection)?;
        connected.has_queues = true;
        if connected.state != State::Connected {
            return None;
        }
        connected.state = State::Ready;
        connected.announced = true;
        Some(connected)
    }

    pub(crate) fn remove(&mut self, connection: ConnectionId) -> Option<Connected> {
        let connected = self.connections.remove(&connection)?;
        self.forget_role(connection, &connected.peer);
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

    /// Those that stay in a place of the other side, and their own side, in the order of their numbers.
    pub(crate) fn elsewhere(&self) -> impl Iterator<Item = (ConnectionId, Direction)> + '_ {
        let elsewhere = |c: &&Connected| c.stands() && c.place.is_some_and(|place| place != c.direction);
        self.iter().filter(elsewhere).map(|c| (c.connection, c.direction))
    }

    /// Moves a connection to a place of its own side.
    pub(crate) fn take_own_place(&mut self, connection: ConnectionId) {
        if let Some(connected) = self.connections.get_mut(&connection) {
            connected.place = Some(connected.direction);
        }
    }

    /// Changes whether a peer's connection is protected, and whether it takes a place all the same.
    pub(crate) fn protect(&mut self, id: &PeerId, protected: bool, takes_place: bool) {
        if let Some(connection) = self.standing.get(id)
            && let Some(connected) = self.connections.get_mut(connection)
            && connected.protected != protected
        {
            connected.protected = protected;
            if !takes_place {
                connected.place = (!protected).then_some(connected.direction);
            }
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
        self.iter().filter(|c| c.stands() && c.peer != *id).any(|c| at(&c))
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
