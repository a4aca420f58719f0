//! Reading and writing a stream during a handshake, the same for both wires. The time-out is its caller's.

use std::io;

use super::{HandshakeError, stream::Stream, tcp};

/// Bytes read at a time, on the stack: two frames of a SecretConnection; an RLPx packet has fewer.
const READ_SIZE: usize = 2088;

/// Waits for bytes and gives them to `handle`; nothing is kept while it waits. Does not come back at once for ever, so that the time-out has
/// its say while a peer sends without end.
pub(super) async fn read(
    stream: &Stream,
    handle: impl FnOnce(&[u8]) -> Result<(), HandshakeError>,
) -> Result<(), HandshakeError> {
    tokio::task::consume_budget().await;
    stream.readable().await.map_err(io_error)?;
    let mut bytes = [0; READ_SIZE];
    match stream.try_read(&mut bytes) {
        Ok(0) => Err(HandshakeError::Closed),
        Ok(len) => handle(bytes.get(..len).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(io_error(error)),
    }
}

/// Writes all of it.
pub(super) async fn write(stream: &Stream, bytes: &[u8]) -> Result<(), HandshakeError> {
    tcp::write_all(stream, bytes).await.map_err(io_error)
}

/// Small writes leave at once: a handshake is made of them, and what follows writes in batches.
pub(super) fn set_nodelay(stream: &Stream) -> Result<(), HandshakeError> {
    stream.set_nodelay().map_err(io_error)
}

fn io_error(error: io::Error) -> HandshakeError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            HandshakeError::Closed
        }
        kind => HandshakeError::Io(kind),
    }
}
