//! What waits to be sent, whose turn it is, and what is refused.

use super::*;

/// A frame cannot be interrupted, so one is the least to wait for; here it is also the most.
#[test]
fn a_small_message_waits_for_no_more_than_one_frame_of_another_protocol() {
    let mut pair = Pair::of(MultiplexConfig::default(), &shared(), 4);
    let large = join(0, &vec![1; 16_000_000]);
    let mut frame = Vec::new();
    for round in 0..8 {
        // As many as there is room for, and one is being written.
        while pair.left.can_send(BIG) {
            pair.left.send(BIG, large.clone()).unwrap();
        }
        frame.clear();
        assert!(pair.left.poll_transmit(&mut frame) && frame.len() > 16_000_000, "round {round}");
        pair.left.send(SMALL, join(1, b"now")).unwrap();
        frame.clear();
        assert!(pair.left.poll_transmit(&mut frame) && frame.len() == 4, "round {round}");
    }
}

#[test]
fn of_a_shared_line_each_protocol_has_the_same_part_in_bytes() {
    let mut pair = Pair::of(MultiplexConfig::default(), &shared(), 4);
    let (mut bytes, mut widest) = ([0usize; 2], 0);
    for _ in 0..20_000 {
        for (channel, size) in [(BIG, 100_000), (SMALL, 300)] {
            while pair.left.can_send(channel) {
                pair.left.send(channel, join(0, &vec![0; size])).unwrap();
            }
        }
        let frame = next_frame(&mut pair.left).unwrap();
        bytes[usize::from(frame[0] == 20)] += frame.len() + 64;
        widest = widest.max(bytes[0].abs_diff(bytes[1]));
    }
    assert!(bytes[0] > 3_000_000 && widest <= 101_000, "{bytes:?}, at most {widest} apart");
}

/// Neither what a protocol sent while nobody else wanted to, nor that it was quiet, counts for or against it.
#[test]
fn who_was_quiet_brings_no_credit_along() {
    let mut pair = Pair::of(MultiplexConfig::default(), &shared(), 4);
    let order =
        |pair: &mut Pair, n: usize| -> Vec<u8> { (0..n).map(|_| next_frame(&mut pair.left).unwrap()[0]).collect() };
    for _ in 0..10 {
        pair.left.send(BIG, join(0, &[0; 1000])).unwrap();
    }
    order(&mut pair, 5);
    for _ in 0..10 {
        pair.left.send(SMALL, join(0, &[0; 1000])).unwrap();
    }
    // It goes first, then they alternate: it does not catch up on what the other had sent.
    assert_eq!(order(&mut pair, 9), [20, 16, 20, 16, 20, 16, 20, 16, 20]);
    order(&mut pair, 6);
    assert!(!pair.left.is_sending());
    // After a pause both begin anew.
    for channel in [BIG, BIG, BIG, SMALL, SMALL, SMALL] {
        pair.left.send(channel, join(0, &[0; 1000])).unwrap();
    }
    assert_eq!(order(&mut pair, 6), [16, 20, 16, 20, 16, 20]);
}

#[test]
fn queues_are_bounded_in_messages_and_in_bytes() {
    let mut pair = Pair::new();
    for _ in 0..Protocol::DEFAULT_SEND_QUEUE {
        pair.left.send(SMALL, join(0, &[])).unwrap();
    }
    let more = join(0, &[]);
    assert_eq!(pair.left.send(SMALL, more.clone()), Err(QueueError::Full(more)));
    assert!(!pair.left.can_send(SMALL) && pair.left.can_send(BIG) && !pair.left.can_send(2));
    // Of 16 MiB: two of 5.5, which begin six, and four of less than one.
    let large = join(0, &vec![0; 11 << 19]);
    for message in [&large, &large] {
        pair.left.send(BIG, message.clone()).unwrap();
    }
    for size in [0, 1000, 100_000, 1_000_000] {
        assert_eq!(pair.left.send(BIG, large.clone()), Err(QueueError::Full(large.clone())));
        pair.left.send(BIG, join(0, &vec![0; size])).unwrap();
    }
    assert!(!pair.left.can_send(BIG));
    pair.exchange();
    assert_eq!(pair.right_got().len(), 22);
    // One message of any size waits, alone.
    pair.left.send(BIG, join(0, &vec![0; 16_000_000])).unwrap();
    assert!(!pair.left.can_send(BIG));
    pair.exchange();
    assert!(pair.left.can_send(BIG) && pair.left.can_send(SMALL));
}

#[test]
fn what_cannot_be_sent_is_refused_with_its_reason() {
    let mut protocols = shared();
    protocols[0].protocol.max_message_size = 1000;
    let mut pair = Pair::of(MultiplexConfig::default(), &protocols, 5);
    let left = &mut pair.left;
    assert_eq!(left.send(2, join(0, &[])), Err(QueueError::UnknownProtocol(2)));
    let large = vec![0; MAX_MESSAGE_SIZE + 1];
    for (channel, message, why) in [
        (BIG, join(4, &[]), RefusedMessage::CodeOutOfRange { code: 4, length: 4 }),
        (BIG, join(u64::MAX, &[]), RefusedMessage::CodeOutOfRange { code: u64::MAX, length: 4 }),
        (BIG, Bytes::new(), RefusedMessage::NoCode),
        (BIG, join(0, &[0; 1001]), RefusedMessage::TooLarge { len: 1001, max: 1000 }),
        (SMALL, join(0, &large), RefusedMessage::TooLarge { len: MAX_MESSAGE_SIZE + 1, max: MAX_MESSAGE_SIZE }),
    ] {
        assert_eq!(left.send(channel, message), Err(why.into()));
    }
    assert!(!left.is_sending());
    // The largest payload fits if it compresses, and is refused at once if its frame would be too large.
    left.send(SMALL, join(0, &large[1..])).unwrap();
    assert!(pair.step().unwrap().is_ok());
    assert_eq!(pair.right_got(), [(SMALL, 0, large[1..].to_vec())]);
    let mut state = 1u32;
    let random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let random: Vec<u8> = std::iter::repeat_with(random).take(MAX_MESSAGE_SIZE).collect();
    let refused = pair.left.send(SMALL, join(0, &random)).unwrap_err();
    assert!(
        matches!(refused, QueueError::Refused(RefusedMessage::TooLarge { len, .. }) if len > MAX_MESSAGE_SIZE),
        "{refused}"
    );
    pair.left.send(SMALL, join(0, &random[20_000..])).unwrap();
    assert!(pair.step().unwrap().is_ok());
    assert_eq!(pair.right_got(), [(SMALL, 0, random[20_000..].to_vec())]);
}
