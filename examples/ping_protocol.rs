//! A protocol of one's own between Ethereum peers: `ping/1`, whose message 0 asks with a number and whose message 1 answers with the same.
//!
//! Two nodes on loopback, over RLPx: the second dials the first, asks five times, and says how long each answer took.
//! `cargo run --example ping_protocol`

use std::{error::Error, net::SocketAddr, time::Duration};

use kadwire::{
    config::EthereumConfig,
    node::Node,
    protocol::{PeerStream, Protocol, ProtocolError},
};
use kadwire_discovery::SecretKey;
use kadwire_wire::address::PeerAddress;
use tokio::{
    sync::mpsc,
    time::{Instant, interval},
};

const PING: u64 = 0;
const PONG: u64 = 1;

/// Between two pings.
const PERIOD: Duration = Duration::from_millis(200);

/// One peer, for as long as it is connected. When this returns, the peer is hung up on.
async fn ping(mut stream: PeerStream, answered: mpsc::Sender<Duration>) -> Result<(), ProtocolError> {
    let mut ticker = interval(PERIOD);
    let (mut number, mut asked) = (0_u64, Instant::now());
    loop {
        tokio::select! {
            message = stream.recv() => {
                let Some(message) = message else { return Ok(()) };
                // A list of one number. What is no such list is an error, and ends the peer with it.
                let received: u64 = message.rlp().val_at(0)?;
                match message.code {
                    PING => stream.send_items(PONG, &[&received]).await?,
                    PONG if received == number => {
                        // Whoever listens may have heard enough.
                        let _ = answered.try_send(asked.elapsed());
                    }
                    // Late: the next was asked meanwhile.
                    PONG if received < number => {}
                    _ => return Err(ProtocolError::failed("an answer to nothing that was asked")),
                }
            }
            _ = ticker.tick() => {
                number += 1;
                asked = Instant::now();
                stream.send_items(PING, &[&number]).await?;
            }
        }
    }
}

async fn start(n: u8, peer: Option<&PeerAddress>, answered: mpsc::Sender<Duration>) -> Result<Node, Box<dyn Error>> {
    let config = EthereumConfig {
        static_nodes: peer.cloned().into_iter().collect(),
        ..EthereumConfig::new(SecretKey::from_bytes(&[n; 32])?, Some(SocketAddr::from(([127, 0, 0, 1], 0))))
    };
    let mut builder = Node::ethereum_builder(config);
    builder.with_protocol(Protocol::new("ping", 1, 2, move |stream| ping(stream, answered.clone()))?);
    Ok(builder.start().await?)
}

/// How long five answers took.
async fn run() -> Result<Vec<Duration>, Box<dyn Error>> {
    let (answered, mut answers) = mpsc::channel(16);
    let first = start(1, None, mpsc::channel(1).0).await?;
    let address = first.local_address().ok_or("it does not listen")?;
    println!("listening: {address}");
    let second = start(2, Some(address), answered).await?;
    let mut taken = Vec::new();
    while taken.len() < 5 {
        taken.push(answers.recv().await.ok_or("the handler ended early")?);
    }
    println!("{}", serde_json::to_string_pretty(&second.ethereum().ok_or("no wire")?.peers_info().await)?);
    second.stop().await;
    first.stop().await;
    Ok(taken)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    for (number, time) in (1..).zip(run().await?) {
        println!("answer {number} after {time:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn five_pings_are_answered() {
        assert_eq!(super::run().await.unwrap().len(), 5);
    }
}
