//! The main job on loopback: nodes given nothing but one bootnode find each other by discv4, learn from the signed records who
//! speaks MConnection and where, dial each other over TCP, and carry a message to all.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use bytes::Bytes;
use kadwire::{
    config::NodeConfig,
    node::Node,
    router::{Channel, PeerEvent, To},
};
use kadwire_discovery::{self as discovery, Discovery, NodeRecord, SecretKey};
use kadwire_wire::{address::PeerId, tendermint::key::NodeKey, transport::ChannelSpec};
use tokio::time::timeout;

/// Generous: everything is over in a second or two, unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn discovery_config(n: u8, listen: SocketAddr, bootnode: Option<NodeRecord>) -> discovery::Config {
    let mut config = discovery::Config::new(SecretKey::from_bytes(&[n; 32]).unwrap(), listen);
    config.bootnodes.extend(bootnode);
    config
}

async fn member(n: u8, bootnode: &NodeRecord, network: &str) -> (Node, Channel) {
    let listen = SocketAddr::from(([127, 0, 0, n], 0));
    let config = NodeConfig {
        moniker: format!("node {n}"),
        laddr: listen,
        addr_book_strict: false,
        ..NodeConfig::new(NodeKey::from_seed(&[n; 32]), network)
    };
    let mut builder = Node::builder(config);
    builder.with_discovery(discovery_config(n, listen, Some(bootnode.clone()))).with_pex();
    let gossip = builder.channel(ChannelSpec::new(0x30));
    (builder.start().await.unwrap(), gossip)
}

#[tokio::test]
async fn one_bootnode_is_all_that_four_nodes_need() {
    let bootnode = Discovery::bind(discovery_config(1, "127.0.0.1:0".parse().unwrap(), None)).await.unwrap();
    let mut members = Vec::new();
    for n in 2..=5 {
        members.push(member(n, &bootnode.local_record(), "test").await);
    }
    // One of another chain is found too, but nobody's peer.
    let (stranger, _) = member(6, &bootnode.local_record(), "other").await;

    let ids: BTreeSet<PeerId> = members.iter().map(|(node, _)| node.id()).collect();
    for (node, _) in &members {
        let tm = node.discovery().unwrap().local_record().tendermint().unwrap();
        assert_eq!((PeerId::Tendermint(tm.node_id), tm.tcp_port), (node.id(), node.local_address().unwrap().port()));
        let mut events = node.peer_events();
        let mut missing = ids.clone();
        missing.remove(&node.id());
        let all = async {
            while !missing.is_empty() {
                match events.next().await.unwrap() {
                    PeerEvent::Up(peer) => missing.remove(&peer.id),
                    PeerEvent::Down(peer, _) => missing.insert(peer.id),
                };
            }
        };
        let found = timeout(PATIENCE, all).await;
        assert!(found.is_ok(), "{} lacks {missing:?}: {:?}", node.local_address().unwrap(), node.stats().await.router);
    }

    // Every one of them speaks until every other one has heard it: what two nodes that dialed each other at the same moment put on
    // the connection that gives way is lost, as ADR-062 allows.
    let texts: Vec<Bytes> = (0..members.len()).map(|n| Bytes::from(format!("hello from {n}"))).collect();
    let mut heard = vec![BTreeSet::new(); members.len()];
    let talk = async {
        while heard.iter().any(|heard| heard.len() < texts.len() - 1) {
            for (text, (_, gossip)) in texts.iter().zip(&members) {
                gossip.send(To::All, text.clone()).await.unwrap();
            }
            for (heard, (_, gossip)) in heard.iter_mut().zip(&mut members) {
                while let Ok(envelope) = timeout(Duration::from_millis(100), gossip.recv()).await {
                    heard.insert(envelope.unwrap().message);
                }
            }
        }
    };
    timeout(PATIENCE, talk).await.unwrap();

    assert!(stranger.peers().is_empty());
    for (node, _) in members {
        node.stop().await;
    }
    stranger.stop().await;
    bootnode.close().await;
}
