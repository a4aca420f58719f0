//! What waits to be sent: a queue per protocol, and whose turn it is.
//!
//! Turns are by bytes, without rounds: each protocol counts what it has sent, and the one that has sent least is next (start-time fair queueing,
//! Goyal, Vin, Cheng 1996). One that was quiet begins where the others are, so that it neither waits for their queues nor brings a credit along.
//! `mconnection`'s round robin is for pieces of equal size: messages of 16 MiB would leave a protocol in debt for hundreds of its rounds.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::{capability::SharedProtocol, message::Codec};
use crate::send_queue::places_taken;

/// What a frame counts beside its data, in bytes: header and both checks, rounded up for padding. So empty messages take turns too.
const FRAME_COST: u64 = 64;

/// An empty queue keeps room for this many messages; more is given back.
const KEPT_CAPACITY: usize = 16;

#[derive(Debug)]
pub(super) struct Outbox {
    /// In the order of the shared protocols.
    channels: Vec<Channel>,
    /// Where the protocol that sent last was when it began. Nobody who waits is behind it.
    place: u64,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) shared: SharedProtocol,
    /// With the places that each takes.
    queue: VecDeque<(usize, Waiting)>,
    /// Places taken in the queue.
    taken: usize,
    /// Bytes sent since something last waited for nobody; raised to where the others are when it begins to wait.
    place: u64,
    /// Messages taken for writing, since last asked.
    sent: usize,
}

#[derive(Debug)]
pub(super) enum Waiting {
    /// Code on the wire and payload.
    Message(u64, Bytes),
    /// The data of a frame, made in advance to know its length.
    Frame(Vec<u8>),
}

impl Channel {
    /// The places that a message of `len` bytes takes.
    pub(super) fn places(&self, len: usize) -> usize {
        places_taken(len, self.shared.protocol.send_queue)
    }

    /// Whether so many places are free.
    pub(super) fn has_room(&self, places: usize) -> bool {
        self.taken.saturating_add(places) <= self.shared.protocol.send_queue.max(1)
    }

    fn pop(&mut self) -> Option<Waiting> {
        let (places, next) = self.queue.pop_front()?;
        if self.queue.is_empty() && self.queue.capacity() > KEPT_CAPACITY {
            self.queue = VecDeque::new();
        }
        self.taken = self.taken.saturating_sub(places);
        Some(next)
    }
}

impl Outbox {
    pub(super) fn new(shared: &[SharedProtocol]) -> Self {
        let channel = |&shared| Channel { shared, queue: VecDeque::new(), taken: 0, place: 0, sent: 0 };
        // A channel has eight bits; not even a quarter can be offered.
        Outbox { channels: shared.iter().take(usize::from(u8::MAX)).map(channel).collect(), place: 0 }
    }

    pub(super) fn channel(&self, channel: u8) -> Option<&Channel> {
        self.channels.get(usize::from(channel))
    }

    /// The protocol that a code on the wire belongs to, and its channel.
    pub(super) fn owner(&self, code: u64) -> Option<(u8, SharedProtocol)> {
        let owned = |(_, channel): &(u8, &Channel)| channel.shared.own_code(code).is_some();
        let (number, channel) = (0u8..).zip(&self.channels).find(owned)?;
        Some((number, channel.shared))
    }

    pub(super) fn shared(&self) -> impl Iterator<Item = &SharedProtocol> {
        self.channels.iter().map(|channel| &channel.shared)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.channels.iter().all(|channel| channel.queue.is_empty())
    }

    pub(super) fn push(&mut self, channel: u8, places: usize, waiting: Waiting) {
        if let Some(channel) = self.channels.get_mut(usize::from(channel)) {
            if channel.queue.is_empty() {
                channel.place = channel.place.max(self.place);
            }
            channel.taken = channel.taken.saturating_add(places);
            channel.queue.push_back((places, waiting));
        }
    }

    /// Appends the data of the next frame, if anything waits.
    pub(super) fn put_next(&mut self, codec: &mut Codec, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let waiting = self.channels.iter_mut().filter(|channel| !channel.queue.is_empty());
        // The first wins a tie.
        let Some(channel) = waiting.min_by_key(|channel| channel.place) else { return false };
        match channel.pop() {
            // Its length was checked when it was queued.
            Some(Waiting::Message(code, payload)) => _ = codec.encode(code, &payload, out),
            Some(Waiting::Frame(data)) => out.extend_from_slice(&data),
            None => return false,
        }
        channel.sent = channel.sent.saturating_add(1);
        self.place = channel.place;
        channel.place = channel.place.saturating_add(out.len().saturating_sub(start) as u64).saturating_add(FRAME_COST);
        if self.is_empty() {
            self.place = 0;
            self.channels.iter_mut().for_each(|channel| channel.place = 0);
        }
        true
    }

    pub(super) fn poll_sent(&mut self) -> Option<(u8, usize)> {
        let (number, channel) = (0u8..).zip(&mut self.channels).find(|(_, channel)| channel.sent > 0)?;
        Some((number, std::mem::take(&mut channel.sent)))
    }

    pub(super) fn clear(&mut self) {
        for channel in &mut self.channels {
            channel.queue = VecDeque::new();
            channel.taken = 0;
        }
    }
}
