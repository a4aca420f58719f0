//! Two nodes over real TCP on loopback addresses: what one sends the other gets, and every way to end is seen on both sides.

mod carried;
mod raw_peer;

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use carried::carried;
use kadwire_wire::{
    Blame, PeerAddress, PeerId,
    tendermint::mconnection::{ChannelSpec, ConfigError, MConnectionConfig},
    transport::{
        AcceptError, BindError, CloseReason, DialError, Direction, Endpoint, HandshakeError, SendError,
        TendermintTransport, Transport, TrySendError,
    },
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use raw_peer::{CHANNEL, config, connect, key, node, socket, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_all_sizes_are_echoed_byte_for_byte() {
    let (a, b) = (node(1, [127, 0, 0, 1]).await, node(2, [127, 0, 0, 2]).await);
    let (mut to_b, mut to_a) = connect(&a, &b).await;
    assert_eq!((to_b.peer, to_a.peer), (PeerId::Tendermint(key(2).id()), PeerId::Tendermint(key(1).id())));
    assert_eq!((to_b.direction, to_a.direction), (Direction::Outbound, Direction::Inbound));
    assert_eq!((to_b.remote, to_b.info.name()), (b.local(), "node 2"));
    let echo = tokio::spawn(async move {
        while let Some((channel, message)) = to_a.recv().await {
            to_a.send(channel, message).await.unwrap();
        }
    });
    let mut rng = StdRng::seed_from_u64(1);
    let random = (0..100).map(|_| 1usize << rng.random_range(0..17)).collect::<Vec<_>>();
    for size in [0, 1, 1023, 1024, 1025, 65_536, 1 << 20, 20_000_000].into_iter().chain(random) {
        let mut message = vec![0; size];
        rng.fill_bytes(&mut message);
        let message = Bytes::from(message);
        to_b.send(CHANNEL, message.clone()).await.unwrap();
        let (channel, echoed) = soon("echo", to_b.recv()).await.unwrap();
        assert!(channel == CHANNEL && echoed == message, "{size} bytes differ");
    }
    drop(to_b);
    soon("end", echo).await.unwrap();
    assert_eq!((a.stats().dials_completed, b.stats().accepts_completed), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_both_ways_at_once_on_two_channels() {
    let (a, b) = (node(1, [127, 0, 0, 1]).await, node(2, [127, 0, 0, 2]).await);
    let (to_b, to_a) = connect(&a, &b).await;
    let mut tasks = Vec::new();
    let (held, _connections) = std::sync::mpsc::sync_channel(2);
    for mut connection in [to_b, to_a] {
        for channel in [CHANNEL, 0x31] {
            let sender = connection.sender.clone();
            tasks.push(tokio::spawn(async move {
                for n in 0..5_000u32 {
                    let mut message = n.to_be_bytes().to_vec();
                    message.resize(4 + n as usize % 3000, channel);
                    sender.send(channel, message.into()).await.unwrap();
                }
            }));
        }
        let held = held.clone();
        tasks.push(tokio::spawn(async move {
            let mut next = [0u32; 2];
            while next != [5_000; 2] {
                let (channel, message) = connection.recv().await.expect("connection ended");
                let next = &mut next[usize::from(channel - CHANNEL)];
                assert_eq!(message[..4], next.to_be_bytes());
                assert_eq!(message.len(), 4 + *next as usize % 3000);
                *next += 1;
            }
            // What we send may still be under way.
            held.send(connection).unwrap();
        }));
    }
    for task in tasks {
        soon("a direction", task).await.unwrap();
    }
}

#[tokio::test]
async fn a_flush_delivers_what_was_queued_and_both_sides_say_why() {
    let (a, b) = (node(1, [127, 0, 0, 1]).await, node(2, [127, 0, 0, 2]).await);
    let (to_b, mut to_a) = connect(&a, &b).await;
    for n in 0..16 {
        to_b.sender.try_send(CHANNEL, vec![n; 1 << 20].into()).unwrap();
    }
    let full = to_b.sender.try_send(CHANNEL, Bytes::new());
    assert_eq!(full, Err(TrySendError::Full(Bytes::new())));
    // The peer has something to say that nobody will read; it must not reset what is under way.
    to_a.send(CHANNEL, vec![0; 100_000].into()).await.unwrap();
    let reason = CloseReason::requested("done");
    let (closed, ()) = tokio::join!(to_b.flush_and_close(reason.clone()), async {
        for n in 0..16 {
            let (_, message) = soon("queued message", to_a.recv()).await.unwrap();
            assert_eq!((message.len(), message[0]), (1 << 20, n));
        }
        assert_eq!(to_a.recv().await, None);
    });
    assert_eq!((closed, to_a.closed().await), (reason, CloseReason::Remote));
    assert_eq!(to_b.send(CHANNEL, Bytes::new()).await, Err(SendError::Closed));
}

#[tokio::test]
async fn a_receiver_that_does_not_take_messages_stops_the_sender_and_loses_nothing() {
    let (a, b) = (node(1, [127, 0, 0, 1]).await, node(2, [127, 0, 0, 2]).await);
    let (to_b, mut to_a) = connect(&a, &b).await;
    let sender = to_b.sender.clone();
    let sent = tokio::spawn(async move {
        for n in 0..400u32 {
            sender.send(CHANNEL, n.to_be_bytes().repeat(25_000).into()).await.unwrap();
        }
    });
    // 40 MB do not fit into two kernels' buffers and an inbox of 1 MiB.
    while to_b.sender.can_send(CHANNEL) || to_a.stats().bytes_received == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!sent.is_finished());
    for n in 0..400u32 {
        let (_, message) = soon("message", to_a.recv()).await.unwrap();
        assert!(message.chunks(4).all(|chunk| chunk == n.to_be_bytes()));
    }
    soon("sender", sent).await.unwrap();
}

/// What happens before the next timer: with the clock paused, a runtime that is never idle lets the sockets work and no time pass.
async fn settled<T>(what: &str, future: impl Future<Output = T>) -> T {
    // Seconds, but only for what does not come.
    let settle = async {
        for _ in 0..1_000_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        done = future => done,
        () = settle => panic!("{what} does not come"),
    }
}

/// A user who leaves one channel alone for a minute, while the peer goes on sending to it.
#[tokio::test]
async fn a_channel_that_nobody_takes_delays_neither_pongs_nor_the_other_channels() {
    let ten_seconds = |seed| {
        let mut config = config(seed, [127, 114, 0, seed]);
        let (ping_interval, pong_timeout) = (Duration::from_secs(10), Duration::from_secs(5));
        config.mconnection = MConnectionConfig { ping_interval, pong_timeout, ..config.mconnection };
        TendermintTransport::bind(config)
    };
    let (a, b) = (ten_seconds(1).await.unwrap(), ten_seconds(2).await.unwrap());
    let (to_b, mut to_a) = connect(&a, &b).await;
    tokio::time::pause();
    for _ in 0..65 {
        to_b.sender.try_send(CHANNEL, vec![7; 10_000].into()).unwrap();
        to_b.sender.try_send(0x31, "tick".into()).unwrap();
        let tick = settled("a tick", to_a.receiver.recv_where(|channel| channel == 0x31)).await;
        assert_eq!(tick, Some((0x31, "tick".into())));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    for connection in [&to_b, &to_a] {
        let stats = connection.stats();
        assert_eq!((stats.pings_sent, stats.pongs_received, connection.sender.close_reason()), (6, 6, None));
    }
    for _ in 0..65 {
        assert_eq!(settled("a message", to_a.recv()).await, Some((CHANNEL, vec![7; 10_000].into())));
    }
}

/// Beyond what may wait, the stream stands still; then nothing more can be seen of the peer, which is nobody's fault but ours.
#[tokio::test]
async fn a_stream_that_stands_still_ends_when_a_pong_is_due_and_blames_nobody() {
    let (a, b) = (node(1, [127, 114, 0, 1]).await, node(2, [127, 114, 0, 2]).await);
    let (to_b, to_a) = connect(&a, &b).await;
    tokio::time::pause();
    while to_b.sender.try_send(CHANNEL, vec![7; 1 << 20].into()).is_ok() {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    }
    assert!(to_a.stats().bytes_received > 0 && to_a.sender.close_reason().is_none());
    tokio::time::advance(Duration::from_secs(61)).await;
    settled("a ping", async {
        while to_b.stats().pings_sent + to_a.stats().pings_sent == 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
    tokio::time::advance(Duration::from_secs(46)).await;
    let (here, there) = settled("the end", async { tokio::join!(to_a.closed(), to_b.closed()) }).await;
    assert_eq!((here.blame(), here), (Blame::Local, CloseReason::ReceiverStalled));
    assert_eq!(there.blame(), Blame::Local, "{there}");
}

#[tokio::test]
async fn what_one_side_writes_the_other_reads_to_the_byte() {
    let (a, b) = (node(1, [127, 0, 0, 1]).await, node(2, [127, 0, 0, 2]).await);
    assert_eq!((a.stats().bytes_sent, a.stats().bytes_received), (0, 0));
    let (to_b, mut to_a) = connect(&a, &b).await;
    let handshakes = soon("the handshake's bytes", carried(&a, &b)).await;
    assert!(handshakes.0 > 100 && handshakes.1 > 100, "{handshakes:?}");
    to_b.send(CHANNEL, vec![7; 100_000].into()).await.unwrap();
    soon("message", to_a.recv()).await.unwrap();
    // 100 sealed frames of 1,044 bytes, and what packets add.
    let sent = soon("the message's bytes", carried(&a, &b)).await.0 - handshakes.0;
    assert!((102_000..110_000).contains(&sent), "{sent}");
    // Probes and handshakes that are cut count too.
    let to_b = b.address().unwrap();
    let (probed, cut) = tokio::join!(a.probe(&to_b), async { b.accept().await.unwrap().handshake().await });
    assert!(probed.is_ok() && cut.is_err());
    assert!(a.stats().bytes_sent > handshakes.0 + sent);
}

#[tokio::test]
async fn closing_and_dropping_are_seen_by_the_other_side() {
    let (a, b) = (node(1, [127, 0, 0, 1]).await, node(2, [127, 0, 0, 2]).await);
    let (to_b, mut to_a) = connect(&a, &b).await;
    to_b.close(CloseReason::requested("evicted"));
    assert_eq!(soon("end", to_a.recv()).await, None);
    assert_eq!((to_b.closed().await, to_a.closed().await), (CloseReason::requested("evicted"), CloseReason::Remote));

    let (to_b, to_a) = connect(&a, &b).await;
    drop(to_a);
    assert!(matches!(soon("end", to_b.closed()).await, CloseReason::Remote | CloseReason::Io(_)));
}

/// As after a panic: a connection is over when its task is, whatever ended the task.
#[test]
fn a_connection_whose_task_is_gone_is_over() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (to_b, _to_a) = runtime.block_on(async {
        let (a, b) = (node(1, [127, 114, 0, 1]).await, node(2, [127, 114, 0, 2]).await);
        connect(&a, &b).await
    });
    drop(runtime);
    let reason = to_b.sender.close_reason();
    assert_eq!(reason, Some(CloseReason::requested("the connection's task was dropped")));
    assert_eq!(to_b.sender.try_send(CHANNEL, Bytes::new()), Err(SendError::Closed.into()));
}

#[tokio::test]
async fn a_dial_that_fails_says_why() {
    let (a, b) = (node(1, [127, 0, 0, 1]).await, node(2, [127, 0, 0, 2]).await);
    let there = socket(&b);
    tokio::spawn(async move {
        loop {
            let _ = b.accept().await.unwrap().handshake().await;
        }
    });
    let dial = async |text: String| soon("dial", a.dial(&text.parse().unwrap())).await.unwrap_err();
    let id = PeerId::Tendermint(key(2).id());
    let wrong = PeerId::Tendermint(key(3).id());
    let mismatch = HandshakeError::IdMismatch { expected: key(3).id(), proven: key(2).id() };
    assert_eq!(mismatch.blame(), Blame::Incompatible);
    assert_eq!(dial(format!("{wrong}@{there}")).await, DialError::Handshake(mismatch.clone()));
    let probe = async |text: String| soon("probe", a.probe(&text.parse().unwrap())).await;
    assert_eq!(probe(format!("{id}@{there}")).await, Ok(()));
    assert_eq!(probe(format!("{wrong}@{there}")).await, Err(mismatch.into()));
    assert_eq!(dial(format!("{id}@127.0.0.3:1")).await, DialError::Connect(io::ErrorKind::ConnectionRefused));
    assert_eq!(dial(format!("memory:{id}")).await, DialError::Unsupported);
    assert_eq!(dial(format!("enode://{}@{there}", "ab".repeat(64))).await, DialError::Unsupported);
    // `.invalid` never resolves (RFC 6761).
    let unresolved = dial(format!("{id}@nowhere.invalid:1")).await;
    assert!(matches!(unresolved, DialError::Resolve(_) | DialError::Timeout(_)));
    assert_eq!((a.stats().dialed, a.stats().handshakes_incompatible), (5, 1));
}

#[tokio::test]
async fn a_name_is_resolved_by_the_driver() {
    let (a, b) = (node(1, [127, 0, 0, 1]).await, node(2, [127, 0, 0, 1]).await);
    let address: PeerAddress =
        format!("{}@localhost:{}", b.address().unwrap().id(), socket(&b).port()).parse().unwrap();
    let (dialed, accepted) =
        tokio::join!(soon("dial", a.dial(&address)), async { b.accept().await.unwrap().handshake().await });
    assert_eq!((dialed.unwrap().peer, accepted.unwrap().peer), (address.id(), a.address().unwrap().id()));
}

#[tokio::test]
async fn ourselves_are_recognized_by_both_ends() {
    let a = node(1, [127, 0, 0, 1]).await;
    let address = a.address().unwrap();
    let (dialed, accepted) = tokio::join!(a.dial(&address), async { a.accept().await.unwrap().handshake().await });
    // One end may see the other hang up first.
    let selves = [dialed.unwrap_err(), DialError::Handshake(accepted.unwrap_err())];
    assert!(selves.contains(&DialError::Handshake(HandshakeError::SelfConnection)), "{selves:?}");
}

#[tokio::test]
async fn a_closed_transport_accepts_nobody_and_frees_its_port() {
    // On an IP of its own: on another's, others take free ports.
    let (a, b) = (node(1, [127, 0, 0, 1]).await, node(2, [127, 210, 2, 2]).await);
    let (to_b, mut to_a) = connect(&a, &b).await;
    let (accepted, ()) = tokio::join!(b.accept(), async {
        tokio::task::yield_now().await;
        b.close();
    });
    assert_eq!(accepted.unwrap_err(), AcceptError::Closed);
    assert_eq!(b.accept().await.unwrap_err(), AcceptError::Closed);
    let mut config = config(4, [127, 210, 2, 2]);
    config.listen = Some(socket(&b));
    TendermintTransport::bind(config).await.unwrap();
    // Live connections stay.
    to_b.send(CHANNEL, "still".into()).await.unwrap();
    assert_eq!(soon("message", to_a.recv()).await, Some((CHANNEL, "still".into())));
}

#[tokio::test]
async fn a_senseless_configuration_is_refused() {
    let mut bad = config(1, [127, 0, 0, 1]);
    bad.channels = vec![ChannelSpec::new(1), ChannelSpec::new(1)];
    assert!(matches!(TendermintTransport::bind(bad).await, Err(BindError::Config(ConfigError::DuplicateChannel(1)))));
    let mut bad = config(1, [127, 0, 0, 1]);
    bad.mconnection = MConnectionConfig { pong_timeout: bad.mconnection.ping_interval, ..bad.mconnection };
    assert!(matches!(TendermintTransport::bind(bad).await, Err(BindError::Config(ConfigError::PongTimeout))));
    let mut bad = config(1, [127, 0, 0, 1]);
    bad.node_info.moniker = String::new();
    assert!(matches!(TendermintTransport::bind(bad).await, Err(BindError::NodeInfo(_))));
    let a = node(1, [127, 0, 0, 1]).await;
    let mut taken = config(2, [127, 0, 0, 1]);
    taken.listen = Some(socket(&a));
    assert!(matches!(TendermintTransport::bind(taken).await, Err(BindError::Listen(..))));
}

#[tokio::test]
async fn an_incoming_can_be_refused_by_its_address() {
    let b = node(2, [127, 0, 0, 2]).await;
    let mut from = config(1, [127, 0, 0, 1]);
    from.source = Some([127, 0, 0, 9].into());
    from.listen = None;
    let a = TendermintTransport::bind(from).await.unwrap();
    let address = b.address().unwrap();
    let (dialed, remote) = tokio::join!(soon("dial", a.dial(&address)), async { b.accept().await.unwrap().remote() });
    assert_eq!(remote.ip(), Some([127, 0, 0, 9].into()));
    assert_eq!(dialed.unwrap_err(), DialError::Handshake(HandshakeError::Closed));
    assert_eq!(a.address(), None);
    assert_eq!(a.local(), Endpoint::Socket(SocketAddr::from(([0, 0, 0, 0], 0))));
}
