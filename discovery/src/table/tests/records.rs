//! Which news of a known node the table believes.

use super::*;

#[test]
fn found_records_change_nothing_inbound_ones_move_the_node() {
    let mut world = World::started();
    let node = world.add_nodes(1).remove(0);
    world.pass(&node, 1);
    let elsewhere = moved(&node, "23.99.1.1", 30303);
    assert_eq!(world.table.add_found(world.now, &elsewhere), Err(NotAdded::Known));
    assert_eq!(world.table.get(&node.id()).unwrap().record(), &node);
    assert_eq!(world.table.add_inbound(world.now, &elsewhere), Err(NotAdded::Known));
    let entry = world.table.get(&node.id()).unwrap();
    assert_eq!((entry.record(), entry.is_live()), (&elsewhere, false), "a new endpoint must prove itself");
    assert_eq!(world.table.revalidation.pace(&node.id()), Some(Pace::Fast));
}

/// A ping tells less than the signed record we have; go-ethereum would forget the record, and with it the node's `tm`.
#[test]
fn an_unsigned_record_of_the_same_endpoint_does_not_replace_a_signed_one() {
    let mut world = World::started();
    let key = SecretKey::random(&mut world.rng);
    let record = signed(&key, 5, "23.1.1.1");
    world.table.add_found(world.now, &record).unwrap();
    _ = world.table.add_inbound(world.now, &moved(&record, "23.1.1.1", 30303));
    assert_eq!(world.table.get(&record.id()).unwrap().record().seq(), 5);
}

#[test]
fn a_record_is_replaced_by_a_newer_one_only() {
    let mut world = World::started();
    let key = SecretKey::random(&mut world.rng);
    let record = signed(&key, 5, "23.1.1.1");
    world.table.add_found(world.now, &record).unwrap();
    for (seq, expected) in [(4, 5), (5, 5), (6, 6)] {
        world.check(&record, Check::Answered);
        world.table.update(world.now, &signed(&key, seq, "23.1.1.1"));
        assert_eq!(world.table.get(&record.id()).unwrap().record().seq(), expected);
        assert!(world.table.get(&record.id()).unwrap().is_live());
    }
    world.table.update(world.now, &signed(&key, 7, "23.1.2.1"));
    let entry = world.table.get(&record.id()).unwrap();
    assert_eq!((entry.record().seq(), entry.is_live()), (7, false));
    assert_eq!(world.table.revalidation.pace(&record.id()), Some(Pace::Fast));
}
