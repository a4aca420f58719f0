//! An Ethereum peer that is not wanted hears it as soon as it has proven its key. Over TCP on loopback.

use kadwire_wire::{
    rlpx::{SecretKey, capability::Protocol, disconnect::DisconnectReason},
    transport::{DialError, HandshakeError, RlpxConfig, RlpxTransport},
};

use super::*;

async fn transport(seed: u8) -> RlpxTransport {
    let key = SecretKey::from_bytes(&[seed; 32]).unwrap();
    let mut config = RlpxConfig::new(key, format!("node {seed}"), vec![Protocol::new("eth", 68, 17).unwrap()]);
    config.listen = Some(([127, 133, 11, seed], 0).into());
    RlpxTransport::bind(config).await.unwrap()
}

#[tokio::test]
async fn a_peer_for_whom_there_is_no_place_hears_it_before_the_hello() {
    let here = transport(1).await;
    let address = here.address().unwrap();
    let one = Slots { outbound: 0, inbound: 1, ..Slots::ethereum(1, 0) };
    let peers = PeerManager::new(peers::Config::ethereum(here.id(), one), Book::new(BookConfig::default()));
    let router = Setup::default().start(Config::default(), here, peers);
    let mut events = router.handle().peer_events();

    let _first = transport(2).await.dial(&address).await.unwrap();
    assert!(matches!(events.next().await, Some(PeerEvent::Up(_))));
    let second = transport(3).await.dial(&address).await;
    let full = HandshakeError::Disconnected(DisconnectReason::TooManyPeers);
    assert_eq!(second.unwrap_err(), DialError::Handshake(full));

    let stats = router.handle().stats().await.unwrap();
    assert_eq!(stats.peers.refusals.of(WhyNot::NoSlots), 1);
    assert_eq!(stats.transport.accepts_completed, 1, "its Hello was not waited for");
    router.stop().await;
}
