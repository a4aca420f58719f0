//! RLPx as the driver of live connections sees it: frames around the multiplexer.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::super::{
    CloseReason,
    live::{DELIVERED_AT_ONCE, Wire},
};
use crate::{
    rlpx::{FrameBuffer, FrameReader, FrameWriter, multiplex::Multiplex},
    stats::ConnectionStats,
};

/// Sealed bytes gathered for one write, as long as small frames give; a large frame is one write of its own.
const WRITE_BATCH: usize = 256 * 1024;

/// An empty write buffer of more than this is given back before a wait.
const KEPT_CAPACITY: usize = 4096;

pub(super) struct RlpxWire {
    writer: FrameWriter,
    reader: FrameReader,
    machine: Multiplex,
    output: Vec<u8>,
    input: FrameBuffer,
}

impl RlpxWire {
    pub(super) fn new(writer: FrameWriter, reader: FrameReader, input: FrameBuffer, machine: Multiplex) -> Self {
        RlpxWire { writer, reader, machine, output: Vec::new(), input }
    }

    fn seal_next(&mut self) -> Result<(), CloseReason> {
        let machine = &mut self.machine;
        Ok(self.writer.seal_with(&mut self.output, |out| _ = machine.poll_transmit(out))?)
    }
}

impl Wire for RlpxWire {
    /// One takes up to some milliseconds.
    const ROUNDS_PER_TURN: u32 = 4;

    /// go-ethereum `frameWriteTimeout`, for one frame; here any progress counts, because a batch may have many.
    const WRITE_TIMEOUT: Option<Duration> = Some(Duration::from_secs(20));

    /// A user who takes nothing would otherwise keep the connection for ever.
    const LAST_READS: Option<Duration> = Some(Duration::from_secs(5));

    fn send(&mut self, channel: u8, message: Bytes) -> Result<(), Box<dyn Error>> {
        Ok(self.machine.send(channel, message)?)
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.machine.is_silent(now)
    }

    fn handle_timeout(&mut self, now: Instant, stalled: bool) -> Result<(), CloseReason> {
        if stalled {
            // A peer that is not read from is not silent.
            self.machine.excuse(now);
        }
        Ok(self.machine.handle_timeout(now)?)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    fn is_sending(&self) -> bool {
        self.machine.is_sending()
    }

    fn seal(&mut self, _: Instant) -> Result<(), CloseReason> {
        while self.output.len() < WRITE_BATCH && self.machine.is_sending() {
            self.seal_next()?;
        }
        Ok(())
    }

    fn sealed(&self) -> &[u8] {
        &self.output
    }

    fn clear(&mut self) {
        self.output.clear();
    }

    fn poll_sent(&mut self) -> Option<(u8, usize)> {
        self.machine.poll_sent()
    }

    fn may_receive(&mut self, _: Instant) -> bool {
        true
    }

    fn spare(&mut self, room: usize) -> &mut Vec<u8> {
        self.input.spare(room)
    }

    fn is_mid_frame(&self) -> bool {
        self.reader.is_mid_frame(&self.input)
    }

    fn open(&mut self, now: Instant) -> Result<bool, CloseReason> {
        let mut opened = 0usize;
        while opened < DELIVERED_AT_ONCE {
            let Some(data) = self.reader.open(&mut self.input)? else { return Ok(false) };
            opened = opened.saturating_add(data.len());
            self.machine.handle_frame(now, data)?;
        }
        Ok(true)
    }

    fn poll_message(&mut self) -> Option<(u8, Bytes)> {
        self.machine.poll_message()
    }

    fn stats(&self) -> ConnectionStats {
        self.machine.stats()
    }

    fn release(&mut self) {
        if self.output.is_empty() && self.output.capacity() > KEPT_CAPACITY {
            self.output = Vec::new();
        }
        if self.input.is_empty() {
            self.input.release();
        }
        self.machine.release();
    }

    /// Ends a frame that was begun, and tells the peer why we hang up.
    fn say_farewell(&mut self, reason: &CloseReason, _: bool) -> bool {
        let Some(why) = reason.disconnect() else { return false };
        self.machine.disconnect(why);
        self.seal_next().is_ok()
    }
}
