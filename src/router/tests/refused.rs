//! Who does not get in: the banned, those of another network, and those whom a filter of the library's user keeps out.

use std::{
    future::pending,
    io,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_peer_that_misbehaves_is_closed_and_not_let_in_again() {
    let world = World::default();
    let (one, two) = (world.dialing(1, []), world.dialing(2, [1]));
    sleep(SOON).await;
    one.gossip.report(id(2), Report::Misbehaved).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!((one.peers(), two.peers()), (vec![], vec![]));
    let stats = one.stats().await.peers;
    assert!(stats.refusals.of(WhyNot::Banned) > 0, "{stats:?}");
    assert_eq!(one.router.handle().dial(address(2)).await, Some(Err(WhyNot::Banned)));
}

#[tokio::test(start_paused = true)]
async fn another_network_is_refused_by_both_sides_with_its_name() {
    let world = World::default();
    let one = world.dialing(1, []);
    let other = world.node(2, Change { network: "other", persistent: vec![1], ..Change::default() });
    sleep(SOON).await;
    assert_eq!((one.peers(), other.peers()), (vec![], vec![]));
    let (here, there) = (one.stats().await, other.stats().await);
    assert_eq!((here.transport.handshakes_incompatible, there.transport.handshakes_incompatible), (1, 1));
    assert_eq!((here.peers.half_open, there.peers.dialing, there.peers.dials_failed), (0, 0, 1));
    let failure = there.last_dial_failure.unwrap();
    assert_eq!(failure.address, address(1));
    assert_eq!(failure.error.to_string(), "handshake failed: incompatible: network \"test\", ours is \"other\"");
    // It is not asked again every two seconds: networks do not change.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(other.stats().await.peers.dials, 1);
}

#[tokio::test(start_paused = true)]
async fn a_filter_by_ip_is_asked_before_the_handshake() {
    let world = World::default();
    let not_from_two = |setup: &mut Setup| {
        setup.filter_by_ip(|ip| async move {
            if ip == IpAddr::from([10, 0, 2, 1]) { Err("on the list".to_owned()) } else { Ok(()) }
        });
    };
    let one = world.node(1, Change { setup: not_from_two, ..Change::default() });
    let (two, three) = (world.dialing(2, [1]), world.dialing(3, [1]));
    sleep(SOON).await;
    assert_eq!((one.peers(), two.peers(), three.peers()), (vec![id(3)], vec![], vec![id(1)]));
    let stats = one.stats().await;
    assert_eq!((stats.peers.refusals.of(WhyNot::Filtered), stats.peers.half_open), (1, 0));
    // It saw no handshake, and it is no fault of node 1 that it is dialed again and again, with growing pauses.
    assert_eq!((stats.transport.accepts_completed, two.stats().await.peers.dials_failed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_filter_by_id_is_asked_about_every_peer_whoever_dials() {
    let world = World::default();
    let not_two = |setup: &mut Setup| {
        setup.filter_by_id(|_| async { Ok(()) });
        setup.filter_by_id(|peer| async move { if peer == id(2) { Err("not you".to_owned()) } else { Ok(()) } });
    };
    let one = world.node(1, Change { setup: not_two, ..Change::default() });
    let (two, three) = (world.dialing(2, [1]), world.dialing(3, []));
    let handle = one.router.handle();
    assert_eq!(handle.dial(address(2)).await, Some(Ok(())));
    assert_eq!(handle.dial(address(3)).await, Some(Ok(())));
    sleep(SOON).await;
    assert_eq!((one.peers(), two.peers(), three.peers()), (vec![id(3)], vec![], vec![id(1)]));
    let stats = one.stats().await.peers;
    assert_eq!((stats.refusals.of(WhyNot::Filtered), stats.dials_failed, stats.dialing), (2, 1, 0));
    // A filter rarely changes its mind: node 2 is left alone for half an hour.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(handle.dial(address(2)).await, Some(Err(WhyNot::BackingOff)));
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_does_not_answer_is_a_no_and_keeps_nobody_else_waiting() {
    let world = World::default();
    let silent_about_two = |setup: &mut Setup| {
        setup.filter_by_id(|peer| async move { if peer == id(2) { pending().await } else { Ok(()) } });
    };
    let one = world.node(1, Change { setup: silent_about_two, ..Change::default() });
    let (_two, _three) = (world.dialing(2, [1]), world.dialing(3, [1]));
    sleep(SOON).await;
    assert_eq!((one.peers(), one.stats().await.peers.half_open), (vec![id(3)], 1));
    sleep(FILTER_TIMEOUT).await;
    let stats = one.stats().await.peers;
    assert_eq!((one.peers(), stats.half_open, stats.refusals.of(WhyNot::FilterTimeout)), (vec![id(3)], 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_panics_refuses_and_leaves_nothing_behind() {
    let world = World::default();
    let panics_about_two = |setup: &mut Setup| {
        setup.filter_by_id(|peer| async move {
            assert!(peer != id(2), "as asked for by the test");
            Ok(())
        });
    };
    let one = world.node(1, Change { setup: panics_about_two, ..Change::default() });
    let (two, _three) = (world.dialing(2, [1]), world.dialing(3, [1]));
    assert_eq!(one.router.handle().dial(address(2)).await, Some(Ok(())));
    sleep(SOON).await;
    let stats = one.stats().await.peers;
    assert_eq!((one.peers(), two.peers(), stats.half_open, stats.dialing), (vec![id(3)], vec![], 0, 0));
}

/// What the log says, for a test to read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_fails_is_logged_with_where_it_came_from() {
    let (log, world) = (Log::default(), World::default());
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
    let _guard = tracing::subscriber::set_default(lines.with_writer(move || writer.clone()).finish());
    let _one = world.dialing(1, []);
    let _other = world.node(2, Change { network: "other", persistent: vec![1], ..Change::default() });
    sleep(SOON).await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let failed: Vec<_> = log.lines().filter(|line| line.contains("handshake failed")).collect();
    assert!(failed.iter().any(|line| line.contains("10.0.2.1:26656") && line.contains("network \"other\"")), "{log}");
}
