//! From an open stream to a live connection: the RLPx handshake, Hello both ways at once, the checks.
//!
//! Who is refused after the keys are proven is told why. While it waits for the peer it holds next to nothing: bytes are read into the
//! stack, only what is a part of something larger is kept.

use std::{io, sync::Arc, time::Duration};

use rand::rngs::StdRng;
use tokio::time::timeout;

use super::{
    super::{
        Connection, Direction, Endpoint, HandshakeError, PeerInfo,
        handshake::{read, set_nodelay, write},
        link::Link,
        live::Live,
        stream::Stream,
        tcp,
    },
    Local,
    wire::RlpxWire,
};
use crate::{
    PeerId,
    rlpx::{
        FrameBuffer, FrameReader, FrameWriter, Handshake, PublicKey, SecretKey, Secured,
        capability::{SharedProtocol, match_protocols},
        disconnect::DisconnectReason,
        hello::{Hello, MAX_HELLO_FRAME, code},
        message::Codec,
        multiplex::Multiplex,
    },
};

/// A refused peer that was told why has this long to hang up.
const LINGER: Duration = Duration::from_secs(1);

/// A stream whose ends have proven their keys.
struct Session {
    peer: PublicKey,
    writer: FrameWriter,
    reader: FrameReader,
    /// Bytes of the stream that were not looked at yet.
    input: FrameBuffer,
}

/// Runs the whole handshake under its time-out, counts how it ended, and starts the connection's task.
pub(super) async fn run<A>(
    local: &Arc<Local>,
    stream: Stream,
    remote: Endpoint,
    direction: Direction,
    expected: Option<PublicKey>,
    check: impl FnOnce(PeerId) -> A,
) -> Result<Connection, HandshakeError>
where
    A: Future<Output = Result<(), DisconnectReason>>,
{
    let limit = local.config.handshake_timeout;
    let (mut session, mut codec) = (None, Codec::plain());
    let done = timeout(limit, shake(local, &stream, expected, check, &mut session, &mut codec)).await;
    let result = done.unwrap_or(Err(HandshakeError::Timeout(limit)));
    local.counters.ended(direction, &result);
    if let (Err(error), Some(session)) = (&result, &mut session)
        && let Some(reason) = error.disconnect()
    {
        refuse(&stream, &mut session.writer, &mut codec, reason).await;
    }
    let (hello, shared) = result.inspect_err(|error| tracing::debug!(%remote, ?direction, %error, "handshake"))?;
    let Session { writer, mut reader, input, .. } = *session.ok_or(HandshakeError::Closed)?;
    let link = Link::of_protocols(&shared, hello.version);
    let now = tokio::time::Instant::now().into_std();
    // The configuration was checked when the transport was bound.
    let machine = Multiplex::new(local.config.multiplex, &shared, codec, now);
    let machine = machine.map_err(|_| HandshakeError::Io(io::ErrorKind::InvalidInput))?;
    reader.set_max_frame(machine.max_frame());
    let wire = RlpxWire::new(writer, reader, input, machine);
    tokio::spawn(Live::new(stream, wire, link.clone()).run());
    Ok(Connection::new(PeerInfo::Ethereum(hello), remote, direction, link))
}

/// Has the peer prove its identity, and hangs up before either side says what it is. Nothing is counted.
pub(super) async fn probe(local: &Local, stream: Stream, expected: PublicKey) -> Result<(), HandshakeError> {
    let limit = local.config.handshake_timeout;
    let secured = timeout(limit, secure(local, &stream, Some(expected))).await;
    secured.unwrap_or(Err(HandshakeError::Timeout(limit))).map(|_| ())
}

/// The checks are go-ethereum's, in its order (`p2p/server.go`, setupConn): ourselves, what the policy says, the id in Hello, a shared protocol.
async fn shake<A>(
    local: &Local,
    stream: &Stream,
    expected: Option<PublicKey>,
    check: impl FnOnce(PeerId) -> A,
    session: &mut Option<Box<Session>>,
    codec: &mut Codec,
) -> Result<(Hello, Vec<SharedProtocol>), HandshakeError>
where
    A: Future<Output = Result<(), DisconnectReason>>,
{
    let session = session.insert(secure(local, stream, expected).await?);
    if session.peer == *local.config.key.public() {
        return Err(HandshakeError::SelfConnection);
    }
    check(PeerId::from(session.peer)).await.map_err(HandshakeError::Refused)?;
    let mut frame = Vec::new();
    session.writer.seal(&local.hello.to_frame(), &mut frame)?;
    // What the peer says counts more than that it did not want to hear us.
    let (written, hello) = tokio::join!(write(stream, &frame), read_hello(stream, session));
    let hello = hello?;
    *codec = Codec::for_version(hello.version);
    written?;
    if hello.id != *session.peer.as_bytes() {
        return Err(HandshakeError::HelloId);
    }
    let shared = match_protocols(&local.config.protocols, &hello.capabilities)?;
    Ok((hello, shared))
}

async fn secure(local: &Local, stream: &Stream, expected: Option<PublicKey>) -> Result<Box<Session>, HandshakeError> {
    set_nodelay(stream)?;
    let mut handshake = begin(&local.config.key, expected);
    let mut input = FrameBuffer::default();
    loop {
        while let Some(bytes) = handshake.poll_transmit() {
            write(stream, &bytes).await?;
        }
        if let Some(Secured { peer, writer, reader }) = handshake.poll_secured() {
            return Ok(Box::new(Session { peer, writer, reader, input }));
        }
        read(stream, |bytes| {
            let taken = handshake.handle_bytes(bytes)?;
            // Only the last read can hold more than the handshake takes.
            let beyond = bytes.get(taken..).unwrap_or_default();
            input.spare(beyond.len()).extend_from_slice(beyond);
            Ok(())
        })
        .await?;
    }
}

#[expect(clippy::disallowed_methods, reason = "driver: ephemeral keys come from the operating system")]
fn begin(key: &SecretKey, expected: Option<PublicKey>) -> Handshake<'_> {
    let mut rng = rand::make_rng::<StdRng>();
    match expected {
        Some(expected) => Handshake::initiator(key, &expected, &mut rng),
        None => Handshake::recipient(key, &mut rng),
    }
}

async fn read_hello(stream: &Stream, session: &mut Session) -> Result<Hello, HandshakeError> {
    let Session { reader, input, .. } = session;
    reader.set_max_frame(MAX_HELLO_FRAME);
    loop {
        if let Some(data) = reader.open(input)? {
            return Ok(Hello::from_frame(data)?);
        }
        read(stream, |bytes| {
            input.spare(bytes.len()).extend_from_slice(bytes);
            Ok(())
        })
        .await?;
    }
}

/// Tells the peer why, and lets it hang up first, so that nothing that it sent meanwhile resets the stream under these words.
async fn refuse(stream: &Stream, writer: &mut FrameWriter, codec: &mut Codec, reason: DisconnectReason) {
    let (mut data, mut frame) = (Vec::new(), Vec::new());
    let made = codec.encode(code::DISCONNECT, &reason.encode(), &mut data).is_ok();
    if made && writer.seal(&data, &mut frame).is_ok() {
        tcp::say_farewell(stream, &frame, LINGER).await;
    }
}
