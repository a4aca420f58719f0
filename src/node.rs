//! A node: transport, peer policy, router, peer exchange and discovery, put together.
//!
//! [`Node`] owns them and starts and stops them in the right order; it decides nothing itself. What it adds is the join of
//! the two worlds (in `node/walk.rs`): a record that discovery found, whose pair `tm` names a Tendermint node, becomes a
//! candidate to dial; and our own record carries our `tm`.
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

mod walk;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use kadwire_discovery::{self as discovery, Discovery, DiscoveryStats, TendermintEntry};
use kadwire_wire::{
    address::{PeerAddress, PeerId},
    tendermint::node_info::NodeInfo,
    transport::{
        BindError, ChannelSpec, MemoryConfig, MemoryError, MemoryNetwork, TendermintConfig, TendermintTransport,
        Transport,
    },
};
use rand::{TryRng, rngs::SysRng};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
};
use tracing::warn;

use crate::{
    book::{self, Book, BookConfig},
    config::{ConfigError, NodeConfig},
    dial,
    nat::{Nat, Plan},
    peers::{self, PeerManager, Slots},
    pex,
    router::{self, Channel, Handle, Peer, PeerEvents, Running},
};

/// Makes a [`Node`]: its channels are opened before it starts, because their ids are part of every handshake.
pub struct NodeBuilder {
    config: NodeConfig,
    setup: router::Setup,
    pex: Option<Channel>,
    discovery: Option<discovery::Config>,
    nat: Option<Plan>,
}

impl NodeBuilder {
    /// Finds peers by discv4. The node fills in the record's `tm` pair; the rest of `config` is the caller's, who should give
    /// `advertise_ips` where the node is reached under other addresses than it listens on, or a plan to
    /// [`with_nat`](NodeBuilder::with_nat).
    pub fn with_discovery(&mut self, config: discovery::Config) -> &mut Self {
        self.discovery = Some(config);
        self
    }

    /// Finds out where others reach the node, and has the gateway map the discovery and the TCP port, as the plan says; what is
    /// learnt goes into discovery's record. Without discovery this does nothing. Goes before the configuration's `upnp`.
    pub fn with_nat(&mut self, plan: Plan) -> &mut Self {
        self.nat = Some(plan);
        self
    }

    /// Exchanges addresses with peers, on channel 0x00, unless the configuration says `pex = false`.
    pub fn with_pex(&mut self) -> &mut Self {
        if self.pex.is_none() && self.config.pex {
            self.pex = Some(self.setup.channel(pex::channel_spec()));
        }
        self
    }

    /// Opens a channel for a reactor. The id must be one that no other reactor has (0x00 is PEX's), the priority at least 1;
    /// the start fails otherwise.
    pub fn channel(&mut self, spec: ChannelSpec) -> Channel {
        self.setup.channel(spec)
    }

    /// Asks `filter` about every IP that opens a stream to us; see [`Setup::filter_by_ip`](router::Setup::filter_by_ip).
    pub fn filter_by_ip<A>(&mut self, filter: impl Fn(IpAddr) -> A + Send + Sync + 'static) -> &mut Self
    where
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.setup.filter_by_ip(filter);
        self
    }

    /// Asks `filter` about every peer that has proven its id; see [`Setup::filter_by_id`](router::Setup::filter_by_id).
    pub fn filter_by_id<A>(&mut self, filter: impl Fn(PeerId) -> A + Send + Sync + 'static) -> &mut Self
    where
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.setup.filter_by_id(filter);
        self
    }

    /// Listens on TCP, reads the address book, joins the network, and returns the running node.
    pub async fn start(self) -> Result<Node, StartError> {
        self.check()?;
        let config = &self.config;
        let transport = TendermintConfig {
            channels: self.setup.specs().to_vec(),
            listen: Some(config.laddr),
            advertise: config.external_address,
            // Peers see where we dial from, and take it for where we are: it must be where we listen.
            source: Some(config.laddr.ip()).filter(|ip| !ip.is_unspecified()),
            may_dial: if config.public_only { discovery::is_public } else { |_| true },
            mconnection: config.mconnection(),
            dial_timeout: config.dial_timeout,
            handshake_timeout: config.handshake_timeout,
            ..TendermintConfig::new(config.node_key.clone(), &config.network, &config.moniker)
        };
        let transport = TendermintTransport::bind(transport).await?;
        self.run(transport).await
    }

    /// The same in a network within this process, where the node can be dialed as `memory:<id>` and, unless its port is 0,
    /// under `laddr`, which is only a name there. (Discovery, if asked for, is real UDP all the same.)
    pub async fn start_in(self, network: &MemoryNetwork) -> Result<Node, StartError> {
        self.check()?;
        let config = &self.config;
        let node_info = NodeInfo {
            listen_addr: config.laddr.to_string(),
            ..NodeInfo::new(config.node_key.id(), &config.network, &config.moniker)
        };
        let channels = self.setup.specs().to_vec();
        let address = Some(config.laddr).filter(|laddr| laddr.port() != 0);
        let transport = network.listen(MemoryConfig { node_info, channels, address })?;
        self.run(transport).await
    }

    /// Whether a node can be what the configuration says.
    fn check(&self) -> Result<(), ConfigError> {
        self.config.validate()?;
        if self.config.seed_mode {
            return Err(ConfigError::new("seed_mode", "a node is no seed: run `kadwire seed`, or set it to false"));
        }
        if self.config.upnp && self.nat.is_none() && self.discovery.is_none() {
            return Err(ConfigError::new("upnp", "ports are mapped beside discovery only: give the node discovery"));
        }
        Ok(())
    }

    async fn run<T: Transport>(self, transport: T) -> Result<Node, StartError> {
        let NodeBuilder { config, mut setup, pex, discovery, nat: plan } = self;
        let plan = plan.unwrap_or_else(|| if config.upnp { Plan::upnp() } else { Plan::default() });
        let seed = config.random_seed.unwrap_or_else(random_seed);
        let book = load_book(&config, seed).await?;
        let bound = transport.local().socket_addr();
        let public = public(&config, bound);
        let mut nat = None;
        let discovery = match discovery {
            Some(mut discovery) => {
                let node_id = config.node_key.id();
                discovery.tendermint = public.map(|public| TendermintEntry { node_id, tcp_port: public.port() });
                let external = config.external_address.map(|address| address.ip()).filter(|ip| !ip.is_unspecified());
                discovery.advertise_ips.extend(plan.explicit_ips());
                // What the operator gave discovery itself goes before.
                let same_family = |ip: &IpAddr| external.is_some_and(|external| external.is_ipv4() == ip.is_ipv4());
                if !discovery.advertise_ips.iter().any(same_family) {
                    discovery.advertise_ips.extend(external);
                }
                let discovery = Discovery::bind(discovery).await?;
                setup.discover(walk::Walk::new(discovery.clone()));
                nat = Nat::start(&plan, discovery.clone(), bound.map(|bound| bound.port()));
                Some(discovery)
            }
            None => None,
        };
        let local = match public {
            None => PeerAddress::memory(config.node_key.id()),
            Some(public) => {
                let ip = match &discovery {
                    _ if !public.ip().is_unspecified() => public.ip(),
                    Some(discovery) => discovery.local_record().ip(),
                    None => IpAddr::V4(Ipv4Addr::LOCALHOST),
                };
                PeerAddress::from_socket(config.id(), SocketAddr::new(ip, public.port()))
                    .map_err(|error| ConfigError::new("laddr", error.to_string()))?
            }
        };
        let policy = policy(&config, local.socket_addr().into_iter().chain(bound), seed);
        let handle = setup.handle();
        let router_config = router::Config { book_file: config.addr_book_file };
        let router = setup.start(router_config, transport, PeerManager::new(policy, book));
        let pex = pex.map(|channel| {
            let (published, stats) = watch::channel(pex::Stats::default());
            Exchange { task: tokio::spawn(pex::run(channel, handle, seed, published)), stats }
        });
        Ok(Node { local, router, pex, discovery, nat })
    }
}

/// Where others reach the node, if it is reached by sockets at all. Its IP may be unspecified.
fn public(config: &NodeConfig, bound: Option<SocketAddr>) -> Option<SocketAddr> {
    let mut public = config.external_address.or(bound)?;
    if public.port() == 0 {
        public.set_port(bound?.port());
    }
    Some(public)
}

/// What the peer policy takes from the configuration.
fn policy(config: &NodeConfig, own: impl Iterator<Item = SocketAddr>, seed: u64) -> peers::Config {
    peers::Config {
        own_sockets: own.collect(),
        slots: Slots {
            inbound: config.max_num_inbound_peers,
            outbound: config.max_num_outbound_peers,
            total: config.most_connections(),
            per_ip: usize::try_from(config.max_incoming_connection_attempts).unwrap_or(usize::MAX),
            ..Slots::default()
        },
        attempts_per_ip: config.max_incoming_connection_attempts,
        allow_duplicate_ip: config.allow_duplicate_ip,
        persistent_backoff: match config.persistent_peers_max_dial_period {
            Duration::ZERO => dial::PERSISTENT_BACKOFF,
            period => period,
        },
        persistent: config.persistent_peers.clone(),
        unconditional: config.unconditional_peer_ids.iter().copied().collect(),
        seeds: config.seeds.clone(),
        netrestrict: config.netrestrict.clone(),
        public_only: config.public_only,
        seed,
        ..peers::Config::new(config.id())
    }
}

async fn load_book(config: &NodeConfig, seed: u64) -> Result<Book, StartError> {
    let private = config.private_peer_ids.iter().copied().collect();
    let book = BookConfig { strict: config.addr_book_strict, private, seed };
    let Some(file) = config.addr_book_file.clone() else { return Ok(Book::new(book)) };
    let path = file.clone();
    let loaded = spawn_blocking(move || book::file::load(&path, book, router::now().wall)).await;
    match loaded.map_err(io::Error::other).flatten() {
        Ok(loaded) => {
            if loaded.left_out > 0 {
                warn!(file = %file.display(), left_out = loaded.left_out, "addresses of the book could not be used");
            }
            Ok(loaded.book)
        }
        Err(error) => Err(StartError::Book { file, error }),
    }
}

#[expect(clippy::disallowed_methods, reason = "driver: the node's randomness starts here")]
fn random_seed() -> u64 {
    SysRng.try_next_u64().unwrap_or_else(|_| rand::random())
}

/// A running node. Dropping it ends it too, but without waiting; [`Node::stop`] waits.
#[derive(Debug)]
pub struct Node {
    local: PeerAddress,
    router: Running,
    pex: Option<Exchange>,
    discovery: Option<Discovery>,
    nat: Option<Nat>,
}

/// The running PEX reactor.
#[derive(Debug)]
struct Exchange {
    task: JoinHandle<()>,
    stats: watch::Receiver<pex::Stats>,
}

impl Node {
    /// Begins a node.
    pub fn builder(config: NodeConfig) -> NodeBuilder {
        NodeBuilder { config, setup: router::Setup::default(), pex: None, discovery: None, nat: None }
    }

    /// Who this node is to its peers.
    pub fn id(&self) -> PeerId {
        self.local.id()
    }

    /// Where this node can be dialed: the external address if one was given, otherwise where it listens. If it listens
    /// everywhere, the IP is the one discovery gives in its record, or 127.0.0.1.
    pub fn local_address(&self) -> &PeerAddress {
        &self.local
    }

    /// The discovery service, if the node has one.
    pub fn discovery(&self) -> Option<&Discovery> {
        self.discovery.as_ref()
    }

    /// The router: dial, disconnect, report.
    pub fn router(&self) -> &Handle {
        self.router.handle()
    }

    /// The connected peers, in the order of their ids.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.router.handle().peers()
    }

    /// Peers coming and going, from those already connected.
    pub fn peer_events(&self) -> PeerEvents {
        self.router.handle().peer_events()
    }

    /// All counters now.
    pub async fn stats(&self) -> NodeStats {
        let discovery = match &self.discovery {
            Some(discovery) => discovery.stats().await.ok(),
            None => None,
        };
        let pex = self.pex.as_ref().map(|pex| *pex.stats.borrow());
        NodeStats { router: self.router.handle().stats().await, pex, discovery }
    }

    /// Ends the node: nobody is accepted or dialed any more, the peers are told, reactors see their channels end, every task
    /// is over and the address book is written when this returns.
    pub async fn stop(self) {
        // Nobody is to be sent here any more.
        if let Some(nat) = self.nat {
            nat.stop().await;
        }
        self.router.stop().await;
        if let Some(pex) = self.pex {
            // It ends with its channel.
            let _ = pex.task.await;
        }
        if let Some(discovery) = self.discovery {
            discovery.close().await;
        }
    }
}

/// Counters of a node's parts.
#[derive(Debug, Clone)]
pub struct NodeStats {
    /// Router, peer policy and transport; `None` once it has ended.
    pub router: Option<router::Stats>,
    /// Peer exchange, if the node has it.
    pub pex: Option<pex::Stats>,
    /// Discovery, if the node has it.
    pub discovery: Option<DiscoveryStats>,
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
