//! Tendermint's wire as the driver of live connections sees it: MConnection's packets in SecretConnection's frames.

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
    stats::ConnectionStats,
    tendermint::{
        mconnection::{MConnection, MConnectionError},
        secret_connection::{DATA_SIZE, OpenBuffer, Opener, SealBuffer, Sealer, Secured},
    },
};

/// Plaintext gathered for one write: 380 frames, so that with the last packet's excess a write stays within 384 sealed frames, which is what
/// one read takes. With a send rate set, a write has what the rate allows at the moment, which is less.
const WRITE_BATCH: usize = 380 * DATA_SIZE;

pub(super) struct TendermintWire {
    sealer: Sealer,
    opener: Opener,
    machine: MConnection,
    output: SealBuffer,
    input: OpenBuffer,
}

impl TendermintWire {
    pub(super) fn new(secured: Secured, machine: MConnection) -> Self {
        let Secured { sealer, opener, received, .. } = secured;
        TendermintWire { sealer, opener, machine, output: SealBuffer::default(), input: received }
    }
}

impl Wire for TendermintWire {
    const ROUNDS_PER_TURN: u32 = 32;

    /// No pong comes for a ping that cannot be written.
    const WRITE_TIMEOUT: Option<Duration> = None;

    /// The same.
    const LAST_READS: Option<Duration> = None;

    fn send(&mut self, channel: u8, message: Bytes) -> Result<(), Box<dyn Error>> {
        Ok(self.machine.send(channel, message)?)
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.machine.is_pong_late(now)
    }

    fn handle_timeout(&mut self, now: Instant, stalled: bool) -> Result<(), CloseReason> {
        match self.machine.handle_timeout(now) {
            Err(MConnectionError::PongTimeout) if stalled => Err(CloseReason::ReceiverStalled),
            result => Ok(result?),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    fn is_sending(&self) -> bool {
        self.machine.is_sending()
    }

    fn seal(&mut self, now: Instant) -> Result<(), CloseReason> {
        self.machine.poll_transmit(now, &mut self.output, WRITE_BATCH);
        Ok(self.output.seal(&mut self.sealer)?)
    }

    fn sealed(&self) -> &[u8] {
        self.output.sealed()
    }

    fn clear(&mut self) {
        self.output.clear();
    }

    fn poll_sent(&mut self) -> Option<(u8, usize)> {
        self.machine.poll_sent()
    }

    fn may_receive(&mut self, now: Instant) -> bool {
        self.machine.may_receive(now)
    }

    fn spare(&mut self, room: usize) -> &mut Vec<u8> {
        self.input.spare(room)
    }

    fn is_mid_frame(&self) -> bool {
        self.input.is_mid_frame()
    }

    fn open(&mut self, now: Instant) -> Result<bool, CloseReason> {
        let opened = self.input.open(&mut self.opener);
        let plaintext = self.input.plaintext();
        // If this is the end, all that came before it.
        let some = plaintext.get(..DELIVERED_AT_ONCE).filter(|_| opened.is_ok()).unwrap_or(plaintext);
        let (len, handled) = (some.len(), self.machine.handle_bytes(now, some));
        self.input.consume(len);
        handled?;
        opened?;
        Ok(!self.input.plaintext().is_empty())
    }

    fn poll_message(&mut self) -> Option<(u8, Bytes)> {
        self.machine.poll_message()
    }

    fn stats(&self) -> ConnectionStats {
        self.machine.stats()
    }

    fn release(&mut self) {
        if self.output.is_empty() {
            self.output.release();
        }
        if self.input.plaintext().is_empty() {
            self.input.release();
        }
    }

    /// There are no last words, but who flushed wants all of it to arrive.
    fn say_farewell(&mut self, _: &CloseReason, flushed: bool) -> bool {
        flushed && self.output.is_empty()
    }
}
