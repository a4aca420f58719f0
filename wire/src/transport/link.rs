//! The shared middle of a connection: what its users put in and take out on one side, and its driver on the other.
//!
//! Sending is bounded per channel (a message holds its place until the driver reports it written), receiving is bounded in
//! messages and bytes. The locks are held for a push or a pop, never across a wait.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, watch};

use super::{ChannelSpec, CloseReason};
use crate::stats::ConnectionStats;

/// Received messages that may wait for the user; then the driver stops reading. Enough to carry small messages in batches.
const MAX_WAITING_MESSAGES: usize = 1024;

/// Received bytes that may wait for the user (one message may exceed them).
const MAX_WAITING_BYTES: usize = 1 << 20;

/// An empty queue keeps room for this many messages; more is given back, for connections that were busy and are idle now.
const KEPT_CAPACITY: usize = 16;

/// Whether the connection lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Both directions work.
    Open,
    /// No new messages are taken; the driver writes what waits and then closes.
    Flushing(CloseReason),
    /// Over.
    Closed(CloseReason),
}

/// One connection's queues and state; shared by its senders, its receiver and its driver.
#[derive(Debug)]
pub(crate) struct Link {
    channels: Vec<LinkChannel>,
    outbox: Mutex<Outbox>,
    inbox: Mutex<Inbox>,
    /// For the driver: the outbox or the state changed.
    work: Notify,
    /// For the receiver: the inbox or the state changed.
    arrived: Notify,
    /// For the driver: the inbox has room again, or the state changed.
    room: Notify,
    state: watch::Sender<State>,
    /// Mirrors `state != Open`, to be read without a lock.
    ending: AtomicBool,
    stats: Mutex<ConnectionStats>,
}

#[derive(Debug)]
struct LinkChannel {
    spec: ChannelSpec,
    /// Whether the peer lists the channel too.
    shared: bool,
    /// One permit per free place in the send queue.
    places: Semaphore,
}

#[derive(Debug, Default)]
struct Outbox {
    messages: Vec<(u8, Bytes)>,
}

#[derive(Debug, Default)]
struct Inbox {
    messages: VecDeque<(u8, Bytes)>,
    bytes: usize,
    /// The receiver is gone: what arrives is dropped.
    abandoned: bool,
    /// The driver waits for room.
    full: bool,
}

impl Inbox {
    fn has_room(&self) -> bool {
        self.abandoned || (self.messages.len() < MAX_WAITING_MESSAGES && self.bytes < MAX_WAITING_BYTES)
    }
}

impl Link {
    /// `theirs` are the channels that the peer lists.
    pub(crate) fn new(specs: &[ChannelSpec], theirs: &[u8]) -> Arc<Self> {
        let channels = specs
            .iter()
            .map(|&spec| LinkChannel {
                spec,
                shared: theirs.contains(&spec.id),
                places: Semaphore::new(spec.send_queue.clamp(1, Semaphore::MAX_PERMITS)),
            })
            .collect();
        Arc::new(Link {
            channels,
            outbox: Mutex::default(),
            inbox: Mutex::default(),
            work: Notify::new(),
            arrived: Notify::new(),
            room: Notify::new(),
            state: watch::Sender::new(State::Open),
            ending: AtomicBool::new(false),
            stats: Mutex::default(),
        })
    }

    // For senders and the receiver.

    pub(crate) fn channel(&self, id: u8) -> Option<(&ChannelSpec, bool, &Semaphore)> {
        let channel = self.channels.iter().find(|channel| channel.spec.id == id)?;
        Some((&channel.spec, channel.shared, &channel.places))
    }

    /// Hands a message, whose place was taken, to the driver.
    pub(crate) fn push(&self, channel: u8, message: Bytes) {
        let mut outbox = lock(&self.outbox);
        let first = outbox.messages.is_empty();
        outbox.messages.push((channel, message));
        drop(outbox);
        // A driver that has been told and has not looked yet takes all.
        if first {
            self.work.notify_one();
        }
    }

    pub(crate) async fn pop(&self) -> Option<(u8, Bytes)> {
        loop {
            // Read before the queue, so that what was delivered before the end is still found.
            let ending = self.is_closed();
            {
                let mut inbox = lock(&self.inbox);
                if let Some((channel, message)) = inbox.messages.pop_front() {
                    inbox.bytes = inbox.bytes.saturating_sub(message.len());
                    if inbox.messages.is_empty() && inbox.messages.capacity() > KEPT_CAPACITY {
                        inbox.messages = VecDeque::new();
                    }
                    // Wait until half is free: the driver then reads in batches.
                    if inbox.full
                        && inbox.messages.len() <= MAX_WAITING_MESSAGES / 2
                        && inbox.bytes <= MAX_WAITING_BYTES / 2
                    {
                        inbox.full = false;
                        self.room.notify_one();
                    }
                    return Some((channel, message));
                }
            }
            if ending {
                return None;
            }
            self.arrived.notified().await;
        }
    }

    /// The receiver is gone: its messages are dropped.
    pub(crate) fn abandon(&self) {
        let mut inbox = lock(&self.inbox);
        inbox.abandoned = true;
        inbox.messages = VecDeque::new();
        inbox.bytes = 0;
        drop(inbox);
        self.room.notify_one();
    }

    // For the driver.

    /// What was sent since the last call, oldest first.
    pub(crate) fn take(&self) -> Vec<(u8, Bytes)> {
        std::mem::take(&mut lock(&self.outbox).messages)
    }

    /// Waits until there may be something to [`take`](Self::take), or the state changed.
    pub(crate) async fn work(&self) {
        self.work.notified().await;
    }

    /// Reports messages of a channel written: their places are free again.
    pub(crate) fn written(&self, channel: u8, messages: usize) {
        if let Some((_, _, places)) = self.channel(channel) {
            places.add_permits(messages);
        }
    }

    /// Gives messages to the receiver; `false` if it should not be given more until [`room`](Self::room).
    pub(crate) fn deliver(&self, messages: impl IntoIterator<Item = (u8, Bytes)>) -> bool {
        let mut inbox = lock(&self.inbox);
        let was_empty = inbox.messages.is_empty();
        if !inbox.abandoned {
            for (channel, message) in messages {
                inbox.bytes = inbox.bytes.saturating_add(message.len());
                inbox.messages.push_back((channel, message));
            }
        }
        let tell = was_empty && !inbox.messages.is_empty();
        let room = inbox.has_room();
        inbox.full = !room;
        drop(inbox);
        if tell {
            self.arrived.notify_one();
        }
        room
    }

    /// Waits until [`deliver`](Self::deliver) may be called again, or the connection is over.
    pub(crate) async fn room(&self) {
        loop {
            if self.is_closed() {
                return;
            }
            {
                let mut inbox = lock(&self.inbox);
                if inbox.has_room() {
                    return;
                }
                inbox.full = true;
            }
            self.room.notified().await;
        }
    }

    pub(crate) fn set_stats(&self, stats: ConnectionStats) {
        *lock(&self.stats) = stats;
    }

    // For all.

    pub(crate) fn stats(&self) -> ConnectionStats {
        *lock(&self.stats)
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_ending() && matches!(*self.state.borrow(), State::Closed(_))
    }

    /// Takes no more messages; the driver closes when all are written. The first reason stays.
    pub(crate) fn flush(&self, reason: CloseReason) {
        self.change(|state| match state {
            State::Open => Some(State::Flushing(reason)),
            _ => None,
        });
    }

    /// Ends the connection. The first reason stays.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.change(|state| match state {
            State::Open => Some(State::Closed(reason)),
            State::Flushing(first) => Some(State::Closed(first.clone())),
            State::Closed(_) => None,
        });
    }

    fn change(&self, next: impl FnOnce(&State) -> Option<State>) {
        self.state.send_if_modified(|state| {
            let Some(next) = next(state) else { return false };
            *state = next;
            self.ending.store(true, Ordering::Release);
            true
        });
        for channel in &self.channels {
            channel.places.close();
        }
        self.work.notify_one();
        self.arrived.notify_one();
        self.room.notify_one();
    }

    pub(crate) async fn closed(&self) -> CloseReason {
        let mut states = self.state.subscribe();
        loop {
            if let State::Closed(reason) = &*states.borrow_and_update() {
                return reason.clone();
            }
            // The link owns the sending half, so this cannot fail; if it did, waiting for ever is the honest answer.
            if states.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// A panic while a lock was held leaves whole values here (a push or a pop), so they stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
