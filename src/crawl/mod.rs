//! Crawlers: walk a network to its end, and keep who told us of whom.
//!
//! Each crawl is a machine that decides whom to ask what and when it is over (nothing new, nothing in flight), and a thin driver that asks:
//! [`discv4`] asks every Ethereum node for every useful bucket of its table, [`tendermint`] asks every PEX peer for its addresses.
//! Both fill a [`topology::Topology`] of bounded size, which [`output`] writes as `nodes.ndjson`, `edges.ndjson` and `crawl.json`.

use std::time::{Duration, SystemTime};

use kadwire_discovery::Now;

use self::output::{Describe, Summary};
use self::topology::Topology;

pub mod discv4;
pub mod output;
pub mod tendermint;
pub mod topology;

/// What every crawl needs to be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Nodes visited at the same time.
    pub parallel: usize,
    /// How often a question is put before it counts as unanswered.
    pub attempts: u32,
    /// Wait before a question is put again; twice as long before the third time, and so on.
    pub retry_after: Duration,
    /// Bounds of the result.
    pub limits: topology::Limits,
}

impl Default for Config {
    /// 256 at a time hides a round trip of 100 ms at 2,000 questions a second; three attempts let one node in a thousand slip at 10 % loss.
    fn default() -> Self {
        Config {
            parallel: 256,
            attempts: 3,
            retry_after: Duration::from_millis(300),
            limits: topology::Limits::default(),
        }
    }
}

/// How far a crawl is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Nodes learned of.
    pub found: usize,
    /// Those that answered.
    pub reachable: usize,
    /// Edges learned.
    pub edges: usize,
    /// Nodes not yet visited, and those to be visited again.
    pub waiting: usize,
    /// Nodes being visited.
    pub in_flight: usize,
    /// Questions put.
    pub asked: u64,
    /// Answers received.
    pub answered: u64,
}

/// The result of a crawl.
#[derive(Debug)]
pub struct Crawled<V: topology::Vertex> {
    /// Nodes and edges.
    pub topology: Topology<V>,
    /// What to say of it in a few numbers.
    pub summary: Summary,
}

impl<V: Describe> Crawled<V> {
    fn new(topology: Topology<V>, progress: Progress, started: Now, ended: bool) -> Self {
        let took = Now::read().monotonic.saturating_duration_since(started.monotonic);
        let started: SystemTime = started.wall;
        Crawled { summary: Summary::new(&topology, progress, started, took, ended), topology }
    }
}
