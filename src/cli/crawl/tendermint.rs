//! `kadwire crawl tendermint`.

use std::sync::Arc;

use kadwire::crawl::tendermint::{self, Config};
use kadwire_wire::tendermint::key::NodeKey;
use kadwire_wire::transport::{TendermintConfig, TendermintTransport};
use kadwire_wire::{PeerAddress, PeerId};

use super::super::exit::{Exit, Failure};
use super::super::options::List;
use super::super::random;
use super::super::shutdown::Shutdown;
use super::Common;
use super::progress::Bar;

/// Ask every Tendermint peer for the addresses it knows (PEX)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Peers to begin with
    #[arg(long, value_name = "ID@HOST:PORT,…")]
    seeds: List<PeerAddress>,

    /// The chain: peers refuse those of another network
    #[arg(long, visible_alias = "network", value_name = "ID")]
    chain_id: String,

    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let mut shutdown = Shutdown::new()?;
    if args.seeds.0.is_empty() {
        return Err(Failure::usage("--seeds", "nobody to begin with"));
    }
    args.common.prepare()?;
    if let Some(other) = args.seeds.0.iter().find(|seed| !matches!(seed.id(), PeerId::Tendermint(_))) {
        return Err(Failure::usage("--seeds", format!("{other} is not a Tendermint address: want id@host:port")));
    }
    let key = NodeKey::generate(&mut random::generator());
    let transport = TendermintTransport::bind(TendermintConfig {
        channels: vec![tendermint::channel()],
        ..TendermintConfig::new(key, args.chain_id, MONIKER)
    });
    let transport = transport.await.map_err(|error| Failure::usage("--chain-id", error))?;
    let mut config = Config::default();
    args.common.apply(&mut config.crawl);
    let bar = Bar::new();
    let mut interrupted = false;
    let stop = async { interrupted = args.common.stop(&mut shutdown).await };
    let crawled =
        tendermint::crawl(Arc::new(transport), args.seeds.0, config, |progress| bar.show(progress), stop).await;
    drop(bar);
    args.common.finish(&crawled, interrupted)
}

/// Who we say we are, so that operators know who visits them.
const MONIKER: &str = "kadwire-crawl";
