//! Messages, and peers coming and going.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_message_goes_to_one_peer_to_all_or_to_all_but_one() {
    let world = World::default();
    let (mut one, mut two, mut three) = (world.dialing(1, []), world.dialing(2, [1]), world.dialing(3, [1, 2]));
    sleep(SOON).await;
    assert_eq!((one.peers(), two.peers(), three.peers()), (vec![id(2), id(3)], vec![id(1), id(3)], vec![id(1), id(2)]));

    assert_eq!(one.gossip.send(To::All, text("all")).await, Ok(2));
    assert_eq!((two.gossip.recv().await, three.gossip.recv().await), (from(1, "all"), from(1, "all")));
    assert_eq!(one.gossip.send(To::Except(id(3)), text("two only")).await, Ok(1));
    assert_eq!(three.gossip.send(To::Peer(id(2)), text("hello")).await, Ok(1));
    let mut heard = [two.gossip.recv().await.unwrap(), two.gossip.recv().await.unwrap()];
    heard.sort_by_key(|envelope| envelope.from);
    assert_eq!(heard.map(Some), [from(1, "two only"), from(3, "hello")]);
    // Another channel is another stream of messages.
    assert_eq!(two.other.try_send(To::Peer(id(1)), text("aside")), Ok(1));
    assert_eq!(one.other.recv().await, from(2, "aside"));
    assert_eq!(
        one.gossip.try_send(To::All, Bytes::from(vec![0; 1001])),
        Err(SendError::TooLarge { len: 1001, max: 1000 })
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_up_before_its_first_message_and_down_after_its_last() {
    let world = World::default();
    let (mut one, two) = (world.dialing(1, []), world.dialing(2, [1]));
    let mut events = two.router.handle().peer_events();
    assert!(
        matches!(events.next().await, Some(PeerEvent::Up(peer)) if peer.id == id(1) && peer.direction == Direction::Outbound)
    );
    two.gossip.send(To::All, text("first")).await.unwrap();
    two.gossip.send(To::All, text("last")).await.unwrap();
    two.router.stop().await;
    sleep(SOON).await;

    // The reactor looks only now.
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(match one.gossip.next().await.unwrap() {
            ChannelEvent::Up(peer) => format!("up {}", peer.info.name()),
            ChannelEvent::Message(envelope) => String::from_utf8(envelope.message.to_vec()).unwrap(),
            ChannelEvent::Down(peer, reason) => format!("down {}: {reason}", peer.info.name()),
        });
    }
    assert_eq!(heard, ["up node 2", "first", "last", "down node 2: closed by the peer"]);
    assert!(matches!(events.next().await, Some(PeerEvent::Down(peer, _)) if peer.id == id(1)));
    assert!(events.next().await.is_none(), "the router is gone");
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_does_not_look_delays_nobody_and_is_told_what_still_matters() {
    let world = World::default();
    let (one, two) = (world.dialing(1, []), world.dialing(2, [1]));
    let mut events = one.router.handle().peer_events();
    let who = |event: PeerEvent| (event.peer().id, matches!(event, PeerEvent::Up(_)));
    assert_eq!(events.next().await.map(who), Some((id(2), true)));
    // It looks away. Node 3 comes and goes thirty times, node 2 goes and comes back, node 4 comes.
    for _ in 0..30 {
        let three = world.dialing(3, [1]);
        sleep(SOON).await;
        assert_eq!(one.peers(), [id(2), id(3)], "nobody waits for the subscriber");
        three.router.stop().await;
        sleep(SOON).await;
    }
    two.router.stop().await;
    let _others = (world.dialing(2, [1]), world.dialing(4, [1]));
    sleep(Duration::from_secs(5)).await;

    // What came and went in between is over; what it saw last has ended before it began anew.
    let told: Vec<_> = std::iter::from_fn(|| events.try_next()).map(who).collect();
    assert_eq!(told, [(id(2), false), (id(2), true), (id(4), true)]);
}

/// The wire lets none through that is larger than its channel takes. If one came all the same, it would not stand in the way for ever.
#[tokio::test(start_paused = true)]
async fn a_message_larger_than_the_queue_waits_until_it_is_alone() {
    let world = World::default();
    let (one, two, to_one) = (world.transport(1), world.transport(2), address(1));
    let (dialed, _accepted) =
        tokio::join!(two.dial(&to_one), async { one.accept().await.unwrap().handshake().await.unwrap() });
    let peer = Arc::new(connected::Peer::new(1, &dialed.unwrap()));
    let (inlet, mut queue) = channel::queue(1_000);
    let huge = Bytes::from(vec![7; 64 << 20]);

    inlet.try_put(&peer, text("small")).unwrap();
    assert!(inlet.try_put(&peer, huge.clone()).is_err(), "it is not alone");
    let (putting, taking) = (inlet.put(&peer, huge.clone()), async {
        sleep(SOON / 2).await;
        [queue.recv().await.unwrap().open(), queue.recv().await.unwrap().open()]
    });
    let ((), taken) = soon(async { tokio::join!(putting, taking) }).await.expect("it waits for ever");
    assert_eq!(taken.map(|envelope| envelope.message), [text("small"), huge.clone()]);
    // And one after the other.
    inlet.try_put(&peer, huge.clone()).unwrap();
    assert!(inlet.try_put(&peer, text("behind it")).is_err());
    drop(queue.recv().await.unwrap().open());
    inlet.try_put(&peer, text("behind it")).unwrap();
}

/// However large a channel says that its messages may be.
#[test]
fn a_queue_for_messages_of_any_size_is_no_panic() {
    let _ = channel::queue(usize::MAX);
}

/// Node 2's second connection has taken the place of the first, whose last message comes after.
#[tokio::test(start_paused = true)]
async fn a_late_message_of_a_replaced_connection_does_not_bring_it_back() {
    let world = World::default();
    let (one, two, to_one) = (world.transport(1), world.transport(2), address(1));
    let mut connections = Vec::new();
    for number in [1, 2] {
        let (dialed, accepted) =
            tokio::join!(two.dial(&to_one), async { one.accept().await.unwrap().handshake().await });
        connections.push((Arc::new(connected::Peer::new(number, &accepted.unwrap())), dialed.unwrap()));
    }
    let (old, new) = (connections[0].0.clone(), connections[1].0.clone());
    let (peers, (commands, _)) = (watch::Sender::<connected::PeerMap>::default(), mpsc::channel(1));
    let (mut channel, inlet) = channel::channel(&ChannelSpec::new(GOSSIP), peers.subscribe(), commands);

    peers.send_replace(Arc::new([(id(2), old.clone())].into()));
    inlet.put(&old, text("first")).await;
    peers.send_replace(Arc::new([(id(2), new.clone())].into()));
    inlet.put(&new, text("second")).await;
    inlet.put(&old, text("late")).await;

    let mut heard = Vec::new();
    while let Some(event) = soon(channel.next()).await {
        heard.push(match event.unwrap() {
            ChannelEvent::Up(peer) => format!("up {}", peer.number),
            ChannelEvent::Message(envelope) => String::from_utf8(envelope.message.to_vec()).unwrap(),
            ChannelEvent::Down(peer, _) => format!("down {}", peer.number),
        });
    }
    assert_eq!(heard, ["up 1", "first", "down 1", "up 2", "second", "late"]);
}
