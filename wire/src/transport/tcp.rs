//! Sockets, the same for both wires: listening, a stream to a peer's address, and how one ends.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::timeout,
};

use super::{AcceptError, BindError, DialError, Endpoint, counters::Counters, lock, resolve, stream::Stream};
use crate::PeerAddress;

/// Streams that the system completes before we accept them.
const BACKLOG: u32 = 1024;

/// What is still to be written at the end is written within this (go-ethereum `discWriteTimeout`).
const FAREWELL: Duration = Duration::from_secs(1);

/// Where a transport listens, until it is closed.
#[derive(Debug)]
pub(super) struct Listening {
    address: SocketAddr,
    listener: Mutex<Option<Arc<TcpListener>>>,
    closed: watch::Sender<bool>,
}

impl Listening {
    /// With `None` nothing comes.
    pub(super) fn bind(address: Option<SocketAddr>) -> Result<Self, BindError> {
        let listener = address.map(|address| listen(address).map_err(|error| BindError::Listen(address, error)));
        let listener = listener.transpose()?;
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok()).unwrap_or(unspecified);
        Ok(Listening { address, listener: Mutex::new(listener.map(Arc::new)), closed: watch::Sender::new(false) })
    }

    /// With the real port; 0.0.0.0:0 without a listener.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next stream and where it comes from, until it is closed.
    pub(super) async fn accept(&self, counters: &Arc<Counters>) -> Result<(Stream, Endpoint), AcceptError> {
        let (listener, mut closed) = (lock(&self.listener).clone(), self.closed.subscribe());
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
        Ok((Stream::new(stream, counters), canonical(remote)))
    }

    pub(super) fn close(&self) {
        self.closed.send_replace(true);
        *lock(&self.listener) = None;
    }
}

/// A local address to listen on; every interface if it is unspecified.
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

/// Writes all of it.
pub(super) async fn write_all(stream: &Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(len) => bytes = bytes.get(len..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes the last bytes, and lets the peer hang up first for so long.
pub(super) async fn say_farewell(stream: &Stream, bytes: &[u8], limit: Duration) {
    if matches!(timeout(FAREWELL, write_all(stream, bytes)).await, Ok(Ok(()))) {
        linger(stream, limit).await;
    }
}

/// Says that nothing more will come, and drops what the peer sends until it says the same, or time is up. To close a socket with unread
/// bytes would reset the stream and could destroy what we sent.
async fn linger(stream: &Stream, limit: Duration) {
    let drain = async {
        stream.finish()?;
        let mut dropped = [0; 1024];
        loop {
            // Lets the time-out have its say while a peer sends without end.
            tokio::task::consume_budget().await;
            stream.readable().await?;
            match stream.try_read(&mut dropped) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    };
    // Either way the stream is closed next.
    let _: Result<io::Result<()>, _> = timeout(limit, drain).await;
}

/// Where dials come from and may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialer {
    pub(super) source: Option<IpAddr>,
    pub(super) may_dial: fn(IpAddr) -> bool,
    /// For a name, and for a stream to each of its addresses.
    pub(super) limit: Duration,
}

impl Dialer {
    /// A stream to the node that the address names, and where that is.
    pub(super) async fn connect(
        &self,
        address: &PeerAddress,
        counters: &Arc<Counters>,
    ) -> Result<(Stream, Endpoint), DialError> {
        let Dialer { source, may_dial, limit } = *self;
        let found = timeout(limit, resolve(address)).await.map_err(|_| DialError::Timeout(limit))??;
        let found: Vec<SocketAddr> = found.iter().filter_map(Endpoint::socket_addr).collect();
        if found.is_empty() {
            return Err(DialError::Unsupported);
        }
        let allowed: Vec<SocketAddr> = found.into_iter().filter(|socket| may_dial(socket.ip())).collect();
        let stream = connect_any(&allowed, source, limit).await?;
        let remote = stream.peer_addr().map_err(|error| DialError::Connect(error.kind()))?;
        Ok((Stream::new(stream, counters), canonical(remote)))
    }
}

/// The endpoint of a socket, with IPv4-mapped IPv6 unwrapped.
fn canonical(socket: SocketAddr) -> Endpoint {
    Endpoint::Socket(SocketAddr::new(socket.ip().to_canonical(), socket.port()))
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

async fn connect_from(source: Option<IpAddr>, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(address).await
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
