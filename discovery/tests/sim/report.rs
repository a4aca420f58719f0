//! What is measured against global knowledge: how well lookups find what is there, and how many dead nodes are in tables.

use std::collections::HashSet;
use std::time::Duration;

use kadwire_discovery::NodeId;
use rand::RngExt;

use super::Network;

/// The outcome of many lookups.
#[derive(Debug, Default)]
pub struct LookupReport {
    pub lookups: usize,
    /// Lookups that found exactly the true closest nodes.
    pub exact: usize,
    /// Lookups whose first node is the true closest.
    pub closest: usize,
    /// True closest nodes found, and how many there were to find.
    pub found: usize,
    pub wanted: usize,
    /// Nodes in results, and how many of them are off when the lookup ends.
    pub returned: usize,
    pub dead: usize,
    pub times: Vec<Duration>,
}

impl LookupReport {
    pub fn median_time(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    /// Adds what another report says.
    pub fn add(&mut self, other: LookupReport) {
        self.lookups += other.lookups;
        self.exact += other.exact;
        self.closest += other.closest;
        self.found += other.found;
        self.wanted += other.wanted;
        self.returned += other.returned;
        self.dead += other.dead;
        self.times.extend(other.times);
    }
}

/// Nodes in tables that are off.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadReport {
    pub entries: usize,
    pub dead: usize,
    /// Mean over the tables of the share of their entries.
    pub mean_share: f64,
}

impl Network {
    /// `count` lookups of random targets from random nodes, one after the other. One whose asker leaves meanwhile is made
    /// again by another.
    pub fn measure_lookups(&mut self, count: usize) -> LookupReport {
        let mut report = LookupReport::default();
        while report.lookups < count {
            let on = self.on();
            let asker = on[self.rng.random_range(0..on.len())];
            let target = self.random_target();
            let Some((found, time)) = self.try_lookup(asker, target) else { continue };
            let truth = self.closest(&NodeId::of_target(&target), 16, asker);
            let on: HashSet<_> = self.on().into_iter().map(|index| self.nodes[index].id).collect();
            report.lookups += 1;
            report.exact += usize::from(found == truth);
            report.closest += usize::from(found.first() == truth.first());
            report.found += truth.iter().filter(|id| found.contains(id)).count();
            report.wanted += truth.len();
            report.returned += found.len();
            report.dead += found.iter().filter(|id| !on.contains(id)).count();
            report.times.push(time);
        }
        report
    }

    /// Counts the dead in all tables of nodes that are on.
    pub fn measure_dead(&self) -> DeadReport {
        let on = self.on();
        let alive: HashSet<_> = on.iter().map(|index| self.nodes[*index].id).collect();
        let mut report = DeadReport::default();
        let (mut shares, mut tables) = (0.0, 0_usize);
        for table in on.iter().filter_map(|index| Some(self.nodes[*index].machine.as_ref()?.table())) {
            let dead = table.entries().filter(|entry| !alive.contains(&entry.record().id())).count();
            report.dead += dead;
            report.entries += table.len();
            if !table.is_empty() {
                shares += dead as f64 / table.len() as f64;
                tables += 1;
            }
        }
        report.mean_share = shares / tables.max(1) as f64;
        report
    }
}
