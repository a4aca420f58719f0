//! Many nodes that all dial each other at once, over links with random delays: in the end each pair holds one connection, the same at both
//! ends, and nobody flaps.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kadwire_discovery::Now;
use kadwire_wire::{Blame, address::PeerAddress};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::secs;
use crate::{
    book::{Book, BookConfig},
    candidate::{Candidate, Source},
    dial::tests::{address, id},
    peers::{Action, Config, ConnectionId, Event, PeerManager, Slots},
};

/// What reaches a node at a certain moment.
#[derive(Clone, Copy, Debug)]
enum Arrives {
    /// The first packet of a dial: link, who dials.
    Knock(u64, u32),
    /// The end of its handshake, at the side that was dialed.
    Accepted(u64, u32),
    /// The same at the side that dialed.
    Dialed(u64, u32),
    /// The other end closed the link.
    Closed(u64),
}

/// Nodes 1 to n on virtual time. A link has the same number at both ends.
struct Network {
    nodes: BTreeMap<u32, PeerManager>,
    now: Now,
    start: Now,
    /// In order of time in µs, then of sending.
    queue: BTreeMap<(u64, u64), (u32, Arrives)>,
    sent: u64,
    links: u64,
    /// Both ends of each link, and which of them are open.
    ends: HashMap<u64, [u32; 2]>,
    open: BTreeSet<(u64, u32)>,
    ups: usize,
    rng: StdRng,
}

impl Network {
    fn new(nodes: u32, seed: u64) -> Self {
        let now = Now::read();
        let slots = Slots { inbound: 100, outbound: 100, total: 200, ..Slots::default() };
        let node = |n: u32| {
            let config = Config { slots, seed: seed + u64::from(n), ..Config::new(id(n)) };
            (n, PeerManager::new(config, Book::new(BookConfig::default())))
        };
        Network {
            nodes: (1..=nodes).map(node).collect(),
            now,
            start: now,
            queue: BTreeMap::new(),
            sent: 0,
            links: 0,
            ends: HashMap::new(),
            open: BTreeSet::new(),
            ups: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn send(&mut self, to: u32, what: Arrives) {
        let at = (self.now.monotonic - self.start.monotonic).as_micros() as u64 + self.rng.random_range(1_000..300_000);
        self.sent += 1;
        self.queue.insert((at, self.sent), (to, what));
    }

    fn other_end(&self, link: u64, n: u32) -> u32 {
        let [a, b] = self.ends[&link];
        if a == n { b } else { a }
    }

    /// One end refuses or leaves; the other hears of it later.
    fn leave(&mut self, link: u64, n: u32) {
        self.send(self.other_end(link, n), Arrives::Closed(link));
    }

    fn drive(&mut self, n: u32) {
        loop {
            let node = self.nodes.get_mut(&n).unwrap();
            while let Some(event) = node.poll_event() {
                self.ups += usize::from(matches!(event, Event::Up { .. }));
            }
            match node.poll_action() {
                None => return,
                Some(Action::Dial(to)) => {
                    self.links += 1;
                    let peer = (1..=100).find(|peer| id(*peer) == to.id()).unwrap();
                    self.ends.insert(self.links, [n, peer]);
                    self.send(peer, Arrives::Knock(self.links, n));
                }
                Some(Action::Close { connection, .. }) => {
                    assert!(self.open.remove(&(connection.0, n)));
                    let now = self.now;
                    self.nodes.get_mut(&n).unwrap().handle_closed(now, connection, Blame::Local);
                    self.leave(connection.0, n);
                }
                Some(Action::Probe(_)) => unreachable!("nobody says where it listens"),
                Some(Action::Resolve(_)) => unreachable!("nothing is asked of discovery"),
                Some(Action::Abort(_)) => unreachable!("few handshakes at once"),
            }
        }
    }

    fn arrive(&mut self, n: u32, what: Arrives) {
        let now = self.now;
        let remote = |peer: u32| -> PeerAddress { address(peer) };
        let node = self.nodes.get_mut(&n).unwrap();
        match what {
            Arrives::Knock(link, from) => {
                node.handle_incoming(now, ConnectionId(link), remote(from).ip()).unwrap();
                self.send(from, Arrives::Dialed(link, n));
                self.send(n, Arrives::Accepted(link, from));
            }
            Arrives::Accepted(link, from) => {
                let taken = node.handle_accepted(now, ConnectionId(link), id(from), remote(from).socket_addr());
                self.taken(link, n, taken.is_ok());
            }
            Arrives::Dialed(link, to) => {
                let taken = node.handle_dialed(now, ConnectionId(link), &remote(to), remote(to).socket_addr());
                self.taken(link, n, taken.is_ok());
            }
            Arrives::Closed(link) => {
                if self.open.remove(&(link, n)) {
                    node.handle_closed(now, ConnectionId(link), Blame::Local);
                } else if self.queue.values().any(|(to, what)| {
                    *to == n && matches!(what, Arrives::Accepted(l, _) | Arrives::Dialed(l, _) if *l == link)
                }) {
                    // It overtook the end of the handshake here: a stream keeps its order.
                    self.send(n, Arrives::Closed(link));
                }
            }
        }
        self.drive(n);
    }

    fn taken(&mut self, link: u64, n: u32, taken: bool) {
        if taken {
            self.open.insert((link, n));
            self.nodes.get_mut(&n).unwrap().handle_ready(ConnectionId(link));
        } else {
            self.leave(link, n);
        }
    }

    /// Until nothing is under way and the time is over.
    fn run(&mut self, seconds: u64) {
        let end = self.start.after(secs(seconds));
        loop {
            let arrival = self
                .queue
                .first_key_value()
                .map(|((at, _), _)| self.start.monotonic + std::time::Duration::from_micros(*at));
            let timers = self.nodes.iter().filter_map(|(n, node)| Some((node.poll_timeout()?, *n)));
            let timer = timers.min();
            let (due, who) = match (arrival, timer) {
                (Some(arrival), Some((timer, n))) if timer < arrival => (timer, Some(n)),
                (Some(arrival), _) => (arrival, None),
                (None, Some((timer, n))) => (timer, Some(n)),
                (None, None) => return,
            };
            if due > end.monotonic {
                return;
            }
            self.now = self.now.after(due.saturating_duration_since(self.now.monotonic));
            match who {
                Some(n) => {
                    let now = self.now;
                    self.nodes.get_mut(&n).unwrap().handle_timeout(now);
                    self.drive(n);
                }
                None => {
                    let (_, (to, what)) = self.queue.pop_first().unwrap();
                    self.arrive(to, what);
                }
            }
        }
    }
}

#[test]
fn a_mesh_that_dials_at_once_agrees_on_one_connection_for_each_pair() {
    const NODES: u32 = 8;
    let seeds =
        std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()).map_or(0..12, |seed: u64| seed..seed + 1);
    for seed in seeds {
        println!("SIM_SEED={seed}");
        let mut network = Network::new(NODES, seed);
        for n in 1..=NODES {
            for other in (1..=NODES).filter(|other| *other != n) {
                let now = network.now;
                let found = Candidate::new(address(other), Source::Discv4);
                network.nodes.get_mut(&n).unwrap().add(now, found).unwrap();
                network.drive(n);
            }
        }
        network.run(60);
        let link = |n: u32, other: u32| network.nodes[&n].peer(&id(other)).map(|connected| connected.connection);
        for n in 1..=NODES {
            for other in (1..=NODES).filter(|other| *other != n) {
                assert!(link(n, other).is_some(), "{n} has {other}");
                assert_eq!(link(n, other), link(other, n), "{n} and {other} have the same");
            }
        }
        let pairs = (NODES * (NODES - 1) / 2) as usize;
        assert_eq!(network.open.len(), 2 * pairs, "no other connection stays");
        // Two ends come up once for each pair, and once more where the crossed one was there first.
        assert!(network.ups <= 4 * pairs, "{} ups of {pairs} pairs", network.ups);
    }
}
