//! What the table answers when asked.

use super::*;

#[test]
fn closest_is_what_sorting_everything_gives() {
    let mut world = World::started();
    for bucket in (9..=LAST).rev() {
        for n in 0..6 {
            let node = world.node_at(bucket, Ipv4Addr::new(24, bucket as u8, n, 1));
            world.table.add_found(world.now, &node).unwrap();
        }
    }
    let all: Vec<_> = world.table.entries().map(|entry| entry.record().clone()).collect();
    let targets = (0..200).map(|_| NodeId(world.rng.random())).collect::<Vec<_>>();
    let near_us = (9..17).map(|bucket| world.key_in(bucket).node_id()).collect::<Vec<_>>();
    for target in targets.into_iter().chain(near_us).chain([NodeId([0; 32])]) {
        let mut expected = all.clone();
        expected.sort_by_key(|node| target.distance(&node.id()));
        expected.truncate(16);
        assert_eq!(world.table.closest(&target, 16, Prefer::All), expected);
    }
}

#[test]
fn others_are_told_of_live_nodes_only() {
    let mut world = World::started();
    let nodes = world.add_nodes(4);
    let target = NodeId([9; 32]);
    assert_eq!(world.table.closest(&target, 16, Prefer::Live), [], "hearsay is not passed on");
    world.table.answered(world.now, &nodes[2].id(), nodes[2].endpoint());
    assert_eq!(world.table.closest(&target, 16, Prefer::Live), [nodes[2].clone()]);
    assert_eq!(world.table.closest(&target, 16, Prefer::All).len(), 4);
}

#[test]
fn random_nodes_take_from_every_bucket_and_none_twice() {
    let mut world = World::new(TableConfig::default());
    let close = world.node_at(11, Ipv4Addr::new(24, 0, 0, 1));
    world.table.add_found(world.now, &close).unwrap();
    assert!(world.table.random_nodes(4).is_empty(), "nothing before the first refresh");
    world.finish_refresh();
    world.add_nodes(16);
    assert!(world.table.random_nodes(2).contains(&close), "one of each bucket first");
    let mut ids: Vec<_> = world.table.random_nodes(100).iter().map(NodeRecord::id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 17);
}
