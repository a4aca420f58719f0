//! What an empty table begins with: bootnodes, seeds, and nodes that were alive.

use super::*;

#[test]
fn bootnodes_come_back_with_every_refresh_of_an_empty_table() {
    let mut world = World::started();
    let bootnode = world.node();
    world.table.bootnodes = vec![bootnode.clone()];
    let mut waits = Vec::new();
    for _ in 0..3 {
        let since = world.now;
        while !world.has(&bootnode) {
            world.now = world.table.poll_timeout().unwrap();
            world.finish_refresh();
        }
        waits.push(world.now - since);
        (0..3).for_each(|_| world.miss(&bootnode));
        assert!(world.table.is_empty());
    }
    assert!(waits.iter().all(|wait| *wait < Duration::from_secs(120)), "{waits:?}");
}

#[test]
fn seeds_are_of_the_last_five_days() {
    let mut world = World::new(TableConfig::default());
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let day = Duration::from_secs(24 * 60 * 60);
    let old = Seed { record: world.node(), last_pong: wall - day * 6, find_failures: 0, inbound: false };
    // The clock was set back: no reason to start with nothing.
    let future =
        Seed { record: world.node_at(10, [24, 2, 1, 1]), last_pong: wall + day, find_failures: 0, inbound: false };
    world.table.remember(wall, vec![old, future.clone()]);
    world.finish_refresh();
    let ids: Vec<_> = world.table.entries().map(Entry::id).collect();
    assert_eq!(ids, [future.record.id()]);
}

/// A restarted node checks its seeds at once, some at a time, those with the latest pongs first.
#[test]
fn seeds_are_checked_at_once() {
    let mut world = World::new(TableConfig::default());
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let seeds: Vec<_> = (0..100u8)
        .map(|n| {
            let last_pong = wall - Duration::from_secs(n.into());
            Seed {
                record: world.node_at(16 - usize::from(n % 10), [24, 1, n, 1]),
                last_pong,
                find_failures: 0,
                inbound: false,
            }
        })
        .collect();
    world.table.remember(wall, seeds.clone());
    world.table.handle_timeout(world.now);
    let mut wanted: VecDeque<_> = world.checks().into();
    assert_eq!(wanted, seeds[..64].iter().map(|seed| seed.record.clone()).collect::<VecDeque<_>>());
    let mut checked = Vec::new();
    while let Some(node) = wanted.pop_front() {
        world.table.check_done(world.now, &node.id(), Check::Answered);
        checked.push(node);
        wanted.extend(world.checks());
        assert!(wanted.len() <= 64);
    }
    assert_eq!(checked, seeds.iter().map(|seed| seed.record.clone()).collect::<Vec<_>>());
    assert!(world.table.entries().all(Entry::is_live));
}

/// Seeds get no more room than others: of 100 in one /24, ten come in, and two into a bucket.
#[test]
fn seeds_keep_to_the_subnet_limits() {
    let mut world = World::new(TableConfig::default());
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let seeds = (0..100)
        .map(|n| Seed {
            record: world.node_at(16 - n % 10, [24, 1, 1, n as u8]),
            last_pong: wall,
            find_failures: 0,
            inbound: false,
        })
        .collect();
    world.table.remember(wall, seeds);
    world.table.handle_timeout(world.now);
    assert_eq!(world.table.len() + world.table.replacements().count(), 10);
    assert_eq!(world.checks().len(), 10);
}

/// One lost ping at the start costs no seed: it is asked again within seconds, and goes only with its third miss.
#[test]
fn a_seed_that_misses_its_first_check_gets_another() {
    let mut world = World::new(TableConfig::default());
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let seed = |record| Seed { record, last_pong: wall, find_failures: 0, inbound: false };
    let seeds: Vec<_> = (0..4).map(|n| seed(world.node_at(16, [24, 1, n, 1]))).collect();
    let node = seeds[2].record.clone();
    world.table.remember(wall, seeds);
    world.table.handle_timeout(world.now);
    world.checks().iter().for_each(|node| world.table.check_done(world.now, &node.id(), Check::Missed));
    assert_eq!(world.table.len(), 4);
    let since = world.now;
    world.check(&node, Check::Answered);
    assert!(world.table.get(&node.id()).unwrap().is_live() && world.now - since < Duration::from_secs(10));
}

/// A restart does not launder nodes that came by themselves: of sixteen for one bucket, half of it are taken back.
#[test]
fn seeds_that_came_by_themselves_get_no_more_than_their_share() {
    let mut world = World::new(TableConfig::default());
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let seed = |record| Seed { record, last_pong: wall, find_failures: 0, inbound: true };
    let seeds = (0..16).map(|n| seed(world.node_at(16, [24, 1, n, 1]))).collect();
    world.table.remember(wall, seeds);
    world.table.handle_timeout(world.now);
    assert_eq!((world.table.len(), world.table.replacements().count()), (8, 0));
}

/// Our own network was away at the start, and nobody answered: the seeds are tried again.
#[test]
fn seeds_that_do_not_answer_are_tried_again() {
    let mut world = World::new(TableConfig::default());
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let seeds = (0..10)
        .map(|n| Seed {
            record: world.node_at(16 - n, [24, 1, n as u8, 1]),
            last_pong: wall,
            find_failures: 0,
            inbound: false,
        })
        .collect();
    world.table.remember(wall, seeds);
    let mut tried = 0;
    while tried < 50 {
        world.now = world.table.poll_timeout().unwrap().max(world.now);
        world.table.handle_timeout(world.now);
        for node in world.checks() {
            tried += 1;
            world.table.check_done(world.now, &node.id(), Check::Missed);
        }
        if world.table.is_refreshing() {
            world.table.refresh_lookup_done(world.now, 0);
        }
    }
}

/// The network was away: everything is lost, and the node has no bootnodes. It starts again from what it knew.
#[test]
fn an_empty_table_starts_again_from_nodes_that_were_alive() {
    let mut world = World::started();
    let nodes = world.add_nodes(3);
    world.pass(&nodes[0], 1);
    nodes.iter().for_each(|node| {
        while world.has(node) {
            world.miss(node)
        }
    });
    assert!(world.table.is_empty());
    while world.table.is_empty() {
        world.now = world.table.poll_timeout().unwrap();
        world.finish_refresh();
    }
    assert!(world.has(&nodes[0]));
}
