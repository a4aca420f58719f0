//! What Ethereum peers claim to send holds no memory; alone in its process, to measure it.

mod raw_peer;
mod raw_rlpx;

use std::time::Duration;

use kadwire_wire::{
    rlpx::{
        SecretKey,
        capability::Protocol,
        hello::Hello,
        message::{MAX_MESSAGE_SIZE, MessageError},
        multiplex::MultiplexError,
    },
    transport::{CloseReason, Connection, Endpoint, RlpxConfig, RlpxTransport, Transport},
};
use raw_peer::allocated;
use raw_rlpx::RawPeer;
use tokio::{net::TcpStream, time::timeout};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

/// A live connection with a raw peer.
async fn live(node: &RlpxTransport, protocols: &[Protocol], seed: u8) -> (Connection, RawPeer) {
    let Endpoint::Socket(there) = node.local() else { unreachable!("a TCP transport") };
    let raw = async {
        let mut raw = RawPeer::secure(TcpStream::connect(there).await.unwrap(), &key(seed), key(1).public()).await;
        raw.greet(&Hello::new(*key(seed).public().as_bytes(), "raw", protocols).to_frame()).await;
        raw
    };
    let accepted = async { node.accept().await.unwrap().handshake().await.unwrap() };
    let (raw, accepted) = tokio::join!(raw, accepted);
    (accepted, raw)
}

/// Twenty peers that claim a frame of 250 KB and send 1,000 bytes of it, and fifty whose 1,000 bytes claim to be 16 MiB.
#[tokio::test]
async fn claims_hold_no_memory() {
    let protocols = vec![Protocol::new("test", 1, 5).unwrap()];
    let listen = Some(([127, 131, 1, 1], 0).into());
    let config = RlpxConfig { listen, ..RlpxConfig::new(key(1), "kadwire/test", protocols.clone()) };
    let node = RlpxTransport::bind(config).await.unwrap();
    let mut peers = vec![live(&node, &protocols, 2).await];
    let large = vec![0; 250_000];
    let before = allocated();
    for seed in 3..23 {
        let (connection, mut raw) = live(&node, &protocols, seed).await;
        raw.write_begin(&large, 1000).await;
        peers.push((connection, raw));
    }
    let of_frames = allocated().saturating_sub(before);
    for seed in 100..150 {
        let (connection, mut raw) = live(&node, &protocols, seed).await;
        raw.write(&[&[16, 0xff, 0xff, 0xff, 0x07][..], &[0; 996]].concat()).await;
        let reason = timeout(Duration::from_secs(60), connection.closed()).await.unwrap();
        let bomb = MessageError::Bomb { claimed: MAX_MESSAGE_SIZE, compressed: 1000 };
        assert_eq!(reason, CloseReason::Rlpx(MultiplexError::Message(bomb)));
    }
    let of_bombs = allocated().saturating_sub(before);
    assert!(of_frames < 2_000_000, "{of_frames} bytes more for 5,000,000 claimed");
    assert!(of_bombs < 4_000_000, "{of_bombs} bytes more for 800,000,000 claimed");
    assert!(peers.iter().all(|(connection, _)| connection.sender.close_reason().is_none()), "who is slow may stay");
}
