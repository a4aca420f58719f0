//! Machines that know one bootnode become a network in which lookups find the true closest nodes, whichever of the two
//! tables they have.
//!
//! Virtual time, no sockets: see `sim`. A failing run prints its seed; `SIM_SEED=… cargo test --test discv4_convergence`
//! replays it.

mod sim;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use kadwire_discovery::NodeId;
use kadwire_discovery::table::TableConfig;
use rand::RngExt;
use sim::{Links, LookupReport, Network};

const MINUTE: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "only to print how long a simulation takes; nothing depends on it")]
fn real_time() -> Instant {
    Instant::now()
}

fn report(network: &mut Network, lookups: usize, begun: Instant) -> LookupReport {
    let virtual_time = network.elapsed();
    let report = network.measure_lookups(lookups);
    println!(
        "{} nodes, {virtual_time:.0?} of virtual time: {} of {} lookups exact, {} of {} closest nodes found, median lookup {:.0?}; {:?}; took {:.1?}",
        network.on().len(),
        report.exact,
        report.lookups,
        report.found,
        report.wanted,
        report.median_time(),
        network.traffic,
        begun.elapsed(),
    );
    report
}

/// A network of nodes with such tables, joined through one bootnode within a minute.
fn joined(table: TableConfig, seed: u64, links: Links, nodes: usize) -> Network {
    let mut network = Network::new(seed, links);
    network.table = table;
    network.join(nodes, 1, MINUTE);
    network
}

/// A network that has had `settling` to know itself finds exactly the 16 nodes that global knowledge says are closest.
fn lookups_are_exact(table: TableConfig, nodes: usize, settling: Duration) {
    let (seed, begun) = (sim::seed(1), real_time());
    let mut network = joined(table, seed, Links::default(), nodes);
    network.run_for(settling);
    let report = report(&mut network, 200, begun);
    assert_eq!(report.exact, report.lookups);
}

/// Must be shown: 1,000 nodes join through one bootnode within a minute, and three minutes later every lookup is exact.
#[test]
fn a_thousand_nodes_converge_and_lookups_find_the_true_closest() {
    lookups_are_exact(TableConfig::default(), 1000, 3 * MINUTE);
}

/// Fewer nodes only because each sends twelve times as much.
#[test]
fn nodes_with_cpp_tables_converge_and_lookups_find_the_true_closest() {
    lookups_are_exact(TableConfig::cpp_ethereum(), 200, 3 * MINUTE);
}

/// Whether somebody who asks from the first node on is told of everybody.
fn is_whole(network: &Network) -> bool {
    let (mut told, mut next) = (BTreeSet::from([0]), vec![0]);
    while let Some(index) = next.pop() {
        let machine = network.nodes[index].machine.as_ref();
        let live = machine.into_iter().flat_map(|machine| machine.table().entries()).filter(|entry| entry.is_live());
        let live = live.filter_map(|entry| network.at(&entry.record().endpoint()));
        next.extend(live.filter(|index| told.insert(*index)));
    }
    told.len() == network.nodes.len()
}

/// A handful of nodes start at once, on the internet or on a LAN, and soon none of them is unknown: when the first ones looked around the
/// others were not there, and guests get half of a bucket.
#[test]
fn a_small_network_is_whole_within_seconds() {
    let seed = sim::seed(8);
    for (place, first_ip) in [("internet", [24, 0, 0, 1]), ("LAN", [10, 0, 0, 1])] {
        let mut times = Vec::new();
        for run in 0..40 {
            let mut network = Network::new(seed + run, Links::default());
            let nodes = 20 + 4 * run as usize % 24;
            for index in 0..nodes {
                let ip = Ipv4Addr::from(u32::from_be_bytes(first_ip) + ((index as u32) << 8));
                network.add_at((ip, 30303).into());
                let bootnodes = if index == 0 { Vec::new() } else { vec![network.nodes[0].record()] };
                network.switch_on(index, |config| config.bootnodes = bootnodes);
                network.run_for(Duration::from_millis(30));
            }
            while !is_whole(&network) && network.elapsed() < 2 * MINUTE {
                network.run_for(Duration::from_millis(100));
            }
            times.push(network.elapsed());
        }
        times.sort();
        println!("{place}: whole after {:.1?} in the median, {:.1?} at most", times[20], times[39]);
        assert!(times[39] <= Duration::from_secs(15), "{place}: {times:?}");
    }
}

fn lookups_survive_loss(table: TableConfig, nodes: usize) {
    let (seed, begun) = (sim::seed(2), real_time());
    let mut network = joined(table, seed, Links::lossy(0.2), nodes);
    network.run_for(5 * MINUTE);
    let report = report(&mut network, 100, begun);
    assert!(report.found * 100 >= report.wanted * 99, "{} of {} found", report.found, report.wanted);
}

/// One packet in five is lost: questions are repeated and proofs renewed, and hardly anything is missed.
#[test]
fn lookups_survive_twenty_percent_loss() {
    lookups_survive_loss(TableConfig::default(), 200);
}

#[test]
fn lookups_of_cpp_tables_survive_twenty_percent_loss() {
    lookups_survive_loss(TableConfig::cpp_ethereum(), 60);
}

/// The same seed gives the same packets at the same times; another seed does not.
#[test]
fn a_run_follows_from_its_seed() {
    let run = |seed| {
        let mut network = Network::joined(seed, Links::lossy(0.1), 60, MINUTE);
        network.run_for(5 * MINUTE);
        let report = network.measure_lookups(10);
        (network.trace(), network.traffic, report.times)
    };
    let seed = sim::seed(3);
    let first = run(seed);
    assert_eq!(run(seed), first);
    assert_ne!(run(seed + 1).0, first.0);
}

/// The bootnode is off for ten minutes while others try to join through it: they do as soon as it is back.
#[test]
fn nodes_join_when_their_bootnode_comes_back() {
    let mut network = Network::new(sim::seed(4), Links::default());
    (0..20).for_each(|_| _ = network.add());
    let bootnode = network.nodes[0].record();
    for index in 1..20 {
        network.switch_on(index, |config| config.bootnodes = vec![bootnode.clone()]);
    }
    network.run_for(10 * MINUTE);
    for node in &mut network.nodes[1..] {
        assert!(node.machine().table().entries().all(|entry| !entry.is_live()), "the bootnode is off");
    }
    network.switch_on(0, |_| {});
    network.run_for(5 * MINUTE);
    for index in 0..20 {
        assert!(network.nodes[index].machine().table().len() >= 18, "node {index} knows too few");
    }
}

/// Must be shown: a node that is killed at any moment and restarted without a bootnode has nine tenths of its live nodes back in ten
/// seconds, among them nearly all it had, from what it had stored by then. One packet of twenty is lost.
#[test]
fn a_restarted_node_finds_back_through_its_seeds() {
    let mut network = Network::joined(sim::seed(5), Links::lossy(0.05), 300, MINUTE);
    let live = |network: &mut Network| -> BTreeSet<NodeId> {
        let table = network.nodes[7].machine().table();
        table.entries().filter(|entry| entry.is_live()).map(|entry| entry.record().id()).collect()
    };
    let (mut worst, mut most) = (100, 0);
    for round in 0..12 {
        let alive_for = Duration::from_millis(network.rng.random_range(0..60_000) * (1 + round % 3));
        network.run_for(alive_for);
        let before = live(&mut network);
        network.switch_off(7);
        let off_for = Duration::from_millis(network.rng.random_range(0..60_000));
        network.run_for(off_for);
        let seeds: Vec<_> = network.nodes[7].stored.values().cloned().collect();
        network.switch_on(7, |config| config.seeds = seeds);
        network.run_for(Duration::from_secs(10));
        let after = live(&mut network);
        let again = before.intersection(&after).count();
        println!(
            "{} live nodes after {alive_for:.1?}, off for {off_for:.1?}: {} after 10 s, {again} of them again",
            before.len(),
            after.len()
        );
        assert!(after.len() * 10 >= before.len() * 9 && again * 10 >= before.len() * 9);
        worst = worst.min(again * 100 / before.len());
        most = most.max(before.len());
    }
    println!("at worst {worst} % of the live nodes came back; at most there were {most}");
    assert!(most >= 80);
}

/// Half of the network is gone while a node is off, and all it has stored is what it once knew: it finds the living among them.
#[test]
fn a_restarted_node_finds_the_living_among_its_seeds() {
    let mut network = Network::joined(sim::seed(7), Links::default(), 200, MINUTE);
    network.run_for(10 * MINUTE);
    network.switch_off(7);
    (100..200).for_each(|index| network.switch_off(index));
    network.run_for(MINUTE);
    let seeds: Vec<_> = network.nodes[7].stored.values().cloned().collect();
    let known = seeds.len();
    let living: BTreeSet<_> = network.nodes[..100].iter().map(|node| node.id).collect();
    let could = seeds.iter().filter(|seed| living.contains(&seed.record.id())).count();
    network.switch_on(7, |config| config.seeds = seeds);
    network.run_for(Duration::from_secs(10));
    let live = network.nodes[7].machine().table().entries().filter(|entry| entry.is_live()).count();
    println!("{known} nodes stored, {could} of them alive; {live} live nodes after 10 s");
    assert!(live * 10 >= could * 9, "{live} live nodes of {could}");
}

/// Half of the network disappears at once: the rest forgets them.
fn the_dead_are_forgotten_by(table: TableConfig) {
    let mut network = joined(table, sim::seed(6), Links::default(), 100);
    network.run_for(5 * MINUTE);
    (50..100).for_each(|index| network.switch_off(index));
    let gone: Vec<_> = network.nodes[50..].iter().map(|node| node.id).collect();
    let entries = |network: &mut Network| {
        let (mut dead, mut all) = (0, 0);
        for index in 0..50 {
            let table = network.nodes[index].machine().table();
            dead += table.entries().filter(|entry| gone.contains(&entry.record().id())).count();
            all += table.len();
        }
        println!("{:.0?}: {dead} dead of {all} entries", network.elapsed());
        (dead, all)
    };
    network.run_for(5 * MINUTE);
    entries(&mut network);
    network.run_for(15 * MINUTE);
    let (dead, all) = entries(&mut network);
    assert!(dead * 20 <= all, "{dead} dead of {all} entries");
}

#[test]
fn the_dead_are_forgotten() {
    the_dead_are_forgotten_by(TableConfig::default());
}

#[test]
fn the_dead_are_forgotten_by_cpp_tables() {
    the_dead_are_forgotten_by(TableConfig::cpp_ethereum());
}

/// The figures in the documentation of `TableConfig`: packets that a node of a quiet network sends in an hour.
#[test]
fn a_cpp_table_sends_ten_to_twenty_times_as_much() {
    let seed = sim::seed(7);
    let packets = |table: TableConfig, settling: Duration, span: Duration| {
        let mut network = joined(table, seed, Links::default(), 100);
        network.run_for(settling);
        let before = network.traffic.sent;
        network.run_for(span);
        (network.traffic.sent - before) * 3600 / span.as_secs() / 100
    };
    // A young node with the default looks around more often.
    let default = packets(TableConfig::default(), 60 * MINUTE, 60 * MINUTE);
    let cpp = packets(TableConfig::cpp_ethereum(), 5 * MINUTE, 3 * MINUTE);
    println!("packets per node and hour: {default} by default, {cpp} with cpp_ethereum");
    assert!((10..=20).contains(&(cpp / default)), "{default} and {cpp}");
}
