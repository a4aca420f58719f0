//! `kadwire crawl`: walks a network to its end and writes what it learned.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use kadwire::crawl::output::{self, Describe, Summary};
use kadwire::crawl::{Config, Crawled};

use super::exit::{Exit, Failure};
use super::output::line;
use super::shutdown::Shutdown;

mod eth;
mod progress;
mod tendermint;

/// Walk a network and write its nodes, and who told us of whom
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    network: Network,
}

#[derive(Debug, Subcommand)]
enum Network {
    Eth(eth::Args),
    Tendermint(tendermint::Args),
}

/// Flags of every crawl.
#[derive(Debug, clap::Args)]
struct Common {
    /// Folder for nodes.ndjson, edges.ndjson and crawl.json; without, only the summary is printed
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Print crawl.json on stdout instead of a table
    #[arg(long)]
    json: bool,

    /// Crawl N nodes of our own, started in this process on loopback
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=1000))]
    devnet: Option<u16>,

    /// Stop after so many seconds (exit code 3: what was found so far is written)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,

    /// Nodes visited at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    parallel: Option<u16>,

    /// Questions to a node that does not answer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10))]
    attempts: Option<u32>,

    /// Most nodes to keep
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

pub(super) fn run(args: Args) -> Result<Exit, Failure> {
    let runtime = super::shutdown::runtime()?;
    match args.network {
        Network::Eth(args) => runtime.block_on(eth::run(args)),
        Network::Tendermint(args) => runtime.block_on(tendermint::run(args)),
    }
}

impl Common {
    fn apply(&self, config: &mut Config) {
        config.parallel = self.parallel.map_or(config.parallel, usize::from);
        config.attempts = self.attempts.unwrap_or(config.attempts);
        config.limits.nodes = self.limit.map_or(config.limits.nodes, |limit| limit as usize);
    }

    /// Makes the folder before the crawl: to learn afterwards that it cannot be written would be late.
    fn prepare(&self) -> Result<(), Failure> {
        let Some(out) = &self.out else { return Ok(()) };
        std::fs::create_dir_all(out).map_err(|error| Failure::of("--out", format!("{}: {error}", out.display())))
    }

    /// Ready when the crawl must stop: `true` for a signal, `false` for the end of `--timeout`.
    async fn stop(&self, shutdown: &mut Shutdown) -> bool {
        match self.timeout {
            None => {
                shutdown.requested().await;
                true
            }
            Some(seconds) => tokio::select! {
                () = shutdown.requested() => true,
                () = tokio::time::sleep(Duration::from_secs(seconds)) => false,
            },
        }
    }

    /// Writes and prints the result.
    fn finish<V: Describe>(&self, crawled: &Crawled<V>, interrupted: bool) -> Result<Exit, Failure> {
        let Crawled { topology, summary } = crawled;
        if let Some(out) = &self.out {
            output::save(out, topology, summary)
                .map_err(|error| Failure::of("--out", format!("{}: {error}", out.display())))?;
        }
        if self.json {
            let json = serde_json::to_string(summary).map_err(|error| Failure::of("cannot print", error))?;
            line(json)?;
        } else {
            self.table(summary)?;
        }
        match summary {
            _ if interrupted => Ok(Exit::Done),
            Summary { reachable: 0, .. } => Err(Failure::Failed("no node answered".to_owned())),
            Summary { complete: false, .. } => Ok(Exit::Partial),
            _ => Ok(Exit::Done),
        }
    }

    fn table(&self, summary: &Summary) -> Result<(), Failure> {
        line(format_args!("found      {}", summary.found))?;
        line(format_args!("reachable  {}", summary.reachable))?;
        line(format_args!("edges      {}", summary.edges))?;
        line(format_args!("seconds    {:.2}", summary.seconds))?;
        for (cause, count) in &summary.errors {
            line(format_args!("error      {cause}: {count}"))?;
        }
        if !summary.complete {
            line("partial    stopped before the end, or at a limit")?;
        }
        if let Some(out) = &self.out {
            line(format_args!("written    {}", out.display()))?;
        }
        Ok(())
    }
}
