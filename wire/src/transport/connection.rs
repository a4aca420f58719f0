//! A live connection, as its users hold it.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    CloseReason, Endpoint,
    link::{Link, State},
};
use crate::{
    Blame, PeerId,
    rlpx::{hello::Hello, multiplex::RefusedMessage},
    stats::ConnectionStats,
    tendermint::node_info::NodeInfo,
};

/// Who opened the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The peer dialed us.
    Inbound,
    /// We dialed the peer.
    Outbound,
}

/// What a peer says of itself, as its wire has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerInfo {
    /// Of a Tendermint peer.
    Tendermint(NodeInfo),
    /// Of an Ethereum peer.
    Ethereum(Hello),
}

impl PeerInfo {
    /// Who says so.
    pub fn id(&self) -> PeerId {
        match self {
            PeerInfo::Tendermint(node_info) => PeerId::Tendermint(node_info.id),
            PeerInfo::Ethereum(hello) => PeerId::Ethereum(hello.id),
        }
    }

    /// What it calls itself: a moniker, or a client with its version.
    pub fn name(&self) -> &str {
        match self {
            PeerInfo::Tendermint(node_info) => &node_info.moniker,
            PeerInfo::Ethereum(hello) => &hello.client,
        }
    }

    /// The TCP port that it says it listens on, if it says one. Ethereum peers of today do not.
    pub fn listen_port(&self) -> Option<u16> {
        match self {
            PeerInfo::Tendermint(node_info) => node_info.listen_addr.rsplit_once(':')?.1.parse().ok(),
            // Legacy: 0, as a rule.
            PeerInfo::Ethereum(hello) => u16::try_from(hello.listen_port).ok().filter(|port| *port != 0),
        }
    }

    /// The NodeInfo, if it is a Tendermint peer.
    pub fn tendermint(&self) -> Option<&NodeInfo> {
        match self {
            PeerInfo::Tendermint(node_info) => Some(node_info),
            PeerInfo::Ethereum(_) => None,
        }
    }

    /// The Hello, if it is an Ethereum peer.
    pub fn ethereum(&self) -> Option<&Hello> {
        match self {
            PeerInfo::Ethereum(hello) => Some(hello),
            PeerInfo::Tendermint(_) => None,
        }
    }
}

/// A peer whose identity is proven and who fits us. Take it apart as needed; it lives as long as its [`Receiver`], or until
/// someone closes it.
#[derive(Debug)]
pub struct Connection {
    /// The identity that the handshake proved.
    pub peer: PeerId,
    /// What the peer says of itself; its id is `peer`.
    pub info: PeerInfo,
    /// The other end of the stream. For an inbound socket, the port is not one that can be dialed.
    pub remote: Endpoint,
    /// Who opened it.
    pub direction: Direction,
    /// The sending half; cheap to clone.
    pub sender: Sender,
    /// The receiving half.
    pub receiver: Receiver,
}

impl Connection {
    pub(super) fn new(info: PeerInfo, remote: Endpoint, direction: Direction, link: Arc<Link>) -> Self {
        Connection {
            peer: info.id(),
            info,
            remote,
            direction,
            sender: Sender { link: link.clone() },
            receiver: Receiver { link },
        }
    }

    /// See [`Sender::send`].
    pub async fn send(&self, channel: u8, message: Bytes) -> Result<(), SendError> {
        self.sender.send(channel, message).await
    }

    /// See [`Receiver::recv`].
    pub async fn recv(&mut self) -> Option<(u8, Bytes)> {
        self.receiver.recv().await
    }

    /// See [`Sender::closed`].
    pub async fn closed(&self) -> CloseReason {
        self.sender.closed().await
    }

    /// See [`Sender::close`].
    pub fn close(&self, reason: CloseReason) {
        self.sender.close(reason);
    }

    /// See [`Sender::flush_and_close`].
    pub async fn flush_and_close(&self, reason: CloseReason) -> CloseReason {
        self.sender.flush_and_close(reason).await
    }

    /// See [`Sender::stats`].
    pub fn stats(&self) -> ConnectionStats {
        self.sender.stats()
    }
}

/// Sends messages to one peer, and ends the connection. Dropping senders does not end it.
#[derive(Clone, Debug)]
pub struct Sender {
    link: Arc<Link>,
}

impl Sender {
    /// Queues a message, waiting for room on its channel only. `Ok` means queued, not received. Cancel-safe: a message whose
    /// future is dropped was not queued. Whether one of more than 14 MB fits into a frame of RLPx is found out by compressing it (some
    /// milliseconds).
    pub async fn send(&self, channel: u8, message: Bytes) -> Result<(), SendError> {
        let (places, taken) = self.link.admit(channel, &message)?;
        places.acquire_many(taken).await.map_err(|_| SendError::Closed)?.forget();
        self.link.push(channel, message, taken);
        Ok(())
    }

    /// Queues a message if its channel has room now; gives it back in [`TrySendError::Full`] if not.
    pub fn try_send(&self, channel: u8, message: Bytes) -> Result<(), TrySendError> {
        let (places, taken) = self.link.admit(channel, &message)?;
        match places.try_acquire_many(taken) {
            Ok(place) => place.forget(),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(SendError::Closed.into()),
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(TrySendError::Full(message)),
        }
        self.link.push(channel, message, taken);
        Ok(())
    }

    /// Whether [`try_send`](Self::try_send) would find room now for a message of up to 1 MiB.
    pub fn can_send(&self, channel: u8) -> bool {
        let found = self.link.channel(channel);
        found.is_some_and(|(_, shared, places)| shared && !places.is_closed() && places.available_permits() > 0)
    }

    /// Messages of a channel that wait to be written, the one that was begun included (CometBFT `SendQueueSize`).
    pub fn queued(&self, channel: u8) -> usize {
        self.link.queued(channel)
    }

    /// Whether both sides have the channel.
    pub fn has_channel(&self, channel: u8) -> bool {
        self.link.channel(channel).is_some_and(|(_, shared, _)| shared)
    }

    /// Ends the connection now; what waits to be sent is lost. The first reason given stays.
    pub fn close(&self, reason: CloseReason) {
        self.link.close(reason);
    }

    /// Takes no more messages, writes those that wait, and ends the connection. Waits for the end, whose reason it returns.
    pub async fn flush_and_close(&self, reason: CloseReason) -> CloseReason {
        self.link.flush(reason);
        self.link.closed().await
    }

    /// Waits until the connection is over, and says why.
    pub async fn closed(&self) -> CloseReason {
        self.link.closed().await
    }

    /// Why the connection is over, if it is.
    pub fn close_reason(&self) -> Option<CloseReason> {
        match self.link.state() {
            State::Closed(reason) => Some(reason),
            State::Open | State::Flushing(_) => None,
        }
    }

    /// What the connection has carried.
    pub fn stats(&self) -> ConnectionStats {
        self.link.stats()
    }
}

/// Receives messages from one peer. Dropping it ends the connection (unless it is being flushed).
#[derive(Debug)]
pub struct Receiver {
    link: Arc<Link>,
}

impl Receiver {
    /// The next whole message and its channel; `None` when the connection is over and all that came before was taken.
    /// Cancel-safe. While messages of 1 MiB wait, the peer is not read from: see [`CloseReason::ReceiverStalled`].
    pub async fn recv(&mut self) -> Option<(u8, Bytes)> {
        self.recv_where(|_| true).await
    }

    /// The same for the channels that are `wanted`; messages of the others wait. `None` when the connection is over and no message
    /// of these channels is left.
    pub async fn recv_where(&mut self, wanted: impl Fn(u8) -> bool) -> Option<(u8, Bytes)> {
        self.link.pop(wanted).await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.link.abandon();
        if !self.link.is_ending() {
            self.link.close(CloseReason::Dropped);
        }
    }
}

/// Why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection is over or closing.
    #[error("connection is closed")]
    Closed,
    /// This side did not declare the channel.
    #[error("channel {0:#04x} was not declared")]
    UnknownChannel(u8),
    /// The peer does not list the channel; it would end the connection.
    #[error("the peer does not have channel {0:#04x}")]
    NotSharedByPeer(u8),
    /// On RLPx: the message does not begin with a code.
    #[error("the message has no code in front")]
    NoCode,
    /// On RLPx: the protocol has fewer messages; the peer would end the connection.
    #[error("message code {code}, the protocol has {length}")]
    CodeOutOfRange {
        /// The protocol's own code.
        code: u64,
        /// How many it has.
        length: u16,
    },
    /// Larger than the channel allows; on RLPx, also if what compression makes of it is larger than a frame.
    #[error("message of {len} bytes, the channel allows {max}")]
    TooLarge {
        /// The message, or the frame data made of it, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
}

impl From<RefusedMessage> for SendError {
    fn from(error: RefusedMessage) -> Self {
        match error {
            RefusedMessage::NoCode => SendError::NoCode,
            RefusedMessage::CodeOutOfRange { code, length } => SendError::CodeOutOfRange { code, length },
            RefusedMessage::TooLarge { len, max } => SendError::TooLarge { len, max },
        }
    }
}

impl SendError {
    /// Never the peer's.
    pub fn blame(&self) -> Blame {
        Blame::Local
    }
}

/// Why a message cannot be sent now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError {
    /// No room on the channel; here is the message.
    #[error("the channel's queue is full")]
    Full(Bytes),
    /// It cannot be sent at all.
    #[error(transparent)]
    Refused(#[from] SendError),
}
