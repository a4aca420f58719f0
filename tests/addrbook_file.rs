//! The address book's file: CometBFT's `addrbook.json`, read and written, and what happens to one that cannot be read.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kadwire::book::{Added, Book, BookConfig, Origin, file};
use kadwire_wire::address::{PeerAddress, PeerId};

/// As CometBFT v0.38 writes it: tabs, local time, three of its own kinds of entry.
const COMETBFT: &str = r#"{
	"key": "0123456789abcdef01234567",
	"addrs": [
		{
			"addr": {
				"id": "00000000000000000000000000000000000000a1",
				"ip": "44.1.2.3",
				"port": 26656
			},
			"src": {
				"id": "00000000000000000000000000000000000000b1",
				"ip": "45.6.7.8",
				"port": 26656
			},
			"buckets": [
				17,
				203
			],
			"attempts": 2,
			"bucket_type": 1,
			"last_attempt": "2023-11-14T23:13:20.123456789+01:00",
			"last_success": "0001-01-01T00:00:00Z",
			"last_ban_time": "0001-01-01T00:00:00Z"
		},
		{
			"addr": {
				"id": "00000000000000000000000000000000000000a2",
				"ip": "2600:1901::17",
				"port": 1
			},
			"src": {
				"id": "00000000000000000000000000000000000000a2",
				"ip": "2600:1901::17",
				"port": 1
			},
			"buckets": [
				63
			],
			"attempts": 0,
			"bucket_type": 2,
			"last_attempt": "2023-11-14T22:13:20Z",
			"last_success": "2023-11-14T22:13:20Z",
			"last_ban_time": "0001-01-01T00:00:00Z"
		}
	]
}"#;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn config() -> BookConfig {
    BookConfig { seed: 7, ..BookConfig::default() }
}

fn peer(n: u64) -> PeerAddress {
    let octets = (0x2c00_0001 + (n as u32) * 256).to_be_bytes();
    PeerAddress::from_socket(id(n), (octets, 26_656).into()).unwrap()
}

fn id(n: u64) -> PeerId {
    format!("{n:040x}").parse().unwrap()
}

#[test]
fn a_file_of_cometbft_is_read_and_written_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("addrbook.json");
    fs::write(&path, COMETBFT).unwrap();
    let loaded = file::load(&path, config(), now()).unwrap();
    assert_eq!((loaded.book.len(), loaded.book.old_len(), loaded.left_out, loaded.set_aside), (2, 1, 0, None));
    assert!(loaded.book.is_good(&id(0xa2)) && !loaded.book.is_good(&id(0xa1)));

    loaded.book.snapshot().write(&path).unwrap();
    let written = fs::read_to_string(&path).unwrap();
    // The same but for the offset of the one local time.
    assert_eq!(written, COMETBFT.replace("23:13:20.123456789+01:00", "22:13:20.123456789Z"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn a_book_saved_by_the_real_cometbft_is_whole() {
    let loaded = file::load(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tendermint/addrbook_cometbft_v0.38.26.json")),
        config(),
        now(),
    );
    let loaded = loaded.unwrap();
    assert_eq!((loaded.book.len(), loaded.book.old_len(), loaded.left_out, loaded.set_aside), (41, 10, 0, None));
    for n in 1..=40 {
        assert_eq!(loaded.book.is_good(&id(n)), n % 4 == 0, "{n}");
    }
}

#[test]
fn bans_and_the_placement_key_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("addrbook.json");
    let mut book = Book::new(config());
    let from = Origin { id: id(9), socket: Some("45.0.0.1:1".parse().unwrap()) };
    for n in 0..50 {
        assert_eq!(book.add(now(), &peer(n), &from), Ok(Added::New));
    }
    book.mark_bad(now(), &id(3), Duration::from_secs(86_400));
    book.mark_bad(now(), &id(99), Duration::from_secs(86_400));
    book.snapshot().write(&path).unwrap();

    let other_seed = BookConfig { seed: 8, ..BookConfig::default() };
    let mut again = file::load(&path, other_seed, now()).unwrap().book;
    assert_eq!((again.len(), again.banned()), (49, 2));
    assert!(again.is_banned(now(), &id(3)) && again.is_banned(now(), &id(99)));
    assert_eq!(again.reinstate(now() + Duration::from_secs(86_401)), 1);
    assert_eq!(again.address_of(&id(3)), Some(&peer(3)));
    let text = |book: &Book| String::from_utf8(book.snapshot().to_json().unwrap()).unwrap();
    assert_eq!(text(&again).lines().nth(1), text(&book).lines().nth(1), "the key");
}

#[test]
fn a_file_that_cannot_be_read_is_set_aside_and_nothing_is_lost() {
    for (name, corrupt) in [
        ("cut", &COMETBFT.as_bytes()[..300]),
        ("empty", b""),
        ("binary", &[0xff, 0, 1, 2]),
        ("another form", b"[1, 2, 3]"),
        ("no key", br#"{"addrs": []}"#),
        ("deep", [b'['; 100_000].as_slice()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("addrbook.json");
        fs::write(&path, corrupt).unwrap();
        let loaded = file::load(&path, config(), now()).unwrap();
        assert!(loaded.book.is_empty(), "{name}");
        let aside = folder.path().join("addrbook.json.corrupt-1700000000");
        assert_eq!(loaded.set_aside.as_ref(), Some(&aside), "{name}");
        assert_eq!(fs::read(aside).unwrap(), corrupt, "{name}");
        assert!(!path.exists(), "{name}");
        loaded.book.snapshot().write(&path).unwrap();
        assert_eq!(file::load(&path, config(), now()).unwrap().set_aside, None);
    }
}

#[test]
fn one_bad_line_does_not_cost_the_others() {
    let entry = |id: &str, ip: &str, more: &str| {
        format!(
            r#"{{"addr": {{"id": "{id}", "ip": "{ip}", "port": 1}}, "src": {{"id": "{id}", "ip": "{ip}", "port": 1}},
            "buckets": [1], "attempts": 0, "bucket_type": 1, "last_attempt": "2023-11-14T22:13:20Z",
            "last_success": "0001-01-01T00:00:00Z", "last_ban_time": "0001-01-01T00:00:00Z"{more}}}"#
        )
    };
    let a = |n: u64| format!("{n:040x}");
    let good = [
        entry(&a(1), "44.0.0.1", ""),
        // Unknown fields, and buckets that do not exist.
        entry(&a(2), "44.0.0.2", r#", "later": true"#).replace("[1]", "[65535, 256, 1]"),
        entry(&a(3), "44.0.0.3", "").replace("[1]", "null"),
        entry(&a(4), "44.0.0.4", "").replace(r#""attempts": 0"#, r#""attempts": -5"#),
    ];
    let bad = [
        entry("xyz", "44.0.0.5", ""),
        entry(&a(6), "44.0.0", ""),
        entry(&a(7), "0.0.0.0", ""),
        entry(&a(8), "10.0.0.1", ""),
        entry(&a(1), "44.0.0.9", ""), // a second one of the same peer
        entry(&a(10), "44.0.0.10", "").replace("2023-11-14T22:13:20Z", "yesterday"),
        entry(&a(11), "44.0.0.11", "").replace(r#""bucket_type": 1"#, r#""bucket_type": 3"#),
        entry(&a(12), "44.0.0.12", "").replace("[1]", "[-1]"),
        r#"{"addr": 5}"#.to_owned(),
        "null".to_owned(),
    ];
    let text =
        format!(r#"{{"key": "k", "addrs": [{}], "banned": [{{"id": 5}}]}}"#, [good.join(","), bad.join(",")].join(","));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("addrbook.json");
    fs::write(&path, text).unwrap();
    let loaded = file::load(&path, config(), now()).unwrap();
    assert_eq!((loaded.book.len(), loaded.left_out, loaded.set_aside), (4, 11, None));
}

#[test]
fn buckets_that_cometbft_overfilled_lose_nothing() {
    // It lets 65 addresses into a bucket of 64; here are 200 that say they are in the same.
    let book = Book::new(config());
    let mut json: serde_json::Value = serde_json::from_slice(&book.snapshot().to_json().unwrap()).unwrap();
    let entry: serde_json::Value = serde_json::from_str(COMETBFT).unwrap();
    let addrs: Vec<_> = (0..200_u64)
        .map(|n| {
            let mut entry = entry["addrs"][(n % 2) as usize].clone();
            entry["addr"]["id"] = id(n).to_string().into();
            entry
        })
        .collect();
    json["addrs"] = addrs.into();
    let (snapshot, unreadable) = kadwire::book::Snapshot::parse(json.to_string().as_bytes()).unwrap();
    let (book, left_out) = Book::restore(config(), now(), snapshot);
    assert_eq!((book.len(), book.old_len(), unreadable, left_out), (200, 100, 0, 0));
}

#[test]
fn a_file_that_may_not_be_opened_is_an_error_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    // A folder in its place: neither missing nor corrupt.
    assert!(file::load(folder.path(), config(), now()).is_err());
    assert!(folder.path().exists());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "test: prints how long saving takes")]
fn ten_thousand_addresses_survive_the_round_trip() {
    let mut book = Book::new(config());
    for n in 0..10_000 {
        let from = Origin { id: id(n), socket: peer(n * 3).socket_addr() };
        book.add(now(), &peer(n), &from).unwrap();
        if n % 3 == 0 {
            book.mark_good(now(), &id(n));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("addrbook.json");
    let start = Instant::now();
    let snapshot = book.snapshot();
    let held = start.elapsed();
    snapshot.write(&path).unwrap();
    println!("{} addresses: the book is held {held:?}, written after {:?}", book.len(), start.elapsed());
    let loaded = file::load(&path, config(), now()).unwrap();
    assert_eq!((loaded.book.len(), loaded.book.old_len(), loaded.left_out), (book.len(), book.old_len(), 0));
}
