//! Reactors and peers that do not take what they are given.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_slow_reactor_delays_neither_other_peers_nor_other_channels() {
    let world = World::default();
    let (one, two, mut three) = (world.dialing(1, []), world.dialing(2, [1]), world.dialing(3, [1, 2]));
    let mut one = one;
    sleep(SOON).await;

    // Nobody reads gossip at node 1. Node 2 sends until nothing more goes in.
    let mut sent = 0;
    while two.gossip.try_send(To::Peer(id(1)), text("more")).is_ok() {
        sent += 1;
        sleep(Duration::from_millis(1)).await;
    }
    assert!(sent > 64, "the reactor's queue, then the connection's: {sent}");

    // What is not gossip gets through at once: node 1 hears others and is heard, and node 2 hears and is heard by others.
    let before = Instant::now();
    three.other.send(To::Peer(id(1)), text("past it")).await.unwrap();
    assert_eq!(one.other.recv().await, from(3, "past it"));
    one.gossip.send(To::Peer(id(3)), text("still here")).await.unwrap();
    assert_eq!(three.gossip.recv().await, from(1, "still here"));
    two.gossip.send(To::Peer(id(3)), text("me too")).await.unwrap();
    assert_eq!(three.gossip.recv().await, from(2, "me too"));
    assert!(before.elapsed() < SOON);

    // Once somebody reads, nothing was lost.
    for n in 0..sent {
        assert_eq!(one.gossip.recv().await, from(2, "more"), "message {n} of {sent}");
    }
}

/// The reactor's queue has long been full; what comes after it waits in the connection, beside the other channels.
#[tokio::test(start_paused = true)]
async fn a_reactor_asleep_for_a_minute_delays_no_other_channel_of_the_same_peer() {
    let world = World::default();
    let (mut one, two) = (world.dialing(1, []), world.dialing(2, [1]));
    sleep(SOON).await;
    for _ in 0..60 {
        for _ in 0..20 {
            two.gossip.send(To::All, text("asleep")).await.unwrap();
        }
        let sent = Instant::now();
        two.other.send(To::All, text("awake")).await.unwrap();
        assert_eq!(one.other.recv().await, from(2, "awake"));
        assert!(sent.elapsed() < SOON);
        sleep(Duration::from_secs(1)).await;
    }
    for n in 0..60 * 20 {
        assert_eq!(one.gossip.recv().await, from(2, "asleep"), "message {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_closed_and_delays_a_broadcast_no_longer_than_that() {
    let world = World::default();
    let (one, two, mut three) = (world.dialing(1, []), world.dialing(2, [1]), world.dialing(3, [1]));
    let mut events = one.router.handle().peer_events();
    assert!(
        matches!(events.next().await, Some(PeerEvent::Up(_))) && matches!(events.next().await, Some(PeerEvent::Up(_)))
    );
    while one.gossip.try_send(To::Peer(id(2)), text("fill")).is_ok() {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(one.gossip.try_send(To::Peer(id(2)), text("x")), Err(SendError::Full(id(2))));
    assert_eq!(one.gossip.try_send(To::All, text("now")), Ok(1), "the full one is passed over");

    let before = Instant::now();
    let sending = tokio::spawn({
        let gossip = one.gossip.sender();
        async move { gossip.send(To::All, text("broadcast")).await }
    });
    assert_eq!((three.gossip.recv().await, three.gossip.recv().await), (from(1, "now"), from(1, "broadcast")));
    assert!(before.elapsed() < SOON, "node 3 waits for nobody");
    assert_eq!(sending.await.unwrap(), Ok(1));
    assert!((SLOW_AFTER..SLOW_AFTER + SOON).contains(&before.elapsed()));

    let mut down = None;
    while down.is_none() {
        if let PeerEvent::Down(peer, reason) = events.next().await.unwrap() {
            down = Some((peer.id, reason.to_string()));
        }
    }
    assert_eq!(down, Some((id(2), "closed by us: slow peer: it does not read".to_owned())));
    assert_eq!(one.peers(), [id(3)]);
    drop(two);
}

/// What a peer said before we hang up on it is of no use to anybody.
#[tokio::test(start_paused = true)]
async fn a_reactor_asleep_does_not_put_off_the_end_that_we_ask_for() {
    let world = World::default();
    let (one, two) = (world.dialing(1, []), world.dialing(2, [1]));
    sleep(SOON).await;
    while two.gossip.try_send(To::Peer(id(1)), text("more")).is_ok() {
        sleep(Duration::from_millis(1)).await;
    }
    one.router.handle().disconnect(id(2)).await;
    sleep(SOON).await;
    assert_eq!(one.peers(), []);
}
