//! What those who dial the seed get, and what they cannot do.

use super::*;
use crate::{dial::WhyNot, peers::Slots};

/// A seed that has reached peers 0 to 9.
fn knowing_ten() -> World {
    let mut world = World::new(|config| config.seeds = (0..10).map(peer).collect()).hosts(0..10);
    world.run(secs(3));
    assert_eq!(world.served(0..10).len(), 10);
    world
}

#[test]
fn a_guest_is_answered_once_with_everybody_but_itself() {
    let mut world = knowing_ten();
    world.knock(3).unwrap();
    world.asks(3);
    let expected: Vec<_> = (0..10).filter(|n| *n != 3).map(id).collect();
    assert_eq!(ids(&world.answer_to(3).unwrap()), expected);
    world.asks(3).asks(3);
    let stats = world.seed.stats();
    assert_eq!((world.actions.len(), stats.answered, stats.repeated), (1, 1, 2), "further requests are ignored");
}

#[test]
fn tendermint_v0_35_is_answered_in_its_own_version_with_a_hundred_addresses_at_most() {
    let mut world = World::new(|config| config.seeds = (0..800).map(peer).collect()).hosts(0..800);
    world.run(secs(5));
    world.knock(1_001).unwrap();
    world.asks(1_001);
    assert_eq!(world.answer_to(1_001).unwrap().len(), 184, "23 %");
    world.knock(1_002).unwrap();
    world.says(1_002, &PexMessage::RequestV2.encode());
    assert_eq!(world.answer_to(1_002).unwrap().len(), 100);
    assert!(matches!(world.actions.last(), Some(Action::Answer(_, PexMessage::AddressesV2 { .. }))));
}

#[test]
fn a_guest_is_not_passed_on_before_it_was_visited() {
    let mut world = knowing_ten();
    world.hosts.insert(peer(20), Host::Knows(vec![]));
    for n in [20, 21] {
        world.knock(n).unwrap();
        world.asks(n).leaves(n);
    }
    assert_eq!(world.served([20, 21]), [0; 0]);
    world.run(secs(2));
    assert_eq!(world.served([20, 21]), [20], "nobody listens where 21 says it is");
    world.run(secs(60));
    assert_eq!(world.visits_to(&peer(21)).len(), 4, "once while it was here, which does not count, and three times");
    assert!(world.seed.book().address_of(&id(21)).is_none());
}

#[test]
fn another_ip_than_the_one_we_see_is_a_claim_to_be_checked() {
    let declared = peer_at(20, "77.7.7.7:26656");
    let seen = peer_at(20, "66.6.6.6:26656");
    let from: SocketAddr = "66.6.6.6:1".parse().unwrap();
    for (there, expected) in [(vec![&declared], &declared), (vec![&seen], &seen), (vec![&declared, &seen], &declared)] {
        let mut world = knowing_ten();
        there.into_iter().for_each(|at| drop(world.hosts.insert(at.clone(), Host::Knows(vec![]))));
        world.knock_as(20, from, "tcp://77.7.7.7:26656").unwrap();
        world.asks(20).leaves(20);
        world.run(secs(5));
        assert_eq!(world.seed.served.address_of(&id(20)), Some(expected));
    }
    // Without an IP, and with one that no book takes, there is only what we see.
    for listen_addr in ["tcp://0.0.0.0:26656", "10.1.2.3:26656", "[::]:26656"] {
        let mut world = knowing_ten();
        world.hosts.insert(seen.clone(), Host::Knows(vec![]));
        world.knock_as(20, from, listen_addr).unwrap();
        world.asks(20).leaves(20);
        world.run(secs(2));
        assert_eq!(world.seed.served.address_of(&id(20)), Some(&seen), "{listen_addr}");
    }
}

#[test]
fn guests_do_not_make_us_knock_at_somebody_elses_door_more_than_five_times_a_minute() {
    let mut world = knowing_ten();
    let before = world.visits.len();
    for n in 0..200 {
        let from = peer(1_000 + n).socket_addr().unwrap();
        world.knock_as(1_000 + n, from, &format!("51.1.1.1:{}", 1_000 + n)).unwrap();
        world.leaves(1_000 + n);
    }
    world.run(secs(50));
    let victim = |visit: &Visit| visit.address.ip() == Some("51.1.1.1".parse().unwrap());
    let strangers: Vec<_> = world.visits[before..].iter().filter(|(_, visit)| victim(visit)).collect();
    let hosts: std::collections::BTreeSet<_> = strangers.iter().map(|(_, visit)| visit.address.clone()).collect();
    assert_eq!(hosts.len(), 5, "each of them up to three times");
}

#[test]
fn who_calls_again_and_again_does_not_make_us_call_back_each_time() {
    let mut world = knowing_ten();
    for _ in 0..60 {
        world.knock(21).unwrap();
        world.asks(21).leaves(21);
        world.run(secs(1));
    }
    let visits = world.visits_to(&peer(21)).len();
    assert!(visits <= 7, "{visits} visits in a minute");
}

#[test]
fn the_first_nodes_of_a_network_meet() {
    // Nobody is known. The first guest is visited while it waits for somebody that it can be told of.
    let mut world = World::new(|_| {}).hosts([1, 2]);
    world.knock(1).unwrap();
    world.asks(1).run(secs(3));
    assert_eq!((world.served([1]), world.answer_to(1)), (vec![1], None), "there is nobody to tell it of");
    world.knock(2).unwrap();
    world.asks(2).run(secs(2));
    assert_eq!(world.answer_to(2), Some(vec![peer(1)]));
    assert_eq!(world.answer_to(1), Some(vec![peer(2)]));
}

#[test]
fn a_guest_is_not_disturbed_while_it_is_here_and_asked_later() {
    // A second whole connection would be taken for a crossed dial, and one of the two closed.
    let mut world = World::new(|_| {}).hosts([1]);
    world.knock(1).unwrap();
    world.asks(1).run(secs(20));
    let errands: Vec<_> = world.visits.iter().map(|(at, visit)| (at.round(), visit.errand)).collect();
    assert!(matches!(errands[..], [(0.0, Errand::Prove), (9.0..=10.0, Errand::Ask)]), "{errands:?}");
}

#[test]
fn nodes_started_together_all_hear_of_each_other() {
    // Four validators, half a second apart, that know nobody else.
    let mut world = World::new(|_| {}).hosts(1..=4);
    for n in 1..=4 {
        world.knock(n).unwrap();
        world.asks(n).run(Duration::from_millis(500));
    }
    world.run(secs(3));
    for n in 1..=4 {
        let others: Vec<_> = (1..=4).filter(|m| *m != n).map(id).collect();
        assert_eq!(ids(&world.answer_to(n).unwrap()), others);
    }
    let answered: Vec<f64> = world.answered.iter().map(|(at, _)| *at).collect();
    assert!(answered.windows(2).all(|pair| pair[1] - pair[0] > 0.2), "one after the other: {answered:?}");
}

#[test]
fn nodes_that_take_one_connection_of_an_ip_meet_too() {
    // CometBFT's default: while it is connected with us, it hangs up on us. One of them is sent away, so that it can be visited; the
    // others are told of it.
    let mut world = World::new(|_| {});
    for n in [1, 2, 3] {
        world.hosts.insert(peer(n), Host::Fails(Trouble::HandshakeClosed));
        world.knock(n).unwrap();
        world.asks(n);
    }
    world.run(ROUND_TRIP);
    assert_eq!([1, 2, 3].map(|n| world.hung_up_on(n)), [Some(Why::ToBeVisited), None, None]);
    assert_eq!([1, 2, 3].map(|n| world.answer_to(n)), [None, None, None]);
    world.leaves(1);
    world.hosts.insert(peer(1), Host::Knows(vec![]));
    world.run(secs(3));
    assert_eq!(world.served([1, 2, 3]), [1], "the visit that failed meanwhile did not count");
    for n in [2, 3] {
        assert_eq!(world.answer_to(n), Some(vec![peer(1)]));
        world.leaves(n);
        world.hosts.insert(peer(n), Host::Knows(vec![]));
    }
    world.run(secs(2));
    assert_eq!(world.served([1, 2, 3]), [1, 2, 3]);
}

#[test]
fn an_empty_answer_is_the_honest_one_after_ten_seconds() {
    let mut world = World::new(|_| {}).host(1, Host::Fails(Trouble::Timeout));
    // It listens where nobody gets to, and there is nobody else.
    world.knock_as(1, "33.3.3.3:1".parse().unwrap(), "0.0.0.0:0").unwrap();
    world.asks(1).run(secs(9));
    assert_eq!(
        (world.answer_to(1), world.hung_up_on(1)),
        (None, None),
        "there is no address of it that could be visited"
    );
    world.run(secs(2));
    assert_eq!(world.answer_to(1), Some(vec![]));
    let mut world = World::new(|_| {}).hosts([2]);
    world.knock(2).unwrap();
    world.asks(2).run(secs(9));
    assert_eq!(world.answer_to(2), None);
    world.run(secs(2));
    assert_eq!((world.answer_to(2), world.seed.stats().answered_empty), (Some(vec![]), 1));
}

#[test]
fn with_few_to_tell_of_a_guest_waits_for_visits_under_way_but_not_long() {
    let mut world =
        World::new(|config| config.seeds = vec![peer(0)]).host(0, Host::Knows((1..=40).map(peer).collect()));
    (1..=5).for_each(|n| drop(world.hosts.insert(peer(n), Host::Knows(vec![]))));
    (6..=40).for_each(|n| drop(world.hosts.insert(peer(n), Host::Fails(Trouble::Timeout))));
    world.run(ROUND_TRIP);
    world.knock(99).unwrap();
    world.asks(99).run(secs(1));
    assert_eq!(world.answer_to(99), None, "40 visits are under way");
    world.run(secs(2));
    assert_eq!(world.answer_to(99).unwrap().len(), 6);
}

#[test]
fn addresses_nobody_asked_for_and_nonsense_are_the_end() {
    let unsolicited = PexMessage::addresses(vec![peer(500)]).encode();
    // (message, why, banned); the third is of no version that we know.
    for (message, why, banned) in [
        (unsolicited.as_slice(), Why::Unsolicited, true),
        (&[0x12, 3, 0x0a, 1, 0xff], Why::Malformed, true),
        (&[0x7a, 0], Why::Malformed, false),
        (&[0; 64_001], Why::Malformed, true),
    ] {
        let mut world = knowing_ten();
        world.knock(20).unwrap();
        world.says(20, message);
        assert_eq!(world.hung_up_on(20), Some(why));
        assert_eq!(world.seed.book().is_banned(world.now.wall, &id(20)), banned);
        let stats = world.seed.stats();
        assert_eq!(stats.unsolicited + stats.malformed, 1);
        world.asks(20).leaves(20).run(secs(5));
        assert_eq!(world.answer_to(20), None);
        assert!(world.seed.book().address_of(&id(500)).is_none());
        if banned {
            assert_eq!(world.knock(20), Err(WhyNot::Banned), "and it is not let in again");
            assert_eq!(world.seed.stats().refused.of(WhyNot::Banned), 1);
        }
    }
}

#[test]
fn a_guest_that_says_nothing_leaves_after_30_seconds() {
    let mut world = knowing_ten();
    world.knock(20).unwrap();
    world.run(secs(29));
    assert_eq!(world.hung_up_on(20), None);
    world.run(secs(1));
    assert_eq!((world.hung_up_on(20), world.seed.stats().silent), (Some(Why::Silent), 1));
}

#[test]
fn in_a_crowd_the_one_that_has_been_here_longest_leaves() {
    let mut world = World::new(|config| config.slots = Slots { inbound: 2, ..config.slots });
    for n in [20, 21, 22, 23] {
        world.knock(n).unwrap();
        if n == 21 {
            world.asks(21);
        }
    }
    assert_eq!(world.hung_up_on(20), Some(Why::Crowded));
    assert_eq!(world.answer_to(21), Some(vec![]), "who waits for an answer gets what there is");
    assert_eq!((world.hung_up_on(22), world.hung_up_on(23)), (None, None));
}

#[test]
fn one_connection_of_each_peer_and_so_many_of_each_ip() {
    let mut world = World::new(|config| config.slots = Slots { per_ip: 3, ..config.slots });
    world.knock(20).unwrap();
    assert_eq!(world.knock(20), Err(WhyNot::AlreadyConnected));
    let from: SocketAddr = "88.8.8.8:1".parse().unwrap();
    let taken = (30..40).filter(|n| world.knock_as(*n, from, "0.0.0.0:1").is_ok()).count();
    assert_eq!((taken, world.seed.stats().refused.of(WhyNot::TooManyFromIp)), (3, 7));
}

#[test]
fn silent_sockets_keep_nobody_out() {
    let mut world = knowing_ten();
    for n in 0..10_000_u64 {
        let ip = std::net::IpAddr::from((0x3000_0000 + n as u32).to_be_bytes());
        world.seed.handle_incoming(world.now, ConnectionId(1_000_000 + n), Some(ip)).unwrap();
    }
    world.settle();
    assert_eq!(world.seed.status().half_open, Slots::default().half_open);
    world.knock(20).unwrap();
    world.asks(20).run(secs(1));
    assert_eq!(world.answer_to(20).unwrap().len(), 10);
}
