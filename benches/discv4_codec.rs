//! What does a discv4 packet cost: to read, to authenticate, to write? One core, no socket, no machine.
//!
//! `cargo bench --bench discv4_codec`. The reference figures printed first were measured elsewhere (two cores, loopback,
//! go-ethereum v1.17.10) and are there to compare orders of magnitude; a fair comparison needs both sides in one run.

use std::{
    hint::black_box,
    net::{Ipv4Addr, SocketAddr},
};

use criterion::{BatchSize, Criterion};
use kadwire_discovery::{
    Enr, NodeRecord, SecretKey,
    discv4::{
        message::{Endpoint, EnrResponse, FindNode, Message, Neighbor, Neighbors, Ping, Pong},
        packet::{Signer, Unverified, encode},
    },
};

const REFERENCE: &str = "\
reference figures, measured elsewhere (not in this run):
  ping -> pong served           200 us CPU (go-ethereum v1.17.10)   limit by primitives: 118 us (k256 0.14), 73 us (libsecp256k1)
  findnode -> 16 nodes served   312 us CPU (go-ethereum v1.17.10)   limit by primitives: 167 us (k256 0.14), 115 us (libsecp256k1)
  garbage datagram              5-9 us CPU (go-ethereum v1.17.10)   limit by primitives: about 2.5 us
  recover a signer               77 us (k256 0.14)                  40 us (libsecp256k1)
  sign                           36 us (k256 0.14)                  28.5 us (libsecp256k1)
";

fn main() {
    println!("{REFERENCE}");
    let mut criterion = Criterion::default().configure_from_args();
    codec(&mut criterion);
    served(&mut criterion);
    criterion.final_summary();
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32]).expect("a small scalar is a key")
}

fn endpoint() -> Endpoint {
    Endpoint::new(SocketAddr::from(([127, 0, 0, 1], 30303)), 30303)
}

fn neighbors(count: u8) -> Message {
    let node = |number| {
        let record = NodeRecord::new(*key(number).public(), [10, 0, 0, number].into(), 30303, 30303);
        Neighbor::from(&record.expect("a private address is an endpoint"))
    };
    Message::Neighbors(Neighbors { nodes: (1..=count).map(node).collect(), skipped: 0, expiration: u64::MAX })
}

fn ping() -> Message {
    Message::Ping(Ping { version: 4, from: endpoint(), to: endpoint(), expiration: u64::MAX, enr_seq: Some(1) })
}

fn pong() -> Message {
    Message::Pong(Pong { to: endpoint(), ping_hash: [7; 32], expiration: u64::MAX, enr_seq: Some(1) })
}

fn find_node() -> Message {
    Message::FindNode(FindNode { target: [9; 64], expiration: u64::MAX })
}

fn enr_response() -> Message {
    let record = Enr::builder(1).ip(Ipv4Addr::LOCALHOST).udp(30303).tcp(30303).sign(&key(1));
    Message::EnrResponse(EnrResponse { request_hash: [7; 32], record: record.expect("a small record") })
}

fn codec(criterion: &mut Criterion) {
    let key = key(1);
    let messages = [
        ("ping", ping()),
        ("findnode", find_node()),
        ("neighbors of 12", neighbors(12)),
        ("enr response", enr_response()),
    ];
    for (name, message) in messages {
        let datagram = encode(&key, &message).datagram;
        let mut group = criterion.benchmark_group(name);
        group.bench_function("parse", |bench| bench.iter(|| Unverified::parse(black_box(&datagram))));
        group.bench_function("recover", |bench| {
            let parsed = || Unverified::parse(&datagram).expect("our own datagram");
            bench.iter_batched(parsed, Unverified::recover, BatchSize::SmallInput);
        });
        for count in [1, 4] {
            group.bench_function(format!("recover {count} at once, signers likely"), |bench| {
                let parsed = || Unverified::parse(&datagram).expect("our own datagram");
                let likely = Some(Signer::from(*key.public()));
                let packets = || (0..count).map(|_| (parsed(), likely)).collect();
                bench.iter_batched(packets, Unverified::recover_all, BatchSize::SmallInput);
            });
        }
        group.bench_function("encode", |bench| bench.iter(|| encode(&key, black_box(&message))));
        group.finish();
    }
    let garbage = [0x5a; 1280];
    criterion.bench_function("garbage of 1280 bytes/parse", |bench| {
        bench.iter(|| Unverified::parse(black_box(&garbage)));
    });
}

/// Everything of an answered request but the socket and the machine.
fn served(criterion: &mut Criterion) {
    let key = key(1);
    let read = |datagram: &[u8]| Unverified::parse(datagram).and_then(Unverified::recover);
    let (ping, pong) = (encode(&key, &ping()).datagram, pong());
    criterion.bench_function("served/ping -> pong", |bench| {
        bench.iter(|| (read(black_box(&ping)), encode(&key, &pong)));
    });
    let (find_node, answers) = (encode(&key, &find_node()).datagram, [neighbors(12), neighbors(4)]);
    criterion.bench_function("served/findnode -> 16 nodes", |bench| {
        bench.iter(|| (read(black_box(&find_node)), answers.each_ref().map(|answer| encode(&key, answer))));
    });
}
