//! What peers say goes to the book, within limits, and from there to the dialer.

use std::net::{IpAddr, Ipv4Addr};

use kadwire_wire::{Blame, address::PeerAddress};

use super::{Rounds, secs};
use crate::{
    book::{Book, BookConfig, NotAdded},
    candidate::{Candidate, Source},
    dial::tests::{address, id, peer_at},
    peers::{Action, Answered, Config, ConnectionId, PeerManager, Refused, Slots},
};

fn answer(manager: &mut PeerManager, now: kadwire_discovery::Now, addresses: Vec<PeerAddress>) -> Answered {
    manager.add_answer(now, &id(1), addresses).unwrap()
}

#[test]
fn one_answer_brings_at_most_a_hundred_addresses_and_32_of_a_group() {
    let of_group = |n: u32| {
        PeerAddress::from_socket(id(n), (IpAddr::from(Ipv4Addr::new(60, 1, 0, (n % 250) as u8 + 1)), 1).into())
    };
    Rounds::new(Slots { outbound: 0, ..Slots::default() }).accepted([1]).then(|manager, now| {
        let from_one_group: Vec<_> = (2_000..2_200).map(|n| of_group(n).unwrap()).collect();
        assert_eq!(answer(manager, now, from_one_group), Answered { new: 32, beyond: 168, ..Answered::default() });
        // Every tenth of 44/8's /16s: 256 addresses each.
        let from_many: Vec<_> = (0..900).map(|n| address(10_000 + n * 37)).collect();
        let answered = answer(manager, now, from_many);
        assert_eq!((answered.new, answered.beyond), (100, 800));
        assert_eq!(manager.book().len(), 132);
    });
}

#[test]
fn a_private_network_in_its_own_book_is_not_limited_by_group() {
    let book = Book::new(BookConfig { strict: false, ..BookConfig::default() });
    let mut manager = PeerManager::new(Config::new(id(1_000)), book);
    let now = kadwire_discovery::Now::read();
    manager.handle_incoming(now, ConnectionId(1), None).unwrap();
    manager.handle_accepted(now, ConnectionId(1), id(1), None).unwrap();
    let local: Vec<_> = (2_000..2_090).map(|n| peer_at(n, &format!("127.0.0.1:{n}"))).collect();
    assert_eq!(answer(&mut manager, now, local), Answered { new: 90, ..Answered::default() });
}

#[test]
fn nobody_speaks_for_others_and_only_connected_peers_are_heard() {
    Rounds::new(Slots { outbound: 0, ..Slots::default() }).accepted([1]).then(|manager, now| {
        let mut add = |address: PeerAddress, source| manager.add(now, Candidate::new(address, source));
        let own_ip = |port: u16| peer_at(1, &format!("{}:{port}", address(1).ip().unwrap()));
        assert_eq!(add(address(2), Source::Pex(id(3))), Err(Refused::UnknownSource));
        assert_eq!(add(address(2), Source::Inbound), Err(Refused::UnknownSource));
        assert_eq!(add(peer_at(2, "10.0.0.1:1"), Source::Pex(id(1))), Err(Refused::Book(NotAdded::NotRoutable)));
        assert_eq!(add(own_ip(26_656), Source::Inbound), Ok(()));
        // It is looked into, and neither kept nor told to anybody before we reached it.
        assert_eq!(manager.poll_action(), Some(Action::Probe(own_ip(26_656))));
        assert_eq!((manager.book().len(), manager.advertise(&id(9))), (0, vec![]));
        manager.handle_probed(now, &own_ip(26_656));
        assert_eq!(manager.advertise(&id(9)), [own_ip(26_656)]);
        assert_eq!(manager.advertise(&id(1)), [], "nobody is told of itself");
    });
}

#[test]
fn the_answer_of_a_seed_that_has_hung_up_is_heard_but_not_of_one_that_broke_the_rules() {
    let told =
        |manager: &mut PeerManager, now, by: u32, of: u32| manager.add_answer(now, &id(by), vec![address(of)]).is_ok();
    Rounds::new(Slots { outbound: 0, ..Slots::default() })
        .accepted([1, 2])
        .closed([1])
        .closed_by([2], Blame::Misbehaved)
        .then(|manager, now| {
            assert!(told(manager, now, 1, 10));
            assert!(!told(manager, now, 2, 11));
        })
        .after(secs(11))
        .then(|manager, now| assert!(!told(manager, now, 1, 12)));
}

#[test]
fn whom_we_dialed_does_not_say_where_it_is() {
    Rounds::new(Slots::default()).connected([1]).then(|manager, now| {
        let claim = Candidate::new(peer_at(1, "50.0.0.1:1"), Source::Inbound);
        assert_eq!(manager.add(now, claim), Err(Refused::Reached));
        assert_eq!(manager.poll_action(), None);
    });
}

/// Identities are free: each of an attacker's could name a port of its victim.
#[test]
fn strangers_do_not_make_us_knock_at_somebody_elses_door_more_than_five_times_a_minute() {
    let mut manager = PeerManager::new(Config::new(id(1_000)), Book::new(BookConfig::default()));
    let now = kadwire_discovery::Now::read();
    let mut knocks = |now, ns: std::ops::RangeInclusive<u32>, host: &str| {
        for n in ns {
            let connection = ConnectionId(n.into());
            manager.handle_incoming(now, connection, address(n).ip()).unwrap();
            manager.handle_accepted(now, connection, id(n), address(n).socket_addr()).unwrap();
            let _ = manager.add(now, Candidate::new(peer_at(n, &format!("{host}:{n}")), Source::Inbound));
            manager.handle_closed(now, connection, Blame::Local);
        }
        std::iter::from_fn(|| manager.poll_action()).filter(|action| matches!(action, Action::Probe(_))).count()
    };
    assert_eq!(knocks(now, 1..=200, "51.1.1.1"), 5);
    // Others are looked into, another port or address of the same IPv6 host is not.
    assert_eq!(knocks(now, 201..=203, "51.1.1.2"), 3);
    assert_eq!((knocks(now, 204..=210, "[2600::1:1]"), knocks(now, 211..=213, "[2600::2:1]")), (5, 0));
    assert_eq!(knocks(now.after(secs(59)), 214..=220, "51.1.1.1"), 0);
    assert_eq!(knocks(now.after(secs(60)), 221..=230, "51.1.1.1"), 5);
}

/// 200 such handshakes left a CometBFT node's book with 61 fakes of 65.
#[test]
fn fakes_that_are_not_where_they_say_leave_the_book_empty() {
    let mut manager = PeerManager::new(Config::new(id(1_000)), Book::new(BookConfig::default()));
    let now = kadwire_discovery::Now::read();
    for n in 1..=200 {
        let connection = ConnectionId(n.into());
        manager.handle_incoming(now, connection, address(n).ip()).unwrap();
        manager.handle_accepted(now, connection, id(n), address(n).socket_addr()).unwrap();
        manager.add(now, Candidate::new(address(n), Source::Inbound)).unwrap();
        assert_eq!(manager.poll_action(), Some(Action::Probe(address(n))));
        assert!(manager.book().is_empty(), "before it is found");
        manager.handle_probe_failed(now, &address(n));
        manager.handle_closed(now, connection, Blame::Local);
    }
    assert!(manager.book().is_empty());
}

#[test]
fn one_that_refuses_our_ip_is_dialed_when_it_is_gone_and_one_of_an_ip_and_not_told_of_before() {
    let one_ip = |n: u32, port: u16| peer_at(n, &format!("44.1.1.1:{port}"));
    let mut manager = PeerManager::new(Config::new(id(1_000)), Book::new(BookConfig::default()));
    let now = kadwire_discovery::Now::read();
    let come = |manager: &mut PeerManager, n: u32| {
        let (connection, from) = (ConnectionId(n.into()), one_ip(n, 40_000).socket_addr());
        manager.handle_incoming(now, connection, one_ip(n, 40_000).ip()).unwrap();
        manager.handle_accepted(now, connection, id(n), from).unwrap();
        manager.handle_probe_refused(now, &one_ip(n, 26_656));
    };
    manager.handle_probe_refused(now, &one_ip(1, 26_656));
    assert!(manager.book().is_empty(), "it is not connected");
    come(&mut manager, 1);
    manager.handle_probe_refused(now, &peer_at(1, "44.1.1.2:26656"));
    let known = |manager: &PeerManager| manager.book().addresses().cloned().collect::<Vec<_>>();
    assert_eq!((known(&manager), manager.advertise(&id(9))), (vec![one_ip(1, 26_656)], vec![]));
    // Others there, at once or one after the other, are not even kept.
    (2..=20).for_each(|n| come(&mut manager, n));
    (1..=20).for_each(|n| manager.handle_closed(now, ConnectionId(n), Blame::Local));
    for n in 21..=40 {
        come(&mut manager, n);
        manager.handle_closed(now, ConnectionId(n.into()), Blame::Local);
    }
    assert_eq!((known(&manager), manager.advertise(&id(9))), (vec![one_ip(1, 26_656)], vec![]));
    // With the peer gone, its node takes our connection.
    let later = now.after(secs(60));
    manager.handle_timeout(later);
    assert!(std::iter::from_fn(|| manager.poll_action()).any(|action| action == Action::Dial(one_ip(1, 26_656))));
    manager.handle_dialed(later, ConnectionId(100), &one_ip(1, 26_656), one_ip(1, 26_656).socket_addr()).unwrap();
    assert_eq!(manager.advertise(&id(9)), [one_ip(1, 26_656)]);
}

#[test]
fn whom_we_reached_is_in_the_book_whoever_told_us() {
    Rounds::new(Slots::default()).connected([1]).accepted([2]).then(|manager, _| {
        assert!(manager.book().is_good(&id(1)));
        assert_eq!(manager.book().address_of(&id(2)), None, "who dials us says nothing of where it listens");
        assert_eq!(manager.advertise(&id(9)), [address(1)]);
    });
}

#[test]
fn the_book_and_discovery_take_turns() {
    Rounds::new(Slots { outbound: 2, ..Slots::default() })
        .connected([31, 32])
        .told(31, [11, 12, 13, 14, 15])
        .discovered([21, 22, 23, 24])
        .expect_dials([]) // all places are taken
        .closed([31, 32])
        .then(|manager, _| {
            let dialing = |among: std::ops::Range<u32>| among.filter(|n| manager.is_dialing(&id(*n))).count();
            assert_eq!((dialing(11..16), dialing(21..25)), (2, 2));
        });
}

#[test]
fn what_failed_is_tried_again_after_its_pause_without_being_told_of_anew() {
    Rounds::new(Slots { outbound: 1, ..Slots::default() })
        .accepted([1])
        .told(1, [2])
        .expect_dials([2])
        .failed([2])
        .after(secs(34))
        .expect_dials([])
        .after(secs(2))
        .expect_dials([2]);
}

/// With no free outbound place nothing else would make the scheduler look again.
#[test]
fn a_persistent_peer_whose_ban_is_over_is_dialed_at_that_moment() {
    Rounds::new(Slots { outbound: 0, ..Slots::default() })
        .persistent([1])
        .dialed([1])
        .expect_dials([1])
        .then(|manager, now| manager.ban(now, &id(1), secs(86_400)))
        .closed([1])
        .after(secs(86_399))
        .expect_dials([])
        .after(secs(2))
        .expect_dials([1]);
}

#[test]
fn whose_ban_is_over_is_dialed_again() {
    let day = secs(24 * 60 * 60);
    Rounds::new(Slots { outbound: 1, ..Slots::default() })
        .accepted([1])
        .told(1, [2])
        .expect_dials([2])
        .failed([2])
        .then(|manager, now| manager.ban(now, &id(2), day))
        .after(day - secs(1))
        .expect_dials([])
        .after(secs(2))
        .expect_dials([2]);
}

#[test]
fn one_answer_of_900_is_a_tenth_of_what_is_passed_on() {
    Rounds::new(Slots { outbound: 20, ..Slots::default() })
        .connected([21, 22, 23, 24, 25, 26, 27, 28, 29, 30])
        .accepted([1])
        .then(|manager, now| {
            let told: Vec<_> = (0..900).map(|n| address(10_000 + n * 37)).collect();
            assert_eq!(answer(manager, now, told).new, 100);
            let answers: Vec<_> = (0..20).flat_map(|_| manager.advertise_with_bias(&id(9), 30)).collect();
            let theirs = answers.iter().filter(|address| address.id() >= id(10_000)).count();
            assert!(theirs > 0 && theirs * 10 <= answers.len(), "{theirs} of {}", answers.len());
        });
}

#[test]
fn a_feeler_proves_an_address_without_taking_a_place() {
    Rounds::new(Slots { outbound: 0, ..Slots::default() }).accepted([1]).told(1, [2, 3]).then(|manager, now| {
        let felt = manager.feeler(now).unwrap();
        manager.handle_probed(now, &felt);
        let dead = manager.feeler(now).unwrap();
        assert_ne!(felt, dead, "untried ones first");
        manager.handle_probe_failed(now, &dead);
        assert!(manager.book().is_good(&felt.id()) && !manager.book().is_good(&dead.id()));
        assert_eq!(manager.advertise(&id(9)), [felt]);
        assert_eq!(manager.stats().dials, 0);
        // Who is connected is there anyway.
        manager.ban(now, &dead.id(), secs(60));
        manager.ban(now, &id(2), secs(60));
        manager.ban(now, &id(3), secs(60));
        assert_eq!(manager.feeler(now), None);
    });
}
