//! The router: the one task that owns the [`PeerManager`], and the small tasks around it (ADR-062).
//!
//! The peer manager decides; the router dials, shakes hands, closes, and tells everybody who is connected. It awaits nobody: each
//! dial, handshake and connection is a task of its own, the number of which the peer manager bounds; reactors ask through a
//! bounded queue; discovery is asked only while somebody is wanted. Messages do not pass through it: a connection's
//! session puts them into the queue of their [`Channel`], and a channel's sender into the queues of the connections.
//!
//! ```text
//!   discovery ──candidates──┐   ┌── commands ── Channel::report, PEX, the node
//!   accept loop ─incoming─> router ─── who is connected (a snapshot) ──> Channel::send, PeerEvents
//!                           │ PeerManager
//!                 dial, handshake, close
//!                           └─> session (one per peer) ──messages, bounded──> Channel::recv
//! ```

pub(crate) mod channel;
mod connected;
mod discover;
mod events;
mod filter;
mod handle;
pub(crate) mod listen;
pub(crate) mod session;
mod task;
mod wrapper;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, pin::Pin, sync::Arc};

use kadwire_discovery::Now;
use kadwire_wire::{
    address::PeerId,
    transport::{ChannelSpec, Transport},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tracing::warn;

pub use channel::{Channel, ChannelEvent, ChannelSender, Envelope, SLOW_AFTER, SendError, To};
pub use connected::{Peer, PeerEvent, PeerEvents};
pub use discover::CandidateSource;
pub use events::{BACKLOG as EVENT_BACKLOG, Event, Events, MessageEvent, Missed};
pub use filter::FILTER_TIMEOUT;
pub use handle::{DialFailure, Handle, Stats};
pub use task::DIAL_LIMIT;
pub use wrapper::Wrapper;

pub(crate) use discover::{Demand, Resolver};
pub(crate) use events::{Teller, WeakTeller};

use crate::{candidate::Candidate, peers::PeerManager};

use self::{connected::PeerMap, filter::Filters, handle::Command, session::Serve};

/// Commands that may wait for the router; whoever sends more waits.
const COMMANDS: usize = 256;

/// What the router needs besides its parts.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Where the address book is written every two minutes and at the end.
    pub book_file: Option<PathBuf>,
    /// Where the anchors are written then ([`anchors`](crate::anchors)).
    pub anchors_file: Option<PathBuf>,
}

/// A router that does not run yet: its channels are opened first, because their ids are part of the first handshake.
pub struct Setup {
    connected: watch::Sender<PeerMap>,
    commands: mpsc::Sender<Command>,
    inbox: mpsc::Receiver<Command>,
    specs: Vec<ChannelSpec>,
    inlets: BTreeMap<u8, channel::Inlet>,
    serve: Option<Serve>,
    resolver: Option<Resolver>,
    teller: Teller,
    filters: Filters,
    wanted: watch::Sender<usize>,
    found: mpsc::Sender<Candidate>,
    candidates: mpsc::Receiver<Candidate>,
    helpers: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Default for Setup {
    fn default() -> Self {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (found, candidates) = mpsc::channel(discover::FOUND);
        Self {
            connected: watch::Sender::default(),
            commands,
            inbox,
            specs: Vec::new(),
            inlets: BTreeMap::new(),
            serve: None,
            resolver: None,
            teller: Teller::default(),
            filters: Filters::default(),
            wanted: watch::Sender::new(0),
            found,
            candidates,
            helpers: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("specs", &self.specs).finish_non_exhaustive()
    }
}

impl Setup {
    /// Opens a channel for a reactor. Of two channels with the same id only the last receives; [`Setup::specs`] shows both, and
    /// whoever validates them refuses.
    pub fn channel(&mut self, spec: ChannelSpec) -> Channel {
        let (channel, inlet) = channel::channel(&spec, self.connected.subscribe(), self.commands.clone());
        self.inlets.insert(spec.id, inlet);
        self.specs.push(spec);
        channel
    }

    /// The channels opened so far.
    pub fn specs(&self) -> &[ChannelSpec] {
        &self.specs
    }

    /// A handle that works once the router runs.
    pub fn handle(&self) -> Handle {
        Handle::new(self.commands.clone(), self.connected.subscribe(), self.teller.weak())
    }

    /// Has `serve` deal with each connection's messages, in place of the channels.
    pub(crate) fn serve(&mut self, serve: Serve) {
        self.serve = Some(serve);
    }

    /// Has `resolver` look for peers that the operator named and that are not where they were.
    pub(crate) fn resolve(&mut self, resolver: Resolver) {
        self.resolver = Some(resolver);
    }

    /// Where events are told.
    pub(crate) fn teller(&self) -> Teller {
        self.teller.clone()
    }

    /// How many candidates are wanted, and where to bring them, for a source that serves several routers.
    pub(crate) fn demand(&self) -> Demand {
        Demand::new(self.wanted.subscribe(), self.found.clone())
    }

    /// Adds somebody who finds candidates; asked only while the peer manager wants some.
    pub fn discover(&mut self, source: impl CandidateSource) {
        self.helpers.push(Box::pin(discover::run(source, self.wanted.subscribe(), self.found.clone())));
    }

    /// Asks `filter` about the IP of every stream that others open, before its handshake; `Err` says why it is refused. It has
    /// [`FILTER_TIMEOUT`]; refusals are counted as [`WhyNot::Filtered`](crate::peers::WhyNot), missing answers as `FilterTimeout`.
    pub fn filter_by_ip<A>(&mut self, filter: impl Fn(IpAddr) -> A + Send + Sync + 'static)
    where
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.filters.add_by_ip(filter);
    }

    /// The same with the id of every peer that has proven it, whoever dialed. A dialed peer that is refused is not dialed again soon.
    pub fn filter_by_id<A>(&mut self, filter: impl Fn(PeerId) -> A + Send + Sync + 'static)
    where
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.filters.add_by_id(filter);
    }

    /// Starts the router on `transport`, which must have been made with [`Setup::specs`].
    pub fn start<T: Transport>(self, config: Config, transport: T, peers: PeerManager) -> Running {
        let handle = self.handle();
        let transport = Arc::new(transport);
        let (stop, stopped) = oneshot::channel();
        let (accepted, incoming) = mpsc::channel(listen::BACKLOG);
        let mut helpers = JoinSet::new();
        helpers.spawn(listen::run(transport.clone(), accepted));
        self.helpers.into_iter().for_each(|helper| drop(helpers.spawn(helper)));
        let sources = task::Sources { commands: self.inbox, incoming, candidates: self.candidates, stopped };
        let serve = self.serve.unwrap_or_else(|| session::channels(self.inlets));
        let outlets = task::Outlets { connected: self.connected, teller: self.teller, wanted: self.wanted };
        let router = task::Router::new(config, transport, peers, serve, self.filters, self.resolver, outlets);
        let task = tokio::spawn(router.run(sources, helpers));
        Running { handle, stop, task }
    }
}

/// A running router. Dropping it stops it too, but without waiting.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// The handle for everything but stopping.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Stops accepting and dialing, tells the peers, ends every task, writes the address book, and returns when all is done.
    pub async fn stop(self) {
        // The router may have ended by itself.
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            warn!(%error, "the router did not end well");
        }
    }
}

/// Both clocks. The monotonic one is tokio's, so that a test may pause it.
#[expect(clippy::disallowed_methods, reason = "driver: the router has the clocks")]
pub(crate) fn now() -> Now {
    Now { monotonic: Instant::now().into_std(), wall: std::time::SystemTime::now() }
}

#[cfg(test)]
mod tests;
