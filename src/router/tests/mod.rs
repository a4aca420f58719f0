//! Routers on a memory network and a paused clock: they run as fast as they can, and waiting costs nothing.

mod checkpoint;
mod churn;
mod discovery;
mod messages;
mod reconnect;
mod refused;
mod shutdown;
mod slow;
mod upgrade;
mod vanished;

use std::net::SocketAddr;

use bytes::Bytes;
use kadwire_wire::{
    address::{PeerAddress, PeerId},
    tendermint::node_info::NodeInfo,
    transport::{Direction, MemoryConfig, MemoryNetwork, MemoryTransport},
};
use tokio::time::{Duration, sleep, timeout};

use self::discovery::Wanted;
use super::*;
use crate::{
    book::{Book, BookConfig},
    candidate::Source,
    peers::{self, Report, Slots, WhyNot},
};

const GOSSIP: u8 = 0x30;
const OTHER: u8 = 0x31;

/// How much virtual time a test gives its world to settle.
const SOON: Duration = Duration::from_millis(100);

#[derive(Clone, Default)]
struct World {
    network: MemoryNetwork,
}

/// A router with two channels whose reactor is the test.
struct Node {
    router: Running,
    gossip: Channel,
    other: Channel,
}

/// What a test changes about a node.
struct Change {
    network: &'static str,
    persistent: Vec<u8>,
    config: Config,
    policy: fn(&mut peers::Config),
    setup: fn(&mut Setup),
    source: Option<Wanted>,
}

impl Default for Change {
    fn default() -> Self {
        Self {
            network: "test",
            persistent: vec![],
            config: Config::default(),
            policy: |_| {},
            setup: |_| {},
            source: None,
        }
    }
}

fn id(n: u8) -> PeerId {
    PeerId::Tendermint([n; 20])
}

fn address(n: u8) -> PeerAddress {
    PeerAddress::from_socket(id(n), socket(n)).unwrap()
}

fn socket(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, n, 1], 26656))
}

impl World {
    fn node(&self, n: u8, change: Change) -> Node {
        let mut setup = Setup::default();
        let spec = |id| ChannelSpec { send_queue: 4, max_message_size: 1000, ..ChannelSpec::new(id) };
        let (gossip, other) = (setup.channel(spec(GOSSIP)), setup.channel(spec(OTHER)));
        (change.setup)(&mut setup);
        if let Some(source) = change.source {
            setup.discover(source);
        }
        let node_info = NodeInfo::new([n; 20], change.network, format!("node {n}"));
        let config = MemoryConfig { node_info, channels: setup.specs().to_vec(), address: Some(socket(n)) };
        let transport = self.network.listen(config).unwrap();
        let mut policy = peers::Config {
            persistent: change.persistent.into_iter().map(address).collect(),
            seed: n.into(),
            ..peers::Config::new(id(n))
        };
        (change.policy)(&mut policy);
        let book = Book::new(BookConfig { strict: false, ..BookConfig::default() });
        let router = setup.start(change.config, transport, PeerManager::new(policy, book));
        Node { router, gossip, other }
    }

    /// Only the transport of a node.
    fn transport(&self, n: u8) -> MemoryTransport {
        let node_info = NodeInfo::new([n; 20], "test", format!("node {n}"));
        let config = MemoryConfig { node_info, channels: vec![ChannelSpec::new(GOSSIP)], address: Some(socket(n)) };
        self.network.listen(config).unwrap()
    }

    /// A node that dials these at once.
    fn dialing(&self, n: u8, persistent: impl Into<Vec<u8>>) -> Node {
        self.node(n, Change { persistent: persistent.into(), ..Change::default() })
    }
}

impl Node {
    fn peers(&self) -> Vec<PeerId> {
        self.router.handle().peers().iter().map(|peer| peer.id).collect()
    }

    async fn stats(&self) -> Stats {
        self.router.handle().stats().await.unwrap()
    }
}

/// What comes soon, if anything does.
async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
    timeout(SOON, future).await.ok()
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn from(n: u8, message: &'static str) -> Option<Envelope> {
    Some(Envelope { from: id(n), message: text(message) })
}
