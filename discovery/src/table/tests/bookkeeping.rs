//! Counts, lists and buckets agree, whatever happens.

use super::*;

/// Any sequence of operations keeps the counts, lists and buckets consistent.
#[test]
fn bookkeeping_survives_any_order_of_events() {
    for config in [TableConfig::default(), TableConfig::cpp_ethereum()] {
        survive_any_order_of_events(config);
    }
}

fn survive_any_order_of_events(config: TableConfig) {
    let seed = 20_240_607;
    let mut world = World::started_with(config);
    world.rng = StdRng::seed_from_u64(seed);
    let pool: Vec<_> = (0..300)
        .map(|_| {
            let key = *SecretKey::random(&mut world.rng).public();
            let ip = Ipv4Addr::new(24, 0, world.rng.random_range(0..60), world.rng.random());
            NodeRecord::new(key, ip.into(), 30303, 0).unwrap()
        })
        .collect();
    for step in 0..20_000 {
        world.now += Duration::from_millis(world.rng.random_range(0..400));
        let node = pool[world.rng.random_range(0..pool.len())].clone();
        match world.rng.random_range(0..6) {
            0 => _ = world.table.add_found(world.now, &node),
            1 => _ = world.table.add_inbound(world.now, &node),
            2 => {
                let ip = format!("24.0.{}.1", world.rng.random_range(0..60));
                _ = world.table.add_inbound(world.now, &moved(&node, &ip, 30303));
            }
            3 => world.table.find_failed(world.now, &node.id(), 5),
            4 => {
                world.table.answered(world.now, &node.id(), node.endpoint());
                world.table.heard(&node.id(), node.endpoint());
            }
            _ => world.table.handle_timeout(world.now),
        }
        while let Some(action) = world.table.poll_action() {
            match action {
                Action::Check(node) if world.rng.random_bool(0.5) => {
                    world.table.check_done(world.now, &node.id(), Check::Missed);
                }
                Action::Check(node) => world.table.check_done(world.now, &node.id(), Check::Answered),
                Action::LookupSelf | Action::LookupRandom => world.table.refresh_lookup_done(world.now, 1),
                Action::Find { node, .. } => world.table.find_done(world.now, &node.id()),
            }
        }
        let table = &world.table;
        assert_eq!(table.len(), table.entries().count(), "seed {seed} step {step}");
        assert!(table.entries().all(|entry| table.revalidation.pace(&entry.id()).is_some()));
        if step % 100 == 0 {
            let limits = table.config.subnet_limits;
            let mut counts = SubnetCounts::default();
            for bucket in &table.buckets {
                assert!(bucket.entries.len() <= 16 && bucket.replacements.len() <= 10);
                bucket.records().for_each(|record| counts.add(limits.subnet(record.ip())));
                for record in bucket.records() {
                    let subnet = limits.subnet(record.ip());
                    let same = bucket.records().filter(|other| limits.subnet(other.ip()) == subnet).count();
                    assert!(same <= limits.bucket, "seed {seed} step {step}");
                    assert!(counts.count(&subnet.unwrap()) <= limits.table);
                }
            }
            assert_eq!(format!("{counts:?}"), format!("{:?}", table.subnets), "seed {seed} step {step}");
        }
    }
}
