//! 100,000 identities prove themselves to one node, all that it admits in a minute: its memory and its time for a packet
//! stay what they were.
//!
//! The memory is that of the process, so this test has one to itself.

mod sim;

use std::time::Duration;

use sim::adversary::{Adversary, Means};
use sim::{Links, Network};

const SECOND: Duration = Duration::from_secs(1);

/// Identities, each with an endpoint of its own.
const IDENTITIES: u32 = 100_000;

/// What the memory of the process may grow by (threats: RSS + 16 MiB at most), KiB.
const MAX_GROWTH: u64 = 16 * 1024;

/// Processor time of this thread so far, in hundredths of a second; `None` where the system does not tell.
fn processor_time() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
    // Fields 14 and 15; the second, a name in brackets, may hold anything.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Resident memory of this process, KiB; `None` where the system does not tell.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

#[test]
fn a_hundred_thousand_proven_identities_cost_neither_memory_nor_time() {
    let mut network = Network::new(sim::seed(1), Links::default());
    let node = network.add();
    network.switch_on(node, |_| {});
    let means = Means { networks: 16, hosts: 250, identities: IDENTITIES, pings: 2000 };
    let mut attacker = Adversary::new(&mut network, 1, means);
    attacker.victim = Some(node);
    // The first 4,096 come at once; what the simulator needs for that is not the node's.
    attacker.run_for(&mut network, 5 * SECOND);
    let before = resident();
    let mut costs = Vec::new();
    for _ in 0..10 {
        let (begun, delivered) = (processor_time(), network.traffic.delivered);
        attacker.run_for(&mut network, 5 * SECOND);
        let packets = network.traffic.delivered - delivered;
        costs.extend(processor_time().zip(begun).map(|(now, begun)| (now - begun) * 10_000 / packets));
    }
    let growth = resident().zip(before).map(|(after, before)| after.saturating_sub(before));
    let machine = network.nodes[node].machine();
    println!(
        "{} bonds, {} in the table; {growth:?} KiB more; us for a packet, simulator included: {costs:?}",
        machine.bonds(),
        machine.table().len(),
    );
    assert!(attacker.pinged() > u64::from(IDENTITIES), "all of them have pinged");
    assert!(machine.bonds() <= 16 * 2048);
    assert!(growth.is_none_or(|growth| growth <= MAX_GROWTH), "{growth:?} KiB");
    let (first, last) = costs.split_at(costs.len() / 2);
    assert!(last.iter().sum::<u64>() <= 2 * first.iter().sum::<u64>(), "{costs:?}");
}
