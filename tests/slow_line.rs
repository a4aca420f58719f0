//! A peer is not slow because we are: what our own rate holds back is nobody's fault.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use kadwire::{
    config::NodeConfig,
    node::Node,
    router::{SLOW_AFTER, SendError, To},
};
use kadwire_wire::{tendermint::key::NodeKey, transport::ChannelSpec};
use tokio::time::{Instant, sleep};

fn config(n: u8) -> NodeConfig {
    NodeConfig {
        laddr: SocketAddr::from(([127, 120, 1, n], 0)),
        ..NodeConfig::new(NodeKey::from_seed(&[n; 32]), "test")
    }
}

#[tokio::test]
async fn a_peer_that_our_rate_keeps_waiting_is_not_closed() {
    let spec = ChannelSpec { send_queue: 1, max_message_size: 1 << 20, ..ChannelSpec::new(0x30) };
    let mut two = Node::builder(config(2));
    let mut received = two.channel(spec);
    let two = two.start().await.unwrap();
    let persistent_peers = vec![two.local_address().unwrap().clone()];
    let mut one = Node::builder(NodeConfig { send_rate: 4_096, persistent_peers, ..config(1) });
    let channel = one.channel(spec);
    let one = one.start().await.unwrap();
    while one.peers().is_empty() {
        sleep(Duration::from_millis(10)).await;
    }

    // Sixteen seconds' worth, and a message behind it.
    let long = Bytes::from(vec![7; 65_536]);
    channel.send(To::All, long.clone()).await.unwrap();
    let began = Instant::now();
    assert_eq!(channel.send(To::Peer(two.id()), "behind it".into()).await, Err(SendError::Full(two.id())));
    assert!(began.elapsed() >= SLOW_AFTER);
    assert_eq!(one.peers().len(), 1, "it reads all that we send");
    assert_eq!(received.recv().await.map(|envelope| envelope.message), Some(long));
    one.stop().await;
    two.stop().await;
}
