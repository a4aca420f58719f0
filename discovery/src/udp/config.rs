//! What a discovery service is told at its start.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;

use super::socket;
use crate::{
    Enr, EnrPair, NodeRecord, SecretKey, TendermintEntry,
    discv4::{self, Families, Limits, OwnEndpoint, Reach},
    is_public,
    table::{Seed, TableConfig},
};

/// Settings of a discovery service. [`Config::new`] gives the defaults; the fields can be changed before
/// [`Discovery::bind`](super::Discovery::bind).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Who we are.
    pub key: SecretKey,
    /// Where we listen. Port 0 takes any free one; 0.0.0.0 listens on every interface, and :: on every interface in both families.
    pub listen: SocketAddr,
    /// The addresses our record gives, whatever others say: of each family the first counts. For a family without one, see
    /// [`Discovery::set_external`](super::Discovery::set_external), then the address that most nodes see; until then the one
    /// listened on. If that is unspecified: a public address of this machine, or that of the last run, or 127.0.0.1.
    pub advertise_ips: Vec<IpAddr>,
    /// The TCP port our record gives, if we take TCP connections.
    pub tcp_port: Option<u16>,
    /// The Tendermint node our record gives (pair `tm`).
    pub tendermint: Option<TendermintEntry>,
    /// What else our record says, for instance which chain we are on (`eth`). A record has room for 300 bytes in all.
    pub pairs: Vec<EnrPair>,
    /// Where a node without acquaintances begins.
    pub bootnodes: Vec<NodeRecord>,
    /// If not empty, the only networks that we talk to and hear.
    pub netrestrict: Vec<IpNet>,
    /// Nothing is sent to an address that is not [public](crate::is_public), whoever names it.
    pub public_only: bool,
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
            advertise_ips: Vec::new(),
            tcp_port: None,
            tendermint: None,
            pairs: Vec::new(),
            bootnodes: Vec::new(),
            netrestrict: Vec::new(),
            public_only: false,
            node_db: None,
            table: TableConfig::default(),
            limits: Limits::default(),
            workers: None,
        }
    }

    /// What the machine is made from, once the socket is bound and the database is read; `last` is our record of the last run.
    pub(super) fn machine(&self, bound: SocketAddr, seeds: Vec<Seed>, last: Option<&Enr>) -> discv4::Config {
        let families = Families::of_socket(bound.ip());
        let mut config = discv4::Config::new(*self.key.public(), bound.port());
        config.table = self.table.clone();
        config.bootnodes = self.bootnodes.clone();
        config.seeds = seeds;
        config.reach = Reach { families, public_only: self.public_only, netrestrict: self.netrestrict.clone() };
        config.endpoint = OwnEndpoint {
            explicit_ips: self.advertise_ips.clone(),
            fallback_ips: fallback_ips(bound.ip().to_canonical(), families, last),
            udp: bound.port(),
            tcp: self.tcp_port.unwrap_or(0),
        };
        config.tendermint = self.tendermint;
        config.limits = self.limits.clone();
        config
    }
}

/// What may be true until somebody tells us: the best guess for each family first. A node that is not behind a NAT knows its
/// address; one that is, is mostly where it was, and its record need not change twice at every start.
fn fallback_ips(bound: IpAddr, families: Families, last: Option<&Enr>) -> Vec<IpAddr> {
    if !bound.is_unspecified() {
        return vec![bound];
    }
    let of_last =
        last.into_iter().flat_map(|last| [last.ip().map(IpAddr::from), last.ip6().map(IpAddr::from)]).flatten();
    let guesses = socket::source_ips().into_iter().chain(of_last);
    let known = guesses.filter(|ip| is_public(*ip) && families.has(*ip));
    known.chain([IpAddr::from(Ipv4Addr::LOCALHOST)]).collect()
}
