//! Real sockets on loopback: each test has addresses of its own in 127.77/16, and waits for what it expects, not for time.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use super::*;
use crate::{
    NodeId, Now, SecretKey,
    discv4::{
        message::{EnrRequest, Kind, Message, Ping},
        packet::{MAX_DATAGRAM, Packet, Unverified, encode},
    },
    node_db::NodeDb,
};

/// Generous: everything is over in a second or two, unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32]).unwrap()
}

/// Any free port of 127.77.<test>.<number>.
fn config(test: u8, number: u8) -> Config {
    Config::new(key(number), SocketAddr::from(([127, 77, test, number], 0)))
}

async fn start(test: u8, number: u8) -> Discovery {
    Discovery::bind(config(test, number)).await.unwrap()
}

/// A node that knows `others` at its start.
async fn join(test: u8, number: u8, others: &[&Discovery]) -> Discovery {
    let bootnodes = others.iter().map(|other| other.local_record()).collect();
    Discovery::bind(Config { bootnodes, ..config(test, number) }).await.unwrap()
}

/// Waits until `found` finds something.
async fn eventually<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            match found().await {
                Some(value) => break value,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Asks until the answer comes: the kernel may drop a datagram, and a busy machine be late with one.
async fn answered<T>(mut ask: impl AsyncFnMut() -> Result<T, DiscoveryError>) -> T {
    eventually("an answer", async || match ask().await {
        Err(DiscoveryError::Request(RequestError::Timeout)) => None,
        done => Some(done.unwrap()),
    })
    .await
}

fn ids(nodes: &[NodeRecord]) -> Vec<NodeId> {
    let mut ids: Vec<_> = nodes.iter().map(NodeRecord::id).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_ping_ask_and_learn_records() {
    let entry = TendermintEntry { node_id: [9; 20], tcp_port: 26656 };
    let a = start(1, 1).await;
    let b = Config { tcp_port: Some(30303), tendermint: Some(entry), ..config(1, 2) };
    let b = Discovery::bind(b).await.unwrap();
    assert_eq!(b.local_record().endpoint(), b.local_address());

    let reply = answered(async || a.ping(&b.local_record()).await).await;
    assert_eq!(reply.enr_seq, b.local_record().seq());
    let record = answered(async || a.request_enr(&b.local_record()).await).await;
    assert_eq!(Some(&record), b.local_record().enr());
    assert_eq!((record.tendermint(), record.tcp()), (Some(entry), Some(30303)));
    assert_eq!(answered(async || a.resolve(&b.local_record()).await).await, b.local_record());
    // Neither answered before the other had proven its endpoint, and nobody waited 500 ms for that.
    answered(async || a.find_node(&b.local_record(), [7; 64]).await).await;

    // A record changes when its content does.
    let before = b.local_record().seq();
    let mut events = b.events();
    b.set_tendermint(None).await.unwrap();
    assert_eq!((b.local_record().seq(), b.local_record().tendermint()), (before + 1, None));
    assert_eq!(events.recv().await.unwrap(), DiscoveryEvent::LocalRecord(b.local_record()));
    b.set_tendermint(None).await.unwrap();
    assert_eq!(b.local_record().seq(), before + 1);
    assert_eq!(answered(async || a.request_enr(&b.local_record()).await).await.seq(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_a_timeout_and_our_own_address_is_no_node() {
    let a = start(2, 1).await;
    let silent = UdpSocket::bind((Ipv4Addr::new(127, 77, 2, 9), 0)).unwrap();
    let ghost = NodeRecord::new(*key(9).public(), [127, 77, 2, 9].into(), silent.local_addr().unwrap().port(), 0);
    assert_eq!(a.ping(&ghost.unwrap()).await, Err(DiscoveryError::Request(RequestError::Timeout)));
    assert_eq!(a.ping(&a.local_record()).await, Err(DiscoveryError::Request(RequestError::NotAllowed)));
    assert!(a.lookup([1; 64]).await.unwrap().is_empty());
    assert_eq!(a.stats().await.unwrap().requests, 0);
}

/// To be refused is not to find nobody.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_lookups_are_refused() {
    let silent = UdpSocket::bind((Ipv4Addr::new(127, 77, 16, 9), 0)).unwrap();
    let ghost = NodeRecord::new(*key(9).public(), [127, 77, 16, 9].into(), silent.local_addr().unwrap().port(), 0);
    let a = Discovery::bind(Config { bootnodes: vec![ghost.unwrap()], ..config(16, 1) }).await.unwrap();
    let mut lookups = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let a = a.clone();
        lookups.spawn(async move { a.lookup([1; 64]).await });
    }
    let results = lookups.join_all().await;
    let busy = Err(DiscoveryError::Request(RequestError::Busy));
    assert!(results.contains(&Ok(Vec::new())) && results.contains(&busy));
    assert!(results.iter().all(|result| *result == Ok(Vec::new()) || *result == busy), "{results:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn through_one_bootnode_everybody_finds_everybody() {
    let bootnode = start(3, 1).await;
    let mut nodes = vec![bootnode.clone()];
    for number in 2..=8 {
        nodes.push(join(3, number, &[&bootnode]).await);
    }
    let everybody = ids(&nodes.iter().map(Discovery::local_record).collect::<Vec<_>>());
    for node in &nodes {
        let others: Vec<_> = everybody.iter().copied().filter(|id| *id != node.local_record().id()).collect();
        eventually("a lookup that finds all", async || {
            let found = node.lookup(*key(99).public().as_bytes()).await.unwrap();
            (ids(&found) == others).then_some(())
        })
        .await;
    }
    // What the table has, without a packet.
    let target = nodes[3].local_record().id();
    let others = eventually("a table with all", async || {
        let others = nodes[7].closest(target, usize::MAX).await.unwrap();
        (others.len() == 7 && ids(&nodes[7].random_nodes(usize::MAX).await.unwrap()) == ids(&others)).then_some(others)
    })
    .await;
    assert!(others.is_sorted_by_key(|node| target.distance(&node.id())));
    assert_eq!(nodes[7].closest(target, 3).await.unwrap(), others[..3]);
    assert_eq!(nodes[7].random_nodes(3).await.unwrap().len(), 3);
    // Whom a lookup has found, a walk brings too.
    let mut walk = nodes[7].random_walk();
    let first = tokio::time::timeout(PATIENCE, walk.next()).await.unwrap().unwrap();
    assert!(everybody.contains(&first.id()));
    let mut events = nodes[7].events();
    bootnode.close().await;
    assert_eq!(bootnode.nodes().await, Err(DiscoveryError::Closed));
    assert!(matches!(events.try_recv(), Err(broadcast::error::TryRecvError::Empty) | Ok(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_walk_loses_nothing() {
    let a = start(4, 1).await;
    let b = join(4, 2, &[&a]).await;
    eventually("b knows a", async || b.nodes().await.unwrap().first().cloned()).await;
    let mut walk = b.random_walk();
    // Dropping the future many times must not start a lookup each time, nor forget the one under way.
    let found = eventually("a node", async || {
        tokio::select! { biased; node = walk.next() => node, () = tokio::task::yield_now() => None }
    })
    .await;
    assert_eq!(found.id(), a.local_record().id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_that_nobody_pulls_sends_nothing() {
    let a = start(14, 1).await;
    let b = join(14, 2, &[&a]).await;
    b.wait_for_nodes(1).await.unwrap();
    // The first refresh: itself, and three random targets.
    let lookups = async || b.stats().await.unwrap().discv4.lookups;
    eventually("the end of the refresh", async || (lookups().await == 4).then_some(())).await;
    let mut walk = b.random_walk();
    for _ in 0..10 {
        answered(async || b.ping(&a.local_record()).await).await;
    }
    assert_eq!(lookups().await, 4);
    let begun = Now::read().monotonic;
    assert_eq!(walk.next().await.unwrap().id(), a.local_record().id());
    assert_eq!(lookups().await, 5);
    // Who dislikes what comes may pull as fast as it likes: one lookup a second is started, no more.
    walk.next().await.unwrap();
    assert!(begun.elapsed() > Duration::from_millis(900));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_nodes_learns_that_none_will_come() {
    let a = start(15, 1).await;
    assert_eq!(a.wait_for_nodes(0).await, Ok(()));
    let other = a.clone();
    let waiting = tokio::spawn(async move { other.wait_for_nodes(1).await });
    a.close().await;
    assert_eq!(waiting.await.unwrap(), Err(DiscoveryError::Closed));
}

/// A socket that speaks discv4 by hand.
struct Stranger {
    key: SecretKey,
    socket: tokio::net::UdpSocket,
    to: SocketAddr,
}

impl Stranger {
    async fn new(test: u8, number: u8, to: &Discovery) -> Self {
        let socket = tokio::net::UdpSocket::bind(SocketAddr::from(([127, 77, test, number], 0))).await.unwrap();
        Self { key: key(number), socket, to: to.local_address() }
    }

    fn ping(&self) -> Message {
        let endpoint = crate::discv4::message::Endpoint::new(self.socket.local_addr().unwrap(), 0);
        let expiration = Now::read().unix_seconds() + 20;
        Message::Ping(Ping { version: 4, from: endpoint, to: endpoint, expiration, enr_seq: None })
    }

    async fn send(&self, message: &Message) {
        self.raw(&encode(&self.key, message).datagram).await;
    }

    async fn raw(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.to).await.unwrap();
    }

    async fn receive(&self) -> Packet {
        let mut buffer = [0; MAX_DATAGRAM];
        let received = tokio::time::timeout(PATIENCE, self.socket.recv_from(&mut buffer)).await;
        let (length, _) = received.expect("an answer").unwrap();
        Unverified::parse(&buffer[..length]).unwrap().recover().unwrap()
    }

    /// The next packet of this kind; others are skipped.
    async fn expect(&self, kind: Kind) -> Packet {
        loop {
            let packet = self.receive().await;
            if packet.message.kind() == kind {
                return packet;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_rubbish_is_counted_and_survived() {
    let node = start(5, 1).await;
    let stranger = Stranger::new(5, 2, &node).await;
    let good = encode(&stranger.key, &stranger.ping()).datagram;
    let reseal = |mut datagram: Vec<u8>| {
        let hash = crate::keccak256::keccak256(&[&datagram[32..]]);
        datagram[..32].copy_from_slice(&hash);
        datagram
    };
    stranger.raw(&good[..50]).await; // too small
    stranger.raw(&[0; MAX_DATAGRAM + 1]).await; // too big by one
    stranger.raw(&[0; 9000]).await; // too big by much
    stranger.raw(&[0x5a; 300]).await; // bad hash
    let mut unknown = good.to_vec();
    unknown[97] = 99;
    stranger.raw(&reseal(unknown)).await;
    let mut bad_body = good.to_vec();
    bad_body[98] = 0x05; // an integer where the list begins
    stranger.raw(&reseal(bad_body)).await;
    let mut bad_recovery_id = good.to_vec();
    bad_recovery_id[96] = 27;
    stranger.raw(&reseal(bad_recovery_id)).await;
    let mut no_signer = good.to_vec();
    no_signer[32..64].fill(0xff); // r beyond the order
    stranger.raw(&reseal(no_signer)).await;

    let malformed = eventually("eight malformed datagrams", async || {
        let malformed = node.stats().await.unwrap().udp.malformed;
        (malformed.total() == 8).then_some(malformed)
    })
    .await;
    let expected = MalformedStats {
        too_small: 1,
        too_big: 2,
        bad_hash: 1,
        unknown_kind: 1,
        bad_body: 1,
        bad_signature: 2,
        bad_record: 0,
    };
    assert_eq!(malformed, expected);
    // And it still answers.
    stranger.raw(&good).await;
    let Message::Pong(pong) = stranger.expect(Kind::Pong).await.message else { unreachable!() };
    assert_eq!(pong.ping_hash, good[..32]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_right_behind_the_pong_is_answered() {
    // Of several workers another one may be done with the question first.
    let node = Discovery::bind(Config { workers: Some(1), ..config(6, 1) }).await.unwrap();
    let stranger = Stranger::new(6, 2, &node).await;
    let question = Message::EnrRequest(EnrRequest { expiration: Now::read().unix_seconds() + 20 });
    // Without a proof there is nothing but a pong and a ping back.
    stranger.send(&question).await;
    stranger.send(&stranger.ping()).await;
    let ping = stranger.expect(Kind::Ping).await;
    let refused = node.stats().await.unwrap().discv4.rejected.get(crate::discv4::Rejected::NoEndpointProof);
    assert_eq!(refused, 1);
    let pong = crate::discv4::message::Pong {
        to: crate::discv4::message::Endpoint::new(node.local_address(), 0),
        ping_hash: ping.hash,
        expiration: Now::read().unix_seconds() + 20,
        enr_seq: None,
    };
    // Both are on the way before anybody has looked at the first.
    let (pong, question) = (encode(&stranger.key, &Message::Pong(pong)), encode(&stranger.key, &question));
    stranger.raw(&pong.datagram).await;
    let again = Message::EnrRequest(EnrRequest { expiration: Now::read().unix_seconds() + 21 });
    let again = encode(&stranger.key, &again);
    stranger.raw(&again.datagram).await;
    let Message::EnrResponse(response) = stranger.expect(Kind::EnrResponse).await.message else { unreachable!() };
    assert_eq!(response.request_hash, again.hash);
    assert_ne!(response.request_hash, question.hash);
    assert_eq!(Some(&response.record), node.local_record().enr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_strangers_does_not_drown_an_acquaintance() {
    let node = start(12, 1).await;
    let friend = start(12, 2).await;
    answered(async || friend.ping(&node.local_record()).await).await;
    eventually("each has proven itself", async || (node.stats().await.unwrap().bonds > 0).then_some(())).await;
    let Message::Ping(ping) = Stranger::new(12, 3, &node).await.ping() else { unreachable!() };
    let flood: Vec<_> = (0..3000)
        .map(|number| encode(&key(3), &Message::Ping(Ping { enr_seq: Some(number), ..ping.clone() })).datagram)
        .collect();
    let to = node.local_address();
    let flooding = tokio::task::spawn_blocking(move || {
        for number in 10..=250_u8 {
            let socket = UdpSocket::bind(SocketAddr::from(([127, 77, 12, number], 0))).unwrap();
            flood.iter().skip(usize::from(number)).step_by(241).for_each(|ping| _ = socket.send_to(ping, to));
        }
    });
    // The kernel may drop a datagram before we see it; then the friend asks again.
    for _ in 0..10 {
        eventually("an answer in the flood", async || friend.ping(&node.local_record()).await.ok()).await;
    }
    flooding.await.unwrap();
    let stats = node.stats().await.unwrap();
    assert_eq!((stats.udp.dropped_known, stats.udp.dropped_outgoing), (0, 0));
}

/// To watch a socket takes a file descriptor, and the driver gives that one back while it rests. With none left to take, the
/// socket is read every few milliseconds.
#[cfg(unix)]
#[test]
fn a_process_without_file_descriptors_still_answers() {
    const IN_CHILD: &str = "KADWIRE_TEST_FEW_FILES";
    if std::env::var_os(IN_CHILD).is_none() {
        // The limit is a process's, and other tests want files: this one goes on in a process of its own.
        let again = r#"ulimit -n 64 && exec "$0" --exact udp::tests::a_process_without_file_descriptors_still_answers"#;
        let mut child = std::process::Command::new("sh");
        let child = child.args(["-c", again]).arg(std::env::current_exe().unwrap()).env(IN_CHILD, "1");
        let output = child.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (node, friend) = (start(17, 1).await, start(17, 2).await);
        let stranger = Stranger::new(17, 3, &node).await;
        friend.ping(&node.local_record()).await.unwrap();
        let (done, files) =
            (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), std::path::Path::new("/dev/null"));
        let is_done = done.clone();
        let hog = std::thread::spawn(move || {
            let mut taken = Vec::new();
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                taken.extend(std::fs::File::open(files));
            }
        });
        let errors = async || node.stats().await.unwrap().udp.receive_errors;
        eventually("a rest after which nothing is left to watch with", async || {
            for _ in 0..20 {
                stranger.raw(b"rubbish").await;
            }
            (errors().await > 0).then_some(())
        })
        .await;
        for _ in 0..5 {
            eventually("an answer", async || friend.ping(&node.local_record()).await.ok()).await;
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        hog.join().unwrap();
        friend.ping(&node.local_record()).await.unwrap();
        // Watched again: nothing fails while nothing comes.
        eventually("an end of the errors", async || {
            let before = errors().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            (errors().await == before).then_some(())
        })
        .await;
    });
}

/// One run of a node with a data folder.
async fn run(test: u8, path: &Path, tcp: u16, bootnodes: Vec<NodeRecord>) -> Discovery {
    let config =
        Config { node_db: Some(path.to_owned()), tcp_port: Some(tcp), bootnodes, workers: Some(1), ..config(test, 1) };
    // A fixed port, since a new one would be new content.
    let listen = SocketAddr::from(([127, 77, test, 1], 30303));
    Discovery::bind(Config { listen, ..config }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sequence_number_survives_and_grows_only_with_the_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    let first = run(7, &path, 1, Vec::new()).await;
    let seq = first.local_record().seq();
    // The database is in use.
    let second = Config { node_db: Some(path.clone()), ..config(7, 2) };
    assert!(matches!(Discovery::bind(second).await, Err(BindError::NodeDb(NodeDbError::InUse(_)))));
    first.close().await;

    let again = run(7, &path, 1, Vec::new()).await;
    assert_eq!(again.local_record(), first.local_record());
    again.close().await;
    let changed = run(7, &path, 2, Vec::new()).await;
    assert_eq!(changed.local_record().seq(), seq + 1);
    changed.close().await;

    // A corrupt file costs what it held, not the start. The new number is above the old ones.
    std::fs::write(&path, [0x5a; 4096]).unwrap();
    let after = run(7, &path, 3, Vec::new()).await;
    assert!(after.local_record().seq() > seq);
    let aside: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(aside.iter().any(|name| name.to_string_lossy().starts_with("nodes.db.corrupt-")), "{aside:?}");
    after.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_needs_no_bootnode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    let friend = start(8, 2).await;
    let node = run(8, &path, 1, vec![friend.local_record()]).await;
    eventually("a friend in the table", async || node.nodes().await.unwrap().first().cloned()).await;
    node.close().await;
    // Checks store a node once it has passed some; here the store is filled by hand.
    let now = Now::read();
    let (db, _) = NodeDb::open(&path, node.local_record().id(), now.wall).unwrap();
    let (record, last_pong) = (friend.local_record(), now.wall);
    db.store(crate::node_db::StoredNode { record, last_pong, checks: 6, find_failures: 0, inbound: false });
    db.close();

    let node = run(8, &path, 1, Vec::new()).await;
    let found =
        eventually("the friend, from the database", async || node.lookup([3; 64]).await.unwrap().first().cloned())
            .await;
    assert_eq!(found, friend.local_record());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_when_it_closes() {
    let node = start(9, 1).await;
    let address = node.local_address();
    let other = node.clone();
    let mut walk = node.random_walk();
    let waiting = tokio::spawn(async move { walk.next().await });
    let events = node.events();
    node.close().await;
    assert_eq!(waiting.await.unwrap(), None);
    // Listeners are told, though there are handles left.
    for mut events in [events, other.events()] {
        let end = async { while events.recv().await.is_ok() {} };
        tokio::time::timeout(PATIENCE, end).await.expect("no listener waits for ever");
    }
    assert_eq!(other.stats().await.unwrap_err(), DiscoveryError::Closed);
    other.close().await;
    UdpSocket::bind(address).expect("the address is free again");
    // Dropping the last handle closes too.
    let node = start(9, 2).await;
    let address = node.local_address();
    drop(node);
    eventually("a free address", async || UdpSocket::bind(address).ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_an_error() {
    let node = start(10, 1).await;
    let refused = Discovery::bind(Config { listen: node.local_address(), ..config(10, 2) }).await.unwrap_err();
    assert!(matches!(refused, BindError::Socket { .. }));
    assert!(refused.to_string().contains(&node.local_address().to_string()), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_families_on_one_socket() {
    let Ok(node) = Discovery::bind(Config::new(key(1), "[::]:0".parse().unwrap())).await else {
        return; // no IPv6 on this machine
    };
    // Its record gives an address of IPv4 until it learns a better one.
    assert_eq!(node.local_record().ip(), Ipv4Addr::LOCALHOST);
    let v4 = start(11, 2).await;
    answered(async || v4.ping(&node.local_record()).await).await;
    answered(async || node.ping(&v4.local_record()).await).await;
    let v6 = Discovery::bind(Config::new(key(3), "[::1]:0".parse().unwrap())).await.unwrap();
    assert!(v6.local_record().ip().is_ipv6());
    answered(async || node.ping(&v6.local_record()).await).await;
}
