//! `kadwire crawl eth`.

use std::time::Duration;

use kadwire::crawl::{Config, discv4};
use kadwire_discovery::discv4::Reach;
use kadwire_discovery::{Discovery, NodeRecord, SecretKey};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::super::bootnodes::Bootnodes;
use super::super::devnet::Discoveries;
use super::super::exit::{Exit, Failure};
use super::super::options::{Listen, NodeKeyFlags, ReachFlags};
use super::super::random;
use super::super::shutdown::Shutdown;
use super::Common;
use super::progress::Bar;

/// Nodes of our own get so long to find each other.
const SETTLE: Duration = Duration::from_secs(30);

/// Between two crawls of a network that is not yet whole.
const AGAIN: Duration = Duration::from_millis(200);

/// Ask every Ethereum node for every bucket of its table (discv4)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Nodes to begin with
    #[arg(
        long,
        value_name = "ENODE|ENR,…",
        default_value = "",
        hide_default_value = true,
        required_unless_present = "devnet"
    )]
    bootnodes: Bootnodes,

    /// UDP address to ask from
    #[arg(long, value_name = "IP:PORT", default_value = ":0")]
    addr: Listen,

    #[command(flatten)]
    key: NodeKeyFlags,

    #[command(flatten)]
    reach: ReachFlags,

    #[command(flatten)]
    common: Common,
}

impl Args {
    /// Whom to ask first, and the nodes of our own if such are crawled.
    async fn begin(&self, reach: &Reach) -> Result<(Vec<NodeRecord>, Option<Discoveries>), Failure> {
        let mut start = self.bootnodes.resolve(reach).await;
        let nodes = match self.common.devnet {
            Some(count) => Some(Discoveries::start(count).await?),
            None => None,
        };
        if let Some(nodes) = &nodes {
            nodes.settled().await;
            start.extend(nodes.bootnode());
        }
        match start.is_empty() {
            true => Err(Failure::of("--bootnodes", "none has an address to ask at")),
            false => Ok((start, nodes)),
        }
    }
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let mut shutdown = Shutdown::new()?;
    if args.bootnodes.0.is_empty() && args.common.devnet.is_none() {
        return Err(Failure::usage("--bootnodes", "nobody to begin with"));
    }
    let reach = args.reach.reach(args.addr);
    args.bootnodes.check(&reach)?;
    args.common.prepare()?;
    let key = args.key.key()?.unwrap_or_else(|| SecretKey::random(&mut random::generator()));
    let (start, devnet) = tokio::select! {
        begun = args.begin(&reach) => begun?,
        () = shutdown.requested() => return Ok(Exit::Done),
    };
    let mut settings = kadwire_discovery::Config::new(key, args.addr.address());
    settings.netrestrict = args.reach.netrestrict.0;
    settings.public_only = args.reach.public_only;
    let discovery = Discovery::bind(settings).await;
    let discovery = discovery.map_err(|error| Failure::of("--addr", error))?;
    let mut config = Config::default();
    args.common.apply(&mut config);
    let bar = Bar::new();
    let mut interrupted = false;
    let deadline = Instant::now() + SETTLE;
    let crawled = loop {
        let stop = async { interrupted = args.common.stop(&mut shutdown).await };
        let watch = |progress| bar.show(progress);
        let crawled = discv4::crawl(&discovery, start.clone(), config.clone(), watch, stop).await;
        // Nodes of our own are young, and name nobody whom they have not checked yet.
        let is_young = args.common.devnet.is_some_and(|count| crawled.summary.reachable < usize::from(count));
        if !is_young || !crawled.summary.complete || Instant::now() > deadline {
            break crawled;
        }
        sleep(AGAIN).await;
    };
    drop(bar);
    if let Ok(stats) = discovery.stats().await {
        debug!(?stats, "crawled");
    }
    discovery.close().await;
    if let Some(nodes) = devnet {
        nodes.close().await;
    }
    args.common.finish(&crawled, interrupted)
}
