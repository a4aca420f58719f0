use std::{fs, time::UNIX_EPOCH};

use super::{file::Loaded, *};
use crate::dial::tests::{address, ethereum, ethereum_id, id, peer_at};

const NOW: u64 = 1_700_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Peer `n`, for so many seconds, in the network 44.`n`.
fn peer(n: u32, age: u64) -> Anchor {
    Anchor { address: peer_at(n, &format!("44.{n}.0.1:26656")), since: at(NOW - age) }
}

fn network(address: &PeerAddress) -> Option<Group> {
    Some(Group::of(address, true))
}

/// The numbers of those that are kept.
fn kept(anchors: &Anchors) -> Vec<u32> {
    let number = |anchor: &Anchor| (0..100).find(|n| id(*n) == anchor.address.id()).unwrap();
    anchors.kept().iter().map(number).collect()
}

/// Chooses `seconds` after [`NOW`] among peers that are connected then; ages are as of [`NOW`].
fn choose(anchors: &mut Anchors, seconds: u64, peers: impl IntoIterator<Item = Anchor>) -> Vec<u32> {
    anchors.choose(at(NOW + seconds), peers.into_iter().collect(), |_| true, network);
    kept(anchors)
}

#[test]
fn those_we_had_longest_are_kept_and_not_the_young() {
    let mut anchors = Anchors::default();
    let peers = || [peer(1, 500), peer(2, 104), peer(3, 900), peer(4, 105)];
    assert_eq!(choose(&mut anchors, 0, peers()), [3, 1, 4]);
    assert_eq!(choose(&mut anchors, 1, peers()), [3, 1, 4, 2]);
    assert_eq!(choose(&mut anchors, 2, peers().into_iter().chain([peer(5, 9_000)])), [5, 3, 1, 4]);
}

#[test]
fn a_network_has_one() {
    let mut anchors = Anchors::default();
    let beside = |n, age| Anchor { address: peer_at(n, &format!("44.1.{n}.1:26656")), since: at(NOW - age) };
    assert_eq!(choose(&mut anchors, 0, [peer(1, 500), beside(2, 800), peer(3, 200)]), [2, 3]);
    // One that is away keeps nobody of its network out.
    assert_eq!(choose(&mut anchors, 0, [peer(1, 500)]), [1, 3]);
}

/// A network of the operator's own, where all addresses are alike.
#[test]
fn where_networks_do_not_count_there_are_four_of_one() {
    let mut anchors = Anchors::default();
    let lan = |n| Anchor { address: peer_at(n, &format!("10.0.0.{n}:26656")), since: at(NOW - u64::from(n) * 1_000) };
    anchors.choose(at(NOW), (1..9).map(lan).collect(), |_| true, |_| None);
    assert_eq!(kept(&anchors), [8, 7, 6, 5]);
}

/// An attacker that restarts the node again and again is always the first to connect, and never becomes an anchor.
#[test]
fn restarts_do_not_make_an_anchor_younger() {
    let mut file: Vec<Anchor> = (1..=4).map(|n| peer(n, 1_000)).collect();
    for start in (0..10).map(|start| start * 300) {
        let mut anchors = Anchors::new(file, 5);
        assert_eq!(std::iter::from_fn(|| anchors.next()).count(), 4);
        let connected = |n, seconds| Anchor { since: at(NOW + start + seconds), ..peer(n, 0) };
        let honest = [1, 2, 3, 4].map(|n| connected(n, 1));
        let theirs = [11, 12, 13, 14, 15, 16].map(|n| connected(n, 0));
        let all = || theirs.clone().into_iter().chain(honest.clone());
        assert_eq!(choose(&mut anchors, start + 60, all()), [1, 2, 3, 4]);
        assert_eq!(choose(&mut anchors, start + 240, all()), [1, 2, 3, 4]);
        file = anchors.kept().to_vec();
    }
}

#[test]
fn who_is_away_gives_way_to_who_is_there_and_to_nobody_else() {
    let mut anchors = Anchors::new(vec![peer(1, 900), peer(2, 800), peer(3, 700)], 4);
    assert_eq!(choose(&mut anchors, 0, []), [1, 2, 3], "the network is gone");
    assert_eq!(choose(&mut anchors, 0, [peer(4, 50)]), [1, 2, 3], "it is too young");
    assert_eq!(choose(&mut anchors, 0, [peer(4, 200), peer(2, 10)]), [2, 4, 1, 3], "2 is back");
    assert_eq!(choose(&mut anchors, 0, [peer(4, 200), peer(5, 300), peer(6, 400), peer(7, 500)]), [7, 6, 5, 4]);
}

#[test]
fn who_misbehaved_or_is_somebody_else_is_none() {
    let mut anchors = Anchors::new(vec![peer(1, 900), peer(2, 800), peer(3, 700)], 4);
    anchors.forget(&id(1));
    anchors.choose(at(NOW), vec![peer(4, 500), peer(5, 400)], |peer| ![id(2), id(4)].contains(peer), network);
    assert_eq!(kept(&anchors), [5, 3]);
}

/// A clock that was set back makes peers too young; those that were kept stay.
#[test]
fn a_clock_that_is_set_back_costs_nobody() {
    let mut anchors = Anchors::default();
    let peers = || [peer(1, 500), peer(2, 400)];
    choose(&mut anchors, 0, peers());
    anchors.choose(at(NOW - 1_000), vec![peer(1, 500), peer(2, 400), peer(3, 1_200)], |_| true, network);
    assert_eq!(kept(&anchors), [3, 1, 2]);
}

#[test]
fn at_most_so_many_are_dialed_each_once() {
    let mut anchors = Anchors::new((1..=9).map(|n| peer(n, 900)).collect(), 2);
    assert_eq!(kept(&anchors), [1, 2, 3, 4]);
    assert_eq!(
        [anchors.next(), anchors.next(), anchors.next()],
        [Some(peer(1, 0).address), Some(peer(2, 0).address), None]
    );
    anchors.start(id(1));
    anchors.start(id(2));
    assert_eq!((anchors.places_kept_from(&id(7)), anchors.places_kept_from(&id(1))), (2, 0));
    anchors.finish(&id(1), true);
    anchors.finish(&id(2), false);
    anchors.finish(&id(7), true);
    assert_eq!((anchors.places_kept_from(&id(7)), anchors.dialed(), anchors.reached()), (0, 2, 1));
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anchors.json");
    let read = |own| file::load(&path, &own, at(NOW)).unwrap();
    assert!(read(id(0)).anchors.is_empty(), "there is no file");
    let anchors = vec![peer(1, 900), peer(2, 800)];
    file::write(&path, &anchors).unwrap();
    assert_eq!(read(id(0)).anchors, anchors);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"2023-11-14T21:58:20Z\"") && text.contains("@44.1.0.1:26656"), "{text}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    let other = vec![Anchor { address: ethereum(1), since: at(NOW) }];
    file::write(&path, &other).unwrap();
    assert_eq!(read(ethereum_id(0)).anchors, other, "the file is replaced");
}

/// A clock that ran ahead in the last run.
#[test]
fn nobody_is_a_peer_since_tomorrow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anchors.json");
    file::write(&path, &[peer(1, 0)]).unwrap();
    assert_eq!(file::load(&path, &id(0), at(NOW - 1_000)).unwrap().anchors[0].since, at(NOW - 1_000));
}

#[test]
fn a_file_that_is_not_understood_is_set_aside() {
    let whole = |version: u32, anchors: &[&str]| {
        let line = |address: &&str| format!(r#"{{"address":"{address}","since":"2026-11-22T04:12:05Z"}}"#);
        let lines: Vec<_> = anchors.iter().map(line).collect();
        format!(r#"{{"version":{version},"anchors":[{}]}}"#, lines.join(","))
    };
    let one = address(1).to_string();
    let good = whole(1, &[&one]);
    for (what, text) in [
        ("torn", good[..good.len() - 3].to_owned()),
        ("empty", String::new()),
        ("no JSON", "anchors".to_owned()),
        ("another version", whole(2, &[])),
        ("another form of another version", r#"{"version":2,"anchors":{}}"#.to_owned()),
        ("another wire", whole(1, &[&ethereum(1).to_string()])),
        ("a name", whole(1, &[&format!("{}@example.org:26656", "07".repeat(20))])),
        ("no address", whole(1, &["44.1.0.1:26656"])),
        ("no time", good.replace("2026-11-22T04", "yesterday")),
        ("too many", whole(1, &[one.as_str(); 5])),
        ("too long", " ".repeat(70_000) + &good),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anchors.json");
        fs::write(&path, &text).unwrap();
        let Loaded { anchors, set_aside } = file::load(&path, &id(0), at(NOW)).unwrap();
        let aside = set_aside.unwrap_or_else(|| panic!("{what} is set aside"));
        assert_eq!(aside, folder.path().join("anchors.json.corrupt-1700000000"), "{what}");
        assert_eq!((anchors, fs::read_to_string(&aside).unwrap(), path.exists()), (vec![], text, false), "{what}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anchors.json");
    fs::write(&path, good).unwrap();
    assert_eq!(file::load(&path, &id(0), at(NOW)).unwrap().anchors[0].address, address(1));
    assert!(file::load(folder.path(), &id(0), at(NOW)).is_err(), "a folder is not touched");
}
