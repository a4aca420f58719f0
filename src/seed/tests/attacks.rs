//! One machine with as many identities as it likes, and what it does not get.

use super::*;

/// The machine.
const MACHINE: &str = "66.6.6.6";

/// Its identity `n`, on a port of its own.
fn many(n: u32) -> PeerAddress {
    peer_at(500_000 + n, &format!("{MACHINE}:{}", 1_000 + n))
}

fn is_of_machine(address: &PeerAddress) -> bool {
    address.ip() == Some(MACHINE.parse().unwrap())
}

impl World {
    /// An identity of the machine dials us, asks and leaves. What it was answered.
    fn visit_of(&mut self, n: u32) -> Vec<PeerAddress> {
        let at = many(n).socket_addr().unwrap();
        self.knock_as(500_000 + n, at, &at.to_string()).unwrap();
        self.asks(500_000 + n);
        let answer = self.answer_to(500_000 + n).unwrap_or_default();
        self.leaves(500_000 + n);
        answer
    }
}

#[test]
fn one_machine_owns_a_tenth_of_an_answer_however_many_ports_it_has() {
    for ports in [100, 10_000] {
        let mut world = World::new(|config| config.seeds = (0..50).map(peer).collect()).hosts(0..50);
        world.run(secs(3));
        // Every one of its identities is really there, and has itself found.
        for n in 0..ports {
            world.hosts.insert(many(n), Host::Knows(vec![]));
            world.visit_of(n);
            world.run(Duration::from_millis(100));
        }
        world.run(secs(5));
        let (mut answered, mut of_machine) = (0, 0);
        for guest in 20_000..20_100 {
            world.knock(guest).unwrap();
            let answer = world.asks(guest).answer_to(guest).unwrap();
            world.leaves(guest);
            assert!(answer.len() >= 32, "50 others are known");
            answered += answer.len();
            of_machine += answer.iter().filter(|address| is_of_machine(address)).count();
        }
        println!("{ports} ports: {of_machine} of {answered} addresses");
        assert!(of_machine * 10 <= answered, "{ports} ports: {of_machine} of {answered} addresses");
        assert!(world.seed.book().len() < 60, "nor does the book fill with them");
    }
}

/// A seed that serves peers 0 to 39.
fn knowing_forty() -> World {
    let mut world = World::new(|config| config.seeds = (0..40).map(peer).collect()).hosts(0..40);
    world.run(secs(3));
    world
}

/// Somebody new dials us, asks, leaves, and is served soon after.
fn takes_in_a_newcomer(mut world: World) {
    world.hosts.insert(peer(60), Host::Knows(vec![]));
    world.knock(60).unwrap();
    world.asks(60).leaves(60).run(secs(3));
    assert_eq!(world.served([60]), [60]);
}

#[test]
fn one_machine_does_not_fill_the_places_of_newcomers_by_calling_again() {
    let mut world = knowing_forty();
    // Its identities exchange no addresses: none is looked at again for an hour. Each calls twice.
    for n in (0..1_100).chain(0..1_100) {
        world.hosts.insert(many(n), Host::Fails(Trouble::NoPex));
        world.visit_of(n);
        world.run(Duration::from_millis(100));
    }
    takes_in_a_newcomer(world);
}

#[test]
fn one_network_does_not_fill_the_places_of_newcomers_by_making_us_wait() {
    let mut world = knowing_forty();
    // Four machines call ten times a second each; each visit to one of them takes 3 s.
    for n in 0..400 {
        let at = peer_at(500_000 + n, &format!("66.6.6.{}:{}", 1 + n % 4, 1_000 + n));
        let place = at.socket_addr().unwrap();
        world.hosts.insert(at.clone(), Host::Fails(Trouble::Timeout));
        world.knock_as(500_000 + n, place, &place.to_string()).unwrap();
        world.leaves(500_000 + n).run(Duration::from_millis(25));
    }
    takes_in_a_newcomer(world);
}

#[test]
fn served_peers_that_turn_slow_keep_no_newcomer_out_and_are_served_no_more() {
    // 800 that behave until they are served, told by eight that are honest. A round of visits to all of them then takes 125 s.
    let slow = |teller: u32| (1_000 + teller * 100..1_100 + teller * 100).map(peer);
    let mut world = World::new(|config| config.seeds = (0..8).map(peer).collect()).hosts(1_000..1_800);
    for teller in 0..8 {
        world.hosts.insert(peer(teller), Host::Knows(slow(teller).collect()));
    }
    world.run(secs(10));
    assert_eq!(world.served(1_000..1_800).len(), 800);
    (1_000..1_800).for_each(|n| drop(world.hosts.insert(peer(n), Host::Stalls)));
    (0..8).for_each(|n| drop(world.hosts.insert(peer(n), Host::Knows(vec![]))));
    world.run(secs(150));
    for newcomer in 60..70 {
        world.hosts.insert(peer(newcomer), Host::Knows(vec![]));
        world.knock(newcomer).unwrap();
        world.leaves(newcomer).run(secs(5));
        assert_eq!(world.served([newcomer]), [newcomer]);
    }
    world.run(secs(600));
    assert_eq!((world.served(1_000..1_800).len(), world.served(60..70).len()), (0, 10));
}

#[test]
fn one_answer_makes_us_knock_at_four_doors_of_one_ip() {
    let victim: Vec<_> = (0..200).map(many).collect();
    let mut world = World::new(|config| config.seeds = vec![peer(0)]).host(0, Host::Knows(victim));
    world.run(secs(2));
    let ids: std::collections::BTreeSet<_> = world.visits.iter().map(|(_, visit)| visit.address.id()).collect();
    assert_eq!((ids.len(), world.seed.stats().beyond), (5, 196));
}

/// Sources told by nobody else, which know addresses of one victim each, under ids and ports of their own.
fn tellers(world: &mut World, of: std::ops::Range<u32>, victim: impl Fn(u32) -> String) {
    for n in of {
        let told =
            (0..4).map(|m| peer_at(600_000 + n * 4 + m, &format!("{}:{}", victim(n), 1_000 + n * 4 + m))).collect();
        world.hosts.insert(peer(n), Host::Knows(told));
    }
}

#[test]
fn many_sources_do_not_make_us_knock_at_one_victims_door_without_end() {
    // A hundred peers that are really there; what they tell is one IP, or one network.
    for (victim, most) in
        [((|_| "66.6.6.6".to_owned()) as fn(u32) -> String, 16), (|n| format!("66.6.6.{}", n % 250), 64)]
    {
        let mut world = World::new(|config| config.seeds = (0..100).map(peer).collect());
        tellers(&mut world, 0..100, victim);
        world.run(secs(600));
        let of_victim = |visit: &Visit| visit.address.ip().unwrap().to_string().starts_with("66.6.6.");
        let at: Vec<f64> = world.visits.iter().filter(|(_, visit)| of_victim(visit)).map(|(at, _)| *at).collect();
        let busiest = at.iter().map(|from| at.iter().filter(|at| (*from..*from + 59.9).contains(*at)).count()).max();
        println!("{} visits in ten minutes, {busiest:?} in one, {} put off", at.len(), world.seed.stats().put_off);
        assert!(at.len() > 40, "they are looked at, and given up one after the other");
        assert!(busiest <= Some(most), "{busiest:?}");
        assert!(world.seed.stats().put_off > 100);
    }
}

#[test]
fn false_addresses_at_the_door_of_a_true_peer_do_not_keep_us_from_it() {
    let mut world = World::new(|config| config.seeds = (0..41).map(peer).collect()).hosts(61..70);
    let newcomer = peer_at(60, "66.6.6.6:26656");
    tellers(&mut world, 0..40, |_| "66.6.6.6".to_owned());
    world.hosts.insert(peer(40), Host::Knows((61..70).map(peer).collect()));
    world.run(secs(20));
    // A peer that was right before hears of the true one, and tells us when it is asked again.
    world.hosts.insert(newcomer.clone(), Host::Knows(vec![]));
    world.hosts.insert(peer(40), Host::Knows(vec![newcomer.clone()]));
    world.run(secs(130));
    assert!(world.seed.serves(&newcomer.id()), "{:?}", world.seed.stats());
}

#[test]
fn one_network_has_no_more_than_so_many_places_to_be_looked_at_again() {
    let there: Vec<_> =
        (0..400).map(|n| peer_at(700_000 + n, &format!("66.6.{}.{}:26656", n / 100, 1 + n % 100))).collect();
    let mut world = World::new(|config| config.seeds = vec![peer(0)]);
    for address in &there {
        world.hosts.insert(address.clone(), Host::Knows(there.clone()));
    }
    world.hosts.insert(peer(0), Host::Knows(there));
    world.run(secs(3_000));
    let (status, stats) = (world.seed.status(), world.seed.stats());
    println!("{} served, {} too many", status.reachable, stats.crowded);
    assert_eq!(status.reachable, 1 + 128);
    assert!(stats.crowded > 0, "{stats:?}");
}

#[test]
fn a_public_guest_does_not_make_us_look_into_our_private_network() {
    let book = Book::new(BookConfig { strict: false, ..BookConfig::default() });
    let mut world = World::with_book(|_| {}, book);
    let inside = peer_at(20, "10.1.2.3:26656");
    world.knock_as(20, "66.6.6.6:1".parse().unwrap(), "tcp://10.1.2.3:26656").unwrap();
    world.asks(20).leaves(20).run(secs(30));
    assert_eq!(world.visits_to(&inside), [0.0; 0]);
    // Who is in it may.
    world.knock_as(20, "10.9.9.9:1".parse().unwrap(), "tcp://10.1.2.3:26656").unwrap();
    world.leaves(20).run(secs(2));
    assert_eq!(world.visits_to(&inside).len(), 1);
}
