//! Who gets the places that a node dials after a restart, when an attacker owns what it hears of others? With anchors and without, on both
//! wires; `docs/attacks.md` has the figures. What an attacker gets of discovery's candidates and of the book is measured elsewhere
//! (`discv4_attacks`, `pex_attacks`); here it is given.
//!
//! `ATTACK_SEEDS=100 cargo test --test restart_attacks -- --nocapture`; without `ATTACK_SEEDS` it is five seeds.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant, UNIX_EPOCH},
};

use kadwire::{
    anchors::Anchor,
    book::{Book, BookConfig},
    candidate::{Candidate, Source},
    peers::{Action, Config, ConnectionId, PeerManager, Slots, WhyFailed},
};
use kadwire_discovery::Now;
use kadwire_wire::address::{PeerAddress, PeerId};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const MINUTE: Duration = Duration::from_secs(60);

/// Honest peers, each in a /16 of its own.
const HONEST: u32 = 200;

/// The attacker's /24s, each in a /16 of its own; its identities are without number.
const NETWORKS: u32 = 16;

/// Nodes that one lookup brings.
const FOUND: usize = 16;

/// The node is restarted so many times, one after the other.
const RESTARTS: usize = 5;

/// It runs for this long each time: long enough for anchors to be chosen anew.
const RUN: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, PartialEq)]
enum Wire {
    /// 16 places to dial, and candidates of discovery.
    Ethereum,
    /// 10 places to dial, and a book in which are 50 honest peers that we reached, and 1,000 identities of the attacker, which we reached as well.
    Tendermint,
}

struct Attack {
    name: &'static str,
    wire: Wire,
    /// The attacker's part of what is found, in percent.
    found: u32,
    /// So many percent of the dials to honest peers find all places taken.
    full: u32,
    /// Whether the anchors of the first restart are the attacker's.
    poisoned: bool,
    /// At least so many honest peers are there after the last restart, in the median of the seeds.
    goal: usize,
}

const fn attack(name: &'static str, wire: Wire, found: u32, full: u32, goal: usize) -> Attack {
    Attack { name, wire, found, full, poisoned: false, goal }
}

/// Discovery gives sixteen networks that all nodes know 64 % of the dials (docs/attacks.md).
const ATTACKS: [Attack; 7] = [
    attack("Ethereum, 64 % of what is found", Wire::Ethereum, 64, 0, 4),
    attack("Ethereum, all that is found", Wire::Ethereum, 100, 0, 4),
    attack("the same, half of the honest dials refused", Wire::Ethereum, 100, 50, 2),
    Attack { poisoned: true, ..attack("64 % of what is found, and the anchors", Wire::Ethereum, 64, 0, 2) },
    attack("Tendermint, 1,000 of 1,050 in the book", Wire::Tendermint, 0, 0, 3),
    attack("the same, half of the honest dials refused", Wire::Tendermint, 0, 50, 2),
    Attack { poisoned: true, ..attack("the same book, and the anchors", Wire::Tendermint, 0, 0, 0) },
];

fn peer(wire: Wire, n: u32, ip: u32) -> PeerAddress {
    let (id, port) = match wire {
        Wire::Ethereum => (PeerId::Ethereum(std::array::from_fn(|at| n.to_be_bytes()[at % 4])), 30_303),
        Wire::Tendermint => (PeerId::Tendermint(std::array::from_fn(|at| n.to_be_bytes()[at % 4])), 26_656),
    };
    PeerAddress::from_socket(id, (Ipv4Addr::from(ip), port).into()).unwrap()
}

fn honest(wire: Wire, n: u32) -> PeerAddress {
    peer(wire, n, 0x0900_0001 + (n << 16))
}

fn theirs(wire: Wire, n: u32) -> PeerAddress {
    peer(wire, 1_000_000 + n, 0xd000_0001 + ((n % NETWORKS) << 16) + n / NETWORKS % 250)
}

fn is_honest(ip: Option<IpAddr>) -> bool {
    ip.is_some_and(|ip| ip < IpAddr::V4(Ipv4Addr::new(208, 0, 0, 0)))
}

/// One run of the node, from its start to its end.
struct Run<'a> {
    attack: &'a Attack,
    /// Nobody attacks yet.
    peace: bool,
    manager: PeerManager,
    now: Now,
    /// When which dial ends.
    dials: BTreeMap<(Instant, u64), PeerAddress>,
    connections: u64,
    rng: &'a mut StdRng,
}

impl<'a> Run<'a> {
    fn new(attack: &'a Attack, now: Now, anchors: Vec<Anchor>, book: Book, rng: &'a mut StdRng) -> Self {
        let own = peer(attack.wire, u32::MAX, 0x0800_0001).id();
        let config = match attack.wire {
            Wire::Ethereum => Config::ethereum(own, Slots::ethereum(50, 0)),
            Wire::Tendermint => Config::new(own),
        };
        let manager = PeerManager::new(Config { anchors, seed: rng.random(), ..config }, book);
        Run { attack, peace: false, manager, now, dials: BTreeMap::new(), connections: 0, rng }
    }

    fn run_for(&mut self, time: Duration) {
        let step = Duration::from_millis(10);
        for tick in 0..time.as_millis() / step.as_millis() {
            if self.attack.wire == Wire::Ethereum && tick % 100 == 50 && self.manager.wanted() > 0 {
                self.find();
            }
            while let Some(end) = self.dials.first_entry().filter(|end| end.key().0 <= self.now.monotonic) {
                let address = end.remove();
                self.dialed(&address);
            }
            if self.manager.poll_timeout().is_some_and(|due| due <= self.now.monotonic) {
                self.manager.handle_timeout(self.now);
            }
            self.carry_out();
            self.now = self.now.after(step);
        }
    }

    /// A lookup ends.
    fn find(&mut self) {
        for _ in 0..FOUND {
            let address = match !self.peace && self.rng.random_range(0..100) < self.attack.found {
                true => theirs(self.attack.wire, self.rng.random_range(0..100_000)),
                false => honest(self.attack.wire, self.rng.random_range(0..HONEST)),
            };
            let _ = self.manager.add(self.now, Candidate::new(address, Source::Discv4));
        }
    }

    /// A dial ends: the attacker's nodes are nearer than any other, and have places for everybody.
    fn dialed(&mut self, address: &PeerAddress) {
        if is_honest(address.ip()) && !self.peace && self.rng.random_range(0..100) < self.attack.full {
            return self.manager.handle_dial_failed(self.now, address, WhyFailed::TooManyPeers);
        }
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        if self.manager.handle_dialed(self.now, connection, address, address.socket_addr()).is_ok() {
            self.manager.handle_ready(connection);
        }
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.manager.poll_action() {
            match action {
                Action::Dial(address) => {
                    let far = Duration::from_millis(self.rng.random_range(100..600));
                    let time = if is_honest(address.ip()) { far } else { Duration::from_millis(20) };
                    self.connections += 1;
                    self.dials.insert((self.now.monotonic + time, self.connections), address);
                }
                Action::Close { connection, .. } => {
                    self.manager.handle_closed(self.now, connection, kadwire_wire::Blame::Local);
                }
                Action::Probe(_) | Action::Abort(_) | Action::Resolve(_) => {}
            }
        }
        while self.manager.poll_event().is_some() {}
    }

    /// Its honest peers, and all.
    fn peers(&self) -> (usize, usize) {
        let honest = self.manager.peers().filter(|peer| is_honest(peer.remote.map(|remote| remote.ip()))).count();
        (honest, self.manager.peers().count())
    }
}

/// What a node of this wire knows of others.
fn book(wire: Wire, seed: u64, attacked: bool) -> Book {
    let mut book = Book::new(BookConfig { seed, ..BookConfig::default() });
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    if wire == Wire::Tendermint {
        (0..50).for_each(|n| book.mark_reached(now, &honest(wire, n)));
        if attacked {
            (0..1_000).for_each(|n| book.mark_reached(now, &theirs(wire, n)));
        }
    }
    book
}

/// How many honest peers the node has a minute after the first restart under attack, and after the last.
fn measure(attack: &Attack, seed: u64, with_anchors: bool) -> [usize; 2] {
    let mut rng = StdRng::seed_from_u64(seed);
    let start = Now { wall: UNIX_EPOCH + Duration::from_secs(1_700_000_000), ..Now::read() };
    let mut before = Run::new(attack, start, Vec::new(), book(attack.wire, seed, false), &mut rng);
    before.peace = true;
    before.manager.handle_timeout(start);
    before.run_for(10 * MINUTE);
    let mut anchors = before.manager.choose_anchors(before.now);
    let mut now = before.now;
    assert_eq!(anchors.len(), 8, "seed {seed}: {anchors:?}");
    if attack.poisoned {
        anchors = (0..8)
            .map(|n| Anchor { address: theirs(attack.wire, n), since: now.wall - MINUTE, seen: now.wall })
            .collect();
    }
    let mut honest = Vec::new();
    for _ in 0..RESTARTS {
        let known = if with_anchors { anchors } else { Vec::new() };
        let mut run = Run::new(attack, now, known, book(attack.wire, seed, true), &mut rng);
        run.manager.handle_timeout(now);
        run.run_for(MINUTE);
        let (ours, all) = run.peers();
        assert_eq!(
            all,
            if attack.wire == Wire::Ethereum { 16 } else { 10 },
            "seed {seed}, {}: places stay free",
            attack.name
        );
        honest.push(ours);
        run.run_for(RUN - MINUTE);
        anchors = run.manager.choose_anchors(run.now);
        now = run.now;
    }
    [honest[0], honest[RESTARTS - 1]]
}

#[test]
fn after_a_restart_the_node_has_honest_peers_again() {
    let seeds = std::env::var("ATTACK_SEEDS").map_or(5, |text| text.parse::<u64>().expect("a number of seeds"));
    println!(
        "| the attacker has; honest of the dialed peers, seeds 1 to {seeds}: median / worst | without anchors | with anchors | after {RESTARTS} restarts |"
    );
    println!("|---|---|---|---|");
    let mut missed = Vec::new();
    for attack in &ATTACKS {
        let runs: Vec<[usize; 3]> = (1..=seeds)
            .map(|seed| {
                let ([first, last], [without, _]) = (measure(attack, seed, true), measure(attack, seed, false));
                [without, first, last]
            })
            .collect();
        let column = |at: usize| {
            let mut values: Vec<_> = runs.iter().map(|run| run[at]).collect();
            values.sort_unstable();
            (values[values.len() / 2], values[0])
        };
        let [without, first, last] = [column(0), column(1), column(2)];
        println!(
            "| {} | {} / {} | {} / {} | {} / {} |",
            attack.name, without.0, without.1, first.0, first.1, last.0, last.1
        );
        if last.0 < attack.goal {
            missed.push(format!("{}: {} < {}", attack.name, last.0, attack.goal));
        }
        // Where every anchor answers, no seed has fewer.
        if !attack.poisoned && attack.full == 0 && first.1.min(last.1) < attack.goal {
            missed.push(format!("{}, worst: {}, {} < {}", attack.name, first.1, last.1, attack.goal));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
