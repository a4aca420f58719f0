//! Whom the seed visits, when, and what becomes of it.

use super::*;

fn seeds(numbers: impl IntoIterator<Item = u32>) -> impl FnOnce(&mut Config) {
    move |config| config.seeds = numbers.into_iter().map(peer).collect()
}

#[test]
fn what_a_visit_brings_is_visited_at_once() {
    // A chain of 20: each knows the next one only. CometBFT's seed takes 30 s a link.
    let mut world = World::new(seeds([0]));
    for n in 0..20 {
        world = world.host(n, Host::Knows(vec![peer(n + 1)]));
    }
    world.run(secs(1));
    assert_eq!(world.served(0..=20), (0..20).collect::<Vec<_>>(), "20 is not there");
    assert_eq!(world.seed.status().unreachable, [("refused", 1)].into());
}

#[test]
fn visits_are_made_side_by_side_but_not_all_at_once() {
    let mut world = World::new(seeds([0])).host(0, Host::Knows((1..=90).map(peer).collect())).hosts(1..=90);
    world.run(ROUND_TRIP);
    assert_eq!(world.seed.status().visiting, 34, "half of 64 is for a source that was never right yet");
    world.run(secs(1));
    assert_eq!(world.served(0..=90).len(), 91);
}

#[test]
fn an_address_that_fails_waits_twice_as_long_each_time_and_is_given_up() {
    let mut world = World::new(seeds([0])).host(0, Host::Knows(vec![peer(1)]));
    world.run(secs(400));
    let waits: Vec<f64> = world.visits_to(&peer(1)).windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits.len(), 7, "eight visits: {waits:?}");
    for (wait, expected) in waits.iter().zip([2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]) {
        assert!((expected..expected + 1.1).contains(wait), "{waits:?}");
    }
    let status = world.seed.status();
    assert_eq!((status.known, status.reachable, world.seed.stats().dropped), (1, 1, 1));
}

#[test]
fn who_is_served_is_visited_every_two_minutes() {
    let mut world = World::new(seeds([0])).hosts([0]);
    world.run(secs(600));
    let visits = world.visits_to(&peer(0));
    assert!((5..=6).contains(&visits.len()), "{visits:?}");
    assert!(visits.windows(2).all(|pair| (108.0..=121.0).contains(&(pair[1] - pair[0]))), "{visits:?}");
}

#[test]
fn the_dead_are_demoted_and_served_again_when_they_are_back() {
    let mut world = World::new(seeds([0])).host(0, Host::Knows(vec![peer(1)])).hosts([1]);
    world.run(secs(1));
    assert_eq!(world.served([1]), [1]);
    world.hosts.insert(peer(1), Host::Fails(Trouble::Timeout));
    world.run(secs(130));
    assert_eq!(world.served([1]), [0; 0], "two visits failed");
    assert_eq!(world.seed.status().unreachable, [("timeout", 1)].into(), "the reason is kept");
    assert_eq!(world.seed.stats().demoted, 1);
    world.hosts.insert(peer(1), Host::Knows(vec![]));
    world.run(secs(30));
    assert_eq!((world.served([1]), world.seed.status().unreachable.len()), (vec![1], 0));
}

#[test]
fn one_failure_demotes_nobody_but_another_identity_does_at_once() {
    let mut world = World::new(seeds([0])).host(0, Host::Knows(vec![peer(1), peer(2)])).hosts([1, 2]);
    world.run(secs(1));
    world.hosts.insert(peer(1), Host::Fails(Trouble::WrongId));
    world.hosts.insert(peer(2), Host::Fails(Trouble::HandshakeClosed));
    while world.visits_to(&peer(1)).len() < 2 || world.visits_to(&peer(2)).len() < 2 {
        world.run(secs(1));
    }
    world.hosts.insert(peer(2), Host::Knows(vec![]));
    world.run(secs(5));
    assert_eq!(world.served([1, 2]), [2]);
    // Whoever repeats it.
    assert!(world.seed.book().address_of(&id(1)).is_none());
    world.run(secs(1_800));
    assert_eq!(world.visits_to(&peer(1)).len(), 2, "not looked at for an hour");
}

#[test]
fn who_is_our_guest_is_not_dead_because_it_takes_no_second_connection() {
    // A CometBFT node that has us among its persistent peers: it comes back whenever we hang up, and while it is here it refuses us.
    let mut world = World::new(seeds([0, 1])).hosts([0, 1]);
    world.run(secs(1));
    world.hosts.insert(peer(1), Host::Fails(Trouble::HandshakeClosed));
    for _ in 0..20 {
        world.knock(1).unwrap();
        world.run(secs(30)).leaves(1);
        assert_eq!(world.served([1]), [1]);
    }
    // When it stays away, its refusals count; so does a port that nobody listens on, whoever is our guest.
    world.run(secs(130));
    assert_eq!((world.served([0, 1]), world.seed.stats().demoted), (vec![0], 1));
    world.hosts.remove(&peer(0));
    for _ in 0..5 {
        world.knock(0).unwrap();
        world.run(secs(30)).leaves(0);
    }
    assert_eq!(world.served([0]), [0; 0]);
}

#[test]
fn a_peer_of_another_network_is_known_for_it_and_not_kept() {
    let mut world = World::new(seeds([0]))
        .host(0, Host::Knows(vec![peer(1), peer(2)]))
        .host(1, Host::Fails(Trouble::WrongNetwork))
        .host(2, Host::Fails(Trouble::NoPex));
    world.run(secs(600));
    assert_eq!((world.visits_to(&peer(1)).len(), world.visits_to(&peer(2)).len()), (1, 1));
    let stats = world.seed.stats();
    assert_eq!([Trouble::WrongNetwork, Trouble::NoPex].map(|trouble| stats.failures.of(trouble)), [1, 1]);
    assert_eq!(stats.failures.total(), 2);
    assert_eq!((world.seed.status().known, stats.dropped), (1, 2));
}

#[test]
fn a_peer_that_is_there_but_says_nothing_is_served_and_one_that_lies_is_banned() {
    let mut world = World::new(seeds([0]))
        .host(0, Host::Knows(vec![peer(1), peer(2), peer(3)]))
        .host(1, Host::Says(Trouble::Unanswered))
        .host(2, Host::Says(Trouble::Closed))
        .host(3, Host::Says(Trouble::BadPex));
    world.run(secs(1));
    assert_eq!(world.served([1, 2, 3]), [1, 2]);
    assert!(world.seed.book().is_banned(world.now.wall, &id(3)));
    assert_eq!((world.seed.stats().malformed, world.seed.status().banned), (1, 1));
    // It is taken back when the ban is over, as somebody nobody has checked.
    world.hosts.insert(peer(3), Host::Knows(vec![]));
    world.run(secs(25 * 3_600));
    assert_eq!(world.served([3]), [3]);
}

#[test]
fn who_was_asked_is_not_asked_again_within_ten_seconds() {
    let mut world = World::new(|config| {
        config.seeds = vec![peer(0)];
        config.recheck_after = secs(3);
    });
    world = world.hosts([0]);
    world.run(secs(60));
    assert!(world.visits.len() >= 20, "it is looked at every 3 s");
    let asked: Vec<f64> =
        world.visits.iter().filter(|(_, visit)| visit.errand == Errand::Ask).map(|(at, _)| *at).collect();
    assert!(asked.len() >= 4 && asked.windows(2).all(|pair| pair[1] - pair[0] >= 10.0), "{asked:?}");
}

#[test]
fn our_own_address_is_recognised_whoever_tells_it() {
    let us = peer_at(5, "44.44.44.44:26656");
    let mut world = World::new(seeds([0])).host(0, Host::Knows(vec![us.clone(), peer_at(OWN, "44.44.44.44:26656")]));
    world.hosts.insert(us.clone(), Host::Fails(Trouble::OurselvesThere));
    world.run(secs(600));
    assert_eq!((world.visits_to(&us).len(), world.seed.status().known), (1, 1));
}

#[test]
fn one_answer_brings_so_many_addresses_and_no_more() {
    // 200 networks; 200 addresses of one network; addresses where nobody can be, and private ones.
    let many: Vec<_> = (1..=200).map(peer).collect();
    let crowd: Vec<_> = (1..=200).map(|n| peer_at(2_000 + n, &format!("99.9.{n}.1:1"))).collect();
    let nobody = ["0.1.2.3:1", "240.0.0.1:1", "127.0.0.1:1", "10.0.0.1:1", "192.168.1.1:1"];
    let special: Vec<_> = (0..).zip(nobody).map(|(n, at)| peer_at(3_000 + n, at)).collect();
    for (answer, learned, not_kept) in [(many, 100, 0), (crowd, 32, 0), (special, 0, 5)] {
        let mut world = World::new(seeds([0])).host(0, Host::Knows(answer));
        world.run(secs(2));
        let stats = world.seed.stats();
        assert_eq!((stats.learned, stats.not_kept), (learned, not_kept));
    }
}

#[test]
fn who_brings_many_waits_behind_those_who_bring_few() {
    // 40 liars bring 100 addresses each where every dial takes 3 s; one honest peer brings one, last.
    let mut world = World::new(seeds(0..=40));
    for liar in 0..40 {
        let lies: Vec<_> = (0..100).map(|n| peer(100 + liar * 100 + n)).collect();
        lies.iter().for_each(|lie| drop(world.hosts.insert(lie.clone(), Host::Fails(Trouble::Timeout))));
        world = world.host(liar, Host::Knows(lies));
    }
    world = world.host(40, Host::Knows(vec![peer(5_000)])).hosts([5_000]);
    world.run(secs(4));
    assert_eq!(world.served([5_000]), [5_000], "4,000 false addresses would be 250 s of dials");
}

#[test]
fn who_is_served_is_checked_however_many_false_addresses_there_are() {
    let mut world = World::new(seeds([0])).host(0, Host::Knows((1..=40).map(peer).collect())).hosts(1..=30);
    for liar in 31..=40 {
        let lies: Vec<_> = (0..250).map(|n| peer(100 + liar * 250 + n)).collect();
        lies.iter().for_each(|lie| drop(world.hosts.insert(lie.clone(), Host::Fails(Trouble::Timeout))));
        world = world.host(liar, Host::Knows(lies));
    }
    world.run(secs(600));
    for n in 1..=40 {
        let visits = world.visits_to(&peer(n));
        assert!(visits.windows(2).all(|pair| pair[1] - pair[0] <= 122.0), "{n}: {visits:?}");
    }
}

#[test]
fn after_a_restart_those_reached_before_are_visited_first_and_nobody_is_served_unchecked() {
    let now = Now::read();
    let mut book = Book::new(BookConfig::default());
    let origin = crate::book::Origin { id: id(9_999), socket: Some("9.9.9.9:9".parse().unwrap()) };
    for n in 0..100 {
        book.add(now.wall, &peer(n), &origin).unwrap();
    }
    (90..100).for_each(|n| book.mark_good(now.wall, &id(n)));
    let mut world = World::with_book(|config| config.parallel = 10, book).hosts(0..100);
    assert_eq!(world.served(0..100), [0; 0]);
    world.run(ROUND_TRIP);
    assert_eq!(world.served(90..100).len(), 8, "a quarter of the visits is for others");
    world.run(ROUND_TRIP);
    assert_eq!(world.served(90..100).len(), 10);
    world.run(secs(2));
    assert_eq!(world.served(0..100).len(), 100);
}

#[test]
fn a_name_is_visited_and_what_it_leads_to_is_served() {
    let name: PeerAddress = format!("{}@seed.example.org:26656", id(0)).parse().unwrap();
    let mut world = World::new(|config| config.seeds = vec![name.clone()]).hosts([0]);
    let remote = peer(0).socket_addr();
    world.settle();
    let (visit, _) = world.under_way.pop_first().unwrap().1;
    assert_eq!(visit.address, name);
    let answer = Some(Ok(Answer::default()));
    world.seed.handle_visited(world.now, &name, Visited::Reached { remote, answer });
    assert_eq!(world.seed.served.address_of(&id(0)), Some(&peer(0)));
    world.run(secs(300));
    assert!(world.visits_to(&peer(0)).len() >= 2 && world.visits_to(&name).len() == 1);
}

#[test]
fn a_seed_that_is_not_there_yet_is_tried_again_and_again() {
    let mut world = World::new(seeds([0]));
    world.run(secs(3_600));
    let visits = world.visits_to(&peer(0));
    assert!(visits.len() >= 110 && visits.windows(2).all(|pair| pair[1] - pair[0] <= 31.1), "{}", visits.len());
    world.hosts.insert(peer(0), Host::Knows(vec![]));
    world.run(secs(32));
    assert_eq!(world.served([0]), [0]);
}

#[test]
fn who_is_never_to_be_checked_again_is_served_for_ever() {
    let mut world = World::new(|config| {
        config.seeds = vec![peer(1)];
        config.recheck_after = Duration::MAX;
    })
    .hosts([1]);
    world.run(secs(3_600));
    assert_eq!((world.served([1]), world.visits.len()), (vec![1], 1));
}

#[test]
fn who_is_not_there_twice_in_a_row_is_served_no_more() {
    let mut world = World::new(seeds([1])).hosts([1]);
    world.run(secs(5));
    world.hosts.clear();
    let reached = world.visits_to(&peer(1)).len();
    for (visits, served) in [(1, vec![1]), (2, vec![])] {
        while world.visits_to(&peer(1)).len() < reached + visits {
            world.run(Duration::from_millis(100));
        }
        world.run(Duration::from_millis(100));
        assert_eq!(world.served([1]), served, "after {visits}");
    }
}
