//! What a node must be told to have Ethereum peers: [`EthereumConfig`], with go-ethereum's names and defaults (`p2p/config.go`).

use std::{net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use kadwire_discovery::{PublicKey, SecretKey, is_public};
use kadwire_wire::address::{PeerAddress, PeerId};

use super::ConfigError;

/// go-ethereum's default port, TCP and UDP (`node/defaults.go`).
pub const DEFAULT_RLPX_PORT: u16 = 30303;

/// Everything about a node's Ethereum side except its protocols and discovery.
#[derive(Debug, Clone)]
pub struct EthereumConfig {
    /// The secp256k1 key that the node proves its identity with; discovery's, if the node has that (`PrivateKey`, `--nodekey`).
    pub key: SecretKey,
    /// The client that we say we are (`Name`): any UTF-8, as `name/version/platform`.
    pub name: String,
    /// Where to listen for RLPx; port 0 takes a free one, and `None` takes no connections (`ListenAddr`).
    pub listen: Option<SocketAddr>,
    /// Peers in all, trusted ones apart (`MaxPeers`, `--maxpeers`).
    pub max_peers: usize,
    /// One in so many of them is one that we dialed (`DialRatio`); 0, the default, is one in three.
    pub dial_ratio: usize,
    /// Dials nobody but static peers (`NoDial`, which in go-ethereum leaves those out too).
    pub no_dial: bool,
    /// Dials one of discovery's bootnodes as a peer when there has been none for 20 s: the rule of go-ethereum 1.8. Today's has none, and
    /// bootnodes that only know discovery give no TCP port.
    pub bootnode_fallback: bool,
    /// Peers to keep connected, whoever asks for their place (`StaticNodes`).
    pub static_nodes: Vec<PeerAddress>,
    /// Peers that are let in when all places are taken (`TrustedNodes`).
    pub trusted_nodes: Vec<PeerId>,
    /// Where the peers to dial first after a restart are kept ([`anchors`](crate::anchors)); without, they are forgotten at the end.
    pub anchors_file: Option<PathBuf>,
    /// If not empty, nobody outside these networks is dialed or let in (`NetRestrict`).
    pub netrestrict: Vec<IpNet>,
    /// Only public addresses are dialed, also where a name leads to another one; whoever dials us from one is let in.
    pub public_only: bool,
    /// Tell of each message sent and received, besides peers that come and go (`EnableMsgEvents`).
    pub message_events: bool,
    /// Where the node's choices start. For tests; by default they start at random, so that nobody can foresee them.
    pub random_seed: Option<u64>,
}

/// Peers in all (go-ethereum `node/defaults.go`).
const MAX_PEERS: usize = 50;

/// The longest name: a Hello has 2,048 bytes, and room for capabilities.
const MAX_NAME: usize = 512;

impl EthereumConfig {
    /// go-ethereum's defaults: 50 peers, of whom 16 are dialed.
    pub fn new(key: SecretKey, listen: Option<SocketAddr>) -> Self {
        EthereumConfig {
            key,
            name: format!("kadwire/v{}/{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH),
            listen,
            max_peers: MAX_PEERS,
            dial_ratio: 0,
            no_dial: false,
            bootnode_fallback: false,
            static_nodes: Vec::new(),
            trusted_nodes: Vec::new(),
            anchors_file: None,
            netrestrict: Vec::new(),
            public_only: false,
            message_events: false,
            random_seed: None,
        }
    }

    /// This node's id.
    pub fn id(&self) -> PeerId {
        PeerId::Ethereum(*self.key.public().as_bytes())
    }

    /// Whether the values make sense together; the first that does not is named.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.name.len() > MAX_NAME {
            return Err(ConfigError::new("name", format!("must be at most {MAX_NAME} bytes")));
        }
        if let Some(other) = self.static_nodes.iter().find(|node| node.id().ethereum().is_none()) {
            return Err(ConfigError::new("static_nodes", format!("{other} is not an enode URL")));
        }
        // It would be dialed for ever, and be nobody.
        let nobody = |id: &PeerId| id.ethereum().is_some_and(|key| PublicKey::from_bytes(&key).is_err());
        if let Some(node) = self.static_nodes.iter().find(|node| nobody(&node.id())) {
            return Err(ConfigError::new("static_nodes", format!("{node} has no valid key: a digit is wrong")));
        }
        if let Some(id) = self.trusted_nodes.iter().find(|id| nobody(id)) {
            return Err(ConfigError::new("trusted_nodes", format!("{id} is no valid key: a digit is wrong")));
        }
        let private = |node: &&PeerAddress| self.public_only && node.ip().is_some_and(|ip| !is_public(ip));
        if let Some(private) = self.static_nodes.iter().find(private) {
            let problem = format!("{private} is not at a public address, and only such are dialed");
            return Err(ConfigError::new("static_nodes", problem));
        }
        if let Some(other) = self.trusted_nodes.iter().find(|id| id.ethereum().is_none()) {
            return Err(ConfigError::new("trusted_nodes", format!("{other} is not the key of an Ethereum node")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_ethereum_node_is_named() {
        let key = SecretKey::from_bytes(&[1; 32]).unwrap();
        let tendermint: PeerAddress = format!("{}@1.2.3.4:5", "07".repeat(20)).parse().unwrap();
        let static_nodes = vec![tendermint.clone()];
        let config = EthereumConfig { static_nodes, ..EthereumConfig::new(key.clone(), None) };
        assert_eq!(config.validate().unwrap_err().key, "static_nodes");
        let config = EthereumConfig { trusted_nodes: vec![tendermint.id()], ..EthereumConfig::new(key.clone(), None) };
        assert_eq!(config.validate().unwrap_err().key, "trusted_nodes");
        let local = format!("enode://{}@127.0.0.1:5", key.public()).parse().unwrap();
        let config = EthereumConfig { static_nodes: vec![local], public_only: true, ..EthereumConfig::new(key, None) };
        assert!(config.validate().unwrap_err().problem.contains("127.0.0.1"));
    }
}
