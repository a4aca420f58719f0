//! `kadwire node`: the whole stack. Finds others by discv4, dials those whose record has `tm`, runs MConnection and PEX, gossips.
//!
//! What is typed on stdin is said to all; what others say is printed. With `--json` each line is an object, the first one
//! `{"event":"listening","enode":…,"enr":…,"mconn":"id@ip:port"}`.

use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kadwire::config::NodeConfig;
use kadwire::nat::Plan;
use kadwire::node::Node;
use kadwire::router::{Channel, ChannelEvent, ChannelSender, Peer, To};
use kadwire_wire::tendermint::key::NodeKey;
use kadwire_wire::transport::Direction;
use kadwire_wire::{PeerAddress, PeerId};
use rand::Rng;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::bootnode::kept_key;
use super::bootnodes::Bootnodes;
use super::exit::{Exit, Failure};
use super::options::{List, Listen, NatFlags, NodeKeyFlags, ReachFlags};
use super::random;
use super::shutdown::{self, Shutdown};

mod events;
mod gossip;

use events::Event;
use gossip::Gossip;

/// Messages on their way to peers. Beyond that new ones are dropped: a slow peer must not keep us from hearing the others.
const MAX_FORWARDING: usize = 256;

/// Lines read ahead from stdin.
const MAX_LINES: usize = 16;

/// Run a node: discovery, peers, peer exchange, gossip
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// UDP address to listen on, for discovery; :PORT is every interface, over IPv4 and IPv6
    #[arg(long, value_name = "IP:PORT", default_value = ":30303")]
    addr: Listen,

    /// TCP address to listen on, for peers; likewise
    #[arg(long, value_name = "IP:PORT", default_value = ":26656")]
    laddr: Listen,

    #[command(flatten)]
    nat: NatFlags,

    /// Discovery nodes to begin with
    #[arg(long, value_name = "ENODE|ENR,…", default_value = "")]
    bootnodes: Bootnodes,

    /// Tendermint peers that are asked for addresses when nobody is known
    #[arg(long, value_name = "ID@HOST:PORT,…", default_value = "")]
    seeds: List<PeerAddress>,

    /// Tendermint peers to stay connected with
    #[arg(long, alias = "persistent_peers", value_name = "ID@HOST:PORT,…", default_value = "")]
    persistent_peers: List<PeerAddress>,

    /// The chain: nodes of another network are no peers
    #[arg(long, visible_alias = "network", value_name = "ID", default_value = "kadwire")]
    chain_id: String,

    /// Our name
    #[arg(long, value_name = "NAME", default_value = "kadwire")]
    moniker: String,

    /// Where keys, the node database and the address book are kept; without, nothing is
    #[arg(long, visible_alias = "home", value_name = "DIR")]
    datadir: Option<PathBuf>,

    #[command(flatten)]
    key: NodeKeyFlags,

    #[command(flatten)]
    reach: ReachFlags,

    /// Most peers that dialed us
    #[arg(long, alias = "max_num_inbound_peers", value_name = "N", default_value_t = 40)]
    max_num_inbound_peers: usize,

    /// Most peers that we dial
    #[arg(long, alias = "max_num_outbound_peers", value_name = "N", default_value_t = 10)]
    max_num_outbound_peers: usize,

    /// Only publicly routable addresses enter the address book; by default unless we are on a private or loopback address ourselves
    #[arg(long, alias = "addr_book_strict", value_name = "BOOL")]
    addr_book_strict: Option<bool>,

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

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<Exit, Failure> {
    shutdown::runtime()?.block_on(serve(args))
}

async fn serve(args: Args) -> Result<Exit, Failure> {
    let mut shutdown = Shutdown::new()?;
    let plan = args.nat.plan(args.addr)?;
    let reach = args.reach.reach(args.addr);
    args.bootnodes.check(&reach)?;
    let (mut discovery, config) = args.configs(&plan)?;
    discovery.bootnodes = args.bootnodes.resolve(&reach).await;
    if args.datadir.is_none() {
        warn!("this identity lasts until exit: keep one with --datadir");
    }
    let mut builder = Node::builder(config);
    builder.with_discovery(discovery).with_nat(plan).with_pex();
    let mut channel = builder.channel(gossip::channel());
    let node = builder.start().await.map_err(|error| Failure::Failed(error.to_string()))?;
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
    while let Some((to, message)) = messages.recv().await {
        // Who did not take it is closed as too slow by the router.
        let _ = sender.send(to, message).await;
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
        moniker: peer.node_info.moniker.clone(),
        peers,
    }
}

impl Args {
    fn configs(&self, plan: &Plan) -> Result<(kadwire_discovery::Config, NodeConfig), Failure> {
        for (flag, peers) in [("--seeds", &self.seeds.0), ("--persistent-peers", &self.persistent_peers.0)] {
            if let Some(other) = peers.iter().find(|peer| !matches!(peer.id(), PeerId::Tendermint(_))) {
                return Err(Failure::usage(flag, format!("{other} is not a Tendermint address: want id@host:port")));
            }
        }
        let key = match self.key.key()? {
            Some(key) => key,
            None => kept_key(self.datadir.as_deref())?,
        };
        let mut discovery = kadwire_discovery::Config::new(key, self.addr.address());
        discovery.netrestrict.clone_from(&self.reach.netrestrict.0);
        discovery.public_only = self.reach.public_only;
        discovery.node_db = self.datadir.as_ref().map(|dir| dir.join("nodes.db"));

        let mut node = NodeConfig::new(tendermint_key(self.datadir.as_deref())?, &self.chain_id);
        node.moniker.clone_from(&self.moniker);
        node.laddr = self.laddr.address();
        let explicit = plan.explicit_ips().first().copied();
        // Port 0: the one we listen on.
        node.external_address = explicit.map(|ip| SocketAddr::new(ip, 0));
        node.seeds.clone_from(&self.seeds.0);
        node.persistent_peers.clone_from(&self.persistent_peers.0);
        node.max_num_inbound_peers = self.max_num_inbound_peers;
        node.max_num_outbound_peers = self.max_num_outbound_peers;
        node.netrestrict.clone_from(&self.reach.netrestrict.0);
        node.public_only = self.reach.public_only;
        node.addr_book_file = self.datadir.as_ref().map(|dir| dir.join("addrbook.json"));
        node.allow_duplicate_ip = self.allow_duplicate_ip.unwrap_or(node.allow_duplicate_ip);
        node.addr_book_strict =
            self.addr_book_strict.unwrap_or_else(|| !is_private(explicit.unwrap_or(node.laddr.ip())));
        node.validate().map_err(|error| Failure::Usage(error.to_string()))?;
        Ok((discovery, node))
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
