//! The reactor pattern, with ADR-062's example: whoever gets a ping sends a pong with the same content back.
//!
//! A reactor holds a [`Channel`] and nothing else: it never touches connections, and does not care whether they are TCP or
//! within the process. `main` runs two of them over both: `cargo run --example echo_reactor`.

use std::{error::Error, net::SocketAddr, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use kadwire::{
    config::NodeConfig,
    node::{Node, NodeBuilder},
    peers::Report,
    router::{Channel, ChannelEvent, To},
};
use kadwire_wire::{
    address::PeerAddress,
    tendermint::key::NodeKey,
    transport::{ChannelSpec, MemoryNetwork},
};
use tokio::{sync::mpsc, time::interval};

/// The reactor's channel.
const ECHO: u8 = 0x01;

/// What is said on the channel. A reactor encodes its own messages; here one byte tells which it is.
#[derive(Debug, PartialEq)]
enum EchoMessage {
    Ping(Bytes),
    Pong(Bytes),
}

impl EchoMessage {
    fn encode(&self) -> Bytes {
        let (kind, content) = match self {
            EchoMessage::Ping(content) => (1, content),
            EchoMessage::Pong(content) => (2, content),
        };
        let mut message = BytesMut::with_capacity(1 + content.len());
        message.put_u8(kind);
        message.put_slice(content);
        message.freeze()
    }

    fn decode(mut message: Bytes) -> Option<Self> {
        let kind = (!message.is_empty()).then(|| message.split_to(1)[0])?;
        match kind {
            1 => Some(EchoMessage::Ping(message)),
            2 => Some(EchoMessage::Pong(message)),
            _ => None,
        }
    }
}

/// The reactor: pings everybody now and then, answers pings, and hands the pongs to `pongs`. It ends with the node, or when
/// nobody wants pongs any more.
async fn echo(mut channel: Channel, content: &'static str, pongs: mpsc::Sender<String>) {
    let mut ticker = interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            event = channel.next() => match event {
                Some(ChannelEvent::Message(envelope)) => match EchoMessage::decode(envelope.message) {
                    Some(EchoMessage::Ping(content)) => {
                        // The peer may be gone by now; then it needs no pong.
                        let _ = channel.send(To::Peer(envelope.from), EchoMessage::Pong(content).encode()).await;
                    }
                    Some(EchoMessage::Pong(content)) => {
                        let pong = format!("{} answers {:?}", envelope.from, content);
                        if pongs.send(pong).await.is_err() {
                            return;
                        }
                    }
                    // Not our protocol: what becomes of the peer is the peer manager's decision.
                    None => channel.report(envelope.from, Report::Misbehaved).await,
                },
                Some(ChannelEvent::Up(peer)) => println!("{} is up", peer.id),
                Some(ChannelEvent::Down(peer, reason)) => println!("{} is down: {reason}", peer.id),
                None => return,
            },
            _ = ticker.tick() => {
                let ping = EchoMessage::Ping(Bytes::from_static(content.as_bytes()));
                let _ = channel.send(To::All, ping.encode()).await;
            }
        }
    }
}

fn builder(n: u8, peer: Option<&PeerAddress>) -> NodeBuilder {
    Node::builder(NodeConfig {
        moniker: format!("echo {n}"),
        laddr: SocketAddr::from(([127, 0, 0, n], 0)),
        persistent_peers: peer.cloned().into_iter().collect(),
        ..NodeConfig::new(NodeKey::from_seed(&[n; 32]), "echo-example")
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let network = MemoryNetwork::new();
    for transport in ["memory", "TCP"] {
        println!("over {transport}:");
        let (pongs, mut answered) = mpsc::channel(16);
        let mut first = builder(1, None);
        tokio::spawn(echo(first.channel(ChannelSpec::new(ECHO)), "one", pongs.clone()));
        let first = if transport == "TCP" { first.start().await? } else { first.start_in(&network).await? };

        let mut second = builder(2, Some(first.local_address()));
        tokio::spawn(echo(second.channel(ChannelSpec::new(ECHO)), "two", pongs));
        let second = if transport == "TCP" { second.start().await? } else { second.start_in(&network).await? };

        for _ in 0..4 {
            println!("{}", answered.recv().await.ok_or("the reactors ended early")?);
        }
        second.stop().await;
        first.stop().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back_and_others_are_not() {
        for message in [EchoMessage::Ping("ping".into()), EchoMessage::Pong(Bytes::new())] {
            assert_eq!(EchoMessage::decode(message.encode()), Some(message));
        }
        assert_eq!((EchoMessage::decode(Bytes::new()), EchoMessage::decode("\u{3}".into())), (None, None));
    }

    #[test]
    fn both_transports_echo() {
        main().unwrap();
    }
}
