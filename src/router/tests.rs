//! Routers on a memory network and a paused clock: they run as fast as they can, and waiting costs nothing.

use std::net::SocketAddr;

use bytes::Bytes;
use kadwire_wire::{
    address::{PeerAddress, PeerId},
    tendermint::node_info::NodeInfo,
    transport::{Direction, MemoryConfig, MemoryNetwork},
};
use tokio::time::{Duration, sleep};

use super::*;
use crate::{
    book::{Book, BookConfig},
    candidate::Source,
    peers::{self, Report, WhyNot},
};

const GOSSIP: u8 = 0x30;
const OTHER: u8 = 0x31;

/// How much virtual time a test gives its world to settle.
const SOON: Duration = Duration::from_millis(100);

#[derive(Clone, Default)]
struct World {
    network: MemoryNetwork,
}

/// A router with two channels whose reactor is the test.
struct Node {
    router: Running,
    gossip: Channel,
    other: Channel,
}

/// What a test changes about a node.
struct Change {
    network: &'static str,
    persistent: Vec<u8>,
    config: Config,
    source: Option<Wanted>,
}

impl Default for Change {
    fn default() -> Self {
        Self { network: "test", persistent: vec![], config: Config::default(), source: None }
    }
}

fn id(n: u8) -> PeerId {
    PeerId::Tendermint([n; 20])
}

fn address(n: u8) -> PeerAddress {
    PeerAddress::from_socket(id(n), socket(n)).unwrap()
}

fn socket(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, n, 1], 26656))
}

impl World {
    fn node(&self, n: u8, change: Change) -> Node {
        let mut setup = Setup::default();
        let spec = |id| ChannelSpec { send_queue: 4, max_message_size: 1000, ..ChannelSpec::new(id) };
        let (gossip, other) = (setup.channel(spec(GOSSIP)), setup.channel(spec(OTHER)));
        if let Some(source) = change.source {
            setup.discover(source);
        }
        let node_info = NodeInfo::new([n; 20], change.network, format!("node {n}"));
        let config = MemoryConfig { node_info, channels: setup.specs().to_vec(), address: Some(socket(n)) };
        let transport = self.network.listen(config).unwrap();
        let policy = peers::Config {
            persistent: change.persistent.into_iter().map(address).collect(),
            seed: n.into(),
            ..peers::Config::new(id(n))
        };
        let book = Book::new(BookConfig { strict: false, ..BookConfig::default() });
        let router = setup.start(change.config, transport, PeerManager::new(policy, book));
        Node { router, gossip, other }
    }

    /// A node that dials these at once.
    fn dialing(&self, n: u8, persistent: impl Into<Vec<u8>>) -> Node {
        self.node(n, Change { persistent: persistent.into(), ..Change::default() })
    }
}

impl Node {
    fn peers(&self) -> Vec<PeerId> {
        self.router.handle().peers().iter().map(|peer| peer.id).collect()
    }

    async fn stats(&self) -> Stats {
        self.router.handle().stats().await.unwrap()
    }
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn from(n: u8, message: &'static str) -> Option<Envelope> {
    Some(Envelope { from: id(n), message: text(message) })
}

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
            ChannelEvent::Up(peer) => format!("up {}", peer.node_info.moniker),
            ChannelEvent::Message(envelope) => String::from_utf8(envelope.message.to_vec()).unwrap(),
            ChannelEvent::Down(peer, reason) => format!("down {}: {reason}", peer.node_info.moniker),
        });
    }
    assert_eq!(heard, ["up node 2", "first", "last", "down node 2: closed by the peer"]);
    assert!(matches!(events.next().await, Some(PeerEvent::Down(peer, _)) if peer.id == id(1)));
    assert!(events.next().await.is_none(), "the router is gone");
}

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
async fn stopping_tells_the_peers_and_the_reactors_and_writes_the_book() {
    let world = World::default();
    let folder = tempfile::tempdir().unwrap();
    let book_file = folder.path().join("addrbook.json");
    let mut one = world.node(1, Change { config: Config { book_file: Some(book_file.clone()) }, ..Change::default() });
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
    assert!(two.router.handle().dial(address(1)).await.is_some());
}

/// A source that counts how often it is asked.
struct Wanted {
    asked: Arc<std::sync::atomic::AtomicU8>,
}

impl CandidateSource for Wanted {
    async fn next(&mut self) -> Option<Candidate> {
        sleep(Duration::from_millis(1)).await;
        let n = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(Candidate::new(address(n + 2), Source::Discv4))
    }
}

#[tokio::test(start_paused = true)]
async fn discovery_is_asked_only_while_peers_are_wanted() {
    let world = World::default();
    let others: Vec<_> = (2..30).map(|n| world.dialing(n, [])).collect();
    let asked = Arc::new(std::sync::atomic::AtomicU8::new(0));
    let one = world.node(1, Change { source: Some(Wanted { asked: asked.clone() }), ..Change::default() });
    sleep(Duration::from_secs(10)).await;
    assert_eq!(one.peers().len(), 10, "as many as there are outbound places");
    let found = asked.load(std::sync::atomic::Ordering::Relaxed);
    assert!(found <= 25, "{found} found");
    sleep(Duration::from_secs(600)).await;
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), found, "nobody is wanted, nobody is looked for");
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn the_book_is_written_every_two_minutes() {
    let world = World::default();
    let folder = tempfile::tempdir().unwrap();
    let book_file = folder.path().join("addrbook.json");
    let config = Config { book_file: Some(book_file.clone()) };
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
