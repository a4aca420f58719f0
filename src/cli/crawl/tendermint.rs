//! `kadwire crawl tendermint`.

use std::sync::Arc;
use std::time::Duration;

use kadwire::crawl::tendermint::{self, Config};
use kadwire_wire::{PeerAddress, PeerId};

use super::super::devnet::{self, Nodes, crawler_transport};
use super::super::exit::{Exit, Failure};
use super::super::options::List;
use super::super::shutdown::Shutdown;
use super::Common;
use super::progress::Bar;

/// Nodes of our own get so long to find each other.
const SETTLE: Duration = Duration::from_secs(20);

/// Ask every Tendermint peer for the addresses it knows (PEX)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Peers to begin with
    #[arg(
        long,
        value_name = "ID@HOST:PORT,…",
        default_value = "",
        hide_default_value = true,
        required_unless_present = "devnet"
    )]
    seeds: List<PeerAddress>,

    /// The chain: peers refuse those of another network
    #[arg(
        long,
        visible_alias = "network",
        value_name = "ID",
        required_unless_present = "devnet",
        conflicts_with = "devnet"
    )]
    chain_id: Option<String>,

    /// Never dial private, shared (CGNAT), loopback, link-local, multicast or special addresses, whoever names them
    #[arg(long, conflicts_with = "devnet")]
    public_only: bool,

    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let mut shutdown = Shutdown::new()?;
    if args.seeds.0.is_empty() && args.common.devnet.is_none() {
        return Err(Failure::usage("--seeds", "nobody to begin with"));
    }
    if let Some(other) = args.seeds.0.iter().find(|seed| !matches!(seed.id(), PeerId::Tendermint(_))) {
        return Err(Failure::usage("--seeds", format!("{other} is not a Tendermint address: want id@host:port")));
    }
    args.common.prepare()?;
    let transport = crawler_transport(args.chain_id.as_deref().unwrap_or(devnet::CHAIN), args.public_only).await?;
    let (mut start, mut devnet) = (args.seeds.0, None);
    if let Some(count) = args.common.devnet {
        let nodes = Nodes::start(count).await?;
        tokio::select! {
            () = nodes.connected(SETTLE) => {}
            () = shutdown.requested() => {
                shutdown.unless_asked_again(nodes.stop()).await;
                return Ok(Exit::Done);
            }
        }
        start.extend(nodes.first_peer());
        devnet = Some(nodes);
    }
    let mut config = Config::default();
    args.common.apply(&mut config.crawl);
    let bar = Bar::new();
    let mut interrupted = false;
    let stop = async { interrupted = args.common.stop(&mut shutdown).await };
    let crawled = tendermint::crawl(Arc::new(transport), start, config, |progress| bar.show(progress), stop).await;
    drop(bar);
    if let Some(nodes) = devnet {
        nodes.stop().await;
    }
    args.common.finish(&crawled, interrupted)
}
