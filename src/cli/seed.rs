//! `kadwire seed`: tells the nodes of one or more Tendermint chains whom to dial, and checks every address before it does.
//!
//! For each chain one line on stdout, `id@ip:port`; with `--json` an object
//! `{"event":"listening","chain_id":…,"mconn":"id@ip:port"}`, and then one `{"event":"status",…}` for each chain whenever it is time.

use std::fs::{File, TryLockError};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Subcommand;
use kadwire::book::{self, BookConfig};
use kadwire::config::{NodeConfig, home, home::Loaded};
use kadwire::seed::{self, Chain, Config, Running, Status};
use kadwire::status::SeedSource;
use kadwire::visit;
use kadwire_discovery::Now;
use kadwire_wire::PeerAddress;
use kadwire_wire::transport::{TendermintConfig, TendermintTransport, Transport};
use rand::Rng;
use serde::Serialize;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::exit::{Exit, Failure};
use super::options::{List, Listen};
use super::shutdown::{self, Shutdown};
use super::status::StatusFlag;
use super::{output, random};

/// From a stream to a proven peer, unless `config.toml` says otherwise. CometBFT's 20 s would let silent hosts hold a visit for long.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Run a seed: tell the nodes of Tendermint chains whom to dial
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Needed: home folder as CometBFT's: config/node_key.json, config/addrbook.json and, if it is there, config/config.toml; flags win over that
    #[arg(long, value_name = "DIR", global = true)]
    home: Option<PathBuf>,

    /// TCP address to listen on (tcp://0.0.0.0:26656 unless config.toml says otherwise)
    #[arg(long, value_name = "tcp://IP:PORT")]
    laddr: Option<Listen>,

    /// The chain: peers refuse those of another network
    #[arg(long, visible_alias = "network", value_name = "ID")]
    chain_id: Option<String>,

    /// Peers to begin with
    #[arg(long, value_name = "ID@HOST:PORT,…")]
    seeds: Option<List<PeerAddress>>,

    /// One of several chains: its id, where to listen for it, and peers to begin with. Its book is kept in DIR/ID/addrbook.json
    #[arg(
        long = "chain",
        value_name = "ID=tcp://IP:PORT[,ID@HOST:PORT,…]",
        conflicts_with_all = ["laddr", "chain_id", "seeds"]
    )]
    chains: Vec<ChainFlag>,

    /// Where others reach us, if not where we listen; without a port, each chain's own
    #[arg(long, alias = "external_address", value_name = "IP[:PORT]")]
    external_address: Option<External>,

    /// Our name
    #[arg(long, value_name = "NAME")]
    moniker: Option<String>,

    /// Only publicly routable addresses enter the address book; by default unless we are on a private or loopback address ourselves
    #[arg(long, alias = "addr_book_strict", value_name = "BOOL")]
    addr_book_strict: Option<bool>,

    /// Most peers that are connected with us, of each chain (1000; each stays until it is answered)
    #[arg(long, alias = "max_num_inbound_peers", value_name = "N")]
    max_num_inbound_peers: Option<usize>,

    /// Peers visited at the same time, of each chain
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallel: u16,

    /// Seconds between two checks of an address that is served
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    recheck: Duration,

    /// Seconds between two status lines
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    status_every: Duration,

    #[command(flatten)]
    status: StatusFlag,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the seed, as without a subcommand
    Start,
    /// Print our node id, which is made if there is none, and exit
    ShowNodeId,
}

/// A tenth of a second to a year.
fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds: f64 = text.parse().map_err(|_| "want a number of seconds")?;
    match (0.1..=31_536_000.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("want 0.1 to 31536000 seconds"),
    }
}

/// `--external-address`.
#[derive(Debug, Clone, Copy)]
struct External(SocketAddr);

impl FromStr for External {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let place = text.strip_prefix("tcp://").unwrap_or(text);
        let ip = place.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
        ip.or_else(|_| place.parse()).map(External).map_err(|_| "want IP or IP:PORT, such as 203.0.113.7:26656")
    }
}

/// `--chain`.
#[derive(Debug, Clone)]
struct ChainFlag {
    id: String,
    laddr: Listen,
    seeds: Vec<PeerAddress>,
}

impl FromStr for ChainFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, rest) = text.split_once('=').ok_or("want ID=tcp://IP:PORT, then seeds after commas")?;
        let (laddr, seeds) = rest.split_once(',').unwrap_or((rest, ""));
        let laddr = laddr.parse().map_err(|error| format!("{laddr:?}: {error}"))?;
        Ok(ChainFlag { id: id.to_owned(), laddr, seeds: seeds.parse::<List<_>>()?.0 })
    }
}

pub(super) fn run(args: Args) -> Result<Exit, Failure> {
    let home = args.home.clone().ok_or_else(|| Failure::usage("--home", "want the folder for the key and the book"))?;
    let loaded = home::load(&home, &mut random::generator()).map_err(|error| Failure::Failed(error.to_string()))?;
    if matches!(args.action, Some(Action::ShowNodeId)) {
        output::line(loaded.config.id())?;
        return Ok(Exit::Done);
    }
    let _alone = alone(&home)?;
    loaded.warnings.iter().for_each(|warning| warn!("{warning}"));
    args.not_heeded(&loaded)?;
    let base = args.base(loaded);
    let chains = args.chains(&home, base)?;
    shutdown::runtime()?.block_on(serve(&args, chains))
}

/// Two seeds on one home folder would be one node twice, and each would write over the other's book. Held as long as the file is open.
fn alone(home: &Path) -> Result<Option<File>, Failure> {
    let Ok(folder) = File::open(home) else { return Ok(None) };
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::of("--home", format!("{} is in use by another process", home.display())))
        }
        // Not every file system has locks.
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

impl Args {
    /// Says which lines of `config.toml` a seed cannot do as told.
    fn not_heeded(&self, Loaded { config, given, .. }: &Loaded) -> Result<(), Failure> {
        if !config.pex {
            return Err(Failure::of("pex", "false in config.toml, but a seed does nothing else: set it to true"));
        }
        let seed: [(&str, bool); 3] = [
            ("upnp", config.upnp),
            ("max_connections", config.max_connections.is_some()),
            ("unconditional_peer_ids", !config.unconditional_peer_ids.is_empty()),
        ];
        let (of_chain, chains) =
            (["laddr", "seeds", "persistent_peers", "addr_book_file", "addr_book_strict"], !self.chains.is_empty());
        let seed = seed.into_iter().filter(|(_, set)| *set).map(|(key, _)| (key, "a seed"));
        let of_chain = of_chain.into_iter().filter(|key| chains && given.contains(*key)).map(|key| (key, "--chain"));
        seed.chain(of_chain).for_each(|(key, with)| warn!("config.toml: {key} has no effect with {with}"));
        Ok(())
    }

    /// What holds for every chain: a seed's defaults, changed by the home folder's configuration, changed by flags.
    fn base(&self, Loaded { mut config, given, .. }: Loaded) -> NodeConfig {
        if !given.contains("handshake_timeout") {
            config.handshake_timeout = HANDSHAKE_TIMEOUT;
        }
        if !given.contains("moniker") {
            config.moniker = "kadwire-seed".to_owned();
        }
        if !given.contains("max_num_inbound_peers") {
            config.max_num_inbound_peers = Config::new(config.id()).slots.inbound;
        }
        config.max_num_inbound_peers = self.max_num_inbound_peers.unwrap_or(config.max_num_inbound_peers);
        config.external_address = self.external_address.map(|external| external.0).or(config.external_address);
        if let Some(moniker) = &self.moniker {
            config.moniker.clone_from(moniker);
        }
        if let Some(laddr) = self.laddr {
            config.laddr = laddr.address();
        }
        if let Some(chain_id) = &self.chain_id {
            config.network.clone_from(chain_id);
        }
        if let Some(seeds) = &self.seeds {
            config.seeds.clone_from(&seeds.0);
        }
        let own = config.external_address.unwrap_or(config.laddr).ip();
        match self.addr_book_strict {
            Some(strict) => config.addr_book_strict = strict,
            None if !given.contains("addr_book_strict") => config.addr_book_strict = !is_private(own),
            None => {}
        }
        config
    }

    /// The configuration of each chain.
    fn chains(&self, home: &Path, base: NodeConfig) -> Result<Vec<NodeConfig>, Failure> {
        let mut chains = Vec::new();
        for chain in &self.chains {
            if !is_folder_name(&chain.id) {
                return Err(Failure::usage("--chain", format!("{:?} cannot be the name of a folder", chain.id)));
            }
            if chains.iter().any(|other: &NodeConfig| other.network == chain.id) {
                return Err(Failure::usage("--chain", format!("{} is there twice", chain.id)));
            }
            let mut config = NodeConfig::new(base.node_key.clone(), &chain.id);
            config.moniker.clone_from(&base.moniker);
            config.laddr = chain.laddr.address();
            config.external_address = base.external_address;
            config.seeds.clone_from(&chain.seeds);
            config.private_peer_ids.clone_from(&base.private_peer_ids);
            config.max_num_inbound_peers = base.max_num_inbound_peers;
            config.max_incoming_connection_attempts = base.max_incoming_connection_attempts;
            config.handshake_timeout = base.handshake_timeout;
            config.dial_timeout = base.dial_timeout;
            config.send_rate = base.send_rate;
            config.recv_rate = base.recv_rate;
            config.max_packet_msg_payload_size = base.max_packet_msg_payload_size;
            let own = config.external_address.unwrap_or(config.laddr).ip();
            config.addr_book_strict = self.addr_book_strict.unwrap_or(!is_private(own));
            config.addr_book_file = Some(home.join(&chain.id).join("addrbook.json"));
            chains.push(config);
        }
        if chains.is_empty() {
            if base.network.is_empty() {
                return Err(Failure::usage("--chain-id", "want the id of the chain (there is no config/genesis.json)"));
            }
            chains.push(base);
        }
        for config in &chains {
            config.validate().map_err(|error| Failure::Usage(error.to_string()))?;
        }
        Ok(chains)
    }
}

/// Whether our own address says that this is a private or local network, whose addresses a strict book would all refuse.
fn is_private(own: IpAddr) -> bool {
    !own.is_unspecified() && kadwire_discovery::is_lan(own)
}

/// A chain id that names a folder of its own below the home folder, and none that is there for something else.
fn is_folder_name(id: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    id.chars().all(fits) && !id.starts_with('.') && !matches!(id, "" | "config" | "data")
}

/// A chain at work.
struct Serving {
    id: String,
    mconn: PeerAddress,
    seeds: usize,
    running: Running,
}

async fn serve(args: &Args, chains: Vec<NodeConfig>) -> Result<Exit, Failure> {
    let mut shutdown = Shutdown::new()?;
    let mut bound = Vec::new();
    // All or none: a port that is taken must not be found out later.
    for config in chains {
        let transport = bind(&config).await?;
        bound.push((config, transport));
    }
    let (mut serving, (report, mut reports)) = (Vec::new(), mpsc::channel(bound.len().max(1)));
    for (number, (config, transport)) in bound.into_iter().enumerate() {
        let one = start(args, config, transport).await?;
        let (mut status, report) = (one.running.status(), report.clone());
        tokio::spawn(async move {
            while status.changed().await.is_ok() {
                let now = status.borrow_and_update().clone();
                if report.send((number, now)).await.is_err() {
                    break;
                }
            }
        });
        serving.push(one);
    }
    let mut source = SeedSource::new();
    for chain in &serving {
        source.add(&chain.id, chain.mconn.clone(), chain.seeds, chain.running.handle());
    }
    let _serving_status = args.status.serve(source).await?;
    let ended = async {
        for chain in &serving {
            announce(chain, args.json)?;
        }
        while let Some((number, status)) = reports.recv().await {
            if let Some(chain) = serving.get(number) {
                tell(chain, status, args.json)?;
            }
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = ended => ended,
        () = shutdown.requested() => Ok(()),
    };
    info!(chains = serving.len(), "stopping: the books are saved");
    let stop = async {
        for chain in serving {
            chain.running.stop().await;
        }
    };
    shutdown.unless_asked_again(stop).await;
    ended.map(|()| Exit::Done)
}

async fn bind(config: &NodeConfig) -> Result<TendermintTransport, Failure> {
    let transport = TendermintConfig {
        channels: vec![visit::channel()],
        listen: Some(config.laddr),
        advertise: config.external_address,
        // Peers see where we dial from, and take it for where we are: it must be where we listen.
        source: Some(config.laddr.ip()).filter(|ip| !ip.is_unspecified()),
        mconnection: config.mconnection(),
        dial_timeout: config.dial_timeout,
        handshake_timeout: config.handshake_timeout,
        ..TendermintConfig::new(config.node_key.clone(), &config.network, &config.moniker)
    };
    TendermintTransport::bind(transport).await.map_err(|error| Failure::Failed(format!("{}: {error}", config.network)))
}

async fn start(args: &Args, config: NodeConfig, transport: TendermintTransport) -> Result<Serving, Failure> {
    let listening = transport.local().socket_addr().unwrap_or(config.laddr);
    let mut public = config.external_address.unwrap_or(listening);
    if public.port() == 0 {
        public.set_port(listening.port());
    }
    if public.ip().is_unspecified() {
        warn!(chain = %config.network, "others cannot know where we are: say it with --external-address");
        public.set_ip(IpAddr::from([127, 0, 0, 1]));
    }
    let mconn = PeerAddress::from_socket(config.id(), public).map_err(|error| Failure::usage("--laddr", error))?;

    let mut seed = Config::new(config.id());
    seed.seeds = config.seeds.iter().chain(&config.persistent_peers).cloned().collect();
    let seeds = seed.seeds.len();
    seed.parallel = args.parallel.into();
    seed.recheck_after = args.recheck;
    seed.slots.inbound = config.max_num_inbound_peers;
    seed.attempts_per_ip = config.max_incoming_connection_attempts;
    seed.seed = random::generator().next_u64();
    let private = config.private_peer_ids.iter().copied().collect();
    let book = BookConfig { strict: config.addr_book_strict, private, seed: random::generator().next_u64() };
    let mut book = open_book(config.addr_book_file.as_deref(), book)?;
    book.add_own(config.id(), [public, listening]);
    info!(chain = %config.network, %listening, known = book.len(), strict = config.addr_book_strict, "serving");
    let chain = Chain { config: seed, book, book_file: config.addr_book_file, status_every: args.status_every };
    Ok(Serving { id: config.network, mconn, seeds, running: seed::start(transport, chain) })
}

fn open_book(file: Option<&Path>, config: BookConfig) -> Result<book::Book, Failure> {
    let Some(file) = file else { return Ok(book::Book::new(config)) };
    let failed = |error| Failure::of("cannot open the address book", format!("{}: {error}", file.display()));
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let loaded = book::file::load(file, config, Now::read().wall).map_err(failed)?;
    if loaded.left_out > 0 {
        warn!(file = %file.display(), left_out = loaded.left_out, "addresses of the book could not be used");
    }
    Ok(loaded.book)
}

/// The first line of a chain.
fn announce(chain: &Serving, json: bool) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Listening<'a> {
        event: &'static str,
        chain_id: &'a str,
        mconn: &'a PeerAddress,
    }
    match json {
        true => print(&Listening { event: "listening", chain_id: &chain.id, mconn: &chain.mconn }),
        false => Ok(output::line(&chain.mconn)?),
    }
}

/// How a chain's seed is doing: a line in the log, or an object.
fn tell(chain: &Serving, status: Status, json: bool) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Line<'a> {
        event: &'static str,
        chain_id: &'a str,
        #[serde(flatten)]
        status: Status,
    }
    if json {
        return print(&Line { event: "status", chain_id: &chain.id, status });
    }
    let Status { known, reachable, unchecked, unreachable, banned, guests, answered, .. } = status;
    let causes: Vec<String> = unreachable.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
    let unreachable = if causes.is_empty() { "none".to_owned() } else { causes.join(", ") };
    info!(chain = %chain.id, known, reachable, unchecked, %unreachable, banned, guests, answered, "status");
    Ok(())
}

fn print(line: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(line).map_err(|error| Failure::of("cannot print", error))?;
    Ok(output::line(json)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_an_id_a_place_and_perhaps_seeds() {
        let seed = format!("{}@1.2.3.4:5", "ab".repeat(20));
        let chain: ChainFlag = format!("cosmoshub-4=tcp://0.0.0.0:26656,{seed},{seed}").parse().unwrap();
        assert_eq!((chain.id.as_str(), chain.seeds.len()), ("cosmoshub-4", 2));
        assert_eq!(chain.laddr, Listen::At("0.0.0.0:26656".parse().unwrap()));
        assert!("osmosis-1=:26656".parse::<ChainFlag>().unwrap().seeds.is_empty());
        for bad in ["osmosis-1", "osmosis-1=nowhere", "a=:1,nobody"] {
            assert!(bad.parse::<ChainFlag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_chain_id_names_a_folder_of_its_own() {
        assert!(["cosmoshub-4", "evmos_9001-2", "a.b"].into_iter().all(is_folder_name));
        assert!(!["", "..", ".x", "a/b", "config", "data", "a b"].into_iter().any(is_folder_name));
    }

    #[test]
    fn an_external_address_may_leave_the_port_to_the_chain() {
        let parsed = |text: &str| text.parse::<External>().map(|external| external.0.to_string());
        assert_eq!(parsed("203.0.113.7"), Ok("203.0.113.7:0".to_owned()));
        assert_eq!(parsed("tcp://203.0.113.7:26656"), Ok("203.0.113.7:26656".to_owned()));
        assert_eq!(parsed("[2001:db8::1]:5"), Ok("[2001:db8::1]:5".to_owned()));
        assert!(parsed("seed.example.org").is_err());
    }

    /// A home folder whose `config.toml` says this.
    fn loaded(toml: &str) -> Loaded {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("config")).unwrap();
        std::fs::write(home.path().join("config/config.toml"), toml).unwrap();
        home::load(home.path(), &mut random::generator()).unwrap()
    }

    fn args(more: &[&str]) -> Args {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        <Line as clap::Parser>::parse_from([&["seed"], more].concat()).args
    }

    #[test]
    fn a_config_file_changes_what_it_names_and_leaves_a_seeds_defaults() {
        let base = |toml: &str| args(&[]).base(loaded(toml));
        let has = |config: &NodeConfig| {
            (config.max_num_inbound_peers, config.handshake_timeout.as_secs(), config.addr_book_strict)
        };
        assert_eq!(has(&base("[p2p]\nladdr = \"tcp://127.0.0.1:1\"")), (1_000, 5, false));
        assert_eq!(has(&base("[p2p]\nladdr = \"tcp://0.0.0.0:1\"\nmax-num-inbound-peers = 7")), (7, 5, true));
        assert_eq!(has(&base("[p2p]\nhandshake_timeout = \"20s\"\naddr_book_strict = false")), (1_000, 20, false));
        assert_eq!(base("").moniker, "kadwire-seed");
        assert_eq!(base("moniker = \"m\"").moniker, "m");
    }

    #[test]
    fn a_seed_without_peer_exchange_is_refused() {
        assert!(args(&[]).not_heeded(&loaded("[p2p]\npex = false")).is_err());
        assert!(args(&[]).not_heeded(&loaded("[p2p]\nupnp = true\nmax_connections = 3")).is_ok());
    }
}
