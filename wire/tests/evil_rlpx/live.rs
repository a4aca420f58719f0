//! On a live connection: frames and messages that break a rule, floods, and silence.

use std::{io, time::Duration};

use kadwire_wire::{
    Blame,
    rlpx::{
        FrameError,
        disconnect::DisconnectReason,
        message::{MessageError, join},
        multiplex::MultiplexError,
    },
    transport::{CloseReason, Connection, RlpxTransport, Transport},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{RawPeer, hello, node, secure, serves_others, soon};

/// A raw peer up to the end of an honest Hello.
async fn connect(node: &RlpxTransport, n: u8) -> RawPeer {
    let mut peer = secure(node, n).await;
    peer.greet(&hello(n, |_| ())).await;
    peer
}

/// A live connection with a raw peer on the other end.
async fn live(node: &RlpxTransport, n: u8) -> (Connection, RawPeer) {
    let accept = async { node.accept().await.unwrap().handshake().await.unwrap() };
    soon("connection", async { tokio::join!(accept, connect(node, n)) }).await
}

/// Nothing is waited for or kept because a header says that it comes.
#[tokio::test]
async fn a_frame_that_is_altered_or_larger_than_any_message_is_refused() {
    let node = node(1).await;
    let (connection, mut peer) = live(&node, 2).await;
    let sealed = peer.seal(&[0; 200_000]);
    peer.write_raw(&sealed[..32]).await;
    let reason = soon("end", connection.closed()).await;
    let max = 32 + 100_000 + 100_000 / 6 + 9;
    assert_eq!(reason, CloseReason::RlpxFrame(FrameError::TooLong { size: 200_000, max }));
    assert_eq!(peer.end().await.0, Some(DisconnectReason::Protocol));
    // Nor is what was altered on its way.
    let (connection, mut peer) = live(&node, 2).await;
    let mut sealed = peer.seal(&[16, 0xc0]);
    sealed[35] ^= 1;
    peer.write_raw(&sealed).await;
    let reason = soon("end", connection.closed()).await;
    assert_eq!((reason.blame(), reason), (Blame::Malformed, CloseReason::RlpxFrame(FrameError::FrameMac)));
    assert_eq!(peer.end().await.0, Some(DisconnectReason::Protocol));
    serves_others(&node).await;
}

#[tokio::test]
async fn a_message_that_breaks_a_rule_ends_the_connection_after_what_came_before() {
    use DisconnectReason::{Protocol, Subprotocol};
    let node = node(1).await;
    let bomb = |claimed: u32| {
        let mut body = vec![16];
        let mut rest = claimed;
        while rest >= 0x80 {
            body.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        body.push(rest as u8);
        body.extend([0; 100]);
        body
    };
    let too_large = |len| MultiplexError::Message(MessageError::TooLarge { len, max: 100_000 });
    let table = [
        ("no code", vec![0xc0], MultiplexError::Message(MessageError::Code), Protocol),
        ("a code of no protocol", vec![21, 1, 0, 0xc0], MultiplexError::UnknownCode(21), Subprotocol),
        ("a second hello", hello(2, |_| ()), MultiplexError::SecondHello, Protocol),
        ("4 GiB in 100 bytes", bomb(u32::MAX), too_large(u32::MAX as usize), Protocol),
        ("16 MiB in 100 bytes", bomb((1 << 24) - 1), too_large((1 << 24) - 1), Protocol),
        (
            "within the limit, but not of 100 bytes",
            bomb(100_000),
            MultiplexError::Message(MessageError::Bomb { claimed: 100_000, compressed: 103 }),
            Protocol,
        ),
        ("damaged", vec![16, 5, 1, 2], MultiplexError::Message(MessageError::Snappy), Protocol),
        (
            "a large ping",
            [&[2][..], &[0; 2049]].concat(),
            MultiplexError::BaseTooLarge { code: 2, len: 2049 },
            Protocol,
        ),
    ];
    for (what, data, error, told) in table {
        let (mut connection, mut peer) = live(&node, 2).await;
        let before = peer.message(17, b"before");
        peer.write(&before).await;
        peer.write(&data).await;
        let after = peer.message(17, b"after");
        peer.write(&after).await;
        assert_eq!(soon("message", connection.recv()).await, Some((0, join(1, b"before"))), "{what}");
        assert_eq!(soon("end", connection.recv()).await, None, "{what}");
        let reason = connection.closed().await;
        assert_eq!(reason, CloseReason::Rlpx(error), "{what}");
        assert!(reason.blame().is_peer(), "{what}");
        assert_eq!(soon("reason", peer.end()).await.0, Some(told), "{what}");
    }
    serves_others(&node).await;
}

/// Hellos without end: the second is the last that is looked at.
#[tokio::test]
async fn a_flood_of_hellos_ends_at_the_second() {
    let node = node(1).await;
    let (connection, mut peer) = live(&node, 2).await;
    let hello = hello(2, |_| ());
    let mut flood = Vec::new();
    for _ in 0..10_000 {
        peer.writer.seal(&hello, &mut flood).unwrap();
    }
    let RawPeer { mut stream, .. } = peer;
    let flooding = tokio::spawn(async move { stream.write_all(&flood).await });
    assert_eq!(soon("end", connection.closed()).await, CloseReason::Rlpx(MultiplexError::SecondHello));
    assert!(connection.stats().packets_received <= 1);
    let _ = soon("hang-up", flooding).await.unwrap();
    serves_others(&node).await;
}

#[tokio::test]
async fn who_hangs_up_is_heard_in_both_forms() {
    use DisconnectReason::*;
    let node = node(1).await;
    for (data, reason) in [
        (vec![1, 2, 4, 0xc1, 4], TooManyPeers),
        (vec![1, 1, 0, 8], Quitting),
        (vec![1, 0xc1, 8], Quitting),
        (vec![1, 8], Quitting),
        (vec![1, 2, 4, 0xc1, 0x42], Unknown(0x42)),
        (vec![1, 1, 0, 0xc0], Undecodable),
    ] {
        let (mut connection, mut peer) = live(&node, 2).await;
        peer.write(&data).await;
        assert_eq!(soon("end", connection.recv()).await, None);
        assert_eq!(connection.closed().await, CloseReason::RemoteDisconnected(reason));
        assert_eq!(soon("hang-up", peer.end()).await.0, None, "nobody is told what it said itself");
    }
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_by_no_more_pongs_than_pings() {
    let node = node(1).await;
    let (mut connection, mut peer) = live(&node, 2).await;
    let ping = peer.message(2, &[0xc0]);
    let mut flood = Vec::new();
    for _ in 0..50_000 {
        peer.writer.seal(&ping, &mut flood).unwrap();
    }
    let end = peer.message(16, b"end");
    peer.writer.seal(&end, &mut flood).unwrap();
    // Nothing is read meanwhile: the pongs that find no room are not kept.
    peer.write_raw(&flood).await;
    assert_eq!(soon("message", connection.recv()).await, Some((0, join(0, b"end"))));
    connection.close(CloseReason::requested("done"));
    let (reason, [_, pongs]) = soon("end", peer.end()).await;
    let stats = connection.stats();
    assert_eq!((reason, stats.pings_received), (Some(DisconnectReason::Requested), 50_000));
    assert!((1..=50_000).contains(&pongs) && stats.pongs_sent >= pongs as u64, "{pongs}");
}

/// A peer that says nothing more is pinged once, then told that its time is up. The clock jumps, and only it.
#[tokio::test]
async fn a_live_peer_that_goes_silent_is_gone_after_30_seconds() {
    let node = node(1).await;
    let (connection, mut peer) = live(&node, 2).await;
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    assert_eq!(connection.closed().await, CloseReason::Rlpx(MultiplexError::ReadTimeout));
    assert!((29..35).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    tokio::time::resume();
    assert_eq!(soon("end", peer.end()).await, (Some(DisconnectReason::ReadTimeout), [1, 0]));
}

#[tokio::test]
async fn a_peer_that_takes_nothing_for_twenty_seconds_is_given_up() {
    let node = node(1).await;
    let (connection, _peer) = live(&node, 2).await;
    let mut noise = vec![0; 99_000];
    StdRng::seed_from_u64(1).fill_bytes(&mut noise);
    let message = join(0, &noise);
    // Until neither the stream nor the queue has room.
    while timeout(Duration::from_millis(500), connection.send(0, message.clone())).await.is_ok() {}
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let reason = connection.closed().await;
    assert_eq!((reason.blame(), reason), (Blame::Local, CloseReason::Io(io::ErrorKind::TimedOut)));
    assert!((10..=20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_peer_that_is_gone_is_given_up_also_if_nobody_takes_what_it_sent() {
    let node = node(1).await;
    let (connection, mut peer) = live(&node, 2).await;
    let message = peer.message(16, &[7; 100_000]);
    for _ in 0..16 {
        peer.write(&message).await;
    }
    // As many as may wait: nothing more is read.
    while connection.stats().messages_received < 11 {
        tokio::task::yield_now().await;
    }
    drop(peer);
    tokio::time::pause();
    let reason = soon("the end", async {
        // Nobody is there to read it.
        while connection.send(0, join(0, &[7; 1000])).await.is_ok() {}
        connection.closed().await
    })
    .await;
    assert!(matches!(reason, CloseReason::Io(_)), "{reason}");
}
