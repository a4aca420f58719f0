//! The reactor pattern, with ADR-062's example: every five seconds all peers get a ping, and whoever gets a ping sends a pong with the
//! same content back.
//!
//! A reactor holds a [`Channel`] and nothing else: it never touches connections, and does not care whether they are TCP or within the
//! process. Two of them over both: `cargo run --example echo_reactor`, over one: `cargo run --example echo_reactor -- memory` (or `tcp`).

use std::{error::Error, net::SocketAddr, time::Duration};

use bytes::Bytes;
use kadwire::{
    config::NodeConfig,
    node::{Node, NodeBuilder, StartError},
    peers::Report,
    router::{Channel, ChannelEvent, To, Wrapper},
};
use kadwire_wire::{
    address::PeerAddress,
    tendermint::key::NodeKey,
    transport::{ChannelSpec, MemoryNetwork},
};
use prost::Message;
use tokio::{sync::mpsc, time::interval};

/// The reactor's channel.
const ECHO: u8 = 0x01;

/// Between two pings to everybody.
const PERIOD: Duration = Duration::from_secs(5);

/// What is on the wire: `message EchoMessage { oneof inner { PingMessage ping = 1; PongMessage pong = 2; } }`.
#[derive(Clone, PartialEq, Message)]
struct EchoMessage {
    #[prost(oneof = "Echo", tags = "1, 2")]
    inner: Option<Echo>,
}

/// What the reactor deals with: the wrapper of the channel's messages.
#[derive(Clone, PartialEq, prost::Oneof)]
enum Echo {
    #[prost(message, tag = "1")]
    Ping(PingMessage),
    #[prost(message, tag = "2")]
    Pong(PongMessage),
}

#[derive(Clone, PartialEq, Message)]
struct PingMessage {
    #[prost(string, tag = "1")]
    content: String,
}

#[derive(Clone, PartialEq, Message)]
struct PongMessage {
    #[prost(string, tag = "1")]
    content: String,
}

impl From<PingMessage> for Echo {
    fn from(ping: PingMessage) -> Self {
        Echo::Ping(ping)
    }
}

impl From<PongMessage> for Echo {
    fn from(pong: PongMessage) -> Self {
        Echo::Pong(pong)
    }
}

/// Why bytes are no message of this channel.
#[derive(Debug, thiserror::Error)]
enum NoEcho {
    #[error("not protobuf: {0}")]
    Undecodable(#[from] prost::DecodeError),
    #[error("neither ping nor pong")]
    Unknown,
}

impl Wrapper for Echo {
    type Error = NoEcho;

    fn wrap(&self) -> Bytes {
        EchoMessage { inner: Some(self.clone()) }.encode_to_vec().into()
    }

    fn unwrap(bytes: &[u8]) -> Result<Self, NoEcho> {
        EchoMessage::decode(bytes)?.inner.ok_or(NoEcho::Unknown)
    }
}

/// The reactor: pings everybody now and then, answers pings, and hands the pongs to `pongs`. It ends with the node, or when
/// nobody wants pongs any more.
async fn echo(mut channel: Channel, content: String, period: Duration, pongs: mpsc::Sender<String>) {
    let mut ticker = interval(period);
    loop {
        tokio::select! {
            event = channel.next() => match event {
                Some(ChannelEvent::Message(envelope)) => match envelope.unwrapped() {
                    Ok(Echo::Ping(PingMessage { content })) => {
                        let pong = Echo::from(PongMessage { content });
                        // The peer may be gone by now; then it needs no pong.
                        let _ = channel.send(To::Peer(envelope.from), pong.wrap()).await;
                    }
                    Ok(Echo::Pong(PongMessage { content })) => {
                        println!("{} answers {content:?}", envelope.from);
                        if pongs.send(content).await.is_err() {
                            return;
                        }
                    }
                    // Not our protocol: what becomes of the peer is the peer manager's decision.
                    Err(error) => {
                        println!("unexpected message of {}: {error}", envelope.from);
                        channel.report(envelope.from, Report::Misbehaved).await;
                    }
                },
                Some(ChannelEvent::Up(peer)) => println!("{} is up", peer.id),
                Some(ChannelEvent::Down(peer, reason)) => println!("{} is down: {reason}", peer.id),
                None => return,
            },
            _ = ticker.tick() => {
                let ping = Echo::from(PingMessage { content: content.clone() });
                let _ = channel.send(To::All, ping.wrap()).await;
            }
        }
    }
}

/// What carries the messages; the reactor does not know.
#[derive(Debug, Clone)]
enum Over {
    Memory(MemoryNetwork),
    Tcp,
}

impl Over {
    async fn start(&self, node: NodeBuilder) -> Result<Node, StartError> {
        match self {
            Over::Memory(network) => node.start_in(network).await,
            Over::Tcp => node.start().await,
        }
    }
}

fn builder(n: u8, peer: Option<&PeerAddress>) -> NodeBuilder {
    Node::builder(NodeConfig {
        moniker: format!("echo {n}"),
        laddr: SocketAddr::from(([127, 0, 0, 1], 0)),
        persistent_peers: peer.cloned().into_iter().collect(),
        ..NodeConfig::new(NodeKey::from_seed(&[n; 32]), "echo-example")
    })
}

/// Two nodes with the reactor, until each has answered twice.
async fn run(over: Over, period: Duration) -> Result<Vec<String>, Box<dyn Error>> {
    let (pongs, mut answered) = mpsc::channel(16);
    let mut first = builder(1, None);
    let one = tokio::spawn(echo(first.channel(ChannelSpec::new(ECHO)), "one".into(), period, pongs.clone()));
    let first = over.start(first).await?;

    let mut second = builder(2, first.local_address());
    let two = tokio::spawn(echo(second.channel(ChannelSpec::new(ECHO)), "two".into(), period, pongs));
    let second = over.start(second).await?;

    let mut heard: Vec<String> = Vec::new();
    while ["one", "two"].iter().any(|content| heard.iter().filter(|pong| pong == content).count() < 2) {
        heard.push(answered.recv().await.ok_or("the reactors ended early")?);
    }
    second.stop().await;
    first.stop().await;
    // Their channels have ended, and so do they.
    drop(answered);
    one.await?;
    two.await?;
    Ok(heard)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let memory = || Over::Memory(MemoryNetwork::new());
    let transports = match std::env::args().nth(1).as_deref() {
        None => vec![memory(), Over::Tcp],
        Some("memory") => vec![memory()],
        Some("tcp") => vec![Over::Tcp],
        Some(other) => return Err(format!("{other}: say memory or tcp").into()),
    };
    for over in transports {
        println!("over {}:", if matches!(over, Over::Tcp) { "tcp" } else { "memory" });
        run(over, PERIOD).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_oneof() {
        let ping = Echo::from(PingMessage { content: "hi".into() });
        assert_eq!(ping.wrap(), &[0x0a, 4, 0x0a, 2, b'h', b'i'][..]);
        assert_eq!(Echo::from(PongMessage { content: String::new() }).wrap(), &[0x12, 0][..]);
        assert_eq!(Echo::unwrap(&ping.wrap()).unwrap(), ping);
        for (bytes, error) in
            [(&[][..], "neither ping nor pong"), (&[0x1a, 0], "neither ping nor pong"), (&[7], "not protobuf")]
        {
            let found = Echo::unwrap(bytes).unwrap_err().to_string();
            assert!(found.starts_with(error), "{bytes:?}: {found}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn over_memory() {
        let heard = run(Over::Memory(MemoryNetwork::new()), PERIOD).await.unwrap();
        assert_eq!(heard.len(), 4, "two rounds of both: {heard:?}");
    }

    #[tokio::test]
    async fn over_tcp() {
        run(Over::Tcp, Duration::from_millis(100)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_something_else_is_reported() {
        let network = MemoryNetwork::new();
        let (pongs, _answered) = mpsc::channel(16);
        let mut honest = builder(1, None);
        tokio::spawn(echo(honest.channel(ChannelSpec::new(ECHO)), "one".into(), PERIOD, pongs));
        let honest = honest.start_in(&network).await.unwrap();
        let mut other = builder(2, honest.local_address());
        let channel = other.channel(ChannelSpec::new(ECHO));
        let _other = other.start_in(&network).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(honest.peers().len(), 1);

        channel.send(To::All, Bytes::from_static(b"\x1a\x00")).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(honest.peers().len(), 0);
        assert_eq!(honest.stats().await.router.unwrap().peers.banned, 1);
    }
}
