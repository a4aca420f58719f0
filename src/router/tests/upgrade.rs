//! Full places go to better peers, and to no others.

use super::*;

fn two_inbound_and_a_better_fifth(policy: &mut peers::Config) {
    policy.slots.inbound = 2;
    policy.scores = [(id(5), 10)].into();
}

#[tokio::test(start_paused = true)]
async fn a_better_newcomer_takes_the_place_of_a_strictly_lower_peer() {
    let world = World::default();
    let one = world.node(1, Change { policy: two_inbound_and_a_better_fifth, ..Change::default() });
    let two = world.dialing(2, [1]);
    sleep(SOON).await;
    let three = world.dialing(3, [1]);
    sleep(SOON).await;
    let mut events = one.router.handle().peer_events();
    while events.try_next().is_some() {}
    // All places are taken, and an equal one is no reason to lose a peer.
    let four = world.dialing(4, [1]);
    sleep(SOON).await;
    assert_eq!((one.peers(), four.peers()), (vec![id(2), id(3)], vec![]));
    assert_eq!(one.stats().await.peers.refusals.of(WhyNot::NoSlots), 1);

    let five = world.dialing(5, [1]);
    sleep(SOON).await;
    assert_eq!((one.peers(), two.peers(), five.peers()), (vec![id(2), id(5)], vec![id(1)], vec![id(1)]));
    assert_eq!((three.peers(), one.stats().await.peers.evicted), (vec![], 1));
    let told: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    assert!(
        matches!(&told[..], [PeerEvent::Down(a, _), PeerEvent::Up(b)] if [a.id, b.id] == [id(3), id(5)]),
        "{told:?}"
    );
    assert!(told[0].to_string().ends_with("closed by us: a better peer takes its place"), "{}", told[0]);

    // Who was evicted, or never let in, comes back with growing pauses and changes nothing.
    sleep(Duration::from_secs(600)).await;
    assert_eq!((one.peers(), one.stats().await.peers.evicted), (vec![id(2), id(5)], 1));
    for refused in [three, four] {
        let dials = refused.stats().await.peers.dials;
        assert!((5..=12).contains(&dials), "{dials} dials in ten minutes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reactors_found_of_little_use_leaves_for_a_newcomer() {
    let world = World::default();
    let one = world.node(1, Change { policy: |policy| policy.slots.inbound = 1, ..Change::default() });
    let two = world.dialing(2, [1]);
    sleep(SOON).await;
    one.gossip.report(id(2), Report::Bad).await;
    let three = world.dialing(3, [1]);
    sleep(SOON).await;
    assert_eq!((one.peers(), two.peers(), three.peers()), (vec![id(3)], vec![], vec![id(1)]));
}

fn one_outbound_and_a_better_third(policy: &mut peers::Config) {
    policy.slots = Slots { outbound: 1, upgrade: 1, ..Slots::default() };
    policy.scores = [(id(3), 10)].into();
}

#[tokio::test(start_paused = true)]
async fn a_known_better_peer_is_dialed_and_takes_the_place_of_a_lower_one() {
    let world = World::default();
    let one = world.node(1, Change { policy: one_outbound_and_a_better_third, ..Change::default() });
    let (mut two, three) = (world.dialing(2, []), world.dialing(3, []));
    let handle = one.router.handle();
    assert_eq!(handle.dial(address(2)).await, Some(Ok(())));
    sleep(SOON).await;
    assert_eq!(one.peers(), [id(2)]);

    // Node 2 itself tells of the better one. What is under way to node 2 still reaches it.
    one.gossip.send(To::All, text("farewell")).await.unwrap();
    handle.add(Candidate::new(address(3), Source::Pex(id(2)))).await;
    sleep(SOON).await;
    assert_eq!((one.peers(), two.peers(), three.peers()), (vec![id(3)], vec![], vec![id(1)]));
    assert_eq!(two.gossip.recv().await, from(1, "farewell"));
    let stats = one.stats().await.peers;
    assert_eq!((stats.outbound, stats.evicted, stats.dials), (1, 1, 2));
    // Node 2 is in the book, and no better.
    sleep(Duration::from_secs(600)).await;
    assert_eq!((one.peers(), one.stats().await.peers.dials), (vec![id(3)], 2));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_fails_costs_nobody_its_place() {
    let world = World::default();
    let one = world.node(1, Change { policy: one_outbound_and_a_better_third, ..Change::default() });
    let _two = world.dialing(2, []);
    let handle = one.router.handle();
    assert_eq!(handle.dial(address(2)).await, Some(Ok(())));
    sleep(SOON).await;
    handle.add(Candidate::new(address(3), Source::Pex(id(2)))).await;
    sleep(SOON).await;
    let stats = one.stats().await.peers;
    assert_eq!((one.peers(), stats.dials_failed, stats.evicted), (vec![id(2)], 1, 0));
    // Once it is there it gets its place.
    let three = world.dialing(3, []);
    sleep(Duration::from_secs(120)).await;
    assert_eq!((one.peers(), three.peers()), (vec![id(3)], vec![id(1)]));
}
