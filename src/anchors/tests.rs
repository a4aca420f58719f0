use std::{fs, time::UNIX_EPOCH};

use super::{file::Loaded, *};
use crate::dial::tests::{address, ethereum, ethereum_id, id, peer_at};

const NOW: u64 = 1_700_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Peer `n`, for so many seconds, in the network 44.`n`.
fn peer(n: u32, age: u64) -> Anchor {
    Anchor { address: peer_at(n, &format!("44.{n}.0.1:26656")), since: at(NOW - age), seen: at(NOW) }
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
    let others = (5..=9).map(|n| peer(n, 9_000 + u64::from(n)));
    assert_eq!(choose(&mut anchors, 2, peers().into_iter().chain(others)), [9, 8, 7, 6, 5, 3, 1, 4]);
}

#[test]
fn a_network_has_one() {
    let mut anchors = Anchors::default();
    let beside =
        |n, age| Anchor { address: peer_at(n, &format!("44.1.{n}.1:26656")), since: at(NOW - age), seen: at(NOW) };
    assert_eq!(choose(&mut anchors, 0, [peer(1, 500), beside(2, 800), peer(3, 200)]), [2, 3]);
    // One that is away for long keeps nobody of its network out.
    assert_eq!(choose(&mut anchors, 86_399, [peer(1, 500)]), [2, 3]);
    assert_eq!(choose(&mut anchors, 86_400, [peer(1, 500)]), [1, 3]);
}

/// A network of the operator's own, where all addresses are alike.
#[test]
fn where_networks_do_not_count_there_are_eight_of_one() {
    let mut anchors = Anchors::default();
    let lan = |n| Anchor { address: peer_at(n, &format!("10.0.0.{n}:26656")), ..peer(n, u64::from(n) * 1_000) };
    anchors.choose(at(NOW), (1..20).map(lan).collect(), |_| true, |_| None);
    assert_eq!(kept(&anchors), [19, 18, 17, 16, 15, 14, 13, 12]);
}

/// An attacker that restarts the node again and again is always the first to connect, and some of the honest are away each time.
#[test]
fn restarts_do_not_make_an_anchor_younger() {
    let mut file: Vec<Anchor> = (1..=8).map(|n| peer(n, 1_000)).collect();
    for start in 0..10 {
        let (begin, n) = (u64::from(start) * 300, start % 8 + 1);
        let mut anchors = Anchors::new(file, 16);
        let connected = |n, seconds| {
            let time = at(NOW + begin + seconds);
            Anchor { since: time, seen: time, ..peer(n, 0) }
        };
        let honest: Vec<_> = (1..=8).filter(|other| *other != n).map(|n| connected(n, 1)).collect();
        let theirs: Vec<_> = (11..=18).map(|n| connected(n, 0)).collect();
        let all = || theirs.iter().chain(&honest).cloned();
        assert_eq!(choose(&mut anchors, begin + 60, all()), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(choose(&mut anchors, begin + 240, all()), [1, 2, 3, 4, 5, 6, 7, 8], "{n} is away");
        file = anchors.kept().to_vec();
    }
}

#[test]
fn who_is_away_for_a_day_gives_way_to_who_is_there_and_to_nobody_else() {
    let day = 86_400;
    let mut anchors = Anchors::new(vec![peer(1, 900), peer(2, 800), peer(3, 700)], 4);
    assert_eq!(choose(&mut anchors, 2 * day, []), [1, 2, 3], "the network is gone");
    let there = |n, since: u64| Anchor { since: at(NOW + since), seen: at(NOW + 2 * day), ..peer(n, 0) };
    assert_eq!(choose(&mut anchors, 2 * day, [there(4, 2 * day - 50)]), [1, 2, 3], "it is too young");
    assert_eq!(choose(&mut anchors, 2 * day, [there(4, 1_000), there(2, 2 * day)]), [2, 4, 1, 3], "2 is back");
    let many = |n| there(n, 1_000 + u64::from(n));
    assert_eq!(choose(&mut anchors, 2 * day, (5..=9).map(many)), [2, 4, 5, 6, 7, 8, 9, 1]);
    assert_eq!(choose(&mut anchors, 3 * day, (5..=12).map(many)), [5, 6, 7, 8, 9, 10, 11, 12]);
}

#[test]
fn who_misbehaved_or_is_somebody_else_is_none() {
    let mut anchors = Anchors::new(vec![peer(1, 900), peer(2, 800), peer(3, 700)], 4);
    anchors.forget(&id(1));
    anchors.choose(at(NOW), vec![peer(4, 500), peer(5, 400)], |peer| ![id(2), id(4)].contains(peer), network);
    assert_eq!(kept(&anchors), [3, 5]);
}

/// A clock that was set back makes peers too young; those that were kept stay.
#[test]
fn a_clock_that_is_set_back_costs_nobody() {
    let mut anchors = Anchors::default();
    let peers = || [peer(1, 500), peer(2, 400)];
    choose(&mut anchors, 0, peers());
    anchors.choose(at(NOW - 1_000), vec![peer(1, 500), peer(2, 400), peer(3, 1_200), peer(4, 300)], |_| true, network);
    assert_eq!(kept(&anchors), [3, 1, 2]);
}

#[test]
fn one_after_the_other_is_dialed_until_a_quarter_of_the_places_is_theirs() {
    for (places, theirs) in [(0, 0), (1, 0), (2, 1), (4, 1), (5, 2), (10, 3), (16, 4), (40, 8)] {
        let mut anchors = Anchors::new((1..=9).map(|n| peer(n, 900)).collect(), places);
        assert_eq!(kept(&anchors), [1, 2, 3, 4, 5, 6, 7, 8]);
        let mut dialing = 0;
        while let Some(next) = anchors.next() {
            anchors.start(next.id());
            dialing += 1;
        }
        assert_eq!(dialing, theirs, "{places} places");
    }
    let mut anchors = Anchors::new((1..=4).map(|n| peer(n, 900)).collect(), 8);
    for _ in 0..2 {
        let next = anchors.next().unwrap();
        anchors.start(next.id());
    }
    assert_eq!(anchors.next(), None);
    assert_eq!((anchors.places_kept_from(&id(7)), anchors.places_kept_from(&id(1))), (2, 0));
    anchors.finish(&id(1), true);
    assert_eq!((anchors.next(), anchors.places_kept_from(&id(7))), (None, 1));
    // One that does not become a peer makes room for the next, which is not dialed twice.
    anchors.finish(&id(2), false);
    anchors.finish(&id(7), true);
    assert_eq!((anchors.next(), anchors.places_kept_from(&id(7))), (Some(peer(3, 0).address), 0));
    anchors.start(id(3));
    anchors.finish(&id(3), true);
    assert_eq!((anchors.next(), anchors.dialed(), anchors.reached()), (None, 3, 2));
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

    let other = vec![Anchor { address: ethereum(1), ..peer(1, 0) }];
    file::write(&path, &other).unwrap();
    assert_eq!(read(ethereum_id(0)).anchors, other, "the file is replaced");
}

/// A clock that ran ahead in the last run.
#[test]
fn nobody_is_a_peer_since_tomorrow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anchors.json");
    file::write(&path, &[peer(1, 0)]).unwrap();
    let Anchor { since, seen, .. } = file::load(&path, &id(0), at(NOW - 1_000)).unwrap().anchors[0].clone();
    assert_eq!([since, seen], [at(NOW - 1_000); 2]);
}

#[test]
fn a_file_that_is_not_understood_is_set_aside() {
    let whole = |version: u32, anchors: &[&str]| {
        let line = |address: &&str| {
            format!(r#"{{"address":"{address}","since":"2026-11-22T04:12:05Z","seen":"2026-11-22T05:00:00Z"}}"#)
        };
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
        ("no second time", good.replace("2026-11-22T05", "yesterday")),
        ("too many", whole(1, &[one.as_str(); 9])),
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
