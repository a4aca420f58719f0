//! What happens between us and our peers, one event at a time, for those who want every one: peers added and dropped and, if it was
//! asked for, each message (go-ethereum `p2p/peer.go`, `PeerEvent`).
//!
//! Unlike [`PeerEvents`](super::PeerEvents), which tells a late reader what still matters, this misses nothing until a reader is
//! [`BACKLOG`] events behind; then it is told how many it missed. No reader holds anybody up.

use std::sync::Arc;

use kadwire_wire::transport::CloseReason;
use tokio::sync::broadcast;

use super::connected::Peer;

/// Events that wait for a reader; the oldest are dropped for new ones.
pub const BACKLOG: usize = 1 << 12;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A peer is connected.
    Added(Arc<Peer>),
    /// It is not any more, and why.
    Dropped(Arc<Peer>, CloseReason),
    /// A message was queued for a peer.
    Sent(MessageEvent),
    /// A message of a peer was taken by its protocol's handler.
    Received(MessageEvent),
}

/// A message that went to a peer or came from one.
#[derive(Debug, Clone)]
pub struct MessageEvent {
    /// The peer.
    pub peer: Arc<Peer>,
    /// The protocol's name.
    pub protocol: Arc<str>,
    /// The message's code, counted from the protocol's first.
    pub code: u64,
    /// Bytes of its payload, before compression.
    pub size: usize,
}

/// A reader was too slow: so many events, the oldest ones, it will never be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} events missed")]
pub struct Missed(pub u64);

/// All that happens from now on.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    /// The next event, or how many were missed; `None` when the router has stopped and everything was told. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Event, Missed>> {
        match self.0.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(Missed(missed))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Where events are told.
#[derive(Debug, Clone)]
pub(crate) struct Teller(broadcast::Sender<Event>);

impl Default for Teller {
    fn default() -> Self {
        Teller(broadcast::Sender::new(BACKLOG))
    }
}

impl Teller {
    pub(crate) fn tell(&self, event: Event) {
        // Nobody need listen.
        let _ = self.0.send(event);
    }

    pub(crate) fn weak(&self) -> WeakTeller {
        WeakTeller(self.0.downgrade())
    }
}

/// The same for those who outlive the router: events end without them.
#[derive(Debug, Clone)]
pub(crate) struct WeakTeller(broadcast::WeakSender<Event>);

impl WeakTeller {
    pub(crate) fn tell(&self, event: Event) {
        if let Some(teller) = self.0.upgrade() {
            let _ = teller.send(event);
        }
    }

    /// What happens from now on; ended already if the router is gone.
    pub(super) fn subscribe(&self) -> Events {
        match self.0.upgrade() {
            Some(teller) => Events(teller.subscribe()),
            None => Events(broadcast::Sender::new(1).subscribe()),
        }
    }
}
