//! A network that never comes to rest: one packet in five is lost, three nodes in ten are replaced every hour, and still
//! lookups find the true closest live nodes and tables hold few dead ones.
//!
//! The constants are a size for every test run. `tests/soak/run` makes the long runs through `SOAK_NODES`, `SOAK_HOURS`
//! and `SOAK_LOOKUPS`; `SIM_SEED` replays one.

mod sim;

use std::time::Duration;

use kadwire_discovery::discv4::message::Kind;
use sim::{Churn, Links, LookupReport, Network};

/// Share of packets lost in each direction.
const LOSS: f64 = 0.2;

/// Share of the nodes replaced every hour.
const CHURN: f64 = 0.3;

/// Nodes that stay, and that others join through.
const BOOTNODES: usize = 3;

/// Per cent of lookups that must find the closest live node, and of the sixteen closest that must be found.
const SUCCESS: f64 = 99.0;

/// Per cent of a table that may be dead.
const DEAD: f64 = 5.0;

const MINUTE: Duration = Duration::from_secs(60);

/// From one sample of the tables to the next; the lookups are spread over it.
const SAMPLE: Duration = Duration::from_secs(5 * 60);

/// A number from the environment, for the long runs.
fn size(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn percent(part: usize, whole: usize) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// A network that has come together, as its churn begins. At most a thousand nodes join in a minute.
fn churning(seed: u64, nodes: usize) -> Network {
    let joining = MINUTE * (nodes.div_ceil(1000) as u32);
    let mut network = Network::joined_through(seed, Links::lossy(LOSS), nodes, BOOTNODES, joining);
    network.run_for(5 * MINUTE);
    network.churn = Some(Churn::new(network.elapsed(), CHURN, (0..BOOTNODES).collect()));
    network
}

/// The same seed gives the same packets at the same times, and the same nodes leave.
#[test]
fn a_run_with_churn_follows_from_its_seed() {
    let run = |seed| {
        let mut network = churning(seed, 40);
        network.run_for(20 * MINUTE);
        (network.trace(), network.traffic, network.churn.map(|churn| churn.replaced))
    };
    let seed = sim::seed(8);
    let first = run(seed);
    assert_eq!(run(seed), first);
    assert_ne!(run(seed + 1).0, first.0);
}

#[test]
fn a_network_under_loss_and_churn_finds_its_living_and_forgets_its_dead() {
    let (nodes, hours, lookups) = (size("SOAK_NODES", 150), size("SOAK_HOURS", 1), size("SOAK_LOOKUPS", 100));
    let seed = sim::seed(7);
    let mut network = churning(seed, nodes);
    let begun = network.elapsed();
    let end = begun + hours as u32 * 60 * MINUTE;
    let before = network.traffic;
    let samples = hours * 12;
    let mut report = LookupReport::default();
    let (mut dead, mut tables) = (Vec::new(), (0, 0));
    for sample in 1..=samples {
        let until = begun + SAMPLE * sample as u32;
        let due = lookups * sample / samples;
        while report.lookups < due {
            let left = (due - report.lookups) as u32;
            network.run_for(until.saturating_sub(network.elapsed()) / (left + 1));
            report.add(network.measure_lookups(1));
        }
        network.run_for(until.saturating_sub(network.elapsed()));
        let sampled = network.measure_dead();
        tables = (tables.0 + sampled.dead, tables.1 + sampled.entries);
        dead.push(sampled.mean_share);
        if sample % 12 == 0 {
            let (hour, found) = (sample / 12, percent(report.found, report.wanted));
            println!("after {hour} h: {:.2} % dead, {found:.2} % found so far", sampled.mean_share * 100.0);
        }
    }
    let span = network.elapsed() - begun;
    assert!(span >= end - begun);

    let on = network.on().len();
    let hourly = |sent: u64| sent as f64 / on as f64 / (span.as_secs_f64() / 3600.0);
    let kinds = Kind::ALL.iter().zip(network.traffic.sent_by_kind.iter().zip(before.sent_by_kind));
    let kinds: Vec<_> = kinds.map(|(kind, (now, before))| format!("{kind} {:.0}", hourly(now - before))).collect();
    let sent = hourly(network.traffic.sent - before.sent);
    let replaced = network.churn.as_ref().map_or(0, |churn| churn.replaced);
    let mean_dead = dead.iter().sum::<f64>() / dead.len() as f64 * 100.0;
    let worst_dead = dead.iter().copied().fold(0.0, f64::max) * 100.0;
    println!(
        "{nodes} nodes, {:.1} virtual hours, {:.0} % loss, {:.0} % churn an hour: {replaced} replaced, {on} on at the end",
        span.as_secs_f64() / 3600.0,
        LOSS * 100.0,
        CHURN * 100.0
    );
    println!(
        "lookups: {}; closest found {:.2} %, of the true closest 16 found {:.2} %, all 16 exact {:.2} %, median {:.1?}",
        report.lookups,
        percent(report.closest, report.lookups),
        percent(report.found, report.wanted),
        percent(report.exact, report.lookups),
        report.median_time(),
    );
    println!(
        "returned: {} nodes, {} of them dead ({:.2} %)",
        report.returned,
        report.dead,
        percent(report.dead, report.returned)
    );
    println!(
        "tables: {:.1} entries; dead {:.2} % (mean of tables and of {} samples), worst sample {:.2} %",
        tables.1 as f64 / (on * dead.len()) as f64,
        mean_dead,
        dead.len(),
        worst_dead
    );
    println!("packets: {sent:.0} per node and virtual hour ({})", kinds.join(", "));
    println!("{:?}; trace {:016x}", network.traffic, network.trace());

    assert!(percent(report.closest, report.lookups) >= SUCCESS, "seed {seed}: the closest node is missed");
    assert!(percent(report.found, report.wanted) >= SUCCESS, "seed {seed}: close nodes are missed");
    assert!(mean_dead <= DEAD, "seed {seed}: {:.2} % of a table is dead", mean_dead);
}
