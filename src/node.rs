//! A node: its wires, each with a transport, a peer policy and a router; peer exchange; and discovery, put together.
//!
//! [`Node`] owns them and starts and stops them in the right order; it decides nothing itself. A node speaks Tendermint's wire
//! (MConnection, with channels), Ethereum's (RLPx, with protocols), or both, as two sets of peers that know nothing of each other. What
//! it adds is the join of the worlds (in `node/walk.rs`): a record that discovery found becomes a candidate of the wire that it names, by
//! the pair `tm` or a TCP port; and our own record carries ours.
//!
//! ```text
//!   discovery ── walk ─┬─ candidates ─> router + PeerManager (Tendermint) ── channels ─── reactors, PEX
//!                      └─ candidates ─> router + PeerManager (Ethereum) ──── protocols ── a handler per peer
//! ```
//!
//! ```no_run
//! use bytes::Bytes;
//! use kadwire::{config::NodeConfig, node::Node, router::To};
//! use kadwire_discovery::{self as discovery, SecretKey};
//! use kadwire_wire::{tendermint::key::NodeKey, transport::ChannelSpec};
//!
//! # async fn run(bootnode: discovery::NodeRecord, key: SecretKey) -> Result<(), Box<dyn std::error::Error>> {
//! let mut discovery = discovery::Config::new(key, "0.0.0.0:30303".parse()?);
//! discovery.bootnodes.push(bootnode);
//!
//! let mut builder = Node::builder(NodeConfig::new(NodeKey::load("node_key.json")?, "my-chain"));
//! builder.with_discovery(discovery).with_pex();
//! let mut gossip = builder.channel(ChannelSpec { max_message_size: 1 << 16, ..ChannelSpec::new(0x30) });
//! let node = builder.start().await?;
//!
//! gossip.send(To::All, Bytes::from_static(b"hello")).await?;
//! while let Some(envelope) = gossip.recv().await {
//!     println!("{} says {:?}", envelope.from, envelope.message);
//! }
//! node.stop().await;
//! # Ok(())
//! # }
//! ```

mod builder;
mod ethereum;
mod tendermint;
mod walk;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use kadwire_discovery::{self as discovery, Discovery, DiscoveryStats};
use kadwire_wire::{
    address::{PeerAddress, PeerId},
    transport::{BindError, MemoryError},
};
use rand::{TryRng, rngs::SysRng};
use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
};
use tracing::warn;

pub use builder::NodeBuilder;
pub use ethereum::Ethereum;
pub use walk::WalkStats;

use tendermint::Exchange;

use crate::{
    anchors::{self, Anchor},
    config::{ConfigError, EthereumConfig, NodeConfig},
    nat::Nat,
    pex,
    router::{self, Handle, Peer, PeerEvents, Running},
};

#[expect(clippy::disallowed_methods, reason = "driver: the node's randomness starts here")]
fn random_seed() -> u64 {
    SysRng.try_next_u64().unwrap_or_else(|_| rand::random())
}

/// The peers to dial first. A node starts without them if it must.
async fn load_anchors(file: Option<&Path>, own: PeerId) -> Vec<Anchor> {
    let Some(file) = file.map(Path::to_owned) else { return Vec::new() };
    let path = file.clone();
    let loaded = spawn_blocking(move || anchors::file::load(&path, &own, router::now().wall)).await;
    match loaded.map_err(io::Error::other).flatten() {
        Ok(loaded) => loaded.anchors,
        Err(error) => {
            warn!(file = %file.display(), %error, "cannot read the anchors");
            Vec::new()
        }
    }
}

/// A running node. Dropping it ends it too, but without waiting; [`Node::stop`] waits.
#[derive(Debug)]
pub struct Node {
    // At least one of the two wires is there.
    tendermint: Option<Wire>,
    pex: Option<Exchange>,
    ethereum: Option<Ethereum>,
    discovery: Option<Discovery>,
    walking: JoinSet<()>,
    walked: watch::Receiver<WalkStats>,
    nat: Option<Nat>,
}

/// One of a node's wires: who it is there, and its router.
#[derive(Debug)]
pub struct Wire {
    id: PeerId,
    local: Option<PeerAddress>,
    router: Running,
}

impl Wire {
    /// Who the node is to its peers on this wire.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Where the node can be dialed on this wire: the external address if one was given, otherwise where it listens. If it listens
    /// everywhere, the IP is the one discovery gives in its record, or 127.0.0.1. `None` if it takes no connections.
    pub fn local_address(&self) -> Option<&PeerAddress> {
        self.local.as_ref()
    }

    /// The router: dial, disconnect, report.
    pub fn router(&self) -> &Handle {
        self.router.handle()
    }

    async fn stop(self) {
        self.router.stop().await;
    }
}

impl Node {
    /// Begins a node that speaks Tendermint's wire.
    pub fn builder(config: NodeConfig) -> NodeBuilder {
        NodeBuilder::new(Some(config), None)
    }

    /// Begins a node that speaks Ethereum's wire, and not Tendermint's.
    pub fn ethereum_builder(config: EthereumConfig) -> NodeBuilder {
        NodeBuilder::new(None, Some(config))
    }

    /// Its Tendermint wire, if it speaks that.
    pub fn tendermint(&self) -> Option<&Wire> {
        self.tendermint.as_ref()
    }

    /// Its Ethereum wire, if it speaks that.
    pub fn ethereum(&self) -> Option<&Ethereum> {
        self.ethereum.as_ref()
    }

    /// The first wire: Tendermint's, if it speaks that.
    fn wire(&self) -> &Wire {
        match (&self.tendermint, &self.ethereum) {
            (Some(wire), _) => wire,
            (None, Some(ethereum)) => ethereum.wire(),
            (None, None) => unreachable!("a builder has one wire at least"),
        }
    }

    /// Who this node is to its peers: to Tendermint's, if it speaks that wire, else to Ethereum's. Likewise for what follows.
    pub fn id(&self) -> PeerId {
        self.wire().id()
    }

    /// Where this node can be dialed; see [`Wire::local_address`].
    pub fn local_address(&self) -> Option<&PeerAddress> {
        self.wire().local_address()
    }

    /// The discovery service, if the node has one.
    pub fn discovery(&self) -> Option<&Discovery> {
        self.discovery.as_ref()
    }

    /// The router: dial, disconnect, report.
    pub fn router(&self) -> &Handle {
        self.wire().router()
    }

    /// The connected peers, in the order of their ids.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.router().peers()
    }

    /// Peers coming and going, from those already connected.
    pub fn peer_events(&self) -> PeerEvents {
        self.router().peer_events()
    }

    /// What discovery's walk brings: the latest counters.
    pub(crate) fn walked(&self) -> watch::Receiver<WalkStats> {
        self.walked.clone()
    }

    /// All counters now.
    pub async fn stats(&self) -> NodeStats {
        let discovery = match &self.discovery {
            Some(discovery) => discovery.stats().await.ok(),
            None => None,
        };
        let router = match &self.tendermint {
            Some(wire) => wire.router().stats().await,
            None => None,
        };
        let ethereum = match &self.ethereum {
            Some(ethereum) => ethereum.router().stats().await,
            None => None,
        };
        let pex = self.pex.as_ref().map(|pex| *pex.stats.borrow());
        let walk = self.discovery.as_ref().map(|_| *self.walked.borrow());
        NodeStats { router, ethereum, pex, discovery, walk }
    }

    /// Ends the node: nobody is accepted or dialed any more, the peers are told, reactors see their channels end and handlers their
    /// streams, every task is over and the address book is written when this returns.
    pub async fn stop(mut self) {
        // Nobody is to be sent here any more.
        if let Some(nat) = self.nat {
            nat.stop().await;
        }
        self.walking.shutdown().await;
        let tendermint = async {
            if let Some(wire) = self.tendermint {
                wire.stop().await;
            }
            if let Some(pex) = self.pex {
                // It ends with its channel.
                let _ = pex.task.await;
            }
        };
        let ethereum = async {
            if let Some(ethereum) = self.ethereum {
                ethereum.stop().await;
            }
        };
        tokio::join!(tendermint, ethereum);
        if let Some(discovery) = self.discovery {
            discovery.close().await;
        }
    }
}

/// Counters of a node's parts.
#[derive(Debug, Clone)]
pub struct NodeStats {
    /// Router, peer policy and transport of Tendermint's wire; `None` without it, and once it has ended.
    pub router: Option<router::Stats>,
    /// The same of Ethereum's.
    pub ethereum: Option<router::Stats>,
    /// Peer exchange, if the node has it.
    pub pex: Option<pex::Stats>,
    /// Discovery, if the node has it.
    pub discovery: Option<DiscoveryStats>,
    /// What discovery's walk brought, if the node has it.
    pub walk: Option<WalkStats>,
}

/// Why a node did not start. The fault is always on this side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A value of the configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Cannot listen on TCP, or the channels do not fit together.
    #[error(transparent)]
    Transport(#[from] BindError),
    /// Cannot join the network within this process.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Discovery did not start.
    #[error(transparent)]
    Discovery(#[from] discovery::BindError),
    /// The address book is there but cannot be opened. (One that cannot be understood is set aside instead.)
    #[error("addr_book_file: {}: {error}", file.display())]
    Book {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}
