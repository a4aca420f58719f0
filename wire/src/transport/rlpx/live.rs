//! A live connection: one task that owns the stream, the ciphers and the machine, and joins them to the link.
//!
//! Each round it takes what is to be sent, writes one batch of frames, reads one batch; it waits only when neither moved. Buffers grow to
//! the traffic and are given back when it stops, so that an idle connection holds none.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    time::{Sleep, sleep_until, timeout},
};

use super::{
    super::{
        CloseReason,
        link::{CloseOnDrop, Link, State},
        tcp,
    },
    handshake::Session,
};
use crate::rlpx::{FrameBuffer, FrameReader, FrameWriter, disconnect::DisconnectReason, multiplex::Multiplex};

/// Sealed bytes gathered for one write, as long as small frames give; a large frame is one write of its own.
const WRITE_BATCH: usize = 256 * 1024;

/// The first read buffer after a pause.
const MIN_READ: usize = 4096;

/// The largest read at once.
const MAX_READ: usize = 384 * 1024;

/// Frame data that is turned into messages before it is asked again whether the user has room.
const DELIVERED_AT_ONCE: usize = 64 * 1024;

/// Rounds after which other tasks get a turn, even if this one never had to wait. One takes up to some milliseconds.
const ROUNDS_PER_TURN: u32 = 4;

/// Reads of one who looks late, before the peer is called silent: the buffers of most systems.
const LATE_READS: u32 = 32;

/// A peer that takes not a byte of what is to be written for this long is given up (go-ethereum `frameWriteTimeout`, for one frame; here
/// any progress counts, because a batch may have many).
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// What is still to be written gets this long after a request to flush and close, as on the other wire.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// Disconnect, and the rest of a frame that was begun, are written within this (go-ethereum `discWriteTimeout`).
const FAREWELL: Duration = Duration::from_secs(1);

/// Once nothing can be written any more, what the peer sent before may be read for this long: a user who takes nothing would otherwise keep
/// the connection for ever.
const LAST_READS: Duration = Duration::from_secs(5);

/// After Disconnect, the peer may hang up for this long (`rlpx.md`, "Disconnect": "should wait 2 seconds").
const LINGER: Duration = Duration::from_secs(2);

/// An empty write buffer of more than this is given back before a wait.
const KEPT_CAPACITY: usize = 4096;

pub(super) struct Live {
    stream: TcpStream,
    writer: FrameWriter,
    reader: FrameReader,
    machine: Multiplex,
    link: Arc<Link>,
    output: Vec<u8>,
    /// Bytes of `output` that the stream has taken.
    written: usize,
    /// When the stream last took some, while there are more.
    write_since: Option<Instant>,
    input: FrameBuffer,
    read_size: usize,
    /// There may be whole frames in `input`.
    unopened: bool,
    /// The user's inbox is full: nothing is read.
    stalled: bool,
    /// Why nothing can be written any more. What the peer sent before that is still read, to the end of the stream.
    broken: Option<CloseReason>,
    /// When that ends too.
    broken_until: Option<Instant>,
    flush_deadline: Option<Instant>,
}

impl Live {
    pub(super) fn new(stream: TcpStream, session: Session, machine: Multiplex, link: Arc<Link>) -> Self {
        let Session { writer, reader, input, .. } = session;
        Live {
            stream,
            writer,
            reader,
            machine,
            link,
            output: Vec::new(),
            written: 0,
            write_since: None,
            // What came with the last bytes of the handshake.
            unopened: !input.is_empty(),
            input,
            read_size: MIN_READ,
            stalled: false,
            broken: None,
            broken_until: None,
            flush_deadline: None,
        }
    }

    /// Runs until the connection is over.
    pub(super) async fn run(mut self) {
        // Also if this task is dropped with its runtime.
        let _end = CloseOnDrop(self.link.clone());
        let last = self.drive().await;
        // A peer that hung up may have said why before we could not write.
        let reason = match self.broken.take() {
            Some(broken) if !matches!(last, CloseReason::RemoteDisconnected(_)) => broken,
            _ => last,
        };
        self.link.set_stats(self.machine.stats());
        tracing::debug!(%reason, "connection is over");
        // Whoever flushes waits until the peer has it all.
        if self.flush_deadline.is_none() {
            self.link.close(reason.clone());
        }
        if let Some(why) = reason.disconnect() {
            self.say_farewell(why).await;
        }
        self.link.close(reason);
    }

    async fn drive(&mut self) -> CloseReason {
        let mut sleep = Box::pin(sleep_until(now().into()));
        let mut rounds = 0u32;
        loop {
            let moved = match self.round() {
                Ok(moved) => moved,
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
        if self.broken_until.is_some_and(|until| until <= now)
            && let Some(broken) = self.broken.clone()
        {
            return Err(broken);
        }
        for (channel, message) in self.link.take() {
            // The link has as many places as the machine, and knows the same limits, but no codes.
            if let Err(error) = self.machine.send(channel, message) {
                tracing::warn!(%error, "message was not queued");
                self.link.written(channel, 1);
            }
        }
        if self.stalled {
            // A peer that is not read from is not silent.
            self.machine.excuse(now);
        } else if self.machine.is_silent(now) {
            self.read_what_is_there(now)?;
        }
        self.machine.handle_timeout(now)?;
        let wrote = self.write(now)?;
        if let Some(reason) = flushing
            && self.output.is_empty()
            && !self.machine.is_sending()
        {
            return Err(reason);
        }
        let read = self.read(now)?;
        Ok(wrote || read)
    }

    /// Why only what waits is to be written, if so; an error ends the connection.
    fn flushing(&mut self, now: Instant) -> Result<Option<CloseReason>, CloseReason> {
        if !self.link.is_ending() {
            return Ok(None);
        }
        match self.link.state() {
            State::Open => Ok(None),
            State::Closed(reason) => Err(reason),
            State::Flushing(reason) => {
                let limit = now.checked_add(FLUSH_TIMEOUT).unwrap_or(now);
                if *self.flush_deadline.get_or_insert(limit) <= now { Err(reason) } else { Ok(Some(reason)) }
            }
        }
    }

    fn write(&mut self, now: Instant) -> Result<bool, CloseReason> {
        if self.broken.is_some() {
            return Ok(false);
        }
        if self.output.is_empty() {
            while self.output.len() < WRITE_BATCH && self.machine.is_sending() {
                let machine = &mut self.machine;
                self.writer.seal_with(&mut self.output, |out| _ = machine.poll_transmit(out))?;
            }
            if self.output.is_empty() {
                return Ok(false);
            }
            while let Some((channel, messages)) = self.machine.poll_sent() {
                self.link.written(channel, messages);
            }
        }
        let rest = self.output.get(self.written..).unwrap_or_default();
        match self.stream.try_write(rest) {
            Ok(len) => {
                self.write_since = Some(now);
                self.written = self.written.saturating_add(len);
                if self.written >= self.output.len() {
                    (self.written, self.write_since) = (0, None);
                    self.output.clear();
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if now.saturating_duration_since(*self.write_since.get_or_insert(now)) >= WRITE_TIMEOUT {
                    self.broken = Some(CloseReason::Io(io::ErrorKind::TimedOut));
                    return Err(CloseReason::Io(io::ErrorKind::TimedOut));
                }
                Ok(false)
            }
            Err(error) => {
                self.broken = Some(stream_error(error));
                (self.write_since, self.broken_until) = (None, now.checked_add(LAST_READS));
                Ok(true)
            }
        }
    }

    /// Whoever looks late finds in the stream what came in time.
    fn read_what_is_there(&mut self, now: Instant) -> Result<(), CloseReason> {
        for _ in 0..LATE_READS {
            if !self.read(now)? {
                break;
            }
        }
        Ok(())
    }

    fn read(&mut self, now: Instant) -> Result<bool, CloseReason> {
        if self.stalled {
            return Ok(false);
        }
        if self.unopened {
            self.open_and_deliver(now)?;
            return Ok(true);
        }
        let buffer = self.input.spare(self.read_size);
        let room = buffer.capacity().saturating_sub(buffer.len());
        match self.stream.try_read_buf(buffer) {
            Ok(0) if self.reader.is_mid_frame(&self.input) => Err(CloseReason::Io(io::ErrorKind::UnexpectedEof)),
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
        self.unopened = true;
        while self.unopened && !self.stalled {
            let opened = self.open_some(now);
            let machine = &mut self.machine;
            self.stalled = !self.link.deliver(std::iter::from_fn(|| machine.poll_message()));
            self.unopened = opened?;
        }
        Ok(())
    }

    /// Opens some frames; whether there may be more.
    fn open_some(&mut self, now: Instant) -> Result<bool, CloseReason> {
        let mut opened = 0usize;
        while opened < DELIVERED_AT_ONCE {
            let Some(data) = self.reader.open(&mut self.input)? else { return Ok(false) };
            opened = opened.saturating_add(data.len());
            self.machine.handle_frame(now, data)?;
        }
        Ok(true)
    }

    async fn wait(&mut self, mut sleep: Pin<&mut Sleep>) -> Result<(), CloseReason> {
        if self.output.is_empty() && self.output.capacity() > KEPT_CAPACITY {
            self.output = Vec::new();
        }
        if self.input.is_empty() {
            self.input.release();
        }
        self.machine.release();
        self.link.set_stats(self.machine.stats());
        let writing = !self.output.is_empty() && self.broken.is_none();
        let unwritten = self.write_since.and_then(|since| since.checked_add(WRITE_TIMEOUT));
        let deadlines = self
            .machine
            .poll_timeout()
            .into_iter()
            .chain(self.flush_deadline)
            .chain(self.broken_until)
            .chain(unwritten);
        let deadline = deadlines.min().unwrap_or_else(now);
        if sleep.deadline().into_std() != deadline {
            sleep.as_mut().reset(deadline.into());
        }
        tokio::select! {
            biased;
            () = self.link.work() => {}
            () = self.link.room(), if self.stalled => self.stalled = false,
            () = sleep => {}
            ready = self.stream.writable(), if writing => ready.map_err(stream_error)?,
            ready = self.stream.readable(), if !self.stalled => ready.map_err(stream_error)?,
        }
        Ok(())
    }

    /// Ends a frame that was begun, tells the peer why we hang up, and lets it hang up first.
    async fn say_farewell(&mut self, why: DisconnectReason) {
        self.machine.disconnect(why);
        let machine = &mut self.machine;
        if self.writer.seal_with(&mut self.output, |out| _ = machine.poll_transmit(out)).is_err() {
            return;
        }
        let rest = self.output.get(self.written..).unwrap_or_default();
        if matches!(timeout(FAREWELL, tcp::write_all(&self.stream, rest)).await, Ok(Ok(()))) {
            tcp::linger(&self.stream, LINGER).await;
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn stream_error(error: io::Error) -> CloseReason {
    CloseReason::Io(error.kind())
}
