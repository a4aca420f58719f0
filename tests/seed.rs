//! A seed with its driver, in a network within this process: it reaches whom it was told of, answers one request, hangs up, and saves.

use std::time::Duration;

use bytes::Bytes;
use kadwire::{
    book::{Book, BookConfig, Snapshot},
    seed::{self, Chain, Config},
    visit,
};
use kadwire_wire::{
    PeerAddress, PeerId,
    tendermint::{
        node_info::NodeInfo,
        pex_message::{PEX_CHANNEL, PexMessage},
    },
    transport::{CloseReason, MemoryConfig, MemoryNetwork, MemoryTransport, Transport},
};

const SEED: u8 = 100;

fn address(n: u8) -> PeerAddress {
    PeerAddress::from_socket(PeerId::Tendermint([n; 20]), ([127, 5, 0, n], 26656).into()).unwrap()
}

fn listen(network: &MemoryNetwork, n: u8, chain: &str) -> MemoryTransport {
    let address = address(n).socket_addr();
    let node_info =
        NodeInfo { listen_addr: address.unwrap().to_string(), ..NodeInfo::new([n; 20], chain, format!("node{n}")) };
    network.listen(MemoryConfig { node_info, channels: vec![visit::channel()], address }).unwrap()
}

/// A peer that answers every request with these.
async fn peer(transport: MemoryTransport, knows: Vec<PeerAddress>) {
    while let Ok(incoming) = transport.accept().await {
        let Ok(mut connection) = incoming.handshake().await else { continue };
        let answer = Bytes::from(PexMessage::addresses(knows.clone()).encode());
        tokio::spawn(async move {
            while let Some((PEX_CHANNEL, _)) = connection.recv().await {
                connection.send(PEX_CHANNEL, answer.clone()).await?;
            }
            Ok::<_, kadwire_wire::transport::SendError>(())
        });
    }
}

fn sorted(mut addresses: Vec<PeerAddress>) -> Vec<PeerAddress> {
    addresses.sort();
    addresses
}

#[tokio::test(start_paused = true)]
async fn it_reaches_answers_once_hangs_up_visits_the_guest_and_saves() {
    let (network, dir) = (MemoryNetwork::new(), tempfile::tempdir().unwrap());
    // 1 knows 2, 2 knows 3, who is of another chain, and 4, who is not there.
    for (n, knows, chain) in [(1, vec![2], "chain"), (2, vec![3, 4], "chain"), (3, vec![], "another")] {
        tokio::spawn(peer(listen(&network, n, chain), knows.into_iter().map(address).collect()));
    }
    let mut config = Config::new(PeerId::Tendermint([SEED; 20]));
    config.seeds = vec![address(1)];
    let book = Book::new(BookConfig { strict: false, ..BookConfig::default() });
    let file = dir.path().join("addrbook.json");
    let chain = Chain { config, book, book_file: Some(file.clone()), status_every: Duration::from_millis(100) };
    let running = seed::start(listen(&network, SEED, "chain"), chain);
    let mut status = running.status();
    status.wait_for(|status| status.reachable == 2).await.unwrap();

    let guest = listen(&network, 5, "chain");
    let mut connection = guest.dial(&address(SEED)).await.unwrap();
    let answer = visit::ask(&mut connection, Duration::from_secs(30)).await.unwrap();
    assert_eq!(sorted(answer.addresses), [address(1), address(2)]);
    assert_eq!(connection.closed().await, CloseReason::Remote);
    tokio::spawn(peer(guest, vec![]));
    status.wait_for(|status| status.reachable == 3 && status.guests == 0).await.unwrap();
    assert!(!status.borrow().unreachable.contains_key("wrong_network"), "given up at once");

    running.stop().await;
    let (saved, unreadable) = Snapshot::parse(&std::fs::read(&file).unwrap()).unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let (book, left_out) = Book::restore(BookConfig { strict: false, ..BookConfig::default() }, now, saved);
    let reached = book.addresses().filter(|address| book.is_good(&address.id())).cloned().collect();
    assert_eq!(sorted(reached), [1, 2, 5].map(address));
    assert_eq!((unreadable, left_out), (0, 0));
    assert!(
        network
            .listen(MemoryConfig {
                node_info: NodeInfo::new([SEED; 20], "chain", "another"),
                channels: vec![],
                address: address(SEED).socket_addr()
            })
            .is_ok(),
        "nobody listens there any more"
    );
}

#[tokio::test(start_paused = true)]
async fn a_status_at_every_moment_is_as_often_as_can_be() {
    let config = Config::new(PeerId::Tendermint([SEED; 20]));
    let chain = Chain { config, book: Book::new(BookConfig::default()), book_file: None, status_every: Duration::ZERO };
    let running = seed::start(listen(&MemoryNetwork::new(), SEED, "chain"), chain);
    assert!(running.handle().status().await.is_some());
}
