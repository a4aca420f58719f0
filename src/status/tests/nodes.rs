//! Nodes in one process, on a paused clock: what one says that does not get its peers.

use std::{net::SocketAddr, time::Duration};

use kadwire_discovery::SecretKey;
use kadwire_wire::{
    address::{PeerAddress, PeerId},
    transport::MemoryNetwork,
};
use tokio::time::sleep;

use super::super::*;
use crate::{
    config::EthereumConfig,
    node::Node,
    protocol::{PeerStream, Protocol},
};

fn socket(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, n, 1], 30303))
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

/// Node `n`, which speaks `protocol` and keeps connected with node `with`.
async fn start(network: &MemoryNetwork, n: u8, protocol: &str, with: Option<u8>, max_peers: usize) -> Node {
    let address = |n: u8| PeerAddress::from_socket(PeerId::Ethereum(*key(n).public().as_bytes()), socket(n)).unwrap();
    let config = EthereumConfig {
        static_nodes: with.map(address).into_iter().collect(),
        max_peers,
        random_seed: Some(n.into()),
        ..EthereumConfig::new(key(n), Some(socket(n)))
    };
    let stay = |mut stream: PeerStream| async move {
        while stream.recv().await.is_some() {}
        Ok(())
    };
    let mut builder = Node::ethereum_builder(config);
    builder.with_protocol(Protocol::new(protocol, 1, 2, stay).unwrap());
    builder.start_in(network).await.unwrap()
}

async fn findings(node: &Node) -> (Status, Vec<Finding>) {
    let source = NodeSource::new(node);
    // Past the time in which it would say that it is early.
    sleep(Duration::from_secs(40)).await;
    let status = source.status().await;
    let findings = diagnose(&status);
    (status, findings)
}

#[tokio::test(start_paused = true)]
async fn a_full_peer_a_useless_one_and_one_that_is_not_there_are_told_apart() {
    let network = MemoryNetwork::new();
    // Of two places one is for a peer that it dials.
    let full = start(&network, 1, "chat", None, 2).await;
    let first = start(&network, 2, "chat", Some(1), 50).await;
    let (status, found) = findings(&first).await;
    assert_eq!((status.peers(), found[0].cause), (1, Cause::HasPeers), "{found:#?}");
    let wire = &status.wires[0];
    assert_eq!(
        (wire.name.as_str(), wire.outbound, wire.configured, wire.dials_connected),
        ("rlpx", 1, 1, 1),
        "{wire:#?}"
    );
    assert_eq!(wire.peers[0].remote, socket(1).to_string());

    for (n, protocol, with, cause, words) in [
        (3, "chat", 1, Cause::PeersAreFull, "the peer is full"),
        (4, "other", 2, Cause::DialsFail, "no protocol in common"),
        (5, "chat", 99, Cause::DialsFail, "nobody listens there"),
    ] {
        let node = start(&network, n, protocol, Some(with), 50).await;
        let (status, found) = findings(&node).await;
        assert_eq!(found[0].cause, cause, "{n}: {found:#?}\n{status:#?}");
        assert!(found[0].says.contains(words), "{n}: {found:#?}");
        assert_eq!(status.peers(), 0);
        node.stop().await;
    }
    first.stop().await;
    full.stop().await;
}

/// Its only place is for a peer that it dials.
#[tokio::test(start_paused = true)]
async fn who_is_refused_after_the_handshake_never_was_a_connection() {
    let network = MemoryNetwork::new();
    let full = start(&network, 1, "chat", None, 1).await;
    let _others = [start(&network, 2, "chat", Some(1), 50).await, start(&network, 3, "chat", Some(1), 50).await];
    let (status, found) = findings(&full).await;
    let wire = &status.wires[0];
    assert!(wire.accepted >= 2 && wire.accepts_connected == 0, "{wire:#?}");
    let causes: Vec<_> = found.iter().map(|finding| finding.cause).collect();
    assert_eq!(causes, [Cause::NobodyToAsk, Cause::InboundRefused], "{found:#?}");
    assert!(found[1].says.contains("no_slots"), "{found:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_stopped_has_no_wires() {
    let network = MemoryNetwork::new();
    let node = start(&network, 1, "chat", None, 50).await;
    let source = NodeSource::new(&node);
    assert_eq!(source.status().await.wires.len(), 1);
    node.stop().await;
    assert_eq!(source.status().await.wires, []);
}
