//! Addresses by number, for the tests of the whole peer policy, and the scheduler's own rules.

use std::net::Ipv4Addr;

use super::*;

/// A Tendermint id that starts with the number, so that ids sort like their numbers.
pub(crate) fn id(n: u32) -> PeerId {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    PeerId::Tendermint(bytes)
}

/// A peer of that id at an address of its own, in a /24 of its own up to 65,536 of them, all in 44/8 to 45/8.
pub(crate) fn address(n: u32) -> PeerAddress {
    let ip = Ipv4Addr::from(0x2c00_0001 + ((n & 0xffff) << 8) + (n >> 16));
    PeerAddress::from_socket(id(n), (ip, 26_656).into()).unwrap()
}

/// A peer of that id at a certain address.
pub(crate) fn peer_at(n: u32, at: &str) -> PeerAddress {
    PeerAddress::from_socket(id(n), at.parse().unwrap()).unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const OWN: u32 = 1_000;

fn dialer(change: impl FnOnce(&mut DialConfig)) -> Dialer {
    let mut config = DialConfig { outbound: 4, dialing: 5, ..DialConfig::new(id(OWN)) };
    change(&mut config);
    Dialer::new(config)
}

fn nobody(_: &PeerId) -> Result<(), WhyNot> {
    Ok(())
}

/// An Ethereum id that starts with the number.
pub(crate) fn ethereum_id(n: u32) -> PeerId {
    let mut bytes = [0; 64];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    PeerId::Ethereum(bytes)
}

/// An Ethereum peer of that id at an address of its own, whose world throttles those who come back within 30 s.
pub(crate) fn ethereum(n: u32) -> PeerAddress {
    let ip = address(n).ip().unwrap();
    PeerAddress::from_socket(ethereum_id(n), (ip, 30_303).into()).unwrap()
}

#[test]
fn every_reason_not_to_dial_has_its_name() {
    let now = Now::read();
    let mut dialer = dialer(|config| {
        config.netrestrict = vec!["44.0.0.0/8".parse().unwrap()];
        config.own_sockets = [address(9).socket_addr().unwrap()].into();
    });
    let known = |peer: &PeerId| match peer {
        _ if *peer == id(3) => Err(WhyNot::AlreadyConnected),
        _ if *peer == id(4) => Err(WhyNot::Banned),
        _ => Ok(()),
    };
    dialer.start(now, address(2), Kind::Dynamic);
    for failed in [5, 6] {
        dialer.start(now, address(failed), Kind::Dynamic);
        dialer.failed(now, &address(failed), Blame::Incompatible);
    }
    dialer.disconnected(now, id(7), None, secs(60), None);
    for (peer, at, expected) in [
        (address(1), 0, Ok(())),
        (address(OWN), 0, Err(WhyNot::SelfId)),
        // Another id where we listen ourselves.
        (peer_at(8, &address(9).socket_addr().unwrap().to_string()), 0, Err(WhyNot::SelfId)),
        (address(2), 0, Err(WhyNot::AlreadyDialing)),
        (address(3), 0, Err(WhyNot::AlreadyConnected)),
        (address(4), 0, Err(WhyNot::Banned)),
        (peer_at(1, "45.0.0.1:1"), 0, Err(WhyNot::NetRestricted)),
        (address(5), 0, Err(WhyNot::RecentlyDialed)),
        (address(5), 36, Err(WhyNot::BackingOff)),
        // Back-off and history are of the address, not of the peer.
        (peer_at(5, "44.1.2.3:4"), 0, Ok(())),
        (address(5), 31 * 60, Ok(())),
        (address(7), 1, Err(WhyNot::CoolingDown)),
        (address(7), 2, Ok(())),
        ("abababababababababababababababababababab@seed.example.org:1".parse().unwrap(), 0, Ok(())),
    ] {
        assert_eq!(dialer.check_dial(now.after(secs(at)), &peer, known), expected, "{peer} after {at} s");
    }
}

#[test]
fn with_public_only_no_other_address_is_dialed() {
    let dialer = dialer(|config| config.public_only = true);
    for (at, expected) in [
        ("44.1.2.3:4", Ok(())),
        ("[2a00::1]:4", Ok(())),
        ("10.0.0.1:4", Err(WhyNot::NotPublic)),
        ("100.64.0.1:4", Err(WhyNot::NotPublic)),
        ("127.0.0.1:4", Err(WhyNot::NotPublic)),
        ("169.254.169.254:80", Err(WhyNot::NotPublic)),
        ("[fd00::1]:4", Err(WhyNot::NotPublic)),
        ("[::1]:4", Err(WhyNot::NotPublic)),
    ] {
        assert_eq!(dialer.check_dial(Now::read(), &peer_at(1, at), |_| Ok(())), expected, "{at}");
    }
}

#[test]
fn persistent_peers_of_cometbft_come_back_sooner_than_those_of_ethereum() {
    let (now, mut dialer) = (Now::read(), dialer(|_| {}));
    for address in [address(1), ethereum(2)] {
        dialer.add_persistent(address.clone());
        dialer.start(now, address.clone(), Kind::Persistent);
        assert_eq!(dialer.failed(now, &address, Blame::Local), None);
    }
    let later = |s| now.after(secs(s));
    assert_eq!(dialer.next_persistent(later(1), nobody), None);
    assert_eq!(dialer.next_persistent(later(4), nobody), Some(address(1)));
    dialer.start(later(4), address(1), Kind::Persistent);
    assert_eq!(dialer.next_persistent(later(34), nobody), None);
    assert_eq!(dialer.next_persistent(later(35), nobody), Some(ethereum(2)));
}

#[test]
fn a_persistent_peer_waits_five_minutes_at_most_and_is_never_given_up() {
    let (mut now, mut dialer) = (Now::read(), dialer(|_| {}));
    dialer.add_persistent(address(1));
    for round in 0..40 {
        assert_eq!(dialer.next_persistent(now, nobody), Some(address(1)), "round {round}");
        dialer.start(now, address(1), Kind::Persistent);
        assert_eq!(dialer.failed(now, &address(1), Blame::Local), None);
        let ready = dialer.next_ready(now, false, |_| None).expect("it waits");
        assert!(ready <= now.monotonic + secs(301), "{:?}", ready - now.monotonic);
        now = now.after(ready - now.monotonic);
    }
}

#[test]
fn the_operators_addresses_are_told_from_all_others() {
    let mut dialer = dialer(|_| {});
    dialer.add_persistent(address(1));
    dialer.add_seed(address(2));
    dialer.start(Now::read(), address(3), Kind::Dynamic);
    let named: Vec<_> = (1..=3).map(|n| dialer.is_configured(&address(n))).collect();
    assert_eq!(named, [true, true, false]);
    assert!(!dialer.is_configured(&peer_at(1, "1.2.3.4:5")), "the same peer elsewhere is somebody's claim");
}

#[test]
fn one_seed_at_a_time_is_asked_whichever_and_bootnodes_in_their_turn() {
    let mut first = BTreeSet::new();
    for (fallback, seeds) in [(Some(secs(20)), 1), (None, 20)] {
        for seed in 0..seeds {
            let (mut now, mut dialer) =
                (Now::read(), dialer(|config| (config.fallback, config.seed) = (fallback, seed)));
            (1..=3).for_each(|n| dialer.add_seed(address(n)));
            let mut asked = Vec::new();
            for _ in 0..6 {
                let next = dialer.next_seed(now, nobody).unwrap();
                dialer.start(now, next.clone(), Kind::Seed);
                assert_eq!(dialer.next_seed(now, nobody), None, "one is under way");
                dialer.succeeded(&next);
                asked.push(next);
                now = now.after(secs(20));
            }
            match fallback {
                Some(_) => assert_eq!(asked, [1, 2, 3, 1, 2, 3].map(address)),
                None => _ = first.insert(asked.swap_remove(0)),
            }
        }
    }
    assert_eq!(first, [1, 2, 3].map(address).into());
}

#[test]
fn discovery_is_not_asked_for_a_peer_whose_address_the_operator_gave_later() {
    let (now, mut dialer) = (Now::read(), dialer(|_| {}));
    dialer.add_unplaced(id(1));
    dialer.add_persistent(address(1));
    assert_eq!(dialer.next_to_resolve(now), None);
}

#[test]
fn an_address_is_given_up_if_it_is_false_or_fails_too_often() {
    let (mut now, mut dialer) = (Now::read(), dialer(|_| {}));
    dialer.start(now, address(1), Kind::Dynamic);
    assert_eq!(dialer.failed(now, &address(1), Blame::Incompatible), Some(GiveUp::NotAsSaid));
    for failure in 1..=MAX_FAILURES + 1 {
        dialer.start(now, address(2), Kind::Dynamic);
        let given_up = dialer.failed(now, &address(2), Blame::Local);
        assert_eq!(given_up, (failure > MAX_FAILURES).then_some(GiveUp::TooOften), "failure {failure}");
        now = now.after(secs(3_600));
    }
}

#[test]
fn a_connection_that_ends_at_once_counts_as_a_failed_dial() {
    let (now, mut dialer) = (Now::read(), dialer(|_| {}));
    let mut connect = |lasted, by_us: bool| {
        dialer.start(now, address(1), Kind::Dynamic);
        assert_eq!(dialer.succeeded(&address(1)), Some(Kind::Dynamic));
        let failed = (!by_us).then_some(WhyFailed::EndedAtOnce);
        dialer.disconnected(now, id(1), Some(&address(1)), secs(lasted), failed);
        dialer.failures_of(&id(1))
    };
    assert_eq!(connect(1, false), 1);
    assert_eq!(connect(9, false), 2);
    assert_eq!(connect(1, true), 2, "we ended it");
    assert_eq!(connect(10, false), 0, "it lasted");
}

#[test]
fn an_answer_to_no_dial_changes_nothing() {
    let (now, mut dialer) = (Now::read(), dialer(|_| {}));
    dialer.start(now, address(1), Kind::Dynamic);
    assert_eq!(dialer.succeeded(&address(2)), None);
    // The right peer at another address than the one that is dialed.
    assert_eq!(dialer.failed(now, &peer_at(1, "44.1.2.3:4"), Blame::Local), None);
    assert_eq!(dialer.dialing().count(), 1);
}

#[test]
fn dials_are_paced_in_the_long_run() {
    let (mut now, mut dialer) = (Now::read(), dialer(|_| {}));
    let mut started = 0;
    // Every dial is refused at once, for ten seconds: without a pace this would never end.
    for n in 0..100_000 {
        if dialer.pace_allows(now) {
            dialer.start(now, address(n), Kind::Dynamic);
            dialer.failed(now, &address(n), Blame::Local);
            started += 1;
        } else {
            now = now.after(Duration::from_millis(1));
        }
        if n == 10_000 {
            break;
        }
    }
    // Ten at once, then five a second.
    assert!((50..=62).contains(&started), "{started}");
}

#[test]
fn discovery_is_asked_for_twice_the_free_places_less_what_waits() {
    let (now, mut dialer) = (Now::read(), dialer(|config| config.dialing = 6));
    for (connected, wanted) in [(0, 6), (1, 6), (2, 4), (3, 2), (4, 0), (9, 0)] {
        assert_eq!(dialer.wanted(connected), wanted, "{connected} connected");
    }
    dialer.add_candidate(now, address(1), nobody).unwrap();
    assert_eq!((dialer.wanted(3), dialer.room(3)), (1, 2));
    dialer.start(now, address(2), Kind::Dynamic);
    dialer.start(now, address(3), Kind::Persistent);
    assert_eq!((dialer.wanted(3), dialer.room(3), dialer.room(0)), (1, 1, 4));
}

#[test]
fn every_reason_has_a_name_of_its_own_and_a_counter() {
    let names: BTreeSet<&str> = WhyNot::ALL.iter().map(|why| why.name()).collect();
    assert_eq!(names.len(), WhyNot::ALL.len());
    let mut refusals = Refusals::default();
    for (times, why) in WhyNot::ALL.iter().enumerate() {
        (0..times).for_each(|_| assert_eq!(refusals.count(*why), *why));
    }
    assert!(refusals.iter().enumerate().all(|(times, (_, count))| count == times as u64));
}
