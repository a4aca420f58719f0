//! The table of rounds: what happens to a [`PeerManager`], told as a story, with the clock jumping. After go-ethereum's `runDialTest`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, UNIX_EPOCH},
};

use kadwire_discovery::Now;
use kadwire_wire::{
    Blame,
    address::{PeerAddress, PeerId},
};

use crate::{
    book::{Book, BookConfig},
    candidate::{Candidate, Source},
    dial::{
        WhyFailed, WhyNot,
        tests::{address, ethereum, ethereum_id, id},
    },
    peers::{Action, Because, Config, ConnectionId, Direction, Event, PeerManager, Refused, Slots},
};

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// This node's number; the tests' peers are on both sides of it.
pub(crate) const OWN: u32 = 1_000;

/// Which peers the numbers name.
#[derive(Clone, Copy)]
struct World {
    id: fn(u32) -> PeerId,
    address: fn(u32) -> PeerAddress,
}

/// Peers are named by numbers; number n is at `address(n)`.
pub(crate) struct Rounds {
    /// Who number n is, and where.
    world: World,
    pub(crate) manager: PeerManager,
    pub(crate) now: Now,
    next_connection: u64,
    /// The open connections as the router knows them.
    open: BTreeMap<ConnectionId, PeerId>,
    pub(crate) dials: Vec<PeerAddress>,
    /// Whom discovery was asked for.
    resolves: Vec<PeerId>,
    /// Where each peer was dialed last.
    dialed_at: BTreeMap<PeerId, PeerAddress>,
    closes: Vec<(PeerId, Because)>,
    events: Vec<Event>,
    last: Option<WhyNot>,
}

impl Rounds {
    pub(crate) fn new(slots: Slots) -> Self {
        Rounds::with(slots, |_| {})
    }

    /// With more of the configuration changed.
    pub(crate) fn with(slots: Slots, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { slots, ..Config::new(id(OWN)) };
        change(&mut config);
        Rounds::start(World { id, address }, config)
    }

    /// With go-ethereum's rules, among Ethereum peers.
    pub(crate) fn ethereum(slots: Slots, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::ethereum(ethereum_id(OWN), slots);
        change(&mut config);
        Rounds::start(World { id: ethereum_id, address: ethereum }, config)
    }

    fn start(world: World, config: Config) -> Self {
        let manager = PeerManager::new(config, Book::new(BookConfig::default()));
        let now = Now { wall: UNIX_EPOCH + secs(1_700_000_000), ..Now::read() };
        let (open, dialed_at) = (BTreeMap::new(), BTreeMap::new());
        let (dials, resolves, closes, events) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut rounds = Rounds {
            world,
            manager,
            now,
            next_connection: 1,
            open,
            dials,
            resolves,
            dialed_at,
            closes,
            events,
            last: None,
        };
        rounds.manager.handle_timeout(now);
        rounds.drive()
    }

    fn id(&self, n: u32) -> PeerId {
        (self.world.id)(n)
    }

    fn address(&self, n: u32) -> PeerAddress {
        (self.world.address)(n)
    }

    fn drive(mut self) -> Self {
        while let Some(action) = self.manager.poll_action() {
            match action {
                Action::Dial(address) => {
                    self.dialed_at.insert(address.id(), address.clone());
                    self.dials.push(address);
                }
                Action::Close { connection, peer, because } => {
                    assert_eq!(self.open.get(&connection), Some(&peer), "a close names an open connection");
                    self.closes.push((peer, because));
                }
                Action::Resolve(peer) => self.resolves.push(peer),
                Action::Probe(_) | Action::Abort(_) => {}
            }
        }
        while let Some(event) = self.manager.poll_event() {
            self.events.push(event);
        }
        self
    }

    fn each<const N: usize>(mut self, peers: [u32; N], mut act: impl FnMut(&mut Self, u32)) -> Self {
        for n in peers {
            act(&mut self, n);
            self = self.drive();
        }
        self
    }

    fn add(&mut self, address: PeerAddress, source: Source) {
        self.last = match self.manager.add(self.now, Candidate::new(address, source)) {
            Err(Refused::Dial(why)) => Some(why),
            _ => None,
        };
    }

    fn take_connection(&mut self) -> ConnectionId {
        self.next_connection += 1;
        ConnectionId(self.next_connection)
    }

    fn connection_of(&self, n: u32) -> ConnectionId {
        let found = self.open.iter().rev().find(|(_, peer)| **peer == self.id(n));
        *found.unwrap_or_else(|| panic!("{n} has a connection")).0
    }

    // What happens.

    /// Discovery finds them.
    pub(crate) fn discovered<const N: usize>(self, peers: [u32; N]) -> Self {
        self.each(peers, |rounds, n| rounds.add(rounds.address(n), Source::Discv4))
    }

    /// The operator names them.
    pub(crate) fn persistent<const N: usize>(self, peers: [u32; N]) -> Self {
        self.each(peers, |rounds, n| rounds.add(rounds.address(n), Source::Config))
    }

    /// A connected peer answers with their addresses.
    pub(crate) fn told<const N: usize>(self, from: u32, peers: [u32; N]) -> Self {
        self.each(peers, |rounds, n| rounds.add(rounds.address(n), Source::Pex(rounds.id(from))))
    }

    /// Dials to them succeed, and their queues are made.
    pub(crate) fn dialed<const N: usize>(self, peers: [u32; N]) -> Self {
        self.each(peers, |rounds, n| {
            let connection = rounds.take_connection();
            let at = rounds.dials_at(n);
            rounds.last = rounds.manager.handle_dialed(rounds.now, connection, &at, at.socket_addr()).err();
            rounds.taken(connection, n);
        })
    }

    /// They are discovered, dialed and connected, and nothing of it is expected any more.
    pub(crate) fn connected<const N: usize>(self, peers: [u32; N]) -> Self {
        let mut rounds = self.discovered(peers).dialed(peers);
        for n in peers {
            assert!(rounds.manager.peer(&rounds.id(n)).is_some(), "{n} is connected: {:?}", rounds.last);
        }
        let ids = peers.map(rounds.world.id);
        rounds.dials.retain(|address| !ids.contains(&address.id()));
        rounds.events.clear();
        rounds
    }

    /// They dial us, and prove who they are.
    pub(crate) fn accepted<const N: usize>(self, peers: [u32; N]) -> Self {
        self.each(peers, |rounds, n| rounds.accept(n, rounds.address(n).socket_addr().expect("it is at an IP")))
    }

    /// The same from a certain place.
    pub(crate) fn accepted_from(self, n: u32, from: &str) -> Self {
        self.each([n], |rounds, n| rounds.accept(n, from.parse().expect("ip:port")))
    }

    fn accept(&mut self, n: u32, from: SocketAddr) {
        let connection = self.take_connection();
        let admitted = self.manager.handle_incoming(self.now, connection, Some(from.ip()));
        let admitted =
            admitted.and_then(|()| self.manager.handle_accepted(self.now, connection, self.id(n), Some(from)));
        self.last = admitted.err();
        self.taken(connection, n);
    }

    fn taken(&mut self, connection: ConnectionId, n: u32) {
        if self.last.is_none() {
            self.open.insert(connection, self.id(n));
            self.manager.handle_ready(connection);
        }
    }

    fn dials_at(&self, n: u32) -> PeerAddress {
        self.dialed_at.get(&self.id(n)).cloned().unwrap_or_else(|| self.address(n))
    }

    /// Nobody answers the dials to them.
    pub(crate) fn failed<const N: usize>(self, peers: [u32; N]) -> Self {
        self.failed_by(peers, Blame::Local)
    }

    /// Somebody else answers.
    pub(crate) fn failed_by<const N: usize>(self, peers: [u32; N], blame: Blame) -> Self {
        self.each(peers, |rounds, n| {
            let at = rounds.dials_at(n);
            let why = match blame {
                Blame::Local => WhyFailed::TimedOut,
                Blame::Incompatible => WhyFailed::WrongIdentity,
                Blame::Malformed | Blame::Misbehaved => WhyFailed::HandshakeFailed,
            };
            rounds.manager.handle_dial_failed(rounds.now, &at, why);
        })
    }

    /// Their newest connections end.
    pub(crate) fn closed<const N: usize>(self, peers: [u32; N]) -> Self {
        self.closed_by(peers, Blame::Local)
    }

    pub(crate) fn closed_by<const N: usize>(self, peers: [u32; N], blame: Blame) -> Self {
        self.each(peers, |rounds, n| {
            let connection = rounds.connection_of(n);
            rounds.open.remove(&connection);
            rounds.manager.handle_closed(rounds.now, connection, blame);
        })
    }

    /// The oldest connection of a peer that has two ends.
    pub(crate) fn older_closed(mut self, n: u32) -> Self {
        let connection = *self.open.iter().find(|(_, peer)| **peer == self.id(n)).expect("it has one").0;
        self.open.remove(&connection);
        self.manager.handle_closed(self.now, connection, Blame::Local);
        self.drive()
    }

    /// Time passes, with every timer served when it is due.
    pub(crate) fn after(mut self, time: Duration) -> Self {
        let end = self.now.after(time);
        while let Some(due) = self.manager.poll_timeout().filter(|due| *due <= end.monotonic) {
            assert!(due > self.now.monotonic, "a timer that is due again at once never ends");
            self.now = self.now.after(due - self.now.monotonic);
            self.manager.handle_timeout(self.now);
            self = self.drive();
        }
        self.now = end;
        self
    }

    /// Discovery is asked for these, in this order, since the last look.
    #[track_caller]
    pub(crate) fn expect_resolves<const N: usize>(mut self, peers: [u32; N]) -> Self {
        assert_eq!(std::mem::take(&mut self.resolves), peers.map(self.world.id), "resolves");
        self
    }

    /// Discovery has looked for one of the operator's peers.
    pub(crate) fn resolved(mut self, n: u32, found: Option<PeerAddress>) -> Self {
        self.manager.handle_resolved(self.now, &self.id(n), found);
        self.drive()
    }

    /// Anything else.
    pub(crate) fn then(mut self, act: impl FnOnce(&mut PeerManager, Now)) -> Self {
        act(&mut self.manager, self.now);
        self.drive()
    }

    // What is expected.

    /// These, in this order, have been dialed since the last look.
    #[track_caller]
    pub(crate) fn expect_dials<const N: usize>(mut self, peers: [u32; N]) -> Self {
        let dials: Vec<PeerId> = self.dials.drain(..).map(|address| address.id()).collect();
        assert_eq!(dials, peers.map(self.world.id), "dials");
        self
    }

    /// The same, in any order: the book is asked at random.
    #[track_caller]
    pub(crate) fn expect_dials_of<const N: usize>(mut self, peers: [u32; N]) -> Self {
        let dials: BTreeSet<PeerId> = self.dials.drain(..).map(|address| address.id()).collect();
        assert_eq!(dials, peers.map(self.world.id).into(), "dials");
        self
    }

    /// So many have been dialed since the last look.
    #[track_caller]
    pub(crate) fn expect_dial_count(mut self, count: usize) -> Self {
        assert_eq!(self.dials.len(), count, "dials: {:?}", self.dials);
        self.dials.clear();
        self
    }

    #[track_caller]
    pub(crate) fn expect_closes<const N: usize>(mut self, closes: [(u32, Because); N]) -> Self {
        let expected = closes.map(|(n, because)| (self.id(n), because));
        assert_eq!(std::mem::take(&mut self.closes), expected, "closes");
        self
    }

    #[track_caller]
    pub(crate) fn expect_up<const N: usize>(mut self, peers: [u32; N]) -> Self {
        let up = |event: &Event| matches!(event, Event::Up { .. }).then_some(());
        let found: Vec<PeerId> = self
            .events
            .iter()
            .filter_map(|event| up(event).map(|()| *event))
            .map(|event| match event {
                Event::Up { peer, .. } | Event::Down { peer, .. } => peer,
            })
            .collect();
        self.events.retain(|event| up(event).is_none());
        assert_eq!(found, peers.map(self.world.id), "up");
        self
    }

    #[track_caller]
    pub(crate) fn expect_down<const N: usize>(mut self, peers: [u32; N]) -> Self {
        let down = |event: &Event| match event {
            Event::Down { peer, .. } => Some(*peer),
            Event::Up { .. } => None,
        };
        let found: Vec<PeerId> = self.events.iter().filter_map(down).collect();
        self.events.retain(|event| down(event).is_none());
        assert_eq!(found, peers.map(self.world.id), "down");
        self
    }

    /// The last of what happened was refused for this reason, and counted.
    #[track_caller]
    pub(crate) fn expect_refused(self, why: WhyNot) -> Self {
        assert_eq!(self.last, Some(why));
        assert!(self.manager.stats().refusals.of(why) > 0, "{why} is counted");
        self
    }

    #[track_caller]
    pub(crate) fn expect_taken(self) -> Self {
        assert_eq!(self.last, None);
        self
    }

    #[track_caller]
    pub(crate) fn expect_wanted(self, wanted: usize) -> Self {
        assert_eq!(self.manager.wanted(), wanted, "wanted of discovery");
        self
    }

    /// Exactly these are connected.
    #[track_caller]
    pub(crate) fn expect_peers<const N: usize>(self, peers: [u32; N]) -> Self {
        let found: BTreeSet<PeerId> = self.manager.peers().map(|connected| connected.peer).collect();
        assert_eq!(found, peers.map(self.world.id).into(), "peers");
        self
    }

    /// The one connection of a peer was dialed by this side.
    #[track_caller]
    pub(crate) fn expect_direction(self, n: u32, direction: Direction) -> Self {
        assert_eq!(
            self.manager.peer(&self.id(n)).map(|connected| connected.direction),
            Some(direction),
            "direction of {n}"
        );
        self
    }
}
