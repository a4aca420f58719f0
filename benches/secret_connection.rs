//! What does an encrypted, authenticated stream cost: to set up, and per byte? One core, no socket.
//!
//! `cargo bench --bench secret_connection`. The reference figures printed first were measured elsewhere; a fair comparison
//! needs both sides in one run: `benches/versus/run mconn`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use kadwire_wire::tendermint::{
    key::NodeKey,
    secret_connection::{Handshake, OpenBuffer, SealBuffer, Secured},
};
use rand::{SeedableRng, rngs::StdRng};

const REFERENCE: &str = "\
reference figures, measured elsewhere (CometBFT v0.38.26 and v1.0.1, on two cores over loopback, sockets included):
  handshake, CPU per side   390-790 us (v0.38.26)   990-1200 us (v1.0.1)   limit by primitives: 110-160 us
  64 KB writes              324 MB/s (v0.38.26)     643 MB/s (v1.0.1)      limit by primitives: about 925 MB/s per core (ring)
";

/// One write, in bytes.
const WRITE: usize = 64 * 1024;

fn main() {
    println!("{REFERENCE}");
    let mut criterion = Criterion::default().configure_from_args();
    handshake(&mut criterion);
    frames(&mut criterion);
    criterion.final_summary();
}

/// Both sides' results, everything computed in this thread.
fn shake(keys: [&NodeKey; 2]) -> [Secured; 2] {
    let mut rng = StdRng::seed_from_u64(1);
    let mut sides = keys.map(|key| Handshake::new(key, &mut rng));
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

fn handshake(criterion: &mut Criterion) {
    let keys = [NodeKey::from_seed(&[1; 32]), NodeKey::from_seed(&[2; 32])];
    criterion.bench_function("handshake/both sides", |bench| bench.iter(|| shake([&keys[0], &keys[1]])));
}

fn frames(criterion: &mut Criterion) {
    let keys = [NodeKey::from_seed(&[1; 32]), NodeKey::from_seed(&[2; 32])];
    let [mut left, mut right] = shake([&keys[0], &keys[1]]);
    let data = vec![7; WRITE];
    let (mut out, mut input) = (SealBuffer::default(), OpenBuffer::default());
    let mut group = criterion.benchmark_group("64 KB");
    group.throughput(Throughput::BytesDecimal(WRITE as u64));
    // Every opened frame must have been sealed in turn, so sealing is measured first, with ciphers of its own.
    let [mut alone, _] = shake([&keys[0], &keys[1]]);
    group.bench_function("seal", |bench| {
        bench.iter(|| {
            out.put(black_box(&data));
            out.seal(&mut alone.sealer).expect("nonces are left");
            out.clear();
        });
    });
    let mut sealed = || {
        let mut out = SealBuffer::default();
        out.put(&data);
        out.seal(&mut left.sealer).expect("nonces are left");
        out
    };
    group.bench_function("open", |bench| {
        bench.iter_batched(
            &mut sealed,
            |frames| {
                input.spare(frames.len()).extend_from_slice(frames.sealed());
                input.open(&mut right.opener).expect("an honest peer");
                input.consume(black_box(input.plaintext()).len());
                frames
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}
