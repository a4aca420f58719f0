//! Who fills a book gets how much of the dials and of the gossip? `docs/attacks.md` has the figures and what CometBFT's book gives.
//!
//! `ATTACK_SEEDS=20 cargo test --release --test pex_attacks -- --nocapture`; without `ATTACK_SEEDS` it is two seeds and a smaller flood.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kadwire::book::{Book, BookConfig, Origin};
use kadwire_wire::address::{PeerAddress, PeerId};

/// Addresses that the attacker's sources tell together, in 1,000 /16s: what CometBFT's book was measured with. A short run takes a fifth,
/// which fills every place that they can get as well.
const FLOOD: u32 = 100_000;

/// Honest addresses, each in one of 250 /16s.
const HONEST: u32 = 1_000;

struct Attack {
    name: &'static str,
    /// Networks that honest addresses are told from.
    honest_sources: u32,
    /// Honest addresses that we reached.
    reached: u32,
    /// The attacker's networks.
    sources: u32,
    flood: u32,
    /// Identities at one host of the attacker, each listening at a port of its own and reached there.
    live: u32,
    /// Whether nobody is known beyond those reached.
    young: bool,
    /// Whether the attacker is heard before everybody else.
    first: bool,
    /// Most of the dials, and of an answer, in percent. (Who knows of nobody else dials what it was told of.)
    goals: (f64, f64),
}

/// The goals are those of the project's threat sheet.
const ATTACKS: [Attack; 10] = [
    attack("1 source, 100,000 addresses; 300 of 1,000 reached", 100, 300, 1, (3.0, 5.0)),
    attack("the same, honest ones told by 25 networks", 25, 300, 1, (3.0, 5.0)),
    Attack { first: true, ..attack("the same, attacker heard first", 25, 300, 1, (3.0, 5.0)) },
    attack("1 source, nobody reached", 100, 0, 1, (5.0, 10.0)),
    attack("the same, honest ones told by 25 networks", 25, 0, 1, (5.0, 10.0)),
    attack("50 sources; 300 of 1,000 reached", 100, 300, 50, (25.0, 25.0)),
    attack("50 sources, nobody reached", 100, 0, 50, (40.0, 40.0)),
    Attack {
        flood: 900,
        young: true,
        ..attack("1 source, one answer of 900; 50 honest reached", 5, 50, 1, (100.0, 10.0))
    },
    Attack {
        flood: 0,
        live: 10_000,
        ..attack("1 host, 10,000 live identities; 300 of 1,000 reached", 100, 300, 1, (10.0, 10.0))
    },
    Attack {
        flood: 0,
        live: 10_000,
        young: true,
        ..attack("the same, 50 honest reached, no others", 5, 50, 1, (100.0, 10.0))
    },
];

const fn attack(name: &'static str, honest_sources: u32, reached: u32, sources: u32, goals: (f64, f64)) -> Attack {
    Attack { name, honest_sources, reached, sources, flood: FLOOD, live: 0, young: false, first: false, goals }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn id(n: u32) -> PeerId {
    format!("{n:040x}").parse().unwrap()
}

fn at(n: u32, ip: u32) -> PeerAddress {
    PeerAddress::from_socket(id(n), (Ipv4Addr::from(ip), 26_656).into()).unwrap()
}

/// A peer in a /16 of its own, from 60.0/16 on.
fn origin(n: u32) -> Origin {
    Origin { id: id(10_000_000 + n), socket: Some((Ipv4Addr::from(0x3c00_0001 + (n << 16)), 1).into()) }
}

const ATTACKERS: u32 = 1_000_000;

fn is_theirs(address: &PeerAddress) -> bool {
    address.id() >= id(ATTACKERS)
}

fn flood(book: &mut Book, attack: &Attack, part: u32) {
    let many = if attack.flood == FLOOD { FLOOD / part } else { attack.flood };
    for n in 0..many {
        // 1,000 /16s from 128.0/16 on.
        let address = at(ATTACKERS + n, 0x8000_0001 + ((n % 1_000) << 16) + n / 1_000);
        let _ = book.add(now(), &address, &origin(1_000 + n % attack.sources));
    }
    for n in 0..attack.live {
        let socket = (Ipv4Addr::new(199, 1, 1, 1), 1 + n as u16).into();
        book.mark_reached(now(), &PeerAddress::from_socket(id(ATTACKERS + n), socket).unwrap());
    }
}

fn honest(book: &mut Book, attack: &Attack, many: u32) {
    for n in 0..many {
        let address = at(n, 0x2000_0001 + ((n % 250) << 16) + n / 250);
        book.add(now(), &address, &origin(n % attack.honest_sources)).unwrap();
    }
    (0..attack.reached).for_each(|n| book.mark_good(now(), &id(n)));
}

/// The attacker's part of 4,000 dials for the worst of the biases that a node dials with, of ordinary answers and of a seed's; in percent.
fn measure(attack: &Attack, seed: u64, part: u32) -> [f64; 3] {
    let mut book = Book::new(BookConfig { seed, ..BookConfig::default() });
    if attack.first {
        flood(&mut book, attack, part);
    }
    honest(&mut book, attack, if attack.young { attack.reached } else { HONEST });
    if !attack.first {
        flood(&mut book, attack, part);
    }
    let mut dials = 0.0_f64;
    for bias in [10, 50, 90] {
        let picked = (0..4_000).filter(|_| book.pick(bias).is_some_and(is_theirs)).count();
        dials = dials.max(picked as f64 / 40.0);
    }
    let mut share = |select: fn(&mut Book) -> Vec<PeerAddress>| {
        let answers: Vec<Vec<PeerAddress>> = (0..20).map(|_| select(&mut book)).collect();
        let (theirs, all) = (answers.iter().flatten().filter(|a| is_theirs(a)).count(), answers.concat().len());
        theirs as f64 * 100.0 / all as f64
    };
    [dials, share(Book::selection), share(|book| book.selection_with_bias(30))]
}

#[test]
fn one_source_gets_its_part_and_no_more() {
    let seeds = std::env::var("ATTACK_SEEDS").ok().map(|text| text.parse::<u64>().expect("a number of seeds"));
    let (seeds, part) = seeds.map_or((2, 5), |seeds| (seeds, 1));
    println!(
        "| attack, seeds 1 to {seeds}: median / worst, % | dials | answers | a seed's answers |\n|---|---|---|---|"
    );
    let all: Vec<Vec<[f64; 3]>> = thread::scope(|scope| {
        let run = |attack| scope.spawn(move || (1..=seeds).map(|seed| measure(attack, seed, part)).collect());
        let running: Vec<_> = ATTACKS.iter().map(run).collect();
        running.into_iter().map(|attack| attack.join().unwrap()).collect()
    });
    let mut missed = Vec::new();
    for (attack, runs) in ATTACKS.iter().zip(all) {
        let mut cells = String::new();
        for (kind, goal) in [attack.goals.0, attack.goals.1, attack.goals.1].into_iter().enumerate() {
            let mut sorted: Vec<f64> = runs.iter().map(|run| run[kind]).collect();
            sorted.sort_by(f64::total_cmp);
            let (median, worst) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
            cells += &format!(" {median:.1} / {worst:.1} |");
            if worst > goal {
                missed.push(format!("{}: {worst:.1} > {goal}", attack.name));
            }
        }
        println!("| {} |{cells}", attack.name);
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
