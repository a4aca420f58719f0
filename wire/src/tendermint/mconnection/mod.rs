//! MConnection: messages of several channels over one encrypted stream (CometBFT `p2p/conn/connection.go`), as a machine.
//!
//! Puts in: [`handle_bytes`](MConnection::handle_bytes) (plaintext of the stream, cut anywhere) and
//! [`handle_timeout`](MConnection::handle_timeout). Command: [`send`](MConnection::send). Takes out:
//! [`poll_transmit`](MConnection::poll_transmit), [`poll_message`](MConnection::poll_message),
//! [`poll_sent`](MConnection::poll_sent), [`poll_timeout`](MConnection::poll_timeout).
//!
//! Messages are cut into packets; packets of different channels interleave as [`QueueKind`] says. Nothing is held back to fill a
//! write: what is queued goes out at the next `poll_transmit`, so CometBFT's flush throttle is only an upper bound here.
//!
//! Different from CometBFT, with the same bytes on the wire: a write has as many packets as budget and rate allow, not ten; a rate is a
//! token bucket of a tenth of a second, not samples of that length; a full packet of a channel from 0x80 has a byte less, as
//! CometBFT's readers leave no room for the longer id.

mod channel;
mod config;
mod error;
mod packet;
mod priority;
mod queue;
mod rate;

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

pub use config::{ConfigError, MConnectionConfig};
pub use error::MConnectionError;
pub use packet::Plaintext;
pub use queue::{QueueKind, UnknownQueueKind};

use self::{
    channel::Channel,
    packet::{PING, PONG, Packet, full_packet_size, max_packet_size},
    queue::Queue,
    rate::Rate,
};
use crate::{
    Blame,
    stats::ConnectionStats,
    tendermint::{DelimitedError, protobuf::read_varint, split_delimited},
};

/// The queue of complete messages, once empty, keeps room for this many; more is given back.
const KEPT_CAPACITY: usize = 16;

/// One side of a connection, from the end of the NodeInfo exchange to the end of the stream.
#[derive(Debug)]
pub struct MConnection {
    config: MConnectionConfig,
    channels: Vec<Channel>,
    queue: Queue,
    send_rate: Rate,
    recv_rate: Rate,
    next_ping: Instant,
    /// When the pong to the last ping is late.
    pong_deadline: Option<Instant>,
    /// To be written before anything else. Several pings at once get one pong.
    ping_due: bool,
    pong_due: bool,
    /// The beginning of a packet whose rest has not arrived.
    partial: Vec<u8>,
    messages: VecDeque<(u8, Bytes)>,
    failed: Option<MConnectionError>,
    stats: ConnectionStats,
}

impl MConnection {
    /// A connection whose first ping is due one interval from `now`.
    pub fn new(config: MConnectionConfig, channels: &[ChannelSpec], now: Instant) -> Result<Self, ConfigError> {
        config.validate(channels)?;
        Ok(MConnection {
            channels: channels.iter().copied().map(Channel::new).collect(),
            queue: Queue::new(config.queue, now),
            send_rate: Rate::new(config.send_rate, now),
            recv_rate: Rate::new(config.recv_rate, now),
            next_ping: now.checked_add(config.ping_interval).unwrap_or(now),
            pong_deadline: None,
            ping_due: false,
            pong_due: false,
            partial: Vec::new(),
            messages: VecDeque::new(),
            failed: None,
            stats: ConnectionStats::default(),
            config,
        })
    }

    /// Queues a message.
    pub fn send(&mut self, channel: u8, message: Bytes) -> Result<(), QueueError> {
        let known = self.channels.iter_mut().find(|known| known.spec.id == channel);
        let known = known.ok_or(QueueError::UnknownChannel(channel))?;
        if message.len() > known.spec.max_message_size {
            return Err(QueueError::TooLarge { len: message.len(), max: known.spec.max_message_size });
        }
        if known.pending() >= known.spec.send_queue {
            return Err(QueueError::Full(message));
        }
        known.queue(self.queue.number(), message);
        Ok(())
    }

    /// Whether a message could be queued now.
    pub fn can_send(&self, channel: u8) -> bool {
        self.channels.iter().any(|known| known.spec.id == channel && known.pending() < known.spec.send_queue)
    }

    /// Whether anything waits to be written.
    pub fn is_sending(&self) -> bool {
        self.ping_due || self.pong_due || self.channels.iter().any(|channel| channel.pending() > 0)
    }

    /// Writes packets until about `budget` bytes are written (the last packet may exceed it), the send rate is used up, or
    /// nothing is left. Returns the bytes written.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut impl Plaintext, budget: usize) -> usize {
        let mut written = 0usize;
        if std::mem::take(&mut self.pong_due) {
            out.put(&PONG);
            written = written.saturating_add(PONG.len());
            bump(&mut self.stats.pongs_sent, 1);
            bump(&mut self.stats.packets_sent, 1);
        }
        if std::mem::take(&mut self.ping_due) {
            out.put(&PING);
            written = written.saturating_add(PING.len());
            bump(&mut self.stats.pings_sent, 1);
            bump(&mut self.stats.packets_sent, 1);
        }
        self.send_rate.spend(written);
        self.queue.handle_time(now, &mut self.channels);
        let full = full_packet_size(self.config.max_packet_payload);
        while written < budget && self.send_rate.is_available(now) {
            let Some(channel) = self.queue.choose(&mut self.channels, full) else { break };
            let (bytes, eof) = channel.put_packet(out, self.config.max_packet_payload);
            self.send_rate.spend(bytes);
            written = written.saturating_add(bytes);
            bump(&mut self.stats.packets_sent, 1);
            bump(&mut self.stats.messages_sent, u64::from(eof));
        }
        bump(&mut self.stats.bytes_sent, written as u64);
        written
    }

    /// A channel, and how many of its messages were wholly written since it was last named.
    pub fn poll_sent(&mut self) -> Option<(u8, usize)> {
        let channel = self.channels.iter_mut().find(|channel| channel.sent > 0)?;
        Some((channel.spec.id, std::mem::take(&mut channel.sent)))
    }

    /// Takes plaintext of the stream, cut anywhere. After an error, every call gives that error; messages that were complete
    /// before it can still be polled.
    pub fn handle_bytes(&mut self, now: Instant, plaintext: &[u8]) -> Result<(), MConnectionError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        bump(&mut self.stats.bytes_received, plaintext.len() as u64);
        // Brings the credit up to date before it is spent.
        self.recv_rate.is_available(now);
        self.recv_rate.spend(plaintext.len());
        let result = self.read_packets(plaintext);
        self.failed = result.err();
        result
    }

    /// Whether more may be read from the stream now under the receive rate. If not, [`poll_timeout`](Self::poll_timeout)
    /// says when.
    pub fn may_receive(&mut self, now: Instant) -> bool {
        self.recv_rate.is_available(now)
    }

    /// The next whole message and its channel, in the order in which they were completed.
    pub fn poll_message(&mut self) -> Option<(u8, Bytes)> {
        let message = self.messages.pop_front();
        if message.is_none() && self.messages.capacity() > KEPT_CAPACITY {
            self.messages = VecDeque::new();
        }
        message
    }

    /// Whether [`handle_timeout`](Self::handle_timeout) would now end the connection for a late pong. Whoever was late himself
    /// reads what the stream holds first.
    pub fn is_pong_late(&self, now: Instant) -> bool {
        self.pong_deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Sends a ping if one is due, notices a late pong, and lets the rates recover: whether or not anything is then written or
    /// read, the next [`poll_timeout`](Self::poll_timeout) lies after `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), MConnectionError> {
        if self.is_pong_late(now) {
            self.failed = Some(MConnectionError::PongTimeout);
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.next_ping <= now {
            self.ping_due = true;
            // Also when the ping cannot be written: a peer that reads nothing is as dead as one that says nothing.
            self.pong_deadline = now.checked_add(self.config.pong_timeout);
            self.next_ping = now.checked_add(self.config.ping_interval).unwrap_or(now);
        }
        self.send_rate.is_available(now);
        self.recv_rate.is_available(now);
        Ok(())
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, or a rate allows more. Never `None` while it lives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sending = self.channels.iter().any(|channel| channel.pending() > 0);
        let send = self.send_rate.available_at().filter(|_| sending);
        [Some(self.next_ping), self.pong_deadline, send, self.recv_rate.available_at()].into_iter().flatten().min()
    }

    /// What was carried so far.
    pub fn stats(&self) -> ConnectionStats {
        self.stats
    }

    fn read_packets(&mut self, mut input: &[u8]) -> Result<(), MConnectionError> {
        let max = max_packet_size(self.config.max_packet_payload);
        // First complete the packet that was begun.
        while !self.partial.is_empty() {
            let Some((&next, rest)) = input.split_first() else { return Ok(()) };
            let missing = missing_bytes(&self.partial);
            match input.split_at_checked(missing) {
                // The prefix is not whole, so that one byte more is all that is known to belong to it.
                _ if missing == 0 => {
                    self.partial.push(next);
                    input = rest;
                }
                Some((last, rest)) => {
                    self.partial.extend_from_slice(last);
                    input = rest;
                }
                None => {
                    self.partial.extend_from_slice(input);
                    input = &[];
                }
            }
            let partial = std::mem::take(&mut self.partial);
            match split(&partial, max)? {
                Some((packet, _)) => self.handle_packet(packet)?,
                None => self.partial = partial,
            }
        }
        while let Some((packet, len)) = split(input, max)? {
            self.handle_packet(packet)?;
            input = input.get(len..).unwrap_or_default();
        }
        self.partial.extend_from_slice(input);
        Ok(())
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), MConnectionError> {
        bump(&mut self.stats.packets_received, 1);
        match packet::decode(packet)? {
            Packet::Ping => {
                bump(&mut self.stats.pings_received, 1);
                self.pong_due = true;
            }
            Packet::Pong => {
                bump(&mut self.stats.pongs_received, 1);
                self.pong_deadline = None;
            }
            Packet::Message { channel, eof, data } => {
                let known = self.channels.iter_mut().find(|known| i32::from(known.spec.id) == channel);
                let known = known.ok_or(MConnectionError::UnknownChannel(channel))?;
                if let Some(message) = known.receive(eof, data)? {
                    bump(&mut self.stats.messages_received, 1);
                    self.messages.push_back((known.spec.id, message));
                }
            }
        }
        Ok(())
    }
}

fn split(bytes: &[u8], max: usize) -> Result<Option<(&[u8], usize)>, MConnectionError> {
    split_delimited(bytes, max).map_err(|error| match error {
        DelimitedError::BadLength => MConnectionError::Undecodable("bad length"),
        DelimitedError::TooLarge(len) => MConnectionError::PacketTooLarge { len, max },
    })
}

/// What is missing of the packet that `partial` begins; 0 if its length is not known yet. One that is too long was refused when it was.
fn missing_bytes(partial: &[u8]) -> usize {
    match read_varint(partial) {
        Ok(Some((len, prefix))) => {
            usize::try_from(len).unwrap_or(usize::MAX).saturating_add(prefix).saturating_sub(partial.len())
        }
        _ => 0,
    }
}

fn bump(counter: &mut u64, by: u64) {
    *counter = counter.saturating_add(by);
}

/// Why a message was not queued. Always this side's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The channel was not declared.
    #[error("channel {0:#04x} was not declared")]
    UnknownChannel(u8),
    /// The channel's queue is full; here is the message.
    #[error("the channel's queue is full")]
    Full(Bytes),
    /// The message is larger than the channel allows.
    #[error("message of {len} bytes, the channel allows {max}")]
    TooLarge {
        /// The message, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
}

impl QueueError {
    /// Never the peer's.
    pub fn blame(&self) -> Blame {
        Blame::Local
    }
}

/// One channel of a connection, as its user declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelSpec {
    /// The id on the wire; both sides must list it in their NodeInfo.
    pub id: u8,
    /// Its share when channels compete, at least 1: the one with the least recently sent bytes per priority goes first, unless
    /// another [`QueueKind`] is chosen.
    pub priority: u8,
    /// Messages that may wait to be sent, at least 1; more senders wait. One of more than 1 MiB counts once for each MiB that it begins, but
    /// not more than all.
    pub send_queue: usize,
    /// The largest message, sent or received, in bytes.
    pub max_message_size: usize,
}

impl ChannelSpec {
    /// Messages that may wait by default. CometBFT's library default is 1; its reactors ask for 10–100.
    pub const DEFAULT_SEND_QUEUE: usize = 64;

    /// CometBFT's default limit (`defaultRecvMessageCapacity`), 21 MiB.
    pub const DEFAULT_MAX_MESSAGE_SIZE: usize = 22_020_096;

    /// A channel with default priority 1, queue and message size.
    pub fn new(id: u8) -> Self {
        ChannelSpec {
            id,
            priority: 1,
            send_queue: Self::DEFAULT_SEND_QUEUE,
            max_message_size: Self::DEFAULT_MAX_MESSAGE_SIZE,
        }
    }
}

#[cfg(test)]
mod tests;
