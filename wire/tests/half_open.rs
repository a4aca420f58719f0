//! What a stranger costs who has proven nothing, measured: alone in its process, as other tests would be measured with it.
#![cfg(target_os = "linux")]

mod raw_peer;

use std::time::Duration;

use kadwire_wire::transport::{TendermintTransport, Transport};
use raw_peer::{RawPeer, allocated, node, socket, soon};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

/// Where strangers stop. A large buffer at any one stage shows in the mean.
const STAGES: [&str; 5] = ["nothing", "half a key", "a key", "an identity", "half a NodeInfo"];

/// With the strangers' ends, fewer files than the thousand that many systems allow.
const STREAMS: usize = 400;

/// Opens a stream, goes as far as the stage says, and then says nothing more.
async fn stranger(node: &TendermintTransport, stage: &str) -> std::net::TcpStream {
    let key = [&[0x22, 0x0a, 0x20][..], &[9; 32]].concat();
    let mut stream = TcpStream::connect(socket(node)).await.unwrap();
    match stage {
        "half a key" => stream.write_all(&key[..20]).await.unwrap(),
        "a key" => stream.write_all(&key).await.unwrap(),
        "an identity" => stream = RawPeer::secure(stream, 2).await.stream,
        "half a NodeInfo" => {
            let mut peer = RawPeer::secure(stream, 2).await;
            peer.write(&RawPeer::node_info(2, |info| info.moniker = "m".repeat(2000))[..1900]).await;
            stream = peer.stream;
        }
        _ => {}
    }
    stream.into_std().unwrap()
}

/// The state of the handshake and its task, and no more than a few frames of what came.
#[tokio::test]
async fn a_handshake_that_waits_holds_less_than_six_kilobytes() {
    let node = node(1, [127, 0, 0, 1]).await;
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
    assert!((500..6 * 1024).contains(&each), "{each} bytes");
}
