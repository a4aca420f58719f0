//! How everybody else reaches the router: a [`Handle`] with a bounded queue of [`Command`]s, and the snapshot of who is connected.

use std::sync::Arc;

use kadwire_wire::{
    address::{PeerAddress, PeerId},
    stats::TransportStats,
    transport::DialError,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    connected::{Peer, PeerEvents, PeerMap},
    events::{Events, WeakTeller},
};
use crate::{
    candidate::Candidate,
    peers::{self, Report, Role},
};

/// Asks the router; cheap to clone. After the router has stopped, commands do nothing and questions have empty answers.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    connected: watch::Receiver<PeerMap>,
    events: WeakTeller,
}

impl Handle {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        connected: watch::Receiver<PeerMap>,
        events: WeakTeller,
    ) -> Self {
        Self { commands, connected, events }
    }

    /// The connected peers, in the order of their ids.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.connected.borrow().values().cloned().collect()
    }

    /// Peers coming and going, from those already connected.
    pub fn peer_events(&self) -> PeerEvents {
        PeerEvents::new(self.connected.clone())
    }

    /// Every single thing that happens from now on, messages included if the node was told to tell of them.
    pub fn events(&self) -> Events {
        self.events.subscribe()
    }

    /// Hands over what somebody claims. Whether it is taken up is the peer manager's decision.
    pub async fn add(&self, candidate: Candidate) {
        self.tell(Command::Add(candidate)).await;
    }

    /// Hands over a peer's answer to a request for addresses.
    pub async fn add_answer(&self, from: PeerId, addresses: Vec<PeerAddress>) {
        self.tell(Command::AddAnswer(from, addresses)).await;
    }

    /// Addresses for a peer that asks for some.
    pub async fn advertise(&self, to: PeerId) -> Vec<PeerAddress> {
        self.ask(|reply| Command::Advertise(to, reply)).await.unwrap_or_default()
    }

    /// Whether the book has room for more addresses (CometBFT `NeedMoreAddrs`).
    pub async fn wants_addresses(&self) -> bool {
        self.ask(Command::WantsAddresses).await.unwrap_or_default()
    }

    /// Dials an address now; says why not, if so. `None` when the router has stopped.
    pub async fn dial(&self, address: PeerAddress) -> Option<Result<(), peers::WhyNot>> {
        self.ask(|reply| Command::Dial(address, reply)).await
    }

    /// No longer keeps a persistent peer: if it is connected it takes a place from now on, or leaves if there is none. (One is added by
    /// [`Handle::add`] with [`Source::Config`](crate::candidate::Source::Config).)
    pub async fn remove_persistent(&self, peer: PeerId) {
        self.tell(Command::RemovePersistent(peer)).await;
    }

    /// Lets a peer in whatever the limits, from now on.
    pub async fn add_trusted(&self, peer: PeerId) {
        self.tell(Command::AddTrusted(peer)).await;
    }

    /// No longer does.
    pub async fn remove_trusted(&self, peer: PeerId) {
        self.tell(Command::RemoveTrusted(peer)).await;
    }

    /// What each of these peers is to the operator; `None` when the router has stopped.
    pub async fn roles(&self, peers: Vec<PeerId>) -> Option<Vec<Role>> {
        self.ask(|reply| Command::Roles(peers, reply)).await
    }

    /// Ends the connection with a peer, if there is one.
    pub async fn disconnect(&self, peer: PeerId) {
        self.tell(Command::Disconnect(peer)).await;
    }

    /// Tells the peer manager what a peer did.
    pub async fn report(&self, peer: PeerId, report: Report) {
        self.tell(Command::Report(peer, report)).await;
    }

    /// The counters; `None` when the router has stopped.
    pub async fn stats(&self) -> Option<Stats> {
        self.ask(Command::Stats).await
    }

    async fn tell(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }

    async fn ask<A>(&self, command: impl FnOnce(oneshot::Sender<A>) -> Command) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// What reactors and the node ask of the router.
#[derive(Debug)]
pub(crate) enum Command {
    /// A reactor's opinion of a peer.
    Report(PeerId, Report),
    /// Somebody claims that a peer is at an address.
    Add(Candidate),
    /// A peer's answer to our request for addresses.
    AddAnswer(PeerId, Vec<PeerAddress>),
    /// A selection of the book for this peer.
    Advertise(PeerId, oneshot::Sender<Vec<PeerAddress>>),
    /// Whether the book wants more addresses.
    WantsAddresses(oneshot::Sender<bool>),
    /// Dial this address now.
    Dial(PeerAddress, oneshot::Sender<Result<(), peers::WhyNot>>),
    /// Keep this peer no longer.
    RemovePersistent(PeerId),
    /// Let this peer in whatever the limits.
    AddTrusted(PeerId),
    /// Let it in like any other.
    RemoveTrusted(PeerId),
    /// What these peers are to the operator.
    Roles(Vec<PeerId>, oneshot::Sender<Vec<Role>>),
    /// End the connection with this peer.
    Disconnect(PeerId),
    /// The counters.
    Stats(oneshot::Sender<Stats>),
}

/// Counters of the router and what it owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The peer policy's.
    pub peers: peers::Stats,
    /// Why there are as few peers as there are.
    pub dials: peers::DialStats,
    /// The transport's.
    pub transport: TransportStats,
    /// Addresses that peers gave for themselves, or that were tried as feelers, at which we found them.
    pub probes_proven: u64,
    /// Those at which we did not.
    pub probes_failed: u64,
    /// The latest dial that failed, for an operator who wonders why nobody is connected.
    pub last_dial_failure: Option<DialFailure>,
}

/// A dial that failed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialFailure {
    /// Whom we dialed.
    pub address: PeerAddress,
    /// Why there is no connection.
    pub error: DialError,
}
