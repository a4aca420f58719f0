//! The discovery service: a UDP socket, the discv4 machine, and a handle for everybody who wants something of them.
//!
//! ```text
//!            recv        parse, admit      recover          handle_packet
//!  socket ─────────> driver ──────────> workers ──────> driver ─────────────> machine
//!    ^  ^               └─ request ──────┐  ^ └─ reply ──┐  └── transmit ──┐
//!    │  └────────────────────────────────┘  └────────────┼─────────────────┘
//!    └───────────────────────────────────────────────────┘       seal
//! ```
//!
//! One task, the driver, owns the machine and the clock; signatures are recovered and made on all cores by the workers. The
//! handle [`Discovery`] sends commands over a bounded queue and is cheap to clone. The service ends when it is closed or when
//! its last handle is gone.

mod config;
mod driver;
mod inlet;
mod local_record;
mod outlet;
mod pong_queue;
mod random_walk;
mod scopes;
mod signed_answers;
mod signers;
mod socket;
mod stats;
mod store;
#[cfg(test)]
mod tests;
mod workers;

use std::{io, net::SocketAddr, time::Duration};

use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub use config::Config;
pub use random_walk::RandomWalk;
pub use stats::{DiscoveryStats, MalformedStats, UdpStats};

use self::driver::{Command, Driver, Question};
use crate::{
    Blame, Enr, EnrError, NodeId, NodeRecord, RecordError, TendermintEntry,
    discv4::{Answer, ExternalEndpoint, RequestError},
    node_db::NodeDbError,
};

/// Commands waiting for the driver; who sends more waits.
const MAX_COMMANDS: usize = 256;

/// Events that a listener may lag behind before it misses some.
const MAX_EVENTS: usize = 1024;

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The UDP socket.
    #[error("cannot listen on UDP {address}: {source}")]
    Socket {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The node database.
    #[error(transparent)]
    NodeDb(#[from] NodeDbError),
    /// The threads for signatures.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Our own record cannot be signed.
    #[error("own record: {0}")]
    Record(#[from] EnrError),
    /// Our own record would name no usable endpoint.
    #[error("own record: {0}")]
    Endpoint(#[from] RecordError),
}

impl BindError {
    /// Always [`Blame::Local`].
    pub fn blame(&self) -> Blame {
        Blame::Local
    }
}

/// Why a command has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The service is closed.
    #[error("the discovery service is closed")]
    Closed,
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl DiscoveryError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Closed => Blame::Local,
            Self::Request(error) => error.blame(),
        }
    }
}

/// A change that listeners hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiscoveryEvent {
    /// A node has come into the table.
    NodeAdded(NodeRecord),
    /// A node has gone from the table.
    NodeRemoved(NodeRecord),
    /// Our own record has changed.
    LocalRecord(NodeRecord),
}

/// The answer to a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingReply {
    /// From one queue to the other, signatures included.
    pub rtt: Duration,
    /// Sequence number of the node's record; 0 if it has none.
    pub enr_seq: u64,
}

/// A handle to a running discovery service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Discovery {
    commands: mpsc::Sender<Command>,
    /// Weak: listeners hear that the service has ended, whoever still has a handle.
    events: broadcast::WeakSender<DiscoveryEvent>,
    local_record: watch::Receiver<NodeRecord>,
    local_address: SocketAddr,
}

impl Discovery {
    /// Binds the socket, opens the node database, and starts. Must be called within a tokio runtime with time and I/O.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let (commands, queue) = mpsc::channel(MAX_COMMANDS);
        let (events, _) = broadcast::channel(MAX_EVENTS);
        let (driver, local_record, local_address) = Driver::new(config, queue, events.clone()).await?;
        let events = events.downgrade();
        tracing::info!(address = %local_address, "discovery listens");
        tokio::spawn(driver.run());
        Ok(Self { commands, events, local_record, local_address })
    }

    /// Our own record as it is published now.
    pub fn local_record(&self) -> NodeRecord {
        self.local_record.borrow().clone()
    }

    /// Where the socket is bound.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Random lookups, as long as somebody asks for nodes. Of one network (IPv4 /24, IPv6 /48; a LAN is exempt) come two in
    /// five minutes or in 64 nodes, see [`Candidates`](crate::discv4::Candidates).
    pub fn random_walk(&self) -> RandomWalk {
        RandomWalk::new(self.clone())
    }

    /// The nodes closest to `target` that answer, closest first, at most 16. The target is 64 bytes in the form of a public
    /// key (see [`PublicKey::as_bytes`](crate::PublicKey::as_bytes)). Empty if nobody is known;
    /// [`RequestError::Busy`] if 64 lookups are under way.
    pub async fn lookup(&self, target: [u8; 64]) -> Result<Vec<NodeRecord>, DiscoveryError> {
        Ok(self.command(|reply| Command::Lookup { target, reply }).await??)
    }

    /// Pings a node.
    pub async fn ping(&self, node: &NodeRecord) -> Result<PingReply, DiscoveryError> {
        match self.ask(node, Question::Ping).await? {
            Answer::Pong { rtt, enr_seq } => Ok(PingReply { rtt, enr_seq }),
            _ => Err(RequestError::Timeout.into()),
        }
    }

    /// Asks a node for those it knows near `target`: at most 16, none of them verified.
    pub async fn find_node(&self, node: &NodeRecord, target: [u8; 64]) -> Result<Vec<NodeRecord>, DiscoveryError> {
        match self.ask(node, Question::FindNode(target)).await? {
            Answer::Neighbors(nodes) => Ok(nodes),
            _ => Err(RequestError::Timeout.into()),
        }
    }

    /// Asks a node for its signed record.
    pub async fn request_enr(&self, node: &NodeRecord) -> Result<Enr, DiscoveryError> {
        match self.ask(node, Question::Enr).await? {
            Answer::Enr(record) => Ok(record),
            _ => Err(RequestError::Timeout.into()),
        }
    }

    /// Finds out where a node is now: asks it where it was, then looks it up.
    pub async fn resolve(&self, node: &NodeRecord) -> Result<NodeRecord, DiscoveryError> {
        match self.ask(node, Question::Resolve).await? {
            Answer::Node(record) => Ok(record),
            _ => Err(RequestError::NotFound.into()),
        }
    }

    /// Changes the pair `tm` of our record.
    pub async fn set_tendermint(&self, entry: Option<TendermintEntry>) -> Result<(), DiscoveryError> {
        self.command(|reply| Command::SetTendermint { entry, reply }).await
    }

    /// What gateways and STUN servers say of where we are, all of it: of each family the first counts, and an empty list means
    /// that nobody knows. It gives way to [`Config::advertise_ips`] and goes before what other nodes see.
    pub async fn set_external(&self, endpoints: Vec<ExternalEndpoint>) -> Result<(), DiscoveryError> {
        self.command(|reply| Command::SetExternal { endpoints, reply }).await
    }

    /// What changes from now on. A listener that lags more than 1,024 events behind misses some, and is told how many. It ends with
    /// the service.
    pub fn events(&self) -> broadcast::Receiver<DiscoveryEvent> {
        // Without the service, those of nobody.
        self.events.upgrade().unwrap_or_else(|| broadcast::Sender::new(1)).subscribe()
    }

    /// The nodes in the table now.
    pub async fn nodes(&self) -> Result<Vec<NodeRecord>, DiscoveryError> {
        self.command(Command::Nodes).await
    }

    /// At most `count` random nodes of the table, those of each distance in turn (go-ethereum `ReadRandomNodes`). Sends nothing.
    /// Nothing keeps one network's nodes few among them, as it does in a walk. None before the first refresh has ended.
    pub async fn random_nodes(&self, count: usize) -> Result<Vec<NodeRecord>, DiscoveryError> {
        self.command(|reply| Command::RandomNodes { count, reply }).await
    }

    /// At most `count` nodes of the table, those closest to `target`, closest first. Sends nothing: a
    /// [`lookup`](Self::lookup) asks the others.
    pub async fn closest(&self, target: NodeId, count: usize) -> Result<Vec<NodeRecord>, DiscoveryError> {
        self.command(|reply| Command::Closest { target, count, reply }).await
    }

    /// Waits until the table has at least `count` nodes, however long that takes (go-ethereum `waitForNodes`).
    pub async fn wait_for_nodes(&self, count: usize) -> Result<(), DiscoveryError> {
        let mut events = self.events();
        while self.stats().await?.table_nodes < count {
            // Any event, or having missed some, is a reason to look again.
            tokio::select! {
                _ = events.recv() => {}
                () = self.commands.closed() => return Err(DiscoveryError::Closed),
            }
        }
        Ok(())
    }

    /// All counters now.
    pub async fn stats(&self) -> Result<DiscoveryStats, DiscoveryError> {
        self.command(Command::Stats).await.map(|stats| *stats)
    }

    /// Stops, and waits until the socket is free and what was to be stored is stored. Other handles find it closed.
    pub async fn close(&self) {
        // An error means that it is closed already.
        let _closed = self.command(Command::Close).await;
    }

    async fn ask(&self, node: &NodeRecord, question: Question) -> Result<Answer, DiscoveryError> {
        let node = node.clone();
        Ok(self.command(|reply| Command::Ask { node, question, reply }).await??)
    }

    async fn command<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, DiscoveryError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| DiscoveryError::Closed)?;
        answer.await.map_err(|_| DiscoveryError::Closed)
    }
}
