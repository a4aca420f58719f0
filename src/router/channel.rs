//! What a reactor holds: its [`Channel`], on which messages from all peers come in and messages to any peer go out.
//!
//! A reactor never touches connections. What comes in is bounded in messages and bytes; while a reactor does not take it, only
//! the peers that send to this channel wait. What goes out waits for room at each peer alone, and a peer that takes nothing for
//! [`SLOW_AFTER`] is closed.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use kadwire_wire::{
    address::PeerId,
    stats::ConnectionStats,
    transport::{self, ChannelSpec, CloseReason},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    connected::{Peer, PeerEvent, PeerMap, difference},
    handle::Command,
};
use crate::peers::Report;

/// A send that finds no room for this long ends (CometBFT `defaultSendTimeout`); if nothing at all was written for the second half of it,
/// the peer no longer reads, and is closed.
pub const SLOW_AFTER: Duration = Duration::from_secs(10);

/// Messages that may wait for one reactor.
const QUEUE: usize = 64;

/// Bytes that may wait for one reactor; at least one message of the largest size always fits.
const QUEUE_BYTES: usize = 4 << 20;

/// Waiting bytes are counted in units of this many, as a semaphore's permits are 32 bits.
const UNIT: usize = 1 << 10;

/// A message and who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The peer that sent it, as its handshake proved.
    pub from: PeerId,
    /// The message as it came, at most the channel's `max_message_size` bytes.
    pub message: Bytes,
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// One peer.
    Peer(PeerId),
    /// Every connected peer that has the channel.
    All,
    /// The same, without the one it came from.
    Except(PeerId),
}

/// What happens on a channel, in order: a peer is up before its first message and down after its last.
#[derive(Debug, Clone)]
pub enum ChannelEvent {
    /// A peer with this channel is connected.
    Up(Arc<Peer>),
    /// A peer's message.
    Message(Envelope),
    /// A peer with this channel is gone.
    Down(Arc<Peer>, CloseReason),
}

impl From<PeerEvent> for ChannelEvent {
    fn from(event: PeerEvent) -> Self {
        match event {
            PeerEvent::Up(peer) => ChannelEvent::Up(peer),
            PeerEvent::Down(peer, reason) => ChannelEvent::Down(peer, reason),
        }
    }
}

/// One channel's messages, both ways. Made by [`Setup::channel`](super::Setup::channel) before the node
/// starts, since its id is part of what the node says of itself.
///
/// Use either [`recv`](Self::recv) (messages only) or [`next`](Self::next) (messages, and peers coming and going).
#[derive(Debug)]
pub struct Channel {
    incoming: mpsc::Receiver<Waiting>,
    /// The peers that `next` has told of.
    told: BTreeMap<PeerId, Arc<Peer>>,
    /// What `next` has yet to tell.
    pending: VecDeque<ChannelEvent>,
    sender: ChannelSender,
}

impl Channel {
    /// The next message; `None` when the node has stopped and everything was taken. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Envelope> {
        Some(self.incoming.recv().await?.open())
    }

    /// The next message, or peer that came or went; `None` when the node has stopped and everything was told. Cancel-safe.
    pub async fn next(&mut self) -> Option<ChannelEvent> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            // The order of these two steps is what keeps events in order: whoever is missing from this snapshot put its last
            // message into the queue before, so once the queue is found empty, its messages have all been told.
            let now = self.sender.peers.borrow_and_update().clone();
            match self.incoming.try_recv() {
                Ok(waiting) => self.tell(waiting),
                Err(mpsc::error::TryRecvError::Empty) => {
                    self.catch_up(&now);
                    if self.pending.is_empty() {
                        tokio::select! {
                            biased;
                            Some(waiting) = self.incoming.recv() => self.tell(waiting),
                            Ok(()) = self.sender.peers.changed() => {}
                            else => return None,
                        }
                    }
                }
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    // The router is gone; its last snapshot was published before.
                    let last = self.sender.peers.borrow_and_update().clone();
                    self.catch_up(&last);
                    if self.pending.is_empty() {
                        return None;
                    }
                }
            }
        }
    }

    /// Queues a message; see [`ChannelSender::send`].
    pub async fn send(&self, to: To, message: Bytes) -> Result<usize, SendError> {
        self.sender.send(to, message).await
    }

    /// Queues a message where there is room now; see [`ChannelSender::try_send`].
    pub fn try_send(&self, to: To, message: Bytes) -> Result<usize, SendError> {
        self.sender.try_send(to, message)
    }

    /// Tells the peer manager what a peer did; see [`ChannelSender::report`].
    pub async fn report(&self, peer: PeerId, report: Report) {
        self.sender.report(peer, report).await;
    }

    /// The sending half, to be cloned and moved into other tasks.
    pub fn sender(&self) -> ChannelSender {
        self.sender.clone()
    }

    /// Tells a message, and first of its sender if that was not done: a peer may come, speak and go between two looks. Of two connections
    /// that crossed, the one that was replaced may still have messages; they are told without bringing it back.
    fn tell(&mut self, waiting: Waiting) {
        let peer = &waiting.peer;
        if self.told.get(&peer.id).is_none_or(|told| told.number < peer.number) {
            if let Some(before) = self.told.insert(peer.id, peer.clone()) {
                self.pending.push_back(PeerEvent::down(before).into());
            }
            self.pending.push_back(ChannelEvent::Up(peer.clone()));
        }
        self.pending.push_back(ChannelEvent::Message(waiting.open()));
    }

    fn catch_up(&mut self, now: &PeerMap) {
        let id = self.sender.id;
        let events = difference(&mut self.told, now, |peer| peer.has_channel(id));
        self.pending.extend(events.into_iter().map(ChannelEvent::from));
    }
}

/// The sending half of a [`Channel`]; cheap to clone.
#[derive(Debug, Clone)]
pub struct ChannelSender {
    id: u8,
    max_message_size: usize,
    peers: watch::Receiver<PeerMap>,
    router: mpsc::Sender<Command>,
}

impl ChannelSender {
    /// Queues a message for its receivers and says how many took it. Waits for room at each peer on this channel only, all
    /// at once, for [`SLOW_AFTER`] at most; a peer that does not read is closed then. Peers without this channel are passed over, but are an
    /// error when addressed. `Ok` means queued, not received. Dropping the future may leave some peers without the message.
    pub async fn send(&self, to: To, message: Bytes) -> Result<usize, SendError> {
        let receivers = self.receivers(to, &message)?;
        let deadline = Instant::now() + SLOW_AFTER;
        if let To::Peer(id) = to {
            // One receiver: its failure is the caller's to know.
            let peer = receivers.into_iter().next().ok_or(SendError::NotConnected(id))?;
            return self.send_one(peer, message, deadline).await.map(|()| 1);
        }
        let mut queued = 0;
        let mut waiting = JoinSet::new();
        for peer in receivers {
            match peer.sender.try_send(self.id, message.clone()) {
                Ok(()) => queued += 1,
                Err(transport::TrySendError::Full(message)) => {
                    let this = self.clone();
                    waiting.spawn(async move { this.send_one(peer, message, deadline).await });
                }
                // Gone since the snapshot.
                Err(transport::TrySendError::Refused(_)) => {}
            }
        }
        while let Some(sent) = waiting.join_next().await {
            queued += usize::from(matches!(sent, Ok(Ok(()))));
        }
        Ok(queued)
    }

    /// Queues a message for those receivers that have room now, and says how many took it. With [`To::Peer`], a peer without
    /// room is [`SendError::Full`]; otherwise it is passed over.
    pub fn try_send(&self, to: To, message: Bytes) -> Result<usize, SendError> {
        let mut queued = 0;
        for peer in self.receivers(to, &message)? {
            match (peer.sender.try_send(self.id, message.clone()), to) {
                (Ok(()), _) => queued += 1,
                (Err(transport::TrySendError::Full(_)), To::Peer(id)) => return Err(SendError::Full(id)),
                (Err(transport::TrySendError::Refused(error)), To::Peer(id)) => {
                    return Err(SendError::refused(id, error));
                }
                (Err(_), To::All | To::Except(_)) => {}
            }
        }
        Ok(queued)
    }

    /// Tells the peer manager what a peer did. What follows (a better or worse score, the end of the connection, a ban) is
    /// its decision. A report about a peer that is gone still counts.
    pub async fn report(&self, peer: PeerId, report: Report) {
        // A stopped router needs no reports.
        let _ = self.router.send(Command::Report(peer, report)).await;
    }

    /// The connected peers that have this channel, in the order of their ids.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.borrow().values().filter(|peer| peer.has_channel(self.id)).cloned().collect()
    }

    fn receivers(&self, to: To, message: &Bytes) -> Result<Vec<Arc<Peer>>, SendError> {
        if message.len() > self.max_message_size {
            return Err(SendError::TooLarge { len: message.len(), max: self.max_message_size });
        }
        if self.router.is_closed() {
            return Err(SendError::Stopped);
        }
        Ok(match to {
            To::Peer(id) => {
                let peer = self.peers.borrow().get(&id).cloned().ok_or(SendError::NotConnected(id))?;
                vec![peer]
            }
            To::All => self.peers(),
            To::Except(id) => self.peers().into_iter().filter(|peer| peer.id != id).collect(),
        })
    }

    async fn send_one(&self, peer: Arc<Peer>, message: Bytes, deadline: Instant) -> Result<(), SendError> {
        let mut sending = pin!(peer.sender.send(self.id, message));
        let half = deadline - SLOW_AFTER / 2;
        if let Ok(sent) = timeout_at(half, &mut sending).await {
            return sent.map_err(|error| SendError::refused(peer.id, error));
        }
        let before = said(&peer.stats());
        match timeout_at(deadline, sending).await {
            Ok(sent) => sent.map_err(|error| SendError::refused(peer.id, error)),
            // It reads, but our rate or the channels before this one keep us busy.
            Err(_) if said(&peer.stats()) != before => Err(SendError::Full(peer.id)),
            Err(_) => {
                peer.sender.close(CloseReason::requested("slow peer: it does not read"));
                self.report(peer.id, Report::Bad).await;
                Err(SendError::SlowPeer(peer.id))
            }
        }
    }
}

/// What a connection has sent of messages, in whole ones and in packets; pings and pongs prove nothing.
fn said(stats: &ConnectionStats) -> (u64, u64) {
    let kept_alive = stats.pings_sent.saturating_add(stats.pongs_sent);
    (stats.messages_sent, stats.packets_sent.saturating_sub(kept_alive))
}

/// Why a message was not queued. Never the caller's peer's fault, except [`SendError::SlowPeer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection with this peer, or it has just ended.
    #[error("peer {0} is not connected")]
    NotConnected(PeerId),
    /// The peer does not have this channel.
    #[error("peer {0} does not have the channel")]
    NoSuchChannel(PeerId),
    /// No room at this peer now, or not for [`SLOW_AFTER`], although it reads.
    #[error("the queue to peer {0} is full")]
    Full(PeerId),
    /// No room at this peer for [`SLOW_AFTER`], and it does not read; it is being closed.
    #[error("peer {0} does not read; it is being closed")]
    SlowPeer(PeerId),
    /// Larger than the channel allows.
    #[error("message of {len} bytes, the channel allows {max}")]
    TooLarge {
        /// The message, in bytes.
        len: usize,
        /// The channel's limit, in bytes.
        max: usize,
    },
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

impl SendError {
    fn refused(peer: PeerId, error: transport::SendError) -> Self {
        match error {
            transport::SendError::Closed => SendError::NotConnected(peer),
            // Ethereum's protocols, which have codes, are no channels here.
            transport::SendError::UnknownChannel(_)
            | transport::SendError::NotSharedByPeer(_)
            | transport::SendError::NoCode
            | transport::SendError::CodeOutOfRange { .. } => SendError::NoSuchChannel(peer),
            transport::SendError::TooLarge { len, max } => SendError::TooLarge { len, max },
        }
    }
}

/// A received message on its way to its reactor; gives back its place in the queue's bytes when it is opened.
#[derive(Debug)]
pub(crate) struct Waiting {
    peer: Arc<Peer>,
    message: Bytes,
    _bytes: OwnedSemaphorePermit,
}

impl Waiting {
    pub(crate) fn open(self) -> Envelope {
        Envelope { from: self.peer.id, message: self.message }
    }
}

/// The router's end of a channel: where the peers' messages are put.
#[derive(Debug, Clone)]
pub(crate) struct Inlet {
    queue: mpsc::Sender<Waiting>,
    bytes: Arc<Semaphore>,
    /// All units that there are.
    capacity: u32,
}

impl Inlet {
    /// Hands the message over if the reactor has room now; gives it back if not.
    pub(super) fn try_put(&self, peer: &Arc<Peer>, message: Bytes) -> Result<(), Refused> {
        let taken = self.bytes.clone().try_acquire_many_owned(self.units(message.len()));
        let Ok(bytes) = taken else { return Err(Refused::Full(message)) };
        self.queue.try_send(Waiting { peer: peer.clone(), message, _bytes: bytes }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(waiting) => Refused::Full(waiting.message),
            mpsc::error::TrySendError::Closed(_) => Refused::Gone,
        })
    }

    /// Waits until the reactor has room for the message, or has dropped its channel.
    pub(super) async fn put(&self, peer: &Arc<Peer>, message: Bytes) {
        if let Ok(bytes) = self.bytes.clone().acquire_many_owned(self.units(message.len())).await {
            let _ = self.queue.send(Waiting { peer: peer.clone(), message, _bytes: bytes }).await;
        }
    }

    /// What a message takes of the queue's bytes: at most all of them, so that one larger than the queue waits until it is alone, and not
    /// for ever.
    fn units(&self, len: usize) -> u32 {
        units(len).min(self.capacity)
    }
}

fn units(len: usize) -> u32 {
    u32::try_from(len / UNIT).unwrap_or(u32::MAX).saturating_add(1)
}

/// Why a message was not handed over at once.
#[derive(Debug)]
pub(super) enum Refused {
    /// The reactor has no room now; here is the message.
    Full(Bytes),
    /// The reactor has dropped its channel.
    Gone,
}

/// Both ends of a channel.
pub(super) fn channel(
    spec: &ChannelSpec,
    peers: watch::Receiver<PeerMap>,
    router: mpsc::Sender<Command>,
) -> (Channel, Inlet) {
    let (inlet, incoming) = queue(spec.max_message_size);
    let sender = ChannelSender { id: spec.id, max_message_size: spec.max_message_size, peers, router };
    (Channel { incoming, told: BTreeMap::new(), pending: VecDeque::new(), sender }, inlet)
}

/// A queue for received messages, bounded in number and bytes.
pub(crate) fn queue(max_message_size: usize) -> (Inlet, mpsc::Receiver<Waiting>) {
    let (queue, incoming) = mpsc::channel(QUEUE);
    // One message of the largest size always fits.
    let capacity = units(max_message_size.max(QUEUE_BYTES));
    let bytes = Arc::new(Semaphore::new(usize::try_from(capacity).unwrap_or(Semaphore::MAX_PERMITS)));
    (Inlet { queue, bytes, capacity }, incoming)
}
