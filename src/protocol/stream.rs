//! What a handler holds: one peer's messages of one protocol, in and out.

use std::sync::Arc;

use bytes::Bytes;
use kadwire_wire::{
    address::PeerId,
    rlpx::message::{self, MAX_MESSAGE_SIZE},
    transport::{CloseReason, SendError},
};
use rlp::{Encodable, RlpStream};
use tokio::sync::mpsc;

use super::{Protocol, ProtocolError};
use crate::router::{Event, MessageEvent, Peer, WeakTeller, channel::Waiting};

/// A message of a protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Which one, from 0 and below the protocol's length.
    pub code: u64,
    /// Its content, usually an RLP list; at most 2²⁴ − 1 bytes.
    pub payload: Bytes,
}

impl Message {
    /// The payload as RLP: `message.rlp().val_at::<u64>(0)?`. Nothing in it may be believed.
    pub fn rlp(&self) -> rlp::Rlp<'_> {
        rlp::Rlp::new(&self.payload)
    }
}

/// One peer, as a protocol's handler has it.
#[derive(Debug)]
pub struct PeerStream {
    incoming: mpsc::Receiver<Waiting>,
    sender: PeerSender,
}

impl PeerStream {
    pub(super) fn new(incoming: mpsc::Receiver<Waiting>, sender: PeerSender) -> Self {
        PeerStream { incoming, sender }
    }

    /// The next message; `None` when the connection is over and everything was taken. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Message> {
        loop {
            let waiting = self.incoming.recv().await?;
            match message::split(waiting.open().message) {
                Ok((code, payload)) if code < self.sender.protocol.length() => {
                    self.sender.tell(Event::Received, code, payload.len());
                    return Some(Message { code, payload });
                }
                // The wire lets no such message pass; a peer of this process might.
                _ => self.sender.peer.sender.close(CloseReason::requested("no message of the protocol")),
            }
        }
    }

    /// See [`PeerSender::send`].
    pub async fn send(&self, code: u64, payload: impl Into<Bytes>) -> Result<(), ProtocolError> {
        self.sender.send(code, payload).await
    }

    /// See [`PeerSender::send_rlp`].
    pub async fn send_rlp(&self, code: u64, value: &(impl Encodable + Sync)) -> Result<(), ProtocolError> {
        self.sender.send_rlp(code, value).await
    }

    /// See [`PeerSender::send_items`].
    pub async fn send_items(&self, code: u64, items: &[&(dyn Encodable + Sync)]) -> Result<(), ProtocolError> {
        self.sender.send_items(code, items).await
    }

    /// The peer: who it is, what its Hello says, who dialed, and where it is.
    pub fn peer(&self) -> &Arc<Peer> {
        self.sender.peer()
    }

    /// Who the peer is.
    pub fn id(&self) -> PeerId {
        self.sender.id()
    }

    /// The version spoken: the highest that both have.
    pub fn version(&self) -> u64 {
        self.sender.protocol.version()
    }

    /// The sending half, to be cloned and moved into other tasks.
    pub fn sender(&self) -> PeerSender {
        self.sender.clone()
    }
}

/// Sends messages of one protocol to one peer; cheap to clone. Dropping it ends nothing.
#[derive(Debug, Clone)]
pub struct PeerSender {
    peer: Arc<Peer>,
    protocol: Arc<Protocol>,
    /// The protocol's place among those that both have.
    channel: u8,
    /// Who is told of messages, if anybody.
    teller: Option<WeakTeller>,
}

impl PeerSender {
    pub(super) fn new(peer: Arc<Peer>, protocol: Arc<Protocol>, channel: u8, teller: Option<WeakTeller>) -> Self {
        PeerSender { peer, protocol, channel, teller }
    }

    /// Queues a message, waiting for room among this protocol's; `Ok` means queued, not received. Cancel-safe: a message whose future is
    /// dropped was not queued.
    pub async fn send(&self, code: u64, payload: impl Into<Bytes>) -> Result<(), ProtocolError> {
        let length = self.protocol.length();
        if code >= length {
            return Err(ProtocolError::InvalidCode { code, length });
        }
        let payload = payload.into();
        let size = payload.len();
        if size > MAX_MESSAGE_SIZE {
            return Err(ProtocolError::TooLarge { len: size, max: MAX_MESSAGE_SIZE });
        }
        self.peer.sender.send(self.channel, message::join(code, &payload)).await?;
        self.tell(Event::Sent, code, size);
        Ok(())
    }

    /// Queues a message that is one value in RLP (go-ethereum, `p2p.Send`).
    pub async fn send_rlp(&self, code: u64, value: &(impl Encodable + Sync)) -> Result<(), ProtocolError> {
        self.send(code, rlp::encode(value).freeze()).await
    }

    /// Queues a message that is a list of these items (go-ethereum, `p2p.SendItems`).
    pub async fn send_items(&self, code: u64, items: &[&(dyn Encodable + Sync)]) -> Result<(), ProtocolError> {
        let mut list = RlpStream::new_list(items.len());
        for item in items {
            list.append_raw(&item.rlp_bytes(), 1);
        }
        self.send(code, list.out().freeze()).await
    }

    /// The peer.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Who the peer is.
    pub fn id(&self) -> PeerId {
        self.peer.id
    }

    fn tell(&self, kind: fn(MessageEvent) -> Event, code: u64, size: usize) {
        if let Some(teller) = &self.teller {
            let protocol = self.protocol.name.clone();
            teller.tell(kind(MessageEvent { peer: self.peer.clone(), protocol, code, size }));
        }
    }
}

impl From<SendError> for ProtocolError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::TooLarge { len, max } => ProtocolError::TooLarge { len, max },
            SendError::CodeOutOfRange { code, length } => ProtocolError::InvalidCode { code, length: length.into() },
            // Handlers are given protocols that both have, and messages are made here: what is left is the end.
            SendError::Closed | SendError::UnknownChannel(_) | SendError::NotSharedByPeer(_) | SendError::NoCode => {
                ProtocolError::Closed
            }
        }
    }
}
