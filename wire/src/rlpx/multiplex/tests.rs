use proptest::prelude::*;

use super::{
    super::capability::{Capability, Protocol, match_protocols},
    *,
};
use crate::{Blame, rlpx::message::join};

/// Places in the shared list: `big` has codes 16–19, `small` 20–22.
const BIG: u8 = 0;
const SMALL: u8 = 1;

fn shared() -> Vec<SharedProtocol> {
    let protocols =
        [("small", 1, 3), ("big", 2, 4)].map(|(name, version, length)| Protocol::new(name, version, length).unwrap());
    let capabilities: Vec<Capability> = protocols.iter().map(Protocol::capability).collect();
    match_protocols(&protocols, &capabilities).unwrap()
}

/// Two sides and a clock; frames arrive at once.
struct Pair {
    left: Multiplex,
    right: Multiplex,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        Pair::of(MultiplexConfig::default(), &shared(), 5)
    }

    fn of(config: MultiplexConfig, shared: &[SharedProtocol], version: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "test: a fixed base for virtual time")]
        let now = Instant::now();
        let side = || Multiplex::new(config, shared, Codec::for_version(version), now).unwrap();
        Pair { left: side(), right: side(), now }
    }

    fn after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Hands the left side's next frame to the right side; `None` if there is none.
    fn step(&mut self) -> Option<Result<(), MultiplexError>> {
        let frame = next_frame(&mut self.left)?;
        Some(self.right.handle_frame(self.now, &frame))
    }

    /// Hands frames both ways until there are none.
    fn exchange(&mut self) {
        while let Some(result) = self.step() {
            result.unwrap();
        }
        while let Some(frame) = next_frame(&mut self.right) {
            self.left.handle_frame(self.now, &frame).unwrap();
        }
    }

    fn right_got(&mut self) -> Vec<(u8, u64, Vec<u8>)> {
        let messages = std::iter::from_fn(|| self.right.poll_message());
        let parts = |(channel, message)| {
            let (code, payload) = split(message).unwrap();
            (channel, code, payload.to_vec())
        };
        messages.map(parts).collect()
    }
}

fn next_frame(side: &mut Multiplex) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    side.poll_transmit(&mut frame).then_some(frame)
}

/// Frame data of a peer of version 5.
fn frame(code: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Codec::for_version(5).encode(code, payload, &mut out).unwrap();
    out
}

/// go-ethereum `p2p/peer_test.go`, `TestPeerProtoReadMsg` and `TestPeerProtoEncodeMsg`: the codes of each protocol are its own.
#[test]
fn messages_come_to_their_protocol_with_its_own_code() {
    for version in [4, 5] {
        let mut pair = Pair::of(MultiplexConfig::default(), &shared(), version);
        let sent = [(SMALL, 2, vec![0xc1, 1]), (BIG, 3, vec![7; 100_000]), (BIG, 0, vec![]), (SMALL, 0, vec![0xc0])];
        for (channel, code, payload) in &sent {
            pair.left.send(*channel, join(*code, payload)).unwrap();
        }
        assert!(pair.left.is_sending());
        pair.exchange();
        let mut got = pair.right_got();
        got.sort();
        let mut sent = sent.to_vec();
        sent.sort();
        assert_eq!(got, sent);
        assert_eq!(
            [pair.left.poll_sent(), pair.left.poll_sent(), pair.left.poll_sent()],
            [Some((BIG, 2)), Some((SMALL, 2)), None]
        );
        let (left, right) = (pair.left.stats(), pair.right.stats());
        assert_eq!((left.messages_sent, right.messages_received, left.packets_sent), (4, 4, 4));
        assert_eq!(left.bytes_sent, right.bytes_received);
        assert!(!pair.left.is_sending());
    }
}

#[test]
fn on_the_wire_codes_begin_where_the_protocol_does() {
    let mut pair = Pair::new();
    pair.left.send(SMALL, join(2, &[0xc0])).unwrap();
    pair.left.send(BIG, join(3, &[0xc0])).unwrap();
    let frames = [next_frame(&mut pair.left).unwrap(), next_frame(&mut pair.left).unwrap()];
    // Code, snappy's length of one, a literal of one, the empty list.
    assert_eq!(frames, [[19, 1, 0, 0xc0], [22, 1, 0, 0xc0]]);
}

/// A frame cannot be interrupted, so one is the least to wait for; here it is also the most.
#[test]
fn a_small_message_waits_for_no_more_than_one_frame_of_another_protocol() {
    let mut pair = Pair::of(MultiplexConfig::default(), &shared(), 4);
    let large = join(0, &vec![1; 16_000_000]);
    let mut frame = Vec::new();
    for round in 0..8 {
        // As many as there is room for, and one is being written.
        while pair.left.can_send(BIG) {
            pair.left.send(BIG, large.clone()).unwrap();
        }
        frame.clear();
        assert!(pair.left.poll_transmit(&mut frame) && frame.len() > 16_000_000, "round {round}");
        pair.left.send(SMALL, join(1, b"now")).unwrap();
        frame.clear();
        assert!(pair.left.poll_transmit(&mut frame) && frame.len() == 4, "round {round}");
    }
}

#[test]
fn of_a_shared_line_each_protocol_has_the_same_part_in_bytes() {
    let mut pair = Pair::of(MultiplexConfig::default(), &shared(), 4);
    let (mut bytes, mut widest) = ([0usize; 2], 0);
    for _ in 0..20_000 {
        for (channel, size) in [(BIG, 100_000), (SMALL, 300)] {
            while pair.left.can_send(channel) {
                pair.left.send(channel, join(0, &vec![0; size])).unwrap();
            }
        }
        let frame = next_frame(&mut pair.left).unwrap();
        bytes[usize::from(frame[0] == 20)] += frame.len() + 64;
        widest = widest.max(bytes[0].abs_diff(bytes[1]));
    }
    assert!(bytes[0] > 3_000_000 && widest <= 101_000, "{bytes:?}, at most {widest} apart");
}

/// Neither what a protocol sent while nobody else wanted to, nor that it was quiet, counts for or against it.
#[test]
fn who_was_quiet_brings_no_credit_along() {
    let mut pair = Pair::of(MultiplexConfig::default(), &shared(), 4);
    let order =
        |pair: &mut Pair, n: usize| -> Vec<u8> { (0..n).map(|_| next_frame(&mut pair.left).unwrap()[0]).collect() };
    for _ in 0..10 {
        pair.left.send(BIG, join(0, &[0; 1000])).unwrap();
    }
    order(&mut pair, 5);
    for _ in 0..10 {
        pair.left.send(SMALL, join(0, &[0; 1000])).unwrap();
    }
    // It goes first, then they alternate: it does not catch up on what the other had sent.
    assert_eq!(order(&mut pair, 9), [20, 16, 20, 16, 20, 16, 20, 16, 20]);
    order(&mut pair, 6);
    assert!(!pair.left.is_sending());
    // After a pause both begin anew.
    for channel in [BIG, BIG, BIG, SMALL, SMALL, SMALL] {
        pair.left.send(channel, join(0, &[0; 1000])).unwrap();
    }
    assert_eq!(order(&mut pair, 6), [16, 20, 16, 20, 16, 20]);
}

#[test]
fn queues_are_bounded_in_messages_and_in_bytes() {
    let mut pair = Pair::new();
    for _ in 0..Protocol::DEFAULT_SEND_QUEUE {
        pair.left.send(SMALL, join(0, &[])).unwrap();
    }
    let more = join(0, &[]);
    assert_eq!(pair.left.send(SMALL, more.clone()), Err(QueueError::Full(more)));
    assert!(!pair.left.can_send(SMALL) && pair.left.can_send(BIG) && !pair.left.can_send(2));
    // Of 16 MiB: two of 5.5, which begin six, and four of less than one.
    let large = join(0, &vec![0; 11 << 19]);
    for message in [&large, &large] {
        pair.left.send(BIG, message.clone()).unwrap();
    }
    for size in [0, 1000, 100_000, 1_000_000] {
        assert_eq!(pair.left.send(BIG, large.clone()), Err(QueueError::Full(large.clone())));
        pair.left.send(BIG, join(0, &vec![0; size])).unwrap();
    }
    assert!(!pair.left.can_send(BIG));
    pair.exchange();
    assert_eq!(pair.right_got().len(), 22);
    // One message of any size waits, alone.
    pair.left.send(BIG, join(0, &vec![0; 16_000_000])).unwrap();
    assert!(!pair.left.can_send(BIG));
    pair.exchange();
    assert!(pair.left.can_send(BIG) && pair.left.can_send(SMALL));
}

#[test]
fn what_cannot_be_sent_is_refused_with_its_reason() {
    let mut protocols = shared();
    protocols[0].protocol.max_message_size = 1000;
    let mut pair = Pair::of(MultiplexConfig::default(), &protocols, 5);
    let left = &mut pair.left;
    assert_eq!(left.send(2, join(0, &[])), Err(QueueError::UnknownProtocol(2)));
    let large = vec![0; MAX_MESSAGE_SIZE + 1];
    for (channel, message, why) in [
        (BIG, join(4, &[]), RefusedMessage::CodeOutOfRange { code: 4, length: 4 }),
        (BIG, join(u64::MAX, &[]), RefusedMessage::CodeOutOfRange { code: u64::MAX, length: 4 }),
        (BIG, Bytes::new(), RefusedMessage::NoCode),
        (BIG, join(0, &[0; 1001]), RefusedMessage::TooLarge { len: 1001, max: 1000 }),
        (SMALL, join(0, &large), RefusedMessage::TooLarge { len: MAX_MESSAGE_SIZE + 1, max: MAX_MESSAGE_SIZE }),
    ] {
        assert_eq!(left.send(channel, message), Err(why.into()));
    }
    assert!(!left.is_sending());
    // The largest payload fits if it compresses, and is refused at once if its frame would be too large.
    left.send(SMALL, join(0, &large[1..])).unwrap();
    assert!(pair.step().unwrap().is_ok());
    assert_eq!(pair.right_got(), [(SMALL, 0, large[1..].to_vec())]);
    let mut state = 1u32;
    let random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let random: Vec<u8> = std::iter::repeat_with(random).take(MAX_MESSAGE_SIZE).collect();
    let refused = pair.left.send(SMALL, join(0, &random)).unwrap_err();
    assert!(
        matches!(refused, QueueError::Refused(RefusedMessage::TooLarge { len, .. }) if len > MAX_MESSAGE_SIZE),
        "{refused}"
    );
    pair.left.send(SMALL, join(0, &random[20_000..])).unwrap();
    assert!(pair.step().unwrap().is_ok());
    assert_eq!(pair.right_got(), [(SMALL, 0, random[20_000..].to_vec())]);
}

/// go-ethereum `TestPeerPing`, and its times: 15 s and 30 s.
#[test]
fn quiet_peers_ping_each_other_and_stay() {
    let mut pair = Pair::new();
    for n in 1..=20 {
        assert_eq!(pair.left.poll_timeout(), Some(pair.now + Duration::from_secs(15)));
        pair.after(14);
        pair.left.handle_timeout(pair.now).unwrap();
        assert!(!pair.left.is_sending());
        pair.after(1);
        pair.left.handle_timeout(pair.now).unwrap();
        pair.right.handle_timeout(pair.now).unwrap();
        pair.exchange();
        let stats = pair.left.stats();
        assert_eq!((stats.pings_sent, stats.pongs_received, stats.pings_received, stats.pongs_sent), (n, n, n, n - 1));
        pair.exchange();
    }
    assert_eq!(frame(2, &[0xc0]), [2, 1, 0, 0xc0], "go-ethereum's ping, in fixtures/rlpx/snappy_geth.csv");
}

#[test]
fn a_peer_that_is_silent_for_30_seconds_is_gone() {
    let mut pair = Pair::new();
    pair.after(29);
    // Anything is a sign of life, even what is ignored.
    pair.left.handle_frame(pair.now, &frame(15, &[])).unwrap();
    assert_eq!(pair.left.poll_timeout().map(|at| at <= pair.now), Some(true), "the ping is overdue");
    pair.left.handle_timeout(pair.now).unwrap();
    assert_eq!(pair.left.poll_timeout(), Some(pair.now + Duration::from_secs(15)));
    pair.after(15);
    pair.left.handle_timeout(pair.now).unwrap();
    assert_eq!(pair.left.poll_timeout(), Some(pair.now + Duration::from_secs(15)));
    pair.after(14);
    assert!(!pair.left.is_silent(pair.now));
    pair.after(1);
    assert!(pair.left.is_silent(pair.now));
    // Whoever was late reads first: what came in time counts.
    let mut late = Pair::new();
    late.after(31);
    late.left.handle_frame(late.now, &frame(3, &[0xc0])).unwrap();
    assert_eq!(late.left.handle_timeout(late.now), Ok(()));

    let gone = MultiplexError::ReadTimeout;
    assert_eq!(pair.left.handle_timeout(pair.now), Err(gone));
    assert_eq!(pair.left.handle_frame(pair.now, &frame(3, &[0xc0])), Err(gone));
    assert_eq!(gone.reason(), Some(DisconnectReason::ReadTimeout));
    // One ping in all, as none could be written.
    assert!(next_frame(&mut pair.left).is_some() && next_frame(&mut pair.left).is_none());
}

#[test]
fn a_flood_of_pings_gets_sixteen_pongs_a_write_and_no_message_waits_behind_pings() {
    let mut pair = Pair::new();
    pair.right.send(BIG, join(0, &[1; 1000])).unwrap();
    for _ in 0..50_000 {
        pair.right.handle_frame(pair.now, &frame(2, &[0xc0])).unwrap();
    }
    let codes: Vec<u8> = std::iter::from_fn(|| next_frame(&mut pair.right)).map(|frame| frame[0]).collect();
    assert_eq!(codes, [&[3; 16][..], &[16]].concat());
    let stats = pair.right.stats();
    assert_eq!((stats.pings_received, stats.pongs_sent), (50_000, 16));
    // A pong that nobody asked for is counted and ignored.
    pair.left.handle_frame(pair.now, &frame(3, &[0xc0])).unwrap();
    assert_eq!(pair.left.stats().pongs_received, 1);
}

#[test]
fn unknown_base_messages_are_counted_and_ignored() {
    let mut pair = Pair::new();
    for code in 4..16 {
        // Content that cannot even be decompressed.
        pair.right.handle_frame(pair.now, &[code, 0xff, 0xff]).unwrap();
    }
    assert_eq!(pair.right.stats().unknown_received, 12);
    assert_eq!(pair.right.poll_message(), None);
}

/// go-ethereum `TestPeerDisconnect`; reasons in both forms, compressed or not.
#[test]
fn a_disconnect_ends_the_connection_with_its_reason() {
    use DisconnectReason::*;
    let table: [(&str, Vec<u8>, DisconnectReason); 10] = [
        ("sent by a go-ethereum server", vec![1, 2, 4, 0xc1, 3], UselessPeer),
        ("bare", frame(1, &[8]), Quitting),
        ("not compressed", vec![1, 0xc1, 4], TooManyPeers),
        ("not compressed, bare", vec![1, 4], TooManyPeers),
        ("not compressed, zero", vec![1, 0xc1, 0x80], Requested),
        ("not compressed, a byte of zero", vec![1, 0], Requested),
        ("a reason of its own", frame(1, &[0xc1, 0x20]), Unknown(0x20)),
        ("nothing", vec![1], Undecodable),
        ("a list of nothing", frame(1, &[0xc0]), Undecodable),
        ("not compressed, a list of nothing", vec![1, 0xc0], Undecodable),
    ];
    for (what, data, reason) in table {
        let mut pair = Pair::new();
        pair.right.handle_frame(pair.now, &frame(20, b"good")).unwrap();
        let error = MultiplexError::Disconnected(reason);
        assert_eq!(pair.right.handle_frame(pair.now, &data), Err(error), "{what}");
        assert_eq!(pair.right.handle_frame(pair.now, &frame(20, b"late")), Err(error), "{what}");
        assert_eq!(pair.right_got(), [(SMALL, 0, b"good".to_vec())]);
        assert_eq!(error.reason(), None);
    }
    let mut plain = Pair::of(MultiplexConfig::default(), &shared(), 4);
    assert_eq!(plain.right.handle_frame(plain.now, &[1, 0xc1, 4]), Err(MultiplexError::Disconnected(TooManyPeers)));
}

#[test]
fn who_hangs_up_says_why_and_nothing_else() {
    let mut pair = Pair::new();
    pair.left.send(BIG, join(0, &[1; 100])).unwrap();
    pair.left.handle_frame(pair.now, &frame(2, &[0xc0])).unwrap();
    pair.left.disconnect(DisconnectReason::TooManyPeers);
    pair.left.disconnect(DisconnectReason::Requested);
    assert!(pair.left.is_sending() && !pair.left.can_send(BIG));
    assert_eq!(pair.left.send(BIG, join(0, &[])), Err(QueueError::Disconnecting));
    assert_eq!(pair.step(), Some(Err(MultiplexError::Disconnected(DisconnectReason::TooManyPeers))));
    // Not even a ping or pong, whatever comes.
    pair.left.handle_frame(pair.now, &frame(2, &[0xc0])).unwrap();
    pair.after(15);
    pair.left.handle_timeout(pair.now).unwrap();
    assert!(!pair.left.is_sending() && pair.step().is_none());
}

#[test]
fn a_broken_rule_ends_the_connection_after_what_came_before_it() {
    use DisconnectReason::{Protocol, Subprotocol};
    use MultiplexError::*;
    let mut limited = shared();
    limited[0].protocol.max_message_size = 1000;
    let too_large = MessageError::TooLarge { len: 1001, max: 1000 };
    let table: [(&str, Vec<u8>, MultiplexError, DisconnectReason, Blame); 11] = [
        ("no code", vec![], Message(MessageError::Code), Protocol, Blame::Malformed),
        ("a list for a code", vec![0xc0], Message(MessageError::Code), Protocol, Blame::Malformed),
        ("a code with a zero in front", vec![0x82, 0, 16], Message(MessageError::Code), Protocol, Blame::Malformed),
        ("a code behind the last protocol", frame(23, b""), UnknownCode(23), Subprotocol, Blame::Misbehaved),
        ("the last of all codes", frame(u64::MAX, b""), UnknownCode(u64::MAX), Subprotocol, Blame::Misbehaved),
        ("a second hello", frame(0, b""), SecondHello, Protocol, Blame::Misbehaved),
        (
            "a large ping",
            [&[2][..], &[0; 2049]].concat(),
            BaseTooLarge { code: 2, len: 2049 },
            Protocol,
            Blame::Misbehaved,
        ),
        (
            "a large disconnect",
            [&[1][..], &[0; 2049]].concat(),
            BaseTooLarge { code: 1, len: 2049 },
            Protocol,
            Blame::Misbehaved,
        ),
        ("larger than the protocol has", frame(16, &[0; 1001]), Message(too_large), Protocol, Blame::Misbehaved),
        ("damaged", vec![16, 5, 1, 2], Message(MessageError::Snappy), Protocol, Blame::Malformed),
        (
            "a bomb",
            vec![20, 0xff, 0xff, 0xff, 0x07, 0, 0],
            Message(MessageError::Bomb { claimed: MAX_MESSAGE_SIZE, compressed: 6 }),
            Protocol,
            Blame::Misbehaved,
        ),
    ];
    for (what, bad, error, told, blame) in table {
        let mut pair = Pair::of(MultiplexConfig::default(), &limited, 5);
        pair.right.handle_frame(pair.now, &frame(16, &[7; 1000])).unwrap();
        assert_eq!(pair.right.handle_frame(pair.now, &bad), Err(error), "{what}");
        assert_eq!((error.reason(), error.blame()), (Some(told), blame), "{what}");
        assert_eq!(pair.right_got(), [(BIG, 0, vec![7; 1000])]);
        assert_eq!(pair.right.handle_frame(pair.now, &frame(16, b"")), Err(error), "{what}");
        assert_eq!(pair.right.handle_timeout(pair.now), Err(error), "{what}");
        assert_eq!(pair.right.poll_message(), None);
        // The peer can still be told.
        pair.right.disconnect(told);
        assert_eq!(next_frame(&mut pair.right), Some(frame(1, &told.encode())), "{what}");
    }
}

/// Whatever a protocol may say must get through, and nothing needs to be buffered that would be refused when it is whole.
#[test]
fn no_frame_is_larger_than_the_largest_message_compressed_badly() {
    for (of_each, version, expected) in [
        (MAX_MESSAGE_SIZE, 5, MAX_MESSAGE_SIZE),
        (MAX_MESSAGE_SIZE, 4, MAX_MESSAGE_SIZE),
        (60_000, 5, 70_041),
        (60_000, 4, 60_009),
        (0, 4, 2057),
    ] {
        let mut limited = shared();
        limited.iter_mut().for_each(|shared| shared.protocol.max_message_size = of_each);
        let pair = Pair::of(MultiplexConfig::default(), &limited, version);
        assert_eq!(pair.left.max_frame(), expected, "{of_each} bytes, version {version}");
    }
}

#[test]
fn settings_have_limits() {
    let good = MultiplexConfig::default();
    assert_eq!((good.ping_interval.as_secs(), good.read_timeout.as_secs(), good.validate()), (15, 30, Ok(())));
    let day = Duration::from_secs(24 * 60 * 60);
    let table = [
        (MultiplexConfig { ping_interval: Duration::ZERO, ..good }, MultiplexConfigError::PingInterval),
        (MultiplexConfig { ping_interval: good.read_timeout, ..good }, MultiplexConfigError::PingInterval),
        (MultiplexConfig { read_timeout: day + Duration::from_secs(1), ..good }, MultiplexConfigError::ReadTimeout),
    ];
    for (config, error) in table {
        assert_eq!(config.validate(), Err(error));
    }
}

proptest! {
    /// Whatever comes: an answer, and no more memory than what came can stand for.
    #[test]
    fn any_frames_are_answered(
        frames in proptest::collection::vec((0u64..26, proptest::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..20),
        raw in proptest::collection::vec(any::<u8>(), 0..40), version in 4u64..6,
    ) {
        let mut pair = Pair::of(MultiplexConfig::default(), &shared(), version);
        let compressed = |(code, payload, wrap): (u64, Vec<u8>, bool)| {
            let mut out = join(code, &payload).to_vec();
            if wrap {
                out.clear();
                Codec::for_version(version).encode(code, &payload, &mut out).unwrap();
            }
            out
        };
        for data in frames.into_iter().map(compressed).chain([raw]) {
            let result = pair.right.handle_frame(pair.now, &data);
            let came: usize = std::iter::from_fn(|| pair.right.poll_message()).map(|(_, message)| message.len()).sum();
            prop_assert!(came <= 1 + data.len() * 64 / 3);
            prop_assert!(std::iter::from_fn(|| next_frame(&mut pair.right)).count() <= 1);
            if result.is_err() {
                break;
            }
        }
    }

    /// Each protocol's messages come whole and in order, whatever the sizes and however sends and frames alternate.
    #[test]
    fn messages_keep_their_order(
        sends in proptest::collection::vec((any::<bool>(), 0u64..3, 0usize..5000, 0usize..3), 0..60), version in 4u64..6,
    ) {
        let mut pair = Pair::of(MultiplexConfig::default(), &shared(), version);
        let mut expected = [Vec::new(), Vec::new()];
        for (n, (small, code, size, frames)) in sends.into_iter().enumerate() {
            let channel = if small { SMALL } else { BIG };
            let payload = vec![n as u8; size];
            if pair.left.send(channel, join(code, &payload)).is_ok() {
                expected[usize::from(channel)].push((channel, code, payload));
            }
            for _ in 0..frames {
                pair.step();
            }
        }
        pair.exchange();
        let got = pair.right_got();
        let of = |channel| got.iter().filter(|(on, ..)| *on == channel).cloned().collect::<Vec<_>>();
        prop_assert_eq!([of(BIG), of(SMALL)], expected);
        let sent: usize = std::iter::from_fn(|| pair.left.poll_sent()).map(|(_, messages)| messages).sum();
        prop_assert_eq!(sent, got.len());
    }
}
