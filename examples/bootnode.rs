//! A bootnode: answers on UDP, dials nobody. `cargo run --example bootnode -- 127.0.0.1:30301`

use std::net::SocketAddr;

use kadwire_discovery::{Config, Discovery, SecretKey};
use rand::{SeedableRng, rngs::StdRng, rngs::SysRng};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:30301").parse()?;
    let key = SecretKey::random(&mut StdRng::try_from_rng(&mut SysRng)?);
    let discovery = Discovery::bind(Config::new(key, listen)).await?;
    println!("{}", discovery.local_record());

    tokio::signal::ctrl_c().await?;
    println!("{} nodes known", discovery.nodes().await?.len());
    discovery.close().await;
    Ok(())
}
