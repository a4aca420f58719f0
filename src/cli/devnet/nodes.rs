//! Whole nodes in this process, on loopback, that know one bootnode and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use kadwire::config::NodeConfig;
use kadwire::node::Node;
use kadwire_discovery::{Config, Discovery, NodeRecord, SecretKey};
use kadwire_wire::PeerAddress;
use kadwire_wire::PeerId;
use kadwire_wire::tendermint::key::NodeKey;
use kadwire_wire::transport::Direction;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::exit::Failure;
use super::super::random;
use super::discoveries::{check_pause, loopback};

/// The chain of the nodes.
pub(crate) const CHAIN: &str = "kadwire-devnet";

/// Between two looks at the peers.
const LOOK: Duration = Duration::from_millis(20);

/// Nodes that may look for peers at the same time, and how long the next one waits at most until they have found some.
const LOOKING: usize = 16;
const START_PATIENCE: Duration = Duration::from_millis(500);

pub(crate) struct Nodes(Vec<Node>);

/// Who is connected with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connections {
    /// Connections in all.
    pub(crate) all: usize,
    /// Peers of the node with the fewest.
    pub(crate) fewest: usize,
    /// Peers of the node with the most.
    pub(crate) most: usize,
    /// Whether everybody can be reached from everybody over connections.
    pub(crate) is_one_network: bool,
}

impl Nodes {
    /// Starts `count` nodes; the first is the bootnode of the others. Not all at once: a node that looks for peers costs a hundred times
    /// what one costs that has them, and this machine runs them all.
    pub(crate) async fn start(count: u16) -> Result<Self, Failure> {
        let mut nodes = Nodes(Vec::new());
        for number in 0..count {
            let patience = Instant::now() + START_PATIENCE;
            while nodes.looking() >= LOOKING && Instant::now() < patience {
                sleep(LOOK).await;
            }
            let bootnodes = nodes.bootnode().into_iter().collect();
            let node = start_one(number, count, bootnodes).await?;
            nodes.0.push(node);
        }
        Ok(nodes)
    }

    /// Nodes that have not dialed all they want.
    fn looking(&self) -> usize {
        let outbound = |node: &Node| node.peers().iter().filter(|peer| peer.direction == Direction::Outbound).count();
        self.0.iter().filter(|node| outbound(node) < OUTBOUND).count()
    }

    /// The discovery side of the first node.
    pub(crate) fn bootnode(&self) -> Option<NodeRecord> {
        self.0.first().and_then(Node::discovery).map(Discovery::local_record)
    }

    /// The Tendermint side of the first node.
    pub(crate) fn first_peer(&self) -> Option<PeerAddress> {
        self.0.first().and_then(Node::local_address).cloned()
    }

    pub(crate) fn connections(&self) -> Connections {
        let peers: BTreeMap<PeerId, BTreeSet<PeerId>> =
            self.0.iter().map(|node| (node.id(), node.peers().iter().map(|peer| peer.id).collect())).collect();
        let counts: Vec<usize> = peers.values().map(BTreeSet::len).collect();
        Connections {
            all: counts.iter().sum::<usize>() / 2,
            fewest: counts.iter().copied().min().unwrap_or(0),
            most: counts.iter().copied().max().unwrap_or(0),
            is_one_network: reached(&peers) == peers.len(),
        }
    }

    /// Waits until everybody has peers and all are one network, but not for ever.
    pub(crate) async fn connected(&self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        let wanted = self.0.len().saturating_sub(1).min(OUTBOUND);
        while Instant::now() < deadline {
            let connections = self.connections();
            if connections.is_one_network && connections.fewest >= wanted {
                break;
            }
            sleep(LOOK).await;
        }
    }

    pub(crate) async fn stop(self) {
        let mut stopping: JoinSet<()> = self.0.into_iter().map(Node::stop).collect();
        while stopping.join_next().await.is_some() {}
    }
}

/// Peers that each node dials, of which it may get fewer where all places are taken. Ten, the default, keep a node looking for more in a
/// network that may have no more.
const OUTBOUND: usize = 4;

async fn start_one(number: u16, count: u16, bootnodes: Vec<NodeRecord>) -> Result<Node, Failure> {
    let listen = SocketAddr::new(loopback(number), 0);
    let mut discovery = Config::new(SecretKey::random(&mut random::generator()), listen);
    discovery.bootnodes = bootnodes;
    discovery.table.fast_check = check_pause(count);
    discovery.table.check_not_within = check_pause(count);
    discovery.workers = Some(1);
    let mut config = NodeConfig::new(NodeKey::generate(&mut random::generator()), CHAIN);
    config.moniker = format!("node{number}");
    config.laddr = listen;
    config.addr_book_strict = false;
    config.allow_duplicate_ip = true;
    config.max_num_outbound_peers = OUTBOUND;
    let mut builder = Node::builder(config);
    builder.with_discovery(discovery).with_pex();
    builder.start().await.map_err(|error| Failure::of("devnet", error))
}

/// How many can be reached from the first over connections.
fn reached(peers: &BTreeMap<PeerId, BTreeSet<PeerId>>) -> usize {
    let mut reached = BTreeSet::new();
    let mut next: Vec<PeerId> = peers.keys().take(1).copied().collect();
    while let Some(id) = next.pop() {
        if let Some(peers) = peers.get(&id)
            && reached.insert(id)
        {
            next.extend(peers);
        }
    }
    reached.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_islands_are_not_one_network() {
        let id = |number: u8| PeerId::Tendermint([number; 20]);
        let graph = |edges: &[(u8, u8)]| {
            let mut peers: BTreeMap<_, BTreeSet<_>> = (1..=4).map(|number| (id(number), BTreeSet::new())).collect();
            for &(a, b) in edges {
                peers.get_mut(&id(a)).unwrap().insert(id(b));
                peers.get_mut(&id(b)).unwrap().insert(id(a));
            }
            peers
        };
        assert_eq!(reached(&graph(&[(1, 2), (3, 4)])), 2);
        assert_eq!(reached(&graph(&[(1, 2), (3, 4), (2, 3)])), 4);
        // A peer outside the network (a crawler, say) connects nobody.
        let mut visited = graph(&[(1, 2), (3, 4)]);
        visited.get_mut(&id(1)).unwrap().insert(id(9));
        visited.get_mut(&id(3)).unwrap().insert(id(9));
        assert_eq!(reached(&visited), 2);
    }
}
