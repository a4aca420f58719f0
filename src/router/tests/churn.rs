//! Routers that come and go, for an hour of virtual time: what they say of each other agrees once they rest, and nothing is left of them.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

const NODES: u8 = 10;

/// Every node wants all with a larger number; some speak, and some never read what is said to them.
fn start(world: &World, n: u8) -> Node {
    world.dialing(n, (n + 1..=NODES).collect::<Vec<u8>>())
}

async fn an_hour_of_churn(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::default();
    let mut nodes: BTreeMap<u8, Node> = (1..=NODES).map(|n| (n, start(&world, n))).collect();
    for _ in 0..120 {
        let n = rng.random_range(1..=NODES);
        match nodes.remove(&n) {
            // It is told to stop, or is gone from one moment to the next.
            Some(node) if rng.random() => node.router.stop().await,
            Some(node) => drop(node),
            None => drop(nodes.insert(n, start(&world, n))),
        }
        if let Some(node) = nodes.get(&rng.random_range(1..=NODES)) {
            for _ in 0..rng.random_range(0..20) {
                let _ = node.gossip.try_send(To::All, text("news"));
            }
        }
        sleep(Duration::from_millis(rng.random_range(0..60_000))).await;
    }
    for n in 1..=NODES {
        nodes.entry(n).or_insert_with(|| start(&world, n));
    }
    // The longest wait between two dials of a persistent peer is five minutes.
    sleep(Duration::from_secs(900)).await;
    for (n, node) in &nodes {
        let others: Vec<_> = (1..=NODES).filter(|other| other != n).map(id).collect();
        assert_eq!(node.peers(), others, "node {n} is connected with all");
        let stats = node.stats().await.peers;
        assert_eq!((stats.dialing, stats.half_open, stats.banned), (0, 0, 0), "{stats:?}");
    }
    for (_, node) in nodes {
        node.router.stop().await;
    }
    sleep(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn after_an_hour_of_coming_and_going_everybody_has_everybody() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let seeds =
        std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()).map_or(0..4, |seed: u64| seed..seed + 1);
    for seed in seeds {
        println!("SIM_SEED={seed}");
        an_hour_of_churn(seed).await;
        assert_eq!(tasks(), before, "nothing runs on");
    }
}
