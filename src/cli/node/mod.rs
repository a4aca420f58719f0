//! `kadwire node`: the whole stack. Finds others by discv4; speaks Tendermint's wire (MConnection and PEX, gossip) with those whose record has
//! `tm`, Ethereum's (RLPx, the protocol `kad/1`) with those that have a TCP port, or both.
//!
//! What is typed on stdin is said to all; what others say is printed. With `--json` each line is an object, the first one
//! `{"event":"listening","enode":…,"enr":…,"mconn":"id@ip:port","rlpx":"enode://…"}`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use kadwire::config::{DEFAULT_PORT, EthereumConfig, NodeConfig, home::Loaded};
use kadwire::nat::Plan;
use kadwire::node::{Node, NodeBuilder};
use kadwire::status::NodeSource;
use kadwire_discovery::SecretKey;
use kadwire_wire::tendermint::key::NodeKey;
use tracing::{info, warn};

use super::bootnode::{kept_key, make_folder};
use super::bootnodes::Bootnodes;
use super::exit::{Exit, Failure};
use super::options::{Listen, NatFlags, NodeKeyFlags, ReachFlags};
use super::random;
use super::shutdown::{self, Shutdown};
use super::status::StatusFlag;

mod events;
mod gossip;
mod p2p;
mod rlpx;
mod talk;

use p2p::P2pFlags;
use rlpx::{Echo, RlpxFlags};
use talk::talk;

/// The chain of a node that is given none.
const DEFAULT_CHAIN: &str = "kadwire";

/// Which wire is used when.
const WIRES: &str = "\
Which wire is used when:
  without --rlpx              Tendermint's: MConnection on --laddr, with peers found by their record's pair tm, by PEX and --seeds
  with --rlpx                 Ethereum's: RLPx, with peers found by discovery that give a TCP port, and --static ones
  with --rlpx and --home, --laddr or --chain-id
                              both in one process, each with its own peers, keys and limits
Discovery (--addr, UDP) serves both; --netrestrict, --public-only, --nat and --nodekey hold for both, the other peer flags for the wire they name.
The demonstration: over MConnection each line of stdin is gossiped on channel 0x30; over RLPx the protocol kad/1 asks all peers with
message 0, and a peer answers with message 1 and the same payload.";

/// Run a node: discovery, peers, peer exchange, gossip
#[derive(Debug, clap::Args)]
#[command(after_help = WIRES)]
pub(super) struct Args {
    /// UDP address to listen on, for discovery; :PORT is every interface, over IPv4 and IPv6
    #[arg(long, value_name = "IP:PORT", default_value = ":30303")]
    addr: Listen,

    #[command(flatten)]
    nat: NatFlags,

    /// Discovery nodes to begin with
    #[arg(long, value_name = "ENODE|ENR,…", default_value = "", hide_default_value = true)]
    bootnodes: Bootnodes,

    #[command(flatten)]
    rlpx: RlpxFlags,

    #[command(flatten)]
    p2p: P2pFlags,

    /// The chain: nodes of another network are no peers (that of the home folder's genesis.json, else kadwire)
    #[arg(long, visible_alias = "network", value_name = "ID")]
    chain_id: Option<String>,

    /// Home folder of a CometBFT node: reads config/config.toml, config/node_key.json and config/genesis.json
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,

    /// Where keys, the node database, the address book and the anchors (peers to dial first after a restart) are kept; without it and --home, nothing is
    #[arg(long, value_name = "DIR")]
    datadir: Option<PathBuf>,

    #[command(flatten)]
    key: NodeKeyFlags,

    #[command(flatten)]
    reach: ReachFlags,

    #[command(flatten)]
    status: StatusFlag,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<Exit, Failure> {
    let plan = args.nat.plan(args.addr)?;
    // A home folder is read before anything runs: names in it are looked up.
    let tendermint = if args.speaks_tendermint() { Some(args.node(&plan)?) } else { None };
    let discovery = args.discovery()?;
    let ethereum = args.ethereum(discovery.key.clone())?;
    shutdown::runtime()?.block_on(serve(args, plan, Wires { tendermint, ethereum }, discovery))
}

/// What the node is told for each of its wires. At least one of them is there.
struct Wires {
    tendermint: Option<NodeConfig>,
    ethereum: Option<EthereumConfig>,
}

impl Wires {
    fn builder(self) -> Option<NodeBuilder> {
        match self {
            Wires { tendermint: Some(tendermint), ethereum } => {
                let mut builder = Node::builder(tendermint);
                builder.with_pex();
                if let Some(ethereum) = ethereum {
                    builder.with_ethereum(ethereum);
                }
                Some(builder)
            }
            Wires { tendermint: None, ethereum } => ethereum.map(Node::ethereum_builder),
        }
    }
}

async fn serve(
    args: Args,
    plan: Plan,
    wires: Wires,
    mut discovery: kadwire_discovery::Config,
) -> Result<Exit, Failure> {
    let mut shutdown = Shutdown::new()?;
    let reach = args.reach.reach(args.addr);
    args.bootnodes.check(&reach)?;
    discovery.bootnodes = tokio::select! {
        found = args.bootnodes.resolve(&reach) => found,
        () = shutdown.requested() => return Ok(Exit::Done),
    };
    if args.datadir.is_none() && args.home.is_none() {
        warn!("this identity lasts until exit: keep one with --datadir");
    }
    let (tendermint, ethereum) = (wires.tendermint.is_some(), wires.ethereum.is_some());
    let mut builder = wires.builder().ok_or_else(|| Failure::Failed("a node without a wire".to_owned()))?;
    builder.with_discovery(discovery);
    if args.nat.given() {
        builder.with_nat(plan);
    }
    if let Some(filter) = args.rlpx.filter() {
        builder.with_record_filter(filter);
    }
    let gossip = tendermint.then(|| builder.channel(gossip::channel()));
    let echo = if ethereum {
        let (protocol, echo) = Echo::new()?;
        builder.with_protocol(protocol);
        Some(echo)
    } else {
        None
    };
    let node = builder.start().await.map_err(|error| Failure::Failed(error.to_string()))?;
    let ended = async {
        let _serving = args.status.serve(NodeSource::new(&node)).await?;
        tokio::select! {
            ended = talk(&node, gossip, echo, args.json) => ended,
            () = shutdown.requested() => Ok(()),
        }
    }
    .await;
    info!(peers = node.peers().len(), "stopping");
    // The address book is written even if nobody reads our output any more.
    shutdown.unless_asked_again(node.stop()).await;
    ended.map(|()| Exit::Done)
}

impl Args {
    /// The discovery side, whose bootnodes are still to come.
    fn discovery(&self) -> Result<kadwire_discovery::Config, Failure> {
        let datadir = self.datadir();
        let key = match self.key.key()? {
            Some(key) => key,
            None => kept_key(datadir.as_deref())?,
        };
        if let Some(datadir) = &datadir {
            make_folder(datadir)?;
        }
        let mut discovery = kadwire_discovery::Config::new(key, self.addr.address());
        discovery.netrestrict.clone_from(&self.reach.netrestrict.0);
        discovery.public_only = self.reach.public_only;
        discovery.node_db = datadir.map(|dir| dir.join("nodes.db"));
        Ok(discovery)
    }

    /// Where what is not CometBFT's is kept, if it is.
    fn datadir(&self) -> Option<PathBuf> {
        self.datadir.clone().or_else(|| self.home.as_ref().map(|home| home.join("data")))
    }

    /// Tendermint's wire is spoken unless the other one is and nothing asks for this one.
    fn speaks_tendermint(&self) -> bool {
        !self.rlpx.given() || self.home.is_some() || self.chain_id.is_some() || self.p2p.listens()
    }

    /// The Ethereum side, with discovery's key.
    fn ethereum(&self, key: SecretKey) -> Result<Option<EthereumConfig>, Failure> {
        let Some(mut ethereum) = self.rlpx.config(key, self.addr)? else { return Ok(None) };
        ethereum.netrestrict.clone_from(&self.reach.netrestrict.0);
        ethereum.public_only = self.reach.public_only;
        ethereum.anchors_file = self.datadir().map(|dir| dir.join("anchors-rlpx.json"));
        ethereum.validate().map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(Some(ethereum))
    }

    /// The Tendermint side: the flags, else the home folder, else the defaults.
    fn node(&self, plan: &Plan) -> Result<NodeConfig, Failure> {
        let mut node = match &self.home {
            Some(home) => self.at_home(home)?,
            None => NodeConfig {
                laddr: Listen::EveryInterface(DEFAULT_PORT).address(),
                addr_book_file: self.datadir.as_ref().map(|dir| dir.join("addrbook.json")),
                ..NodeConfig::new(tendermint_key(self.datadir.as_deref())?, DEFAULT_CHAIN)
            },
        };
        if let Some(chain_id) = &self.chain_id {
            node.network.clone_from(chain_id);
        }
        self.p2p.apply(&mut node)?;
        if let Some(ip) = plan.explicit_ips().first() {
            // Port 0: the one we listen on.
            node.external_address = Some(SocketAddr::new(*ip, 0));
        }
        node.netrestrict.clone_from(&self.reach.netrestrict.0);
        node.public_only = self.reach.public_only;
        node.anchors_file = self.datadir().map(|dir| dir.join("anchors-tendermint.json"));
        if self.home.is_none() && self.p2p.addr_book_strict.is_none() {
            let own = node.external_address.unwrap_or(node.laddr);
            node.addr_book_strict = !is_private(own.ip());
        }
        node.validate().map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(node)
    }

    fn at_home(&self, home: &Path) -> Result<NodeConfig, Failure> {
        let loaded = kadwire::config::home::load(home, &mut random::generator());
        let Loaded { config, warnings, .. } = loaded.map_err(|error| Failure::Failed(error.to_string()))?;
        for warning in warnings {
            warn!("{warning}");
        }
        if config.seed_mode {
            let home = home.display();
            let problem = format!(
                "{home}/config/config.toml asks for a seed: run `kadwire seed --home {home}`, or set it to false"
            );
            return Err(Failure::of("seed_mode", problem));
        }
        if config.network.is_empty() && self.chain_id.is_none() {
            let problem = format!("needed: there is no {}", home.join("config/genesis.json").display());
            return Err(Failure::usage("--chain-id", problem));
        }
        Ok(config)
    }
}

/// Whether our own address says that this is a private or local network, whose addresses a strict book would all refuse.
fn is_private(own: IpAddr) -> bool {
    !own.is_unspecified() && kadwire_discovery::is_lan(own)
}

/// The Tendermint identity in the data folder, in CometBFT's format, made at the first start.
fn tendermint_key(datadir: Option<&Path>) -> Result<NodeKey, Failure> {
    let Some(datadir) = datadir else { return Ok(NodeKey::generate(&mut random::generator())) };
    let failed = |error: &dyn std::fmt::Display| Failure::of("--datadir", error);
    make_folder(datadir)?;
    let file = datadir.join("node_key.json");
    NodeKey::load_or_generate(&file, &mut random::generator())
        .map_err(|error| failed(&format!("{}: {error}", file.display())))
}
