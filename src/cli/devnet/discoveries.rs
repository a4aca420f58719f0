//! Discovery nodes in this process, on loopback: something to crawl without any set-up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use kadwire_discovery::{Config, Discovery, NodeRecord, SecretKey};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::exit::Failure;
use super::super::random;

/// A table that has as many others will do for a crawl; tables go on filling meanwhile.
const ENOUGH: usize = 16;

/// The longest wait for tables.
const SETTLE: Duration = Duration::from_secs(20);

/// Between two starts: the first lookups of a node cost some 20 ms.
const PACE: Duration = Duration::from_millis(15);

/// Between two looks at the tables.
const LOOK: Duration = Duration::from_millis(50);

/// Checks a second of all nodes together, about: each costs half a millisecond, and what is left must do for the rest.
const CHECKS: u32 = 200;

/// The longest pause between two checks of one node. Others are told of a node only when it has passed one; real nodes make one in some
/// seconds, which a small network need not wait for.
pub(super) fn check_pause(count: u16) -> Duration {
    Duration::from_secs(2) * u32::from(count) / CHECKS
}

pub(crate) struct Discoveries(Vec<Discovery>);

impl Discoveries {
    /// Starts `count` nodes; the first is the bootnode of the others.
    pub(crate) async fn start(count: u16) -> Result<Self, Failure> {
        let mut nodes = Vec::new();
        let mut bootnodes = Vec::new();
        for number in 0..count {
            let key = SecretKey::random(&mut random::generator());
            let mut config = Config::new(key, SocketAddr::new(loopback(number), 0));
            config.bootnodes.clone_from(&bootnodes);
            config.table.fast_check = check_pause(count);
            config.table.check_not_within = check_pause(count);
            config.workers = Some(1);
            let node = Discovery::bind(config).await.map_err(|error| Failure::of("--devnet", error))?;
            if bootnodes.is_empty() {
                bootnodes.push(node.local_record());
            }
            nodes.push(node);
            sleep(PACE).await;
        }
        Ok(Discoveries(nodes))
    }

    /// The node that all others began with.
    pub(crate) fn bootnode(&self) -> Option<NodeRecord> {
        self.0.first().map(Discovery::local_record)
    }

    /// Waits until every table has enough nodes, but not for ever.
    pub(crate) async fn settled(&self) {
        let wanted = ENOUGH.min(self.0.len().saturating_sub(1));
        let deadline = Instant::now() + SETTLE;
        for node in &self.0 {
            while Instant::now() < deadline && node.nodes().await.is_ok_and(|table| table.len() < wanted) {
                sleep(LOOK).await;
            }
        }
    }

    pub(crate) async fn close(self) {
        let mut closing: JoinSet<()> = self.0.into_iter().map(|node| async move { node.close().await }).collect();
        while closing.join_next().await.is_some() {}
    }
}

/// Each in a /16 of its own as long as there are any: address books and tables count by network.
pub(super) fn loopback(number: u16) -> IpAddr {
    let [high, low] = (number / 250).to_be_bytes();
    Ipv4Addr::new(127, 1 + (number % 250) as u8, high, 1 + low).into()
}
