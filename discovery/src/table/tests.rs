//! The table's rules as stories: nodes come, answer, fall silent, move.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::SecretKey;

/// A table and made-up nodes, all in its last bucket (distance 256) unless said otherwise.
struct World {
    now: Instant,
    table: Table,
    rng: StdRng,
    made: u32,
}

const LAST: usize = 16;

impl World {
    fn new(config: TableConfig) -> World {
        let mut rng = StdRng::seed_from_u64(7);
        let now = crate::Now::read().monotonic;
        let table = Table::new(now, NodeId([0; 32]), config, Vec::new(), &mut rng);
        World { now, table, rng, made: 0 }
    }

    /// A world past its first refresh.
    fn started() -> World {
        let mut world = World::new(TableConfig::default());
        world.finish_refresh();
        world
    }

    fn finish_refresh(&mut self) {
        self.table.handle_timeout(self.now);
        while let Some(action) = self.table.poll_action() {
            if matches!(action, Action::LookupSelf | Action::LookupRandom) {
                self.table.refresh_lookup_done(self.now, self.table.len());
            }
        }
        assert!(self.table.is_initialised());
    }

    fn key_in(&mut self, bucket: usize) -> crate::PublicKey {
        loop {
            let key = *SecretKey::random(&mut self.rng).public();
            if bucket_index(NodeId([0; 32]).log_distance(&key.node_id()), 17) == bucket {
                return key;
            }
        }
    }

    fn node_at(&mut self, bucket: usize, ip: impl Into<IpAddr>) -> NodeRecord {
        NodeRecord::new(self.key_in(bucket), ip.into(), 30303, 30303).unwrap()
    }

    /// A node of a network of its own.
    fn node(&mut self) -> NodeRecord {
        self.made += 1;
        let ip = Ipv4Addr::from(0x1700_0001 + (self.made << 8));
        self.node_at(LAST, ip)
    }

    fn add_nodes(&mut self, count: usize) -> Vec<NodeRecord> {
        let nodes: Vec<_> = (0..count).map(|_| self.node()).collect();
        for node in &nodes {
            assert_eq!(self.table.add_found(self.now, node), Ok(()));
        }
        nodes
    }

    /// Waits for the table to check `node`, then answers as `outcome` says.
    fn check(&mut self, node: &NodeRecord, outcome: Check) {
        for _ in 0..100_000 {
            self.now = self.table.poll_timeout().unwrap().max(self.now);
            self.table.handle_timeout(self.now);
            while let Some(action) = self.table.poll_action() {
                match action {
                    Action::Check(record) if record.id() == node.id() => {
                        self.table.check_done(self.now, &node.id(), outcome);
                        return;
                    }
                    Action::Check(record) => {
                        self.table.check_done(self.now, &record.id(), Check::Answered);
                    }
                    Action::LookupSelf | Action::LookupRandom => {
                        self.table.refresh_lookup_done(self.now, self.table.len())
                    }
                }
            }
        }
        panic!("never checked");
    }

    fn pass(&mut self, node: &NodeRecord, times: usize) {
        (0..times).for_each(|_| self.check(node, Check::Answered));
    }

    fn miss(&mut self, node: &NodeRecord) {
        self.check(node, Check::Missed);
    }

    fn has(&self, node: &NodeRecord) -> bool {
        self.table.get(&node.id()).is_some()
    }

    fn events(&mut self) -> Vec<TableEvent> {
        std::iter::from_fn(|| self.table.poll_event()).collect()
    }
}

fn moved(node: &NodeRecord, ip: &str, udp: u16) -> NodeRecord {
    NodeRecord::new(*node.key(), ip.parse().unwrap(), udp, udp).unwrap()
}

/// The same node with a signed record, which needs its secret key.
fn signed(key: &SecretKey, seq: u64, ip: &str) -> NodeRecord {
    let record = crate::Enr::builder(seq).ip(ip.parse().unwrap()).udp(30303).tcp(30303).sign(key).unwrap();
    NodeRecord::from_enr(record).unwrap()
}

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

#[test]
fn a_passed_check_moves_to_the_slow_list_a_missed_one_divides_by_three() {
    let mut world = World::started();
    let node = world.add_nodes(2).remove(0);
    world.pass(&node, 10);
    assert_eq!(world.table.revalidation.pace(&node.id()), Some(Pace::Slow));
    for (checks, live) in [(3, true), (1, true), (0, false)] {
        // Missed three times, but nobody can replace it: it goes with the third miss only.
        if checks > 0 {
            world.miss(&node);
            let entry = world.table.get(&node.id()).unwrap();
            assert_eq!((entry.checks(), entry.is_live()), (checks, live));
            assert_eq!(world.table.revalidation.pace(&node.id()), Some(Pace::Fast));
        } else {
            world.miss(&node);
            assert!(!world.has(&node));
        }
    }
}

#[test]
fn one_lost_packet_never_empties_a_bucket() {
    let mut world = World::started();
    let node = world.add_nodes(1).remove(0);
    world.miss(&node);
    assert!(world.has(&node));
    world.miss(&node);
    assert!(world.has(&node));
    world.miss(&node);
    assert!(!world.has(&node), "but three do");
}

#[test]
fn a_node_that_never_answered_goes_with_its_first_miss() {
    let mut world = World::started();
    let nodes = world.add_nodes(2);
    world.miss(&nodes[0]);
    assert!(!world.has(&nodes[0]) && world.has(&nodes[1]));
}

#[test]
fn an_answer_makes_live_at_once_and_only_from_the_known_endpoint() {
    let mut world = World::started();
    let node = world.add_nodes(1).remove(0);
    world.table.answered(world.now, &node.id(), "9.9.9.9:30303".parse().unwrap());
    assert!(!world.table.get(&node.id()).unwrap().is_live());
    world.table.answered(world.now, &node.id(), node.endpoint());
    assert!(world.table.get(&node.id()).unwrap().is_live());
    assert_eq!(world.table.revalidation.pace(&node.id()), Some(Pace::Slow), "that was as good as a check");
}

#[test]
fn a_node_that_has_just_answered_is_not_checked() {
    let mut world = World::started();
    let node = world.add_nodes(1).remove(0);
    let until = world.now + Duration::from_secs(60);
    while world.now < until {
        world.now = world.table.poll_timeout().unwrap().max(world.now);
        world.table.answered(world.now, &node.id(), node.endpoint());
        world.table.handle_timeout(world.now);
        assert!(!matches!(world.table.poll_action(), Some(Action::Check(_))));
    }
}

#[test]
fn a_check_of_a_removed_node_brings_nothing_back() {
    let mut world = World::started();
    let nodes = world.add_nodes(5);
    world.now += Duration::from_secs(3);
    world.table.handle_timeout(world.now);
    let actions = std::iter::from_fn(|| world.table.poll_action()).collect::<Vec<_>>();
    let Some(Action::Check(node)) = actions.into_iter().rfind(|action| matches!(action, Action::Check(_))) else {
        panic!("no check")
    };
    world.table.find_failed(world.now, &node.id(), 5);
    assert!(nodes.contains(&node) && !world.has(&node));
    assert!(world.table.check_done(world.now, &node.id(), Check::Answered).is_none());
    assert!(!world.has(&node));
}

#[test]
fn five_find_failures_remove_a_node_from_a_bucket_of_four_or_more() {
    let mut world = World::started();
    let nodes = world.add_nodes(4);
    world.table.find_failed(world.now, &nodes[0].id(), 4);
    assert!(world.has(&nodes[0]));
    world.table.find_failed(world.now, &nodes[0].id(), 5);
    assert!(!world.has(&nodes[0]));
    world.table.find_failed(world.now, &nodes[1].id(), 50);
    assert!(world.has(&nodes[1]), "three are too few to lose one");
}

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
fn others_are_told_of_live_nodes_unless_there_are_none() {
    let mut world = World::started();
    let nodes = world.add_nodes(4);
    let target = NodeId([9; 32]);
    assert_eq!(world.table.closest(&target, 16, Prefer::Live).len(), 4);
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

/// Any sequence of operations keeps the counts, lists and buckets consistent.
#[test]
fn bookkeeping_survives_any_order_of_events() {
    let seed = 20_240_607;
    let mut world = World::started();
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
            4 => world.table.answered(world.now, &node.id(), node.endpoint()),
            _ => world.table.handle_timeout(world.now),
        }
        while let Some(action) = world.table.poll_action() {
            match action {
                Action::Check(node) if world.rng.random_bool(0.5) => {
                    world.table.check_done(world.now, &node.id(), Check::Missed);
                }
                Action::Check(node) => _ = world.table.check_done(world.now, &node.id(), Check::Answered),
                Action::LookupSelf | Action::LookupRandom => world.table.refresh_lookup_done(world.now, 1),
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
