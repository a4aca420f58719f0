//! The multiplexer: messages of the shared protocols, and the base protocol, over one stream of RLPx frames, as a machine.
//!
//! Puts in: [`handle_frame`](Multiplex::handle_frame) (the plain data of one frame) and
//! [`handle_timeout`](Multiplex::handle_timeout). Commands: [`send`](Multiplex::send), [`disconnect`](Multiplex::disconnect). Takes out:
//! [`poll_transmit`](Multiplex::poll_transmit) (the data of the next frame, to be sealed), [`poll_message`](Multiplex::poll_message),
//! [`poll_sent`](Multiplex::poll_sent), [`poll_timeout`](Multiplex::poll_timeout). Pings are answered inside. The peer's Disconnect, like a
//! rule that it breaks, is the error that ends the connection.
//!
//! A protocol is named by its place in the sorted list of shared ones, its *channel*; a message is in the form of
//! [`message::join`](super::message::join). So a driver treats this machine as it treats an MConnection.
//!
//! RLPx has no packets: a frame is a whole message, and one that was begun must end before any other. So a message waits for at least the
//! one that is being written, up to 16 MiB of it. Beyond that protocols take turns by bytes (see `outbox`): a message on a quiet protocol
//! waits for no more than one of every other, whatever they have queued. Pings, pongs and Disconnect go before all of them.
//!
//! Different from go-ethereum: a second Hello ends the connection (there it is ignored); a flood of pings does not stop the reader, those beyond
//! 16 get no pong; what a protocol does not read in time is its driver's business, not the other protocols'.

mod admission;
mod error;
mod outbox;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

pub(crate) use admission::Admission;
pub use error::{MultiplexConfigError, MultiplexError, QueueError, RefusedMessage};

use self::outbox::Outbox;
use super::{
    capability::{BASE_LENGTH, SharedProtocol},
    disconnect::DisconnectReason,
    hello::{MAX_BASE_MESSAGE_SIZE, code},
    message::{Codec, MAX_CODE_LENGTH, MAX_MESSAGE_SIZE, MessageError, read_code, split},
};
use crate::stats::ConnectionStats;

/// Pongs that may wait to be written (go-ethereum: `pingRecv`, 16).
const MAX_PONGS: usize = 16;

/// The payload of ping and pong: an empty list.
const EMPTY_LIST: [u8; 1] = [0xc0];

/// The queue of received messages, once empty, keeps room for this many; more is given back.
const KEPT_CAPACITY: usize = 16;

/// Times and limits of a connection; the defaults are go-ethereum's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultiplexConfig {
    /// A ping is sent this often (15 s, go-ethereum `pingInterval`).
    pub ping_interval: Duration,
    /// A whole frame must come within this; more than the interval, as quiet peers send only pings (30 s, go-ethereum `frameReadTimeout`).
    pub read_timeout: Duration,
}

impl Default for MultiplexConfig {
    fn default() -> Self {
        MultiplexConfig { ping_interval: Duration::from_secs(15), read_timeout: Duration::from_secs(30) }
    }
}

/// The longest read timeout. Longer ones would let a dead peer hold its place for days.
const MAX_READ_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

impl MultiplexConfig {
    /// Checks the settings against each other.
    pub fn validate(&self) -> Result<(), MultiplexConfigError> {
        if self.ping_interval.is_zero() || self.ping_interval >= self.read_timeout {
            return Err(MultiplexConfigError::PingInterval);
        }
        if self.read_timeout > MAX_READ_TIMEOUT {
            return Err(MultiplexConfigError::ReadTimeout);
        }
        Ok(())
    }
}

/// One side of a connection, from the end of the Hello exchange to the end of the stream.
#[derive(Debug)]
pub struct Multiplex {
    config: MultiplexConfig,
    codec: Codec,
    outbox: Outbox,
    next_ping: Instant,
    /// When the last frame came.
    heard: Instant,
    /// To be written before any message.
    pongs_due: usize,
    ping_due: bool,
    farewell: Farewell,
    messages: VecDeque<(u8, Bytes)>,
    failed: Option<MultiplexError>,
    stats: ConnectionStats,
}

/// Whether this side hangs up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    None,
    /// The next frame is Disconnect, the last one.
    Due(DisconnectReason),
    /// Nothing more is written.
    Said,
}

impl Multiplex {
    /// A connection whose first ping is due one interval from `now`. `shared` is what
    /// [`match_protocols`](super::capability::match_protocols) gave, `codec` what the peer's Hello asks for.
    pub fn new(
        config: MultiplexConfig,
        shared: &[SharedProtocol],
        codec: Codec,
        now: Instant,
    ) -> Result<Self, MultiplexConfigError> {
        config.validate()?;
        Ok(Multiplex {
            codec,
            outbox: Outbox::new(shared),
            next_ping: now.checked_add(config.ping_interval).unwrap_or(now),
            heard: now,
            pongs_due: 0,
            ping_due: false,
            farewell: Farewell::None,
            messages: VecDeque::new(),
            failed: None,
            stats: ConnectionStats::default(),
            config,
        })
    }

    /// Queues a message in the form of [`message::join`](super::message::join), with the protocol's own code. The queue is bounded in
    /// messages and in bytes: see [`Protocol::send_queue`](super::capability::Protocol::send_queue).
    pub fn send(&mut self, channel: u8, message: Bytes) -> Result<(), QueueError> {
        if self.farewell != Farewell::None {
            return Err(QueueError::Disconnecting);
        }
        let waiting = self.outbox.channel(channel).ok_or(QueueError::UnknownProtocol(channel))?;
        let places = waiting.places(message.len());
        if !waiting.has_room(places) {
            return Err(QueueError::Full(message));
        }
        let message = admission::admit(&waiting.shared, &mut self.codec, message)?;
        self.outbox.push(channel, places, message);
        Ok(())
    }

    /// Whether a message of up to 1 MiB could be queued now.
    pub fn can_send(&self, channel: u8) -> bool {
        let waiting = self.outbox.channel(channel);
        self.farewell == Farewell::None && waiting.is_some_and(|waiting| waiting.has_room(1))
    }

    /// Hangs up: what waits is dropped, and the next frame, the last, tells the peer why. The first reason stays.
    pub fn disconnect(&mut self, reason: DisconnectReason) {
        if self.farewell == Farewell::None {
            self.farewell = Farewell::Due(reason);
            self.outbox.clear();
            self.pongs_due = 0;
            self.ping_due = false;
        }
    }

    /// Whether anything waits to be written.
    pub fn is_sending(&self) -> bool {
        let base = self.ping_due || self.pongs_due > 0 || matches!(self.farewell, Farewell::Due(_));
        base || !self.outbox.is_empty()
    }

    /// Appends the data of the next frame, plain, at most 2²⁴ − 1 bytes; `false` if there is none. A frame once taken is written whole.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        if let Farewell::Due(reason) = self.farewell {
            self.farewell = Farewell::Said;
            self.put_base(code::DISCONNECT, &reason.encode(), out);
        } else if let Some(left) = self.pongs_due.checked_sub(1) {
            self.pongs_due = left;
            bump(&mut self.stats.pongs_sent);
            self.put_base(code::PONG, &EMPTY_LIST, out);
        } else if std::mem::take(&mut self.ping_due) {
            bump(&mut self.stats.pings_sent);
            self.put_base(code::PING, &EMPTY_LIST, out);
        } else if self.outbox.put_next(&mut self.codec, out) {
            bump(&mut self.stats.messages_sent);
        } else {
            return false;
        }
        bump(&mut self.stats.packets_sent);
        self.stats.bytes_sent = self.stats.bytes_sent.saturating_add(out.len().saturating_sub(start) as u64);
        true
    }

    /// A channel, and how many of its messages were taken for writing since it was last named.
    pub fn poll_sent(&mut self) -> Option<(u8, usize)> {
        self.outbox.poll_sent()
    }

    /// Takes the plain data of one frame. Take what it brought with [`poll_message`](Self::poll_message) before the next, which has room for
    /// one more. After an error, every call gives that error; messages that came before it can still be polled.
    pub fn handle_frame(&mut self, now: Instant, data: &[u8]) -> Result<(), MultiplexError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.heard = now;
        bump(&mut self.stats.packets_received);
        self.stats.bytes_received = self.stats.bytes_received.saturating_add(data.len() as u64);
        let result = self.read(data);
        self.failed = result.err();
        result
    }

    /// The next message and its channel, in the form of [`message::join`](super::message::join) with the protocol's own code, in the order in
    /// which they came.
    pub fn poll_message(&mut self) -> Option<(u8, Bytes)> {
        let message = self.messages.pop_front();
        if message.is_none() && self.messages.capacity() > KEPT_CAPACITY {
            self.messages = VecDeque::new();
        }
        message
    }

    /// Nothing was read on purpose until now: silence counts from here. For a driver whose user takes no messages.
    pub fn excuse(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Whether [`handle_timeout`](Self::handle_timeout) would now end the connection because nothing came. Whoever was late himself reads what
    /// the stream holds first.
    pub fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= self.config.read_timeout
    }

    /// Sends a ping if one is due, and notices that the peer has gone silent.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), MultiplexError> {
        if self.is_silent(now) && self.failed.is_none() {
            self.failed = Some(MultiplexError::ReadTimeout);
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.next_ping <= now {
            self.ping_due = self.farewell == Farewell::None;
            self.next_ping = now.checked_add(self.config.ping_interval).unwrap_or(now);
        }
        Ok(())
    }

    /// The most data that a frame of the peer can have, in bytes, if it keeps the limits of the shared protocols: what says that it is larger
    /// need not be read.
    pub fn max_frame(&self) -> usize {
        let messages = self.outbox.shared().map(|shared| shared.protocol.max_message_size);
        let largest = messages.chain([MAX_BASE_MESSAGE_SIZE]).max().unwrap_or(MAX_MESSAGE_SIZE);
        self.codec.max_body(largest).saturating_add(MAX_CODE_LENGTH).min(MAX_MESSAGE_SIZE)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called. Never `None` while it lives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let silent = self.heard.checked_add(self.config.read_timeout);
        silent.into_iter().chain([self.next_ping]).min()
    }

    /// What was carried so far: packets are frames, bytes their plain data.
    pub fn stats(&self) -> ConnectionStats {
        self.stats
    }

    /// Gives back the memory that only a busy connection needs. For a driver that is about to wait.
    pub fn release(&mut self) {
        self.codec.release();
    }

    fn put_base(&mut self, code: u64, payload: &[u8], out: &mut Vec<u8>) {
        // A few bytes always fit.
        let _: Result<(), MessageError> = self.codec.encode(code, payload, out);
    }

    fn read(&mut self, data: &[u8]) -> Result<(), MultiplexError> {
        let (code, len) = read_code(data)?;
        let body = data.get(len..).unwrap_or_default();
        if code < BASE_LENGTH {
            return self.read_base(code, body);
        }
        let (channel, shared) = self.outbox.owner(code).ok_or(MultiplexError::UnknownCode(code))?;
        let own = code.saturating_sub(shared.offset);
        let message = self.codec.decode(own, body, shared.protocol.max_message_size)?;
        bump(&mut self.stats.messages_received);
        self.messages.push_back((channel, message));
        Ok(())
    }

    /// Of base messages only Disconnect has content; that of the others is not looked at.
    fn read_base(&mut self, code: u64, body: &[u8]) -> Result<(), MultiplexError> {
        if body.len() > MAX_BASE_MESSAGE_SIZE {
            return Err(MultiplexError::BaseTooLarge { code, len: body.len() });
        }
        match code {
            code::HELLO => return Err(MultiplexError::SecondHello),
            code::DISCONNECT => return Err(MultiplexError::Disconnected(self.read_disconnect(body))),
            code::PING => {
                bump(&mut self.stats.pings_received);
                if self.farewell == Farewell::None {
                    self.pongs_due = self.pongs_due.saturating_add(1).min(MAX_PONGS);
                }
            }
            code::PONG => bump(&mut self.stats.pongs_received),
            _ => bump(&mut self.stats.unknown_received),
        }
        Ok(())
    }

    /// Some send it without compression even after Hello: what cannot be decompressed, or only to nothing.
    fn read_disconnect(&self, body: &[u8]) -> DisconnectReason {
        match self.codec.decode(0, body, MAX_BASE_MESSAGE_SIZE).and_then(split) {
            Ok((_, payload)) if !payload.is_empty() => DisconnectReason::decode(&payload),
            _ => DisconnectReason::decode(body),
        }
    }
}

fn bump(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}

#[cfg(test)]
mod tests;
