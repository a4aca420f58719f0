//! A node with peers: discv4 feeds the dialer, peer exchange feeds the address book, and a reactor of our own gossips lines.
//!
//! Each line on stdin goes to every node of the network; lines of others are printed. In one terminal each:
//!
//! ```text
//! cargo run --example gossip_node -- 127.0.0.1:30301
//! cargo run --example gossip_node -- 127.0.0.2:30301 enode://…@127.0.0.1:30301     # what the first one printed
//! cargo run --example gossip_node -- 127.0.0.3:30301 enode://…@127.0.0.1:30301
//! ```

use std::{collections::HashSet, env, error::Error, io::BufRead, net::SocketAddr};

use bytes::Bytes;
use kadwire::{
    config::NodeConfig,
    node::Node,
    router::{Channel, ChannelEvent, To},
};
use kadwire_discovery::{self as discovery, SecretKey};
use kadwire_wire::{tendermint::key::NodeKey, transport::ChannelSpec};
use rand::{TryRng, rngs::SysRng};
use tokio::sync::mpsc;

/// The reactor's channel. Ids up to 0x61 are taken by CometBFT's own reactors.
const GOSSIP: u8 = 0x70;

/// The longest line, in bytes.
const MAX_LINE: usize = 1 << 16;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let listen: SocketAddr = args.next().ok_or("usage: gossip_node IP:PORT [BOOTNODE]")?.parse()?;

    let mut discovery = discovery::Config::new(SecretKey::from_bytes(&fresh_bytes()?)?, listen);
    discovery.bootnodes = args.map(|record| record.parse()).collect::<Result<_, _>>()?;

    let config = NodeConfig {
        laddr: listen,
        moniker: format!("gossip at {listen}"),
        // Loopback and private networks have no place in a strict book.
        addr_book_strict: false,
        // Several nodes on one machine have one IP.
        allow_duplicate_ip: true,
        ..NodeConfig::new(NodeKey::from_seed(&fresh_bytes()?), "gossip-example")
    };
    let mut builder = Node::builder(config);
    builder.with_discovery(discovery).with_pex();
    let gossip = builder.channel(ChannelSpec { priority: 5, max_message_size: MAX_LINE, ..ChannelSpec::new(GOSSIP) });
    let node = builder.start().await?;
    if let Some(discovery) = node.discovery() {
        println!("{}", discovery.local_record());
    }

    tokio::select! {
        () = react(gossip, lines()) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    node.stop().await;
    Ok(())
}

/// The reactor: says our lines to everybody, and passes on what it hears for the first time.
async fn react(mut gossip: Channel, mut lines: mpsc::Receiver<String>) {
    let mut heard: HashSet<Bytes> = HashSet::new();
    loop {
        tokio::select! {
            event = gossip.next() => match event {
                Some(ChannelEvent::Message(envelope)) => {
                    if heard.insert(envelope.message.clone()) {
                        println!("{}", String::from_utf8_lossy(&envelope.message));
                        let _ = gossip.send(To::Except(envelope.from), envelope.message).await;
                    }
                }
                Some(ChannelEvent::Up(peer)) => eprintln!("+ {} {}", peer.id, peer.info.name()),
                Some(ChannelEvent::Down(peer, reason)) => eprintln!("- {} {reason}", peer.id),
                None => return,
            },
            Some(line) = lines.recv() => {
                let line = Bytes::from(line);
                heard.insert(line.clone());
                match gossip.send(To::All, line).await {
                    Ok(peers) => eprintln!("said to {peers}"),
                    Err(error) => eprintln!("not said: {error}"),
                }
            }
        }
    }
}

/// Standard input, line by line. The thread ends with the program.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// A key for this run only; a node that should be known again keeps its keys in files.
fn fresh_bytes() -> Result<[u8; 32], Box<dyn Error>> {
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}
