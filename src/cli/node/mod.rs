//! `kadwire node`: the whole stack. Finds others by discv4; speaks Tendermint's wire (MConnection and PEX, gossip) with those whose record has
//! `tm`, Ethereum's (RLPx, the protocol `kad/1`) with those that have a TCP port, or both.
//!
//! What is typed on stdin is said to all; what others say is printed. With `--json` each line is an object, the first one
//! `{"event":"listening","enode":…,"enr":…,"mconn":"id@ip:port","rlpx":"enode://…"}`.

use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kadwire::config::{DEFAULT_PORT, EthereumConfig, NodeConfig, home::Loaded};
use kadwire::nat::Plan;
use kadwire::node::{Node, NodeBuilder};
use kadwire::router::{Channel, ChannelEvent, ChannelSender, Peer, PeerEvent, PeerEvents, To};
use kadwire::status::NodeSource;
use kadwire_discovery::SecretKey;
use kadwire_wire::tendermint::key::NodeKey;
use kadwire_wire::transport::{CloseReason, Direction};
use rand::Rng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::bootnode::kept_key;
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

use events::{Event, Wire};
use gossip::Gossip;
use p2p::P2pFlags;
use rlpx::{Echo, RlpxFlags};

/// The chain of a node that is given none.
const DEFAULT_CHAIN: &str = "kadwire";

/// Messages on their way to peers. Beyond that new ones are dropped: a slow peer must not keep us from hearing the others.
const MAX_FORWARDING: usize = 256;

/// Messages that wait for peers without room, beside the others. Beyond that such peers are passed over.
const MAX_LATE: usize = 64;

/// Lines read ahead from stdin.
const MAX_LINES: usize = 16;

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
    #[arg(long, value_name = "ENODE|ENR,…", default_value = "")]
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

    /// Where keys, the node database and the address book are kept; without it and --home, nothing is
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
    discovery.bootnodes = args.bootnodes.resolve(&reach).await;
    if args.datadir.is_none() && args.home.is_none() {
        warn!("this identity lasts until exit: keep one with --datadir");
    }
    let (tendermint, ethereum) = (wires.tendermint.is_some(), wires.ethereum.is_some());
    let mut builder = wires.builder().ok_or_else(|| Failure::Failed("a node without a wire".to_owned()))?;
    builder.with_discovery(discovery);
    if args.nat.given() {
        builder.with_nat(plan);
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
    let _serving = args.status.serve(NodeSource::new(&node)).await?;
    let talk = talk(&node, gossip, echo, args.json);
    let ended = tokio::select! {
        ended = talk => ended,
        () = shutdown.requested() => Ok(()),
    };
    info!(peers = node.peers().len(), "stopping");
    // The address book is written even if nobody reads our output any more.
    shutdown.unless_asked_again(node.stop()).await;
    ended.map(|()| Exit::Done)
}

/// Prints what happens, says what is typed, until the node or the reader of stdout is gone.
async fn talk(node: &Node, mut channel: Option<Channel>, mut echo: Option<Echo>, json: bool) -> Result<(), Failure> {
    listening(node)?.print(json)?;
    let mut gossip = Gossip::default();
    let mut lines = stdin();
    let (mut peers, mut ethereum_peers) = (0_usize, 0_usize);
    let mut ethereum = node.ethereum().map(|ethereum| ethereum.router().peer_events());
    let (forward, forwarding) = mpsc::channel(MAX_FORWARDING);
    let forwarder = channel.as_ref().map(|channel| tokio::spawn(forward_all(channel.sender(), forwarding)));
    let result = loop {
        let event = tokio::select! {
            event = or_never(channel.as_mut().map(Channel::next)) => match event {
                None => break Ok(()),
                Some(ChannelEvent::Up(peer)) => {
                    peers += 1;
                    peer_up(Wire::Mconn, &peer, peers)
                }
                Some(ChannelEvent::Down(peer, reason)) => {
                    peers = peers.saturating_sub(1);
                    peer_down(Wire::Mconn, &peer, &reason, peers)
                }
                Some(ChannelEvent::Message(envelope)) => {
                    let Some(message) = gossip.hear(&envelope.message) else { continue };
                    pass_on(&forward, To::Except(envelope.from), envelope.message);
                    Event::Gossip { from: envelope.from.to_string(), message }
                }
            },
            event = or_never(ethereum.as_mut().map(PeerEvents::next)) => match event {
                None => break Ok(()),
                Some(PeerEvent::Up(peer)) => {
                    ethereum_peers += 1;
                    peer_up(Wire::Rlpx, &peer, ethereum_peers)
                }
                Some(PeerEvent::Down(peer, reason)) => {
                    ethereum_peers = ethereum_peers.saturating_sub(1);
                    peer_down(Wire::Rlpx, &peer, &reason, ethereum_peers)
                }
            },
            Some((from, message)) = or_never(echo.as_mut().map(Echo::answer)) => {
                Event::Echo { from: from.to_string(), message }
            }
            Some(line) = lines.recv() => {
                if let Some(echo) = &echo {
                    echo.ask(&line);
                }
                let mut name = [0; 16];
                random::generator().fill_bytes(&mut name);
                match gossip.say(name, &line) {
                    Some(message) if channel.is_some() => pass_on(&forward, To::All, message),
                    Some(_) => {}
                    None => warn!(bytes = line.len(), "line is too long to be said"),
                }
                continue;
            }
        };
        if let Err(failure) = event.print(json) {
            break Err(failure);
        }
    };
    if let Some(forwarder) = forwarder {
        forwarder.abort();
    }
    result
}

/// What comes, if anything can.
async fn or_never<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn pass_on(forward: &mpsc::Sender<(To, Bytes)>, to: To, message: Bytes) {
    if forward.try_send((to, message)).is_err() {
        warn!("peers are too slow: a message was dropped");
    }
}

async fn forward_all(sender: ChannelSender, mut messages: mpsc::Receiver<(To, Bytes)>) {
    let mut late = JoinSet::new();
    while let Some((to, message)) = messages.recv().await {
        while late.try_join_next().is_some() {}
        if late.len() >= MAX_LATE {
            let _ = sender.try_send(to, message);
            continue;
        }
        let sender = sender.clone();
        let mut sending = Box::pin(async move { sender.send(to, message).await });
        // Those with room have it at once and in order; who has none, and is closed as too slow by the router, keeps nobody waiting.
        tokio::select! {
            biased;
            _ = &mut sending => {}
            () = std::future::ready(()) => { late.spawn(sending); }
        }
    }
}

/// Lines of stdin. A thread of its own reads them: a read of stdin cannot be cancelled, and would keep the runtime from ending.
fn stdin() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(MAX_LINES);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn listening(node: &Node) -> Result<Event, Failure> {
    let mconn = node.tendermint().map(|wire| wire.local_address().to_string());
    let rlpx = node.ethereum().map(|ethereum| ethereum.local_address().to_string());
    let record = node.discovery().map(|discovery| discovery.local_record());
    let record = record.ok_or_else(|| Failure::Failed("the node has no discovery".to_owned()))?;
    let enr = record.enr().map(ToString::to_string).unwrap_or_default();
    Ok(Event::Listening { enode: record.to_string(), enr, mconn, rlpx })
}

fn peer_down(wire: Wire, peer: &Peer, reason: &CloseReason, peers: usize) -> Event {
    Event::PeerDown { wire, peer: peer.id.to_string(), reason: reason.to_string(), peers }
}

fn peer_up(wire: Wire, peer: &Peer, peers: usize) -> Event {
    Event::PeerUp {
        wire,
        peer: peer.id.to_string(),
        address: peer.remote.to_string(),
        direction: match peer.direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        },
        moniker: peer.info.name().to_owned(),
        peers,
    }
}

impl Args {
    /// The discovery side, whose bootnodes are still to come.
    fn discovery(&self) -> Result<kadwire_discovery::Config, Failure> {
        let datadir = self.datadir.clone().or_else(|| self.home.as_ref().map(|home| home.join("data")));
        let key = match self.key.key()? {
            Some(key) => key,
            None => kept_key(datadir.as_deref())?,
        };
        let mut discovery = kadwire_discovery::Config::new(key, self.addr.address());
        discovery.netrestrict.clone_from(&self.reach.netrestrict.0);
        discovery.public_only = self.reach.public_only;
        discovery.node_db = datadir.map(|dir| dir.join("nodes.db"));
        Ok(discovery)
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
    std::fs::create_dir_all(datadir).map_err(|error| failed(&format!("{}: {error}", datadir.display())))?;
    let file = datadir.join("node_key.json");
    NodeKey::load_or_generate(&file, &mut random::generator())
        .map_err(|error| failed(&format!("{}: {error}", file.display())))
}
