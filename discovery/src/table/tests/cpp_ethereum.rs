//! The rules of the C++ table: a bucket for every distance, eviction by ping, runs of discovery.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn cpp() -> World {
    World::started_with(TableConfig::cpp_ethereum())
}

/// Sixteen live nodes of one bucket, last heard in this order, and a quiet minute after that.
fn full_bucket(world: &mut World) -> Vec<NodeRecord> {
    let nodes = world.add_nodes(16);
    for node in &nodes {
        hear(world, node);
    }
    world.now += 60 * SECOND;
    nodes
}

/// An answer of the node.
fn hear(world: &mut World, node: &NodeRecord) {
    world.table.answered(world.now, &node.id(), node.endpoint());
    world.table.heard(&node.id(), node.endpoint());
}

/// A newcomer, and whom the table wants to check because of it.
fn newcomer(world: &mut World) -> (NodeRecord, Vec<NodeRecord>) {
    let node = world.node();
    assert_eq!(world.table.add_found(world.now, &node), Err(NotAdded::BucketFull));
    (node, checks(world))
}

fn checks(world: &mut World) -> Vec<NodeRecord> {
    let check = |action| match action {
        Action::Check(node) => Some(node),
        _ => None,
    };
    std::iter::from_fn(|| world.table.poll_action()).filter_map(check).collect()
}

/// Whom the table asks now, and for which target.
fn finds(world: &mut World) -> (Vec<NodeRecord>, Option<[u8; 64]>) {
    let mut of = None;
    let mut asked = Vec::new();
    while let Some(action) = world.table.poll_action() {
        if let Action::Find { node, target } = action {
            of = Some(target);
            asked.push(node);
        }
    }
    (asked, of)
}

/// Waits for the next run to begin: its first round.
fn next_run(world: &mut World) -> (Vec<NodeRecord>, [u8; 64]) {
    loop {
        if let (asked, Some(target)) = finds(world) {
            return (asked, target);
        }
        world.now = world.table.poll_timeout().unwrap();
        world.table.handle_timeout(world.now);
    }
}

/// Nodes of all distances near the outside, so that a target has some near it.
fn spread(world: &mut World, count: u8) {
    for n in 0..count {
        let node = world.node_at(255 - usize::from(n % 6), Ipv4Addr::new(24, n, 0, 1));
        world.table.add_found(world.now, &node).unwrap();
    }
}

#[test]
fn every_distance_from_1_to_256_has_its_bucket() {
    let node = cpp().node();
    for distance in 1..=256_usize {
        let mut local = node.id();
        local.0[(256 - distance) / 8] ^= 1 << ((distance - 1) % 8);
        assert_eq!(usize::from(local.log_distance(&node.id())), distance);
        let now = crate::Now::read().monotonic;
        let mut rng = StdRng::seed_from_u64(1);
        let mut table = Table::new(now, local, TableConfig::cpp_ethereum(), Vec::new(), &mut rng);
        table.add_found(now, &node).unwrap();
        let filled: Vec<_> = (1..=256).filter(|n| !table.buckets[n - 1].entries.is_empty()).collect();
        assert_eq!(filled, [distance]);
    }
}

#[test]
fn the_oldest_of_a_full_bucket_is_pinged_and_stays_if_it_answers() {
    let mut world = cpp();
    let nodes = full_bucket(&mut world);
    let (late, checked) = newcomer(&mut world);
    assert_eq!(checked, nodes[..1]);
    world.table.check_done(world.now, &nodes[0].id(), Check::Answered);
    assert!(world.has(&nodes[0]) && !world.has(&late));
    let (_, checked) = newcomer(&mut world);
    assert_eq!(checked, nodes[1..2], "the first is the most recent now");
}

#[test]
fn an_oldest_that_is_silent_gives_its_place_to_the_newcomer() {
    let mut world = cpp();
    let nodes = full_bucket(&mut world);
    // However often it has answered before: every node five times.
    for node in (0..5).flat_map(|_| &nodes) {
        assert_eq!(newcomer(&mut world).1, std::slice::from_ref(node));
        world.table.check_done(world.now, &node.id(), Check::Answered);
        world.now += SECOND;
    }
    let (late, checked) = newcomer(&mut world);
    world.events();
    world.table.check_done(world.now, &checked[0].id(), Check::Missed);
    assert_eq!(world.events(), [TableEvent::Removed(nodes[0].clone()), TableEvent::Added(late.clone())]);
    assert_eq!(world.table.len(), 16);
}

/// The newest: of many that come while one ping is under way, it is the likeliest to be there still.
#[test]
fn one_newcomer_waits_for_a_place() {
    let mut world = cpp();
    let nodes = full_bucket(&mut world);
    let (early, _) = newcomer(&mut world);
    let (late, checked) = newcomer(&mut world);
    assert_eq!(checked, [], "the oldest is being asked");
    world.table.check_done(world.now, &nodes[0].id(), Check::Missed);
    assert!(world.has(&late) && !world.has(&early));
}

#[test]
fn every_packet_makes_its_sender_the_most_recent() {
    let mut world = cpp();
    let nodes = full_bucket(&mut world);
    world.table.heard(&nodes[0].id(), nodes[0].endpoint());
    world.table.heard(&nodes[1].id(), "9.9.9.9:30303".parse().unwrap());
    assert_eq!(newcomer(&mut world).1, nodes[1..2], "not if it comes from elsewhere");
}

#[test]
fn an_oldest_that_has_just_answered_is_not_pinged() {
    let mut world = cpp();
    let nodes = full_bucket(&mut world);
    nodes.iter().for_each(|node| hear(&mut world, node));
    assert_eq!(newcomer(&mut world).1, []);
    world.now += SECOND;
    assert_eq!(newcomer(&mut world).1, nodes[..1]);
}

#[test]
fn without_a_newcomer_live_nodes_are_never_pinged() {
    let mut world = cpp();
    full_bucket(&mut world);
    let end = world.now + 3600 * SECOND;
    while world.now < end {
        world.now = world.table.poll_timeout().unwrap();
        world.table.handle_timeout(world.now);
        while let Some(action) = world.table.poll_action() {
            match action {
                Action::Find { node, .. } => world.table.find_done(world.now, &node.id()),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn newcomers_must_answer_and_those_who_moved_again() {
    let mut world = cpp();
    let nodes = world.add_nodes(2);
    hear(&mut world, &nodes[0]);
    world.miss(&nodes[1]);
    assert!(!world.has(&nodes[1]));
    _ = world.table.add_inbound(world.now, &moved(&nodes[0], "23.99.1.1", 30303));
    world.miss(&moved(&nodes[0], "23.99.1.1", 30303));
    assert!(!world.table.get(&nodes[0].id()).unwrap().is_live(), "the last of its bucket has three tries");
}

#[test]
fn a_run_begins_seven_point_two_seconds_after_the_end_of_the_one_before() {
    let mut world = cpp();
    spread(&mut world, 2);
    let mut targets = Vec::new();
    for _ in 0..5 {
        let (asked, target) = next_run(&mut world);
        let begun = world.now;
        world.now += SECOND / 10;
        asked.iter().for_each(|node| world.table.find_done(world.now, &node.id()));
        assert_eq!(finds(&mut world), (vec![], None), "nobody else to ask");
        assert_eq!(world.table.refresh.next(), Some(begun + SECOND / 10 + Duration::from_millis(7200)));
        targets.push(target);
    }
    targets.sort();
    targets.dedup();
    assert_eq!(targets.len(), 5, "always another target");
}

/// Every 7.2 s would be a nuisance to whoever has the address of a bootnode that has gone.
#[test]
fn runs_start_from_the_bootnodes_only_when_nobody_else_is_known() {
    let mut world = cpp();
    let (bootnode, other) = (world.node(), world.node());
    world.table.bootnodes = vec![bootnode.clone()];
    next_run(&mut world);
    assert!(world.has(&bootnode));
    world.table.add_found(world.now, &other).unwrap();
    hear(&mut world, &other);
    world.miss(&bootnode);
    for _ in 0..10 {
        next_run(&mut world).0.iter().for_each(|node| world.table.find_done(world.now, &node.id()));
        assert!(!world.has(&bootnode));
    }
    while world.has(&other) {
        world.table.find_failed(world.now, &other.id(), 5);
        world.miss(&other);
    }
    next_run(&mut world);
    assert!(world.has(&bootnode));
}

#[test]
fn a_round_asks_the_three_nearest_of_the_sixteen_not_asked_yet() {
    let mut world = cpp();
    spread(&mut world, 40);
    let (mut asked, target) = next_run(&mut world);
    let nearest = world.table.closest(&NodeId::of_target(&target), 16, Prefer::All);
    let mut all = Vec::new();
    while !asked.is_empty() {
        assert!(asked.len() <= 3);
        asked.iter().for_each(|node| world.table.find_done(world.now, &node.id()));
        all.extend(std::mem::replace(&mut asked, finds(&mut world).0));
    }
    assert_eq!(all, nearest, "nothing nearer has come");
    assert!(!world.table.is_refreshing());
}

/// Whoever is asked is dead and goes, so that the next are among the nearest: a run ends all the same.
#[test]
fn a_run_has_at_most_eight_rounds() {
    let mut world = cpp();
    let mut rounds = Vec::new();
    spread(&mut world, 90);
    let mut asked = next_run(&mut world).0;
    while !asked.is_empty() {
        rounds.push(asked.len());
        for node in asked {
            world.table.find_failed(world.now, &node.id(), 5);
            world.table.find_done(world.now, &node.id());
        }
        asked = finds(&mut world).0;
    }
    assert_eq!(rounds, [3; 8]);
}

#[test]
fn a_round_ends_after_600_milliseconds_whoever_is_silent() {
    let mut world = cpp();
    spread(&mut world, 6);
    let (first, target) = next_run(&mut world);
    world.table.find_done(world.now, &first[0].id());
    assert_eq!(finds(&mut world).0, [], "two are still to answer");
    let begun = world.now;
    while world.now < begun + Duration::from_millis(600) {
        assert_eq!(finds(&mut world).0, []);
        world.now = world.table.poll_timeout().unwrap();
        world.table.handle_timeout(world.now);
    }
    assert_eq!(world.now, begun + Duration::from_millis(600));
    let (second, same) = finds(&mut world);
    assert_eq!((second.len(), same), (3, Some(target)));
    // An answer to the first round changes nothing any more.
    world.table.find_done(world.now, &first[1].id());
    assert_eq!(finds(&mut world).0, []);
}
