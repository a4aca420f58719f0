//! The TCP driver of Ethereum's peer wire (RLPx): binds, accepts and dials; then the handshake and Hello, and one task per connection.

mod handshake;
mod wire;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{
    AcceptError, BindError, Connection, DialError, Direction, Endpoint, HandshakeError, Incoming, IncomingStream,
    Transport, counters::Counters, stream::Stream, tcp,
};
use crate::{
    PeerAddress, PeerId,
    rlpx::{
        PublicKey, SecretKey,
        capability::{Protocol, check_protocols},
        disconnect::DisconnectReason,
        hello::Hello,
        multiplex::MultiplexConfig,
    },
    stats::TransportStats,
};

/// A name and a stream are waited for this long each (go-ethereum `defaultDialTimeout`).
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);

/// From the open stream to a checked Hello (go-ethereum `handshakeTimeout`, which it allows each of the two steps).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a node talks to Ethereum peers over TCP.
#[derive(Clone, Debug)]
pub struct RlpxConfig {
    /// The node's identity.
    pub key: SecretKey,
    /// What its Hello calls it: program, version and system, as `Geth/v1.17.10/linux-amd64/go1.25`.
    pub name: String,
    /// What it speaks. Only peers that share one of them become connections.
    pub protocols: Vec<Protocol>,
    /// Where it listens (port 0: any); `None` only dials.
    pub listen: Option<SocketAddr>,
    /// The local IP that dials come from; `None` leaves it to the system.
    pub source: Option<IpAddr>,
    /// Where dials may go, also after a name was resolved; by default anywhere.
    pub may_dial: fn(IpAddr) -> bool,
    /// Times and limits of each connection.
    pub multiplex: MultiplexConfig,
    /// A name, and a stream to each of its addresses, are waited for this long each (15 s).
    pub dial_timeout: Duration,
    /// From the open stream to a checked Hello (5 s).
    pub handshake_timeout: Duration,
}

impl RlpxConfig {
    /// The defaults of a go-ethereum node: dials only, until `listen` is set.
    pub fn new(key: SecretKey, name: impl Into<String>, protocols: Vec<Protocol>) -> Self {
        RlpxConfig {
            key,
            name: name.into(),
            protocols,
            listen: None,
            source: None,
            may_dial: |_| true,
            multiplex: MultiplexConfig::default(),
            dial_timeout: DIAL_TIMEOUT,
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }
}

/// A [`Transport`] of Ethereum peers over TCP; see [`RlpxConfig`].
///
/// A *channel* of its connections is the place of a protocol among those that both sides speak
/// ([`match_protocols`](crate::rlpx::capability::match_protocols) with the capabilities of the peer's Hello says which), and a message is
/// what [`join`](crate::rlpx::message::join) makes: the protocol's own code, then the payload.
#[derive(Debug)]
pub struct RlpxTransport {
    local: Arc<Local>,
    listening: tcp::Listening,
}

/// What every handshake and connection needs of this side.
#[derive(Debug)]
struct Local {
    config: RlpxConfig,
    hello: Hello,
    counters: Arc<Counters>,
}

impl RlpxTransport {
    /// Checks the configuration and listens.
    pub async fn bind(config: RlpxConfig) -> Result<Self, BindError> {
        check_protocols(&config.protocols)?;
        config.multiplex.validate()?;
        let hello = Hello::new(*config.key.public().as_bytes(), &config.name, &config.protocols);
        hello.check().map_err(BindError::Hello)?;
        let listening = tcp::Listening::bind(config.listen)?;
        let local = Arc::new(Local { config, hello, counters: Arc::default() });
        Ok(RlpxTransport { local, listening })
    }

    /// Where this side can be dialed, if it listens on a specified address: its enode.
    pub fn address(&self) -> Option<PeerAddress> {
        PeerAddress::from_socket(self.id(), self.listening.address()).ok()
    }

    fn dialer(&self) -> tcp::Dialer {
        let RlpxConfig { source, may_dial, dial_timeout, .. } = self.local.config;
        tcp::Dialer { source, may_dial, limit: dial_timeout }
    }
}

/// The key of an enode. One that is not a point is nobody's.
fn key_of(address: &PeerAddress) -> Result<PublicKey, DialError> {
    let key = address.id().ethereum().ok_or(DialError::Unsupported)?;
    Ok(PublicKey::from_bytes(&key).map_err(HandshakeError::Key)?)
}

impl Transport for RlpxTransport {
    async fn dial(&self, address: &PeerAddress) -> Result<Connection, DialError> {
        self.local.counters.begun(Direction::Outbound);
        let expected = key_of(address)?;
        let (stream, remote) = self.dialer().connect(address, &self.local.counters).await?;
        let check = |_| std::future::ready(Ok(()));
        Ok(handshake::run(&self.local, stream, remote, Direction::Outbound, Some(expected), check).await?)
    }

    async fn probe(&self, address: &PeerAddress) -> Result<(), DialError> {
        let expected = key_of(address)?;
        let (stream, _) = self.dialer().connect(address, &self.local.counters).await?;
        Ok(handshake::probe(&self.local, stream, expected).await?)
    }

    async fn accept(&self) -> Result<Incoming, AcceptError> {
        let (stream, remote) = self.listening.accept(&self.local.counters).await?;
        self.local.counters.begun(Direction::Inbound);
        Ok(Incoming { remote, stream: IncomingStream::Rlpx(RlpxIncoming { local: self.local.clone(), stream }) })
    }

    fn id(&self) -> PeerId {
        PeerId::from(*self.local.config.key.public())
    }

    fn local(&self) -> Endpoint {
        Endpoint::Socket(self.listening.address())
    }

    fn stats(&self) -> TransportStats {
        self.local.counters.stats()
    }

    fn close(&self) {
        self.listening.close();
    }
}

/// An accepted stream before its handshake.
#[derive(Debug)]
pub(super) struct RlpxIncoming {
    local: Arc<Local>,
    stream: Stream,
}

impl RlpxIncoming {
    pub(super) async fn handshake<A>(
        self,
        remote: Endpoint,
        check: impl FnOnce(PeerId) -> A,
    ) -> Result<Connection, HandshakeError>
    where
        A: Future<Output = Result<(), DisconnectReason>>,
    {
        handshake::run(&self.local, self.stream, remote, Direction::Inbound, None, check).await
    }
}
