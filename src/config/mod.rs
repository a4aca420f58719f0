//! What a node must be told: [`NodeConfig`] for its Tendermint side, with CometBFT's defaults, [`EthereumConfig`] for its Ethereum side,
//! with go-ethereum's, and [`ConfigError`], which names the key at fault.
//!
//! Keys of the former are named as in CometBFT's `config.toml`, section `[p2p]`. Values are typed, so that only what types cannot say is
//! checked here.

mod duration;
mod ethereum;
pub mod file;
pub mod home;
mod listen;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use kadwire_discovery::is_public;
use kadwire_wire::{
    Host,
    address::{PeerAddress, PeerId},
    tendermint::{
        key::NodeKey,
        mconnection::{MConnectionConfig, QueueKind},
        node_info::NodeInfo,
    },
};

use crate::router::DIAL_LIMIT;

pub use duration::parse_duration;
pub use ethereum::{DEFAULT_RLPX_PORT, EthereumConfig};
pub use listen::Listen;

/// Everything about a node except its channels and discovery.
#[derive(Debug)]
pub struct NodeConfig {
    /// The ed25519 key that the node proves its identity with (`node_key.json`).
    pub node_key: NodeKey,
    /// The chain id. Peers of another network are refused (CometBFT `genesis.json`, `chain_id`).
    pub network: String,
    /// The operator's name for the node (`moniker`): printable ASCII.
    pub moniker: String,
    /// Where to listen (`laddr`); port 0 takes a free one.
    pub laddr: SocketAddr,
    /// Where others reach us, if not where we listen (`external_address`); port 0 is the port we listen on.
    pub external_address: Option<SocketAddr>,
    /// Has the gateway map our ports (`upnp`, Tendermint): the same as the NAT plan `upnp`, unless another one is given.
    pub upnp: bool,
    /// Asked for addresses when nobody else is known (`seeds`).
    pub seeds: Vec<PeerAddress>,
    /// Dialed first and for ever, and never evicted (`persistent_peers`). The node itself may be among them, and is passed over.
    pub persistent_peers: Vec<PeerAddress>,
    /// Taken even when all places are (`unconditional_peer_ids`).
    pub unconditional_peer_ids: Vec<PeerId>,
    /// Never passed on to others (`private_peer_ids`).
    pub private_peer_ids: Vec<PeerId>,
    /// Peers that dialed us, unconditional ones apart (`max_num_inbound_peers`).
    pub max_num_inbound_peers: usize,
    /// Peers that we dialed, persistent ones apart (`max_num_outbound_peers`).
    pub max_num_outbound_peers: usize,
    /// Peers in all, persistent ones included; only unconditional ones are taken beyond (`max_connections`, Tendermint). The places
    /// of the outbound side are kept free for it. `None`, the default, is 64 or, if that is more, what the two sides and the persistent
    /// peers come to: CometBFT does not have this key, and does not cut what its two limits allow.
    pub max_connections: Option<usize>,
    /// Attempts of one IP to connect within 10 s, and its open connections (`max_incoming_connection_attempts`, Tendermint).
    pub max_incoming_connection_attempts: u32,
    /// Whether two peers may have the same IP (`allow_duplicate_ip`). Off, it is for loopback too; the operator's own peers
    /// (persistent and unconditional ones) are taken all the same.
    pub allow_duplicate_ip: bool,
    /// The longest wait between two dials of a persistent peer (`persistent_peers_max_dial_period`). Zero: each wait is twice the one
    /// before, up to 5 min.
    pub persistent_peers_max_dial_period: Duration,
    /// Where the address book is kept, in CometBFT's format (`addr_book_file`); without, it is forgotten at the end.
    pub addr_book_file: Option<PathBuf>,
    /// Where the peers to dial first after a restart are kept ([`anchors`](crate::anchors)); without, they are forgotten at the end.
    pub anchors_file: Option<PathBuf>,
    /// Only publicly routable addresses enter the book (`addr_book_strict`). Off for networks on private addresses or loopback.
    pub addr_book_strict: bool,
    /// If not empty, nobody outside these networks is dialed or let in (go-ethereum `--netrestrict`).
    pub netrestrict: Vec<IpNet>,
    /// Only public addresses are dialed, also where a name leads to another one; whoever dials us from one is let in.
    pub public_only: bool,
    /// Exchange addresses with peers (`pex`). Off, the channel is not offered, and the seeds are dialed like other peers.
    pub pex: bool,
    /// Be a seed (`seed_mode`): [`Node`](crate::node::Node) is none and says so.
    pub seed_mode: bool,
    /// From the stream to a proven and compatible peer (`handshake_timeout`).
    pub handshake_timeout: Duration,
    /// From the dial to the stream, for each address of a name; once more for looking the name up (`dial_timeout`).
    pub dial_timeout: Duration,
    /// The longest that a message may wait to share a write with later ones (`flush_throttle_timeout`). Always kept, and without
    /// effect: what is queued is written at once.
    pub flush_throttle_timeout: Duration,
    /// Data in one packet, in bytes (`max_packet_msg_payload_size`); both ends must agree: Tendermint 0.35 has 1400.
    pub max_packet_msg_payload_size: usize,
    /// Bytes per second that one connection sends at most; 0 is no limit (`send_rate`).
    pub send_rate: u64,
    /// Bytes per second that are read from one connection at most; 0 is no limit (`recv_rate`).
    pub recv_rate: u64,
    /// Which channel of a connection sends next (`queue_type`, Tendermint).
    pub queue_type: QueueKind,
    /// Accepted and without effect (`disable_legacy`, Tendermint): there is no old stack to switch off.
    pub disable_legacy: bool,
    /// Where the node's choices (whom to dial, what to tell, where addresses go in the book) start. For tests; by default they
    /// start at random, so that nobody can foresee them.
    pub random_seed: Option<u64>,
}

/// CometBFT's default port.
pub const DEFAULT_PORT: u16 = 26656;

/// Tendermint's `max-connections` unless it is given.
const DEFAULT_MAX_CONNECTIONS: usize = 64;

/// Longest chain id (CometBFT `types.MaxChainIDLen`), in bytes.
const MAX_NETWORK: usize = 50;

impl NodeConfig {
    /// CometBFT's defaults for everything that has one: port 26656 on all addresses, 40 inbound and 10 outbound peers, strict book.
    pub fn new(node_key: NodeKey, network: impl Into<String>) -> Self {
        Self {
            node_key,
            network: network.into(),
            moniker: "kadwire".to_owned(),
            laddr: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEFAULT_PORT),
            external_address: None,
            upnp: false,
            seeds: Vec::new(),
            persistent_peers: Vec::new(),
            unconditional_peer_ids: Vec::new(),
            private_peer_ids: Vec::new(),
            max_num_inbound_peers: 40,
            max_num_outbound_peers: 10,
            max_connections: None,
            max_incoming_connection_attempts: 100,
            allow_duplicate_ip: false,
            persistent_peers_max_dial_period: Duration::ZERO,
            addr_book_file: None,
            anchors_file: None,
            addr_book_strict: true,
            netrestrict: Vec::new(),
            public_only: false,
            pex: true,
            seed_mode: false,
            handshake_timeout: Duration::from_secs(20),
            dial_timeout: Duration::from_secs(3),
            flush_throttle_timeout: Duration::from_millis(100),
            max_packet_msg_payload_size: 1024,
            send_rate: 5_120_000,
            recv_rate: 5_120_000,
            queue_type: QueueKind::Priority,
            disable_legacy: false,
            random_seed: None,
        }
    }

    /// How many peers there may be in all, unconditional ones apart.
    pub fn most_connections(&self) -> usize {
        let needed = [self.max_num_outbound_peers, self.persistent_peers.len()];
        let needed = needed.into_iter().fold(self.max_num_inbound_peers, usize::saturating_add);
        self.max_connections.unwrap_or(needed.max(DEFAULT_MAX_CONNECTIONS))
    }

    /// What each connection is told.
    pub fn mconnection(&self) -> MConnectionConfig {
        MConnectionConfig {
            send_rate: self.send_rate,
            recv_rate: self.recv_rate,
            max_packet_payload: self.max_packet_msg_payload_size,
            queue: self.queue_type,
            ..MConnectionConfig::default()
        }
    }

    /// This node's id.
    pub fn id(&self) -> PeerId {
        PeerId::Tendermint(self.node_key.id())
    }

    /// Whether the values make sense together; the first that does not is named.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.network.is_empty() || self.network.len() > MAX_NETWORK {
            return Err(ConfigError::new("network", format!("must be 1 to {MAX_NETWORK} bytes")));
        }
        self.validate_values()
    }

    /// The same without the network, which a home folder may leave to others.
    fn validate_values(&self) -> Result<(), ConfigError> {
        NodeInfo::new(self.node_key.id(), &self.network, &self.moniker)
            .validate()
            .map_err(|error| ConfigError::new("moniker", error.to_string()))?;
        if let Some(address) = self.external_address {
            Host::from_ip(address.ip()).map_err(|error| ConfigError::new("external_address", error.to_string()))?;
        }
        for (key, timeout) in [("handshake_timeout", self.handshake_timeout), ("dial_timeout", self.dial_timeout)] {
            if timeout.is_zero() {
                return Err(ConfigError::new(key, "must be longer than 0"));
            }
        }
        // A name, the stream, the handshake.
        let dial = self.dial_timeout.saturating_mul(2).saturating_add(self.handshake_timeout);
        if dial > DIAL_LIMIT {
            let problem =
                format!("with twice dial_timeout it is {dial:?}, and no dial may last longer than {DIAL_LIMIT:?}");
            return Err(ConfigError::new("handshake_timeout", problem));
        }
        self.mconnection()
            .validate(&[])
            .map_err(|error| ConfigError::new("max_packet_msg_payload_size", error.to_string()))?;
        let (peers, most) = (self.persistent_peers.len(), self.most_connections());
        if peers > most {
            let problem = format!("{most} is less than the {peers} persistent_peers: raise it, or name fewer");
            return Err(ConfigError::new("max_connections", problem));
        }
        for (key, peers) in [("seeds", &self.seeds), ("persistent_peers", &self.persistent_peers)] {
            if let Some(other) = peers.iter().find(|peer| peer.id().tendermint().is_none()) {
                return Err(ConfigError::new(key, format!("{other} is not a Tendermint address")));
            }
            if let Some(private) =
                peers.iter().filter_map(PeerAddress::ip).find(|ip| self.public_only && !is_public(*ip))
            {
                return Err(ConfigError::new(
                    key,
                    format!("{private} is not a public address, and only such are dialed"),
                ));
            }
        }
        Ok(())
    }
}

/// Reads a comma-separated list (`seeds`, `persistent_peers`, …); empty places are passed over, as CometBFT does.
pub fn parse_list<T>(key: &'static str, text: &str) -> Result<Vec<T>, ConfigError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    split_list(text).map_err(|problem| ConfigError::new(key, problem))
}

fn split_list<T>(text: &str) -> Result<Vec<T>, String>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_err(|error| format!("{part:?}: {error}"))).collect()
}

/// A value that cannot be used. The fault is the operator's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{key}: {problem}", place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
pub struct ConfigError {
    /// The key's name in the configuration.
    pub key: &'static str,
    /// What is wrong with its value.
    pub problem: String,
    /// File and line where it was read, if it was: `PATH:LINE`.
    pub place: Option<String>,
}

impl ConfigError {
    /// `key` is wrong because of `problem`.
    pub fn new(key: &'static str, problem: impl Into<String>) -> Self {
        Self { key, problem: problem.into(), place: None }
    }
}

#[cfg(test)]
mod tests;
