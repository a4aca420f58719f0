//! The published eclipse attacks, on virtual time: how much of a restarted node's table and of its next dials an attacker gets.
//!
//! Marcus, Heilman, Goldberg 2018: any number of identities behind few addresses ping a node that has just restarted.
//! Henningsen, Teunis, Florian, Scheuermann 2019 ("False Friends"): whoever asks the attacker's nodes is told of the attacker's nodes
//! only, so that lookups lead nowhere else. The attacker here does both at once; see `sim/adversary.rs`.
//!
//! By default a short form for every test run. The table of docs/attacks.md, minutes long:
//! `ATTACK_SEEDS=20 cargo test --release -p kadwire-discovery --test discv4_attacks -- --nocapture`

mod sim;

use std::time::Duration;

use kadwire_discovery::table::{Entry, Seed};
use kadwire_discovery::{NodeId, NodeRecord};
use rand::RngExt;
use sim::adversary::{Adversary, Means};
use sim::{Index, Links, Network};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Places of a table: 17 buckets of 16.
const PLACES: usize = 272;

/// Dials looked at.
const DIALS: usize = 50;

/// Identities that ping each honest node beforehand, where they do: more than can find a place.
const VISITS: u32 = 200;

/// Honest nodes searched for.
const SEARCHES: usize = 10;

struct Row {
    name: &'static str,
    means: Means,
    /// The victim restarts with the nodes it knew; otherwise with a bootnode only.
    has_seeds: bool,
    /// The attacker has pinged all honest nodes too, so that these pass its nodes on.
    is_everywhere: bool,
}

fn row(name: &'static str, networks: u32, hosts: u32, identities: u32) -> Row {
    let means = Means { networks, hosts, identities, pings: pings() };
    Row { name, means, has_seeds: false, is_everywhere: false }
}

/// What the attacker has got, in numbers of nodes.
#[derive(Clone, Copy, Debug, Default)]
struct Loot {
    entries: usize,
    of_entries: usize,
    first: usize,
    of_first: usize,
    next: usize,
    of_next: usize,
    /// Honest nodes that the victim's lookups still find.
    found: usize,
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How many runs: 1, or `ATTACK_SEEDS`.
fn seeds() -> u32 {
    number("ATTACK_SEEDS", 1)
}

/// Pings a second: all that a machine admits, if it is not a short run.
fn pings() -> u32 {
    number("ATTACK_PINGS", if seeds() > 1 { 2000 } else { 200 })
}

/// The attack before the table and the dials are looked at.
fn span() -> Duration {
    SECOND * number("ATTACK_SECONDS", 60)
}

/// One node restarts under attack.
fn attack(network: &mut Network, victim: Index, row: &Row) -> Loot {
    let last_pong = network.now().wall;
    let seed = |entry: &Entry| Seed {
        record: entry.record().clone(),
        last_pong,
        find_failures: 0,
        inbound: entry.is_inbound(),
    };
    let table = network.nodes[victim].machine().table();
    let known: Vec<_> = table.entries().filter(|entry| entry.is_live()).map(seed).collect();
    network.switch_off(victim);
    let mut attacker = Adversary::new(network, victim as u8, row.means);
    if row.is_everywhere {
        attacker.visit_everybody(network, VISITS);
    }
    attacker.victim = Some(victim);
    let bootnode = network.nodes[0].record();
    network.switch_on(victim, |config| {
        config.bootnodes = vec![bootnode];
        if row.has_seeds {
            config.seeds = known;
        }
    });
    let restarted = network.elapsed();
    let first = dials(network, &mut attacker, victim);
    let rest = (restarted + span()).saturating_sub(network.elapsed());
    attacker.run_for(network, rest);

    let is_ours = |record: &NodeRecord| attacker.owns(record.ip());
    let table = network.nodes[victim].machine().table();
    let entries = table.entries().filter(|entry| is_ours(entry.record())).count();
    let of_entries = table.len();
    let next = dials(network, &mut attacker, victim);
    let found = (0..SEARCHES).filter(|_| finds_honest(network, &mut attacker, victim)).count();
    network.switch_off(victim);
    network.strays = None;
    let ours = |dials: &[NodeRecord]| dials.iter().filter(|record| attacker.owns(record.ip())).count();
    Loot {
        entries,
        of_entries,
        first: ours(&first),
        of_first: first.len(),
        next: ours(&next),
        of_next: next.len(),
        found,
    }
}

/// The next candidates that the victim's walk brings, none twice.
fn dials(network: &mut Network, attacker: &mut Adversary, victim: Index) -> Vec<NodeRecord> {
    let mut dials: Vec<NodeRecord> = Vec::new();
    for _ in 0..120 {
        let begun = network.elapsed();
        let lookup = network.with(victim, |machine, now| machine.walk(now)).expect("not busy");
        let is_done = |network: &Network| network.nodes[victim].lookups.contains_key(&lookup);
        assert!(attacker.run_until(network, begun + MINUTE, is_done), "lookup did not end");
        for record in network.nodes[victim].lookups.remove(&lookup).unwrap_or_default() {
            if dials.len() < DIALS && dials.iter().all(|other| other.id() != record.id()) {
                dials.push(record);
            }
        }
        if dials.len() == DIALS {
            break;
        }
        let rest = (begun + SECOND).saturating_sub(network.elapsed());
        attacker.run_for(network, rest);
    }
    dials
}

/// Whether the victim finds an honest node that it looks for.
fn finds_honest(network: &mut Network, attacker: &mut Adversary, victim: Index) -> bool {
    let on: Vec<_> = network.on().into_iter().filter(|index| *index != victim).collect();
    let wanted = &network.nodes[on[network.rng.random_range(0..on.len())]];
    let (id, target): (NodeId, _) = (wanted.id, *wanted.key.as_bytes());
    attacker.run_lookup(network, victim, target).contains(&id)
}

/// All rows against the same honest network, each against another victim; and that for every seed.
fn attacks(first_seed: u64, rows: &[Row]) -> Vec<Vec<Loot>> {
    let mut loot: Vec<Vec<Loot>> = rows.iter().map(|_| Vec::new()).collect();
    for seed in first_seed..first_seed + u64::from(seeds()) {
        let mut network = Network::joined(seed, Links::default(), 500, MINUTE);
        network.run_for(if seeds() > 1 { 10 * MINUTE } else { 2 * MINUTE });
        for (at, row) in rows.iter().enumerate() {
            loot[at].push(attack(&mut network, 10 + at, row));
            eprintln!("seed {seed}: {}: {:?}", row.name, loot[at].last());
            if rows.len() > at + 1 {
                network.run_for(MINUTE);
            }
        }
    }
    let last = first_seed + u64::from(seeds()) - 1;
    println!(
        "500 honest nodes, seeds {first_seed} to {last}, {:?} under attack, {} pings/s; median / worst",
        span(),
        pings()
    );
    println!(
        "| attack | table, of {PLACES} | share of its entries | first {DIALS} dials | next {DIALS} dials | honest found, of {SEARCHES} |"
    );
    println!("|---|---|---|---|---|---|");
    for (row, loot) in rows.iter().zip(&loot) {
        let column = |value: &dyn Fn(&Loot) -> usize| {
            let mut values: Vec<_> = loot.iter().map(value).collect();
            values.sort_unstable();
            values
        };
        let worst = |value: &dyn Fn(&Loot) -> usize| {
            let values = column(value);
            format!("{} / {}", values[values.len() / 2], values[values.len() - 1])
        };
        let found = column(&|loot| loot.found);
        let percent = |part: usize, whole: usize| part * 100 / whole.max(1);
        println!(
            "| {} | {} | {} % | {} | {} | {} / {} |",
            row.name,
            worst(&|loot| loot.entries),
            worst(&|loot| percent(loot.entries, loot.of_entries)),
            worst(&|loot| percent(loot.first, loot.of_first) * DIALS / 100),
            worst(&|loot| percent(loot.next, loot.of_next) * DIALS / 100),
            found[found.len() / 2],
            found[0],
        );
        println!("  {loot:?}");
    }
    loot
}

/// All attacks, weakest first; in a short run the two ends and what is in between.
fn rows() -> Vec<Row> {
    let strongest = || row("16 /24, 100,000 ids", 16, 250, 100_000);
    let short = vec![
        row("1 /24, 250 ids", 1, 250, 250),
        row("1 /24, 100,000 ids", 1, 250, 100_000),
        Row { has_seeds: true, name: "16 /24, 100,000 ids; victim has seeds", ..strongest() },
    ];
    if seeds() == 1 {
        return short;
    }
    let long = vec![
        row("2 /24 of 1 address, 1,000 ids", 2, 1, 1000),
        row("10 /24, 1,000 ids", 10, 250, 1000),
        row("100 /24, 1,000 ids", 100, 250, 1000),
        strongest(),
        Row { is_everywhere: true, name: "1 /24, 100,000 ids; everybody attacked", ..row("", 1, 250, 100_000) },
        Row { is_everywhere: true, name: "16 /24, 100,000 ids; everybody attacked", ..strongest() },
    ];
    short.into_iter().chain(long).collect()
}

#[test]
fn a_restarted_node_under_attack() {
    let begun = real_time();
    let rows = rows();
    let loot = attacks(sim::seed(1), &rows);
    println!("took {:.0?}", begun.elapsed());
    for (row, loot) in rows.iter().zip(&loot) {
        for loot in loot {
            let (what, networks) = (format!("{}: {loot:?}", row.name), row.means.networks as usize);
            assert!(loot.entries <= 10 * networks, "{what}");
            // Against sixteen networks that everybody knows, few honest nodes are left to walk to: then it hands out fewer.
            if networks == 1 || !row.is_everywhere {
                assert!(loot.of_first == DIALS && loot.of_next == DIALS, "the walk starves: {what}");
                assert!(loot.found * 10 >= SEARCHES * 7, "honest nodes are not found: {what}");
            }
            if networks == 1 {
                assert!(loot.first * 3 <= DIALS && loot.next * 3 <= DIALS, "{what}");
            }
        }
    }
}

/// One address admits 1,024 strangers, then eight a second.
#[test]
fn one_address_with_many_identities_gets_2048_proofs_and_ten_places() {
    let mut network = Network::new(sim::seed(2), Links::default());
    let node = network.add();
    network.switch_on(node, |_| {});
    let means = Means { networks: 1, hosts: 1, identities: 10_000, pings: 2000 };
    let mut attacker = Adversary::new(&mut network, 1, means);
    attacker.victim = Some(node);
    attacker.run_for(&mut network, 20 * MINUTE);
    let machine = network.nodes[node].machine();
    let (bonds, table) = (machine.bonds(), machine.table().len());
    assert!(attacker.pinged() > 10_000);
    assert!(bonds <= 2048);
    assert!(table <= 10, "one network");
}

#[expect(clippy::disallowed_methods, reason = "only to print how long a simulation takes; nothing depends on it")]
fn real_time() -> std::time::Instant {
    std::time::Instant::now()
}
