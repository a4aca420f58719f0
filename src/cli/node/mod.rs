//! `kadwire node`: the whole stack. Finds others by discv4, dials those whose record has `tm`, runs MConnection and PEX, gossips.
//!
//! What is typed on stdin is said to all; what others say is printed. With `--json` each line is an object, the first one
//! `{"event":"listening","enode":…,"enr":…,"mconn":"id@ip:port"}`.

use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kadwire::config::{DEFAULT_PORT, NodeConfig, home::Loaded};
use kadwire::nat::Plan;
use kadwire::node::Node;
use kadwire::router::{Channel, ChannelEvent, ChannelSender, Peer, To};
use kadwire::status::NodeSource;
use kadwire_wire::tendermint::key::NodeKey;
use kadwire_wire::transport::Direction;
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

use events::Event;
use gossip::Gossip;
use p2p::P2pFlags;

/// The chain of a node that is given none.
const DEFAULT_CHAIN: &str = "kadwire";

/// Messages on their way to peers. Beyond that new ones are dropped: a slow peer must not keep us from hearing the others.
const MAX_FORWARDING: usize = 256;

/// Messages that wait for peers without room, beside the others. Beyond that such peers are passed over.
const MAX_LATE: usize = 64;

/// Lines read ahead from stdin.
const MAX_LINES: usize = 16;

/// Run a node: discovery, peers, peer exchange, gossip
#[derive(Debug, clap::Args)]
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
    let node = args.node(&plan)?;
    let discovery = args.discovery()?;
    shutdown::runtime()?.block_on(serve(args, plan, node, discovery))
}

async fn serve(
    args: Args,
    plan: Plan,
    node: NodeConfig,
    mut discovery: kadwire_discovery::Config,
) -> Result<Exit, Failure> {
    let mut shutdown = Shutdown::new()?;
    let reach = args.reach.reach(args.addr);
    args.bootnodes.check(&reach)?;
    discovery.bootnodes = args.bootnodes.resolve(&reach).await;
    if args.datadir.is_none() && args.home.is_none() {
        warn!("this identity lasts until exit: keep one with --datadir");
    }
    let mut builder = Node::builder(node);
    builder.with_discovery(discovery).with_pex();
    if args.nat.given() {
        builder.with_nat(plan);
    }
    let mut channel = builder.channel(gossip::channel());
    let node = builder.start().await.map_err(|error| Failure::Failed(error.to_string()))?;
    let _serving = args.status.serve(NodeSource::new(&node)).await?;
    let talk = talk(&node, &mut channel, args.json);
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
async fn talk(node: &Node, channel: &mut Channel, json: bool) -> Result<(), Failure> {
    listening(node)?.print(json)?;
    let mut gossip = Gossip::default();
    let mut lines = stdin();
    let mut peers: usize = 0;
    let (forward, forwarding) = mpsc::channel(MAX_FORWARDING);
    let forwarder = tokio::spawn(forward_all(channel.sender(), forwarding));
    let result = loop {
        let event = tokio::select! {
            event = channel.next() => match event {
                None => break Ok(()),
                Some(ChannelEvent::Up(peer)) => {
                    peers += 1;
                    peer_up(&peer, peers)
                }
                Some(ChannelEvent::Down(peer, reason)) => {
                    peers = peers.saturating_sub(1);
                    Event::PeerDown { peer: peer.id.to_string(), reason: reason.to_string(), peers }
                }
                Some(ChannelEvent::Message(envelope)) => {
                    let Some(message) = gossip.hear(&envelope.message) else { continue };
                    pass_on(&forward, To::Except(envelope.from), envelope.message);
                    Event::Gossip { from: envelope.from.to_string(), message }
                }
            },
            Some(line) = lines.recv() => {
                let mut name = [0; 16];
                random::generator().fill_bytes(&mut name);
                match gossip.say(name, &line) {
                    Some(message) => pass_on(&forward, To::All, message),
                    None => warn!(bytes = line.len(), "line is too long to be said"),
                }
                continue;
            }
        };
        if let Err(failure) = event.print(json) {
            break Err(failure);
        }
    };
    forwarder.abort();
    result
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
    let mconn = node.local_address().to_string();
    let record = node.discovery().map(|discovery| discovery.local_record());
    let record = record.ok_or_else(|| Failure::Failed("the node has no discovery".to_owned()))?;
    let enr = record.enr().map(ToString::to_string).unwrap_or_default();
    Ok(Event::Listening { enode: record.to_string(), enr, mconn })
}

fn peer_up(peer: &Peer, peers: usize) -> Event {
    Event::PeerUp {
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
