//! Messages to peers that are gone.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_message_to_a_peer_that_is_gone_is_an_error_and_harms_nobody() {
    let world = World::default();
    let (one, two) = (world.dialing(1, []), world.dialing(2, [1]));
    sleep(SOON).await;
    assert_eq!(one.gossip.send(To::Peer(id(2)), text("hello")).await, Ok(1));
    two.router.stop().await;
    sleep(SOON).await;
    for _ in 0..2 {
        assert_eq!(one.gossip.send(To::Peer(id(2)), text("gone")).await, Err(SendError::NotConnected(id(2))));
        assert_eq!(one.gossip.try_send(To::Peer(id(2)), text("gone")), Err(SendError::NotConnected(id(2))));
    }
    assert_eq!(one.gossip.send(To::All, text("anybody?")).await, Ok(0));
    assert_eq!(one.gossip.send(To::Peer(id(9)), text("who?")).await, Err(SendError::NotConnected(id(9))));
    // What a reactor thought of it still counts.
    one.gossip.report(id(2), Report::Misbehaved).await;
    assert_eq!(one.stats().await.peers.banned, 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_vanishes_takes_no_message_of_the_others_with_it() {
    let world = World::default();
    let (one, two, mut three) = (world.dialing(1, []), world.dialing(2, [1]), world.dialing(3, [1]));
    sleep(SOON).await;
    let ends = tokio::spawn(two.router.stop());
    // Some of these are for a peer that is going, some for one that is gone.
    let mut to_both = 0;
    for n in 0..100_u8 {
        let queued = one.gossip.send(To::All, Bytes::from(vec![n])).await.unwrap();
        assert!((1..=2).contains(&queued), "{queued} took message {n}");
        to_both += usize::from(queued == 2);
        assert_eq!(three.gossip.recv().await.map(|envelope| envelope.message[0]), Some(n));
    }
    ends.await.unwrap();
    assert!(to_both < 100 && one.peers() == [id(3)]);
}
