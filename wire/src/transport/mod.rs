//! The drivers: they own sockets and clocks, run the handshakes, and yield [`Connection`]s.
//!
//! A connection is data: two bounded queues and a reason why it ended. So the memory and TCP transports differ only in who
//! fills the queues, and only [`Transport`] is a trait that users see. `dial` includes the handshake: its caller hears only of proven
//! identities. `accept` does not: an [`Incoming`] can be refused by its address before it costs anything.
//!
//! ```
//! use kadwire_wire::{tendermint::node_info::NodeInfo, transport::*};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = MemoryNetwork::new();
//! let node = |id| {
//!     let node_info = NodeInfo::new([id; 20], "test-net", "node");
//!     network.listen(MemoryConfig { node_info, channels: vec![ChannelSpec::new(0x30)], address: None })
//! };
//! let (a, b) = (node(1)?, node(2)?);
//! let to_b: kadwire_wire::PeerAddress = format!("memory:{}", "02".repeat(20)).parse()?;
//! let (dialed, accepted) = tokio::join!(a.dial(&to_b), async { b.accept().await?.handshake().await.map_err(Box::from) });
//! let (dialed, mut accepted): (_, Connection) = (dialed?, accepted.map_err(|e: Box<dyn std::error::Error>| e)?);
//! dialed.send(0x30, "hello".into()).await?;
//! assert_eq!(accepted.recv().await, Some((0x30, "hello".into())));
//! # Ok(())
//! # }
//! ```

mod connection;
mod counters;
mod error;
mod handshake;
mod link;
mod live;
mod memory;
mod resolve;
mod rlpx;
mod stream;
mod tcp;
mod tendermint;

use std::{
    fmt,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use crate::tendermint::mconnection::ChannelSpec;
pub use connection::{Connection, Direction, PeerInfo, Receiver, SendError, Sender, TrySendError};
pub use error::{AcceptError, BindError, CloseReason, DialError, HandshakeError};
pub use memory::{MemoryConfig, MemoryError, MemoryNetwork, MemoryRlpxConfig, MemoryTransport};
pub use resolve::resolve;
pub use rlpx::{RlpxConfig, RlpxTransport};
pub use tendermint::{TendermintConfig, TendermintTransport};

use crate::{
    PeerAddress, PeerId, rlpx::disconnect::DisconnectReason, stats::TransportStats, tendermint::node_info::NodeInfo,
};

/// A way to reach peers and be reached. Owned or shared by the router; both calls may run at the same time.
pub trait Transport: Send + Sync + 'static {
    /// Connects, proves both identities, and checks that the peer is the one the address names. Cancel-safe: dropping the
    /// future closes the stream.
    fn dial(&self, address: &PeerAddress) -> impl Future<Output = Result<Connection, DialError>> + Send;

    /// Finds out whether the node that the address names is there, without becoming its peer: connects, has the identity proven,
    /// and hangs up before either side says what it is, so that the other side sees a handshake cut short and an existing
    /// connection with it is not disturbed. Cancel-safe.
    fn probe(&self, address: &PeerAddress) -> impl Future<Output = Result<(), DialError>> + Send;

    /// The next stream that somebody opened to us, before any handshake. Cancel-safe. [`AcceptError::Closed`] is final;
    /// after other errors call it again.
    fn accept(&self) -> impl Future<Output = Result<Incoming, AcceptError>> + Send;

    /// Who this side is.
    fn id(&self) -> PeerId;

    /// Where this side listens, with the real port.
    fn local(&self) -> Endpoint;

    /// Counters since the transport was bound.
    fn stats(&self) -> TransportStats;

    /// Stops listening: waiting and later calls of `accept` give [`AcceptError::Closed`]. Live connections stay.
    fn close(&self);
}

/// One end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// IP and TCP port, with IPv4-mapped IPv6 unwrapped.
    Socket(SocketAddr),
    /// A node of this process.
    Memory(PeerId),
}

impl Endpoint {
    /// The IP, if there is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket_addr().map(|socket| socket.ip())
    }

    /// IP and port, if there are.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Endpoint::Socket(socket) => Some(*socket),
            Endpoint::Memory(_) => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Socket(socket) => write!(f, "{socket}"),
            Endpoint::Memory(id) => write!(f, "memory:{id}"),
        }
    }
}

/// A stream that somebody opened to us. Nothing has been read or written yet; dropping it closes it.
#[derive(Debug)]
pub struct Incoming {
    remote: Endpoint,
    stream: IncomingStream,
}

#[derive(Debug)]
enum IncomingStream {
    Memory(memory::MemoryIncoming),
    Rlpx(rlpx::RlpxIncoming),
    Tendermint(tendermint::TendermintIncoming),
}

impl Incoming {
    /// Where it comes from. A socket's port is not one that can be dialed.
    pub fn remote(&self) -> Endpoint {
        self.remote
    }

    /// Runs the handshake to its end, under the transport's time-out.
    pub async fn handshake(self) -> Result<Connection, HandshakeError> {
        self.handshake_checked(|_| std::future::ready(Ok(()))).await
    }

    /// The same, asking `check` about an Ethereum peer that has proven its key, before either side says what it is (go-ethereum's first
    /// checkpoint). An error is what the peer is told. On other wires there is no such point, and `check` is not asked.
    pub async fn handshake_checked<A>(
        self,
        check: impl FnOnce(PeerId) -> A + Send,
    ) -> Result<Connection, HandshakeError>
    where
        A: Future<Output = Result<(), DisconnectReason>> + Send,
    {
        match self.stream {
            IncomingStream::Memory(incoming) => incoming.handshake(self.remote).await,
            // Larger than the others: they should not have to make room for it.
            IncomingStream::Rlpx(incoming) => Box::pin(incoming.handshake(self.remote, check)).await,
            IncomingStream::Tendermint(incoming) => incoming.handshake(self.remote).await,
        }
    }
}

/// The checks after both NodeInfos are known, in CometBFT's order (`transport.go`, upgrade): the dialed id, the id that the
/// NodeInfo names, ourselves, compatibility.
fn check_peer(
    local: &NodeInfo,
    expected: Option<[u8; 20]>,
    proven: [u8; 20],
    remote: &NodeInfo,
) -> Result<(), HandshakeError> {
    if let Some(expected) = expected.filter(|id| *id != proven) {
        return Err(HandshakeError::IdMismatch { expected, proven });
    }
    remote.validate().map_err(HandshakeError::NodeInfo)?;
    if remote.id != proven {
        return Err(HandshakeError::NodeInfoId { claimed: remote.id, proven });
    }
    if proven == local.id {
        return Err(HandshakeError::SelfConnection);
    }
    local.compatible_with(remote).map_err(HandshakeError::Incompatible)
}

/// A panic while a lock was held leaves whole values here (a push, a pop, a count), so they stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
