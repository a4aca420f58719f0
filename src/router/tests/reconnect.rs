//! Peers that are lost are dialed again, and none in a hot loop.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_persistent_peer_is_dialed_again_with_growing_pauses_until_it_is_back() {
    let world = World::default();
    let (one, two) = (world.dialing(1, []), world.dialing(2, [1]));
    // A connection that lasts, so that its end is no failure of the dial.
    sleep(Duration::from_secs(60)).await;
    one.router.stop().await;
    let (gone, mut at, mut dials) = (Instant::now(), Vec::new(), 1);
    while at.len() < 6 {
        sleep(Duration::from_millis(100)).await;
        if two.stats().await.peers.dials > dials {
            dials += 1;
            at.push(gone.elapsed().as_secs_f32());
        }
    }
    let pauses: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, least) in pauses.iter().zip([2.0, 4.0, 8.0, 16.0, 32.0]) {
        assert!((least - 0.2..least + 1.2).contains(pause), "2 s, then twice as long each time: {pauses:?}");
    }
    let one = world.dialing(1, []);
    sleep(Duration::from_secs(66)).await;
    assert_eq!((one.peers(), two.peers()), (vec![id(2)], vec![id(1)]));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_dead_peers_are_no_hot_loop() {
    let world = World::default();
    let one = world.dialing(1, (2..102).collect::<Vec<u8>>());
    let mut before = 0;
    for (hour, most) in [(1, 21), (2, 13), (3, 13)] {
        sleep(Duration::from_secs(3_600)).await;
        let dials = one.stats().await.peers.dials;
        // 2, 4 … 256 s and then every five minutes.
        assert!((dials - before) / 100 <= most, "{} dials in hour {hour}", dials - before);
        before = dials;
    }
    // They are not forgotten.
    let late = world.dialing(77, []);
    sleep(Duration::from_secs(301)).await;
    assert_eq!((one.peers(), late.peers()), (vec![id(77)], vec![id(1)]));
}

#[tokio::test(start_paused = true)]
async fn a_persistent_peer_may_be_named_and_given_up_while_the_node_runs() {
    let world = World::default();
    let (one, two) = (world.dialing(1, []), world.dialing(2, []));
    let handle = one.router.handle();
    handle.add(Candidate::new(address(2), Source::Config)).await;
    sleep(SOON).await;
    assert_eq!((one.peers(), two.peers()), (vec![id(2)], vec![id(1)]));
    handle.disconnect(id(2)).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(one.peers(), [id(2)], "it is kept");

    handle.remove_persistent(id(2)).await;
    sleep(SOON).await;
    assert_eq!(one.peers(), [id(2)], "there is a place for it");
    handle.disconnect(id(2)).await;
    sleep(SOON).await;
    let dials = one.stats().await.peers.dials;
    two.router.stop().await;
    sleep(Duration::from_secs(3_600)).await;
    // The book knows where it was, tries as long as it does for anybody, and gives up.
    let stats = one.stats().await.peers;
    assert!(one.peers().is_empty() && stats.dials - dials <= 17, "{stats:?}");
}

/// It has lost the old connection, which we do not know of yet.
#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_again_stays_known_when_its_old_connection_ends() {
    let world = World::default();
    let (one, two) = (world.dialing(1, []), world.transport(2));
    let old = two.dial(&address(1)).await.unwrap();
    sleep(Duration::from_secs(80)).await;
    let new = two.dial(&address(1)).await.unwrap();
    old.closed().await;
    sleep(SOON).await;
    assert_eq!((one.peers(), new.sender.close_reason()), (vec![id(2)], None));
}
