//! The flags of a node's Tendermint side. Each one has the name of a key of `config.toml`, in either spelling, and goes before it.

use std::net::SocketAddr;

use kadwire::config::NodeConfig;
use kadwire_wire::{PeerAddress, PeerId};

use super::super::exit::Failure;
use super::super::options::{List, Listen, socket};

#[derive(Debug, clap::Args)]
pub(super) struct P2pFlags {
    /// TCP address to listen on for Tendermint peers; :PORT is every interface (:26656 unless config.toml says otherwise)
    #[arg(long, value_name = "IP:PORT")]
    laddr: Option<Listen>,

    /// Where peers reach us, if not where we listen
    #[arg(long, alias = "external_address", value_name = "IP:PORT", value_parser = socket)]
    external_address: Option<SocketAddr>,

    /// Tendermint peers that are asked for addresses when nobody is known
    #[arg(long, value_name = "ID@HOST:PORT,…")]
    seeds: Option<List<PeerAddress>>,

    /// Tendermint peers to stay connected with
    #[arg(long, alias = "persistent_peers", value_name = "ID@HOST:PORT,…")]
    persistent_peers: Option<List<PeerAddress>>,

    /// Peers that are let in whatever the limits
    #[arg(long, alias = "unconditional_peer_ids", value_name = "ID,…")]
    unconditional_peer_ids: Option<List<PeerId>>,

    /// Peers that others are not told of
    #[arg(long, alias = "private_peer_ids", value_name = "ID,…")]
    private_peer_ids: Option<List<PeerId>>,

    /// Our name
    #[arg(long, value_name = "NAME")]
    moniker: Option<String>,

    /// Most peers that dialed us (40)
    #[arg(long, alias = "max_num_inbound_peers", value_name = "N")]
    max_num_inbound_peers: Option<usize>,

    /// Most peers that we dial (10)
    #[arg(long, alias = "max_num_outbound_peers", value_name = "N")]
    max_num_outbound_peers: Option<usize>,

    /// Most peers in all (64, or what the other two limits and the persistent peers come to)
    #[arg(long, alias = "max_connections", value_name = "N")]
    max_connections: Option<usize>,

    /// Exchange addresses with peers (true)
    #[arg(long, value_name = "BOOL")]
    pex: Option<bool>,

    /// Let several peers have the same IP
    #[arg(
        long,
        alias = "allow_duplicate_ip",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    allow_duplicate_ip: Option<bool>,

    /// Only publicly routable addresses enter the address book; by default unless we are on a private or loopback address ourselves
    #[arg(long, alias = "addr_book_strict", value_name = "BOOL")]
    pub(super) addr_book_strict: Option<bool>,
}

impl P2pFlags {
    /// Whether they say where to listen.
    pub(super) fn listens(&self) -> bool {
        self.laddr.is_some()
    }

    /// Puts what the flags say into the configuration.
    pub(super) fn apply(&self, config: &mut NodeConfig) -> Result<(), Failure> {
        self.check()?;
        if let Some(listen) = self.laddr {
            config.laddr = listen.address();
        }
        config.external_address = self.external_address.or(config.external_address);
        put(&mut config.seeds, self.seeds.as_ref().map(|list| &list.0));
        put(&mut config.persistent_peers, self.persistent_peers.as_ref().map(|list| &list.0));
        put(&mut config.unconditional_peer_ids, self.unconditional_peer_ids.as_ref().map(|list| &list.0));
        put(&mut config.private_peer_ids, self.private_peer_ids.as_ref().map(|list| &list.0));
        put(&mut config.moniker, self.moniker.as_ref());
        put(&mut config.max_num_inbound_peers, self.max_num_inbound_peers.as_ref());
        put(&mut config.max_num_outbound_peers, self.max_num_outbound_peers.as_ref());
        config.max_connections = self.max_connections.or(config.max_connections);
        put(&mut config.pex, self.pex.as_ref());
        put(&mut config.allow_duplicate_ip, self.allow_duplicate_ip.as_ref());
        put(&mut config.addr_book_strict, self.addr_book_strict.as_ref());
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        for (flag, peers) in [("--seeds", &self.seeds), ("--persistent-peers", &self.persistent_peers)] {
            let mut peers = peers.iter().flat_map(|list| &list.0);
            if let Some(other) = peers.find(|peer| peer.id().tendermint().is_none()) {
                return Err(Failure::usage(flag, format!("{other} is not a Tendermint address: want id@host:port")));
            }
        }
        let ids = [
            ("--unconditional-peer-ids", &self.unconditional_peer_ids),
            ("--private-peer-ids", &self.private_peer_ids),
        ];
        for (flag, ids) in ids {
            if ids.iter().flat_map(|list| &list.0).any(|id| id.tendermint().is_none()) {
                return Err(Failure::usage(flag, "want ids of Tendermint nodes, 40 hex digits each"));
            }
        }
        Ok(())
    }
}

fn put<T: Clone>(field: &mut T, given: Option<&T>) {
    if let Some(given) = given {
        field.clone_from(given);
    }
}
