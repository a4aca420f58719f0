//! The TCP driver of Tendermint's peer wire: binds, accepts and dials; then the handshake, and one task per connection.

mod handshake;
mod live;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::timeout,
};

use super::{
    AcceptError, BindError, ChannelSpec, Connection, DialError, Direction, Endpoint, HandshakeError, Incoming,
    IncomingStream, Transport, resolve,
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

/// Streams that the system completes before we accept them.
const BACKLOG: u32 = 1024;

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
    local_addr: SocketAddr,
    listener: Mutex<Option<Arc<TcpListener>>>,
    closed: watch::Sender<bool>,
}

/// What every handshake and connection needs of this side.
#[derive(Debug)]
struct Local {
    config: TendermintConfig,
    stats: Mutex<TransportStats>,
}

impl Local {
    fn count(&self, change: impl FnOnce(&mut TransportStats)) {
        change(&mut lock(&self.stats));
    }
}

impl TendermintTransport {
    /// Checks the configuration and listens.
    pub async fn bind(mut config: TendermintConfig) -> Result<Self, BindError> {
        config.mconnection.validate(&config.channels)?;
        let listener = match config.listen {
            Some(address) => Some(listen(address).map_err(|error| BindError::Listen(address, error))?),
            None => None,
        };
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let local_addr = listener.as_ref().and_then(|listener| listener.local_addr().ok()).unwrap_or(unspecified);
        config.node_info.id = config.key.id();
        config.node_info.channels = config.channels.iter().map(|channel| channel.id).collect();
        let mut advertised = config.advertise.unwrap_or(local_addr);
        if advertised.port() == 0 {
            advertised.set_port(local_addr.port());
        }
        config.node_info.listen_addr = advertised.to_string();
        config.node_info.validate().map_err(BindError::NodeInfo)?;
        Ok(TendermintTransport {
            local: Arc::new(Local { config, stats: Mutex::default() }),
            local_addr,
            listener: Mutex::new(listener.map(Arc::new)),
            closed: watch::Sender::new(false),
        })
    }

    /// Where this side can be dialed, if it said so or listens on a specified address.
    pub fn address(&self) -> Option<PeerAddress> {
        self.local.config.node_info.listen_address()
    }

    async fn connect(&self, address: &PeerAddress) -> Result<TcpStream, DialError> {
        let Local { config, .. } = &*self.local;
        let timed_out = |_| DialError::Timeout(config.dial_timeout);
        let found = timeout(config.dial_timeout, resolve(address)).await.map_err(timed_out)??;
        let found: Vec<SocketAddr> = found.iter().filter_map(Endpoint::socket_addr).collect();
        if found.is_empty() {
            return Err(DialError::Unsupported);
        }
        let allowed: Vec<SocketAddr> = found.into_iter().filter(|socket| (config.may_dial)(socket.ip())).collect();
        connect_any(&allowed, config.source, config.dial_timeout).await
    }
}

/// A stream to the first of a peer's addresses that takes one; each has `limit` to itself (ADR-062), so that one that is not there does not
/// hide the others.
async fn connect_any(
    addresses: &[SocketAddr],
    source: Option<IpAddr>,
    limit: Duration,
) -> Result<TcpStream, DialError> {
    let mut failed = DialError::NotAllowed;
    for address in addresses {
        failed = match timeout(limit, connect_from(source, *address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => DialError::Connect(error.kind()),
            Err(_) => DialError::Timeout(limit),
        };
    }
    Err(failed)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Every interface means both families, whatever the system's default is.
    if address.is_ipv6() && address.ip().is_unspecified() {
        SockRef::from(&socket).set_only_v6(false)?;
    }
    // A restarted node must not wait for old connections to be forgotten.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn connect_from(source: Option<IpAddr>, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(address).await
}

impl Transport for TendermintTransport {
    async fn dial(&self, address: &PeerAddress) -> Result<Connection, DialError> {
        self.local.count(|stats| stats.dialed = stats.dialed.saturating_add(1));
        let expected = address.id().tendermint().ok_or(DialError::Unsupported)?;
        let stream = self.connect(address).await?;
        let remote = stream.peer_addr().map_err(|error| DialError::Connect(error.kind()))?;
        let remote = Endpoint::Socket(SocketAddr::new(remote.ip().to_canonical(), remote.port()));
        Ok(handshake::run(&self.local, stream, remote, Direction::Outbound, Some(expected)).await?)
    }

    async fn probe(&self, address: &PeerAddress) -> Result<(), DialError> {
        let expected = address.id().tendermint().ok_or(DialError::Unsupported)?;
        let stream = self.connect(address).await?;
        Ok(handshake::probe(&self.local, stream, expected).await?)
    }

    async fn accept(&self) -> Result<Incoming, AcceptError> {
        let mut closed = self.closed.subscribe();
        let listener = lock(&self.listener).clone();
        let accept = async {
            match listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let accepted = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return Err(AcceptError::Closed),
            accepted = accept => accepted,
        };
        let (stream, remote) = accepted.map_err(|error| AcceptError::Io(error.kind()))?;
        self.local.count(|stats| stats.accepted = stats.accepted.saturating_add(1));
        let remote = Endpoint::Socket(SocketAddr::new(remote.ip().to_canonical(), remote.port()));
        let incoming = TendermintIncoming { local: self.local.clone(), stream };
        Ok(Incoming { remote, stream: IncomingStream::Tendermint(incoming) })
    }

    fn id(&self) -> PeerId {
        PeerId::Tendermint(self.local.config.node_info.id)
    }

    fn local(&self) -> Endpoint {
        Endpoint::Socket(self.local_addr)
    }

    fn stats(&self) -> TransportStats {
        *lock(&self.local.stats)
    }

    fn close(&self) {
        self.closed.send_replace(true);
        *lock(&self.listener) = None;
    }
}

/// An accepted stream before its handshake.
#[derive(Debug)]
pub(super) struct TendermintIncoming {
    local: Arc<Local>,
    stream: TcpStream,
}

impl TendermintIncoming {
    pub(super) async fn handshake(self, remote: Endpoint) -> Result<Connection, HandshakeError> {
        handshake::run(&self.local, self.stream, remote, Direction::Inbound, None).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_does_not_answer_does_not_hide_the_next_one() {
        let limit = Duration::from_millis(200);
        // A listener that accepts nothing: once its backlog is full, further streams hang.
        let busy = TcpSocket::new_v4().unwrap();
        busy.bind("127.120.2.1:0".parse().unwrap()).unwrap();
        let busy = busy.listen(1).unwrap();
        let (hangs, mut streams) = (busy.local_addr().unwrap(), Vec::new());
        while let Ok(stream) = timeout(limit, TcpStream::connect(hangs)).await {
            streams.push(stream.unwrap());
        }
        let there = TcpListener::bind("127.120.2.2:0").await.unwrap().local_addr();
        let open = TcpListener::bind("127.120.2.3:0").await.unwrap();
        let (refuses, answers) = (there.unwrap(), open.local_addr().unwrap());

        assert_eq!(connect_any(&[hangs, refuses, answers], None, limit).await.unwrap().peer_addr().unwrap(), answers);
        for (addresses, error) in [
            (&[refuses, hangs][..], DialError::Timeout(limit)),
            (&[hangs, refuses], DialError::Connect(io::ErrorKind::ConnectionRefused)),
            (&[], DialError::NotAllowed),
        ] {
            assert_eq!(connect_any(addresses, None, limit).await.unwrap_err(), error);
        }
    }
}
