//! A live connection over TCP: one task that owns the stream and its [`Wire`], and joins them to the link. The same for both wires.
//!
//! Each round it takes what is to be sent, writes one batch, reads one batch; it waits only when neither moved. Buffers grow to the traffic
//! and are given back when it stops, so that an idle connection holds none.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::time::{Sleep, sleep_until};

use super::{
    CloseReason,
    link::{CloseOnDrop, Link, State},
    stream::Stream,
    tcp,
};
use crate::stats::ConnectionStats;

/// The first read buffer after a pause.
const MIN_READ: usize = 4096;

/// The largest read at once. Six times 64 KB saves an eighth of the processor time: fewer system calls, and fewer wake-ups of the peer.
const MAX_READ: usize = 384 * 1024;

/// Plaintext that a wire turns into messages before it is asked again whether the user has room: the smallest message has a few bytes and
/// takes ten times that.
pub(super) const DELIVERED_AT_ONCE: usize = 64 * 1024;

/// Reads of one who looks late, before the peer is called silent: more than the buffers of most systems.
const LATE_READS: u32 = 32;

/// What is still to be written gets this long after a request to flush and close (CometBFT `defaultSendTimeout`).
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// After our last byte, the peer may hang up for this long (`rlpx.md`, "Disconnect": "should wait 2 seconds").
const LINGER: Duration = Duration::from_secs(2);

/// What the driver asks of a wire: its machine between its ciphers, with the buffers of both. Methods that machines have too mean the same.
pub(super) trait Wire: Send + Sync + 'static {
    /// Rounds after which other tasks get a turn, even if this one never had to wait.
    const ROUNDS_PER_TURN: u32;

    /// A peer that takes not a byte of what is to be written for this long is given up. Without it, that is the machine's business.
    const WRITE_TIMEOUT: Option<Duration>;

    /// Once nothing can be written any more, what the peer sent before may be read for this long. Without it, the machine ends that.
    const LAST_READS: Option<Duration>;

    fn send(&mut self, channel: u8, message: Bytes) -> Result<(), Box<dyn Error>>;

    /// Whether [`handle_timeout`](Self::handle_timeout) would now call the peer silent.
    fn is_silent(&self, now: Instant) -> bool;

    /// While `stalled`, nothing is read, because our own user takes no messages.
    fn handle_timeout(&mut self, now: Instant, stalled: bool) -> Result<(), CloseReason>;

    fn poll_timeout(&self) -> Option<Instant>;

    fn is_sending(&self) -> bool;

    /// Seals one batch of what waits, if anything does. Called when nothing is sealed.
    fn seal(&mut self, now: Instant) -> Result<(), CloseReason>;

    /// What was sealed, as it goes to the stream.
    fn sealed(&self) -> &[u8];

    /// All that was sealed is written.
    fn clear(&mut self);

    fn poll_sent(&mut self) -> Option<(u8, usize)>;

    /// Whether more may be read now. If not, [`poll_timeout`](Self::poll_timeout) says when.
    fn may_receive(&mut self, now: Instant) -> bool;

    /// Where to append what comes, with room for at least so much.
    fn spare(&mut self, room: usize) -> &mut Vec<u8>;

    /// Whether the stream must not end here.
    fn is_mid_frame(&self) -> bool;

    /// Turns about [`DELIVERED_AT_ONCE`] bytes of what came into messages; whether there may be more. At an error, those that came before it
    /// can be polled.
    fn open(&mut self, now: Instant) -> Result<bool, CloseReason>;

    fn poll_message(&mut self) -> Option<(u8, Bytes)>;

    fn stats(&self) -> ConnectionStats;

    /// Gives back the memory that only a busy connection needs.
    fn release(&mut self);

    /// Seals the last words, behind what was not written yet; whether the peer is to have all of it before we hang up. `flushed` says that
    /// this was asked for.
    fn say_farewell(&mut self, reason: &CloseReason, flushed: bool) -> bool;
}

pub(super) struct Live<W> {
    stream: Stream,
    wire: W,
    link: Arc<Link>,
    /// Bytes of what is sealed that the stream has taken.
    written: usize,
    /// When the stream last took some, while there are more.
    write_since: Option<Instant>,
    read_size: usize,
    /// What was read may have whole frames that are not opened.
    unopened: bool,
    /// The user's inbox is full: nothing is read.
    stalled: bool,
    /// Why nothing can be written any more. What the peer sent before that is still read, to the end of the stream.
    broken: Option<CloseReason>,
    /// When that ends too.
    broken_until: Option<Instant>,
    flush_deadline: Option<Instant>,
}

impl<W: Wire> Live<W> {
    pub(super) fn new(stream: Stream, wire: W, link: Arc<Link>) -> Self {
        Live {
            stream,
            wire,
            link,
            written: 0,
            write_since: None,
            read_size: MIN_READ,
            // What came with the last bytes of the handshake.
            unopened: true,
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
        self.link.set_stats(self.wire.stats());
        tracing::debug!(%reason, "connection is over");
        // Whoever flushes waits until the peer has it all.
        let flushed = self.flush_deadline.is_some();
        if !flushed {
            self.link.close(reason.clone());
        }
        if self.wire.say_farewell(&reason, flushed) {
            let rest = self.wire.sealed().get(self.written..).unwrap_or_default();
            tcp::say_farewell(&self.stream, rest, LINGER).await;
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
            if rounds.is_multiple_of(W::ROUNDS_PER_TURN) {
                // Whoever judges a connection by what it carries must not think that a busy one stands still.
                self.link.set_stats(self.wire.stats());
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
            // The link has as many places as the machine, and knows the same channels, codes and limits.
            if let Err(error) = self.wire.send(channel, message) {
                tracing::warn!(%error, "message was not queued");
                self.link.written(channel, 1);
            }
        }
        if !self.stalled && self.wire.is_silent(now) {
            self.read_what_is_there(now)?;
        }
        self.wire.handle_timeout(now, self.stalled)?;
        let wrote = self.write(now)?;
        if let Some(reason) = flushing
            && self.wire.sealed().is_empty()
            && !self.wire.is_sending()
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
        if self.wire.sealed().is_empty() {
            self.wire.seal(now)?;
            if self.wire.sealed().is_empty() {
                return Ok(false);
            }
            while let Some((channel, messages)) = self.wire.poll_sent() {
                self.link.written(channel, messages);
            }
        }
        let rest = self.wire.sealed().get(self.written..).unwrap_or_default();
        match self.stream.try_write(rest) {
            Ok(len) if len == rest.len() => {
                self.wire.clear();
                (self.written, self.write_since) = (0, None);
                Ok(true)
            }
            Ok(len) => {
                self.written = self.written.saturating_add(len);
                self.write_since = Some(now);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let waited = now.saturating_duration_since(*self.write_since.get_or_insert(now));
                if W::WRITE_TIMEOUT.is_some_and(|limit| limit <= waited) {
                    let reason = CloseReason::Io(io::ErrorKind::TimedOut);
                    self.broken = Some(reason.clone());
                    return Err(reason);
                }
                Ok(false)
            }
            Err(error) => {
                self.broken = Some(stream_error(error));
                self.broken_until = W::LAST_READS.and_then(|limit| now.checked_add(limit));
                self.write_since = None;
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
        if self.stalled || !self.wire.may_receive(now) {
            return Ok(false);
        }
        if self.unopened {
            self.open_and_deliver(now)?;
            return Ok(true);
        }
        let buffer = self.wire.spare(self.read_size);
        let room = buffer.capacity().saturating_sub(buffer.len());
        match self.stream.try_read_buf(buffer) {
            Ok(0) if self.wire.is_mid_frame() => Err(CloseReason::Io(io::ErrorKind::UnexpectedEof)),
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

    /// Opens the frames that are whole, and delivers what the user has room for. What came before an error is delivered before the error is
    /// returned.
    fn open_and_deliver(&mut self, now: Instant) -> Result<(), CloseReason> {
        self.unopened = true;
        while self.unopened && !self.stalled {
            let opened = self.wire.open(now);
            let wire = &mut self.wire;
            self.stalled = !self.link.deliver(std::iter::from_fn(|| wire.poll_message()));
            self.unopened = opened?;
        }
        Ok(())
    }

    async fn wait(&mut self, mut sleep: Pin<&mut Sleep>) -> Result<(), CloseReason> {
        self.wire.release();
        self.link.set_stats(self.wire.stats());
        let now = now();
        let reading = !self.stalled && self.wire.may_receive(now);
        let writing = !self.wire.sealed().is_empty() && self.broken.is_none();
        let unwritten = W::WRITE_TIMEOUT.and_then(|limit| self.write_since?.checked_add(limit));
        let ours = [self.flush_deadline, self.broken_until, unwritten];
        let deadline = ours.into_iter().flatten().chain(self.wire.poll_timeout()).min().unwrap_or(now);
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
