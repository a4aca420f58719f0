//! What a peer costs whose messages nobody takes, measured: alone in its process, as other tests would be measured with it.
#![cfg(target_os = "linux")]

mod raw_peer;

use std::time::Duration;

use kadwire_wire::transport::Transport;
use raw_peer::{CHANNEL, RawPeer, allocated, node, socket, soon};
use tokio::time::timeout;

/// One byte in two packets: the message begins as one of unknown length, for which more is allocated than it turns out to need.
const IN_TWO_PACKETS: [u8; 15] = [7, 0x1a, 5, 0x08, CHANNEL, 0x1a, 1, 7, 6, 0x1a, 4, 0x08, CHANNEL, 0x10, 1];

#[tokio::test]
async fn messages_that_nobody_takes_hold_a_few_times_the_mebibyte_that_may_wait() {
    let node = node(1, [127, 0, 0, 1]).await;
    let accept = async { node.accept().await.unwrap().handshake().await.unwrap() };
    let (mut connection, mut peer) =
        soon("connection", async { tokio::join!(accept, RawPeer::connect(socket(&node), 2)) }).await;
    let portion = IN_TWO_PACKETS.repeat(2000);
    // The reader's buffer grows to what comes.
    for _ in 0..100 {
        peer.write(&portion).await;
        for _ in 0..2000 {
            assert_eq!(soon("message", connection.recv()).await.unwrap().1.len(), 1);
        }
    }
    let before = allocated();
    let mut written = 0;
    while timeout(Duration::from_millis(500), peer.write(&portion)).await.is_ok() {
        written += portion.len();
    }
    let held = allocated().saturating_sub(before);
    assert!(written > 100_000, "{written}");
    assert!(held < 4 << 20, "{held} bytes for {written} written");
}
