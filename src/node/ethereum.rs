//! A node's Ethereum side: what it makes of its configuration, and its wire with what go-ethereum's `Server` can do at run time.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use kadwire_discovery::{self as discovery, Discovery, NodeRecord};
use kadwire_wire::{
    address::{PeerAddress, PeerId},
    rlpx::{self, capability},
    transport::{Endpoint, MemoryNetwork, MemoryRlpxConfig, MemoryTransport, RlpxConfig, RlpxTransport, Transport},
};

use super::{StartError, Wire, load_anchors, random_seed};
use crate::{
    anchors::Anchor,
    book::{Book, BookConfig},
    candidate::{Candidate, Source},
    config::{ConfigError, EthereumConfig},
    peers::{self, PeerManager, Role, Slots, WhyNot},
    protocol::{self, NodeJson, PeerJson, Protocol},
    router::{self, Events, Handle, Peer},
};

/// A running Ethereum wire. What it does to peers at run time is what go-ethereum's `Server` does.
#[derive(Debug)]
pub struct Ethereum {
    wire: Wire,
    /// Where it listens, if it does.
    listen: Option<Endpoint>,
    name: String,
    max_peers: usize,
    protocols: Vec<Arc<Protocol>>,
    discovery: Option<Discovery>,
}

impl Ethereum {
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Who the node is to its Ethereum peers: its public key.
    pub fn id(&self) -> PeerId {
        self.wire.id()
    }

    /// Where it can be dialed: `enode://…`. `None` if it takes no connections.
    pub fn local_address(&self) -> Option<&PeerAddress> {
        self.wire.local_address()
    }

    /// The router: dial, disconnect, report.
    pub fn router(&self) -> &Handle {
        self.wire.router()
    }

    /// The connected peers, in the order of their keys (`Peers`).
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.router().peers()
    }

    /// How many there are (`PeerCount`).
    pub fn peer_count(&self) -> usize {
        self.router().peers().len()
    }

    /// How many there may be, trusted ones apart (`MaxPeers`).
    pub fn max_peers(&self) -> usize {
        self.max_peers
    }

    /// Each peer that comes or goes from now on and, if the configuration says so, each message (`SubscribeEvents`).
    pub fn events(&self) -> Events {
        self.router().events()
    }

    /// Connects to a node and keeps it connected (`AddPeer`); says why not, if it is no node to connect to.
    pub async fn add_static(&self, node: PeerAddress) -> Result<(), WhyNot> {
        if node.id() == self.id() {
            return Err(WhyNot::SelfId);
        }
        self.router().add(Candidate::new(node, Source::Config)).await;
        Ok(())
    }

    /// Keeps a node no longer and, if it is connected, hangs up on it; it is gone when this returns (`RemovePeer`).
    pub async fn remove_static(&self, node: PeerId) {
        let router = self.router();
        router.remove_persistent(node).await;
        let mut peers = router.peer_events();
        let connected = router.peers();
        router.disconnect(node).await;
        // It may dial us again at once: that is another connection.
        let leaving: Vec<_> = connected.iter().filter(|peer| peer.id == node).collect();
        while router.peers().iter().any(|peer| leaving.iter().any(|leaving| Arc::ptr_eq(peer, leaving))) {
            if peers.next().await.is_none() {
                return;
            }
        }
    }

    /// Lets a node in whatever the limits, from now on (`AddTrustedPeer`).
    pub async fn add_trusted(&self, node: PeerId) {
        self.router().add_trusted(node).await;
    }

    /// No longer does; if it is connected, it takes a place (`RemoveTrustedPeer`).
    pub async fn remove_trusted(&self, node: PeerId) {
        self.router().remove_trusted(node).await;
    }

    /// The peers as go-ethereum's `admin_peers` shows them, in the order of their node ids (`PeersInfo`).
    pub async fn peers_info(&self) -> Vec<PeerJson> {
        let peers = self.peers();
        let roles = self.router().roles(peers.iter().map(|peer| peer.id).collect()).await.unwrap_or_default();
        let of = |(peer, role): (&Arc<Peer>, Role)| PeerJson::new(peer, self.listen, role, &self.protocols);
        let mut infos: Vec<_> = peers.iter().zip(roles).map(of).collect();
        infos.sort_by(|a, b| a.id.cmp(&b.id));
        infos
    }

    /// This node as go-ethereum's `admin_nodeInfo` shows it (`NodeInfo`).
    pub fn node_info(&self) -> NodeJson {
        let record = self.discovery.as_ref().map(Discovery::local_record);
        NodeJson::new(&self.name, self.id(), self.local_address(), self.listen, record.as_ref(), &self.protocols)
    }

    pub(super) async fn stop(self) {
        self.wire.stop().await;
    }
}

/// What an Ethereum wire is made of, before it runs.
pub(super) struct EthereumSetup<T> {
    config: EthereumConfig,
    pub(super) setup: router::Setup,
    protocols: Vec<Arc<Protocol>>,
    transport: T,
    anchors: Vec<Anchor>,
    /// The nodes that discovery begins with, as peers.
    bootnodes: Vec<PeerAddress>,
}

impl<T: Transport> EthereumSetup<T> {
    /// Reads the anchors.
    pub(super) async fn new(
        config: EthereumConfig,
        mut setup: router::Setup,
        protocols: Vec<Protocol>,
        transport: T,
    ) -> Self {
        let protocols: Vec<_> = protocols.into_iter().map(Arc::new).collect();
        let teller = config.message_events.then(|| setup.teller());
        setup.serve(protocol::serve(protocols.clone(), teller));
        let anchors = load_anchors(config.anchors_file.as_deref(), config.id()).await;
        EthereumSetup { config, setup, protocols, transport, anchors, bootnodes: Vec::new() }
    }

    /// Where it listens, if it does.
    pub(super) fn bound(&self) -> Option<SocketAddr> {
        self.transport.local().socket_addr().filter(|bound| bound.port() != 0)
    }

    /// Puts our TCP port and what the protocols say into the record, unless the operator gave discovery itself a port.
    pub(super) fn advertise(&mut self, discovery: &mut discovery::Config) {
        let bound = self.bound().map(|bound| bound.port());
        discovery.tcp_port = discovery.tcp_port.or(bound);
        self.bootnodes = discovery.bootnodes.iter().filter_map(dialable).collect();
        discovery.pairs.extend(self.protocols.iter().flat_map(|protocol| protocol.attributes().iter().cloned()));
    }

    /// Starts the router.
    pub(super) fn start(self, discovery: Option<&Discovery>) -> Result<Ethereum, ConfigError> {
        let bound = self.bound();
        let EthereumSetup { config, mut setup, protocols, transport, anchors, bootnodes } = self;
        let own = transport.local();
        let (local, listen) = match bound {
            // Within this process an id is enough to be dialed.
            None => match own {
                Endpoint::Memory(id) => (Some(PeerAddress::memory(id)), Some(own)),
                Endpoint::Socket(_) => (None, None),
            },
            Some(bound) => {
                let ip = match discovery {
                    _ if !bound.ip().is_unspecified() => bound.ip(),
                    Some(discovery) => discovery.local_record().ip(),
                    None => IpAddr::V4(Ipv4Addr::LOCALHOST),
                };
                let local = PeerAddress::from_socket(config.id(), SocketAddr::new(ip, bound.port()))
                    .map_err(|error| ConfigError::new("listen", error.to_string()))?;
                (Some(local), Some(own))
            }
        };
        let own = local.as_ref().and_then(PeerAddress::socket_addr).into_iter().chain(bound);
        let policy = peers::Config { anchors, ..policy(&config, own, bootnodes) };
        if let Some(discovery) = discovery.cloned() {
            setup.resolve(Box::new(move |peer| Box::pin(find(discovery.clone(), peer))));
        }
        // Ethereum peers do not tell of others: the book is for those that we reached.
        let book = Book::new(BookConfig { strict: false, seed: policy.seed, ..BookConfig::default() });
        let router_config = router::Config { anchors_file: config.anchors_file.clone(), ..router::Config::default() };
        let router = setup.start(router_config, transport, PeerManager::new(policy, book));
        Ok(Ethereum {
            wire: Wire { id: config.id(), local, router },
            listen,
            name: config.name,
            max_peers: config.max_peers,
            protocols,
            discovery: discovery.cloned(),
        })
    }
}

/// Where a node that discovery knows takes RLPx, if it does.
fn dialable(node: &NodeRecord) -> Option<PeerAddress> {
    PeerAddress::from_socket(PeerId::Ethereum(*node.key().as_bytes()), (node.ip(), node.tcp()).into()).ok()
}

/// Looks a node up.
async fn find(discovery: Discovery, peer: PeerId) -> Option<PeerAddress> {
    let found = discovery.lookup(peer.ethereum()?).await.ok()?;
    found.iter().filter_map(dialable).find(|address| address.id() == peer)
}

/// What the peer policy takes from the configuration.
fn policy(
    config: &EthereumConfig,
    own: impl Iterator<Item = SocketAddr>,
    bootnodes: Vec<PeerAddress>,
) -> peers::Config {
    let mut slots = Slots::ethereum(config.max_peers, config.dial_ratio);
    if config.no_dial {
        (slots.inbound, slots.outbound) = (config.max_peers, 0);
    }
    peers::Config {
        own_sockets: own.collect(),
        persistent: config.static_nodes.clone(),
        unconditional: config.trusted_nodes.iter().copied().collect(),
        seeds: if config.bootnode_fallback { bootnodes } else { Vec::new() },
        fallback: config.bootnode_fallback.then_some(peers::FALLBACK),
        netrestrict: config.netrestrict.clone(),
        public_only: config.public_only,
        seed: config.random_seed.unwrap_or_else(random_seed),
        ..peers::Config::ethereum(config.id(), slots)
    }
}

/// Whether these can be the protocols of a node.
pub(super) fn check_protocols(protocols: &[Protocol]) -> Result<(), ConfigError> {
    if protocols.is_empty() {
        return Err(ConfigError::new("protocols", "no peer is of use without one"));
    }
    capability::check_protocols(&specs(protocols)).map_err(|error| ConfigError::new("protocols", error.to_string()))
}

fn specs(protocols: &[Protocol]) -> Vec<capability::Protocol> {
    protocols.iter().map(Protocol::spec).collect()
}

/// Listens on TCP.
pub(super) async fn listen(config: &EthereumConfig, protocols: &[Protocol]) -> Result<RlpxTransport, StartError> {
    let key = rlpx::SecretKey::from_bytes(&config.key.to_bytes());
    let key = key.map_err(|error| ConfigError::new("key", error.to_string()))?;
    let transport = RlpxConfig {
        listen: config.listen,
        // Peers see where we dial from, and take it for where we are: it must be where we listen.
        source: config.listen.map(|listen| listen.ip()).filter(|ip| !ip.is_unspecified()),
        may_dial: if config.public_only { discovery::is_public } else { |_| true },
        ..RlpxConfig::new(key, &config.name, specs(protocols))
    };
    Ok(RlpxTransport::bind(transport).await?)
}

/// Joins a network within this process.
pub(super) fn join(
    network: &MemoryNetwork,
    config: &EthereumConfig,
    protocols: &[Protocol],
) -> Result<MemoryTransport, StartError> {
    let id = *config.key.public().as_bytes();
    let address = config.listen.filter(|listen| listen.port() != 0);
    let config = MemoryRlpxConfig { id, name: config.name.clone(), protocols: specs(protocols), address };
    Ok(network.listen_rlpx(config)?)
}
