//! From an open stream to a live connection: SecretConnection, the dialed id, NodeInfo both ways at once, the checks.
//!
//! While it waits for the peer it holds next to nothing: bytes are read into the stack, only what is a part of something
//! larger is kept.

use std::{io, sync::Arc};

use rand::rngs::StdRng;
use tokio::net::TcpStream;

use super::{
    super::{Connection, Direction, Endpoint, HandshakeError, PeerInfo, check_peer, link::Link, tcp},
    Local,
    live::Live,
};
use crate::tendermint::{
    DelimitedError, delimit,
    mconnection::MConnection,
    node_info::{MAX_NODE_INFO_SIZE, NodeInfo, NodeInfoError},
    secret_connection::{Handshake, SealBuffer, Secured},
    split_delimited,
};

/// Bytes read at a time, on the stack: two frames.
const READ_SIZE: usize = 2088;

/// Runs the whole handshake under its time-out, counts how it ended, and starts the connection's task.
pub(super) async fn run(
    local: &Arc<Local>,
    stream: TcpStream,
    remote: Endpoint,
    direction: Direction,
    expected: Option<[u8; 20]>,
) -> Result<Connection, HandshakeError> {
    let limit = local.config.handshake_timeout;
    let done = tokio::time::timeout(limit, shake(local, &stream, expected)).await;
    let result = done.unwrap_or(Err(HandshakeError::Timeout(limit)));
    local.count(|stats| match (&result, direction) {
        (Ok(_), Direction::Outbound) => stats.dials_completed = stats.dials_completed.saturating_add(1),
        (Ok(_), Direction::Inbound) => stats.accepts_completed = stats.accepts_completed.saturating_add(1),
        (Err(error), _) => stats.count_failure(error.blame()),
    });
    let (secured, node_info) = result.inspect_err(|error| tracing::debug!(%remote, ?direction, %error, "handshake"))?;
    let link = Link::new(&local.config.channels, &node_info.channels);
    let now = tokio::time::Instant::now().into_std();
    // The configuration was checked when the transport was bound.
    let machine = MConnection::new(local.config.mconnection, &local.config.channels, now);
    let machine = machine.map_err(|_| HandshakeError::Io(io::ErrorKind::InvalidInput))?;
    tokio::spawn(Live::new(stream, secured, machine, link.clone()).run());
    Ok(Connection::new(PeerInfo::Tendermint(node_info), remote, direction, link))
}

/// Has the peer prove its identity, and hangs up before either side says what it is. Nothing is counted.
pub(super) async fn probe(local: &Local, stream: TcpStream, expected: [u8; 20]) -> Result<(), HandshakeError> {
    let limit = local.config.handshake_timeout;
    let secured = tokio::time::timeout(limit, secure_with(local, &stream, expected)).await;
    secured.unwrap_or(Err(HandshakeError::Timeout(limit))).map(|_| ())
}

async fn secure_with(local: &Local, stream: &TcpStream, expected: [u8; 20]) -> Result<Secured, HandshakeError> {
    let secured = secure(local, stream).await?;
    if secured.id != expected {
        return Err(HandshakeError::IdMismatch { expected, proven: secured.id });
    }
    Ok(secured)
}

async fn shake(
    local: &Local,
    stream: &TcpStream,
    expected: Option<[u8; 20]>,
) -> Result<(Secured, NodeInfo), HandshakeError> {
    // The dialed id is checked before we say what we are.
    let mut secured = match expected {
        Some(expected) => secure_with(local, stream, expected).await?,
        None => secure(local, stream).await?,
    };
    let mut frames = SealBuffer::default();
    frames.put(&delimit(&local.config.node_info.encode()));
    frames.seal(&mut secured.sealer)?;
    let ((), node_info) = tokio::try_join!(write(stream, frames.sealed()), read_node_info(stream, &mut secured))?;
    check_peer(&local.config.node_info, expected, secured.id, &node_info)?;
    Ok((secured, node_info))
}

async fn secure(local: &Local, stream: &TcpStream) -> Result<Secured, HandshakeError> {
    stream.set_nodelay(true).map_err(io_error)?;
    #[expect(clippy::disallowed_methods, reason = "driver: ephemeral keys come from the operating system")]
    let mut handshake = Handshake::new(&local.config.key, &mut rand::make_rng::<StdRng>());
    let mut beyond = Vec::new();
    loop {
        while let Some(bytes) = handshake.poll_transmit() {
            write(stream, &bytes).await?;
        }
        if let Some(mut secured) = handshake.poll_secured() {
            secured.received.spare(beyond.len()).extend_from_slice(&beyond);
            return Ok(secured);
        }
        readable(stream).await?;
        read(stream, |bytes| {
            let taken = handshake.handle_bytes(bytes)?;
            // Only the last read can hold more than the handshake takes.
            beyond = bytes.get(taken..).unwrap_or_default().to_vec();
            Ok(())
        })?;
    }
}

async fn read_node_info(stream: &TcpStream, secured: &mut Secured) -> Result<NodeInfo, HandshakeError> {
    loop {
        secured.received.open(&mut secured.opener)?;
        let message = split_delimited(secured.received.plaintext(), MAX_NODE_INFO_SIZE);
        let message = message.map_err(|error| match error {
            DelimitedError::BadLength => HandshakeError::NodeInfo(NodeInfoError::Undecodable),
            DelimitedError::TooLarge(_) => HandshakeError::NodeInfo(NodeInfoError::TooLarge),
        })?;
        if let Some((message, len)) = message {
            let node_info = NodeInfo::decode(message).map_err(HandshakeError::NodeInfo)?;
            secured.received.consume(len);
            return Ok(node_info);
        }
        readable(stream).await?;
        read(stream, |bytes| {
            secured.received.spare(bytes.len()).extend_from_slice(bytes);
            Ok(())
        })?;
    }
}

/// Waits for bytes. Does not come back at once for ever, so that the time-out has its say while a peer sends without end.
async fn readable(stream: &TcpStream) -> Result<(), HandshakeError> {
    tokio::task::consume_budget().await;
    stream.readable().await.map_err(io_error)
}

/// Reads what is there, if anything.
fn read(stream: &TcpStream, handle: impl FnOnce(&[u8]) -> Result<(), HandshakeError>) -> Result<(), HandshakeError> {
    let mut bytes = [0; READ_SIZE];
    match stream.try_read(&mut bytes) {
        Ok(0) => Err(HandshakeError::Closed),
        Ok(len) => handle(bytes.get(..len).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(io_error(error)),
    }
}

async fn write(stream: &TcpStream, bytes: &[u8]) -> Result<(), HandshakeError> {
    tcp::write_all(stream, bytes).await.map_err(io_error)
}

fn io_error(error: io::Error) -> HandshakeError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            HandshakeError::Closed
        }
        kind => HandshakeError::Io(kind),
    }
}
