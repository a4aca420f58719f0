//! A whole network: live peers, dead ones, and liars that tell of peers who do not exist.

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IteratorRandom};

use super::*;

const PEERS: u32 = 300;

/// False addresses of each liar.
const LIES: u32 = 900;

/// The kind of a peer, by its number.
fn is_dead(n: u32) -> bool {
    n % 5 == 4
}

fn is_liar(n: u32) -> bool {
    n % 10 == 3
}

/// A false address: half where nobody answers for 3 s, a quarter refused at once, a quarter the true place of somebody else.
fn lie(liar: u32, n: u32) -> (PeerAddress, Host) {
    let id = 100_000 + liar * LIES + n;
    let at = format!("{}.{}.{}.{}:26656", 60 + liar % 100, n % 250, liar / 100, 1 + n / 250);
    match n % 4 {
        0 | 1 => (peer_at(id, &at), Host::Fails(Trouble::Timeout)),
        2 => (peer_at(id, &at), Host::Fails(Trouble::Refused)),
        _ => (peer_at(id, &peer(n % PEERS).socket_addr().unwrap().to_string()), Host::Fails(Trouble::WrongId)),
    }
}

#[test]
fn among_dead_peers_and_liars_only_live_peers_are_served() {
    let seed = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7_u64);
    println!("SIM_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(|config| {
        config.seeds = vec![peer(0), peer(1)];
        config.seed = seed;
    });
    let mut false_ids = std::collections::BTreeSet::new();
    for n in (0..PEERS).filter(|n| !is_dead(*n)) {
        // An honest book holds some dead peers too; a liar's only lies.
        let mut knows: Vec<_> = (0..PEERS).filter(|m| *m != n).sample(&mut rng, 40).into_iter().map(peer).collect();
        if is_liar(n) {
            let lies: Vec<_> = (0..LIES).map(|m| lie(n, m)).collect();
            false_ids.extend(lies.iter().map(|(address, _)| address.id()));
            knows = lies.iter().map(|(address, _)| address.clone()).collect();
            world.hosts.extend(lies);
        }
        world.hosts.insert(peer(n), Host::Knows(knows));
    }
    let live: Vec<u32> = (0..PEERS).filter(|n| !is_dead(*n)).collect();

    world.run(secs(10));
    assert_eq!(world.served(0..PEERS), live, "all live ones, and no dead one, after 10 s");

    // Ten minutes of guests; a tenth of the live ones dies meanwhile.
    let dying: Vec<u32> = live.iter().copied().filter(|n| n % 10 == 7).collect();
    let (mut answers, mut addresses) = (0, 0);
    for minute in 0..10 {
        for n in 0..30 {
            let guest = 20_000 + minute * 100 + n;
            world.knock(guest).unwrap();
            world.asks(guest).run(Duration::from_millis(rng.random_range(1..2_000)));
            let answer = world.answer_to(guest).expect("hundreds are known: an answer at once");
            world.leaves(guest);
            (answers, addresses) = (answers + 1, addresses + answer.len());
            assert!(answer.len() >= 32);
            for address in answer {
                assert!(!false_ids.contains(&address.id()), "{address} does not exist");
                let n = live.iter().find(|n| id(**n) == address.id()).expect("a live peer");
                assert_eq!(address, peer(*n));
                assert!(minute < 4 || !dying.contains(n), "{n} is dead for two minutes and more");
            }
        }
        world.run(secs(30));
        if minute == 0 {
            dying.iter().for_each(|n| drop(world.hosts.remove(&peer(*n))));
        }
    }
    let status = world.seed.status();
    println!("{answers} answers, {addresses} addresses; {status:?}");
    assert_eq!(status.reachable, live.len() - dying.len());
    assert!(world.seed.stats().learned > 3_000, "liars were heard out");
    // Nobody was asked, or dialed at one address, more often than is polite.
    let mut asked: HashMap<PeerId, f64> = HashMap::new();
    for (at, visit) in world.visits.iter().filter(|(_, visit)| visit.errand == Errand::Ask) {
        let last = asked.insert(visit.address.id(), *at);
        let reached = matches!(world.hosts.get(&visit.address), Some(Host::Knows(_)));
        assert!(!reached || last.is_none_or(|last| at - last >= 10.0), "{visit:?}");
    }
}
