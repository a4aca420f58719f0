//! `kadwire devnet`: a network of our own nodes in one process, for a first look and for tests.
//!
//! It ends by showing that discovery found all, that they dialed each other, and that PEX spread their addresses: it crawls itself, first
//! by discv4 from the bootnode, then by PEX from one peer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kadwire::crawl::{self, Crawled, discv4, tendermint};
use kadwire_discovery::{Config, Discovery, SecretKey};
use kadwire_wire::tendermint::key::NodeKey;
use kadwire_wire::transport::{TendermintConfig, TendermintTransport};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tracing::debug;

mod discoveries;
mod nodes;

pub(super) use discoveries::Discoveries;
pub(super) use nodes::{CHAIN, Nodes};

use nodes::Connections;

use super::exit::{Exit, Failure};
use super::shutdown::{self, Shutdown};
use super::{output, random};

/// Between two crawls of a network that is not yet whole.
const AGAIN: Duration = Duration::from_millis(200);

/// Run N nodes of our own on loopback and show that they find and join each other
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Number of nodes
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(2..=1000), default_value_t = 16)]
    nodes: u16,

    /// Keep them running until a signal comes
    #[arg(long)]
    stay: bool,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,

    /// Longest wait for the nodes to find each other
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// What was seen.
#[derive(Debug, Serialize)]
struct Report {
    nodes: usize,
    /// Found by a discv4 crawl from the bootnode, and the table entries it was told.
    discovered: usize,
    table_entries: usize,
    connections: usize,
    fewest_peers: usize,
    most_peers: usize,
    one_network: bool,
    /// Found by a PEX crawl from one peer, and the addresses it was told.
    pex_found: usize,
    pex_addresses: usize,
    seconds: f64,
}

pub(super) fn run(args: Args) -> Result<Exit, Failure> {
    shutdown::runtime()?.block_on(show(args))
}

async fn show(args: Args) -> Result<Exit, Failure> {
    let mut shutdown = Shutdown::new()?;
    let started = Instant::now();
    let nodes = Nodes::start(args.nodes).await?;
    let report = tokio::select! {
        report = watch(&nodes, usize::from(args.nodes), started, Duration::from_secs(args.timeout)) => report?,
        () = shutdown.requested() => {
            shutdown.unless_asked_again(nodes.stop()).await;
            return Ok(Exit::Done);
        }
    };
    let printed = report.print(args.json);
    if args.stay && printed.is_ok() {
        if let (Some(record), Some(peer)) = (nodes.bootnode(), nodes.first_peer()) {
            output::line(record)?;
            output::line(peer)?;
        }
        shutdown.requested().await;
    }
    shutdown.unless_asked_again(nodes.stop()).await;
    printed?;
    if report.is_whole() { Ok(Exit::Done) } else { Err(Failure::Failed("the network is not whole".to_owned())) }
}

/// Looks at the network until it is whole, or the time is over.
async fn watch(nodes: &Nodes, count: usize, started: Instant, at_most: Duration) -> Result<Report, Failure> {
    let deadline = started + at_most;
    let key = SecretKey::random(&mut random::generator());
    let crawler = Discovery::bind(Config::new(key, SocketAddr::from(([127, 0, 0, 1], 0)))).await;
    let crawler = crawler.map_err(|error| Failure::of("devnet", error))?;
    let report = loop {
        nodes.connected(deadline.saturating_duration_since(Instant::now())).await;
        let tables = crawl_tables(&crawler, nodes).await;
        // As somebody else each time: a node does not tell the same peer of others again and again.
        let books = crawl_books(crawler_transport(CHAIN, false).await?, nodes).await;
        let Connections { all, fewest, most, is_one_network } = nodes.connections();
        let report = Report {
            nodes: count,
            discovered: tables.summary.reachable,
            table_entries: tables.summary.edges,
            connections: all,
            fewest_peers: fewest,
            most_peers: most,
            one_network: is_one_network,
            pex_found: books.summary.reachable,
            pex_addresses: books.summary.edges,
            seconds: (started.elapsed().as_secs_f64() * 100.0).round() / 100.0,
        };
        if report.is_whole() || Instant::now() >= deadline {
            break report;
        }
        debug!(?report, tables = ?tables.summary, books = ?books.summary, "not whole yet");
        sleep(AGAIN).await;
    };
    crawler.close().await;
    Ok(report)
}

async fn crawl_tables(crawler: &Discovery, nodes: &Nodes) -> Crawled<discv4::EthNode> {
    discv4::crawl(crawler, nodes.bootnode(), crawl::Config::default(), |_| {}, std::future::pending()).await
}

async fn crawl_books(transport: TendermintTransport, nodes: &Nodes) -> Crawled<tendermint::TendermintNode> {
    let config = tendermint::Config::default();
    tendermint::crawl(Arc::new(transport), nodes.first_peer(), config, |_| {}, std::future::pending()).await
}

/// A transport that dials and asks for addresses, under a new identity that says what it is.
pub(super) async fn crawler_transport(chain_id: &str, public_only: bool) -> Result<TendermintTransport, Failure> {
    let key = NodeKey::generate(&mut random::generator());
    let config = TendermintConfig {
        channels: vec![tendermint::channel()],
        may_dial: if public_only { kadwire_discovery::is_public } else { |_| true },
        ..TendermintConfig::new(key, chain_id, "kadwire-crawl")
    };
    TendermintTransport::bind(config).await.map_err(|error| Failure::usage("--chain-id", error))
}

impl Report {
    fn is_whole(&self) -> bool {
        self.discovered >= self.nodes && self.one_network && self.pex_found >= self.nodes
    }

    fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            let json = serde_json::to_string(self).map_err(|error| Failure::of("cannot print", error))?;
            return Ok(output::line(json)?);
        }
        let Report { nodes, discovered, table_entries, connections, fewest_peers, most_peers, .. } = self;
        let Report { one_network, pex_found, pex_addresses, seconds, .. } = self;
        let network = if *one_network { "one network" } else { "not one network" };
        output::line(format_args!("nodes        {nodes} on loopback, knowing one bootnode; after {seconds} s:"))?;
        output::line(format_args!("discovery    {discovered} of {nodes} found, {table_entries} table entries"))?;
        output::line(format_args!(
            "connections  {connections}, {fewest_peers} to {most_peers} peers a node, {network}"
        ))?;
        output::line(format_args!(
            "PEX          {pex_found} of {nodes} found from one peer, {pex_addresses} addresses told"
        ))?;
        Ok(())
    }
}
