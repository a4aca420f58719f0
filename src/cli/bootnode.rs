//! `kadwire bootnode`: serves discv4 and dials nobody.
//!
//! Takes the flags of go-ethereum's old `bootnode`, with one dash or two. Its first two lines on stdout are its enode URL and its ENR.

use std::path::{Path, PathBuf};

use kadwire::nat::{Nat, Plan};
use kadwire::status::BootnodeSource;
use kadwire_discovery::{BindError, Config, Discovery, NodeRecord, SecretKey};
use tracing::{info, warn};

use super::bootnodes::Bootnodes;
use super::exit::{Exit, Failure};
use super::options::{Listen, NatFlags, NodeKeyFlags, ReachFlags};
use super::shutdown::{self, Shutdown};
use super::status::StatusFlag;
use super::{output, random};

/// Serve Ethereum node discovery (discv4)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// UDP address to listen on; :PORT is every interface, over IPv4 and IPv6
    #[arg(long, value_name = "IP:PORT", default_value = ":30301")]
    addr: Listen,

    #[command(flatten)]
    key: NodeKeyFlags,

    /// Make a node key, write it to FILE (mode 0600) and exit
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodekey", "nodekeyhex"])]
    genkey: Option<PathBuf>,

    /// Print the node's public key (128 hex digits) and exit
    #[arg(long)]
    writeaddress: bool,

    #[command(flatten)]
    nat: NatFlags,

    #[command(flatten)]
    reach: ReachFlags,

    /// Nodes to begin with
    #[arg(long, value_name = "ENODE|ENR,…", default_value = "", hide_default_value = true)]
    bootnodes: Bootnodes,

    /// Where the node's key and database are kept; without, nothing is
    #[arg(long, value_name = "DIR")]
    datadir: Option<PathBuf>,

    #[command(flatten)]
    status: StatusFlag,
}

pub(super) fn run(args: Args) -> Result<Exit, Failure> {
    if let Some(file) = &args.genkey {
        let key = SecretKey::random(&mut random::generator());
        key.save(file).map_err(|error| Failure::of("--genkey", error))?;
        if args.writeaddress {
            output::line(key.public())?;
        }
        return Ok(Exit::Done);
    }
    let given = args.key.key()?;
    let is_kept = given.is_some() || args.datadir.is_some();
    let key = given.map_or_else(|| kept_key(args.datadir.as_deref()), Ok)?;
    if args.writeaddress {
        output::line(key.public())?;
        return Ok(Exit::Done);
    }
    if let Some(datadir) = &args.datadir {
        make_folder(datadir)?;
    }
    let plan = args.nat.plan(args.addr)?;
    args.bootnodes.check(&args.reach.reach(args.addr))?;
    if !is_kept {
        warn!("this identity lasts until exit: keep one with --datadir, or with --genkey and --nodekey");
    }
    shutdown::runtime_of_one_thread()?.block_on(serve(args, key, plan))
}

/// The key in the data folder, made at the first start; without a folder, one for this run.
pub(super) fn kept_key(datadir: Option<&Path>) -> Result<SecretKey, Failure> {
    let Some(datadir) = datadir else { return Ok(SecretKey::random(&mut random::generator())) };
    let failed = |error: &dyn std::fmt::Display| Failure::of("--datadir", error);
    make_folder(datadir)?;
    let file = datadir.join("nodekey");
    if file.exists() {
        return SecretKey::load(&file).map_err(|error| failed(&error));
    }
    let key = SecretKey::random(&mut random::generator());
    key.save(&file).map_err(|error| failed(&error))?;
    Ok(key)
}

/// Makes the data folder, if it is not there.
pub(super) fn make_folder(datadir: &Path) -> Result<(), Failure> {
    let shown = datadir.display();
    if datadir.exists() && !datadir.is_dir() {
        return Err(Failure::of("--datadir", format!("{shown} is no folder")));
    }
    std::fs::create_dir_all(datadir)
        .map_err(|error| Failure::of("--datadir", format!("cannot make the folder {shown}: {error}")))
}

async fn serve(args: Args, key: SecretKey, plan: Plan) -> Result<Exit, Failure> {
    let mut shutdown = Shutdown::new()?;
    let reach = args.reach.reach(args.addr);
    let mut config = Config::new(key, args.addr.address());
    config.advertise_ips = plan.explicit_ips();
    config.bootnodes = tokio::select! {
        found = args.bootnodes.resolve(&reach) => found,
        () = shutdown.requested() => return Ok(Exit::Done),
    };
    config.netrestrict = args.reach.netrestrict.0;
    config.public_only = args.reach.public_only;
    config.node_db = args.datadir.map(|dir| dir.join("nodes.db"));
    let discovery = Discovery::bind(config).await.map_err(|error| match error {
        BindError::NodeDb(error) => Failure::of("--datadir", error),
        error => Failure::of("--addr", error),
    })?;
    let mut nat = None;
    let served = async {
        let _serving = args.status.serve(BootnodeSource::new(&discovery)).await?;
        announce(&discovery.local_record())?;
        nat = Nat::start(&plan, discovery.clone(), [None; 2]);
        shutdown.requested().await;
        Ok(Exit::Done)
    }
    .await;
    if let Ok(stats) = discovery.stats().await {
        let (nodes, udp) = (stats.table_nodes, stats.udp);
        let (malformed, withheld) = (udp.malformed.total(), stats.discv4.sends_withheld);
        info!(nodes, received = udp.received, malformed, sent = udp.sent, withheld, "stopping");
    }
    let close = async {
        if let Some(nat) = nat {
            nat.stop().await;
        }
        discovery.close().await;
    };
    shutdown.unless_asked_again(close).await;
    served
}

/// The first two lines.
fn announce(record: &NodeRecord) -> Result<(), Failure> {
    output::line(record)?;
    if let Some(enr) = record.enr() {
        output::line(enr)?;
    }
    info!(id = %record.id(), udp = %record.endpoint(), "serving");
    Ok(())
}
