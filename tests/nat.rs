//! The NAT driver against a gateway that speaks NAT-PMP (RFC 6886) on loopback: what it maps, publishes, and takes back. Real
//! gateways are in `tests/interop`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kadwire::config::{EthereumConfig, NodeConfig};
use kadwire::nat::{Nat, Plan};
use kadwire::node::Node;
use kadwire::protocol::{PeerStream, Protocol};
use kadwire_discovery::{Config, Discovery, SecretKey, TendermintEntry};
use kadwire_wire::PeerAddress;
use kadwire_wire::tendermint::key::NodeKey;
use tokio::net::UdpSocket;

/// Generous: everything is over in a second or two, unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the gateway was asked: (protocol, port inside, port outside that is asked for, lifetime in seconds).
type Asked = (&'static str, u16, u16, u32);

/// A gateway at `ip` whose address outside is `external`. It gives the port asked for plus one.
async fn gateway(ip: &str, external: [u8; 4]) -> Arc<Mutex<Vec<Asked>>> {
    let (_, external) = tokio::sync::watch::channel(external);
    changing_gateway(ip, external, u32::MAX).await.0
}

/// The same, but its address changes, and leases last `longest` seconds at most. Also its task, whose end is the gateway's.
async fn changing_gateway(
    ip: &str,
    external: tokio::sync::watch::Receiver<[u8; 4]>,
    longest: u32,
) -> (Arc<Mutex<Vec<Asked>>>, tokio::task::AbortHandle) {
    let socket = UdpSocket::bind((ip, 5351)).await.unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let task = tokio::spawn(async move {
        let (mut request, mut last_from) = ([0; 1100], None);
        loop {
            let (length, from) = socket.recv_from(&mut request).await.unwrap();
            let epoch = 77_u32.to_be_bytes();
            let answer = match (&request[..length], length) {
                ([0, 0], 2) => [&[0, 128, 0, 0], &epoch[..], &*external.borrow()].concat(),
                ([0, kind @ 1..=2, _, _, i0, i1, o0, o1, t0, t1, t2, t3], 12) => {
                    let (inside, outside) = (u16::from_be_bytes([*i0, *i1]), u16::from_be_bytes([*o0, *o1]));
                    let lifetime = u32::from_be_bytes([*t0, *t1, *t2, *t3]);
                    let protocol = if *kind == 1 { "UDP" } else { "TCP" };
                    let mut log = log.lock().unwrap();
                    // A question is repeated after 250 ms if the answer is late, as on a busy machine; a refresh has a new source port.
                    if last_from.replace(from) != Some(from)
                        || log.last() != Some(&(protocol, inside, outside, lifetime))
                    {
                        log.push((protocol, inside, outside, lifetime));
                    }
                    let given = if lifetime == 0 { 0 } else { inside + 1 };
                    let lifetime = lifetime.min(longest).to_be_bytes();
                    let mapping = [&inside.to_be_bytes()[..], &given.to_be_bytes(), &lifetime].concat();
                    [&[0, 128 + kind, 0, 0], &epoch[..], &mapping].concat()
                }
                // Anything else, PCP above all: unsupported version.
                _ => [&[0, 128, 0, 1], &epoch[..]].concat(),
            };
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    (asked, task.abort_handle())
}

async fn discovery(ip: &str, change: impl FnOnce(&mut Config)) -> Discovery {
    let ip: IpAddr = ip.parse().unwrap();
    let mut config = Config::new(SecretKey::from_bytes(&[1; 32]).unwrap(), SocketAddr::new(ip, 0));
    config.workers = Some(1);
    change(&mut config);
    Discovery::bind(config).await.unwrap()
}

fn plan(methods: &[&str]) -> Plan {
    Plan::new(methods.iter().map(|method| method.parse().unwrap())).unwrap()
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let wait = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_maps_is_published_and_taken_back_at_the_end() {
    let asked = gateway("127.61.5.1", [24, 61, 0, 1]).await;
    let entry = TendermintEntry { node_id: [7; 20], tcp_port: 26656 };
    let discovery = discovery("127.61.5.2", |config| {
        (config.tendermint, config.tcp_port) = (Some(entry), Some(26656));
    })
    .await;
    let (udp, before) = (discovery.local_address().port(), discovery.local_record().seq());
    let nat = Nat::start(&plan(&["pmp:127.61.5.1"]), discovery.clone(), [Some(26656), None]).unwrap();

    until("tm names the port outside", || discovery.local_record().tendermint().is_some_and(|tm| tm.tcp_port == 26657))
        .await;
    let record = discovery.local_record();
    let enr = record.enr().unwrap();
    assert_eq!(record.endpoint(), SocketAddr::from(([24, 61, 0, 1], udp + 1)));
    assert_eq!((enr.ip(), enr.udp(), enr.tcp()), (Some(Ipv4Addr::new(24, 61, 0, 1)), Some(udp + 1), Some(26657)));
    assert_eq!(record.seq(), before + 1, "one change");
    assert_eq!(*asked.lock().unwrap(), [("UDP", udp, udp, 1200), ("TCP", 26656, 26656, 1200)]);

    nat.stop().await;
    let removed = asked.lock().unwrap().split_off(2);
    assert_eq!(removed, [("UDP", udp, 0, 0), ("TCP", 26656, 0, 0)]);
    discovery.close().await;
}

/// A node with both wires has two TCP ports, and both are mapped.
#[tokio::test(flavor = "multi_thread")]
async fn both_wires_are_mapped() {
    let asked = gateway("127.132.1.1", [24, 61, 0, 1]).await;
    let at = |port| SocketAddr::from(([127, 132, 1, 2], port));
    let key = SecretKey::from_bytes(&[1; 32]).unwrap();
    let config =
        NodeConfig { laddr: at(0), addr_book_strict: false, ..NodeConfig::new(NodeKey::from_seed(&[1; 32]), "test") };
    let mut builder = Node::builder(config);
    builder.with_ethereum(EthereumConfig::new(key.clone(), Some(at(0))));
    builder.with_protocol(Protocol::new("quiet", 1, 1, |_: PeerStream| async { Ok(()) }).unwrap());
    builder.with_discovery(Config::new(key, at(0))).with_nat(plan(&["pmp:127.132.1.1"]));
    let node = builder.start().await.unwrap();
    let port = |address: Option<&PeerAddress>| address.unwrap().port();
    let (tm, tcp) = (port(node.local_address()), port(node.ethereum().unwrap().local_address()));

    let record = || node.discovery().unwrap().local_record();
    until("the record names both ports outside", || {
        let enr = record().enr().cloned().unwrap();
        (enr.tcp(), enr.tendermint().map(|tm| tm.tcp_port)) == (Some(tcp + 1), Some(tm + 1))
    })
    .await;
    let mapped: Vec<_> = asked.lock().unwrap().iter().map(|(protocol, inside, ..)| (*protocol, *inside)).collect();
    assert_eq!(mapped[1..], [("TCP", tm), ("TCP", tcp)]);
    node.stop().await;
    let removed = asked.lock().unwrap().iter().filter(|asked| asked.3 == 0).count();
    assert_eq!(removed, 3, "taken back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_refreshed_a_new_address_is_noticed_and_a_dead_gateway_is_forgotten() {
    let (move_to, external) = tokio::sync::watch::channel([24, 61, 0, 1]);
    // Half of it may pass until a busy machine has refreshed it.
    const LEASE: u32 = 4;
    let (asked, life) = changing_gateway("127.61.10.1", external, LEASE).await;
    let discovery = discovery("127.61.10.2", |_| {}).await;
    let udp = discovery.local_address().port();
    let nat = Nat::start(&plan(&["pmp:127.61.10.1"]), discovery.clone(), [None; 2]).unwrap();
    until("the first mapping", || discovery.local_record().ip() == IpAddr::from([24, 61, 0, 1])).await;
    until("refreshes", || asked.lock().unwrap().len() >= 3).await;
    // The port that was given is asked for again.
    assert_eq!(asked.lock().unwrap()[1..3], [("UDP", udp, udp + 1, LEASE); 2]);
    let seq = discovery.local_record().seq();
    move_to.send_replace([24, 61, 0, 2]);
    until("the new address", || discovery.local_record().ip() == IpAddr::from([24, 61, 0, 2])).await;
    assert_eq!(discovery.local_record().seq(), seq + 1, "refreshes alone change nothing");
    life.abort();
    until("the lease's end", || discovery.local_record().endpoint() == discovery.local_address()).await;
    nat.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_behind_another_nat_is_not_believed() {
    let asked = gateway("127.61.6.1", [100, 64, 0, 9]).await;
    let discovery = discovery("127.61.6.2", |_| {}).await;
    let nat = Nat::start(&plan(&["pmp:127.61.6.1"]), discovery.clone(), [None; 2]).unwrap();
    // Its mapping would lead nowhere, and is taken back.
    until("the mapping is taken back", || asked.lock().unwrap().iter().any(|asked| asked.3 == 0)).await;
    nat.stop().await;
    assert_eq!(discovery.local_record().endpoint(), discovery.local_address());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_gives_is_never_asked_for_nor_overruled() {
    assert!(Nat::start(&plan(&["none"]), discovery("127.61.7.1", |_| {}).await, [None; 2]).is_none());
    let explicit = plan(&["extip:24.61.7.7"]);
    let given = discovery("127.61.7.2", |config| config.advertise_ips = explicit.explicit_ips()).await;
    assert!(Nat::start(&explicit, given.clone(), [None; 2]).is_none(), "nobody is asked");

    let _asked = gateway("127.61.7.3", [24, 61, 0, 1]).await;
    let nat = Nat::start(&plan(&["pmp:127.61.7.3", "extip:2a00:61::1"]), given.clone(), [None; 2]).unwrap();
    let other = discovery("127.61.7.4", |_| {}).await;
    let second = Nat::start(&plan(&["pmp:127.61.7.3"]), other.clone(), [None; 2]).unwrap();
    until("the gateway has answered", || other.local_record().ip() == IpAddr::from([24, 61, 0, 1])).await;
    assert_eq!(given.local_record().ip(), IpAddr::from([24, 61, 7, 7]));
    nat.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_keeps_silent_delays_neither_start_nor_end() {
    let _silent = UdpSocket::bind("127.61.8.1:5351").await.unwrap();
    let discovery = discovery("127.61.8.2", |_| {}).await;
    let nat = Nat::start(&plan(&["pmp:127.61.8.1"]), discovery.clone(), [None; 2]).unwrap();
    assert_eq!(discovery.local_record().endpoint(), discovery.local_address());
    // An attempt takes 25 s.
    tokio::time::timeout(Duration::from_secs(10), nat.stop()).await.expect("an attempt under way is given up");
}
