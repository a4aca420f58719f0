//! From an open stream to a live connection: SecretConnection, the dialed id, NodeInfo both ways at once, the checks.
//!
//! While it waits for the peer it holds next to nothing: bytes are read into the stack, only what is a part of something
//! larger is kept.

use std::{io, sync::Arc};

use rand::rngs::StdRng;

use super::{
    super::{
        Connection, Direction, Endpoint, HandshakeError, PeerInfo, check_peer,
        handshake::{read, set_nodelay, write},
        link::Link,
        live::Live,
        stream::Stream,
    },
    Local,
    wire::TendermintWire,
};
use crate::tendermint::{
    DelimitedError, delimit,
    mconnection::MConnection,
    node_info::{MAX_NODE_INFO_SIZE, NodeInfo, NodeInfoError},
    secret_connection::{Handshake, SealBuffer, Secured},
    split_delimited,
};

/// Runs the whole handshake under its time-out, counts how it ended, and starts the connection's task.
pub(super) async fn run(
    local: &Arc<Local>,
    stream: Stream,
    remote: Endpoint,
    direction: Direction,
    expected: Option<[u8; 20]>,
) -> Result<Connection, HandshakeError> {
    let limit = local.config.handshake_timeout;
    let done = tokio::time::timeout(limit, shake(local, &stream, expected)).await;
    let result = done.unwrap_or(Err(HandshakeError::Timeout(limit)));
    local.counters.ended(direction, &result);
    let (secured, node_info) = result.inspect_err(|error| tracing::debug!(%remote, ?direction, %error, "handshake"))?;
    let link = Link::new(&local.config.channels, &node_info.channels);
    let now = tokio::time::Instant::now().into_std();
    // The configuration was checked when the transport was bound.
    let machine = MConnection::new(local.config.mconnection, &local.config.channels, now);
    let machine = machine.map_err(|_| HandshakeError::Io(io::ErrorKind::InvalidInput))?;
    tokio::spawn(Live::new(stream, TendermintWire::new(secured, machine), link.clone()).run());
    Ok(Connection::new(PeerInfo::Tendermint(node_info), remote, direction, link))
}

/// Has the peer prove its identity, and hangs up before either side says what it is. Nothing is counted.
pub(super) async fn probe(local: &Local, stream: Stream, expected: [u8; 20]) -> Result<(), HandshakeError> {
    let limit = local.config.handshake_timeout;
    let secured = tokio::time::timeout(limit, secure_with(local, &stream, expected)).await;
    secured.unwrap_or(Err(HandshakeError::Timeout(limit))).map(|_| ())
}

async fn secure_with(local: &Local, stream: &Stream, expected: [u8; 20]) -> Result<Secured, HandshakeError> {
    let secured = secure(local, stream).await?;
    if secured.id != expected {
        return Err(HandshakeError::IdMismatch { expected, proven: secured.id });
    }
    Ok(secured)
}

async fn shake(
    local: &Local,
    stream: &Stream,
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

async fn secure(local: &Local, stream: &Stream) -> Result<Secured, HandshakeError> {
    set_nodelay(stream)?;
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
        read(stream, |bytes| {
            let taken = handshake.handle_bytes(bytes)?;
            // Only the last read can hold more than the handshake takes.
            beyond = bytes.get(taken..).unwrap_or_default().to_vec();
            Ok(())
        })
        .await?;
    }
}

async fn read_node_info(stream: &Stream, secured: &mut Secured) -> Result<NodeInfo, HandshakeError> {
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
        let received = &mut secured.received;
        read(stream, |bytes| {
            received.spare(bytes.len()).extend_from_slice(bytes);
            Ok(())
        })
        .await?;
    }
}
