//! Ethereum peers on loopback: nodes given nothing but one bootnode find each other by discv4 and speak a protocol over RLPx; a record
//! filter keeps dials away from other chains; one node has peers of both wires; babblers are in nobody's way.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kadwire::{
    config::{EthereumConfig, NodeConfig},
    fork_id::{self, ForkId, Forks, Head},
    node::{Node, NodeBuilder},
    protocol::{PeerStream, Protocol, ProtocolError},
    router::PeerEvent,
    status::{Cause, NodeSource, Source, diagnose},
};
use kadwire_discovery::{self as discovery, Discovery, EnrPair, NodeRecord, SecretKey};
use kadwire_wire::{
    address::PeerId,
    rlpx::{self as wire, disconnect::DisconnectReason, message::join},
    tendermint::key::NodeKey,
    transport::{CloseReason, Direction, RlpxConfig, RlpxTransport, Transport},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// Generous: everything is over in a second or two, unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

fn id(n: u8) -> PeerId {
    PeerId::Ethereum(*key(n).public().as_bytes())
}

/// Each test has a /24 of its own.
fn listen(test: u8, n: u8) -> SocketAddr {
    SocketAddr::from(([127, 134, 100 + test, n], 0))
}

fn discovery_config(test: u8, n: u8, bootnode: Option<NodeRecord>) -> discovery::Config {
    let mut config = discovery::Config::new(key(n), listen(test, n));
    config.bootnodes.extend(bootnode);
    config
}

async fn bootnode(test: u8) -> Discovery {
    Discovery::bind(discovery_config(test, 1, None)).await.unwrap()
}

/// A member of an Ethereum network.
fn member(test: u8, n: u8, bootnode: &Discovery, protocol: Protocol) -> NodeBuilder {
    let mut builder = Node::ethereum_builder(EthereumConfig::new(key(n), Some(listen(test, n))));
    builder.with_discovery(discovery_config(test, n, Some(bootnode.local_record()))).with_protocol(protocol);
    builder
}

/// Greets each peer with our number, and notes what others say.
fn greeting(n: u8, heard: &Arc<Mutex<BTreeSet<u8>>>) -> Protocol {
    let heard = heard.clone();
    let handler = move |mut stream: PeerStream| {
        let heard = heard.clone();
        async move {
            stream.send_items(0, &[&n]).await?;
            while let Some(message) = stream.recv().await {
                let number: u8 = message.rlp().val_at(0)?;
                heard.lock().unwrap().insert(number);
            }
            Ok::<_, ProtocolError>(())
        }
    };
    Protocol::new("greet", 1, 1, handler).unwrap()
}

async fn until(mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it takes too long");
}

#[tokio::test]
async fn one_bootnode_is_all_that_four_nodes_need() {
    let bootnode = bootnode(1).await;
    let (mut members, mut found) = (Vec::new(), 0);
    for n in 2..=5 {
        let heard = Arc::new(Mutex::new(BTreeSet::new()));
        members.push((n, heard.clone(), member(1, n, &bootnode, greeting(n, &heard)).start().await.unwrap()));
    }
    for (n, heard, node) in &members {
        let others: BTreeSet<u8> = (2..=5).filter(|other| other != n).collect();
        until(|| *heard.lock().unwrap() == others).await;
        let record = node.discovery().unwrap().local_record();
        assert_eq!((record.tcp(), record.tendermint()), (node.local_address().unwrap().port(), None));
        assert_eq!(node.ethereum().unwrap().node_info().enode, record.to_string());
        found += node.stats().await.walk.unwrap().ethereum;
    }
    // One node's walk may find nobody before all others have dialed it.
    assert!(found > 0);
    for (_, _, node) in members {
        node.stop().await;
    }
    bootnode.close().await;
}

/// A node of another chain, one that says nothing of a chain, and one of ours. Only the last is dialed.
#[tokio::test]
async fn a_record_filter_keeps_dials_away_from_other_chains() {
    let bootnode = bootnode(2).await;
    let forks = Forks::mainnet();
    let head = Head { block: 30_000_000, time: 1_800_000_000 };
    let ours = forks.id(head);
    let heard = Arc::new(Mutex::new(BTreeSet::new()));
    let of_chain = |n: u8, id: Option<ForkId>| {
        let protocol = greeting(n, &Arc::default());
        let protocol = match id {
            Some(id) => protocol.with_attribute(EnrPair::new(fork_id::ENTRY, &id.entry()).unwrap()),
            None => protocol,
        };
        let mut builder = member(2, n, &bootnode, protocol);
        // They wait to be dialed.
        builder.with_record_filter(|_| false);
        builder
    };
    let others = [
        of_chain(2, Some(ours)).start().await.unwrap(),
        of_chain(3, Some(ForkId { hash: [1, 2, 3, 4], next: 0 })).start().await.unwrap(),
        of_chain(4, None).start().await.unwrap(),
    ];
    assert_eq!(others[0].discovery().unwrap().local_record().enr().and_then(ForkId::of), Some(ours));

    let mut dialer = member(2, 5, &bootnode, greeting(5, &heard));
    let asked = Arc::new(AtomicUsize::new(0));
    let (filter, counted) = (forks.filter(move || head), asked.clone());
    dialer.with_record_filter(move |record| {
        counted.fetch_add(1, Ordering::Relaxed);
        filter(record)
    });
    let dialer = dialer.start().await.unwrap();
    until(|| heard.lock().unwrap().contains(&2)).await;
    // The others come up again and again.
    until(|| asked.load(Ordering::Relaxed) > 20).await;
    let peers = dialer.peers();
    assert_eq!(peers.iter().map(|peer| (peer.id, peer.direction)).collect::<Vec<_>>(), [(id(2), Direction::Outbound)]);
    let stats = dialer.stats().await;
    assert_eq!(stats.ethereum.unwrap().transport.dialed, 1, "nobody else was dialed");
    assert!(stats.walk.unwrap().filtered > 0);
    // Who finds nodes of other chains only is told so.
    let source = NodeSource::new(&others[1]);
    let told = async {
        while !diagnose(&source.status().await).iter().any(|finding| finding.cause == Cause::NonePassesTheFilter) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("the filter is named");
    dialer.stop().await;
    for node in others {
        node.stop().await;
    }
    bootnode.close().await;
}

#[tokio::test]
async fn a_node_of_both_wires_has_peers_on_both() {
    let bootnode = bootnode(3).await;
    let tendermint = |n: u8| NodeConfig {
        laddr: listen(3, n),
        addr_book_strict: false,
        ..NodeConfig::new(NodeKey::from_seed(&[n; 32]), "test")
    };
    let heard = Arc::new(Mutex::new(BTreeSet::new()));
    let mut both = Node::builder(tendermint(2));
    both.with_ethereum(EthereumConfig::new(key(2), Some(listen(3, 2)))).with_protocol(greeting(2, &heard));
    both.with_discovery(discovery_config(3, 2, Some(bootnode.local_record()))).with_pex();
    let both = both.start().await.unwrap();
    let mut mconn = Node::builder(tendermint(3));
    mconn.with_discovery(discovery_config(3, 3, Some(bootnode.local_record()))).with_pex();
    let mconn = mconn.start().await.unwrap();
    let rlpx = member(3, 4, &bootnode, greeting(4, &Arc::default())).start().await.unwrap();

    let mut events = both.peer_events();
    let up = timeout(PATIENCE, events.next()).await.unwrap();
    assert!(matches!(up, Some(PeerEvent::Up(peer)) if peer.id == mconn.id()));
    until(|| heard.lock().unwrap().contains(&4)).await;
    let ethereum = both.ethereum().unwrap();
    assert_eq!((ethereum.id(), ethereum.peers()[0].id, ethereum.peer_count()), (id(2), id(4), 1));
    assert_eq!(both.id(), both.tendermint().unwrap().id());
    assert_eq!(both.peers().len(), 1, "each wire has its own");
    let record = both.discovery().unwrap().local_record();
    assert_eq!(record.tcp(), ethereum.local_address().unwrap().port());
    assert_eq!(record.tendermint().unwrap().tcp_port, both.local_address().unwrap().port());
    for node in [both, mconn, rlpx] {
        node.stop().await;
    }
    bootnode.close().await;
}

/// It dials, and nobody can dial it: there is no address to give away.
#[tokio::test]
async fn a_node_that_does_not_listen_has_peers_and_no_address() {
    let stay = |mut stream: PeerStream| async move {
        while stream.recv().await.is_some() {}
        Ok(())
    };
    let builder = |n, listen, static_nodes| {
        let mut builder =
            Node::ethereum_builder(EthereumConfig { static_nodes, ..EthereumConfig::new(key(n), listen) });
        builder.with_protocol(Protocol::new("stay", 1, 1, stay).unwrap());
        builder
    };
    let there = builder(2, Some(SocketAddr::from(([127, 132, 2, 2], 0))), vec![]).start().await.unwrap();
    let dialer = builder(3, None, vec![there.local_address().unwrap().clone()]).start().await.unwrap();
    until(|| dialer.peers().len() == 1).await;

    assert_eq!((dialer.local_address(), dialer.id()), (None, id(3)));
    let ethereum = dialer.ethereum().unwrap();
    let info = ethereum.node_info();
    // As go-ethereum's without a listener.
    assert_eq!(info.enode, format!("enode://{}@127.0.0.1:0", key(3).public()));
    assert_eq!((info.ip.as_str(), info.ports.listener, info.listen_addr.as_str()), ("127.0.0.1", 0, ""));
    assert_eq!(ethereum.peers_info().await[0].network.local_address, "");
    assert_eq!(NodeSource::new(&dialer).status().await.wires[0].address, None);
    assert!(NodeSource::new(&there).status().await.wires[0].address.as_ref().unwrap().starts_with("enode://"));
    dialer.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn stopping_leaves_no_task() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let bootnode = bootnode(4).await;
    let heard = Arc::new(Mutex::new(BTreeSet::new()));
    let one = member(4, 2, &bootnode, greeting(2, &heard)).start().await.unwrap();
    let two = member(4, 3, &bootnode, greeting(3, &Arc::default())).start().await.unwrap();
    until(|| heard.lock().unwrap().contains(&3)).await;
    one.stop().await;
    two.stop().await;
    bootnode.close().await;
    // Drivers of connections end by themselves, once the other end has.
    until(|| tasks() == before).await;
}

/// The same at a whole node: streams that say nothing, as many that babble, and an honest peer, which gets in and is answered.
/// All have room (50): who would be cut to make some is not counted.
#[tokio::test]
async fn a_node_among_babblers_takes_an_honest_peer() {
    let answer = |mut stream: PeerStream| async move {
        while let Some(message) = stream.recv().await {
            stream.send(message.code + 1, message.payload).await?;
        }
        Ok(())
    };
    let mut builder = Node::ethereum_builder(EthereumConfig::new(key(1), Some(listen(4, 1))));
    builder.with_protocol(Protocol::new("test", 1, 5, answer).unwrap());
    let victim = builder.start().await.unwrap();
    let address = victim.local_address().unwrap().clone();
    let there = SocketAddr::from((address.ip().unwrap(), address.port()));
    let mut silent = Vec::new();
    for _ in 0..24 {
        silent.push(TcpStream::connect(there).await.unwrap());
        let mut babbler = TcpStream::connect(there).await.unwrap();
        tokio::spawn(async move {
            let _ = babbler.write_all(&[0xff; 5000]).await;
            let _ = babbler.read_to_end(&mut Vec::new()).await;
        });
    }
    let protocols = vec![wire::capability::Protocol::new("test", 1, 5).unwrap()];
    let friend_key = wire::SecretKey::from_bytes(&[2; 32]).unwrap();
    let friend = RlpxTransport::bind(RlpxConfig::new(friend_key, "friend", protocols)).await.unwrap();
    let talk = async {
        let mut connection = friend.dial(&address).await.unwrap();
        connection.send(0, join(1, b"hello")).await.unwrap();
        assert_eq!(connection.recv().await, Some((0, join(2, b"hello"))));
        loop {
            let transport = victim.stats().await.ethereum.unwrap().transport;
            // On a very busy machine a babbler's time may be up before it is heard.
            if transport.handshakes_malformed + transport.handshakes_failed == 48 {
                assert!(transport.handshakes_malformed > 0 && transport.accepts_completed == 1, "{transport:?}");
                break connection;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let connection = timeout(PATIENCE, talk).await.expect("an honest peer is served and all others are counted");
    victim.stop().await;
    let reason = timeout(PATIENCE, connection.closed()).await.expect("the node's word");
    assert_eq!(reason, CloseReason::RemoteDisconnected(DisconnectReason::Quitting));
}
