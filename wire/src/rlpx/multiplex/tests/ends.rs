//! Pings, silence, and every way to end.

use super::*;
use crate::Blame;

/// go-ethereum `TestPeerPing`, and its times: 15 s and 30 s.
#[test]
fn quiet_peers_ping_each_other_and_stay() {
    let mut pair = Pair::new();
    for n in 1..=20 {
        assert_eq!(pair.left.poll_timeout(), Some(pair.now + Duration::from_secs(15)));
        pair.after(14);
        pair.left.handle_timeout(pair.now).unwrap();
        assert!(!pair.left.is_sending());
        pair.after(1);
        pair.left.handle_timeout(pair.now).unwrap();
        pair.right.handle_timeout(pair.now).unwrap();
        pair.exchange();
        let stats = pair.left.stats();
        assert_eq!((stats.pings_sent, stats.pongs_received, stats.pings_received, stats.pongs_sent), (n, n, n, n - 1));
        pair.exchange();
    }
    assert_eq!(frame(2, &[0xc0]), [2, 1, 0, 0xc0], "go-ethereum's ping, in fixtures/rlpx/snappy_geth.csv");
}

#[test]
fn a_peer_that_is_silent_for_30_seconds_is_gone() {
    let mut pair = Pair::new();
    pair.after(29);
    // Anything is a sign of life, even what is ignored.
    pair.left.handle_frame(pair.now, &frame(15, &[])).unwrap();
    assert_eq!(pair.left.poll_timeout().map(|at| at <= pair.now), Some(true), "the ping is overdue");
    pair.left.handle_timeout(pair.now).unwrap();
    assert_eq!(pair.left.poll_timeout(), Some(pair.now + Duration::from_secs(15)));
    pair.after(15);
    pair.left.handle_timeout(pair.now).unwrap();
    assert_eq!(pair.left.poll_timeout(), Some(pair.now + Duration::from_secs(15)));
    pair.after(14);
    assert!(!pair.left.is_silent(pair.now));
    pair.after(1);
    assert!(pair.left.is_silent(pair.now));
    // Whoever was late reads first: what came in time counts.
    let mut late = Pair::new();
    late.after(31);
    late.left.handle_frame(late.now, &frame(3, &[0xc0])).unwrap();
    assert_eq!(late.left.handle_timeout(late.now), Ok(()));

    let gone = MultiplexError::ReadTimeout;
    assert_eq!(pair.left.handle_timeout(pair.now), Err(gone));
    assert_eq!(pair.left.handle_frame(pair.now, &frame(3, &[0xc0])), Err(gone));
    assert_eq!(gone.reason(), Some(DisconnectReason::ReadTimeout));
    // One ping in all, as none could be written.
    assert!(next_frame(&mut pair.left).is_some() && next_frame(&mut pair.left).is_none());
}

#[test]
fn a_flood_of_pings_gets_sixteen_pongs_a_write_and_no_message_waits_behind_pings() {
    let mut pair = Pair::new();
    pair.right.send(BIG, join(0, &[1; 1000])).unwrap();
    for _ in 0..50_000 {
        pair.right.handle_frame(pair.now, &frame(2, &[0xc0])).unwrap();
    }
    let codes: Vec<u8> = std::iter::from_fn(|| next_frame(&mut pair.right)).map(|frame| frame[0]).collect();
    assert_eq!(codes, [&[3; 16][..], &[16]].concat());
    let stats = pair.right.stats();
    assert_eq!((stats.pings_received, stats.pongs_sent), (50_000, 16));
    // A pong that nobody asked for is counted and ignored.
    pair.left.handle_frame(pair.now, &frame(3, &[0xc0])).unwrap();
    assert_eq!(pair.left.stats().pongs_received, 1);
}

#[test]
fn unknown_base_messages_are_counted_and_ignored() {
    let mut pair = Pair::new();
    for code in 4..16 {
        // Content that cannot even be decompressed.
        pair.right.handle_frame(pair.now, &[code, 0xff, 0xff]).unwrap();
    }
    assert_eq!(pair.right.stats().unknown_received, 12);
    assert_eq!(pair.right.poll_message(), None);
}

/// go-ethereum `TestPeerDisconnect`; reasons in both forms, compressed or not.
#[test]
fn a_disconnect_ends_the_connection_with_its_reason() {
    use DisconnectReason::*;
    let table: [(&str, Vec<u8>, DisconnectReason); 10] = [
        ("sent by a go-ethereum server", vec![1, 2, 4, 0xc1, 3], UselessPeer),
        ("bare", frame(1, &[8]), Quitting),
        ("not compressed", vec![1, 0xc1, 4], TooManyPeers),
        ("not compressed, bare", vec![1, 4], TooManyPeers),
        ("not compressed, zero", vec![1, 0xc1, 0x80], Requested),
        ("not compressed, a byte of zero", vec![1, 0], Requested),
        ("a reason of its own", frame(1, &[0xc1, 0x20]), Unknown(0x20)),
        ("nothing", vec![1], Undecodable),
        ("a list of nothing", frame(1, &[0xc0]), Undecodable),
        ("not compressed, a list of nothing", vec![1, 0xc0], Undecodable),
    ];
    for (what, data, reason) in table {
        let mut pair = Pair::new();
        pair.right.handle_frame(pair.now, &frame(20, b"good")).unwrap();
        let error = MultiplexError::Disconnected(reason);
        assert_eq!(pair.right.handle_frame(pair.now, &data), Err(error), "{what}");
        assert_eq!(pair.right.handle_frame(pair.now, &frame(20, b"late")), Err(error), "{what}");
        assert_eq!(pair.right_got(), [(SMALL, 0, b"good".to_vec())]);
        assert_eq!(error.reason(), None);
    }
    let mut plain = Pair::of(MultiplexConfig::default(), &shared(), 4);
    assert_eq!(plain.right.handle_frame(plain.now, &[1, 0xc1, 4]), Err(MultiplexError::Disconnected(TooManyPeers)));
}

#[test]
fn who_hangs_up_says_why_and_nothing_else() {
    let mut pair = Pair::new();
    pair.left.send(BIG, join(0, &[1; 100])).unwrap();
    pair.left.handle_frame(pair.now, &frame(2, &[0xc0])).unwrap();
    pair.left.disconnect(DisconnectReason::TooManyPeers);
    pair.left.disconnect(DisconnectReason::Requested);
    assert!(pair.left.is_sending() && !pair.left.can_send(BIG));
    assert_eq!(pair.left.send(BIG, join(0, &[])), Err(QueueError::Disconnecting));
    assert_eq!(pair.step(), Some(Err(MultiplexError::Disconnected(DisconnectReason::TooManyPeers))));
    // Not even a ping or pong, whatever comes.
    pair.left.handle_frame(pair.now, &frame(2, &[0xc0])).unwrap();
    pair.after(15);
    pair.left.handle_timeout(pair.now).unwrap();
    assert!(!pair.left.is_sending() && pair.step().is_none());
}

#[test]
fn a_broken_rule_ends_the_connection_after_what_came_before_it() {
    use DisconnectReason::{Protocol, Subprotocol};
    use MultiplexError::*;
    let mut limited = shared();
    limited[0].protocol.max_message_size = 1000;
    let too_large = MessageError::TooLarge { len: 1001, max: 1000 };
    let table: [(&str, Vec<u8>, MultiplexError, DisconnectReason, Blame); 11] = [
        ("no code", vec![], Message(MessageError::Code), Protocol, Blame::Malformed),
        ("a list for a code", vec![0xc0], Message(MessageError::Code), Protocol, Blame::Malformed),
        ("a code with a zero in front", vec![0x82, 0, 16], Message(MessageError::Code), Protocol, Blame::Malformed),
        ("a code behind the last protocol", frame(23, b""), UnknownCode(23), Subprotocol, Blame::Misbehaved),
        ("the last of all codes", frame(u64::MAX, b""), UnknownCode(u64::MAX), Subprotocol, Blame::Misbehaved),
        ("a second hello", frame(0, b""), SecondHello, Protocol, Blame::Misbehaved),
        (
            "a large ping",
            [&[2][..], &[0; 2049]].concat(),
            BaseTooLarge { code: 2, len: 2049 },
            Protocol,
            Blame::Misbehaved,
        ),
        (
            "a large disconnect",
            [&[1][..], &[0; 2049]].concat(),
            BaseTooLarge { code: 1, len: 2049 },
            Protocol,
            Blame::Misbehaved,
        ),
        ("larger than the protocol has", frame(16, &[0; 1001]), Message(too_large), Protocol, Blame::Misbehaved),
        ("damaged", vec![16, 5, 1, 2], Message(MessageError::Snappy), Protocol, Blame::Malformed),
        (
            "a bomb",
            vec![20, 0xff, 0xff, 0xff, 0x07, 0, 0],
            Message(MessageError::Bomb { claimed: MAX_MESSAGE_SIZE, compressed: 6 }),
            Protocol,
            Blame::Misbehaved,
        ),
    ];
    for (what, bad, error, told, blame) in table {
        let mut pair = Pair::of(MultiplexConfig::default(), &limited, 5);
        pair.right.handle_frame(pair.now, &frame(16, &[7; 1000])).unwrap();
        assert_eq!(pair.right.handle_frame(pair.now, &bad), Err(error), "{what}");
        assert_eq!((error.reason(), error.blame()), (Some(told), blame), "{what}");
        assert_eq!(pair.right_got(), [(BIG, 0, vec![7; 1000])]);
        assert_eq!(pair.right.handle_frame(pair.now, &frame(16, b"")), Err(error), "{what}");
        assert_eq!(pair.right.handle_timeout(pair.now), Err(error), "{what}");
        assert_eq!(pair.right.poll_message(), None);
        // The peer can still be told.
        pair.right.disconnect(told);
        assert_eq!(next_frame(&mut pair.right), Some(frame(1, &told.encode())), "{what}");
    }
}
