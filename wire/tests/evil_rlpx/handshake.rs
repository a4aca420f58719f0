//! Before there is a connection: what is no handshake, no Hello, or not in time.

use std::time::Duration;

use kadwire_wire::{
    Blame, PeerId,
    rlpx::{
        FrameError, Handshake, HandshakeError as RlpxError, RlpError, capability,
        disconnect::DisconnectReason,
        hello::{Hello, HelloError, MAX_HELLO_FRAME},
        message::{Codec, MessageError, join},
    },
    transport::{DialError, HandshakeError, RlpxConfig, RlpxTransport, Transport},
};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

use super::{config, hello, key, node, public_key, secure, serves_others, soon, stream};

/// What the accepting side says to a peer that does `evil`, and what that peer saw.
async fn refusal<T>(node: &RlpxTransport, evil: impl Future<Output = T>) -> (HandshakeError, T) {
    let accept = async { node.accept().await.unwrap().handshake().await };
    let (accepted, seen) = soon("handshake", async { tokio::join!(accept, evil) }).await;
    (accepted.unwrap_err(), seen)
}

/// Writes bytes and then reads to the end: what the node said.
async fn says(node: &RlpxTransport, bytes: &[u8]) -> Vec<u8> {
    let mut stream = stream(node).await;
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

/// The first packet of an honest handshake with this node.
fn auth(node: &RlpxTransport, n: u8) -> Vec<u8> {
    Handshake::initiator(&key(n), &public_key(node), &mut StdRng::seed_from_u64(n.into())).poll_transmit().unwrap()
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_and_gets_no_answer() {
    let node = node(1).await;
    let honest = auth(&node, 2);
    let flipped = |at: usize| {
        let mut packet = honest.clone();
        packet[at] ^= 1;
        packet
    };
    let for_another = auth(&super::node(3).await, 2);
    let table = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec(), RlpxError::TooLong(0x4745)),
        ("TLS", vec![0x16, 0x03, 0x01, 0x02], RlpxError::TooLong(0x1603)),
        ("zeros", vec![0; 1000], RlpxError::TooShort(0)),
        ("ones", vec![0xff; 1000], RlpxError::TooLong(0xffff)),
        ("no point", [&[0x01, 0x00][..], &[0x05; 300]].concat(), RlpxError::NotAPoint),
        ("a packet for another node", for_another, RlpxError::WrongMac),
        ("a bit of the content", flipped(honest.len() - 100), RlpxError::WrongMac),
        ("a bit of the authenticator", flipped(honest.len() - 1), RlpxError::WrongMac),
        ("a bit of the point", flipped(20), RlpxError::NotAPoint),
    ];
    let cases = table.len() as u64;
    for (what, bytes, error) in table {
        let (refused, answer) = refusal(&node, says(&node, &bytes)).await;
        assert_eq!((refused.blame(), refused), (Blame::Malformed, HandshakeError::Rlpx(error)), "{what}");
        assert!(answer.is_empty(), "{what}");
    }
    let stats = node.stats();
    assert_eq!((stats.accepted, stats.handshakes_malformed, stats.accepts_completed), (cases, cases, 0));
    serves_others(&node).await;
}

#[tokio::test]
async fn a_handshake_cut_anywhere_blames_nobody() {
    let node = node(1).await;
    let honest = auth(&node, 2);
    let cuts = [0, 1, 2, 3, 100, honest.len() - 1, honest.len()];
    for cut in cuts {
        let evil = async {
            let mut stream = stream(&node).await;
            stream.write_all(&honest[..cut]).await.unwrap();
        };
        let (refused, ()) = refusal(&node, evil).await;
        assert_eq!((refused.blame(), refused), (Blame::Local, HandshakeError::Closed), "cut at {cut}");
    }
    // The frame of Hello, likewise.
    let hello = hello(2, |_| ());
    for cut in [0, 1, 16, 31, 32, 33, 100, 120] {
        let evil = async {
            let mut peer = secure(&node, 2).await;
            let sealed = peer.seal(&hello);
            assert!(cut < sealed.len());
            peer.write_raw(&sealed[..cut]).await;
        };
        let (refused, ()) = refusal(&node, evil).await;
        assert_eq!((refused.blame(), refused), (Blame::Local, HandshakeError::Closed), "hello cut at {cut}");
    }
    assert_eq!(node.stats().handshakes_failed, cuts.len() as u64 + 8);
    serves_others(&node).await;
}

/// Only the timers run here, so the clock may jump.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_cut_at_the_timeout_whatever_it_said_before() {
    let node = node(1).await;
    let limit = HandshakeError::Timeout(Duration::from_secs(5));
    let honest = auth(&node, 2);
    let start = tokio::time::Instant::now();
    let accept = async || node.accept().await.unwrap().handshake().await.unwrap_err();
    for said in [0, 1, 2, 100, honest.len() - 1, honest.len()] {
        let mut stream = stream(&node).await;
        stream.write_all(&honest[..said]).await.unwrap();
        assert_eq!(accept().await, limit, "after {said} bytes");
    }
    assert!(start.elapsed() >= Duration::from_secs(30));
    // A byte every 100 ms keeps nothing alive.
    let mut slow = stream(&node).await;
    let drip = async {
        for byte in &honest {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if slow.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    assert_eq!(tokio::join!(drip, accept()).1, limit);
    assert_eq!((node.stats().handshakes_failed, limit.blame()), (7, Blame::Local));
}

/// The time-out is one for all: who has proven a key gains nothing.
#[tokio::test]
async fn a_peer_that_stops_at_its_hello_is_cut_at_the_same_timeout() {
    let node = node(1).await;
    for half_a_hello in [false, true] {
        let accept = async {
            let incoming = node.accept().await.unwrap();
            let mut handshake = JoinSet::new();
            handshake.spawn(incoming.handshake());
            handshake
        };
        let (mut handshake, mut peer) = tokio::join!(accept, secure(&node, 2));
        peer.read_hello().await;
        if half_a_hello {
            peer.write_begin(&hello(2, |_| ()), 100).await;
        }
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        assert_eq!(
            handshake.join_next().await.unwrap().unwrap().unwrap_err(),
            HandshakeError::Timeout(Duration::from_secs(5))
        );
        assert!(begun.elapsed() <= Duration::from_millis(5_001), "{:?}", begun.elapsed());
        tokio::time::resume();
    }
    assert_eq!(node.stats().handshakes_failed, 2);
}

#[tokio::test]
async fn a_dialed_peer_that_says_nothing_or_nonsense_is_given_up() {
    let listener = TcpListener::bind("127.131.0.9:0").await.unwrap();
    let node =
        RlpxTransport::bind(RlpxConfig { handshake_timeout: Duration::from_millis(100), ..config(1) }).await.unwrap();
    let there = kadwire_wire::PeerAddress::from_socket(PeerId::from(*key(9).public()), listener.local_addr().unwrap());
    let there = there.unwrap();
    let silent = DialError::Handshake(HandshakeError::Timeout(Duration::from_millis(100)));
    assert_eq!(soon("dial", node.dial(&there)).await.unwrap_err(), silent);
    assert_eq!(soon("probe", node.probe(&there)).await.unwrap_err(), silent);
    for _ in 0..2 {
        drop(listener.accept().await.unwrap());
    }
    let nonsense = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&[0xff; 500]).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let (dialed, ()) = soon("dial", async { tokio::join!(node.dial(&there), nonsense) }).await;
    assert_eq!(dialed.unwrap_err(), DialError::Handshake(HandshakeError::Rlpx(RlpxError::TooLong(0xffff))));
    let stats = node.stats();
    assert_eq!((stats.dialed, stats.handshakes_failed, stats.handshakes_malformed), (2, 1, 1));
}

#[tokio::test]
async fn the_first_frame_must_be_a_true_and_fitting_hello() {
    use DisconnectReason::*;
    let node = node(1).await;
    let stranger = *key(77).public().as_bytes();
    let payload = |payload: &[u8]| join(0, payload).to_vec();
    let undecodable = |error| HandshakeError::Hello(HelloError::Undecodable(error));
    let table: [(&str, Vec<u8>, HandshakeError, Option<DisconnectReason>); 14] = [
        ("ping", vec![2, 0xc0], HandshakeError::Hello(HelloError::Unexpected(2)), Some(Protocol)),
        ("a protocol's message", vec![16, 0xc0], HandshakeError::Hello(HelloError::Unexpected(16)), Some(Protocol)),
        ("no code", vec![0xc0], HandshakeError::Hello(HelloError::Message(MessageError::Code)), Some(Protocol)),
        ("a large hello", payload(&[0; 2049]), HandshakeError::Hello(HelloError::TooLarge(2049)), Some(Protocol)),
        ("no list", payload(&[0x83, 1, 2, 3]), undecodable(RlpError::ExpectedList), Some(Protocol)),
        ("an empty list", payload(&[0xc0]), undecodable(RlpError::TooFewElements), Some(Protocol)),
        ("babble", payload(&[0xff; 900]), undecodable(RlpError::Truncated), Some(Protocol)),
        ("no id", hello(2, |h| h.id = [0; 64]), HandshakeError::Hello(HelloError::Identity), Some(InvalidIdentity)),
        ("another's id", hello(2, |h| h.id = stranger), HandshakeError::HelloId, Some(UnexpectedIdentity)),
        (
            "nothing shared",
            hello(2, |h| h.capabilities[0].version = 2),
            HandshakeError::UselessPeer(capability::UselessPeer),
            Some(DisconnectReason::UselessPeer),
        ),
        ("refused: a list", vec![1, 0xc1, 4], HandshakeError::Disconnected(TooManyPeers), None),
        ("refused: a byte", vec![1, 4], HandshakeError::Disconnected(TooManyPeers), None),
        (
            "refused: what a server without places for us says",
            vec![1, 0xc1, 5],
            HandshakeError::Disconnected(AlreadyConnected),
            None,
        ),
        ("refused: no reason", vec![1, 0xc0], HandshakeError::Disconnected(Undecodable), None),
    ];
    let mut counted = [0; 3];
    for (what, data, error, told) in table {
        let evil = async {
            let mut peer = secure(&node, 2).await;
            peer.write(&data).await;
            // The node's Hello, then its reason, compressed if it knows that we can.
            let first = peer.read().await.unwrap();
            assert_eq!(Hello::from_frame(&first).unwrap().client, "kadwire/test");
            if matches!(error, HandshakeError::HelloId | HandshakeError::UselessPeer(_)) {
                peer.codec = Codec::for_version(5);
            }
            peer.end().await.0
        };
        let (refused, seen) = refusal(&node, evil).await;
        assert_eq!((&refused, seen), (&error, told), "{what}");
        match refused.blame() {
            Blame::Malformed => counted[0] += 1,
            Blame::Misbehaved => counted[1] += 1,
            Blame::Incompatible => counted[2] += 1,
            Blame::Local => {}
        }
    }
    let stats = node.stats();
    let [malformed, misbehaved, incompatible] = counted;
    assert_eq!(stats.handshakes_malformed, malformed);
    assert_eq!((stats.handshakes_misbehaved, stats.handshakes_incompatible), (misbehaved, incompatible));
    assert!(malformed >= 4 && misbehaved >= 3 && incompatible == 1);
    serves_others(&node).await;
}

#[tokio::test]
async fn a_node_does_not_talk_to_itself() {
    let node = node(1).await;
    let evil = async {
        let mut peer = secure(&node, 1).await;
        peer.end().await.0
    };
    let (refused, told) = refusal(&node, evil).await;
    assert_eq!((refused, told), (HandshakeError::SelfConnection, Some(DisconnectReason::ToSelf)));
}

/// Nothing is waited for or kept because a header says that it comes.
#[tokio::test]
async fn a_first_frame_that_is_too_large_or_damaged_is_refused_by_its_header() {
    let node = node(1).await;
    let large = vec![0; 200_000];
    for (data, cut, flip, error) in [
        (&large[..], 32, None, FrameError::TooLong { size: 200_000, max: MAX_HELLO_FRAME }),
        (
            &large[..MAX_HELLO_FRAME + 1],
            32,
            None,
            FrameError::TooLong { size: MAX_HELLO_FRAME + 1, max: MAX_HELLO_FRAME },
        ),
        (&large[..100], 32, Some(0), FrameError::HeaderMac),
        (&large[..100], 32, Some(31), FrameError::HeaderMac),
        (&large[..100], 160, Some(40), FrameError::FrameMac),
        (&large[..100], 160, Some(159), FrameError::FrameMac),
    ] {
        let evil = async {
            let mut peer = secure(&node, 2).await;
            let mut sealed = peer.seal(data);
            sealed.truncate(cut);
            if let Some(at) = flip {
                sealed[at] ^= 1;
            }
            peer.write_raw(&sealed).await;
            peer.read().await.unwrap();
            peer.end().await.0
        };
        let (refused, told) = refusal(&node, evil).await;
        assert_eq!((refused, told), (HandshakeError::RlpxFrame(error), Some(DisconnectReason::Protocol)));
    }
    serves_others(&node).await;
}
