//! What subscribers are told, and what peers and nodes look like to go-ethereum's tools.

use serde_json::json;

use super::*;
use crate::router::{EVENT_BACKLOG, Event, Missed};

fn node_id(n: u8) -> String {
    key(n).public().node_id().to_string()
}

#[tokio::test(start_paused = true)]
async fn each_event_is_told_in_go_ethereums_words() {
    let network = MemoryNetwork::new();
    let with_messages = EthereumConfig { message_events: true, ..config(1, &[]) };
    let one = start(&network, with_messages, [echo("chat", 1)]).await;
    let (mut all, mut unasked) = (ethereum(&one).events(), Vec::new());
    let (chat, mut streams) = handed_over("chat", 1);
    let two = start(&network, config(2, &[1]), [chat]).await;
    let mut their_events = ethereum(&two).events();
    let mut stream = streams.recv().await.unwrap();
    stream.send(0, "hello").await.unwrap();
    stream.recv().await.unwrap();
    two.stop().await;
    while let Some(event) = their_events.next().await {
        unasked.push(event.unwrap());
    }
    assert!(matches!(&unasked[..], [.., Event::Dropped(..)]) && unasked.len() <= 2, "no messages: {unasked:?}");

    let peer = node_id(2);
    for expected in [
        json!({"type": "add", "peer": peer, "remote": "10.0.2.1:30303"}),
        json!({"type": "msgrecv", "peer": peer, "protocol": "chat", "msg_code": 0, "msg_size": 5, "remote": "10.0.2.1:30303"}),
        json!({"type": "msgsend", "peer": peer, "protocol": "chat", "msg_code": 1, "msg_size": 5, "remote": "10.0.2.1:30303"}),
        json!({"type": "drop", "peer": peer, "error": "closed by the peer: client quitting", "remote": "10.0.2.1:30303"}),
    ] {
        let event = all.next().await.unwrap().unwrap();
        assert_eq!(serde_json::to_value(&event).unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_lags_is_told_how_many_it_missed_and_holds_nobody_up() {
    let network = MemoryNetwork::new();
    let with_messages = EthereumConfig { message_events: true, ..config(1, &[]) };
    let one = start(&network, with_messages, [echo("chat", 1)]).await;
    let mut events = ethereum(&one).events();
    let (chat, mut streams) = handed_over("chat", 1);
    let _two = start(&network, config(2, &[1]), [chat]).await;
    let mut stream = streams.recv().await.unwrap();
    for _ in 0..EVENT_BACKLOG {
        stream.send(0, "hello").await.unwrap();
        stream.recv().await.unwrap();
    }
    sleep(SOON).await;
    // One peer, and two events for each message.
    let missed = EVENT_BACKLOG as u64 + 1;
    assert_eq!(events.next().await.unwrap().unwrap_err(), Missed(missed));
    assert!(matches!(events.next().await, Some(Ok(Event::Sent(_) | Event::Received(_)))));
}

#[tokio::test(start_paused = true)]
async fn peers_and_the_node_itself_look_as_go_ethereums_do() {
    let network = MemoryNetwork::new();
    let greeting = echo("greet", 2)
        .with_node_info(|| json!({"network": 1}))
        .with_peer_info(|peer| (peer == id(2)).then(|| json!({"head": 7})));
    let one = start(&network, config(1, &[3]), [echo("chat", 1), greeting]).await;
    let two = start(&network, config(2, &[1]), [echo("greet", 2), echo("chat", 1), echo("snap", 1)]).await;
    let _three = start(&network, config(3, &[]), [echo("greet", 2)]).await;
    ethereum(&one).add_trusted(id(2)).await;
    sleep(Duration::from_secs(3)).await;

    let mut infos = serde_json::to_value(ethereum(&one).peers_info().await).unwrap();
    let mut expected = [
        json!({
            "enode": format!("enode://{}@10.0.2.1:30303", key(2).public()),
            "id": node_id(2),
            "name": "node2/v1",
            "caps": ["chat/1", "greet/2", "snap/1"],
            "network": {
                "localAddress": "10.0.1.1:30303", "remoteAddress": "10.0.2.1:30303",
                "inbound": true, "trusted": true, "static": false,
            },
            "protocols": {"chat": "unknown", "greet": {"head": 7}},
        }),
        json!({
            "enode": format!("enode://{}@10.0.3.1:30303", key(3).public()),
            "id": node_id(3),
            "name": "node3/v1",
            "caps": ["greet/2"],
            "network": {
                "localAddress": "10.0.1.1:30303", "remoteAddress": "10.0.3.1:30303",
                "inbound": false, "trusted": false, "static": true,
            },
            "protocols": {"greet": "handshake"},
        }),
    ];
    expected.sort_by_key(|info| info["id"].as_str().unwrap().to_owned());
    for expected in expected.into_iter().rev() {
        assert_eq!(infos.as_array_mut().unwrap().pop().unwrap(), expected);
    }
    assert_eq!(
        serde_json::to_value(ethereum(&one).node_info()).unwrap(),
        json!({
            "id": node_id(1),
            "name": "node1/v1",
            "enode": format!("enode://{}@10.0.1.1:30303", key(1).public()),
            "enr": "",
            "ip": "10.0.1.1",
            "ports": {"discovery": 0, "listener": 30303},
            "listenAddr": "10.0.1.1:30303",
            "protocols": {"chat": "unknown", "greet": {"network": 1}},
        })
    );
    drop(two);
}
