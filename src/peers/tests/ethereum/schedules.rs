//! Whatever happens in whatever order: no address is dialed more often than history and back-off allow, no slot is exceeded, and no slot
//! stays free while somebody may be dialed for it.

use std::collections::{BTreeMap, BTreeSet};

use kadwire_discovery::Now;
use kadwire_wire::{Blame, PeerAddress, PeerId};
use proptest::prelude::*;

use crate::{
    book::{Book, BookConfig},
    candidate::{Candidate, Source},
    dial::tests::{ethereum, ethereum_id},
    peers::{
        Action, Config, ConnectionId, Direction, PeerManager, Slots, WhyFailed,
        schedule::known,
        tests::{OWN, secs},
    },
};

const SLOTS: Slots = Slots {
    inbound: 4,
    outbound: 3,
    total: 7,
    dialing: 5,
    upgrade: 0,
    half_open: 50,
    half_open_per_ip: 8,
    per_ip: 100,
};

/// Whom the operator may name, and whom it trusts.
const STATIC: std::ops::RangeInclusive<u32> = 1..=6;
const TRUSTED: u32 = 7;

#[derive(Clone, Copy, Debug)]
enum Happens {
    Discovered(u32),
    Static(u32),
    NotStatic(u32),
    Trusted(bool),
    Dialed(usize),
    Fails(usize, usize),
    Accepted(u32),
    Pending(u32),
    NotPending,
    Closed(usize),
    Resolved(u32, u32),
    Later(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    use Happens::*;
    let peer = 1..30_u32;
    prop_oneof![
        6 => peer.clone().prop_map(Discovered),
        2 => STATIC.prop_map(Static),
        1 => STATIC.prop_map(NotStatic),
        1 => any::<bool>().prop_map(Trusted),
        4 => any::<usize>().prop_map(Dialed),
        5 => any::<(usize, usize)>().prop_map(|(at, why)| Fails(at, why)),
        2 => peer.clone().prop_map(Accepted),
        1 => peer.prop_map(Pending),
        1 => Just(NotPending),
        3 => any::<usize>().prop_map(Closed),
        1 => (STATIC, 0..3_u32).prop_map(|(n, at)| Resolved(n, at)),
        5 => (0..400_u64).prop_map(Later),
    ]
}

/// What the test knows of an address: when it was dialed last, and how often in a row it failed since it last worked.
#[derive(Clone, Copy, Debug)]
struct Tried {
    at: Now,
    failed: u32,
    failed_at: Now,
}

struct World {
    manager: PeerManager,
    now: Now,
    number: u64,
    dials: Vec<PeerAddress>,
    open: BTreeMap<ConnectionId, (PeerId, Option<PeerAddress>, Now)>,
    pending: Option<ConnectionId>,
    tried: BTreeMap<PeerAddress, Tried>,
    named: BTreeSet<u32>,
}

impl World {
    fn new(seed: u64) -> Self {
        let config = Config {
            seed,
            unconditional: [ethereum_id(TRUSTED)].into(),
            throttle: None, // addresses here are few
            ..Config::ethereum(ethereum_id(OWN), SLOTS)
        };
        let manager = PeerManager::new(config, Book::new(BookConfig::default()));
        let mut world = World {
            manager,
            now: Now::read(),
            number: 0,
            dials: Vec::new(),
            open: BTreeMap::new(),
            pending: None,
            tried: BTreeMap::new(),
            named: BTreeSet::new(),
        };
        world.manager.handle_timeout(world.now);
        world.look();
        world
    }

    fn number(&mut self) -> ConnectionId {
        self.number += 1;
        ConnectionId(self.number)
    }

    fn take_dial(&mut self, at: usize) -> Option<PeerAddress> {
        (!self.dials.is_empty()).then(|| self.dials.remove(at % self.dials.len()))
    }

    fn happen(&mut self, what: Happens) {
        let now = self.now;
        match what {
            Happens::Discovered(n) => drop(self.manager.add(now, Candidate::new(ethereum(n), Source::Discv4))),
            Happens::Static(n) => {
                self.named.insert(n);
                self.manager.add(now, Candidate::new(ethereum(n), Source::Config)).unwrap();
            }
            Happens::NotStatic(n) => {
                self.manager.remove_persistent(now, &ethereum_id(n));
                // Named again, it may be dialed at once.
                if self.named.remove(&n) {
                    self.tried.retain(|address, _| address.id() != ethereum_id(n));
                }
            }
            Happens::Trusted(true) => self.manager.add_unconditional(now, ethereum_id(TRUSTED)),
            Happens::Trusted(false) => self.manager.remove_unconditional(now, &ethereum_id(TRUSTED)),
            Happens::Dialed(at) => {
                let Some(dialed) = self.take_dial(at) else { return };
                let connection = self.number();
                let taken = self.manager.handle_dialed(now, connection, &dialed, dialed.socket_addr());
                match taken {
                    Ok(()) => drop(self.open.insert(connection, (dialed.id(), Some(dialed), now))),
                    // It waits as if it had failed.
                    Err(_) if self.manager.peer(&dialed.id()).is_none() => self.failed(&dialed),
                    Err(_) => {}
                }
                self.manager.handle_ready(connection);
            }
            Happens::Fails(at, why) => {
                let Some(dialed) = self.take_dial(at) else { return };
                self.manager.handle_dial_failed(now, &dialed, WhyFailed::ALL[why % WhyFailed::ALL.len()]);
                self.failed(&dialed);
            }
            Happens::Accepted(n) => {
                let connection = self.number();
                self.manager.handle_incoming(now, connection, None).unwrap();
                if self.manager.handle_accepted(now, connection, ethereum_id(n), None).is_ok() {
                    self.manager.handle_ready(connection);
                    self.open.insert(connection, (ethereum_id(n), None, now));
                }
            }
            Happens::Pending(n) if self.pending.is_none() => {
                let connection = self.number();
                self.manager.handle_incoming(now, connection, None).unwrap();
                let identified = self.manager.handle_identified(now, connection, ethereum_id(n), None);
                match identified {
                    Ok(()) => self.pending = Some(connection),
                    Err(_) => self.manager.handle_incoming_failed(now, connection),
                }
            }
            Happens::Pending(_) => {}
            Happens::NotPending => {
                if let Some(connection) = self.pending.take() {
                    self.manager.handle_incoming_failed(now, connection);
                }
            }
            Happens::Closed(at) => {
                let Some(connection) = self.open.keys().nth(at % self.open.len().max(1)).copied() else { return };
                self.close(connection);
            }
            Happens::Resolved(n, at) => {
                let found =
                    PeerAddress::from_socket(ethereum_id(n), ([45, n as u8, at as u8, 1], 30_303).into()).unwrap();
                self.manager.handle_resolved(now, &ethereum_id(n), (at > 0).then_some(found));
            }
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

    fn failed(&mut self, dialed: &PeerAddress) {
        if let Some(tried) = self.tried.get_mut(dialed) {
            (tried.failed, tried.failed_at) = (tried.failed + 1, self.now);
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        let Some((peer, dialed, since)) = self.open.remove(&connection) else { return };
        self.manager.handle_closed(self.now, connection, Blame::Local);
        let lasted = self.now.monotonic - since.monotonic;
        // What the model need not know exactly, it forgets: a crossing that was lost ends the history, and what lasted the failures.
        let crossed = self.open.values().any(|(other, ..)| *other == peer) || dialed.is_none();
        for (address, tried) in self.tried.iter_mut().filter(|(address, _)| address.id() == peer) {
            if crossed {
                tried.at = Now { monotonic: tried.at.monotonic - secs(35), ..tried.at };
                (tried.failed, tried.failed_at) = (0, tried.at);
            } else if Some(address) == dialed.as_ref() {
                match lasted < secs(10) {
                    true => (tried.failed, tried.failed_at) = (tried.failed + 1, self.now),
                    false => tried.failed = 0,
                }
            }
        }
    }

    fn look(&mut self) {
        while let Some(action) = self.manager.poll_action() {
            match action {
                Action::Dial(dialed) => {
                    assert!(self.dials.iter().all(|other| other.id() != dialed.id()), "two dials to {dialed}");
                    assert!(self.open.values().all(|(peer, ..)| *peer != dialed.id()), "{dialed} is connected");
                    self.may_be_dialed(&dialed);
                    self.dials.push(dialed);
                    assert!(self.dials.len() <= SLOTS.dialing);
                }
                Action::Close { connection, .. } => self.close(connection),
                Action::Resolve(id) => assert!(STATIC.clone().any(|n| ethereum_id(n) == id), "{id} is not static"),
                Action::Probe(_) | Action::Abort(_) => unreachable!("neither book nor crowd"),
            }
        }
        while self.manager.poll_event().is_some() {}
        self.check();
    }

    /// Against what the test noted itself: 35 s from the start of the last dial, and 2, 4, 8 … s, five minutes at most, from the end of the
    /// last one of those that failed in a row.
    fn may_be_dialed(&mut self, dialed: &PeerAddress) {
        let now = self.now;
        let tried = self.tried.entry(dialed.clone()).or_insert(Tried {
            at: Now { monotonic: now.monotonic - secs(35), ..now },
            failed: 0,
            failed_at: now,
        });
        let since = |then: Now| now.monotonic.saturating_duration_since(then.monotonic);
        assert!(since(tried.at) >= secs(35), "{dialed} after {:?}", since(tried.at));
        if let Some(doublings) = tried.failed.checked_sub(1) {
            let pause = secs(2 << doublings.min(10)).min(secs(300));
            assert!(
                since(tried.failed_at) >= pause,
                "{dialed}, {} times failed, after {:?}",
                tried.failed,
                since(tried.failed_at)
            );
        }
        tried.at = now;
    }

    fn check(&self) {
        let manager = &self.manager;
        let trusted = |peer: PeerId| usize::from(peer == ethereum_id(TRUSTED));
        let spare: usize = manager.peers().map(|connected| trusted(connected.peer)).sum();
        for (direction, places) in [(Direction::Inbound, SLOTS.inbound), (Direction::Outbound, SLOTS.outbound)] {
            let taken = manager.places_taken(direction).staying;
            assert!(taken <= places + spare, "{taken} of {direction:?}");
        }
        assert!(manager.peers().count() <= SLOTS.total + spare);
        // No slot is free while somebody may be dialed for it, but for the pace.
        let stats = manager.dial_stats();
        if stats.wanted > 0 && manager.dialer.pace_allows(self.now) {
            assert_eq!(stats.candidates_waiting, 0, "{stats:?}");
            let known = known(&manager.set, &manager.incoming, &manager.book, self.now);
            for n in &self.named {
                // One that was resolved is dialed elsewhere.
                let address = ethereum(*n);
                if manager.is_configured(&address) {
                    assert!(manager.dialer.check_dial(self.now, &address, &known).is_err(), "{address} is not dialed");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn dials_keep_to_history_back_off_and_slots_in_any_schedule(seed: u64, story in prop::collection::vec(happens(), 1..200)) {
        let mut world = World::new(seed);
        for what in story {
            world.happen(what);
            world.look();
        }
    }
}
