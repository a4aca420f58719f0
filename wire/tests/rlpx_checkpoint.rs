//! Who has proven its key may be refused before either side says what it is, and hears why.

use std::time::Duration;

use kadwire_wire::{
    rlpx::{SecretKey, capability::Protocol, disconnect::DisconnectReason},
    transport::{DialError, HandshakeError, RlpxConfig, RlpxTransport, Transport},
};
use tokio::time::timeout;

async fn node(seed: u8) -> RlpxTransport {
    let protocols = vec![Protocol::new("eth", 68, 17).unwrap()];
    let key = SecretKey::from_bytes(&[seed; 32]).unwrap();
    let mut config = RlpxConfig::new(key, format!("node {seed}"), protocols);
    config.listen = Some(([127, 133, 10, seed], 0).into());
    RlpxTransport::bind(config).await.unwrap()
}

#[tokio::test]
async fn a_peer_is_refused_by_its_key_before_the_hello_and_hears_why() {
    let (here, there) = (node(1).await, node(2).await);
    let address = there.address().unwrap();
    for answer in [Err(DisconnectReason::TooManyPeers), Ok(())] {
        let accept = async {
            let incoming = there.accept().await.unwrap();
            let mut asked = Vec::new();
            let accepted = incoming.handshake_checked(|peer| {
                asked.push(peer);
                std::future::ready(answer)
            });
            let accepted = accepted.await;
            assert_eq!(asked, [here.id()], "asked once, about whoever has the key");
            accepted
        };
        let both = async { tokio::join!(here.dial(&address), accept) };
        let (dialed, accepted) = timeout(Duration::from_secs(30), both).await.expect("it ends");
        match answer {
            Ok(()) => assert_eq!((dialed.unwrap().peer, accepted.unwrap().peer), (there.id(), here.id())),
            Err(reason) => {
                assert_eq!(dialed.unwrap_err(), DialError::Handshake(HandshakeError::Disconnected(reason)));
                assert_eq!(accepted.unwrap_err(), HandshakeError::Refused(reason));
            }
        }
    }
    assert_eq!(there.stats().accepts_completed, 1);
}
