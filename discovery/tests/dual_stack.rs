//! IPv4 and IPv6 on real sockets: nodes over ::1, nodes over both families, and nodes that have only one.
//!
//! Needs IPv6 on loopback. A machine without it fails here and says so: nothing else could show that this works.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use kadwire_discovery::discv4::{ExternalEndpoint, RequestError};
use kadwire_discovery::{Config, Discovery, DiscoveryError, NodeRecord, SecretKey};

/// Generous: everything is over in a second or two, unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start(number: u8, listen: &str, change: impl FnOnce(&mut Config)) -> Discovery {
    let mut config = Config::new(SecretKey::from_bytes(&[number; 32]).unwrap(), listen.parse().unwrap());
    config.workers = Some(1);
    change(&mut config);
    Discovery::bind(config).await.unwrap_or_else(|error| panic!("{listen}: {error} (IPv6 on loopback is needed)"))
}

/// Waits until the node's table has these nodes.
async fn knows(node: &Discovery, others: &[&Discovery]) {
    let wait = async {
        loop {
            let table: Vec<_> = node.nodes().await.unwrap().iter().map(NodeRecord::id).collect();
            if others.iter().all(|other| table.contains(&other.local_record().id())) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{} does not know all", node.local_address()));
}

/// Asks until the answer comes: the kernel may drop a datagram, and a busy machine be late with one.
async fn answered<T>(mut ask: impl AsyncFnMut() -> Result<T, DiscoveryError>) -> T {
    let wait = async {
        loop {
            match ask().await {
                Err(DiscoveryError::Request(RequestError::Timeout)) => {}
                done => break done.unwrap(),
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("an answer")
}

/// A node at `[::]`, reached at both of its loopback addresses. (127.0.0.1, since the system answers from there.)
async fn of_both(number: u8, bootnodes: Vec<NodeRecord>) -> Discovery {
    start(number, "[::]:0", |config| {
        config.advertise_ips = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        config.bootnodes = bootnodes;
        config.tcp_port = Some(30303);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_over_ipv6() {
    let a = start(1, "[::1]:0", |_| {}).await;
    let b = start(2, "[::1]:0", |config| config.bootnodes.push(a.local_record())).await;
    knows(&b, &[&a]).await;
    knows(&a, &[&b]).await;
    let found = answered(async || match b.lookup([7; 64]).await? {
        none if none.is_empty() => Err(DiscoveryError::Request(RequestError::Timeout)),
        found => Ok(found),
    });
    assert_eq!(found.await, [a.local_record()]);
    let record = answered(async || b.request_enr(&a.local_record()).await).await;
    assert_eq!((record.ip6(), record.udp6()), (Some(Ipv6Addr::LOCALHOST), Some(a.local_address().port())));
    assert_eq!((record.ip(), record.udp()), (None, None), "no IPv4 is made up");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_of_both_families_joins_those_of_either() {
    let both = of_both(1, Vec::new()).await;
    let record = both.local_record().enr().cloned().unwrap();
    let port = Some(both.local_address().port());
    assert_eq!((record.ip(), record.udp(), record.tcp()), (Some(Ipv4Addr::LOCALHOST), port, Some(30303)));
    assert_eq!((record.ip6(), record.udp6(), record.tcp6()), (Some(Ipv6Addr::LOCALHOST), port, Some(30303)));

    // Each gets the same signed record, and asks over the family it has.
    let bootnodes = vec![both.local_record()];
    let v4 = start(2, "127.61.1.2:0", |config| config.bootnodes = bootnodes.clone()).await;
    let v6 = start(3, "[::1]:0", |config| config.bootnodes = bootnodes.clone()).await;
    let also_both = of_both(4, bootnodes).await;
    knows(&both, &[&v4, &v6, &also_both]).await;
    for node in [&v4, &v6, &also_both] {
        knows(node, &[&both]).await;
        answered(async || node.ping(&both.local_record()).await).await;
    }
    let asked_at = answered(async || v6.resolve(&both.local_record()).await).await;
    assert_eq!(asked_at.enr(), Some(&record));

    // Whom a node of one family cannot reach, it does not try.
    for (node, other) in [(&v4, &v6), (&v6, &v4)] {
        let refused = node.ping(&other.local_record()).await;
        assert_eq!(refused, Err(DiscoveryError::Request(RequestError::NotAllowed)));
        assert_eq!(node.stats().await.unwrap().udp.send_errors, 0);
    }
}

/// An endpoint that nobody but a resolver of `udp` for IPv6 can find: EIP-778 lets `udp6` be left out.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_udp6_is_read_with_udp() {
    let listener = start(1, "[::1]:0", |_| {}).await;
    let key = SecretKey::from_bytes(&[1; 32]).unwrap();
    let record = kadwire_discovery::Enr::builder(1).ip6(Ipv6Addr::LOCALHOST).udp(listener.local_address().port());
    let node = NodeRecord::from_enr(record.sign(&key).unwrap()).unwrap();
    assert_eq!(node.endpoint(), listener.local_address());
    let asking = start(2, "[::1]:0", |_| {}).await;
    answered(async || asking.ping(&node).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_public_only_nothing_leaves_for_this_machine() {
    let other = start(1, "127.61.2.1:0", |_| {}).await;
    let node = start(2, "127.61.2.2:0", |config| {
        config.public_only = true;
        config.bootnodes.push(other.local_record());
    })
    .await;
    assert_eq!(node.ping(&other.local_record()).await, Err(DiscoveryError::Request(RequestError::NotAllowed)));
    assert!(other.ping(&node.local_record()).await.is_err(), "a ping from a private address stays unanswered");
    assert!(node.lookup([1; 64]).await.unwrap().is_empty());
    let stats = node.stats().await.unwrap();
    assert_eq!((stats.udp.sent, stats.udp.send_errors), (0, 0));
    assert!(stats.discv4.sends_withheld >= 1);
}

/// The sequence number grows when what the record says changes, and goes on after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_follows_the_gateway_and_counts_its_changes() {
    let folder = tempfile::tempdir().unwrap();
    // The same port in both runs, since a new one would be new content.
    let listen =
        std::net::UdpSocket::bind("[::]:0").expect("IPv6 on loopback is needed").local_addr().unwrap().to_string();
    let run = async || start(1, &listen, |config| config.node_db = Some(folder.path().join("nodes.db"))).await;
    let external = |ip: &str| ExternalEndpoint { ip: ip.parse().unwrap(), udp: Some(9), tcp: [None; 2] };
    let seen = |node: &Discovery| {
        let record = node.local_record().enr().cloned().unwrap();
        (record.ip().map(IpAddr::from), record.ip6().map(IpAddr::from), record.seq())
    };

    let node = run().await;
    let (_, _, seq) = seen(&node);
    let (v4, v6) = ("24.1.2.3".parse().ok(), "2a00:1::2".parse().ok());
    for _ in 0..3 {
        node.set_external(vec![external("24.1.2.3"), external("2a00:1::2")]).await.unwrap();
        assert_eq!(seen(&node), (v4, v6, seq + 1));
    }
    node.close().await;

    // Until the gateway has answered again, the record says what it said: most of the time it is still true.
    let node = run().await;
    let (ip, ip6, after) = seen(&node);
    assert_eq!(after, seq + 2, "the port that was mapped is no longer known");
    assert_eq!((ip, ip6), (v4, v6));
    node.set_external(vec![external("24.1.2.3"), external("2a00:1::2")]).await.unwrap();
    assert_eq!(seen(&node), (v4, v6, seq + 3));
    node.close().await;
}
