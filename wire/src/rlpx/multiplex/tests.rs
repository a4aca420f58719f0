mod ends;
mod sending;

use proptest::prelude::*;

use super::{
    super::capability::{Capability, Protocol, match_protocols},
    *,
};
use crate::rlpx::message::join;

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
