use std::{future::Future, time::Duration};

use super::*;

const LEFT: u8 = 0x30;
const TAKEN: u8 = 0x31;

fn link() -> Arc<Link> {
    Link::new(&[ChannelSpec::new(LEFT), ChannelSpec::new(TAKEN)], &[LEFT, TAKEN])
}

fn message(len: usize) -> Bytes {
    Bytes::from(vec![0; len])
}

/// What a future gives without waiting.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test]
async fn messages_come_in_the_order_of_arrival_over_the_wanted_channels() {
    let link = link();
    let order = [LEFT, LEFT, TAKEN, LEFT, TAKEN];
    link.deliver(order.iter().enumerate().map(|(n, &channel)| (channel, message(n))));
    let mut taken = Vec::new();
    while let Some(Some((channel, message))) = at_once(link.pop(|id| id == TAKEN)).await {
        taken.push((channel, message.len()));
    }
    while let Some(Some((channel, message))) = at_once(link.pop(|_| true)).await {
        taken.push((channel, message.len()));
    }
    assert_eq!(taken, [(TAKEN, 2), (TAKEN, 4), (LEFT, 0), (LEFT, 1), (LEFT, 3)]);
    assert_eq!(lock(&link.inbox).bytes, 0);
}

#[tokio::test]
async fn all_channels_together_are_bounded_and_empty_messages_count() {
    let link = link();
    assert!(link.deliver([(LEFT, message(MAX_WAITING_BYTES / 2))]));
    assert!(!link.deliver([(TAKEN, message(MAX_WAITING_BYTES / 2))]));
    let empty = self::link();
    let mut delivered = 0;
    while empty.deliver([(LEFT, Bytes::new())]) {
        delivered += 1;
    }
    assert_eq!(delivered + 1, MAX_WAITING_BYTES / MESSAGE_COST);
}

/// A channel that is left alone holds most of the room: the driver must read on whenever there is any, not only at half.
#[tokio::test]
async fn the_stream_goes_on_for_the_other_channels_while_there_is_room() {
    let link = link();
    assert!(link.deliver([(LEFT, message(MAX_WAITING_BYTES * 9 / 10))]));
    for _ in 0..5 {
        assert!(!link.deliver((0..3).map(|_| (TAKEN, message(MAX_WAITING_BYTES / 20)))));
        assert_eq!(at_once(link.room()).await, None);
        for _ in 0..3 {
            assert!(at_once(link.pop(|id| id == TAKEN)).await.is_some());
        }
        assert_eq!(at_once(link.pop(|id| id == TAKEN)).await, None);
        assert_eq!(at_once(link.room()).await, Some(()));
    }
}

/// Places for messages and bytes: a large message waits until as many are free as it has begun MiB.
#[tokio::test]
async fn what_waits_to_be_sent_is_bounded_in_bytes_too() {
    let link = Link::new(&[ChannelSpec { send_queue: 4, ..ChannelSpec::new(LEFT) }], &[LEFT]);
    let free = || link.channel(LEFT).unwrap().2.available_permits();
    let send = |mib: usize| {
        let (spec, _, places) = link.channel(LEFT).unwrap();
        let message = message(mib << 20);
        let taken = Link::places(spec, &message);
        places.try_acquire_many(taken).ok()?.forget();
        link.push(LEFT, message, taken);
        Some(taken)
    };
    assert_eq!([send(0), send(3), send(0)], [Some(1), Some(3), None]);
    assert_eq!((link.queued(LEFT), free()), (2, 0));
    // Written in the order of sending.
    link.written(LEFT, 1);
    assert_eq!((link.queued(LEFT), free(), send(2), send(0)), (1, 1, None, Some(1)));
    link.written(LEFT, 2);
    assert_eq!((link.queued(LEFT), free()), (0, 4));
    // One of any size fits alone; what is written beyond what waits frees nothing.
    assert_eq!([send(20), send(0)], [Some(4), None]);
    link.written(LEFT, 9);
    assert_eq!((link.take().len(), free()), (4, 4));
}

/// The receiver sleeps while messages of a channel that it does not want wait; one that it wants wakes it.
#[tokio::test]
async fn a_waiting_receiver_hears_of_a_wanted_message_behind_others() {
    let link = link();
    link.deliver([(LEFT, message(1))]);
    let receiver = tokio::spawn({
        let link = link.clone();
        async move { link.pop(|id| id == TAKEN).await }
    });
    tokio::task::yield_now().await;
    link.deliver([(LEFT, message(2))]);
    tokio::task::yield_now().await;
    link.deliver([(TAKEN, message(3))]);
    assert_eq!(receiver.await.unwrap(), Some((TAKEN, message(3))));
    link.close(CloseReason::Remote);
    assert_eq!(link.pop(|id| id == TAKEN).await, None, "over, and nothing wanted is left");
    assert_eq!(link.pop(|_| true).await, Some((LEFT, message(1))));
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_waits_for_room_reads_in_batches_and_for_a_receiver_that_finds_nothing() {
    let link = link();
    assert!(!link.deliver([(LEFT, message(MAX_WAITING_BYTES * 6 / 10)), (TAKEN, message(MAX_WAITING_BYTES / 2))]));
    let driver = tokio::spawn({
        let link = link.clone();
        async move { link.room().await }
    });
    tokio::task::yield_now().await;
    assert!(at_once(link.pop(|id| id == TAKEN)).await.is_some());
    tokio::task::yield_now().await;
    assert!(!driver.is_finished(), "more than half is taken");
    assert_eq!(at_once(link.pop(|id| id == TAKEN)).await, None);
    tokio::time::timeout(Duration::from_secs(1), driver).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_room_beyond_the_end_and_the_first_reason_for_it_stays() {
    let link = link();
    assert!(!link.deliver([(LEFT, message(MAX_WAITING_BYTES))]));
    let driver = tokio::spawn({
        let link = link.clone();
        async move { link.room().await }
    });
    tokio::task::yield_now().await;
    let first = CloseReason::requested("first");
    link.flush(first.clone());
    link.close(CloseReason::Remote);
    assert_eq!(link.closed().await, first);
    tokio::time::timeout(Duration::from_secs(1), driver).await.unwrap().unwrap();
}
