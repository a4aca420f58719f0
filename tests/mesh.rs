//! Twenty nodes that know one seed, in one process on a paused clock: peer exchange makes them a mesh, and the mesh carries
//! what one of them says to all.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use kadwire::{
    book::{Book, BookConfig, Origin},
    config::NodeConfig,
    node::Node,
    router::{Channel, ChannelSender, Envelope, To},
};
use kadwire_wire::{
    address::PeerId,
    tendermint::key::NodeKey,
    transport::{ChannelSpec, MemoryNetwork},
};
use tokio::{sync::watch, time::sleep};

const NODES: u8 = 20;

struct Member {
    node: Node,
    gossip: ChannelSender,
    heard: watch::Receiver<BTreeSet<Bytes>>,
}

/// A reactor that passes on what it has not heard before.
async fn gossip(mut channel: Channel, heard: watch::Sender<BTreeSet<Bytes>>) {
    while let Some(Envelope { from, message }) = channel.recv().await {
        if heard.send_if_modified(|heard| heard.insert(message.clone())) {
            let _ = channel.send(To::Except(from), message).await;
        }
    }
}

async fn member(network: &MemoryNetwork, n: u8, seed: Option<&Node>) -> Member {
    let config = NodeConfig {
        moniker: format!("node {n}"),
        laddr: SocketAddr::from(([10, 0, n, 1], 26656)),
        seeds: seed.map(|seed| seed.local_address().unwrap().clone()).into_iter().collect(),
        max_num_outbound_peers: 5,
        addr_book_strict: false,
        random_seed: Some(n.into()),
        ..NodeConfig::new(NodeKey::from_seed(&[n; 32]), "test")
    };
    let mut builder = Node::builder(config);
    builder.with_pex();
    let channel = builder.channel(ChannelSpec::new(0x30));
    let gossip_sender = channel.sender();
    let (told, heard) = watch::channel(BTreeSet::new());
    tokio::spawn(gossip(channel, told));
    Member { node: builder.start_in(network).await.unwrap(), gossip: gossip_sender, heard }
}

async fn everybody_hears(members: &mut [Member], message: &'static str) {
    let message = Bytes::from_static(message.as_bytes());
    members[0].gossip.send(To::All, message.clone()).await.unwrap();
    for member in &mut members[1..] {
        let all = member.heard.wait_for(|heard| heard.contains(&message));
        let heard = tokio::time::timeout(Duration::from_secs(1), all).await;
        assert!(heard.is_ok(), "{} did not hear", member.node.local_address().unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn one_seed_makes_twenty_strangers_a_mesh() {
    let network = MemoryNetwork::new();
    let seed = member(&network, 1, None).await;
    let mut members = Vec::new();
    for n in 2..=NODES {
        members.push(member(&network, n, Some(&seed.node)).await);
    }
    sleep(Duration::from_secs(180)).await;

    for member in &members {
        let peers: BTreeSet<PeerId> = member.node.peers().iter().map(|peer| peer.id).collect();
        let stats = member.node.stats().await.router.unwrap();
        assert!(peers.len() >= 5, "{} has {}: {stats:?}", member.node.local_address().unwrap(), peers.len());
        assert!(stats.peers.book >= usize::from(NODES) - 2, "{stats:?}");
        assert_eq!(stats.peers.banned, 0, "everybody is honest: {stats:?}");
    }
    // The seed believed nobody's word: it looked.
    let stats = seed.node.stats().await.router.unwrap();
    assert!(stats.probes_proven >= 10 && stats.probes_failed == 0, "{stats:?}");
    let pex = seed.node.stats().await.pex.unwrap();
    assert!(pex.introduced >= 10 && pex.answered >= 15, "{pex:?}");
    assert_eq!((pex.too_frequent, pex.unsolicited, pex.malformed, pex.skipped), (0, 0, 0, 0), "{pex:?}");
    everybody_hears(&mut members, "with the seed").await;

    // They need it no longer.
    seed.node.stop().await;
    sleep(Duration::from_secs(10)).await;
    everybody_hears(&mut members, "without the seed").await;

    // A newcomer that knows any of them is as good as the others.
    let newcomer = member(&network, 77, Some(&members[7].node)).await;
    members.push(newcomer);
    sleep(Duration::from_secs(120)).await;
    assert!(members.last().unwrap().node.peers().len() >= 5);
    everybody_hears(&mut members, "with a newcomer").await;
    for member in members {
        member.node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_book_is_there_again_after_a_restart_without_the_seed() {
    let (network, folder) = (MemoryNetwork::new(), tempfile::tempdir().unwrap());
    let seed = member(&network, 1, None).await;
    let others = [member(&network, 2, Some(&seed.node)).await, member(&network, 3, Some(&seed.node)).await];
    let config = |seeds| NodeConfig {
        laddr: SocketAddr::from(([10, 0, 9, 1], 26656)),
        seeds,
        addr_book_file: Some(folder.path().join("addrbook.json")),
        addr_book_strict: false,
        random_seed: Some(9),
        ..NodeConfig::new(NodeKey::from_seed(&[9; 32]), "test")
    };
    let mut builder = Node::builder(config(vec![seed.node.local_address().unwrap().clone()]));
    builder.with_pex();
    let node = builder.start_in(&network).await.unwrap();
    sleep(Duration::from_secs(120)).await;
    node.stop().await;
    seed.node.stop().await;

    let mut builder = Node::builder(config(vec![]));
    builder.with_pex();
    let node = builder.start_in(&network).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let peers: BTreeSet<PeerId> = node.peers().iter().map(|peer| peer.id).collect();
    assert_eq!(peers, others.iter().map(|other| other.node.id()).collect());
}

#[tokio::test(start_paused = true)]
async fn a_node_without_free_places_still_finds_out_who_is_there() {
    let (network, folder) = (MemoryNetwork::new(), tempfile::tempdir().unwrap());
    let other = member(&network, 1, None).await;
    let path = folder.path().join("addrbook.json");
    let mut book = Book::new(BookConfig { strict: false, ..BookConfig::default() });
    let from = Origin { id: PeerId::Tendermint([5; 20]), socket: Some(SocketAddr::from(([10, 0, 5, 1], 26656))) };
    book.add(UNIX_EPOCH, other.node.local_address().unwrap(), &from).unwrap();
    book.snapshot().write(&path).unwrap();
    let config = NodeConfig {
        laddr: SocketAddr::from(([10, 0, 9, 1], 26656)),
        max_num_outbound_peers: 0,
        addr_book_file: Some(path),
        addr_book_strict: false,
        ..NodeConfig::new(NodeKey::from_seed(&[9; 32]), "test")
    };
    let node = Node::builder(config).start_in(&network).await.unwrap();
    sleep(Duration::from_secs(130)).await;
    let stats = node.stats().await.router.unwrap();
    assert_eq!((stats.probes_proven, stats.probes_failed, node.peers().len()), (1, 0, 0), "{stats:?}");
}
