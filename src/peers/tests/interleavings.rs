//! Whatever happens in whatever order, the limits hold and nothing panics.

use std::collections::{BTreeMap, BTreeSet};

use kadwire_discovery::Now;
use kadwire_wire::{
    Blame,
    address::{PeerAddress, PeerId},
};
use proptest::prelude::*;

use super::{OWN, secs};
use crate::{
    book::{Book, BookConfig},
    candidate::{Candidate, Source},
    dial::{
        WhyFailed, WhyNot,
        tests::{address, id},
    },
    peers::{Action, Config, ConnectionId, Direction, Event, PeerManager, Report, Slots},
};

const SLOTS: Slots =
    Slots { inbound: 3, outbound: 3, total: 7, dialing: 4, upgrade: 2, half_open: 4, half_open_per_ip: 2, per_ip: 3 };

/// Peers 1 to 4 are not limited: two persistent, two unconditional.
const FREE: std::ops::RangeInclusive<u32> = 1..=4;

/// One thing that happens, to some peer where it matters.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Discovered(u32),
    Told(u32, u32),
    Own(u32),
    Persistent(u32),
    NotPersistent(u32),
    DialSucceeds(usize),
    DialFails(usize, bool),
    Knock(u32),
    Accepted(usize, u32),
    NotAccepted(usize),
    Filtered(usize, bool, bool),
    Ready(usize),
    Closed(usize, bool),
    Reported(u32, u8),
    Disconnect(u32),
    Dial(u32),
    Later(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    use Happens::*;
    let peer = 1..24_u32;
    prop_oneof![
        3 => peer.clone().prop_map(Discovered),
        2 => (peer.clone(), peer.clone()).prop_map(|(from, of)| Told(from, of)),
        1 => peer.clone().prop_map(Own),
        1 => FREE.prop_map(Persistent),
        1 => FREE.prop_map(NotPersistent),
        4 => any::<usize>().prop_map(DialSucceeds),
        2 => any::<(usize, bool)>().prop_map(|(at, wrong)| DialFails(at, wrong)),
        3 => peer.clone().prop_map(Knock),
        4 => (any::<usize>(), 1..25_u32).prop_map(|(at, n)| Accepted(at, if n == 24 { OWN } else { n })),
        1 => any::<usize>().prop_map(NotAccepted),
        1 => any::<(usize, bool, bool)>().prop_map(|(at, dialed, answered)| Filtered(at, dialed, answered)),
        3 => any::<usize>().prop_map(Ready),
        3 => any::<(usize, bool)>().prop_map(|(at, blame)| Closed(at, blame)),
        2 => (peer.clone(), any::<u8>()).prop_map(|(n, what)| Reported(n, what)),
        1 => peer.clone().prop_map(Disconnect),
        1 => peer.prop_map(Dial),
        4 => (0..100_u64).prop_map(Later),
    ]
}

/// The router's side of the contract, and what it may check.
struct World {
    manager: PeerManager,
    now: Now,
    number: u64,
    dials: Vec<PeerAddress>,
    half_open: Vec<ConnectionId>,
    open: BTreeMap<ConnectionId, PeerId>,
    up: BTreeSet<ConnectionId>,
}

impl World {
    fn new(seed: u64) -> Self {
        let config = Config {
            slots: SLOTS,
            persistent: vec![address(1), address(2)],
            unconditional: [id(3), id(4)].into(),
            seeds: vec![address(23)],
            scores: [(id(20), 5), (id(21), -5)].into(),
            seed,
            ..Config::new(id(OWN))
        };
        let manager = PeerManager::new(config, Book::new(BookConfig { seed, ..BookConfig::default() }));
        let (dials, half_open, open, up) = (Vec::new(), Vec::new(), BTreeMap::new(), BTreeSet::new());
        let mut world = World { manager, now: Now::read(), number: 0, dials, half_open, open, up };
        world.manager.handle_timeout(world.now);
        world.look();
        world
    }

    fn number(&mut self) -> ConnectionId {
        self.number += 1;
        ConnectionId(self.number)
    }

    fn nth_open(&self, at: usize) -> Option<ConnectionId> {
        (!self.open.is_empty()).then(|| *self.open.keys().nth(at % self.open.len()).unwrap())
    }

    fn take_dial(&mut self, at: usize) -> Option<PeerAddress> {
        (!self.dials.is_empty()).then(|| self.dials.remove(at % self.dials.len()))
    }

    fn take_half_open(&mut self, at: usize) -> Option<ConnectionId> {
        (!self.half_open.is_empty()).then(|| self.half_open.remove(at % self.half_open.len()))
    }

    fn happen(&mut self, what: Happens) {
        let now = self.now;
        let add = |world: &mut World, n, source| {
            let _ = world.manager.add(now, Candidate::new(address(n), source));
        };
        match what {
            Happens::Discovered(n) => add(self, n, Source::Discv4),
            Happens::Told(from, of) => add(self, of, Source::Pex(id(from))),
            Happens::Own(n) => add(self, n, Source::Inbound),
            Happens::Persistent(n) => add(self, n, Source::Config),
            Happens::NotPersistent(n) => self.manager.remove_persistent(now, &id(n)),
            Happens::DialSucceeds(at) => {
                let Some(dialed) = self.take_dial(at) else { return };
                let connection = self.number();
                if self.manager.handle_dialed(now, connection, &dialed, dialed.socket_addr()).is_ok() {
                    self.open.insert(connection, dialed.id());
                }
            }
            Happens::DialFails(at, wrong) => {
                let Some(dialed) = self.take_dial(at) else { return };
                let why = if wrong { WhyFailed::WrongIdentity } else { WhyFailed::TimedOut };
                self.manager.handle_dial_failed(now, &dialed, why);
            }
            Happens::Knock(n) => {
                let connection = self.number();
                if self.manager.handle_incoming(now, connection, address(n).ip()).is_ok() {
                    self.half_open.push(connection);
                }
            }
            Happens::Accepted(at, n) => {
                let Some(connection) = self.take_half_open(at) else { return };
                if self.manager.handle_accepted(now, connection, id(n), address(n).socket_addr()).is_ok() {
                    self.open.insert(connection, id(n));
                }
            }
            Happens::NotAccepted(at) => {
                let Some(connection) = self.take_half_open(at) else { return };
                self.manager.handle_incoming_failed(now, connection);
            }
            Happens::Filtered(at, dialed, answered) => {
                let why = if answered { WhyNot::Filtered } else { WhyNot::FilterTimeout };
                if dialed {
                    let Some(dialed) = self.take_dial(at) else { return };
                    self.manager.handle_dialed_filtered(now, &dialed, why);
                } else {
                    let Some(connection) = self.take_half_open(at) else { return };
                    self.manager.handle_incoming_filtered(now, connection, why);
                }
            }
            Happens::Ready(at) => {
                let Some(connection) = self.nth_open(at) else { return };
                self.manager.handle_ready(connection);
            }
            Happens::Closed(at, blame) => {
                let Some(connection) = self.nth_open(at) else { return };
                self.open.remove(&connection);
                self.manager.handle_closed(now, connection, if blame { Blame::Misbehaved } else { Blame::Local });
            }
            Happens::Reported(n, what) => {
                let report = match what {
                    0 => Report::Misbehaved,
                    1..=127 => Report::Bad,
                    _ => Report::Good,
                };
                self.manager.report(now, &id(n), report);
            }
            Happens::Disconnect(n) => self.manager.disconnect(now, &id(n)),
            Happens::Dial(n) => drop(self.manager.dial(now, address(n))),
            Happens::Later(seconds) => {
                let end = now.after(secs(seconds));
                while let Some(due) = self.manager.poll_timeout().filter(|due| *due <= end.monotonic) {
                    assert!(due > self.now.monotonic, "a timer that is due again at once");
                    self.now = self.now.after(due - self.now.monotonic);
                    self.manager.handle_timeout(self.now);
                    self.look();
                }
                self.now = end;
            }
        }
    }

    /// Takes out what the machine says, and checks all that must hold.
    fn look(&mut self) {
        while let Some(action) = self.manager.poll_action() {
            match action {
                Action::Dial(dialed) => {
                    assert_ne!(dialed.id(), id(OWN));
                    assert!(self.dials.iter().all(|other| other.id() != dialed.id()), "two dials to {dialed}");
                    assert!(self.open.values().all(|peer| *peer != dialed.id()), "{dialed} is connected");
                    assert!(!self.manager.book().is_banned(self.now.wall, &dialed.id()), "{dialed} is banned");
                    self.dials.push(dialed);
                }
                Action::Close { connection, peer, .. } => assert_eq!(self.open.get(&connection), Some(&peer)),
                Action::Probe(to) => assert!(self.open.values().any(|peer| *peer == to.id()), "{to} is connected"),
                Action::Resolve(_) => unreachable!("nothing is asked of discovery"),
                Action::Abort(connection) => {
                    let at = self.half_open.iter().position(|other| *other == connection);
                    self.half_open.remove(at.expect("an abort names an unfinished handshake"));
                }
            }
        }
        while let Some(event) = self.manager.poll_event() {
            match event {
                Event::Up { connection, peer, .. } => {
                    assert_eq!(self.open.get(&connection), Some(&peer));
                    assert!(self.up.insert(connection), "up twice");
                }
                Event::Down { connection, .. } => {
                    assert!(self.up.remove(&connection), "down without up");
                    assert!(!self.open.contains_key(&connection));
                }
            }
        }
        self.check();
    }

    fn check(&self) {
        let free = |peer: &PeerId| FREE.clone().any(|n| id(n) == *peer);
        let staying: Vec<_> = self.manager.peers().collect();
        let ids: BTreeSet<PeerId> = staying.iter().map(|connected| connected.peer).collect();
        assert_eq!(ids.len(), staying.len(), "one connection per id");
        for connected in &staying {
            assert_eq!(self.open.get(&connected.connection), Some(&connected.peer));
        }
        for direction in [Direction::Inbound, Direction::Outbound] {
            let (places, taken) = (SLOTS.of(direction), self.manager.places_taken(direction));
            assert!(taken.staying <= places, "{taken:?} of {direction:?}");
        }
        let limited = staying.iter().filter(|connected| !free(&connected.peer)).count();
        assert!(limited <= SLOTS.inbound + SLOTS.outbound, "{limited} limited peers");
        // The two unconditional peers come on top.
        assert!(staying.len() <= SLOTS.total + 2, "{} connections", staying.len());
        let stats = self.manager.stats();
        assert_eq!((stats.dialing, stats.half_open), (self.dials.len(), self.half_open.len()));
        assert!(stats.dialing <= SLOTS.dialing && stats.half_open <= SLOTS.half_open);
        assert!(self.up.iter().all(|connection| self.open.contains_key(connection)));
        self.manager.book().check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_limits_hold_in_any_order_of_events(seed: u64, story in prop::collection::vec(happens(), 1..200)) {
        let mut world = World::new(seed);
        for what in story {
            world.happen(what);
            world.look();
        }
    }

    #[test]
    fn the_same_seed_and_story_give_the_same_actions(seed: u64, story in prop::collection::vec(happens(), 1..100)) {
        let run = || {
            let mut world = World::new(seed);
            let mut seen = Vec::new();
            for what in &story {
                world.happen(*what);
                world.look();
                seen.push((world.dials.clone(), world.open.clone(), world.manager.wanted()));
            }
            (seen, world.manager.stats())
        };
        prop_assert_eq!(run(), run());
    }
}
