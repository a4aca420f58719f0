//! What a node does with files and settings that it cannot use: it says which, or sets them aside and goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use kadwire::{
    anchors::{self, Anchor},
    config::{EthereumConfig, NodeConfig},
    node::{Node, StartError},
    protocol::{PeerStream, Protocol, ProtocolError},
    router::PeerEvent,
};
use kadwire_discovery::SecretKey;
use kadwire_wire::{
    tendermint::key::NodeKey,
    transport::{ChannelSpec, MemoryNetwork},
};
use tokio::time::timeout;

/// Generous: all is over within a second, unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(n: u8) -> NodeConfig {
    let laddr = "127.0.0.1:0".parse().unwrap();
    NodeConfig { laddr, addr_book_strict: false, ..NodeConfig::new(NodeKey::from_seed(&[n; 32]), "test") }
}

#[tokio::test]
async fn a_corrupt_address_book_is_set_aside_and_the_node_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("addrbook.json");
    fs::write(&file, b"{\"key\": \"no end").unwrap();
    let node = Node::builder(NodeConfig { addr_book_file: Some(file.clone()), ..config(1) }).start().await.unwrap();
    node.stop().await;
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let aside = names.iter().find(|name| name.starts_with("addrbook.json.corrupt-")).expect("set aside");
    assert_eq!(fs::read(folder.path().join(aside)).unwrap(), b"{\"key\": \"no end");
    assert!(fs::read(&file).unwrap().starts_with(b"{\n\t\"key\": "), "a new one is written at the end");
}

#[tokio::test]
async fn an_address_book_that_cannot_be_opened_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let started =
        Node::builder(NodeConfig { addr_book_file: Some(folder.path().to_owned()), ..config(1) }).start().await;
    let error = started.err().unwrap();
    assert!(matches!(error, StartError::Book { .. }));
    assert!(error.to_string().starts_with(&format!("addr_book_file: {}: ", folder.path().display())), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    // On an IP of its own: on another's, others take free ports.
    let laddr = "127.210.1.1:0".parse().unwrap();
    let first = Node::builder(NodeConfig { laddr, ..config(1) }).start().await.unwrap();
    let taken = first.local_address().unwrap().socket_addr().unwrap();
    let error = Node::builder(NodeConfig { laddr: taken, ..config(2) }).start().await.err().unwrap();
    assert!(matches!(error, StartError::Transport(_)) && error.to_string().contains(&taken.to_string()), "{error}");
    first.stop().await;
    // A stopped node has let go of it.
    Node::builder(NodeConfig { laddr: taken, ..config(2) }).start().await.unwrap().stop().await;
}

#[tokio::test]
async fn settings_that_make_no_sense_are_errors_that_name_the_key() {
    let error = Node::builder(NodeConfig { moniker: String::new(), ..config(1) }).start().await.err().unwrap();
    assert!(error.to_string().starts_with("moniker: "), "{error}");
    let mut builder = Node::builder(config(1));
    let channels = [builder.channel(ChannelSpec::new(0x30)), builder.channel(ChannelSpec::new(0x30))];
    let error = builder.start().await.err().unwrap();
    assert!(error.to_string().contains("0x30"), "{error}");
    drop(channels);
    let mut builder = Node::builder(config(1));
    let channel = builder.channel(ChannelSpec { priority: 0, ..ChannelSpec::new(0x30) });
    assert!(matches!(builder.start().await.err().unwrap(), StartError::Transport(_)));
    drop(channel);
}

#[tokio::test]
async fn the_external_address_is_what_others_are_told() {
    let config = NodeConfig {
        laddr: "0.0.0.0:0".parse().unwrap(),
        external_address: Some("127.9.9.9:0".parse().unwrap()),
        ..config(1)
    };
    let node = Node::builder(config).start().await.unwrap();
    let told = node.local_address().unwrap().socket_addr().unwrap();
    assert_eq!(told.ip().to_string(), "127.9.9.9");
    assert_ne!(told.port(), 0, "the port listened on");

    let mut builder =
        Node::builder(NodeConfig { persistent_peers: vec![node.local_address().unwrap().clone()], ..self::config(2) });
    let channel = builder.channel(ChannelSpec::new(0x30));
    let other = builder.start().await.unwrap();
    // The first node is there and proves who it is. It has no channel, though, so the two have nothing to say to each other.
    let failure = async {
        loop {
            if let Some(failure) = other.stats().await.router.unwrap().last_dial_failure {
                return failure;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let failure = timeout(Duration::from_secs(60), failure).await.unwrap();
    assert_eq!(failure.address, *node.local_address().unwrap());
    assert_eq!(failure.error.to_string(), "handshake failed: incompatible: no common channel");
    assert!(other.peers().is_empty());
    drop(channel);
    other.stop().await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_in_memory_takes_no_port() {
    let network = MemoryNetwork::new();
    let node = Node::builder(config(1)).start_in(&network).await.unwrap();
    assert_eq!(node.local_address().unwrap().to_string(), format!("memory:{}", node.id()));
    assert!(matches!(Node::builder(config(1)).start_in(&network).await, Err(StartError::Memory(_))), "the id is taken");
    node.stop().await;
    Node::builder(config(1)).start_in(&network).await.unwrap().stop().await;
}

/// Where a node of both wires keeps its anchors.
fn anchor_files(folder: &Path) -> [PathBuf; 2] {
    ["anchors-tendermint.json", "anchors-rlpx.json"].map(|name| folder.join(name))
}

/// A node of both wires that knows nobody but its anchors.
async fn with_anchors(n: u8, folder: &Path) -> Node {
    let [tendermint, ethereum] = anchor_files(folder).map(Some);
    let mut builder = Node::builder(NodeConfig { anchors_file: tendermint, ..config(n) });
    let key = SecretKey::from_bytes(&[n; 32]).unwrap();
    let listen = Some("127.0.0.1:0".parse().unwrap());
    builder.with_ethereum(EthereumConfig { anchors_file: ethereum, ..EthereumConfig::new(key, listen) });
    let listener = |mut stream: PeerStream| async move {
        while stream.recv().await.is_some() {}
        Ok::<_, ProtocolError>(())
    };
    builder.with_protocol(Protocol::new("silence", 1, 1, listener).unwrap());
    builder.start().await.unwrap()
}

#[tokio::test]
async fn the_peers_of_the_last_run_are_dialed_without_anybody_elses_word() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = with_anchors(1, folders[0].path()).await;
    let addresses = [first.tendermint().unwrap().local_address(), first.ethereum().unwrap().local_address()];
    for (file, address) in anchor_files(folders[1].path()).iter().zip(addresses) {
        let [since, seen] = [SystemTime::UNIX_EPOCH; 2];
        let anchor = Anchor { address: address.unwrap().clone(), since, seen };
        anchors::file::write(file, &[anchor]).unwrap();
    }
    let second = with_anchors(2, folders[1].path()).await;
    for (router, address) in
        [second.tendermint().unwrap().router(), second.ethereum().unwrap().router()].iter().zip(addresses)
    {
        let mut events = router.peer_events();
        let up = timeout(PATIENCE, events.next()).await.expect("it is dialed");
        assert!(matches!(up, Some(PeerEvent::Up(peer)) if peer.id == address.unwrap().id()));
        let stats = router.stats().await.unwrap().dials;
        assert_eq!((stats.anchors_dialed, stats.anchors_reached), (1, 1));
    }
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn torn_anchors_are_set_aside_and_ones_that_cannot_be_opened_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [torn, closed] = anchor_files(folder.path());
    fs::write(&torn, b"{\"version\": 1, \"anch").unwrap();
    fs::create_dir(&closed).unwrap();
    with_anchors(1, folder.path()).await.stop().await;
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.starts_with("anchors-tendermint.json.corrupt-")), "{names:?}");
    assert!(fs::read_to_string(&torn).unwrap().contains("\"anchors\": []"), "a new one is written at the end");
    assert!(closed.is_dir());
}
