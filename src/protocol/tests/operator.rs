//! What the operator changes while the node runs.

use super::*;
use crate::peers::WhyNot;

#[tokio::test(start_paused = true)]
async fn static_peers_come_and_go_at_run_time() {
    let network = MemoryNetwork::new();
    let one = start(&network, config(1, &[]), [echo("chat", 1)]).await;
    let two = start(&network, config(2, &[]), [echo("chat", 1)]).await;
    let (here, there) = (ethereum(&one), ethereum(&two));
    assert_eq!((here.peer_count(), here.max_peers()), (0, 50));
    assert_eq!(here.add_static(address(1)).await, Err(WhyNot::SelfId));
    here.add_static(address(2)).await.unwrap();
    sleep(SOON).await;
    assert_eq!((here.peers()[0].id, there.peers()[0].id), (id(2), id(1)));
    assert_eq!((here.peers()[0].direction, there.peers()[0].direction), (Direction::Outbound, Direction::Inbound));

    // One that is lost is dialed again, without end.
    there.router().disconnect(id(1)).await;
    sleep(SOON).await;
    assert_eq!(here.peer_count(), 0);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(here.peer_count(), 1);

    here.remove_static(id(2)).await;
    assert_eq!(here.peer_count(), 0, "it is gone when that returns");
    sleep(Duration::from_secs(600)).await;
    assert_eq!((here.peer_count(), there.peer_count()), (0, 0), "and stays away");
    // Nobody there: nothing to wait for.
    here.remove_static(id(9)).await;
}

#[tokio::test(start_paused = true)]
async fn a_trusted_peer_is_let_in_when_all_places_are_taken() {
    let network = MemoryNetwork::new();
    let full = EthereumConfig { max_peers: 2, no_dial: true, ..config(1, &[]) };
    let one = start(&network, full, [echo("chat", 1)]).await;
    let here = ethereum(&one);
    let mut others = Vec::new();
    for n in 2..=5 {
        others.push(start(&network, config(n, &[1]), [echo("chat", 1)]).await);
        sleep(SOON).await;
    }
    assert_eq!(here.peer_count(), 2);
    here.add_trusted(id(5)).await;
    // Its next dial.
    sleep(Duration::from_secs(120)).await;
    let peers: Vec<_> = here.peers().iter().map(|peer| peer.id).collect();
    assert!(peers.len() == 3 && peers.contains(&id(5)), "{peers:?}");
    here.remove_trusted(id(5)).await;
    sleep(SOON).await;
    assert!(here.peer_count() <= 3);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dials_nobody_dials_its_static_peers_all_the_same_while_there_are_places() {
    let network = MemoryNetwork::new();
    let mut others = Vec::new();
    for n in 2..=4 {
        others.push(start(&network, config(n, &[]), [echo("chat", 1)]).await);
    }
    let quiet = EthereumConfig { max_peers: 2, no_dial: true, ..config(1, &[2]) };
    let one = start(&network, quiet, [echo("chat", 1)]).await;
    let here = ethereum(&one);
    sleep(SOON).await;
    assert_eq!(here.peers().iter().map(|peer| peer.id).collect::<Vec<_>>(), [id(2)]);
    here.add_static(address(3)).await.unwrap();
    here.add_static(address(4)).await.unwrap();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(here.peer_count(), 2);
    // Nobody else is looked for.
    assert_eq!(here.router().stats().await.unwrap().dials.candidates_wanted, 0);
    let nobody = EthereumConfig { max_peers: 0, ..config(5, &[4]) };
    let nobody = start(&network, nobody, [echo("chat", 1)]).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!((ethereum(&nobody).peer_count(), here.peer_count()), (0, 2));
}
