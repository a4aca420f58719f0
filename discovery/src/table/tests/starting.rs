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
fn seeds_are_at_most_thirty_of_the_last_five_days() {
    let mut world = World::new(TableConfig::default());
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let day = Duration::from_secs(24 * 60 * 60);
    let old = Seed { record: world.node(), last_pong: wall - day * 6 };
    // The clock was set back: no reason to start with nothing.
    let future = Seed { record: world.node_at(10, [24, 2, 1, 1]), last_pong: wall + day };
    world.table.remember(wall, vec![old, future.clone()]);
    world.finish_refresh();
    let ids: Vec<_> = world.table.entries().map(Entry::id).collect();
    assert_eq!(ids, [future.record.id()]);

    let mut world = World::new(TableConfig::default());
    let seeds: Vec<_> =
        (0..40).map(|n| Seed { record: world.node_at(16 - n % 4, [24, 1, n as u8, 1]), last_pong: wall }).collect();
    world.table.remember(wall, seeds);
    world.finish_refresh();
    assert_eq!(world.table.len(), SEED_COUNT);
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
