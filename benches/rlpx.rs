//! What does RLPx cost: to set up, and per byte and frame? One core, no socket, no snappy.
//!
//! `cargo bench --bench rlpx`, and again with `--features libsecp256k1`. The reference figures printed first were measured elsewhere; a fair
//! comparison needs both sides in one run: `benches/versus/run rlpx`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use kadwire_wire::rlpx::{FrameBuffer, Handshake, SecretKey, Secured};
use rand::{SeedableRng, rngs::StdRng};

const REFERENCE: &str = "\
reference figures, measured elsewhere (go-ethereum v1.17.10, on two cores over loopback, sockets and snappy included):
  handshake, CPU both sides    763-820 us
  64 KB messages, one way      108 MB/s         limit by primitives: about 290-420 MB/s per core (keccak)
  100 B messages, one way      175,000/s        limit by primitives: 4 permutations a frame
";

/// Payloads, in bytes.
const SIZES: [(&str, usize); 4] = [("100 B", 100), ("1 KB", 1024), ("64 KB", 64 * 1024), ("1 MB", 1 << 20)];

fn main() {
    println!("{REFERENCE}");
    let mut criterion = Criterion::default().configure_from_args();
    handshake(&mut criterion);
    frames(&mut criterion);
    criterion.final_summary();
}

fn keys() -> [SecretKey; 2] {
    [1, 2].map(|number| SecretKey::from_bytes(&[number; 32]).expect("a small scalar is a key"))
}

/// Both sides' results, everything computed in this thread.
fn shake([a, b]: &[SecretKey; 2]) -> [Secured; 2] {
    let mut rng = StdRng::seed_from_u64(1);
    let mut initiator = Handshake::initiator(a, b.public(), &mut rng);
    let mut recipient = Handshake::recipient(b, &mut rng);
    for step in 0..2 {
        let (from, to) = if step == 0 { (&mut initiator, &mut recipient) } else { (&mut recipient, &mut initiator) };
        let packet = from.poll_transmit().expect("each side sends one packet");
        to.handle_bytes(&packet).expect("an honest peer");
    }
    [initiator, recipient].map(|mut side| side.poll_secured().expect("both are done"))
}

fn handshake(criterion: &mut Criterion) {
    let keys = keys();
    criterion.bench_function("handshake/both sides", |bench| bench.iter(|| shake(&keys)));
}

fn frames(criterion: &mut Criterion) {
    let keys = keys();
    for (name, size) in SIZES {
        let data = vec![7; size];
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::BytesDecimal(size as u64));
        let [mut alone, _] = shake(&keys);
        let mut out = Vec::new();
        group.bench_function("seal", |bench| {
            bench.iter(|| {
                alone.writer.seal(black_box(&data), &mut out).expect("not too long");
                out.clear();
            });
        });
        // Every opened frame must have been sealed in turn.
        let [mut left, mut right] = shake(&keys);
        let mut input = FrameBuffer::default();
        group.bench_function("open", |bench| {
            bench.iter_batched_ref(
                || {
                    let mut sealed = FrameBuffer::default();
                    left.writer.seal(&data, sealed.spare(0)).expect("not too long");
                    sealed
                },
                |sealed| {
                    black_box(right.reader.open(sealed).expect("an honest peer").expect("a whole frame"));
                },
                BatchSize::SmallInput,
            );
        });
        group.bench_function("seal and open", |bench| {
            let [mut left, mut right] = shake(&keys);
            bench.iter(|| {
                left.writer.seal(black_box(&data), input.spare(0)).expect("not too long");
                black_box(right.reader.open(&mut input).expect("an honest peer").expect("a whole frame"));
            });
        });
        group.finish();
    }
}
