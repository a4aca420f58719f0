//! A node's Tendermint side: what it makes of its configuration, and its wire with peer exchange.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use kadwire_discovery::{self as discovery, Discovery, TendermintEntry};
use kadwire_wire::{
    address::PeerAddress,
    tendermint::node_info::NodeInfo,
    transport::{MemoryConfig, MemoryNetwork, MemoryTransport, TendermintConfig, TendermintTransport, Transport},
};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
};
use tracing::warn;

use super::{StartError, Wire, load_anchors, random_seed};
use crate::{
    anchors::Anchor,
    book::{self, Book, BookConfig},
    config::{ConfigError, NodeConfig},
    dial,
    peers::{self, PeerManager, Slots},
    pex,
    router::{self, Channel},
};

/// What a Tendermint wire is made of, before it runs.
pub(super) struct Tendermint<T> {
    pub(super) config: NodeConfig,
    pub(super) setup: router::Setup,
    pub(super) pex: Option<Channel>,
    pub(super) transport: T,
    pub(super) book: Book,
    anchors: Vec<Anchor>,
    pub(super) seed: u64,
}

impl<T: Transport> Tendermint<T> {
    /// Reads the address book and the anchors.
    pub(super) async fn new(
        config: NodeConfig,
        setup: router::Setup,
        pex: Option<Channel>,
        transport: T,
    ) -> Result<Self, StartError> {
        let seed = config.random_seed.unwrap_or_else(random_seed);
        let book = load_book(&config, seed).await?;
        let anchors = load_anchors(config.anchors_file.as_deref(), config.id()).await;
        Ok(Tendermint { config, setup, pex, transport, book, anchors, seed })
    }

    /// Where it listens.
    pub(super) fn bound(&self) -> Option<SocketAddr> {
        self.transport.local().socket_addr()
    }

    /// What our record says of it.
    pub(super) fn entry(&self) -> Option<TendermintEntry> {
        let tcp_port = public(&self.config, self.bound())?.port();
        Some(TendermintEntry { node_id: self.config.node_key.id(), tcp_port })
    }

    /// Puts the address that others know us by into the record, unless the operator gave discovery itself one.
    pub(super) fn advertise(&self, discovery: &mut discovery::Config) {
        let external = self.config.external_address.map(|address| address.ip()).filter(|ip| !ip.is_unspecified());
        let same_family = |ip: &IpAddr| external.is_some_and(|external| external.is_ipv4() == ip.is_ipv4());
        if !discovery.advertise_ips.iter().any(same_family) {
            discovery.advertise_ips.extend(external);
        }
    }

    /// Starts the router, and peer exchange if there is a channel for it.
    pub(super) fn start(self, discovery: Option<&Discovery>) -> Result<(Wire, Option<Exchange>), ConfigError> {
        let bound = self.bound();
        let Tendermint { config, setup, pex, transport, book, anchors, seed } = self;
        let local = match public(&config, bound) {
            None => PeerAddress::memory(config.node_key.id()),
            Some(public) => {
                let ip = match discovery {
                    _ if !public.ip().is_unspecified() => public.ip(),
                    Some(discovery) => discovery.local_record().ip(),
                    None => IpAddr::V4(Ipv4Addr::LOCALHOST),
                };
                PeerAddress::from_socket(config.id(), SocketAddr::new(ip, public.port()))
                    .map_err(|error| ConfigError::new("laddr", error.to_string()))?
            }
        };
        let id = config.id();
        let own = local.socket_addr().into_iter().chain(bound);
        let policy = peers::Config { anchors, ..policy(&config, own, seed) };
        let handle = setup.handle();
        let router_config = router::Config { book_file: config.addr_book_file, anchors_file: config.anchors_file };
        let router = setup.start(router_config, transport, PeerManager::new(policy, book));
        let pex = pex.map(|channel| {
            let (published, stats) = watch::channel(pex::Stats::default());
            Exchange { task: tokio::spawn(pex::run(channel, handle, seed, published)), stats }
        });
        Ok((Wire { id, local: Some(local), router }, pex))
    }
}

/// The running PEX reactor.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) task: JoinHandle<()>,
    pub(super) stats: watch::Receiver<pex::Stats>,
}

/// Listens on TCP.
pub(super) async fn listen(config: &NodeConfig, setup: &router::Setup) -> Result<TendermintTransport, StartError> {
    let transport = TendermintConfig {
        channels: setup.specs().to_vec(),
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
    Ok(TendermintTransport::bind(transport).await?)
}

/// Joins a network within this process.
pub(super) fn join(
    network: &MemoryNetwork,
    config: &NodeConfig,
    setup: &router::Setup,
) -> Result<MemoryTransport, StartError> {
    let node_info = NodeInfo {
        listen_addr: config.laddr.to_string(),
        ..NodeInfo::new(config.node_key.id(), &config.network, &config.moniker)
    };
    let address = Some(config.laddr).filter(|laddr| laddr.port() != 0);
    Ok(network.listen(MemoryConfig { node_info, channels: setup.specs().to_vec(), address })?)
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
