//! How a peer ends, and with it its handlers; how a node does.

use super::*;

/// What the other end sees when a handler returns.
#[tokio::test(start_paused = true)]
async fn a_handler_that_returns_ends_its_peer_for_the_reason_it_gives() {
    type Ending = fn() -> Result<(), ProtocolError>;
    let table: [(Ending, DisconnectReason); 6] = [
        (|| Ok(()), DisconnectReason::Quitting),
        (|| Err(ProtocolError::failed("the head is unknown")), DisconnectReason::Subprotocol),
        (|| Err(rlp::DecoderError::RlpIsTooShort.into()), DisconnectReason::Subprotocol),
        (|| Err(DisconnectReason::TooManyPeers.into()), DisconnectReason::TooManyPeers),
        (|| Err(ProtocolError::InvalidCode { code: 9, length: 2 }), DisconnectReason::Protocol),
        (|| panic!("a handler's bug"), DisconnectReason::Subprotocol),
    ];
    for (ending, expected) in table {
        let network = MemoryNetwork::new();
        let one = start(&network, config(1, &[]), [echo("other", 1), returning("chat", ending)]).await;
        let mut events = ethereum(&one).events();
        let (chat, mut streams) = handed_over("chat", 1);
        let two = start(&network, config(2, &[1]), [chat, echo("other", 1)]).await;
        let mut stream = streams.recv().await.unwrap();
        assert_eq!(stream.recv().await, None);
        let seen = stream.peer().sender.closed().await;
        assert_eq!(seen, CloseReason::RemoteDisconnected(expected));
        assert!(matches!(stream.send(0, "late").await, Err(ProtocolError::Closed)));
        assert!(matches!(events.next().await, Some(Ok(crate::router::Event::Added(_)))));
        let dropped = events.next().await;
        assert!(
            matches!(&dropped, Some(Ok(crate::router::Event::Dropped(_, CloseReason::Disconnected(reason)))) if *reason == expected),
            "{dropped:?}"
        );
        one.stop().await;
        two.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_sent_before_it_returned_arrives() {
    let network = MemoryNetwork::new();
    let farewell = Protocol::new("chat", 1, 4, |stream: PeerStream| async move {
        for code in 0..4 {
            stream.send(code, "bye").await?;
        }
        Err(DisconnectReason::UselessPeer.into())
    });
    let _one = start(&network, config(1, &[]), [farewell.unwrap()]).await;
    let (chat, mut streams) = handed_over("chat", 1);
    let _two = start(&network, config(2, &[1]), [chat]).await;
    let mut stream = streams.recv().await.unwrap();
    for code in 0..4 {
        assert_eq!(stream.recv().await, Some(Message { code, payload: "bye".into() }));
    }
    assert_eq!(stream.recv().await, None);
    let reason = stream.peer().sender.closed().await;
    assert_eq!(reason, CloseReason::RemoteDisconnected(DisconnectReason::UselessPeer));
}

/// go-ethereum waits for such a handler for ever.
#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_see_its_peers_end_is_ended() {
    let network = MemoryNetwork::new();
    let (started, mut starts) = mpsc::channel::<mpsc::Sender<()>>(1);
    let deaf = Protocol::new("chat", 1, 1, move |_| {
        let started = started.clone();
        async move {
            let (alive, mut never) = mpsc::channel(1);
            started.send(alive).await.map_err(ProtocolError::failed)?;
            never.recv().await;
            std::future::pending().await
        }
    });
    let one = start(&network, config(1, &[]), [deaf.unwrap()]).await;
    let two = start(&network, config(2, &[1]), [echo("chat", 1)]).await;
    let alive = starts.recv().await.unwrap();
    two.stop().await;
    let began = Instant::now();
    alive.closed().await;
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    sleep(SOON).await;
    assert_eq!(ethereum(&one).peer_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_tells_its_peers_and_leaves_no_task() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let network = MemoryNetwork::new();
    let before = tasks();
    let one = start(&network, config(1, &[9]), [echo("chat", 1), echo("ping", 1)]).await;
    let (chat, mut streams) = handed_over("chat", 1);
    let two = start(&network, config(2, &[1]), [chat]).await;
    let mut stream = streams.recv().await.unwrap();
    let mut events = ethereum(&one).events();
    assert!(tasks() > before);
    one.stop().await;

    assert_eq!(stream.recv().await, None);
    assert!(matches!(stream.peer().close_reason(), Some(CloseReason::RemoteDisconnected(DisconnectReason::Quitting))));
    assert!(matches!(events.next().await, Some(Ok(crate::router::Event::Dropped(..)))));
    assert!(events.next().await.is_none(), "the node is gone");
    two.stop().await;
    sleep(SOON).await;
    assert_eq!(tasks(), before);
}
