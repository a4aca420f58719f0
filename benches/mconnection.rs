//! What does a message cost, from one side's queue to the other's, with its encryption? Both sides on one core, no socket.
//!
//! `cargo bench --bench mconnection`. The reference figures printed first were measured elsewhere; a fair comparison needs
//! both sides in one run: `benches/versus/run mconn`.

use std::time::Instant;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use kadwire_wire::tendermint::{
    key::NodeKey,
    mconnection::{ChannelSpec, MConnection, MConnectionConfig},
    secret_connection::{Handshake, OpenBuffer, SealBuffer, Secured},
};
use rand::{SeedableRng, rngs::StdRng};

const REFERENCE: &str = "\
reference figures, measured elsewhere (CometBFT v0.38.26, on two cores over loopback, one direction, sockets included):
  64 B messages    450,000/s
  1 KB messages    150,000/s
  64 KB messages   217 MB/s
  1 MB messages    226 MB/s
limits by primitives: about 800,000/s of 1 KB, about 700 MB/s
";

/// Bytes that are carried in one go, as the driver does.
const BATCH: usize = 380 * 1024;

const CHANNEL: u8 = 0x30;

fn main() {
    println!("{REFERENCE}");
    let mut criterion = Criterion::default().configure_from_args();
    for (name, size) in [("64 B", 64), ("1 KB", 1 << 10), ("64 KB", 1 << 16), ("1 MB", 1 << 20)] {
        messages(&mut criterion, name, size);
    }
    criterion.final_summary();
}

/// Messages of one size: queued, cut into packets, sealed; opened, put together, taken.
fn messages(criterion: &mut Criterion, name: &str, size: usize) {
    let (message, count) = (Bytes::from(vec![7; size]), (BATCH / size).max(1));
    let mut pair = Pair::new();
    let mut group = criterion.benchmark_group(name);
    group.throughput(match size {
        ..0x1_0000 => Throughput::Elements(count as u64),
        _ => Throughput::BytesDecimal((count * size) as u64),
    });
    group.bench_function("messages", |bench| {
        bench.iter(|| {
            for _ in 0..count {
                pair.left.send(CHANNEL, message.clone()).expect("the queue has room");
            }
            assert_eq!(pair.carry(), count);
        });
    });
    group.finish();
}

/// Two ends of one connection; only the direction from left to right is used.
struct Pair {
    now: Instant,
    left: MConnection,
    right: MConnection,
    ciphers: [Secured; 2],
    output: SealBuffer,
    input: OpenBuffer,
}

impl Pair {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "bench: a fixed base, so that no ping is ever due")]
        let now = Instant::now();
        let config = MConnectionConfig { send_rate: 0, recv_rate: 0, ..MConnectionConfig::default() };
        let channels = [ChannelSpec { send_queue: BATCH / 64, ..ChannelSpec::new(CHANNEL) }];
        let end = || MConnection::new(config, &channels, now).expect("a valid configuration");
        let (output, input) = (SealBuffer::default(), OpenBuffer::default());
        Pair { now, left: end(), right: end(), ciphers: shake(), output, input }
    }

    /// Carries all that is queued; returns the messages that arrived.
    fn carry(&mut self) -> usize {
        let (mut arrived, [left, right]) = (0, &mut self.ciphers);
        while self.left.poll_transmit(self.now, &mut self.output, BATCH) > 0 {
            self.output.seal(&mut left.sealer).expect("nonces are left");
            // In place of the socket.
            self.input.spare(self.output.len()).extend_from_slice(self.output.sealed());
            self.output.clear();
            self.input.open(&mut right.opener).expect("an honest peer");
            self.right.handle_bytes(self.now, self.input.plaintext()).expect("an honest peer");
            self.input.consume(self.input.plaintext().len());
            arrived += std::iter::from_fn(|| self.right.poll_message()).count();
        }
        arrived
    }
}

fn shake() -> [Secured; 2] {
    let keys = [NodeKey::from_seed(&[1; 32]), NodeKey::from_seed(&[2; 32])];
    let mut rng = StdRng::seed_from_u64(1);
    let mut sides = [0, 1].map(|side| Handshake::new(&keys[side], &mut rng));
    let mut done = [None, None];
    while let [None, _] | [_, None] = done {
        for (from, to) in [(0, 1), (1, 0)] {
            if let Some(bytes) = sides[from].poll_transmit() {
                sides[to].handle_bytes(&bytes).expect("an honest peer");
            }
        }
        for (done, side) in done.iter_mut().zip(&mut sides) {
            *done = done.take().or_else(|| side.poll_secured());
        }
    }
    done.map(|side| side.expect("both are done"))
}
