//! The shared middle of a connection: what its users put in and take out on one side, and its driver on the other.
//!
//! Sending is bounded per channel in messages and bytes (a message holds its places, [`send_queue`](crate::send_queue), until the driver
//! reports it written). What was received waits in a
//! queue per channel, so that a user who leaves one channel alone still takes the others; together they are bounded in bytes. One stream
//! carries all channels, and what comes next on it cannot be known before it is read: so the driver reads on, pongs and other channels
//! included, until that bound is reached, and then the stream stands still (a message that was acknowledged is never dropped). A peer
//! whose pings then go unanswered hangs up after its pong time-out; ours ends the connection as `ReceiverStalled`, which blames nobody.
//! The locks are held for a push or a pop, never across a wait.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, watch};

use super::{ChannelSpec, CloseReason, SendError, lock};
use crate::{
    rlpx::{
        capability::{Protocol, SharedProtocol},
        message::MAX_CODE_LENGTH,
        multiplex::Admission,
    },
    send_queue::places_taken,
    stats::ConnectionStats,
};

/// Received bytes that may wait for the user, all channels together (one message may exceed them); then the driver stops reading. A
/// message holds at most twice its bytes.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// What a waiting message counts beside its bytes: its place in the queue and its allocation. Without it, empty ones would wait without
/// bound.
const MESSAGE_COST: usize = 128;

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
    /// If it is a protocol of RLPx: what its messages must be.
    protocol: Option<Admission>,
    /// One permit for each free place in the send queue.
    places: Semaphore,
}

impl LinkChannel {
    fn new(spec: ChannelSpec, shared: bool, protocol: Option<Admission>) -> Self {
        let places = Semaphore::new(spec.send_queue.clamp(1, Semaphore::MAX_PERMITS));
        LinkChannel { spec, shared, protocol, places }
    }
}

#[derive(Debug, Default)]
struct Outbox {
    messages: Vec<(u8, Bytes)>,
    /// The places that each message holds which the driver did not report written; one queue per channel of the link, in the same order.
    places: Vec<VecDeque<u32>>,
}

#[derive(Debug, Default)]
struct Inbox {
    /// One queue per channel of the link, in the same order. Messages are numbered as they arrive.
    queues: Vec<VecDeque<(u64, Bytes)>>,
    arrived: u64,
    /// What waits, with [`MESSAGE_COST`].
    bytes: usize,
    /// The receiver is gone: what arrives is dropped.
    abandoned: bool,
    /// The driver waits for room.
    full: bool,
    /// The receiver waits for a message.
    parked: bool,
}

impl Inbox {
    fn has_room(&self) -> bool {
        self.abandoned || self.bytes < MAX_WAITING_BYTES
    }

    /// The oldest message of the `wanted` channels, by their place in the link.
    fn pop(&mut self, wanted: impl Fn(usize) -> bool) -> Option<(usize, Bytes)> {
        let oldest = |(index, queue): (usize, &VecDeque<_>)| Some((queue.front().map(|(number, _)| *number)?, index));
        let (_, index) = self.queues.iter().enumerate().filter(|(index, _)| wanted(*index)).filter_map(oldest).min()?;
        let queue = self.queues.get_mut(index)?;
        let (_, message) = queue.pop_front()?;
        if queue.is_empty() && queue.capacity() > KEPT_CAPACITY {
            *queue = VecDeque::new();
        }
        self.bytes = self.bytes.saturating_sub(cost(&message));
        Some((index, message))
    }
}

fn cost(message: &Bytes) -> usize {
    message.len().saturating_add(MESSAGE_COST)
}

impl Link {
    /// `theirs` are the channels that the peer lists.
    pub(crate) fn new(specs: &[ChannelSpec], theirs: &[u8]) -> Arc<Self> {
        Self::of(specs.iter().map(|&spec| LinkChannel::new(spec, theirs.contains(&spec.id), None)).collect())
    }

    /// The shared protocols as channels, by place, with a peer whose Hello says `version`. A message has its code in front.
    pub(crate) fn of_protocols(shared: &[SharedProtocol], version: u64) -> Arc<Self> {
        let channel = |(id, &shared): (u8, &SharedProtocol)| {
            let Protocol { send_queue, max_message_size, .. } = shared.protocol;
            let max_message_size = max_message_size.saturating_add(MAX_CODE_LENGTH);
            let spec = ChannelSpec { send_queue, max_message_size, ..ChannelSpec::new(id) };
            LinkChannel::new(spec, true, Some(Admission { shared, version }))
        };
        Self::of((0..).zip(shared).map(channel).collect())
    }

    fn of(channels: Vec<LinkChannel>) -> Arc<Self> {
        let inbox = Inbox { queues: channels.iter().map(|_| VecDeque::new()).collect(), ..Inbox::default() };
        let outbox = Outbox { places: channels.iter().map(|_| VecDeque::new()).collect(), ..Outbox::default() };
        Arc::new(Link {
            channels,
            outbox: Mutex::new(outbox),
            inbox: Mutex::new(inbox),
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

    /// The places of the channel of a message that may be sent on it, and how many the message takes.
    pub(crate) fn admit(&self, id: u8, message: &Bytes) -> Result<(&Semaphore, u32), SendError> {
        let channel = self.channels.iter().find(|channel| channel.spec.id == id);
        let LinkChannel { spec, shared, protocol, places } = channel.ok_or(SendError::UnknownChannel(id))?;
        if !shared {
            return Err(SendError::NotSharedByPeer(id));
        }
        if message.len() > spec.max_message_size {
            return Err(SendError::TooLarge { len: message.len(), max: spec.max_message_size });
        }
        if let Some(protocol) = protocol {
            protocol.check(message)?;
        }
        Ok((places, Self::places(spec, message)))
    }

    /// The places that a message of a channel takes: of those that [`channel`](Self::channel) gives, never more than there are.
    fn places(spec: &ChannelSpec, message: &Bytes) -> u32 {
        u32::try_from(places_taken(message.len(), spec.send_queue)).unwrap_or(u32::MAX)
    }

    /// Messages of a channel that wait to be written, the one that was begun included.
    pub(crate) fn queued(&self, channel: u8) -> usize {
        let index = self.channels.iter().position(|known| known.spec.id == channel);
        let outbox = lock(&self.outbox);
        index.and_then(|index| outbox.places.get(index)).map_or(0, VecDeque::len)
    }

    /// Hands a message, whose `places` were taken, to the driver.
    pub(crate) fn push(&self, channel: u8, message: Bytes, places: u32) {
        let index = self.channels.iter().position(|known| known.spec.id == channel);
        let mut outbox = lock(&self.outbox);
        if let Some(held) = index.and_then(|index| outbox.places.get_mut(index)) {
            held.push_back(places);
        }
        let first = outbox.messages.is_empty();
        outbox.messages.push((channel, message));
        drop(outbox);
        // A driver that has been told and has not looked yet takes all.
        if first {
            self.work.notify_one();
        }
    }

    /// The oldest message of the `wanted` channels.
    pub(crate) async fn pop(&self, wanted: impl Fn(u8) -> bool) -> Option<(u8, Bytes)> {
        let id = |index: usize| self.channels.get(index).map(|channel| channel.spec.id);
        loop {
            // Read before the queues, so that what was delivered before the end is still found.
            let ending = self.is_closed();
            {
                let mut inbox = lock(&self.inbox);
                let popped = inbox.pop(|index| id(index).is_some_and(&wanted));
                inbox.parked = popped.is_none();
                // The driver reads in batches: it waits until half is free, or nothing more is taken at present.
                let read_on = if inbox.parked { inbox.has_room() } else { inbox.bytes <= MAX_WAITING_BYTES / 2 };
                if inbox.full && read_on {
                    inbox.full = false;
                    self.room.notify_one();
                }
                if let Some((index, message)) = popped {
                    return Some((id(index)?, message));
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
        inbox.queues = Vec::new();
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

    /// Reports the oldest messages of a channel written: their places are free again.
    pub(crate) fn written(&self, channel: u8, messages: usize) {
        let Some(index) = self.channels.iter().position(|known| known.spec.id == channel) else { return };
        let mut outbox = lock(&self.outbox);
        let Some(held) = outbox.places.get_mut(index) else { return };
        let free: u32 = held.drain(..messages.min(held.len())).sum();
        if held.is_empty() && held.capacity() > KEPT_CAPACITY {
            *held = VecDeque::new();
        }
        drop(outbox);
        if let Some((_, _, places)) = self.channel(channel) {
            places.add_permits(free as usize);
        }
    }

    /// Gives messages to the receiver; `false` if it should not be given more until [`room`](Self::room).
    pub(crate) fn deliver(&self, messages: impl IntoIterator<Item = (u8, Bytes)>) -> bool {
        let mut inbox = lock(&self.inbox);
        let before = inbox.arrived;
        for (channel, message) in messages {
            let index = self.channels.iter().position(|known| known.spec.id == channel);
            let Inbox { queues, arrived, bytes, .. } = &mut *inbox;
            // There are no queues when the receiver is gone.
            if let Some(queue) = index.and_then(|index| queues.get_mut(index)) {
                *bytes = bytes.saturating_add(cost(&message));
                queue.push_back((*arrived, message));
                *arrived = arrived.saturating_add(1);
            }
        }
        let tell = inbox.arrived > before && std::mem::take(&mut inbox.parked);
        let room = inbox.has_room();
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

/// Ends the connection when its task is gone, whatever ended the task.
pub(super) struct CloseOnDrop(pub(super) Arc<Link>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        // The first reason stays; this one is seen only if the task did not come to its end.
        self.0.close(CloseReason::requested("the connection's task was dropped"));
    }
}

#[cfg(test)]
mod tests;
