use super::*;
use crate::{
    PeerId,
    rlpx::{disconnect::DisconnectReason, message::join},
    tendermint::node_info::Incompatibility,
    transport::{SendError, TrySendError},
};

const GOSSIP: ChannelSpec = ChannelSpec { id: 0x30, priority: 1, send_queue: 4, max_message_size: 1000 };

fn node(network: &MemoryNetwork, n: u8) -> MemoryTransport {
    let address = Some(SocketAddr::from(([127, 0, 0, n], 26656)));
    network.listen(MemoryConfig { node_info: info(n), channels: vec![GOSSIP], address }).unwrap()
}

fn info(n: u8) -> NodeInfo {
    NodeInfo::new([n; 20], "test", format!("node {n}"))
}

async fn connect(a: &MemoryTransport, b: &MemoryTransport) -> (Connection, Connection) {
    let address = PeerAddress::memory(b.id());
    let (dialed, accepted) = tokio::join!(a.dial(&address), async { b.accept().await.unwrap().handshake().await });
    (dialed.unwrap(), accepted.unwrap())
}

#[tokio::test]
async fn two_nodes_talk_both_ways() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, 1), node(&network, 2));
    let (mut to_b, mut to_a) = connect(&a, &b).await;
    assert_eq!((to_b.peer, to_a.peer), (PeerId::Tendermint([2; 20]), PeerId::Tendermint([1; 20])));
    assert_eq!((to_b.direction, to_a.direction), (Direction::Outbound, Direction::Inbound));
    assert_eq!(to_a.remote, Endpoint::Socket("127.0.0.1:26656".parse().unwrap()));
    assert_eq!(to_a.info.name(), "node 1");
    for n in 0..100u8 {
        to_b.send(0x30, Bytes::from(vec![n])).await.unwrap();
        assert_eq!(to_a.recv().await, Some((0x30, Bytes::from(vec![n]))));
        to_a.send(0x30, Bytes::from(vec![n, n])).await.unwrap();
        assert_eq!(to_b.recv().await, Some((0x30, Bytes::from(vec![n, n]))));
    }
    assert_eq!((to_b.stats().messages_sent, to_b.stats().messages_received), (100, 100));
    assert_eq!((a.stats().dials_completed, b.stats().accepts_completed), (1, 1));
}

#[tokio::test]
async fn a_socket_address_is_dialed_and_the_id_there_is_checked() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, 1), node(&network, 2));
    let accept = tokio::spawn(async move {
        loop {
            let _ = b.accept().await.unwrap().handshake().await;
        }
    });
    let right: PeerAddress = format!("{}@127.0.0.2:26656", "02".repeat(20)).parse().unwrap();
    assert_eq!(a.dial(&right).await.unwrap().peer, right.id());
    let wrong: PeerAddress = format!("{}@127.0.0.2:26656", "03".repeat(20)).parse().unwrap();
    let mismatch = HandshakeError::IdMismatch { expected: [3; 20], proven: [2; 20] };
    assert_eq!(a.dial(&wrong).await.unwrap_err(), DialError::Handshake(mismatch));
    for (text, error) in [
        (format!("{}@127.0.0.9:26656", "02".repeat(20)), DialError::Connect(std::io::ErrorKind::ConnectionRefused)),
        (format!("memory:{}", "09".repeat(20)), DialError::Connect(std::io::ErrorKind::ConnectionRefused)),
        (format!("{}@name:26656", "02".repeat(20)), DialError::Resolve(std::io::ErrorKind::NotFound)),
        (format!("enode://{}@127.0.0.2:26656", "02".repeat(64)), DialError::Unsupported),
    ] {
        assert_eq!(a.dial(&text.parse().unwrap()).await.unwrap_err(), error);
        assert_eq!(a.probe(&text.parse().unwrap()).await.unwrap_err(), error);
    }
    accept.abort();
}

/// Over TCP the stream ends with the dial.
#[tokio::test(start_paused = true)]
async fn a_dial_that_is_dropped_when_it_was_answered_leaves_nobody_connected() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, 1), node(&network, 2));
    let address = PeerAddress::memory(b.id());
    let mut dial = Box::pin(a.dial(&address));
    let knocked = tokio::select! {
        biased;
        _ = &mut dial => false,
        () = std::future::ready(()) => true,
    };
    assert!(knocked, "nobody has answered yet");
    let accepted = b.accept().await.unwrap().handshake().await.unwrap();
    drop(dial);
    let closed = tokio::time::timeout(Duration::from_secs(1), accepted.closed()).await;
    assert_eq!(closed, Ok(CloseReason::Remote));
}

#[tokio::test]
async fn a_probe_proves_who_is_there_and_connects_nobody() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, 1), node(&network, 2));
    for (text, found) in [
        (format!("{}@127.0.0.2:26656", "02".repeat(20)), Ok(())),
        (format!("memory:{}", "02".repeat(20)), Ok(())),
        (
            format!("{}@127.0.0.2:26656", "03".repeat(20)),
            Err(HandshakeError::IdMismatch { expected: [3; 20], proven: [2; 20] }.into()),
        ),
    ] {
        assert_eq!(a.probe(&text.parse().unwrap()).await, found);
    }
    assert_eq!((b.stats().accepted, a.stats().dialed), (0, 0));
}

#[tokio::test]
async fn both_sides_refuse_what_does_not_fit() {
    let network = MemoryNetwork::new();
    let a = node(&network, 1);
    let other_net = NodeInfo { network: "other".into(), ..info(2) };
    let b = network.listen(MemoryConfig { node_info: other_net, channels: vec![GOSSIP], address: None }).unwrap();
    let address = PeerAddress::memory([2; 20]);
    let (dialed, accepted) = tokio::join!(a.dial(&address), async { b.accept().await.unwrap().handshake().await });
    let different = Incompatibility::Network { ours: "test".into(), theirs: "other".into() };
    assert_eq!(dialed.unwrap_err(), DialError::Handshake(HandshakeError::Incompatible(different)));
    assert!(matches!(accepted.unwrap_err(), HandshakeError::Incompatible(Incompatibility::Network { .. })));
    assert_eq!((a.stats().handshakes_incompatible, b.stats().handshakes_incompatible), (1, 1));

    let itself = PeerAddress::memory([1; 20]);
    let (dialed, accepted) = tokio::join!(a.dial(&itself), async { a.accept().await.unwrap().handshake().await });
    assert_eq!(dialed.unwrap_err(), DialError::Handshake(HandshakeError::SelfConnection));
    assert_eq!(accepted.unwrap_err(), HandshakeError::SelfConnection);
}

#[tokio::test(start_paused = true)]
async fn an_incoming_may_be_refused_or_left_waiting() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, 1), node(&network, 2));
    let address = PeerAddress::memory([2; 20]);
    let (dialed, remote) = tokio::join!(a.dial(&address), async { b.accept().await.unwrap().remote() });
    assert_eq!(remote, a.local());
    assert_eq!(dialed.unwrap_err(), DialError::Handshake(HandshakeError::Closed));
    // Nobody accepts: virtual time runs to the time-out.
    let timeout = HandshakeError::Timeout(HANDSHAKE_TIMEOUT);
    assert_eq!(a.dial(&address).await.unwrap_err(), DialError::Handshake(timeout));
    b.close();
    assert_eq!(b.accept().await.unwrap_err(), AcceptError::Closed);
    assert!(matches!(a.dial(&address).await.unwrap_err(), DialError::Connect(_)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_blocks_the_sender_and_nothing_is_lost() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, 1), node(&network, 2));
    let (to_b, mut to_a) = connect(&a, &b).await;
    // The inbox takes 1 MiB, the carrier holds one batch, then the channel's queue of 4 fills up. A send that is given up was not queued.
    let message = |n: u32| Bytes::from(n.to_be_bytes().repeat(200));
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_secs(10), to_b.send(0x30, message(sent))).await.is_ok() {
        sent += 1;
    }
    assert!((1_100..1_150).contains(&sent), "928 bytes each, as they are counted: {sent}");
    assert!(
        matches!(to_b.sender.try_send(0x30, message(sent)), Err(TrySendError::Full(_))) && !to_b.sender.can_send(0x30)
    );
    assert_eq!((to_b.sender.queued(0x30), to_a.sender.queued(0x30), to_b.sender.queued(0x99)), (4, 0, 0));
    let blocked = to_b.send(0x30, message(sent));
    let (result, ()) = tokio::join!(blocked, async {
        for n in 0..=sent {
            assert_eq!(to_a.recv().await, Some((0x30, message(n))));
        }
    });
    result.unwrap();
}

#[tokio::test]
async fn what_cannot_be_sent_says_why() {
    let network = MemoryNetwork::new();
    let a = node(&network, 1);
    let extra = ChannelSpec { id: 0x31, max_message_size: 10, ..GOSSIP };
    let small = ChannelSpec { max_message_size: 10, ..GOSSIP };
    let b = network.listen(MemoryConfig { node_info: info(2), channels: vec![small, extra], address: None }).unwrap();
    let (to_b, to_a) = connect(&a, &b).await;
    assert_eq!(to_a.send(0x31, Bytes::new()).await, Err(SendError::NotSharedByPeer(0x31)));
    assert_eq!(to_a.send(0x32, Bytes::new()).await, Err(SendError::UnknownChannel(0x32)));
    assert_eq!(to_a.send(0x30, vec![0; 11].into()).await, Err(SendError::TooLarge { len: 11, max: 10 }));
    // The dialer's limit is larger than the acceptor's, who ends the connection as over TCP.
    to_b.send(0x30, vec![0; 11].into()).await.unwrap();
    let reason = to_a.closed().await;
    assert_eq!(reason, CloseReason::Protocol(MConnectionError::MessageTooLarge { channel: 0x30, max: 10 }));
    assert!(reason.blame().is_peer());
    assert_eq!(to_b.closed().await, CloseReason::Remote);
    assert_eq!(to_b.send(0x30, Bytes::new()).await, Err(SendError::Closed));
}

#[tokio::test]
async fn each_way_to_end_is_seen_on_both_sides() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, 1), node(&network, 2));

    // Flushing delivers what was queued.
    let (to_b, mut to_a) = connect(&a, &b).await;
    for n in 0..4 {
        to_b.sender.try_send(0x30, vec![n].into()).unwrap();
    }
    assert!(!to_b.sender.can_send(0x30) && to_a.sender.can_send(0x30));
    let reason = CloseReason::requested("done");
    assert_eq!(to_b.flush_and_close(reason.clone()).await, reason);
    for n in 0..4 {
        assert_eq!(to_a.recv().await, Some((0x30, vec![n].into())));
    }
    assert_eq!(to_a.recv().await, None);
    assert_eq!(to_a.closed().await, CloseReason::Remote);
    for gone in [&to_a.sender, &to_b.sender] {
        assert_eq!((gone.queued(0x30), gone.can_send(0x30)), (0, false), "room, but nobody there");
        assert_eq!(gone.try_send(0x30, Bytes::new()), Err(SendError::Closed.into()));
    }

    // Closing keeps the first reason.
    let (to_b, mut to_a) = connect(&a, &b).await;
    to_b.close(CloseReason::requested("evicted"));
    to_b.close(CloseReason::requested("again"));
    assert_eq!(to_b.sender.close_reason(), Some(CloseReason::requested("evicted")));
    assert_eq!(to_a.recv().await, None);

    // Dropping the receiver ends it too.
    let (to_b, to_a) = connect(&a, &b).await;
    let Connection { sender, receiver, .. } = to_b;
    drop(receiver);
    assert_eq!(sender.closed().await, CloseReason::Dropped);
    assert_eq!(to_a.closed().await, CloseReason::Remote);
}

// Ethereum nodes.

fn protocol(name: &str, version: u64) -> Protocol {
    Protocol::new(name, version, 4).unwrap()
}

fn ethereum(network: &MemoryNetwork, n: u8, protocols: &[Protocol]) -> MemoryTransport {
    let (name, protocols) = (format!("node {n}/v1"), protocols.to_vec());
    network.listen_rlpx(MemoryRlpxConfig { id: [n; 64], name, protocols, address: None }).unwrap()
}

#[tokio::test]
async fn ethereum_nodes_talk_in_what_both_speak_and_say_why_they_leave() {
    let network = MemoryNetwork::new();
    let a = ethereum(&network, 1, &[protocol("snap", 1), protocol("eth", 68), protocol("eth", 69)]);
    let b = ethereum(&network, 2, &[protocol("snap", 1), protocol("les", 4), protocol("eth", 68)]);
    let (to_b, mut to_a) = connect(&a, &b).await;
    assert_eq!((to_b.peer, to_a.peer), (PeerId::Ethereum([2; 64]), PeerId::Ethereum([1; 64])));
    let hello = to_a.info.ethereum().unwrap();
    assert_eq!((to_a.info.name(), hello.capabilities.len()), ("node 1/v1", 3));
    // eth/68 is the first channel, snap/1 the second, and there is no third.
    for (channel, message) in [(1, join(3, b"snap")), (0, join(0, b"eth"))] {
        to_b.send(channel, message.clone()).await.unwrap();
        assert_eq!(to_a.recv().await, Some((channel, message)));
    }
    // As over TCP, each protocol has its codes and no others.
    assert_eq!(to_b.send(2, join(0, b"les")).await, Err(SendError::UnknownChannel(2)));
    assert_eq!(to_b.send(1, join(4, &[])).await, Err(SendError::CodeOutOfRange { code: 4, length: 4 }));
    assert_eq!(to_b.send(1, Bytes::new()).await, Err(SendError::NoCode));

    let last = join(0, b"last");
    to_b.send(0, last.clone()).await.unwrap();
    let quitting = CloseReason::Disconnected(DisconnectReason::Quitting);
    assert_eq!(to_b.flush_and_close(quitting.clone()).await, quitting);
    assert_eq!(to_a.recv().await, Some((0, last)));
    assert_eq!(to_a.recv().await, None);
    assert_eq!(to_a.closed().await, CloseReason::RemoteDisconnected(DisconnectReason::Quitting));
}

#[tokio::test]
async fn an_ethereum_node_is_no_peer_of_one_that_speaks_nothing_with_it_nor_of_another_wire() {
    let network = MemoryNetwork::new();
    let a = ethereum(&network, 1, &[protocol("eth", 68)]);
    let b = ethereum(&network, 2, &[protocol("eth", 69)]);
    let address = PeerAddress::memory(b.id());
    let (dialed, accepted) = tokio::join!(a.dial(&address), async { b.accept().await.unwrap().handshake().await });
    let useless = HandshakeError::UselessPeer(UselessPeer);
    assert_eq!((dialed.unwrap_err(), accepted.unwrap_err()), (DialError::Handshake(useless.clone()), useless));
    assert_eq!(a.dial(&PeerAddress::memory([3; 20])).await.unwrap_err(), DialError::Unsupported);
    let twice = vec![protocol("eth", 68); 2];
    let config = MemoryRlpxConfig { id: [4; 64], name: String::new(), protocols: twice, address: None };
    assert!(matches!(network.listen_rlpx(config), Err(MemoryError::Protocols(_))));
}
