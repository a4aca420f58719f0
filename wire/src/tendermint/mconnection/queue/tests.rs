use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::{super::ChannelSpec, *};

/// Data in one packet, in bytes.
const PAYLOAD: usize = 1024;

/// A packet of the stream as its reader sees it.
struct Sent {
    channel: u8,
    at: Instant,
    bytes: usize,
    eof: bool,
}

/// One direction of a connection, on virtual time: each packet takes as long as its bytes need at 5 MB/s.
struct Stream {
    start: Instant,
    now: Instant,
    queue: Queue,
    channels: Vec<Channel>,
    sent: Vec<Sent>,
}

impl Stream {
    /// Channels 0, 1, … of these priorities.
    fn new(kind: QueueKind, priorities: &[u8]) -> Self {
        #[expect(clippy::disallowed_methods, reason = "test: a fixed base for virtual time")]
        let now = Instant::now();
        let specs = (0u8..).zip(priorities).map(|(id, &priority)| ChannelSpec { priority, ..ChannelSpec::new(id) });
        let channels = specs.map(Channel::new).collect();
        Stream { start: now, now, queue: Queue::new(kind, now), channels, sent: Vec::new() }
    }

    fn send(&mut self, channel: usize, len: usize) {
        let number = self.queue.number();
        self.channels[channel].queue(number, Bytes::from(vec![0; len]));
    }

    /// Writes one packet; whether there was one.
    fn step(&mut self) -> bool {
        self.queue.handle_time(self.now, &mut self.channels);
        let Some(channel) = self.queue.choose(&mut self.channels, PAYLOAD + 12) else { return false };
        let (bytes, eof) = channel.put_packet(&mut Vec::new(), PAYLOAD);
        self.sent.push(Sent { channel: channel.spec.id, at: self.now, bytes, eof });
        self.now += Duration::from_nanos(bytes as u64 * 200);
        true
    }

    /// Runs for so long, with always something to send on the `bulk` channels.
    fn run(&mut self, time: Duration, bulk: &[usize]) {
        let end = self.now + time;
        while self.now < end {
            for &channel in bulk {
                if self.channels[channel].pending() < 2 {
                    self.send(channel, 1 << 16);
                }
            }
            assert!(self.step());
        }
    }

    fn bytes(&self, channel: u8, since: Instant) -> usize {
        self.sent.iter().filter(|sent| sent.channel == channel && sent.at >= since).map(|sent| sent.bytes).sum()
    }
}

#[test]
fn the_names_are_those_of_a_configuration() {
    for kind in [QueueKind::Priority, QueueKind::Fifo, QueueKind::Wdrr] {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert_eq!("simple-priority".parse(), Ok(QueueKind::Priority));
    assert_eq!("lifo".parse::<QueueKind>(), Err(UnknownQueueKind));
    assert_eq!(QueueKind::default(), QueueKind::Priority);
}

#[test]
fn fifo_keeps_the_order_of_sending_over_all_channels() {
    let mut stream = Stream::new(QueueKind::Fifo, &[1, 200, 7]);
    let order = [0, 0, 1, 2, 0, 1, 1, 2, 0];
    for (n, channel) in order.into_iter().enumerate() {
        stream.send(channel, n * 700);
    }
    while stream.step() {}
    let ends: Vec<_> = stream.sent.iter().filter(|sent| sent.eof).map(|sent| usize::from(sent.channel)).collect();
    assert_eq!(ends, order);
}

#[test]
fn channels_that_compete_have_their_priorities_shares() {
    for kind in [QueueKind::Priority, QueueKind::Wdrr] {
        let mut stream = Stream::new(kind, &[1, 3, 10]);
        stream.run(Duration::from_secs(5), &[0, 1, 2]);
        let [a, b, c] = [0, 1, 2].map(|id| stream.bytes(id, stream.start) as f64);
        assert!((2.9..3.1).contains(&(b / a)) && (9.7..10.3).contains(&(c / a)), "{kind}: {a} {b} {c}");
    }
}

/// Small messages on a quiet channel of high priority, while another sends all it can.
#[test]
fn a_message_on_a_quiet_channel_waits_for_few_packets_unless_all_leave_in_order() {
    let mut worst = Vec::new();
    for kind in [QueueKind::Priority, QueueKind::Wdrr, QueueKind::Fifo] {
        let mut stream = Stream::new(kind, &[1, 10]);
        let mut packets = 0;
        for _ in 0..100 {
            stream.run(Duration::from_millis(50), &[0]);
            stream.send(1, 100);
            let before = stream.sent.len();
            while !stream.sent[before..].iter().any(|sent| sent.channel == 1) {
                stream.run(Duration::from_nanos(1), &[0]);
            }
            packets = packets.max(stream.sent.len() - before);
        }
        worst.push((kind, packets));
    }
    // Its own packet counts. First in, first out: after the message that was begun and the one behind it.
    let [(_, priority), (_, wdrr), (_, fifo)] = worst[..] else { unreachable!() };
    assert!(priority == 1 && wdrr <= 2 && fifo > 64, "{worst:?}");
}

/// Where `wdrr` is better than CometBFT's rule, and why it exists here: what a channel sent while nobody else wanted to is held against
/// it for seconds.
#[test]
fn a_channel_that_was_busy_alone_stands_still_under_priority_and_not_under_wdrr() {
    for (priorities, kind, standstill) in [
        ([1, 1], QueueKind::Priority, 4_000..8_000),
        ([10, 1], QueueKind::Priority, 700..1_500),
        ([1, 1], QueueKind::Wdrr, 0..2),
        ([10, 1], QueueKind::Wdrr, 0..2),
    ] {
        let mut stream = Stream::new(kind, &priorities);
        stream.run(Duration::from_secs(20), &[0]);
        let woke = stream.now;
        stream.run(Duration::from_secs(10), &[0, 1]);
        let first = stream.sent.iter().find(|sent| sent.channel == 0 && sent.at > woke).unwrap();
        let stood = (first.at - woke).as_millis();
        println!("{kind} {priorities:?}: the channel that was busy stood still for {stood} ms");
        assert!(standstill.contains(&stood), "{kind} {priorities:?}: {stood} ms");
    }
}

/// Who sends little does not save its share up for later.
#[test]
fn a_quiet_channel_gathers_no_credit() {
    let mut stream = Stream::new(QueueKind::Wdrr, &[1, 10]);
    for _ in 0..100 {
        stream.send(1, 100);
        stream.run(Duration::from_millis(20), &[0]);
    }
    let woke = stream.now;
    stream.run(Duration::from_millis(100), &[0, 1]);
    let [small, large] = [0, 1].map(|id| stream.bytes(id, woke));
    assert!(large < 11 * small, "{small} and {large} bytes");
}

proptest! {
    /// Nothing is lost or left, and each channel keeps its order: an end of a message is followed by the next message's packets only.
    #[test]
    fn every_kind_sends_everything_in_each_channels_order(
        kind in prop_oneof![Just(QueueKind::Priority), Just(QueueKind::Fifo), Just(QueueKind::Wdrr)],
        priorities in proptest::collection::vec(1u8.., 1..6),
        sends in proptest::collection::vec((any::<u8>(), 0usize..5_000, 0usize..4), 0..60),
    ) {
        let mut stream = Stream::new(kind, &priorities);
        let mut expected = vec![Vec::new(); priorities.len()];
        for (channel, len, steps) in sends {
            let channel = usize::from(channel) % priorities.len();
            stream.send(channel, len);
            expected[channel].push(len.div_ceil(PAYLOAD).max(1));
            for _ in 0..steps {
                stream.step();
            }
        }
        while stream.step() {}
        prop_assert!(stream.channels.iter().all(|channel| channel.pending() == 0));
        for (id, expected) in (0u8..).zip(expected) {
            let packets: Vec<_> = stream.sent.iter().filter(|sent| sent.channel == id).map(|sent| sent.eof).collect();
            let lens: Vec<_> = packets.split_inclusive(|eof| *eof).map(<[bool]>::len).collect();
            prop_assert_eq!(lens, expected);
        }
    }
}
