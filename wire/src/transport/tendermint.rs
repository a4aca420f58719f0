//! The TCP driver of Tendermint's peer wire: binds, accepts and dials; then the handshake, and one task per connection.

mod handshake;
mod wire;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{
    AcceptError, BindError, ChannelSpec, Connection, DialError, Direction, Endpoint, HandshakeError, Incoming,
    IncomingStream, Transport, counters::Counters, stream::Stream, tcp,
};
use crate::{
    PeerAddress, PeerId,
    stats::TransportStats,
    tendermint::{key::NodeKey, mconnection::MConnectionConfig, node_info::NodeInfo},
};

/// A name and a stream are waited for this long each (CometBFT `dial_timeout`).
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// From the open stream to a checked NodeInfo (CometBFT `handshake_timeout`).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// How a node talks to Tendermint peers over TCP.
#[derive(Clone, Debug)]
pub struct TendermintConfig {
    /// The node's identity.
    pub key: NodeKey,
    /// What it says of itself; `id`, `channels` and `listen_addr` are filled in from the other fields.
    pub node_info: NodeInfo,
    /// Its channels.
    pub channels: Vec<ChannelSpec>,
    /// Where it listens (port 0: any); `None` only dials.
    pub listen: Option<SocketAddr>,
    /// Where it tells peers that it listens, if that differs (port 0: the port it listens on).
    pub advertise: Option<SocketAddr>,
    /// The local IP that dials come from; `None` leaves it to the system.
    pub source: Option<IpAddr>,
    /// Where dials may go, also after a name was resolved; by default anywhere.
    pub may_dial: fn(IpAddr) -> bool,
    /// Times and limits of each connection.
    pub mconnection: MConnectionConfig,
    /// A name, and a stream to each of its addresses, are waited for this long each (3 s).
    pub dial_timeout: Duration,
    /// From the open stream to a checked NodeInfo (20 s).
    pub handshake_timeout: Duration,
}

impl TendermintConfig {
    /// The defaults of a CometBFT node: dials only, until `listen` is set.
    pub fn new(key: NodeKey, network: impl Into<String>, moniker: impl Into<String>) -> Self {
        TendermintConfig {
            node_info: NodeInfo::new(key.id(), network, moniker),
            key,
            channels: Vec::new(),
            listen: None,
            advertise: None,
            source: None,
            may_dial: |_| true,
            mconnection: MConnectionConfig::default(),
            dial_timeout: DIAL_TIMEOUT,
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }
}

/// A [`Transport`] over TCP; see [`TendermintConfig`].
#[derive(Debug)]
pub struct TendermintTransport {
    local: Arc<Local>,
    listening: tcp::Listening,
}

/// What every handshake and connection needs of this side.
#[derive(Debug)]
struct Local {
    config: TendermintConfig,
    counters: Arc<Counters>,
}

impl TendermintTransport {
    /// Checks the configuration and listens.
    pub async fn bind(mut config: TendermintConfig) -> Result<Self, BindError> {
        config.mconnection.validate(&config.channels)?;
        let listening = tcp::Listening::bind(config.listen)?;
        config.node_info.id = config.key.id();
        config.node_info.channels = config.channels.iter().map(|channel| channel.id).collect();
        let mut advertised = config.advertise.unwrap_or(listening.address());
        if advertised.port() == 0 {
            advertised.set_port(listening.address().port());
        }
        config.node_info.listen_addr = advertised.to_string();
        config.node_info.validate().map_err(BindError::NodeInfo)?;
        let local = Arc::new(Local { config, counters: Arc::default() });
        Ok(TendermintTransport { local, listening })
    }

    /// Where this side can be dialed, if it said so or listens on a specified address.
    pub fn address(&self) -> Option<PeerAddress> {
        self.local.config.node_info.listen_address()
    }

    fn dialer(&self) -> tcp::Dialer {
        let TendermintConfig { source, may_dial, dial_timeout, .. } = self.local.config;
        tcp::Dialer { source, may_dial, limit: dial_timeout }
    }
}

impl Transport for TendermintTransport {
    async fn dial(&self, address: &PeerAddress) -> Result<Connection, DialError> {
        self.local.counters.begun(Direction::Outbound);
        let expected = address.id().tendermint().ok_or(DialError::Unsupported)?;
        let (stream, remote) = self.dialer().connect(address, &self.local.counters).await?;
        Ok(handshake::run(&self.local, stream, remote, Direction::Outbound, Some(expected)).await?)
    }

    async fn probe(&self, address: &PeerAddress) -> Result<(), DialError> {
        let expected = address.id().tendermint().ok_or(DialError::Unsupported)?;
        let (stream, _) = self.dialer().connect(address, &self.local.counters).await?;
        Ok(handshake::probe(&self.local, stream, expected).await?)
    }

    async fn accept(&self) -> Result<Incoming, AcceptError> {
        let (stream, remote) = self.listening.accept(&self.local.counters).await?;
        self.local.counters.begun(Direction::Inbound);
        let incoming = TendermintIncoming { local: self.local.clone(), stream };
        Ok(Incoming { remote, stream: IncomingStream::Tendermint(incoming) })
    }

    fn id(&self) -> PeerId {
        PeerId::Tendermint(self.local.config.node_info.id)
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
pub(super) struct TendermintIncoming {
    local: Arc<Local>,
    stream: Stream,
}

impl TendermintIncoming {
    pub(super) async fn handshake(self, remote: Endpoint) -> Result<Connection, HandshakeError> {
        handshake::run(&self.local, self.stream, remote, Direction::Inbound, None).await
    }
}
