//! Checks, and what answers and silence do to a node.

use super::*;

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
    world.table.check_done(world.now, &node.id(), Check::Answered);
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
    assert_eq!(world.table.revalidation.pace(&nodes[1].id()), Some(Pace::Fast));
}

/// A node is worth storing when it first answers, not only when its turn to be checked comes.
#[test]
fn who_is_found_alive_is_told_at_once_and_at_every_check() {
    let mut world = World::started();
    let node = world.add_nodes(1).remove(0);
    assert_eq!(world.alive(), []);
    world.table.answered(world.now, &node.id(), node.endpoint());
    world.table.answered(world.now, &node.id(), node.endpoint());
    assert_eq!(world.alive(), [(node.id(), 1)]);
    world.pass(&node, 2);
    assert_eq!(world.alive(), [(node.id(), 2), (node.id(), 3)]);
    world.miss(&node);
    assert_eq!(world.alive(), []);
}

/// What the store knows of a node says whether it came by itself: a restart would have less room for it.
#[test]
fn a_node_that_others_know_too_is_told_again() {
    let mut world = World::started();
    let node = world.node();
    world.table.add_inbound(world.now, &node).unwrap();
    world.table.answered(world.now, &node.id(), node.endpoint());
    for is_told in [true, false] {
        _ = world.table.add_found(world.now, &node);
        let events = std::iter::from_fn(|| world.table.poll_event());
        let told = events.filter(|event| matches!(event, TableEvent::Alive { inbound: false, .. })).count();
        assert_eq!(told, usize::from(is_told));
    }
}
