//! What a stranger costs who has proven nothing, measured: alone in its process, as other tests would be measured with it.
#![cfg(target_os = "linux")]

mod raw_peer;

use kadwire_wire::transport::TendermintTransport;
use raw_peer::{RawPeer, held_for_each, node, socket};
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// Where strangers stop. A large buffer at any one stage shows in the mean.
const STAGES: [&str; 5] = ["nothing", "half a key", "a key", "an identity", "half a NodeInfo"];

/// Opens a stream, goes as far as the stage says, and then says nothing more.
async fn stranger(node: &TendermintTransport, stage: &str) -> TcpStream {
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
    stream
}

/// The state of the handshake and its task, and no more than a few frames of what came.
#[tokio::test]
async fn a_handshake_that_waits_holds_less_than_six_kilobytes() {
    let node = node(1, [127, 0, 0, 1]).await;
    let each = held_for_each(&node, async |n| stranger(&node, STAGES[n % STAGES.len()]).await).await;
    assert!((500..6 * 1024).contains(&each), "{each} bytes");
}
