//! Who comes into a bucket, and who waits outside.

use super::*;

#[test]
fn buckets_by_distance_with_everything_close_in_the_first() {
    for (distance, bucket) in [(0, 0), (1, 0), (239, 0), (240, 0), (241, 1), (250, 10), (255, 15), (256, 16)] {
        assert_eq!(bucket_index(distance, 17), bucket, "distance {distance}");
    }
    for (distance, bucket) in [(1, 0), (2, 1), (256, 255)] {
        assert_eq!(bucket_index(distance, 256), bucket, "distance {distance} of 256 buckets");
    }
}

#[test]
fn our_own_id_is_refused() {
    let mut world = World::started();
    let node = world.node();
    let now = world.now;
    let mut rng = StdRng::seed_from_u64(1);
    let mut own = Table::new(now, node.id(), TableConfig::default(), Vec::new(), &mut rng);
    assert_eq!(own.add_found(now, &node), Err(NotAdded::Own));
}

#[test]
fn inbound_nodes_wait_for_the_first_refresh() {
    let mut world = World::new(TableConfig::default());
    let (early, found) = (world.node(), world.node());
    assert_eq!(world.table.add_inbound(world.now, &early), Err(NotAdded::Initialising));
    assert_eq!(world.table.add_found(world.now, &found), Ok(()));
    world.finish_refresh();
    assert_eq!(world.table.add_inbound(world.now, &early), Ok(()));
}

#[test]
fn the_seventeenth_node_of_a_bucket_becomes_a_replacement() {
    let mut world = World::started();
    world.add_nodes(16);
    let late = world.node();
    assert_eq!(world.table.add_found(world.now, &late), Err(NotAdded::BucketFull));
    assert!(!world.has(&late));
    assert_eq!(world.table.record(&late.id()), Some(&late));
    assert_eq!(world.table.len(), 16);
}

#[test]
fn ten_replacements_the_oldest_falls_off() {
    let mut world = World::started();
    world.add_nodes(16);
    let late: Vec<_> = (0..11).map(|_| world.node()).collect();
    for node in late.iter().chain(&late[10..]) {
        assert_eq!(world.table.add_found(world.now, node), Err(NotAdded::BucketFull));
    }
    let kept: Vec<_> = world.table.replacements().cloned().collect();
    assert_eq!(kept, late[1..].iter().rev().cloned().collect::<Vec<_>>(), "newest first, none twice");
}

#[test]
fn a_replacement_comes_in_when_a_node_goes() {
    let mut world = World::started();
    let nodes = world.add_nodes(16);
    let late = world.node();
    _ = world.table.add_found(world.now, &late);
    world.events();
    world.miss(&nodes[3]);
    assert!(!world.has(&nodes[3]) && world.has(&late));
    assert_eq!(world.events(), [TableEvent::Removed(nodes[3].clone()), TableEvent::Added(late.clone())]);
    assert_eq!(world.table.revalidation.pace(&late.id()), Some(Pace::New));
    assert_eq!(world.table.revalidation.pace(&nodes[3].id()), None);
}

/// Whoever pings us gets half of a bucket, and no place among those that wait: the rest is for whom we find.
/// Nobody can wait at the right place of the queue.
#[test]
fn which_replacement_comes_in_is_drawn() {
    let mut world = World::started();
    let nodes = world.add_nodes(16);
    for _ in 0..10 {
        let node = world.node();
        assert_eq!(world.table.add_found(world.now, &node), Err(NotAdded::BucketFull));
    }
    let mut places = std::collections::BTreeSet::new();
    for node in &nodes[..9] {
        let waiting: Vec<_> = world.table.replacements().map(NodeRecord::id).collect();
        world.table.find_failed(world.now, &node.id(), 5);
        places.extend(waiting.iter().position(|id| world.table.get(id).is_some()));
    }
    assert!(places.len() >= 3, "{places:?}");
}

#[test]
fn nodes_that_came_by_themselves_get_half_of_a_bucket() {
    let mut world = World::started();
    for _ in 0..8 {
        let guest = world.node();
        assert_eq!(world.table.add_inbound(world.now, &guest), Ok(()));
        world.table.answered(world.now, &guest.id(), guest.endpoint());
    }
    let ninth = world.node();
    assert_eq!(world.table.add_inbound(world.now, &ninth), Err(NotAdded::InboundShare));
    assert_eq!(world.table.replacements().count(), 0);
    // A lookup that finds it opens the door; one that finds a guest makes room for another guest.
    assert_eq!(world.table.add_found(world.now, &ninth), Ok(()));
    let guest = world.table.entries().find(|entry| entry.is_inbound()).unwrap().record().clone();
    assert_eq!(world.table.add_found(world.now, &guest), Err(NotAdded::Known));
    let tenth = world.node();
    assert_eq!(world.table.add_inbound(world.now, &tenth), Ok(()));
    world.add_nodes(6);
    let late = world.node();
    assert_eq!(world.table.add_inbound(world.now, &late), Err(NotAdded::InboundShare));
    assert_eq!(world.table.replacements().count(), 0);
}

/// Who starts a network at home waits for nobody: its guests get the whole of a bucket, until a node of the internet is in it.
#[test]
fn guests_of_a_local_network_get_a_whole_bucket_of_their_own() {
    for (public, admitted) in [(0, 16), (1, 8), (9, 7)] {
        let mut world = World::started();
        world.add_nodes(public);
        let guests: Vec<_> = (0..20).map(|n| world.node_at(LAST, Ipv4Addr::new(192, 168, 1, n))).collect();
        let added = guests.iter().filter(|guest| world.table.add_inbound(world.now, guest).is_ok()).count();
        assert_eq!((added, world.table.replacements().count()), (admitted, 0), "beside {public} nodes of the internet");
    }
    let limits = SubnetLimits { lan: true, ..SubnetLimits::default() };
    let mut world = World::started_with(TableConfig { subnet_limits: limits, ..TableConfig::default() });
    let guests: Vec<_> = (0..20).map(|n| world.node_at(LAST, Ipv4Addr::new(10, 1, n, 1))).collect();
    let added = guests.iter().filter(|guest| world.table.add_inbound(world.now, guest).is_ok()).count();
    assert_eq!(added, 8, "a LAN that counts as the internet does");
}

#[test]
fn the_share_of_those_who_came_by_themselves_can_be_the_whole_bucket() {
    let mut world = World::new(TableConfig { inbound: 16, ..TableConfig::default() });
    world.finish_refresh();
    for n in 0..17 {
        let guest = world.node();
        let expected = if n < 16 { Ok(()) } else { Err(NotAdded::BucketFull) };
        assert_eq!(world.table.add_inbound(world.now, &guest), expected);
    }
    assert_eq!(world.table.replacements().count(), 1);
}

/// Guests are asked where to go only if there is hardly anybody else.
#[test]
fn lookups_start_from_nodes_that_were_found() {
    let mut world = World::started();
    let guest = world.node();
    world.table.add_inbound(world.now, &guest).unwrap();
    assert_eq!(world.table.closest(&guest.id(), 4, Prefer::Found)[0], guest);
    let found = world.add_nodes(4);
    assert_eq!(world.table.closest(&guest.id(), 5, Prefer::Found)[0], guest, "four are too few");
    let start = world.table.closest(&guest.id(), 4, Prefer::Found);
    assert!(start.len() == 4 && start.iter().all(|node| found.contains(node)));
}

/// One of a /24 in a bucket, five in the table; on a LAN as many as the buckets take.
#[test]
fn guests_get_half_of_what_their_network_may_have() {
    for (network, expected) in [([23, 55, 1], 5), ([192, 168, 1], 20)] {
        let mut world = World::started();
        let guests: Vec<_> = (0..20_u8)
            .map(|n| world.node_at(LAST - usize::from(n / 2) % 5, Ipv4Addr::new(network[0], network[1], network[2], n)))
            .collect();
        let added = guests.iter().filter(|guest| world.table.add_inbound(world.now, guest).is_ok()).count();
        assert_eq!(added, expected);
    }
}
