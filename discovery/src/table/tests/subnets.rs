//! How many of one network the table takes.

use super::*;

#[test]
fn two_of_a_slash_24_in_a_bucket_ten_in_the_table() {
    let mut world = World::started();
    let near = |n: u8| Ipv4Addr::new(23, 55, 1, n);
    for n in 1..=2 {
        let node = world.node_at(LAST, near(n));
        assert_eq!(world.table.add_found(world.now, &node), Ok(()));
    }
    let third = world.node_at(LAST, near(3));
    assert_eq!(world.table.add_found(world.now, &third), Err(NotAdded::SubnetLimit));
    for n in 4..=11 {
        let node = world.node_at(LAST - usize::from(n / 2) + 1, near(n));
        assert_eq!(world.table.add_found(world.now, &node), Ok(()));
    }
    let eleventh = world.node_at(LAST - 7, near(12));
    assert_eq!(world.table.add_found(world.now, &eleventh), Err(NotAdded::SubnetLimit));
}

#[test]
fn replacements_count_for_the_subnet_limits_and_free_them_when_they_fall_off() {
    let mut world = World::started();
    world.add_nodes(16);
    let near: Vec<_> = (1..=3).map(|n| world.node_at(LAST, Ipv4Addr::new(23, 55, 1, n))).collect();
    near.iter().for_each(|node| _ = world.table.add_found(world.now, node));
    assert_eq!(world.table.replacements().count(), 2);
    for _ in 0..10 {
        let node = world.node();
        _ = world.table.add_found(world.now, &node);
    }
    assert_eq!(world.table.subnets.count(&"23.55.1.0/24".parse().unwrap()), 0);
}

#[test]
fn lan_nodes_are_not_limited_unless_asked_for() {
    for (lan, expected) in [(false, 16), (true, 2)] {
        let mut config = TableConfig::default();
        config.subnet_limits.lan = lan;
        let mut world = World::new(config);
        for n in 1..=16 {
            let node = world.node_at(LAST, Ipv4Addr::new(127, 0, 0, n));
            _ = world.table.add_found(world.now, &node);
        }
        assert_eq!(world.table.len(), expected, "lan: {lan}");
    }
}

#[test]
fn a_move_into_a_full_network_is_refused_and_costs_nothing() {
    let mut world = World::started();
    for n in 1..=2 {
        let node = world.node_at(LAST, Ipv4Addr::new(23, 55, 1, n));
        world.table.add_found(world.now, &node).unwrap();
    }
    let node = world.add_nodes(1).remove(0);
    _ = world.table.add_inbound(world.now, &moved(&node, "23.55.1.9", 30303));
    assert_eq!(world.table.get(&node.id()).unwrap().record(), &node);
    assert_eq!(world.table.subnets.count(&"23.55.1.0/24".parse().unwrap()), 2);
    _ = world.table.add_inbound(world.now, &moved(&node, "23.77.1.9", 30303));
    assert_eq!(world.table.get(&node.id()).unwrap().record().ip().to_string(), "23.77.1.9");
}

#[test]
fn a_move_within_a_full_network_takes_no_further_place() {
    let mut world = World::started();
    let near = |n: u8| Ipv4Addr::new(23, 55, 1, n);
    let nodes: Vec<_> = (1..=2).map(|n| world.node_at(LAST, near(n))).collect();
    let elsewhere = world.node_at(LAST - 1, near(3));
    nodes.iter().chain([&elsewhere]).for_each(|node| world.table.add_found(world.now, node).unwrap());
    _ = world.table.add_inbound(world.now, &moved(&nodes[0], "23.55.1.9", 30303));
    assert_eq!(world.table.get(&nodes[0].id()).unwrap().record().ip(), near(9));
    assert_eq!(world.table.subnets.count(&"23.55.1.0/24".parse().unwrap()), 3);
}
