//! The end of a router, and what it leaves on disk.

use super::*;

#[tokio::test(start_paused = true)]
async fn stopping_tells_the_peers_and_the_reactors_and_writes_the_book() {
    let world = World::default();
    let folder = tempfile::tempdir().unwrap();
    let book_file = folder.path().join("addrbook.json");
    let mut one = world.node(
        1,
        Change { config: Config { book_file: Some(book_file.clone()), ..Config::default() }, ..Change::default() },
    );
    let two = world.dialing(2, [1]);
    let three = world.dialing(3, [1]);
    sleep(SOON).await;
    assert!(matches!(one.gossip.next().await, Some(ChannelEvent::Up(peer)) if peer.id == id(2)));
    assert!(matches!(one.gossip.next().await, Some(ChannelEvent::Up(peer)) if peer.id == id(3)));
    // A reactor that reads nothing must not hold the end up.
    while two.other.try_send(To::Peer(id(1)), text("unread")).is_ok() {
        sleep(Duration::from_millis(1)).await;
    }
    // The last message to a peer is still written.
    one.gossip.send(To::All, text("bye")).await.unwrap();
    let (mut two, three) = (two, three);
    let sender = one.gossip.sender();
    let handle = one.router.handle().clone();
    one.router.stop().await;

    assert_eq!(two.gossip.recv().await, from(1, "bye"));
    sleep(SOON).await;
    assert_eq!((two.peers(), three.peers()), (vec![], vec![]));
    let mut events = Vec::new();
    while let Some(event) = one.gossip.next().await {
        events.push(event);
    }
    assert!(
        matches!(&events[..], [ChannelEvent::Down(a, _), ChannelEvent::Down(b, _)] if [a.id, b.id] == [id(2), id(3)]),
        "{events:?}"
    );
    assert_eq!(sender.send(To::All, text("anybody?")).await, Err(SendError::Stopped));
    assert_eq!((handle.stats().await, handle.peers().len()), (None, 0));
    assert!(book_file.exists());
}

/// First the door is shut; then peers get their last messages, one that does not read for two seconds; then reactors hear that they are gone,
/// and the book is written with what was learned last.
#[tokio::test(start_paused = true)]
async fn the_end_comes_in_order() {
    let world = World::default();
    let folder = tempfile::tempdir().unwrap();
    let book_file = folder.path().join("addrbook.json");
    let mut one = world.node(
        1,
        Change { config: Config { book_file: Some(book_file.clone()), ..Config::default() }, ..Change::default() },
    );
    let (two, three, four) = (world.dialing(2, []), world.dialing(3, [1]), world.dialing(4, []));
    assert_eq!(one.router.handle().dial(address(2)).await, Some(Ok(())));
    sleep(SOON).await;
    assert_eq!(one.peers(), [id(2), id(3)]);
    while soon(one.gossip.next()).await.is_some() {}
    // Node 2 reads nothing.
    while one.gossip.try_send(To::Peer(id(2)), text("fill")).is_ok() {
        sleep(Duration::from_millis(1)).await;
    }
    let handle = one.router.handle().clone();
    let began = Instant::now();
    let stopping = tokio::spawn(one.router.stop());

    sleep(SOON).await;
    assert_eq!(four.router.handle().dial(address(1)).await, Some(Ok(())));
    sleep(SOON).await;
    let refused = four.stats().await.last_dial_failure.unwrap();
    assert_eq!(refused.error.to_string(), "connect failed: connection refused", "nobody is let in any more");
    assert!(!book_file.exists(), "node 2 still has its two seconds");

    let mut down = Vec::new();
    while let Some(event) = one.gossip.next().await {
        down.push(match event {
            ChannelEvent::Down(peer, _) => (peer.id, began.elapsed() >= Duration::from_secs(2)),
            other => unreachable!("{other:?}"),
        });
    }
    down.sort();
    assert_eq!(down, [(id(2), true), (id(3), true)]);
    stopping.await.unwrap();
    assert_eq!(handle.stats().await, None);
    assert!(std::fs::read_to_string(&book_file).unwrap().contains(&id(2).to_string()), "whom we reached");
    drop((two, three));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_running() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let world = World::default();
    let before = tasks();
    // One peer, one that is dialed in vain, a source that finds nobody.
    let (one, two) = (world.dialing(1, [9]), world.dialing(2, [1]));
    sleep(SOON).await;
    assert!(tasks() > before && one.peers() == [id(2)]);
    one.router.stop().await;
    two.router.stop().await;
    sleep(SOON).await;
    assert_eq!(tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn the_book_is_written_every_two_minutes() {
    let world = World::default();
    let folder = tempfile::tempdir().unwrap();
    let book_file = folder.path().join("addrbook.json");
    let config = Config { book_file: Some(book_file.clone()), ..Config::default() };
    let _one = world.node(1, Change { config, persistent: vec![2], ..Change::default() });
    let _two = world.dialing(2, []);
    sleep(Duration::from_secs(119)).await;
    assert!(!book_file.exists());
    sleep(Duration::from_secs(2)).await;
    // A thread writes it, and the paused clock waits for nobody but timers: this gives it the time.
    while !book_file.exists() {
        tokio::task::yield_now().await;
    }
    let written = std::fs::read_to_string(&book_file).unwrap();
    assert!(written.contains(&id(2).to_string()), "the peer that we reached: {written}");
}

/// Nobody need stop the node well: it may be killed after two minutes.
#[tokio::test(start_paused = true)]
async fn the_anchors_are_written_every_two_minutes_and_at_the_end() {
    let world = World::default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("anchors.json");
    let config = Config { anchors_file: Some(file.clone()), ..Config::default() };
    let one = world.node(1, Change { config, ..Change::default() });
    let (two, three) = (world.dialing(2, []), world.dialing(3, []));
    assert_eq!(one.router.handle().dial(address(2)).await, Some(Ok(())));
    sleep(Duration::from_secs(121)).await;
    while !file.exists() {
        tokio::task::yield_now().await;
    }
    let anchors = || -> Vec<_> {
        let loaded = crate::anchors::file::load(&file, &id(1), now().wall).unwrap();
        loaded.anchors.into_iter().map(|anchor| anchor.address).collect()
    };
    assert_eq!(anchors(), [address(2)]);
    // One more; and one that is gone keeps its turn.
    assert_eq!(one.router.handle().dial(address(3)).await, Some(Ok(())));
    sleep(Duration::from_secs(106)).await;
    two.router.stop().await;
    sleep(SOON).await;
    one.router.stop().await;
    assert_eq!(anchors(), [address(2), address(3)]);
    three.router.stop().await;
}
