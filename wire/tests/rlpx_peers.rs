//! Two Ethereum nodes over real TCP on loopback addresses: what one sends the other gets, who is refused hears why, and every way to end is
//! seen on both sides.

mod carried;

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use carried::carried;
use kadwire_wire::{
    Blame, PeerAddress, PeerId,
    rlpx::{
        SecretKey,
        capability::{Protocol, ProtocolError},
        disconnect::DisconnectReason,
        hello::HelloError,
        message::{MAX_MESSAGE_SIZE, join, split},
    },
    transport::{
        BindError, CloseReason, Connection, DialError, Direction, HandshakeError, RlpxConfig, RlpxTransport, SendError,
        Transport, TrySendError,
    },
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tokio::time::timeout;

/// Channels are the places of the shared protocols, by name.
const ETH: u8 = 0;
const SNAP: u8 = 1;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

fn protocol(name: &str, version: u64, length: u16) -> Protocol {
    Protocol::new(name, version, length).unwrap()
}

fn config(seed: u8) -> RlpxConfig {
    // Two versions of one: the higher is spoken.
    let protocols = vec![protocol("snap", 1, 8), protocol("eth", 68, 17), protocol("eth", 69, 18)];
    let mut config = RlpxConfig::new(key(seed), format!("node {seed}"), protocols);
    config.listen = Some(([127, 132, 0, seed], 0).into());
    config
}

async fn node(seed: u8) -> RlpxTransport {
    RlpxTransport::bind(config(seed)).await.unwrap()
}

/// Dials from the first to the second; both ends.
async fn meet(
    a: &RlpxTransport,
    b: &RlpxTransport,
) -> (Result<Connection, DialError>, Result<Connection, HandshakeError>) {
    let address = b.address().unwrap();
    tokio::join!(a.dial(&address), async { b.accept().await.unwrap().handshake().await })
}

async fn connect(a: &RlpxTransport, b: &RlpxTransport) -> (Connection, Connection) {
    let (dialed, accepted) = meet(a, b).await;
    (dialed.unwrap(), accepted.unwrap())
}

fn socket(node: &RlpxTransport) -> SocketAddr {
    node.local().socket_addr().unwrap()
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("{what} does not come"))
}

/// What happens before the next timer: with the clock paused, a runtime that is never idle lets the sockets work and no time pass.
async fn settled<T>(what: &str, future: impl Future<Output = T>) -> T {
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

#[tokio::test]
async fn what_one_side_writes_the_other_reads_to_the_byte() {
    let (a, b) = (node(71).await, node(72).await);
    assert_eq!((a.stats().bytes_sent, a.stats().bytes_received), (0, 0));
    let (to_b, mut to_a) = connect(&a, &b).await;
    let handshakes = soon("the handshake's bytes", carried(&a, &b)).await;
    assert!(handshakes.0 > 100 && handshakes.1 > 100, "{handshakes:?}");
    // What cannot be compressed.
    let mut noise = vec![0; 100_000];
    StdRng::seed_from_u64(7).fill_bytes(&mut noise);
    to_b.send(ETH, join(0, &noise)).await.unwrap();
    soon("message", to_a.recv()).await.unwrap();
    let sent = soon("the message's bytes", carried(&a, &b)).await.0 - handshakes.0;
    assert!((100_000..101_000).contains(&sent), "{sent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_all_sizes_are_echoed_byte_for_byte() {
    let (a, b) = (node(1).await, node(2).await);
    let (mut to_b, mut to_a) = connect(&a, &b).await;
    assert_eq!((to_b.peer, to_a.peer), (b.id(), a.id()));
    assert_eq!((to_b.direction, to_a.direction), (Direction::Outbound, Direction::Inbound));
    assert_eq!((to_b.remote, to_b.info.name(), to_a.info.name()), (b.local(), "node 2", "node 1"));
    let said = to_a.info.ethereum().unwrap();
    assert_eq!(said.capabilities.iter().map(ToString::to_string).collect::<Vec<_>>(), ["eth/68", "eth/69", "snap/1"]);
    let echo = tokio::spawn(async move {
        while let Some((channel, message)) = to_a.recv().await {
            to_a.send(channel, message).await.unwrap();
        }
        to_a.closed().await
    });
    let mut rng = StdRng::seed_from_u64(1);
    let random = (0..100).map(|_| 1usize << rng.random_range(0..17)).collect::<Vec<_>>();
    for (n, size) in [0, 1, 15, 16, 17, 65_536, 1 << 20, 16_000_000].into_iter().chain(random).enumerate() {
        let mut payload = vec![0; size];
        // One half does not compress, the other does.
        rng.fill_bytes(&mut payload[..size / 2]);
        let (channel, code) = if n % 2 == 0 { (ETH, 17) } else { (SNAP, 0) };
        let message = join(code, &payload);
        to_b.send(channel, message.clone()).await.unwrap();
        let (echoed_on, echoed) = soon("echo", to_b.recv()).await.unwrap();
        assert!(echoed_on == channel && echoed == message, "{size} bytes differ");
        assert_eq!(split(echoed).unwrap().0, code);
    }
    drop(to_b);
    let reason = soon("end", echo).await.unwrap();
    assert_eq!(reason, CloseReason::RemoteDisconnected(DisconnectReason::Requested));
    assert_eq!((a.stats().dials_completed, b.stats().accepts_completed), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_both_ways_at_once_on_two_protocols() {
    let (a, b) = (node(1).await, node(2).await);
    let (to_b, to_a) = connect(&a, &b).await;
    let mut tasks = Vec::new();
    let (held, _connections) = std::sync::mpsc::sync_channel(2);
    for mut connection in [to_b, to_a] {
        for channel in [ETH, SNAP] {
            let sender = connection.sender.clone();
            tasks.push(tokio::spawn(async move {
                for n in 0..5_000u32 {
                    let mut payload = n.to_be_bytes().to_vec();
                    payload.resize(4 + n as usize % 3000, channel);
                    sender.send(channel, join(u64::from(n) % 8, &payload)).await.unwrap();
                }
            }));
        }
        let held = held.clone();
        tasks.push(tokio::spawn(async move {
            let mut next = [0u32; 2];
            while next != [5_000; 2] {
                let (channel, message) = connection.recv().await.expect("connection ended");
                let (code, payload) = split(message).unwrap();
                let next = &mut next[usize::from(channel)];
                assert_eq!((code, &payload[..4]), (u64::from(*next) % 8, &next.to_be_bytes()[..]));
                assert_eq!(payload.len(), 4 + *next as usize % 3000);
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
async fn a_flush_delivers_what_was_queued_and_the_peer_hears_why() {
    let (a, b) = (node(1).await, node(2).await);
    let (to_b, mut to_a) = connect(&a, &b).await;
    for n in 0..16 {
        assert!(to_b.sender.try_send(ETH, join(1, &vec![n; 1_000_000])).is_ok());
    }
    assert!(!to_b.sender.can_send(ETH) && to_b.sender.can_send(SNAP));
    // The peer has something to say that nobody will read; it must not reset what is under way.
    to_a.send(ETH, join(0, &[0; 100_000])).await.unwrap();
    let reason = CloseReason::Disconnected(DisconnectReason::Quitting);
    let (closed, ()) = tokio::join!(to_b.flush_and_close(reason.clone()), async {
        for n in 0..16 {
            let (_, message) = soon("queued message", to_a.recv()).await.unwrap();
            assert_eq!((message.len(), message[1]), (1_000_001, n));
        }
        assert_eq!(to_a.recv().await, None);
    });
    assert_eq!((closed, to_a.closed().await), (reason, CloseReason::RemoteDisconnected(DisconnectReason::Quitting)));
    assert_eq!(to_b.send(ETH, join(0, &[])).await, Err(SendError::Closed));
}

#[tokio::test]
async fn every_reason_to_close_arrives() {
    let (a, b) = (node(1).await, node(2).await);
    for reason in DisconnectReason::ALL {
        let (to_b, mut to_a) = connect(&a, &b).await;
        to_b.close(CloseReason::Disconnected(reason));
        assert_eq!(soon("end", to_a.recv()).await, None);
        assert_eq!(to_a.closed().await, CloseReason::RemoteDisconnected(reason));
        assert_eq!(to_b.closed().await, CloseReason::Disconnected(reason));
    }
    let (to_b, to_a) = connect(&a, &b).await;
    drop(to_a);
    assert_eq!(soon("end", to_b.closed()).await, CloseReason::RemoteDisconnected(DisconnectReason::Requested));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reason_arrives_also_while_the_other_side_is_talking() {
    let (a, b) = (node(1).await, node(2).await);
    for _ in 0..10 {
        let (to_b, mut to_a) = connect(&a, &b).await;
        let sender = to_b.sender.clone();
        let flood = tokio::spawn(async move { while sender.send(ETH, join(0, &[7; 5_000])).await.is_ok() {} });
        soon("message", to_a.recv()).await.unwrap();
        to_a.close(CloseReason::Disconnected(DisconnectReason::TooManyPeers));
        let reason = soon("end", to_b.closed()).await;
        assert_eq!(reason, CloseReason::RemoteDisconnected(DisconnectReason::TooManyPeers));
        flood.await.unwrap();
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_take_messages_stops_the_sender_and_loses_nothing() {
    let (a, b) = (node(1).await, node(2).await);
    let (to_b, mut to_a) = connect(&a, &b).await;
    let sender = to_b.sender.clone();
    let mut rng = StdRng::seed_from_u64(1);
    let mut noise = vec![0; 100_000];
    rng.fill_bytes(&mut noise);
    let payload = noise.clone();
    let sent = tokio::spawn(async move {
        for n in 0..200u64 {
            sender.send(ETH, join(n % 18, &payload)).await.unwrap();
        }
    });
    // 20 MB do not fit into two kernels' buffers and an inbox of 1 MiB.
    while to_b.sender.can_send(ETH) || to_a.stats().bytes_received == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!sent.is_finished());
    for n in 0..200u64 {
        let (_, message) = soon("message", to_a.recv()).await.unwrap();
        let (code, payload) = split(message).unwrap();
        assert!(code == n % 18 && payload == noise, "message {n}");
    }
    soon("sender", sent).await.unwrap();
}

/// Unlike on the other wire: a user who is slow loses nobody, as pings go on and the peer's silence is of our own making.
#[tokio::test]
async fn a_stream_that_stands_still_for_minutes_goes_on() {
    let (a, b) = (node(1).await, node(2).await);
    let (to_b, mut to_a) = connect(&a, &b).await;
    tokio::time::pause();
    for n in 0..16u64 {
        to_b.sender.try_send(ETH, join(n, &[n as u8; 100_000])).unwrap();
    }
    while to_a.stats().messages_received < 11 {
        tokio::task::yield_now().await;
    }
    for pings in 1..=12 {
        // Timers are late by up to a millisecond.
        tokio::time::advance(Duration::from_millis(15_001)).await;
        settled("a ping", async {
            while to_b.stats().pings_received < pings {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert_eq!((to_a.sender.close_reason(), to_b.sender.close_reason()), (None, None));
    for n in 0..16u64 {
        assert_eq!(settled("a message", to_a.recv()).await, Some((ETH, join(n, &[n as u8; 100_000]))));
    }
}

#[tokio::test]
async fn what_cannot_be_sent_says_why() {
    let (a, b) = (node(1).await, node(2).await);
    let (to_b, mut to_a) = connect(&a, &b).await;
    assert_eq!(to_b.send(2, join(0, &[])).await, Err(SendError::UnknownChannel(2)));
    assert_eq!(to_b.send(SNAP, Bytes::new()).await, Err(SendError::NoCode));
    let out_of_range = SendError::CodeOutOfRange { code: 8, length: 8 };
    assert_eq!(to_b.send(SNAP, join(8, &[])).await, Err(out_of_range));
    assert_eq!(to_b.sender.try_send(SNAP, join(8, &[])), Err(out_of_range.into()));
    // Seen by its length with the code, or without.
    for more in [1, 9] {
        let refused = to_b.send(ETH, join(0, &vec![0; MAX_MESSAGE_SIZE + more])).await.unwrap_err();
        assert!(matches!(refused, SendError::TooLarge { len, max } if len > max), "{refused}");
    }
    // What does not compress grows: of the largest payloads some have no frame.
    let mut noise = vec![0; MAX_MESSAGE_SIZE];
    StdRng::seed_from_u64(1).fill_bytes(&mut noise);
    let refused = [
        to_b.send(ETH, join(0, &noise)).await.unwrap_err(),
        match to_b.sender.try_send(ETH, join(0, &noise)).unwrap_err() {
            TrySendError::Refused(error) => error,
            full => panic!("{full}"),
        },
    ];
    for error in refused {
        assert!(
            matches!(error, SendError::TooLarge { len, max: MAX_MESSAGE_SIZE } if len > MAX_MESSAGE_SIZE),
            "{error}"
        );
    }
    // All of it was refused at the call: the connection goes on, and no place is taken.
    noise.truncate(MAX_MESSAGE_SIZE - 4000);
    for message in [join(0, &noise), join(0, &vec![0; MAX_MESSAGE_SIZE])] {
        to_b.send(ETH, message.clone()).await.unwrap();
        assert!(soon("message", to_a.recv()).await == Some((ETH, message)));
    }
    to_b.send(SNAP, join(7, &[])).await.unwrap();
    assert_eq!(soon("message", to_a.recv()).await, Some((SNAP, join(7, &[]))));
}

#[tokio::test]
async fn a_dial_that_fails_says_why() {
    let (a, b) = (node(1).await, node(2).await);
    let there = socket(&b);
    let accepted = tokio::spawn(async move {
        let mut failures = Vec::new();
        for _ in 0..3 {
            failures.push(b.accept().await.unwrap().handshake().await.unwrap_err());
        }
        (failures, b.stats())
    });
    let enode = |seed| format!("enode://{}@{there}", PeerId::from(*key(seed).public()));
    let dial = async |text: String| soon("dial", a.dial(&text.parse().unwrap())).await.unwrap_err();
    let probe = async |text: String| soon("probe", a.probe(&text.parse().unwrap())).await;
    // Who does not have the key cannot read what we say.
    assert_eq!(dial(enode(3)).await, DialError::Handshake(HandshakeError::Closed));
    assert_eq!(probe(enode(3)).await, Err(HandshakeError::Closed.into()));
    assert_eq!(probe(enode(2)).await, Ok(()));
    let nobody = format!("enode://{}@{there}", "ab".repeat(64));
    assert!(matches!(dial(nobody).await, DialError::Handshake(HandshakeError::Key(_))));
    let refused = format!("enode://{}@127.132.0.9:1", PeerId::from(*key(2).public()));
    assert_eq!(dial(refused).await, DialError::Connect(io::ErrorKind::ConnectionRefused));
    assert_eq!(dial(format!("{}@{there}", "ab".repeat(20))).await, DialError::Unsupported);
    let (failures, stats) = soon("the other side", accepted).await.unwrap();
    assert!(failures[..2].iter().all(|error| matches!(error, HandshakeError::Rlpx(_))), "{failures:?}");
    assert_eq!((failures[2].clone(), failures[0].blame()), (HandshakeError::Closed, Blame::Malformed));
    assert_eq!((stats.handshakes_malformed, stats.handshakes_failed), (2, 1));
    assert_eq!((a.stats().dialed, a.stats().handshakes_failed), (4, 1));

    let mut never = config(4);
    never.may_dial = |_| false;
    let never = RlpxTransport::bind(never).await.unwrap();
    assert_eq!(never.dial(&enode(2).parse().unwrap()).await.unwrap_err(), DialError::NotAllowed);
}

#[tokio::test]
async fn ourselves_are_recognized_by_both_ends() {
    let a = node(1).await;
    let (dialed, accepted) = soon("the refusal", meet(&a, &a)).await;
    let to_self = HandshakeError::SelfConnection;
    assert_eq!((dialed.unwrap_err(), accepted.unwrap_err()), (to_self.clone().into(), to_self));
}

#[tokio::test]
async fn nodes_that_share_nothing_part_and_say_so() {
    let (a, mut other) = (node(1).await, config(2));
    other.protocols = vec![protocol("eth", 67, 17), protocol("les", 4, 8)];
    let b = RlpxTransport::bind(other).await.unwrap();
    let (dialed, accepted) = soon("the refusal", meet(&a, &b)).await;
    let errors = [dialed.unwrap_err(), accepted.unwrap_err().into()];
    for error in errors {
        assert!(matches!(error, DialError::Handshake(HandshakeError::UselessPeer(_))), "{error}");
        assert_eq!(error.blame(), Blame::Incompatible);
    }
    assert_eq!((a.stats().handshakes_incompatible, b.stats().handshakes_incompatible), (1, 1));
}

#[tokio::test]
async fn a_senseless_configuration_is_refused() {
    let mut bad = config(1);
    bad.protocols = vec![protocol("a", 1, 1), protocol("a", 1, 2)];
    assert!(matches!(RlpxTransport::bind(bad).await, Err(BindError::Protocols(ProtocolError::Duplicate(_)))));
    let mut bad = config(1);
    bad.name = "x".repeat(3000);
    assert!(matches!(RlpxTransport::bind(bad).await, Err(BindError::Hello(HelloError::TooLarge(_)))));
    let mut bad = config(1);
    bad.multiplex.read_timeout = bad.multiplex.ping_interval;
    assert!(matches!(RlpxTransport::bind(bad).await, Err(BindError::Multiplex(_))));
    let a = node(1).await;
    let mut taken = config(2);
    taken.listen = Some(socket(&a));
    assert!(matches!(RlpxTransport::bind(taken).await, Err(BindError::Listen(..))));
}

#[tokio::test]
async fn a_closed_transport_accepts_nobody_and_keeps_its_connections() {
    let (a, b) = (node(1).await, node(2).await);
    let (to_b, mut to_a) = connect(&a, &b).await;
    b.close();
    assert!(b.accept().await.is_err());
    let address: PeerAddress = b.address().unwrap();
    assert_eq!(a.dial(&address).await.unwrap_err(), DialError::Connect(io::ErrorKind::ConnectionRefused));
    to_b.send(SNAP, Bytes::from_static(b"\x07still")).await.unwrap();
    assert_eq!(soon("message", to_a.recv()).await, Some((SNAP, join(7, b"still"))));
}
