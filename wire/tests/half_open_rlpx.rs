//! What a stranger costs an Ethereum node who has proven nothing, measured: alone in its process, as other tests would be measured with it.
#![cfg(target_os = "linux")]

mod raw_peer;
mod raw_rlpx;

use std::time::Duration;

use kadwire_wire::{
    rlpx::{SecretKey, capability::Protocol, hello::Hello},
    transport::{RlpxConfig, RlpxTransport, Transport},
};
use raw_peer::{allocated, soon};
use raw_rlpx::RawPeer;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

/// Where strangers stop. A large buffer at any one stage shows in the mean.
const STAGES: [&str; 4] = ["nothing", "half a packet", "a key", "half a Hello"];

/// With the strangers' ends, fewer files than the thousand that many systems allow.
const STREAMS: usize = 400;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

/// Opens a stream, goes as far as the stage says, and then says nothing more.
async fn stranger(node: &RlpxTransport, stage: &str) -> std::net::TcpStream {
    let mut stream = TcpStream::connect(node.local().socket_addr().unwrap()).await.unwrap();
    match stage {
        "half a packet" => stream.write_all(&[&[1, 200][..], &[4; 200]].concat()).await.unwrap(),
        "a key" => stream = RawPeer::secure(stream, &key(2), key(1).public()).await.stream,
        "half a Hello" => {
            let mut peer = RawPeer::secure(stream, &key(2), key(1).public()).await;
            peer.write_cut(&Hello::new([2; 64], "x".repeat(1800), &[]).to_frame()).await;
            stream = peer.stream;
        }
        _ => {}
    }
    stream.into_std().unwrap()
}

/// The state of the handshake and its task, and no more of what came than fits into a Hello.
#[tokio::test]
async fn a_handshake_that_waits_holds_less_than_ten_kilobytes() {
    let mut config = RlpxConfig::new(key(1), "node", vec![Protocol::new("eth", 68, 17).unwrap()]);
    config.listen = Some(([127, 132, 1, 1], 0).into());
    // A slow machine makes five seconds short for four hundred strangers.
    config.handshake_timeout = Duration::from_secs(60);
    let node = RlpxTransport::bind(config).await.unwrap();
    let (mut handshakes, mut strangers, mut before) = (JoinSet::new(), Vec::new(), 0);
    for n in 0..STREAMS {
        // The first ones pay for what all share.
        if n == STREAMS / 5 {
            before = allocated();
        }
        let accept = async {
            let incoming = node.accept().await.unwrap();
            handshakes.spawn(incoming.handshake());
        };
        let stage = STAGES[n % STAGES.len()];
        let (stranger, ()) = soon("stream", async { tokio::join!(stranger(&node, stage), accept) }).await;
        strangers.push(stranger);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(handshakes.try_join_next().is_none(), "all of them wait");
    let each = (allocated() - before) / (STREAMS * 4 / 5);
    assert!((500..10 * 1024).contains(&each), "{each} bytes");
}
