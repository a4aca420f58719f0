//! One cold lookup: a node with a fresh identity, which knows the bootnodes and nobody else, looks for a node by its key.
//!
//! ```text
//! discv4_lookup 127.0.0.1:0 enode://…[,enode://…] enode://…      # own address, bootnodes, whom to find (only its key is used)
//! ```
//!
//! Prints one JSON line: whether it was found, the time from the bound socket to the end of the lookup, and how many nodes the
//! lookup ended with.

use std::{
    error::Error,
    net::SocketAddr,
    time::{Duration, Instant},
};

use kadwire_discovery::{Config, Discovery, NodeRecord, SecretKey};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: discv4_lookup ADDRESS BOOTNODES TARGET");
    let (address, bootnodes, target) = (next()?.parse()?, next()?, next()?.parse()?);
    let bootnodes = bootnodes.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (closest, took) = runtime.block_on(look_up(address, bootnodes, &target))?;
    let found = closest.iter().any(|node| node.id() == target.id());
    println!(r#"{{"found":{found},"ms":{:.1},"nodes":{}}}"#, took.as_secs_f64() * 1e3, closest.len());
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "driver: an identity of its own, and a clock to measure with")]
async fn look_up(
    address: SocketAddr,
    bootnodes: Vec<NodeRecord>,
    target: &NodeRecord,
) -> Result<(Vec<NodeRecord>, Duration), Box<dyn Error>> {
    let mut config = Config::new(SecretKey::random(&mut rand::rng()), address);
    config.bootnodes = bootnodes;
    let discovery = Discovery::bind(config).await?;
    let begun = Instant::now();
    let closest = discovery.lookup(*target.key().as_bytes()).await?;
    Ok((closest, begun.elapsed()))
}
