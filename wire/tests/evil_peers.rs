//! Peers that lie, stall or babble at each stage: each gets a typed error that names whose fault it was, is counted, and
//! disturbs nobody else.

mod raw_peer;

use std::{future::Future, time::Duration};

use kadwire_wire::{
    Blame,
    tendermint::{
        mconnection::{ChannelSpec, MConnectionConfig, MConnectionError},
        node_info::{Incompatibility, MAX_NODE_INFO_SIZE, NodeInfoError},
        secret_connection::{FrameError, SEALED_SIZE, SecretConnectionError},
    },
    transport::{CloseReason, Connection, HandshakeError, TendermintTransport, Transport},
};
use raw_peer::{CHANNEL, RawPeer, config, connect, delimited, key, node, socket, soon};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What the accepting side says to a peer that does `evil`.
async fn refusal<F: Future<Output = ()>>(node: &TendermintTransport, evil: F) -> HandshakeError {
    let accept = async { node.accept().await.unwrap().handshake().await };
    let ((), accepted) = soon("handshake", async { tokio::join!(evil, accept) }).await;
    accepted.unwrap_err()
}

/// An ephemeral key message, in a BytesValue.
fn ephemeral(key: &[u8]) -> Vec<u8> {
    delimited(&[&[0x0a, key.len() as u8], key].concat())
}

#[tokio::test]
async fn the_secret_connection_refuses_each_lie() {
    use SecretConnectionError::*;
    let node = node(1, [127, 0, 0, 1]).await;
    let there = socket(&node);
    for (bytes, error) in [
        (ephemeral(&[1; 31]), EphemeralLength(31)),
        (ephemeral(&[1; 33]), EphemeralLength(33)),
        (ephemeral(&[0; 32]), LowOrder),
        (
            b"GET / HTTP/1.1\r\n\r\nand more than seventy-one bytes, as the first letter's value asks for".to_vec(),
            Undecodable,
        ),
        (vec![0xff, 0x7f], MessageTooLarge(16_383)),
        ([ephemeral(&[9; 32]), vec![0; SEALED_SIZE]].concat(), Frame(FrameError::Decrypt)),
    ] {
        let evil = async {
            let mut stream = TcpStream::connect(there).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            // Until the node hangs up.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let refused = refusal(&node, evil).await;
        assert_eq!(refused, HandshakeError::SecretConnection(error));
        assert!(refused.blame().is_peer());
    }
    let echo = refusal(&node, async {
        let mut stream = TcpStream::connect(there).await.unwrap();
        let mut first = [0; 35];
        stream.read_exact(&mut first).await.unwrap();
        stream.write_all(&first).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    assert_eq!(echo.await, HandshakeError::SecretConnection(Reflected));
    let gone = refusal(&node, async { drop(TcpStream::connect(there).await.unwrap()) }).await;
    assert_eq!((gone.blame(), gone), (Blame::Local, HandshakeError::Closed));
    let stats = node.stats();
    assert_eq!((stats.handshakes_malformed, stats.handshakes_misbehaved, stats.handshakes_failed), (5, 2, 1));
    // All this while the node serves others.
    let friend = raw_peer::node(7, [127, 0, 0, 7]).await;
    connect(&friend, &node).await;
}

#[tokio::test]
async fn node_info_must_be_true_valid_and_fitting() {
    use HandshakeError::*;
    let node = node(1, [127, 0, 0, 1]).await;
    let there = socket(&node);
    let other_net = Incompatibility::Network { ours: "test-net".into(), theirs: "other".into() };
    let claimed = key(9).id();
    let cases = [
        // Of several faults the first in CometBFT's order is named: the NodeInfo's own, its id, what does not fit.
        (
            RawPeer::node_info(2, |i| (i.id, i.tx_index, i.network) = (claimed, "yes".into(), "other".into())),
            NodeInfo(NodeInfoError::TxIndex),
        ),
        (
            RawPeer::node_info(2, |i| (i.id, i.network) = (claimed, "other".into())),
            NodeInfoId { claimed, proven: key(2).id() },
        ),
        (RawPeer::node_info(2, |i| i.id = claimed), NodeInfoId { claimed, proven: key(2).id() }),
        (RawPeer::node_info(2, |i| i.network = "other".into()), Incompatible(other_net)),
        (RawPeer::node_info(2, |i| i.channels = vec![0x77]), Incompatible(Incompatibility::NoCommonChannel)),
        (
            RawPeer::node_info(2, |i| i.protocol_version.block = 10),
            Incompatible(Incompatibility::Block { ours: 11, theirs: 10 }),
        ),
        (RawPeer::node_info(2, |i| i.channels = (0..17).collect()), NodeInfo(NodeInfoError::TooManyChannels(17))),
        (RawPeer::node_info(2, |i| i.channels = vec![CHANNEL; 2]), NodeInfo(NodeInfoError::DuplicateChannel(CHANNEL))),
        (RawPeer::node_info(2, |i| i.moniker = "\u{1b}[2J".into()), NodeInfo(NodeInfoError::Moniker)),
        (delimited(&[0xff; 100]), NodeInfo(NodeInfoError::Undecodable)),
        (vec![0xff; 10], NodeInfo(NodeInfoError::Undecodable)),
        (delimited(&vec![0; MAX_NODE_INFO_SIZE + 1]), NodeInfo(NodeInfoError::TooLarge)),
    ];
    for (bytes, error) in cases {
        let evil = async {
            let mut peer = RawPeer::dial(there, 2).await;
            peer.write(&bytes).await;
            while peer.read_some().await.is_some() {}
        };
        assert_eq!(refusal(&node, evil).await, error);
    }
    let itself = refusal(&node, async {
        let mut peer = RawPeer::dial(there, 1).await;
        peer.write(&RawPeer::node_info(1, |i| i.network = "other".into())).await;
        while peer.read_some().await.is_some() {}
    });
    assert_eq!(itself.await, SelfConnection);
    let garbage = refusal(&node, async {
        let mut peer = RawPeer::dial(there, 2).await;
        peer.stream.write_all(&[0; SEALED_SIZE]).await.unwrap();
        while peer.read_some().await.is_some() {}
    });
    assert_eq!(garbage.await, Frame(FrameError::Decrypt));
}

/// A peer that says nothing at some stage, and one that says a byte now and then, are cut at the absolute time-out. Only the
/// timers run here, so the clock may jump.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_cut_at_the_timeout_at_every_stage() {
    let node = node(1, [127, 0, 0, 1]).await;
    let there = socket(&node);
    let limit = HandshakeError::Timeout(Duration::from_secs(20));
    let start = tokio::time::Instant::now();
    let accept = async || node.accept().await.unwrap().handshake().await.unwrap_err();

    let silent = TcpStream::connect(there).await.unwrap();
    assert_eq!(accept().await, limit);
    drop(silent);

    let mut half = TcpStream::connect(there).await.unwrap();
    half.write_all(&ephemeral(&[9; 32])[..20]).await.unwrap();
    assert_eq!(accept().await, limit);

    let mut no_signature = TcpStream::connect(there).await.unwrap();
    no_signature.write_all(&ephemeral(&[9; 32])).await.unwrap();
    assert_eq!(accept().await, limit);

    // A byte every 900 ms keeps nothing alive (the message would take 31 s).
    let mut slow = TcpStream::connect(there).await.unwrap();
    let drip = async {
        for byte in ephemeral(&[9; 32]) {
            tokio::time::sleep(Duration::from_millis(900)).await;
            if slow.write_all(&[byte]).await.is_err() {
                break;
            }
        }
    };
    let (_, error) = tokio::join!(drip, accept());
    assert_eq!(error, limit);
    assert_eq!(limit.blame(), Blame::Local);
    assert!(start.elapsed() >= Duration::from_secs(80));
}

#[tokio::test]
async fn a_dialed_peer_that_says_nothing_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.8:0").await.unwrap();
    let mut config = config(1, [127, 0, 0, 1]);
    config.handshake_timeout = Duration::from_millis(50);
    let node = TendermintTransport::bind(config).await.unwrap();
    let address = format!("{}@{}", "ab".repeat(20), silent.local_addr().unwrap()).parse().unwrap();
    let error = soon("dial", node.dial(&address)).await.unwrap_err();
    assert_eq!(error, HandshakeError::Timeout(Duration::from_millis(50)).into());
    assert_eq!(soon("probe", node.probe(&address)).await.unwrap_err(), error);
}

/// A live connection with a raw peer on the other end.
async fn live(node: &TendermintTransport) -> (Connection, RawPeer) {
    let accept = async { node.accept().await.unwrap().handshake().await.unwrap() };
    soon("connection", async { tokio::join!(accept, RawPeer::connect(socket(node), 2)) }).await
}

/// A packet on [`CHANNEL`].
fn packet(eof: bool, data: &[u8]) -> Vec<u8> {
    let mut inner = vec![0x08, CHANNEL];
    if eof {
        inner.extend([0x10, 1]);
    }
    inner.push(0x1a);
    inner.extend(delimited(data));
    delimited(&[vec![0x1a], delimited(&inner)].concat())
}

#[tokio::test]
async fn a_packet_that_breaks_a_rule_ends_the_connection_after_what_came_before() {
    use MConnectionError::*;
    let node = node(1, [127, 0, 0, 1]).await;
    for (bytes, error) in [
        (vec![6, 0x1a, 4, 0x08, 0x55, 0x10, 1], UnknownChannel(0x55)),
        (vec![2, 0x22, 0], UnknownPacket),
        (packet(true, &[0; 1025]), PacketTooLarge { len: 1035, max: 1034 }),
        (vec![0xff; 10], Undecodable("bad length")),
        (vec![3, 0x0a, 7, 7], Undecodable("field exceeds its packet")),
    ] {
        let (mut connection, mut peer) = live(&node).await;
        peer.write(&[packet(true, b"before"), bytes].concat()).await;
        assert_eq!(soon("message", connection.recv()).await.unwrap().1, "before");
        assert_eq!(soon("end", connection.recv()).await, None);
        let reason = connection.closed().await;
        assert_eq!(reason, CloseReason::Protocol(error));
        assert!(reason.blame().is_peer());
        while soon("hang-up", peer.read_some()).await.is_some() {}
    }
}

#[tokio::test]
async fn a_frame_that_does_not_open_ends_the_connection_after_what_came_before() {
    let node = node(1, [127, 0, 0, 1]).await;
    let (mut connection, mut peer) = live(&node).await;
    peer.write(&packet(true, b"before")).await;
    peer.stream.write_all(&[0; SEALED_SIZE]).await.unwrap();
    assert_eq!(soon("message", connection.recv()).await.unwrap().1, "before");
    assert_eq!(soon("end", connection.recv()).await, None);
    assert_eq!(connection.closed().await, CloseReason::Frame(FrameError::Decrypt));

    // A stream that ends within a frame was cut, not closed.
    let (connection, mut peer) = live(&node).await;
    peer.stream.write_all(&[0; SEALED_SIZE - 1]).await.unwrap();
    drop(peer);
    assert!(matches!(soon("end", connection.closed()).await, CloseReason::Io(_)));
}

#[tokio::test]
async fn a_message_without_end_is_cut_at_the_channels_limit() {
    let mut config = config(1, [127, 0, 0, 1]);
    config.channels = vec![ChannelSpec { max_message_size: 64_000, ..ChannelSpec::new(CHANNEL) }];
    let node = TendermintTransport::bind(config).await.unwrap();
    let (connection, mut peer) = live(&node).await;
    for _ in 0..63 {
        peer.write(&packet(false, &[0; 1024])).await;
    }
    let too_large = MConnectionError::MessageTooLarge { channel: CHANNEL, max: 64_000 };
    assert_eq!(soon("end", connection.closed()).await, CloseReason::Protocol(too_large));
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_by_fewer_pongs() {
    let node = node(1, [127, 0, 0, 1]).await;
    let (mut connection, mut peer) = live(&node).await;
    peer.write(&[[2, 0x0a, 0].repeat(50_000), packet(true, b"end")].concat()).await;
    assert_eq!(soon("message", connection.recv()).await.unwrap().1, "end");
    assert!(soon("pong", peer.read_some()).await.unwrap().starts_with(&[2, 0x12, 0]));
    connection.close(CloseReason::requested("done"));
    // The driver publishes its counters when it waits or ends, and now and then.
    while soon("hang-up", peer.read_some()).await.is_some() {}
    let stats = connection.stats();
    assert_eq!((stats.pings_received, stats.messages_received), (50_000, 1));
    assert!(stats.pongs_sent <= 50);
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_closed() {
    let mut config = config(1, [127, 0, 0, 1]);
    let (ping_interval, pong_timeout) = (Duration::from_millis(60), Duration::from_millis(40));
    config.mconnection = MConnectionConfig { ping_interval, pong_timeout, ..config.mconnection };
    let node = TendermintTransport::bind(config).await.unwrap();
    let (connection, mut peer) = live(&node).await;
    assert_eq!(soon("ping", peer.read_some()).await.unwrap(), [2, 0x0a, 0]);
    let reason = soon("end", connection.closed()).await;
    assert_eq!((reason.blame(), reason), (Blame::Local, CloseReason::Protocol(MConnectionError::PongTimeout)));

    // If our own user takes nothing, so that no pong can be read, it is not the peer's fault. The timers run when nothing more can be read.
    let (connection, mut peer) = live(&node).await;
    tokio::time::pause();
    let reason = soon("end", async {
        let babble = async {
            while peer.try_write(&packet(true, &[0; 1000]).repeat(100)).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        tokio::select! {
            reason = connection.closed() => reason,
            () = babble => unreachable!("endless"),
        }
    });
    assert_eq!(reason.await, CloseReason::ReceiverStalled);
}

/// This process sleeps, or the machine is busy: the pong waits in the socket until its time is long over.
#[tokio::test(start_paused = true)]
async fn a_pong_that_came_in_time_counts_however_late_we_look() {
    let node = node(1, [127, 0, 0, 1]).await;
    let (mut connection, mut peer) = live(&node).await;
    for ping in 0..3 {
        assert_eq!(peer.read_some().await.unwrap(), [2, 0x0a, 0], "ping {ping}");
        peer.write(&[packet(true, &[0; 1000]).repeat(100), vec![2, 0x12, 0]].concat()).await;
        tokio::time::advance(Duration::from_secs(59)).await;
        for _ in 0..100 {
            assert_eq!(connection.recv().await.unwrap().1.len(), 1000);
        }
    }
    // Without a pong it is over, whatever else the peer says.
    peer.write(&packet(true, b"no pong")).await;
    assert_eq!(connection.recv().await.unwrap().1, "no pong");
    assert_eq!(connection.closed().await, CloseReason::Protocol(MConnectionError::PongTimeout));
}

/// A seed answers and hangs up, without a look at what we send it meanwhile: the system resets the stream under our write.
#[tokio::test]
async fn the_last_words_of_a_peer_that_hangs_up_while_we_write_are_heard() {
    let node = node(1, [127, 0, 0, 1]).await;
    for _ in 0..20 {
        let (mut connection, mut peer) = live(&node).await;
        // More than the stream takes: a write waits.
        let more = bytes::Bytes::from(vec![0; 16 << 20]);
        connection.send(CHANNEL, more).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        peer.write(&[packet(true, &[0; 1000]).repeat(30), packet(true, b"last words")].concat()).await;
        drop(peer);
        let mut heard = Vec::new();
        while let Some((_, message)) = soon("end", connection.recv()).await {
            heard.push(message);
        }
        assert_eq!((heard.len(), heard.last().map(|last| &last[..])), (31, Some(b"last words".as_slice())));
        let reason = connection.closed().await;
        assert_eq!(reason.blame(), Blame::Local, "{reason}");
    }
}

/// The smallest messages, as many as the stream takes, for a user who takes none: they cost ten times their bytes, so few are read.
#[tokio::test]
async fn tiny_messages_that_nobody_takes_are_bounded_in_number() {
    let mut config = config(1, [127, 114, 0, 1]);
    let (ping_interval, pong_timeout) = (Duration::from_millis(900), Duration::from_millis(800));
    config.mconnection = MConnectionConfig { ping_interval, pong_timeout, ..config.mconnection };
    let node = TendermintTransport::bind(config).await.unwrap();
    let (mut connection, mut peer) = live(&node).await;
    // The timers run when nothing more can be read.
    tokio::time::pause();
    let flood = async {
        // Large ones first, so that reads grow.
        for _ in 0..8 {
            peer.write(&packet(true, &[0; 1000]).repeat(400)).await;
        }
        while peer.try_write(&packet(true, b"").repeat(50_000)).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let reason = soon("end", async {
        tokio::select! {
            () = flood => unreachable!("endless"),
            reason = async {
                for _ in 0..8 * 400 {
                    connection.recv().await.unwrap();
                }
                connection.closed().await
            } => reason,
        }
    });
    assert_eq!(reason.await, CloseReason::ReceiverStalled);
    // 1 MiB as they are counted, and one portion of the stream.
    let received = connection.stats().messages_received - 8 * 400;
    assert!((1..(1 << 20) / 128 + (64 << 10) / 7).contains(&received), "{received}");
}

/// After our last byte the peer's are dropped for two seconds, however many it sends.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_does_not_prolong_the_goodbye() {
    let node = node(1, [127, 0, 0, 1]).await;
    let (connection, peer) = live(&node).await;
    let stream = peer.stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    let flood = std::thread::spawn(move || {
        let mut stream = stream;
        std::io::Read::read_to_end(&mut stream, &mut Vec::new()).unwrap();
        let mut sent = 0;
        while let Ok(len) = std::io::Write::write(&mut stream, &[0; 1 << 18]) {
            sent += len;
        }
        sent
    });
    let started = tokio::time::Instant::now();
    let reason = soon("end", connection.flush_and_close(CloseReason::requested("done"))).await;
    assert_eq!(reason, CloseReason::requested("done"));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(flood.join().unwrap() > 0);
}

/// 200 silent sockets cost the honest nothing: each waits in its own handshake.
#[tokio::test]
async fn silent_sockets_do_not_keep_an_honest_peer_out() {
    let (a, b) = (node(1, [127, 0, 0, 1]).await, node(2, [127, 0, 0, 2]).await);
    let mut silent = Vec::new();
    let (accepted, mut connections) = tokio::sync::mpsc::channel(1);
    let address = b.address().unwrap();
    let there = socket(&b);
    tokio::spawn(async move {
        loop {
            let (incoming, accepted) = (b.accept().await.unwrap(), accepted.clone());
            tokio::spawn(async move {
                if let Ok(connection) = incoming.handshake().await {
                    let _ = accepted.send(connection).await;
                }
            });
        }
    });
    for _ in 0..200 {
        silent.push(TcpStream::connect(there).await.unwrap());
    }
    let to_b = soon("dial", a.dial(&address)).await.unwrap();
    assert_eq!(soon("accept", connections.recv()).await.unwrap().peer, a.address().unwrap().id());
    drop((to_b, silent));
}
