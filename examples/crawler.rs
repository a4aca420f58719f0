//! A crawler: walks from some nodes to the end of the network, and keeps who knows whom.
//! `cargo run --example crawler -- enode://… enr:…` writes nodes.ndjson, edges.ndjson and crawl.json into `crawl/`.

use std::path::Path;

use kadwire::crawl::{self, discv4, output};
use kadwire_discovery::{Config, Discovery, NodeRecord, SecretKey};
use rand::{SeedableRng, rngs::StdRng, rngs::SysRng};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start: Vec<NodeRecord> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let key = SecretKey::random(&mut StdRng::try_from_rng(&mut SysRng)?);
    let discovery = Discovery::bind(Config::new(key, "0.0.0.0:0".parse()?)).await?;

    let watch = |progress: crawl::Progress| eprint!("\r{} found, {} edges ", progress.found, progress.edges);
    let stop = async { _ = tokio::signal::ctrl_c().await };
    let crawled = discv4::crawl(&discovery, start, crawl::Config::default(), watch, stop).await;
    discovery.close().await;

    // The graph is at hand …
    let most_told = crawled.topology.edges().fold(std::collections::BTreeMap::new(), |mut told, (_, to)| {
        *told.entry(to.record.id()).or_insert(0) += 1;
        told
    });
    if let Some((id, count)) = most_told.into_iter().max_by_key(|&(_, count)| count) {
        println!("{id} stands in {count} tables");
    }
    // … and is written as the command `kadwire crawl eth` writes it.
    output::save(Path::new("crawl"), &crawled.topology, &crawled.summary)?;
    println!("{} nodes, {} of them answered", crawled.summary.found, crawled.summary.reachable);
    Ok(())
}
