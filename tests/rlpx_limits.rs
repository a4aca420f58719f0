//! Ethereum peers that lie, stall or babble at each stage, over raw sockets: each gets a typed error that says whose fault it was, is counted, is
//! told why where it would understand, holds no memory, and disturbs nobody else.

use std::{net::SocketAddr, time::Duration};

use kadwire::{
    config::EthereumConfig,
    node::Node,
    protocol::{self, PeerStream},
};
use kadwire_wire::{
    Blame, PeerId,
    rlpx::{
        FrameBuffer, FrameError, Handshake, HandshakeError as RlpxError, PublicKey, RlpError, SecretKey, Secured,
        capability::{self, Protocol},
        disconnect::DisconnectReason,
        hello::{Hello, HelloError, MAX_HELLO_FRAME},
        message::{Codec, MessageError, join, split},
        multiplex::MultiplexError,
    },
    transport::{CloseReason, Connection, DialError, Endpoint, HandshakeError, RlpxConfig, RlpxTransport, Transport},
};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the node under test speaks: codes 16–20, messages of up to 100,000 bytes.
fn protocols() -> Vec<Protocol> {
    vec![Protocol { max_message_size: 100_000, ..Protocol::new("test", 1, 5).unwrap() }]
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

/// Node n listens at 127.131.0.n.
fn config(n: u8) -> RlpxConfig {
    let listen = Some(SocketAddr::from(([127, 131, 0, n], 0)));
    RlpxConfig { listen, ..RlpxConfig::new(key(n), "kadwire/test", protocols()) }
}

async fn node(n: u8) -> RlpxTransport {
    RlpxTransport::bind(config(n)).await.unwrap()
}

fn socket(node: &RlpxTransport) -> SocketAddr {
    match node.local() {
        Endpoint::Socket(socket) => socket,
        Endpoint::Memory(_) => unreachable!("a TCP transport"),
    }
}

/// Nothing here takes long; a test that hangs says where.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap_or_else(|_| panic!("{what} hangs"))
}

/// Two honest nodes connect: what the evil ones do is no hindrance.
async fn serves_others(node: &RlpxTransport) {
    let friend = self::node(200).await;
    let address = node.address().unwrap();
    let (dialed, accepted) =
        tokio::join!(friend.dial(&address), async { node.accept().await.unwrap().handshake().await });
    let (dialed, mut accepted) = (dialed.unwrap(), accepted.unwrap());
    dialed.send(0, join(1, b"hello")).await.unwrap();
    assert_eq!(soon("an honest message", accepted.recv()).await, Some((0, join(1, b"hello"))));
}

/// A peer that does by hand what the driver does, up to the stage where a test wants it to be evil.
struct RawPeer {
    stream: TcpStream,
    secured: Secured,
    input: FrameBuffer,
    codec: Codec,
}

impl RawPeer {
    /// An honest handshake, as the side that dialed.
    async fn secure(node: &RlpxTransport, n: u8) -> Self {
        let mut stream = TcpStream::connect(socket(node)).await.unwrap();
        let PeerId::Ethereum(recipient) = node.id() else { unreachable!("an Ethereum node") };
        let (key, mut rng) = (key(n), StdRng::seed_from_u64(n.into()));
        let recipient = PublicKey::from_bytes(&recipient).unwrap();
        let mut handshake = Handshake::initiator(&key, &recipient, &mut rng);
        let secured = loop {
            if let Some(bytes) = handshake.poll_transmit() {
                stream.write_all(&bytes).await.unwrap();
            }
            if let Some(secured) = handshake.poll_secured() {
                break secured;
            }
            let mut bytes = vec![0; handshake.missing()];
            let len = stream.read(&mut bytes).await.unwrap();
            assert_ne!(len, 0, "the node hung up");
            handshake.handle_bytes(&bytes[..len]).unwrap();
        };
        RawPeer { stream, secured, input: FrameBuffer::default(), codec: Codec::plain() }
    }

    /// An honest Hello, but for what `change` does to it.
    fn hello(n: u8, change: impl FnOnce(&mut Hello)) -> Vec<u8> {
        let mut hello = Hello::new(*key(n).public().as_bytes(), "raw", &protocols());
        change(&mut hello);
        hello.to_frame()
    }

    /// Up to a live connection.
    async fn connect(node: &RlpxTransport, n: u8) -> Self {
        let mut peer = Self::secure(node, n).await;
        peer.write(&Self::hello(n, |_| ())).await;
        Hello::from_frame(&peer.read().await.unwrap()).unwrap();
        peer.codec = Codec::for_version(5);
        peer
    }

    /// The data as a sealed frame.
    fn seal(&mut self, data: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.secured.writer.seal(data, &mut sealed).unwrap();
        sealed
    }

    async fn write(&mut self, data: &[u8]) {
        let sealed = self.seal(data);
        self.write_raw(&sealed).await;
    }

    /// The node may have hung up already.
    async fn write_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    fn message(&mut self, code: u64, payload: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        self.codec.encode(code, payload, &mut data).unwrap();
        data
    }

    /// The next frame's data; `None` when the stream ends.
    async fn read(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(data) = self.secured.reader.open(&mut self.input).unwrap() {
                return Some(data.to_vec());
            }
            if self.stream.read_buf(self.input.spare(2000)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// What the node gives as the reason when it hangs up; all that came before, with how many pings and pongs.
    async fn end(&mut self) -> (Option<DisconnectReason>, [usize; 2]) {
        let (mut reason, mut base) = (None, [0; 2]);
        while let Some(data) = self.read().await {
            assert_eq!(reason, None, "nothing comes after Disconnect");
            match data.first() {
                Some(1) => {
                    let (_, payload) = split(self.codec.decode(1, &data[1..], 2048).unwrap()).unwrap();
                    reason = Some(DisconnectReason::decode(&payload));
                }
                Some(2) => base[0] += 1,
                Some(3) => base[1] += 1,
                _ => {}
            }
        }
        (reason, base)
    }
}

/// What the accepting side says to a peer that does `evil`, and what that peer saw.
async fn refusal<T>(node: &RlpxTransport, evil: impl Future<Output = T>) -> (HandshakeError, T) {
    let accept = async { node.accept().await.unwrap().handshake().await };
    let (accepted, seen) = soon("handshake", async { tokio::join!(accept, evil) }).await;
    (accepted.unwrap_err(), seen)
}

/// Writes bytes and then reads to the end: what the node said.
async fn says(node: &RlpxTransport, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(socket(node)).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

/// The first packet of an honest handshake with this node.
fn auth(node: &RlpxTransport, n: u8) -> Vec<u8> {
    let PeerId::Ethereum(recipient) = node.id() else { unreachable!("an Ethereum node") };
    let recipient = PublicKey::from_bytes(&recipient).unwrap();
    Handshake::initiator(&key(n), &recipient, &mut StdRng::seed_from_u64(n.into())).poll_transmit().unwrap()
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
    let for_another = auth(&self::node(3).await, 2);
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
            let mut stream = TcpStream::connect(socket(&node)).await.unwrap();
            stream.write_all(&honest[..cut]).await.unwrap();
        };
        let (refused, ()) = refusal(&node, evil).await;
        assert_eq!((refused.blame(), refused), (Blame::Local, HandshakeError::Closed), "cut at {cut}");
    }
    // The frame of Hello, likewise.
    let hello = RawPeer::hello(2, |_| ());
    for cut in [0, 1, 16, 31, 32, 33, 100, 120] {
        let evil = async {
            let mut peer = RawPeer::secure(&node, 2).await;
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
        let mut stream = TcpStream::connect(socket(&node)).await.unwrap();
        stream.write_all(&honest[..said]).await.unwrap();
        assert_eq!(accept().await, limit, "after {said} bytes");
    }
    assert!(start.elapsed() >= Duration::from_secs(30));
    // A byte every 100 ms keeps nothing alive.
    let mut slow = TcpStream::connect(socket(&node)).await.unwrap();
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
    let hello = |payload: &[u8]| join(0, payload).to_vec();
    let undecodable = |error| HandshakeError::Hello(HelloError::Undecodable(error));
    let table: [(&str, Vec<u8>, HandshakeError, Option<DisconnectReason>); 14] = [
        ("ping", vec![2, 0xc0], HandshakeError::Hello(HelloError::Unexpected(2)), Some(Protocol)),
        ("a protocol's message", vec![16, 0xc0], HandshakeError::Hello(HelloError::Unexpected(16)), Some(Protocol)),
        ("no code", vec![0xc0], HandshakeError::Hello(HelloError::Message(MessageError::Code)), Some(Protocol)),
        ("a large hello", hello(&[0; 2049]), HandshakeError::Hello(HelloError::TooLarge(2049)), Some(Protocol)),
        ("no list", hello(&[0x83, 1, 2, 3]), undecodable(RlpError::ExpectedList), Some(Protocol)),
        ("an empty list", hello(&[0xc0]), undecodable(RlpError::TooFewElements), Some(Protocol)),
        ("babble", hello(&[0xff; 900]), undecodable(RlpError::Truncated), Some(Protocol)),
        (
            "no id",
            RawPeer::hello(2, |h| h.id = [0; 64]),
            HandshakeError::Hello(HelloError::Identity),
            Some(InvalidIdentity),
        ),
        ("another's id", RawPeer::hello(2, |h| h.id = stranger), HandshakeError::HelloId, Some(UnexpectedIdentity)),
        (
            "nothing shared",
            RawPeer::hello(2, |h| h.capabilities[0].version = 2),
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
            let mut peer = RawPeer::secure(&node, 2).await;
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
        let mut peer = RawPeer::secure(&node, 1).await;
        peer.end().await.0
    };
    let (refused, told) = refusal(&node, evil).await;
    assert_eq!((refused, told), (HandshakeError::SelfConnection, Some(DisconnectReason::ToSelf)));
}

/// Nothing is waited for or kept because a header says that it comes.
#[tokio::test]
async fn a_frame_that_is_too_large_or_damaged_is_refused_by_its_header() {
    let node = node(1).await;
    let large = vec![0; 200_000];
    // Before Hello.
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
            let mut peer = RawPeer::secure(&node, 2).await;
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
    // On a live connection, what no shared protocol could have sent.
    let (connection, mut peer) = live(&node, 2).await;
    let sealed = peer.seal(&large);
    peer.write_raw(&sealed[..32]).await;
    let reason = soon("end", connection.closed()).await;
    let max = 32 + 100_000 + 100_000 / 6 + 9;
    assert_eq!(reason, CloseReason::RlpxFrame(FrameError::TooLong { size: 200_000, max }));
    assert_eq!(peer.end().await.0, Some(DisconnectReason::Protocol));
    serves_others(&node).await;
}

/// A live connection with a raw peer on the other end.
async fn live(node: &RlpxTransport, n: u8) -> (Connection, RawPeer) {
    let accept = async { node.accept().await.unwrap().handshake().await.unwrap() };
    soon("connection", async { tokio::join!(accept, RawPeer::connect(node, n)) }).await
}

#[tokio::test]
async fn a_message_that_breaks_a_rule_ends_the_connection_after_what_came_before() {
    use DisconnectReason::{Protocol, Subprotocol};
    let node = node(1).await;
    let bomb = |claimed: u32| {
        let mut body = vec![16];
        let mut rest = claimed;
        while rest >= 0x80 {
            body.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        body.push(rest as u8);
        body.extend([0; 100]);
        body
    };
    let too_large = |len| MultiplexError::Message(MessageError::TooLarge { len, max: 100_000 });
    let table = [
        ("no code", vec![0xc0], MultiplexError::Message(MessageError::Code), Protocol),
        ("a code of no protocol", vec![21, 1, 0, 0xc0], MultiplexError::UnknownCode(21), Subprotocol),
        ("a second hello", RawPeer::hello(2, |_| ()), MultiplexError::SecondHello, Protocol),
        ("4 GiB in 100 bytes", bomb(u32::MAX), too_large(u32::MAX as usize), Protocol),
        ("16 MiB in 100 bytes", bomb((1 << 24) - 1), too_large((1 << 24) - 1), Protocol),
        (
            "within the limit, but not of 100 bytes",
            bomb(100_000),
            MultiplexError::Message(MessageError::Bomb { claimed: 100_000, compressed: 103 }),
            Protocol,
        ),
        ("damaged", vec![16, 5, 1, 2], MultiplexError::Message(MessageError::Snappy), Protocol),
        (
            "a large ping",
            [&[2][..], &[0; 2049]].concat(),
            MultiplexError::BaseTooLarge { code: 2, len: 2049 },
            Protocol,
        ),
    ];
    for (what, data, error, told) in table {
        let (mut connection, mut peer) = live(&node, 2).await;
        let before = peer.message(17, b"before");
        peer.write(&before).await;
        peer.write(&data).await;
        let after = peer.message(17, b"after");
        peer.write(&after).await;
        assert_eq!(soon("message", connection.recv()).await, Some((0, join(1, b"before"))), "{what}");
        assert_eq!(soon("end", connection.recv()).await, None, "{what}");
        let reason = connection.closed().await;
        assert_eq!(reason, CloseReason::Rlpx(error), "{what}");
        assert!(reason.blame().is_peer(), "{what}");
        assert_eq!(soon("reason", peer.end()).await.0, Some(told), "{what}");
    }
    serves_others(&node).await;
}

/// Hellos without end: the second is the last that is looked at.
#[tokio::test]
async fn a_flood_of_hellos_ends_at_the_second() {
    let node = node(1).await;
    let (connection, mut peer) = live(&node, 2).await;
    let hello = RawPeer::hello(2, |_| ());
    let mut flood = Vec::new();
    for _ in 0..10_000 {
        peer.secured.writer.seal(&hello, &mut flood).unwrap();
    }
    let RawPeer { mut stream, .. } = peer;
    let flooding = tokio::spawn(async move { stream.write_all(&flood).await });
    assert_eq!(soon("end", connection.closed()).await, CloseReason::Rlpx(MultiplexError::SecondHello));
    assert!(connection.stats().packets_received <= 1);
    let _ = soon("hang-up", flooding).await.unwrap();
    serves_others(&node).await;
}

#[tokio::test]
async fn who_hangs_up_is_heard_in_both_forms() {
    use DisconnectReason::*;
    let node = node(1).await;
    for (data, reason) in [
        (vec![1, 2, 4, 0xc1, 4], TooManyPeers),
        (vec![1, 1, 0, 8], Quitting),
        (vec![1, 0xc1, 8], Quitting),
        (vec![1, 8], Quitting),
        (vec![1, 2, 4, 0xc1, 0x42], Unknown(0x42)),
        (vec![1, 1, 0, 0xc0], Undecodable),
    ] {
        let (mut connection, mut peer) = live(&node, 2).await;
        peer.write(&data).await;
        assert_eq!(soon("end", connection.recv()).await, None);
        assert_eq!(connection.closed().await, CloseReason::RemoteDisconnected(reason));
        assert_eq!(soon("hang-up", peer.end()).await.0, None, "nobody is told what it said itself");
    }
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_by_no_more_pongs_than_pings() {
    let node = node(1).await;
    let (mut connection, mut peer) = live(&node, 2).await;
    let ping = peer.message(2, &[0xc0]);
    let mut flood = Vec::new();
    for _ in 0..50_000 {
        peer.secured.writer.seal(&ping, &mut flood).unwrap();
    }
    let end = peer.message(16, b"end");
    peer.secured.writer.seal(&end, &mut flood).unwrap();
    // Nothing is read meanwhile: the pongs that find no room are not kept.
    peer.write_raw(&flood).await;
    assert_eq!(soon("message", connection.recv()).await, Some((0, join(0, b"end"))));
    connection.close(CloseReason::requested("done"));
    let (reason, [_, pongs]) = soon("end", peer.end()).await;
    let stats = connection.stats();
    assert_eq!((reason, stats.pings_received), (Some(DisconnectReason::Requested), 50_000));
    assert!((1..=50_000).contains(&pongs) && stats.pongs_sent >= pongs as u64, "{pongs}");
}

/// A peer that says nothing more is pinged once, then told that its time is up. The clock jumps, and only it.
#[tokio::test]
async fn a_live_peer_that_goes_silent_is_gone_after_30_seconds() {
    let node = node(1).await;
    let (connection, mut peer) = live(&node, 2).await;
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    assert_eq!(connection.closed().await, CloseReason::Rlpx(MultiplexError::ReadTimeout));
    assert!((30..35).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    tokio::time::resume();
    assert_eq!(soon("end", peer.end()).await, (Some(DisconnectReason::ReadTimeout), [1, 0]));
}

/// The same at a whole node: forty streams that say nothing, forty that babble, and an honest peer, which gets in and is answered.
#[tokio::test]
async fn a_node_among_babblers_takes_an_honest_peer() {
    let answer = |mut stream: PeerStream| async move {
        while let Some(message) = stream.recv().await {
            stream.send(message.code + 1, message.payload).await?;
        }
        Ok(())
    };
    let key = kadwire_discovery::SecretKey::from_bytes(&[1; 32]).unwrap();
    let mut builder = Node::ethereum_builder(EthereumConfig::new(key, Some(([127, 131, 2, 1], 0).into())));
    builder.with_protocol(protocol::Protocol::new("test", 1, 5, answer).unwrap());
    let victim = builder.start().await.unwrap();
    let address = victim.local_address().unwrap().clone();
    let there = SocketAddr::from((address.ip().unwrap(), address.port()));
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(there).await.unwrap());
        let mut babbler = TcpStream::connect(there).await.unwrap();
        tokio::spawn(async move {
            let _ = babbler.write_all(&[0xff; 5000]).await;
            let _ = babbler.read_to_end(&mut Vec::new()).await;
        });
    }
    let friend = node(200).await;
    let mut connection = soon("an honest dial", friend.dial(&address)).await.unwrap();
    connection.send(0, join(1, b"hello")).await.unwrap();
    assert_eq!(soon("an answer", connection.recv()).await, Some((0, join(2, b"hello"))));
    let counted = async {
        loop {
            let transport = victim.stats().await.ethereum.unwrap().transport;
            if transport.handshakes_malformed == 40 && transport.handshakes_failed == 40 {
                break transport;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(soon("all to be counted", counted).await.accepts_completed, 1);
    victim.stop().await;
    let reason = soon("the node's word", connection.closed()).await;
    assert_eq!(reason, CloseReason::RemoteDisconnected(DisconnectReason::Quitting));
}
