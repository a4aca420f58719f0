//! Every limit that a `[p2p]` section can set holds in a running node: who is let in, dialed, told of, and how long what may take.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use kadwire::{
    config::NodeConfig,
    node::{Node, NodeStats, StartError},
    peers::WhyNot,
    router::{Channel, To},
};
use kadwire_wire::{
    address::{PeerAddress, PeerId},
    tendermint::{
        key::NodeKey,
        mconnection::{MConnectionConfig, QueueKind},
    },
    transport::{ChannelSpec, Direction, MemoryNetwork},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

/// Generous: everything is over in a second or two, unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn key(n: u8) -> NodeKey {
    NodeKey::from_seed(&[n; 32])
}

fn id(n: u8) -> PeerId {
    PeerId::Tendermint(key(n).id())
}

/// In memory, where addresses are names: node n is at 10.0.n.1.
fn config(n: u8) -> NodeConfig {
    NodeConfig {
        laddr: SocketAddr::from(([10, 0, n, 1], 26656)),
        addr_book_strict: false,
        random_seed: Some(n.into()),
        ..NodeConfig::new(key(n), "test")
    }
}

/// On loopback, which has an address for everybody: node n is at 127.110.1.n.
fn on_loopback(n: u8) -> NodeConfig {
    NodeConfig { laddr: SocketAddr::from(([127, 110, 1, n], 0)), ..config(n) }
}

fn at(n: u8) -> PeerAddress {
    PeerAddress::from_socket(id(n), config(n).laddr).unwrap()
}

/// A node with one channel, to have something in common with others.
async fn start(network: &MemoryNetwork, config: NodeConfig) -> (Node, Channel) {
    let mut builder = Node::builder(config);
    builder.with_pex();
    let channel = builder.channel(ChannelSpec::new(0x30));
    (builder.start_in(network).await.unwrap(), channel)
}

async fn start_tcp(config: NodeConfig) -> (Node, Channel) {
    let mut builder = Node::builder(config);
    let channel = builder.channel(ChannelSpec::new(0x30));
    (builder.start().await.unwrap(), channel)
}

fn peers(node: &Node) -> BTreeSet<PeerId> {
    node.peers().iter().map(|peer| peer.id).collect()
}

async fn refusals(node: &Node, why: WhyNot) -> u64 {
    node.stats().await.router.unwrap().peers.refusals.of(why)
}

async fn until(what: &str, node: &Node, is: impl Fn(&NodeStats) -> bool) {
    let wait = async {
        while !is(&node.stats().await) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "in vain: {what}; {:?}", node.stats().await);
}

// Who is let in.

#[tokio::test(start_paused = true)]
async fn of_those_who_dial_us_so_many_get_in_and_the_unconditional_ones() {
    let network = MemoryNetwork::new();
    let limited = NodeConfig { max_num_inbound_peers: 2, unconditional_peer_ids: vec![id(5)], ..config(1) };
    let hub = start(&network, limited).await;
    let mut others = Vec::new();
    for n in 2..=4 {
        others.push(start(&network, NodeConfig { persistent_peers: vec![at(1)], ..config(n) }).await);
    }
    sleep(secs(60)).await;
    assert_eq!(hub.0.peers().len(), 2);
    assert!(refusals(&hub.0, WhyNot::NoSlots).await >= 1);
    others.push(start(&network, NodeConfig { persistent_peers: vec![at(1)], ..config(5) }).await);
    sleep(secs(10)).await;
    assert!(peers(&hub.0).contains(&id(5)) && hub.0.peers().len() == 3);
}

#[tokio::test(start_paused = true)]
async fn there_are_so_many_connections_in_all() {
    let network = MemoryNetwork::new();
    let limited = NodeConfig { max_connections: Some(3), max_num_outbound_peers: 1, ..config(1) };
    let hub = start(&network, limited).await;
    let mut others = Vec::new();
    for n in 2..=6 {
        others.push(start(&network, NodeConfig { persistent_peers: vec![at(1)], pex: false, ..config(n) }).await);
    }
    sleep(secs(60)).await;
    assert_eq!(hub.0.peers().len(), 2, "the outbound place is not for those who dial us");
}

#[test]
fn without_a_word_about_all_connections_the_two_sides_are_not_cut() {
    let most = |inbound, persistent| {
        let sides =
            NodeConfig { max_num_inbound_peers: inbound, persistent_peers: vec![at(2); persistent], ..config(1) };
        sides.most_connections()
    };
    assert_eq!([most(40, 0), most(40, 20), most(200, 0), most(usize::MAX, 1)], [64, 70, 210, usize::MAX]);
}

#[tokio::test(start_paused = true)]
async fn one_ip_is_one_peer_unless_more_are_allowed() {
    for (allowed, expected) in [(false, 1), (true, 2)] {
        let network = MemoryNetwork::new();
        let hub = start(&network, NodeConfig { allow_duplicate_ip: allowed, ..config(1) }).await;
        let mut others = Vec::new();
        for n in 2..=3 {
            let laddr = SocketAddr::from(([127, 0, 0, 1], n.into()));
            others.push(start(&network, NodeConfig { laddr, persistent_peers: vec![at(1)], ..config(n) }).await);
        }
        sleep(secs(20)).await;
        assert_eq!(hub.0.peers().len(), expected);
        assert_eq!(refusals(&hub.0, WhyNot::DuplicateIp).await > 0, !allowed);
    }
}

#[tokio::test]
async fn an_ip_may_knock_so_often_even_over_loopback() {
    let hub = start_tcp(NodeConfig { max_incoming_connection_attempts: 5, ..on_loopback(1) }).await.0;
    let there = hub.local_address().unwrap().socket_addr().unwrap();
    let mut knocking = Vec::new();
    for _ in 0..8 {
        knocking.push(TcpStream::connect(there).await.unwrap());
    }
    until("the sixth is refused", &hub, |stats| {
        stats.router.as_ref().unwrap().peers.refusals.of(WhyNot::TooManyAttempts) == 3
    })
    .await;
}

// Who is dialed, and who is told of.

#[tokio::test(start_paused = true)]
async fn without_peer_exchange_the_seeds_are_dialed_like_peers_and_no_more_of_them_than_allowed() {
    let network = MemoryNetwork::new();
    let mut seeds = Vec::new();
    for n in 2..=4 {
        seeds.push(start(&network, config(n)).await);
    }
    let alone = NodeConfig { pex: false, max_num_outbound_peers: 2, seeds: vec![at(2), at(3), at(4)], ..config(1) };
    let node = start(&network, alone).await.0;
    sleep(secs(600)).await;
    assert_eq!(node.peers().len(), 2);
    assert!(node.peers().iter().all(|peer| peer.direction == Direction::Outbound));
    assert!(node.stats().await.pex.is_none());
    let channels = |(seed, _): &(Node, Channel)| {
        seed.peers().iter().find_map(|peer| Some(peer.info.tendermint()?.channels.clone()))
    };
    let offered: Vec<_> = seeds.iter().filter_map(channels).collect();
    assert_eq!(offered, [vec![0x30], vec![0x30]], "the channel of peer exchange is not among them");
}

#[tokio::test(start_paused = true)]
async fn nodes_that_all_have_the_same_lists_do_not_dial_themselves() {
    let network = MemoryNetwork::new();
    let all: Vec<_> = (1..=3).map(at).collect();
    let mut nodes = Vec::new();
    for n in 1..=3 {
        let config = NodeConfig { persistent_peers: all.clone(), seeds: all.clone(), pex: false, ..config(n) };
        nodes.push(start(&network, config).await.0);
    }
    sleep(secs(60)).await;
    for (n, node) in (1..).zip(&nodes) {
        assert_eq!(peers(node), (1..=3).filter(|other| *other != n).map(id).collect());
        let failure = node.stats().await.router.unwrap().last_dial_failure;
        assert!(failure.is_none_or(|failure| failure.address.id() != node.id()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_private_peer_is_a_peer_that_nobody_is_told_of() {
    let network = MemoryNetwork::new();
    // Themselves they tell nobody anything.
    let silent = |n| NodeConfig { pex: false, ..config(n) };
    let others = [start(&network, silent(2)).await, start(&network, silent(3)).await];
    let discreet = NodeConfig { persistent_peers: vec![at(2), at(3)], private_peer_ids: vec![id(3)], ..config(1) };
    let node = start(&network, discreet).await.0;
    let asking = start(&network, NodeConfig { seeds: vec![at(1)], ..config(4) }).await.0;
    sleep(secs(300)).await;
    assert_eq!(peers(&node), [id(2), id(3), id(4)].into());
    assert_eq!(peers(&asking), [id(1), id(2)].into(), "it heard of the other one and dialed it");
    let told = node.router().advertise(id(4)).await;
    assert!(told.iter().any(|address| address.id() == id(2)) && told.iter().all(|address| address.id() != id(3)));
    assert_eq!(others[1].0.peers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_persistent_peer_is_dialed_at_least_as_often_as_the_operator_says() {
    for (period, at_least, at_most) in [(Duration::ZERO, 4, 6), (secs(3), 20, 31)] {
        let network = MemoryNetwork::new();
        let persistent =
            NodeConfig { persistent_peers_max_dial_period: period, persistent_peers: vec![at(2)], ..config(1) };
        let node = start(&network, persistent).await.0;
        sleep(secs(60)).await;
        let dials = node.stats().await.router.unwrap().peers.dials;
        assert!((at_least..=at_most).contains(&dials), "{dials} dials with {period:?}");
    }
}

// How long what may take. CometBFT reads both time-outs and uses neither.

#[tokio::test]
async fn a_silent_socket_is_closed_after_the_handshake_time_out() {
    let limit = Duration::from_millis(300);
    let node = start_tcp(NodeConfig { handshake_timeout: limit, ..on_loopback(2) }).await.0;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(node.local_address().unwrap().socket_addr().unwrap()).await.unwrap();
    // It says its ephemeral key, and then hears nothing.
    let mut heard = Vec::new();
    let _ = timeout(secs(10), silent.read_to_end(&mut heard)).await.expect("long before the default of 20 s");
    assert!(begun.elapsed() >= limit, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_dial_that_nobody_answers_ends_after_the_dial_time_out() {
    // A listener that accepts nobody: when its backlog is full, the system answers no further dial.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 110, 1, 30), 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let there = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) = timeout(secs(1), TcpStream::connect(there)).await {
        waiting.push(connected.unwrap());
        assert!(waiting.len() < 10, "the backlog has no end");
    }
    let limit = Duration::from_millis(300);
    let nobody = PeerAddress::from_socket(id(9), there).unwrap();
    let dialing = NodeConfig { dial_timeout: limit, persistent_peers: vec![nobody], ..on_loopback(3) };
    let node = start_tcp(dialing).await.0;
    until("the dial ends", &node, |stats| stats.router.as_ref().unwrap().last_dial_failure.is_some()).await;
    let failure = node.stats().await.router.unwrap().last_dial_failure.unwrap();
    assert_eq!(failure.error.to_string(), kadwire_wire::transport::DialError::Timeout(limit).to_string());
}

// What goes over a connection.

#[test]
fn what_concerns_a_connection_reaches_it() {
    let config = NodeConfig {
        max_packet_msg_payload_size: 1400,
        send_rate: 7,
        recv_rate: 8,
        queue_type: QueueKind::Wdrr,
        ..config(1)
    };
    let expected = MConnectionConfig {
        max_packet_payload: 1400,
        send_rate: 7,
        recv_rate: 8,
        queue: QueueKind::Wdrr,
        ..MConnectionConfig::default()
    };
    assert_eq!(config.mconnection(), expected);
    assert_eq!(NodeConfig::new(key(1), "test").mconnection(), MConnectionConfig::default());
}

/// The time that a message of `size` bytes takes from one to the other, or nothing if it does not arrive.
async fn carry(from: NodeConfig, to: NodeConfig, size: usize) -> Option<Duration> {
    let (to, mut channel) = start_tcp(to).await;
    let persistent_peers = vec![to.local_address().unwrap().clone()];
    let (from, sending) = start_tcp(NodeConfig { persistent_peers, ..from }).await;
    until("they are connected", &to, |stats| stats.router.as_ref().unwrap().peers.inbound == 1).await;
    until("they are connected", &from, |stats| stats.router.as_ref().unwrap().peers.outbound == 1).await;
    let begun = Instant::now();
    sending.send(To::Peer(to.id()), Bytes::from(vec![7; size])).await.unwrap();
    let arrived = async {
        let message = channel.recv().await.unwrap().message;
        assert_eq!(message.len(), size);
        begun.elapsed()
    };
    let closed = async {
        while !to.peers().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let elapsed = tokio::select! {
        biased;
        elapsed = timeout(PATIENCE, arrived) => Some(elapsed.expect("it arrives")),
        () = closed => None,
    };
    from.stop().await;
    to.stop().await;
    elapsed
}

#[tokio::test]
async fn packets_of_another_size_than_agreed_are_refused() {
    let sized = |n, size| NodeConfig { max_packet_msg_payload_size: size, ..on_loopback(n) };
    assert!(carry(sized(11, 1400), sized(12, 1400), 1_400).await.is_some());
    assert_eq!(carry(sized(13, 1400), sized(14, 1024), 1_400).await, None);
}

#[tokio::test]
async fn both_rates_hold_and_a_short_message_does_not_wait_for_the_flush_throttle() {
    // 200 kB at 100 kB/s, less what may go or be read at once.
    let slow = |n| NodeConfig { send_rate: 100_000, ..on_loopback(n) };
    let reading_slowly = |n| NodeConfig { recv_rate: 100_000, ..on_loopback(n) };
    let sent = carry(slow(15), on_loopback(16), 200_000).await.unwrap();
    let received = carry(on_loopback(17), reading_slowly(18), 200_000).await.unwrap();
    for took in [sent, received] {
        assert!(took >= secs(1), "{took:?}");
    }
    let throttled = |n| NodeConfig { flush_throttle_timeout: PATIENCE, ..on_loopback(n) };
    let took = carry(throttled(19), throttled(20), 64).await.unwrap();
    assert!(took < PATIENCE / 4, "{took:?}");
}

// What a node cannot be.

#[tokio::test]
async fn a_node_says_what_it_cannot_be() {
    let seed = NodeConfig { seed_mode: true, ..config(1) };
    let mapped = NodeConfig { upnp: true, ..config(1) };
    for (config, said) in [(seed, "kadwire seed"), (mapped, "discovery")] {
        let error = Node::builder(config).start_in(&MemoryNetwork::new()).await.unwrap_err();
        assert!(matches!(error, StartError::Config(_)) && error.to_string().contains(said), "{error}");
    }
}
