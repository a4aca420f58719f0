//! What does a book of 10,000 addresses cost: an answer with a bias, a seed's answer, an ordinary one, a dial's pick, an add, a save and a load?
//!
//! `cargo bench --bench address_book`. The reference figures printed first were measured elsewhere.

use std::{
    net::Ipv4Addr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use criterion::{BatchSize, Criterion};
use kadwire::{
    book::{Book, BookConfig, Origin, Snapshot, file},
    peers::ConnectionId,
    seed::{self, Action, Seed, Visited},
};
use kadwire_discovery::Now;
use kadwire_wire::{
    address::{PeerAddress, PeerId},
    tendermint::{node_info::NodeInfo, pex_message::PexMessage},
};

const REFERENCE: &str = "\
reference figures, measured elsewhere (CometBFT v0.38.26, 10,000 addresses):
  GetSelection, GetSelectionWithBias(30)   1.1 to 2.0 ms, with the book locked
  Save                                     the book is locked until the file is written
";

const ADDRESSES: u32 = 10_000;

fn main() {
    println!("{REFERENCE}");
    let mut criterion = Criterion::default().configure_from_args();
    let mut book = full();
    println!("{} addresses, {} of them reached", book.len(), book.old_len());
    let mut group = criterion.benchmark_group("address book");
    group.bench_function("an answer with a bias", |bench| bench.iter(|| book.selection_with_bias(30)));
    group.bench_function("an answer with a bias, encoded", |bench| {
        bench.iter(|| PexMessage::addresses(book.selection_with_bias(30)).encode());
    });
    let mut seed = serving();
    println!("a seed that serves {}", seed.status().reachable);
    let mut number = 0;
    group.bench_function("a seed's answer: from a guest's handshake to its leaving, encoded", |bench| {
        bench.iter(|| {
            number += 1;
            answer(&mut seed, ConnectionId(number))
        });
    });
    group.bench_function("an ordinary answer", |bench| bench.iter(|| book.selection()));
    let mut crowded = crowded();
    println!("{} addresses, {} reached, with one host's 10,000 identities", crowded.len(), crowded.old_len());
    group.bench_function("a seed's answer, one host has 10,000 identities", |bench| {
        bench.iter(|| crowded.selection_with_bias(30));
    });
    group.bench_function("pick one to dial", |bench| bench.iter(|| book.pick(30).cloned()));
    let mut n = ADDRESSES;
    group.bench_function("add an unknown address", |bench| {
        bench.iter_batched(
            || {
                n += 1;
                (address(n), origin(n))
            },
            |(address, origin)| book.add(now(), &address, &origin),
            BatchSize::SmallInput,
        );
    });
    let mut book = full();
    let known: Vec<PeerAddress> = book.addresses().cloned().collect();
    let mut at = known.iter().cycle();
    group.bench_function("mark good", |bench| {
        bench.iter(|| book.mark_good(now(), &at.next().expect("there are addresses").id()));
    });
    let book = full();
    group.bench_function("save: the time that the book waits", |bench| bench.iter(|| book.snapshot()));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("addrbook.json");
    group.bench_function("save: with file and sync, beside the book", |bench| {
        bench.iter(|| book.snapshot().write(&path).expect("the disk takes it"));
    });
    group.bench_function("save: the text alone", |bench| {
        bench.iter(|| book.snapshot().to_json().expect("it has a text"))
    });
    let bytes = book.snapshot().to_json().expect("it has a text");
    group.bench_function("load: the text alone", |bench| {
        bench.iter(|| Book::restore(config(), now(), Snapshot::parse(&bytes).expect("our own text").0));
    });
    group.bench_function("load: with the file", |bench| {
        bench.iter(|| file::load(&path, config(), now()).expect("our own file"));
    });
    group.finish();
    criterion.final_summary();
}

/// Every third was reached; a few find no room.
fn full() -> Book {
    let mut book = Book::new(config());
    for n in 0..ADDRESSES {
        let _ = book.add(now(), &address(n), &origin(n));
        if n % 3 == 0 {
            book.mark_good(now(), &id(n));
        }
    }
    book
}

/// One host listens on 10,000 ports too, and all were reached.
fn crowded() -> Book {
    let mut book = full();
    for port in 1..=10_000_u16 {
        let socket = (Ipv4Addr::new(199, 1, 1, 1), port).into();
        let address = PeerAddress::from_socket(id(1_000_000 + u32::from(port)), socket).expect("it is a peer's");
        book.mark_reached(now(), &address);
    }
    book
}

/// A seed that has reached everybody that its book has room for.
fn serving() -> Seed {
    let mut book = Book::new(config());
    for n in 0..ADDRESSES {
        let _ = book.add(now(), &address(n), &origin(n));
    }
    let now = Now::read();
    let mut seed = Seed::new(now, seed::Config::new(id(u32::MAX)), book);
    while let Some(visit) = seed.poll_visit(now) {
        seed.handle_visited(now, &visit.address, Visited::Reached { remote: None, answer: None });
    }
    seed
}

/// One of those served dials, asks and leaves.
fn answer(seed: &mut Seed, number: ConnectionId) -> Vec<u8> {
    let (now, at) = (Now::read(), address(0));
    let mut node_info = NodeInfo::new(at.id().tendermint().expect("a Tendermint id"), "chain", "guest");
    node_info.listen_addr = "0.0.0.0:26656".to_owned();
    seed.handle_incoming(now, number, None).expect("there is room");
    seed.handle_accepted(now, number, at.socket_addr(), &node_info).expect("there is room");
    seed.handle_message(now, number, &PexMessage::Request.encode());
    let Some(Action::Answer(_, message)) = seed.poll_action() else { panic!("hundreds are served: an answer at once") };
    seed.handle_closed(now, number);
    message.encode()
}

fn config() -> BookConfig {
    BookConfig { seed: 1, ..BookConfig::default() }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn id(n: u32) -> PeerId {
    let mut id = [0; 20];
    id[..4].copy_from_slice(&n.to_be_bytes());
    PeerId::Tendermint(id)
}

fn address(n: u32) -> PeerAddress {
    let ip = Ipv4Addr::from(0x2c00_0001_u32.wrapping_add(n << 8));
    PeerAddress::from_socket(id(n), (ip, 26_656).into()).expect("44.0/8 and later networks are peers'")
}

/// Told by 997 peers, in turn.
fn origin(n: u32) -> Origin {
    let from = address(n % 997 * 64);
    Origin { id: from.id(), socket: from.socket_addr() }
}
