//! What a stranger costs an Ethereum node who has proven nothing, measured: alone in its process, as other tests would be measured with it.
#![cfg(target_os = "linux")]

mod raw_peer;
mod raw_rlpx;

use std::time::Duration;

use kadwire_wire::{
    rlpx::{SecretKey, capability::Protocol, hello::Hello},
    transport::{RlpxConfig, RlpxTransport, Transport},
};
use raw_peer::held_for_each;
use raw_rlpx::RawPeer;
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// Where strangers stop. A large buffer at any one stage shows in the mean.
const STAGES: [&str; 4] = ["nothing", "half a packet", "a key", "half a Hello"];

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

/// Opens a stream, goes as far as the stage says, and then says nothing more.
async fn stranger(node: &RlpxTransport, stage: &str) -> TcpStream {
    let mut stream = TcpStream::connect(node.local().socket_addr().unwrap()).await.unwrap();
    match stage {
        "half a packet" => stream.write_all(&[&[1, 200][..], &[4; 200]].concat()).await.unwrap(),
        "a key" => stream = RawPeer::secure(stream, &key(2), key(1).public()).await.stream,
        "half a Hello" => {
            let mut peer = RawPeer::secure(stream, &key(2), key(1).public()).await;
            peer.write_begin(&Hello::new([2; 64], "x".repeat(1800), &[]).to_frame(), 1800).await;
            stream = peer.stream;
        }
        _ => {}
    }
    stream
}

/// The state of the handshake and its task, and no more of what came than fits into a Hello.
#[tokio::test]
async fn a_handshake_that_waits_holds_less_than_ten_kilobytes() {
    let mut config = RlpxConfig::new(key(1), "node", vec![Protocol::new("eth", 68, 17).unwrap()]);
    config.listen = Some(([127, 132, 1, 1], 0).into());
    // A slow machine makes five seconds short for four hundred strangers.
    config.handshake_timeout = Duration::from_secs(60);
    let node = RlpxTransport::bind(config).await.unwrap();
    let each = held_for_each(&node, async |n| stranger(&node, STAGES[n % STAGES.len()]).await).await;
    assert!((500..10 * 1024).contains(&each), "{each} bytes");
}
