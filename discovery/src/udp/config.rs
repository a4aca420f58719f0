//! What a discovery service is told at its start.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;

use crate::{
    NodeRecord, SecretKey, TendermintEntry,
    discv4::{self, Limits, OwnEndpoint},
    table::{Seed, TableConfig},
};

/// Settings of a discovery service. [`Config::new`] gives the defaults; the fields can be changed before
/// [`Discovery::bind`](super::Discovery::bind).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Who we are.
    pub key: SecretKey,
    /// Where we listen. Port 0 takes any free one; 0.0.0.0 and :: listen on every interface.
    pub listen: SocketAddr,
    /// The address our record gives, whatever other nodes say. Without it, the one that most of them see; until then the
    /// one listened on, or 127.0.0.1 if that is unspecified.
    pub advertise_ip: Option<IpAddr>,
    /// The TCP port our record gives, if we take TCP connections.
    pub tcp_port: Option<u16>,
    /// The Tendermint node our record gives (pair `tm`).
    pub tendermint: Option<TendermintEntry>,
    /// Where a node without acquaintances begins.
    pub bootnodes: Vec<NodeRecord>,
    /// If not empty, the only networks that we talk to and hear.
    pub netrestrict: Vec<IpNet>,
    /// The file of the node database; without one nothing survives a restart.
    pub node_db: Option<PathBuf>,
    /// Sizes and times of the table.
    pub table: TableConfig,
    /// How much strangers may ask of us.
    pub limits: Limits,
    /// Threads for signatures; by default one per core.
    pub workers: Option<usize>,
}

impl Config {
    /// The defaults for this key and address, without bootnodes and without a database.
    pub fn new(key: SecretKey, listen: SocketAddr) -> Self {
        Self {
            key,
            listen,
            advertise_ip: None,
            tcp_port: None,
            tendermint: None,
            bootnodes: Vec::new(),
            netrestrict: Vec::new(),
            node_db: None,
            table: TableConfig::default(),
            limits: Limits::default(),
            workers: None,
        }
    }

    /// What the machine is made from, once the socket is bound and the database is read.
    pub(super) fn machine(&self, bound: SocketAddr, seeds: Vec<Seed>) -> discv4::Config {
        let listened = Some(bound.ip().to_canonical()).filter(|ip| !ip.is_unspecified());
        let mut config = discv4::Config::new(*self.key.public(), bound.port());
        config.table = self.table.clone();
        config.bootnodes = self.bootnodes.clone();
        config.seeds = seeds;
        config.netrestrict = self.netrestrict.clone();
        config.endpoint = OwnEndpoint {
            explicit_ips: self.advertise_ip.into_iter().collect(),
            fallback_ips: vec![listened.unwrap_or(Ipv4Addr::LOCALHOST.into())],
            udp: bound.port(),
            tcp: self.tcp_port.unwrap_or(0),
        };
        config.tendermint = self.tendermint;
        config.limits = self.limits.clone();
        config
    }
}
