//! A live connection: one task that owns the stream, the ciphers and the machine, and joins them to the link.
//!
//! Each round it takes what is to be sent, writes one batch, reads one batch; it waits only when neither moved. Buffers grow
//! to the traffic and are given back when it stops, so that an idle connection holds none.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    time::{Sleep, sleep_until},
};

use super::super::{
    CloseReason,
    link::{CloseOnDrop, Link, State},
    tcp,
};
use crate::tendermint::{
    mconnection::{MConnection, MConnectionError},
    secret_connection::{DATA_SIZE, OpenBuffer, Opener, SealBuffer, Sealer, Secured},
};

/// Plaintext gathered for one write: 380 frames, so that with the last packet's excess a write stays within 384 sealed frames.
/// Six times 64 KB saves an eighth of the processor time: fewer system calls, and fewer wake-ups of the peer. With a send rate set, a
/// write has what the rate allows at the moment, which is less.
const WRITE_BATCH: usize = 380 * DATA_SIZE;

/// The first read buffer after a pause: three frames.
const MIN_READ: usize = 4096;

/// The largest read at once, for the same reason.
const MAX_READ: usize = 384 * 1024;

/// Plaintext that is turned into messages before it is asked again whether the user has room: the smallest message has seven bytes and takes
/// ten times that.
const DELIVERED_AT_ONCE: usize = 64 * 1024;

/// Rounds after which other tasks get a turn, even if this one never had to wait.
const ROUNDS_PER_TURN: u32 = 32;

/// What is still to be written gets this long after a request to flush and close (CometBFT `defaultSendTimeout`).
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// After our last byte, the peer's are read and dropped this long: closing a socket with unread bytes would reset the
/// stream and could destroy what we sent.
const LINGER: Duration = Duration::from_secs(2);

pub(super) struct Live {
    stream: TcpStream,
    sealer: Sealer,
    opener: Opener,
    machine: MConnection,
    link: Arc<Link>,
    output: SealBuffer,
    /// Bytes of `output` that the stream has taken.
    written: usize,
    input: OpenBuffer,
    read_size: usize,
    /// The user's inbox is full: nothing is read.
    stalled: bool,
    /// Why nothing can be written any more. What the peer sent before that is still read, to the end of the stream.
    broken: Option<CloseReason>,
    flush_deadline: Option<Instant>,
}

impl Live {
    pub(super) fn new(stream: TcpStream, secured: Secured, machine: MConnection, link: Arc<Link>) -> Self {
        let Secured { sealer, opener, received, .. } = secured;
        Live {
            stream,
            sealer,
            opener,
            machine,
            link,
            output: SealBuffer::default(),
            written: 0,
            input: received,
            read_size: MIN_READ,
            stalled: false,
            broken: None,
            flush_deadline: None,
        }
    }

    /// Runs until the connection is over.
    pub(super) async fn run(mut self) {
        // Also if this task is dropped with its runtime.
        let _end = CloseOnDrop(self.link.clone());
        let last = self.drive().await;
        let reason = self.broken.take().unwrap_or(last);
        self.link.set_stats(self.machine.stats());
        tracing::debug!(%reason, "connection is over");
        if self.flush_deadline.is_some() && self.output.is_empty() {
            tcp::linger(&self.stream, LINGER).await;
        }
        self.link.close(reason);
    }

    async fn drive(&mut self) -> CloseReason {
        let mut sleep = Box::pin(sleep_until(now().into()));
        let mut rounds = 0u32;
        // What came with the last bytes of the handshake.
        if let Err(reason) = self.open_and_deliver(now()) {
            return reason;
        }
        loop {
            let moved = match self.round() {
                Ok(moved) => moved,
                Err(CloseReason::Protocol(MConnectionError::PongTimeout)) if self.stalled => {
                    return CloseReason::ReceiverStalled;
                }
                Err(reason) => return reason,
            };
            // Also after a wait: it may have been over at once.
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(ROUNDS_PER_TURN) {
                // Whoever judges a connection by what it carries must not think that a busy one stands still.
                self.link.set_stats(self.machine.stats());
                tokio::task::yield_now().await;
            }
            if !moved && let Err(reason) = self.wait(sleep.as_mut()).await {
                return reason;
            }
        }
    }

    /// Does what can be done without waiting; `false` if that was nothing.
    fn round(&mut self) -> Result<bool, CloseReason> {
        let now = now();
        // Read before the outbox: what was sent before a flush is still found.
        let flushing = self.flushing(now)?;
        for (channel, message) in self.link.take() {
            // The link has as many places as the machine, and knows the same channels and limits.
            if let Err(error) = self.machine.send(channel, message) {
                tracing::warn!(%error, "message was not queued");
                self.link.written(channel, 1);
            }
        }
        if self.machine.is_pong_late(now) {
            self.read_what_is_there(now)?;
        }
        self.machine.handle_timeout(now)?;
        let wrote = self.write(now)?;
        if flushing && self.output.is_empty() && !self.machine.is_sending() {
            return Err(CloseReason::requested("flushed"));
        }
        let read = self.read(now)?;
        Ok(wrote || read)
    }

    /// Whether only what waits is to be written; an error ends the connection.
    fn flushing(&mut self, now: Instant) -> Result<bool, CloseReason> {
        if !self.link.is_ending() {
            return Ok(false);
        }
        match self.link.state() {
            State::Open => Ok(false),
            State::Closed(reason) => Err(reason),
            State::Flushing(reason) => {
                let limit = now.checked_add(FLUSH_TIMEOUT).unwrap_or(now);
                if *self.flush_deadline.get_or_insert(limit) <= now { Err(reason) } else { Ok(true) }
            }
        }
    }

    fn write(&mut self, now: Instant) -> Result<bool, CloseReason> {
        if self.broken.is_some() {
            return Ok(false);
        }
        if self.output.is_empty() {
            if self.machine.poll_transmit(now, &mut self.output, WRITE_BATCH) == 0 {
                return Ok(false);
            }
            self.output.seal(&mut self.sealer)?;
            while let Some((channel, messages)) = self.machine.poll_sent() {
                self.link.written(channel, messages);
            }
        }
        let rest = self.output.sealed().get(self.written..).unwrap_or_default();
        match self.stream.try_write(rest) {
            Ok(len) if len == rest.len() => {
                self.output.clear();
                self.written = 0;
                Ok(true)
            }
            Ok(len) => {
                self.written = self.written.saturating_add(len);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => {
                self.broken = Some(stream_error(error));
                Ok(true)
            }
        }
    }

    /// Whoever looks late finds in the stream what came in time. More than these reads the system does not keep.
    fn read_what_is_there(&mut self, now: Instant) -> Result<(), CloseReason> {
        for _ in 0..ROUNDS_PER_TURN {
            if !self.read(now)? {
                break;
            }
        }
        Ok(())
    }

    fn read(&mut self, now: Instant) -> Result<bool, CloseReason> {
        if self.stalled || !self.machine.may_receive(now) {
            return Ok(false);
        }
        if !self.input.plaintext().is_empty() {
            self.open_and_deliver(now)?;
            return Ok(true);
        }
        let buffer = self.input.spare(self.read_size);
        let room = buffer.capacity().saturating_sub(buffer.len());
        match self.stream.try_read_buf(buffer) {
            Ok(0) if self.input.is_mid_frame() => Err(CloseReason::Io(io::ErrorKind::UnexpectedEof)),
            Ok(0) => Err(CloseReason::Remote),
            Ok(len) => {
                if len == room {
                    self.read_size = self.read_size.saturating_mul(2).min(MAX_READ);
                } else if len < self.read_size / 4 {
                    self.read_size = (self.read_size / 2).max(MIN_READ);
                }
                self.open_and_deliver(now)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(stream_error(error)),
        }
    }

    /// Opens the frames that are whole, and delivers what the user has room for. What came before an error is delivered before the
    /// error is returned.
    fn open_and_deliver(&mut self, now: Instant) -> Result<(), CloseReason> {
        let opened = self.input.open(&mut self.opener);
        while !self.input.plaintext().is_empty() && (!self.stalled || opened.is_err()) {
            let plaintext = self.input.plaintext();
            let some = plaintext.get(..DELIVERED_AT_ONCE).unwrap_or(plaintext);
            let (len, handled) = (some.len(), self.machine.handle_bytes(now, some));
            self.input.consume(len);
            let machine = &mut self.machine;
            self.stalled = !self.link.deliver(std::iter::from_fn(|| machine.poll_message()));
            handled?;
        }
        opened?;
        Ok(())
    }

    async fn wait(&mut self, mut sleep: Pin<&mut Sleep>) -> Result<(), CloseReason> {
        if self.output.is_empty() {
            self.output.release();
        }
        if self.input.plaintext().is_empty() {
            self.input.release();
        }
        self.link.set_stats(self.machine.stats());
        let now = now();
        let reading = !self.stalled && self.machine.may_receive(now);
        let writing = !self.output.is_empty() && self.broken.is_none();
        let deadline = self.machine.poll_timeout().into_iter().chain(self.flush_deadline).min().unwrap_or(now);
        if sleep.deadline().into_std() != deadline {
            sleep.as_mut().reset(deadline.into());
        }
        tokio::select! {
            biased;
            () = self.link.work() => {}
            () = self.link.room(), if self.stalled => self.stalled = false,
            () = sleep => {}
            ready = self.stream.writable(), if writing => ready.map_err(stream_error)?,
            ready = self.stream.readable(), if reading => ready.map_err(stream_error)?,
        }
        Ok(())
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn stream_error(error: io::Error) -> CloseReason {
    CloseReason::Io(error.kind())
}
