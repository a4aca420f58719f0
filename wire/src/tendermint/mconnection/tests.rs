use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

const A: ChannelSpec = ChannelSpec { id: 0x01, priority: 1, send_queue: 1000, max_message_size: 1 << 20 };
const B: ChannelSpec = ChannelSpec { id: 0x90, priority: 4, send_queue: 1000, max_message_size: 1 << 20 };

/// Two connections and a clock; what one writes the other reads.
struct Pair {
    now: Instant,
    left: MConnection,
    right: MConnection,
}

fn unlimited() -> MConnectionConfig {
    MConnectionConfig { send_rate: 0, recv_rate: 0, ..MConnectionConfig::default() }
}

impl Pair {
    fn new(config: MConnectionConfig) -> Self {
        #[expect(clippy::disallowed_methods, reason = "test: a fixed base for virtual time")]
        let now = Instant::now();
        let connection = || MConnection::new(config, &[A, B], now).unwrap();
        Pair { now, left: connection(), right: connection() }
    }

    fn after(&mut self, wait: Duration) -> &mut Self {
        self.now += wait;
        self
    }

    fn left_writes(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.left.poll_transmit(self.now, &mut out, usize::MAX);
        out
    }

    fn right_reads(&mut self, bytes: &[u8]) -> Result<Vec<(u8, Bytes)>, MConnectionError> {
        self.right.handle_bytes(self.now, bytes)?;
        Ok(std::iter::from_fn(|| self.right.poll_message()).collect())
    }

    /// Carries everything both ways until both are silent.
    fn exchange(&mut self) -> Result<(), MConnectionError> {
        loop {
            let (mut to_right, mut to_left) = (Vec::new(), Vec::new());
            self.left.poll_transmit(self.now, &mut to_right, usize::MAX);
            self.right.poll_transmit(self.now, &mut to_left, usize::MAX);
            if to_right.is_empty() && to_left.is_empty() {
                return Ok(());
            }
            self.right.handle_bytes(self.now, &to_right)?;
            self.left.handle_bytes(self.now, &to_left)?;
        }
    }
}

fn packet(channel: u8, eof: bool, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    packet::put_message(&mut out, channel, eof, data);
    out
}

#[test]
fn messages_of_all_sizes_arrive_in_order_per_channel() {
    let mut pair = Pair::new(unlimited());
    let sizes = [0, 1, 1023, 1024, 1025, 2048, 100_000, 1 << 20];
    for size in sizes {
        pair.left.send(A.id, vec![1; size].into()).unwrap();
        pair.left.send(B.id, vec![2; size].into()).unwrap();
    }
    let bytes = pair.left_writes();
    let messages = pair.right_reads(&bytes).unwrap();
    for (id, fill) in [(A.id, 1), (B.id, 2)] {
        let got: Vec<_> = messages.iter().filter(|(channel, _)| *channel == id).map(|(_, m)| m.len()).collect();
        assert_eq!(got, sizes);
        assert!(messages.iter().filter(|(channel, _)| *channel == id).all(|(_, m)| m.iter().all(|b| *b == fill)));
    }
    let (mut sent, mut left) = (0, pair.left);
    while let Some((_, messages)) = left.poll_sent() {
        sent += messages;
    }
    assert_eq!((sent, left.stats().messages_sent, pair.right.stats().messages_received), (16, 16, 16));
    assert_eq!(left.stats().bytes_sent, pair.right.stats().bytes_received);
    assert!(!left.is_sending());
}

#[test]
fn the_stream_may_be_cut_at_every_byte() {
    let mut pair = Pair::new(unlimited());
    for (channel, size) in [(A.id, 0), (B.id, 200), (A.id, 1500), (A.id, 1)] {
        pair.left.send(channel, vec![channel; size].into()).unwrap();
    }
    let bytes = pair.left_writes();
    let whole = Pair::new(unlimited()).right_reads(&bytes).unwrap();
    assert_eq!(whole.len(), 4);
    for cut in 0..=bytes.len() {
        let mut pair = Pair::new(unlimited());
        let mut messages = pair.right_reads(&bytes[..cut]).unwrap();
        messages.extend(pair.right_reads(&bytes[cut..]).unwrap());
        assert_eq!(messages, whole, "cut at {cut}");
    }
    let mut pair = Pair::new(unlimited());
    let mut messages = Vec::new();
    for byte in &bytes {
        messages.extend(pair.right_reads(&[*byte]).unwrap());
    }
    assert_eq!(messages, whole);
}

/// CometBFT's flush throttle is an upper bound that is never reached here.
#[test]
fn nothing_waits_for_more_to_fill_a_write() {
    let mut pair = Pair::new(unlimited());
    for n in 0..3 {
        pair.left.send(A.id, vec![n; 64].into()).unwrap();
        let bytes = pair.left_writes();
        assert_eq!(pair.right_reads(&bytes).unwrap(), [(A.id, vec![n; 64].into())]);
    }
}

#[test]
fn pieces_of_several_messages_come_interleaved() {
    let mut pair = Pair::new(unlimited());
    let pieces =
        [(A, false, "a1 "), (B, false, "b1 "), (A, false, "a2 "), (B, true, "b2"), (A, true, ""), (A, true, "next")];
    let bytes: Vec<u8> = pieces.iter().flat_map(|(spec, eof, data)| packet(spec.id, *eof, data.as_bytes())).collect();
    let messages = [(B.id, "b1 b2".into()), (A.id, "a1 a2 ".into()), (A.id, "next".into())];
    assert_eq!(pair.right_reads(&bytes).unwrap(), messages);
}

/// Tendermint v0.35 has packets of 1400 bytes of data; both sides must be told so.
#[test]
fn the_packet_size_is_a_setting_and_the_reader_keeps_it() {
    let v035 = MConnectionConfig { max_packet_payload: 1400, ..unlimited() };
    let mut pair = Pair::new(v035);
    pair.left.send(A.id, vec![3; 3000].into()).unwrap();
    let bytes = pair.left_writes();
    assert_eq!(pair.left.stats().packets_sent, 3);
    assert_eq!(pair.right_reads(&bytes).unwrap(), [(A.id, vec![3; 3000].into())]);
    let smaller = Pair::new(unlimited()).right_reads(&bytes);
    assert_eq!(smaller, Err(MConnectionError::PacketTooLarge { len: 1408, max: 1034 }));
    let full = packet(A.id, true, &[0; 1400]);
    assert_eq!(full.len() - 2, 1410);
    assert!(Pair::new(v035).right_reads(&full).is_ok());
}

#[test]
fn a_ping_is_answered_and_a_late_pong_ends_the_connection() {
    let mut pair = Pair::new(MConnectionConfig::default());
    let start = pair.now;
    for _ in 0..3 {
        assert_eq!(pair.left.poll_timeout(), Some(pair.now + Duration::from_secs(60)));
        pair.after(Duration::from_secs(60));
        pair.left.handle_timeout(pair.now).unwrap();
        assert_eq!(pair.left.poll_timeout(), Some(pair.now + Duration::from_secs(45)));
        pair.exchange().unwrap();
    }
    assert_eq!((pair.left.stats().pings_sent, pair.right.stats().pongs_sent), (3, 3));
    // The fourth pong does not come.
    pair.after(Duration::from_secs(60));
    pair.left.handle_timeout(pair.now).unwrap();
    assert_eq!(pair.left_writes(), PING);
    pair.after(Duration::from_secs(44));
    pair.left.handle_timeout(pair.now).unwrap();
    pair.after(Duration::from_secs(1));
    assert_eq!(pair.left.handle_timeout(pair.now), Err(MConnectionError::PongTimeout));
    assert_eq!(pair.left.handle_bytes(pair.now, &PONG), Err(MConnectionError::PongTimeout));
    assert_eq!(pair.now - start, Duration::from_secs(285));
}

#[test]
fn a_flood_of_pings_gets_one_pong_a_write() {
    let mut pair = Pair::new(unlimited());
    pair.right.handle_bytes(pair.now, &PING.repeat(50_000)).unwrap();
    let mut out = Vec::new();
    pair.right.poll_transmit(pair.now, &mut out, usize::MAX);
    assert_eq!(out, PONG);
    // A pong that nobody asked for is counted and ignored.
    pair.left.handle_bytes(pair.now, &PONG).unwrap();
    assert_eq!(pair.left.stats().pongs_received, 1);
}

#[test]
fn bandwidth_is_shared_by_priority() {
    let mut pair = Pair::new(unlimited());
    for _ in 0..200 {
        pair.left.send(A.id, vec![0; 2000].into()).unwrap();
        pair.left.send(B.id, vec![0; 2000].into()).unwrap();
    }
    // A tenth of it all.
    let mut out = Vec::new();
    let written = pair.left.poll_transmit(pair.now, &mut out, 80_000);
    assert!((80_000..82_000).contains(&written) && written == out.len());
    let messages = pair.right_reads(&out).unwrap();
    let of = |id| messages.iter().filter(|(channel, _)| *channel == id).count();
    assert!((3..6).contains(&(of(B.id) / of(A.id))), "{} {}", of(B.id), of(A.id));
}

#[test]
fn the_send_rate_is_kept_and_pings_pass_it() {
    let mut pair = Pair::new(MConnectionConfig { send_rate: 100_000, ..unlimited() });
    pair.left.send(A.id, vec![0; 100_000].into()).unwrap();
    let start = pair.now;
    let mut got = pair.left_writes().len();
    assert!((10_000..12_000).contains(&got));
    assert!(pair.left_writes().is_empty());
    pair.left.handle_bytes(pair.now, &PING).unwrap();
    assert_eq!(pair.left_writes(), PONG);
    while pair.left.is_sending() {
        pair.now = pair.left.poll_timeout().unwrap();
        let written = pair.left_writes().len();
        assert!(written >= 1000 || !pair.left.is_sending(), "{written}");
        got += written;
    }
    assert!(got > 100_000);
    assert!((850..1000).contains(&(pair.now - start).as_millis()), "{:?}", pair.now - start);
}

#[test]
fn the_receive_rate_says_when_to_read_again() {
    let mut pair = Pair::new(MConnectionConfig { recv_rate: 10_000, ..unlimited() });
    assert!(pair.right.may_receive(pair.now));
    pair.right.handle_bytes(pair.now, &packet(A.id, false, &[0; 1024])).unwrap();
    assert!(!pair.right.may_receive(pair.now));
    pair.now = pair.right.poll_timeout().unwrap();
    assert!(pair.right.may_receive(pair.now));
}

/// Neither a stream that takes nothing nor a user who takes nothing may keep the driver awake.
#[test]
fn a_rate_that_has_recovered_is_not_waited_for_again() {
    let mut pair = Pair::new(MConnectionConfig { send_rate: 10_000, recv_rate: 10_000, ..unlimited() });
    pair.left.send(A.id, vec![0; 5000].into()).unwrap();
    pair.left_writes();
    pair.left.handle_bytes(pair.now, &packet(A.id, false, &[0; 1024])).unwrap();
    let end = pair.now + Duration::from_secs(50);
    let mut timeouts = 0;
    while pair.now < end {
        pair.now = pair.left.poll_timeout().unwrap();
        pair.left.handle_timeout(pair.now).unwrap();
        assert!(pair.left.poll_timeout().unwrap() > pair.now);
        timeouts += 1;
    }
    assert!(timeouts <= 3, "one for each rate, and the ping: {timeouts}");
}

#[test]
fn a_broken_rule_ends_the_connection_after_what_came_before_it() {
    use MConnectionError::*;
    let good = packet(A.id, true, b"good");
    let max = 1034;
    for (bad, error) in [
        (packet(0x02, true, b""), UnknownChannel(2)),
        (packet(0x00, true, b""), UnknownChannel(0)),
        // 256 + 1 is not channel 1.
        (vec![5, 0x1a, 3, 0x08, 0x81, 0x02], UnknownChannel(257)),
        // -1, as protobuf writes it.
        (vec![13, 0x1a, 11, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], UnknownChannel(-1)),
        (packet(A.id, true, &[0; 1025]), PacketTooLarge { len: 1035, max }),
        (vec![0xff, 0xff, 0xff, 0xff, 0x0f], PacketTooLarge { len: u32::MAX.into(), max }),
        (vec![0xff; 10], Undecodable("bad length")),
        (vec![0], UnknownPacket),
        (vec![2, 0x22, 0], UnknownPacket),
        (vec![2, 0x0a, 1], Undecodable("field exceeds its packet")),
    ] {
        for split in [0, 1, 3] {
            let mut pair = Pair::new(unlimited());
            let (first, rest) = bad.split_at(split.min(bad.len()));
            let begun = pair.right.handle_bytes(pair.now, &[&good, first].concat());
            let result = begun.and_then(|()| pair.right.handle_bytes(pair.now, rest));
            assert_eq!(result, Err(error));
            assert_eq!(pair.right.poll_message(), Some((A.id, "good".into())));
            assert_eq!(pair.right.handle_bytes(pair.now, &good), Err(error));
            assert_eq!(pair.right.poll_message(), None);
        }
    }
}

#[test]
fn a_message_without_end_is_cut_at_the_channels_limit() {
    let mut pair = Pair::new(unlimited());
    let piece = packet(A.id, false, &[0; 1024]);
    for _ in 0..1024 {
        pair.right.handle_bytes(pair.now, &piece).unwrap();
    }
    let too_large = MConnectionError::MessageTooLarge { channel: A.id, max: 1 << 20 };
    assert_eq!(pair.right.handle_bytes(pair.now, &piece), Err(too_large));
}

#[test]
fn queues_and_configurations_have_limits() {
    let mut pair = Pair::new(unlimited());
    for _ in 0..A.send_queue {
        pair.left.send(A.id, Bytes::new()).unwrap();
    }
    assert!(!pair.left.can_send(A.id) && pair.left.can_send(B.id) && !pair.left.can_send(9));
    assert_eq!(pair.left.send(A.id, "x".into()), Err(QueueError::Full("x".into())));
    assert_eq!(pair.left.send(9, Bytes::new()), Err(QueueError::UnknownChannel(9)));
    let large = Bytes::from(vec![0; (1 << 20) + 1]);
    assert_eq!(pair.left.send(B.id, large), Err(QueueError::TooLarge { len: (1 << 20) + 1, max: 1 << 20 }));

    let refused = |change: fn(&mut MConnectionConfig), channels: &[ChannelSpec]| {
        let mut config = unlimited();
        change(&mut config);
        config.validate(channels).unwrap_err()
    };
    assert_eq!(refused(|c| c.pong_timeout = c.ping_interval, &[]), ConfigError::PongTimeout);
    assert_eq!(refused(|c| c.ping_interval = Duration::MAX, &[]), ConfigError::PingInterval);
    assert_eq!(refused(|c| c.max_packet_payload = 0, &[]), ConfigError::PacketPayload(0));
    assert_eq!(refused(|_| (), &[A, B, A]), ConfigError::DuplicateChannel(A.id));
    assert_eq!(refused(|_| (), &[ChannelSpec { priority: 0, ..A }]), ConfigError::Priority(A.id));
    assert_eq!(refused(|_| (), &[ChannelSpec { send_queue: 0, ..A }]), ConfigError::SendQueue(A.id));
}

/// Whatever came before on the channel: a message of one byte and an empty last packet, then some after a large one.
#[test]
fn a_message_that_waits_holds_little_more_than_its_bytes() {
    let mut pair = Pair::new(unlimited());
    for (data, times) in [(1, 1), (1, 1), (1, 1000), (1, 1), (3, 1), (1000, 5), (1, 1), (1024, 300), (900, 8), (1, 2)] {
        let pieces = packet(A.id, false, &vec![7; data]).repeat(times);
        let messages = pair.right_reads(&[pieces, packet(A.id, true, &[])].concat()).unwrap();
        let (len, held) = (data * times, messages.into_iter().map(|(_, message)| allocated(message)).sum::<usize>());
        assert!((len..=if len < 4096 { len } else { 2 * len }).contains(&held), "{held} for {len}");
    }
}

/// The bytes allocated for a message that nobody else holds.
fn allocated(message: Bytes) -> usize {
    BytesMut::from(message).capacity()
}

impl MConnection {
    /// Bytes allocated for what has not become a message yet.
    fn held(&self) -> usize {
        self.partial.capacity() + self.channels.iter().map(Channel::receiving).sum::<usize>()
    }
}

proptest! {
    /// Packets and things that look like packets, in any pieces: what they hold here, messages that nobody takes included, follows what
    /// came, not what they claim.
    #[test]
    fn any_packets_in_any_pieces_are_answered_and_never_hoarded(
        packets in proptest::collection::vec((0u8..4, any::<bool>(), 0usize..1200), 0..20),
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..3),
        claim in any::<u64>(), cuts in proptest::collection::vec(1usize..1500, 1..5),
    ) {
        let mut stream = Vec::new();
        for (kind, eof, len) in packets {
            match kind {
                0 => stream.extend(PING),
                1 => stream.extend(packet(A.id, eof, &vec![1; len])),
                2 => stream.extend(packet(B.id, eof, &vec![2; len.min(1023)])),
                // A packet that claims more data than it has.
                _ => stream.extend([6, 0x1a, 4, 0x08, A.id, 0x1a, len as u8 | 1]),
            }
        }
        prost::encoding::encode_varint(claim, &mut stream);
        for (at, byte) in changes {
            let at = usize::from(at) % stream.len();
            stream[at] = byte;
        }
        let mut pair = Pair::new(unlimited());
        let (mut rest, mut cuts, mut came, mut delivered) = (stream.as_slice(), cuts.iter().cycle(), 0, 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            came += now.len();
            let result = pair.right.handle_bytes(pair.now, now);
            delivered += std::iter::from_fn(|| pair.right.poll_message()).map(|(_, m)| allocated(m)).sum::<usize>();
            let held = delivered + pair.right.held();
            prop_assert!(held <= 2 * came + 2 * 4096, "{held} of {came}");
            if result.is_err() {
                break;
            }
            rest = later;
        }
    }

    #[test]
    fn any_bytes_are_answered(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..10)) {
        let mut pair = Pair::new(unlimited());
        for piece in pieces {
            let _ = pair.right.handle_bytes(pair.now, &piece);
        }
    }

    #[test]
    fn messages_survive_any_cuts_and_budgets(
        messages in proptest::collection::vec((any::<bool>(), 0usize..5000), 0..20),
        budgets in proptest::collection::vec(1usize..6000, 1..5),
        cuts in proptest::collection::vec(1usize..3000, 1..5),
    ) {
        let mut pair = Pair::new(unlimited());
        let mut expected = [Vec::new(), Vec::new()];
        for (n, (on_b, size)) in messages.iter().enumerate() {
            let (spec, list) = if *on_b { (B, &mut expected[1]) } else { (A, &mut expected[0]) };
            let message = Bytes::from(vec![n as u8; *size]);
            pair.left.send(spec.id, message.clone()).unwrap();
            list.push(message);
        }
        let (mut budgets, mut cuts, mut stream) = (budgets.iter().cycle(), cuts.iter().cycle(), Vec::new());
        while pair.left.is_sending() {
            pair.left.poll_transmit(pair.now, &mut stream, *budgets.next().unwrap());
        }
        let (mut got, mut rest) = ([Vec::new(), Vec::new()], stream.as_slice());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            for (channel, message) in pair.right_reads(now).unwrap() {
                got[usize::from(channel == B.id)].push(message);
            }
            rest = later;
        }
        prop_assert_eq!(got, expected);
    }
}
