//! Protocols of nodes in one process, on a paused clock.

mod events;
mod life;
mod operator;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use kadwire_discovery::SecretKey;
use kadwire_wire::{
    address::PeerAddress,
    rlpx::message::MAX_MESSAGE_SIZE,
    transport::{CloseReason, Direction, MemoryNetwork},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::{
    config::EthereumConfig,
    node::{Ethereum, Node},
};

/// How much virtual time a test gives its world to settle.
const SOON: Duration = Duration::from_millis(100);

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

fn id(n: u8) -> PeerId {
    PeerId::Ethereum(*key(n).public().as_bytes())
}

fn address(n: u8) -> PeerAddress {
    PeerAddress::from_socket(id(n), socket(n)).unwrap()
}

fn socket(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, n, 1], 30303))
}

fn config(n: u8, static_nodes: &[u8]) -> EthereumConfig {
    EthereumConfig {
        name: format!("node{n}/v1"),
        static_nodes: static_nodes.iter().copied().map(address).collect(),
        random_seed: Some(n.into()),
        ..EthereumConfig::new(key(n), Some(socket(n)))
    }
}

async fn start(network: &MemoryNetwork, config: EthereumConfig, protocols: impl IntoIterator<Item = Protocol>) -> Node {
    let mut builder = Node::ethereum_builder(config);
    for protocol in protocols {
        builder.with_protocol(protocol);
    }
    builder.start_in(network).await.unwrap()
}

fn ethereum(node: &Node) -> &Ethereum {
    node.ethereum().unwrap()
}

/// A protocol of four messages whose streams the test gets.
fn handed_over(name: &str, version: u64) -> (Protocol, mpsc::Receiver<PeerStream>) {
    let (streams, handed_over) = mpsc::channel(8);
    let protocol = Protocol::new(name, version, 4, move |stream| {
        let streams = streams.clone();
        async move {
            let peer = stream.peer().clone();
            streams.send(stream).await.map_err(ProtocolError::failed)?;
            // The test has the stream: it lives until the connection is over.
            peer.sender.closed().await;
            Ok(())
        }
    });
    (protocol.unwrap(), handed_over)
}

/// A protocol of two messages that answers code 0 with code 1.
fn echo(name: &str, version: u64) -> Protocol {
    Protocol::new(name, version, 2, |mut stream: PeerStream| async move {
        while let Some(message) = stream.recv().await {
            if message.code == 0 {
                stream.send(1, message.payload).await?;
            }
        }
        Ok(())
    })
    .unwrap()
}

/// A protocol that does this to each peer at once.
fn returning(name: &str, result: fn() -> Result<(), ProtocolError>) -> Protocol {
    Protocol::new(name, 1, 2, move |_| async move { result() }).unwrap()
}

async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
    timeout(SOON, future).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_message_of_the_largest_size_goes_there_and_back() {
    let network = MemoryNetwork::new();
    let (pings, mut ours) = handed_over("ping", 1);
    let _one = start(&network, config(1, &[]), [echo("ping", 1)]).await;
    let _two = start(&network, config(2, &[1]), [pings]).await;
    let mut stream = soon(ours.recv()).await.flatten().unwrap();
    for size in [MAX_MESSAGE_SIZE - 1, MAX_MESSAGE_SIZE, 1] {
        stream.send(0, vec![7; size]).await.unwrap();
        let answer = soon(stream.recv()).await.flatten();
        assert_eq!(answer.map(|answer| (answer.code, answer.payload.len())), Some((1, size)));
    }
    let too_large = stream.send(0, vec![7; MAX_MESSAGE_SIZE + 1]).await;
    assert!(matches!(too_large, Err(ProtocolError::TooLarge { .. })), "{too_large:?}");
}

#[tokio::test(start_paused = true)]
async fn a_message_goes_to_the_handler_of_its_protocol_and_back() {
    let network = MemoryNetwork::new();
    let (pings, mut ours) = handed_over("ping", 1);
    let (_one, _two) = (
        start(&network, config(1, &[]), [echo("chat", 7), echo("ping", 1)]).await,
        start(&network, config(2, &[1]), [pings]).await,
    );
    let mut stream = ours.recv().await.unwrap();
    assert_eq!((stream.id(), stream.peer().info.name(), stream.version()), (id(1), "node1/v1", 1));
    assert_eq!(stream.peer().direction, Direction::Outbound);
    for payload in [Bytes::new(), Bytes::from_static(b"hello"), vec![7; 1 << 20].into()] {
        stream.send(0, payload.clone()).await.unwrap();
        assert_eq!(stream.recv().await, Some(Message { code: 1, payload }));
    }
    // As RLP: one value, and a list of items.
    stream.send_rlp(0, &1_000_u64).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().payload, &[0x82, 0x03, 0xe8][..]);
    stream.send_items(0, &[&7_u64, &"cat", &vec![1_u8, 2]]).await.unwrap();
    let message = stream.recv().await.unwrap();
    assert_eq!((message.rlp().val_at::<u64>(0), message.rlp().val_at::<String>(1)), (Ok(7), Ok("cat".to_owned())));
    stream.send_items(0, &[]).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().payload, &[0xc0][..]);

    let refused = stream.send(4, "no such code").await.unwrap_err();
    assert!(matches!(refused, ProtocolError::InvalidCode { code: 4, length: 4 }), "{refused}");
    // The second is no longer than any may be, but compression, which it resists, makes it so.
    let mut noise = vec![0; MAX_MESSAGE_SIZE];
    StdRng::seed_from_u64(1).fill_bytes(&mut noise);
    for payload in [vec![0; 1 << 24], noise] {
        let refused = stream.send(0, payload).await.unwrap_err();
        assert!(matches!(refused, ProtocolError::TooLarge { .. }), "{refused}");
    }
    stream.send(0, "goes on").await.unwrap();
    assert_eq!(stream.recv().await.unwrap().payload, "goes on");
}

#[tokio::test(start_paused = true)]
async fn of_a_protocol_the_highest_version_that_both_have_is_spoken() {
    let network = MemoryNetwork::new();
    let (v1, mut first) = handed_over("chat", 1);
    let (v2, mut second) = handed_over("chat", 2);
    let (v3, mut third) = handed_over("chat", 3);
    let _one = start(&network, config(1, &[]), [echo("chat", 1), echo("chat", 2), echo("chat", 4)]).await;
    let _two = start(&network, config(2, &[1]), [v3, v1, v2]).await;
    assert_eq!(second.recv().await.unwrap().version(), 2);
    assert!(soon(first.recv()).await.is_none() && soon(third.recv()).await.is_none());
}

/// `snap` is not read. `eth` goes on, until so much waits that the connection stands still.
#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_nothing_holds_up_its_own_protocol_first() {
    let network = MemoryNetwork::new();
    let (snap, mut snaps) = handed_over("snap", 1);
    let (their_snap, mut unread) = handed_over("snap", 1);
    let (eth, mut eths) = handed_over("eth", 68);
    let _one = start(&network, config(1, &[]), [echo("eth", 68), their_snap]).await;
    let _two = start(&network, config(2, &[1]), [eth, snap]).await;
    let (snap, mut eth) = (snaps.recv().await.unwrap(), eths.recv().await.unwrap());
    let mut unread = unread.recv().await.unwrap();
    let mut sent = 0_u32;
    // The queues of both ends and what the connection keeps.
    while soon(snap.send(0, sent.to_be_bytes().to_vec())).await.is_some() && sent < 64 {
        sent += 1;
    }
    assert_eq!(sent, 64, "as many wait for the handler");
    eth.send(0, "others").await.unwrap();
    assert_eq!(eth.recv().await.unwrap().payload, "others");
    // A mebibyte more, and the stream stands still for everybody.
    while soon(snap.send(0, vec![0; 1 << 17])).await.is_some() {}
    eth.send(0, "nobody").await.unwrap();
    assert!(soon(eth.recv()).await.is_none());
    // When it reads, nothing is missing.
    for n in 0..sent {
        assert_eq!(unread.recv().await.unwrap().payload, &n.to_be_bytes()[..]);
    }
    while soon(unread.recv()).await.is_some() {}
    assert_eq!(eth.recv().await.unwrap().payload, "nobody");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_nodes_protocols_is_said_at_the_start() {
    let network = MemoryNetwork::new();
    let refused = async |protocols: Vec<Protocol>| {
        let mut builder = Node::ethereum_builder(config(1, &[]));
        for protocol in protocols {
            builder.with_protocol(protocol);
        }
        builder.start_in(&network).await.unwrap_err().to_string()
    };
    assert_eq!(refused(vec![]).await, "protocols: no peer is of use without one");
    assert_eq!(refused(vec![echo("eth", 1), echo("eth", 1)]).await, "protocols: eth/1 is declared twice");
    assert!(Protocol::new("", 1, 1, |_| async { Ok(()) }).is_err());
    assert!(Protocol::new("ninechars", 1, 1, |_| async { Ok(()) }).is_err());
    let mut builder = Node::ethereum_builder(config(1, &[]));
    builder.with_protocol(echo("eth", 1));
    let _channel = builder.channel(kadwire_wire::transport::ChannelSpec::new(1));
    assert!(builder.start_in(&network).await.unwrap_err().to_string().starts_with("channels: "));
}
