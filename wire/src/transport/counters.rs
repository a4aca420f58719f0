//! What a transport counts: its handshakes run beside each other and beside whoever asks.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use super::{Direction, HandshakeError, lock};
use crate::stats::TransportStats;

#[derive(Debug, Default)]
pub(super) struct Counters {
    stats: Mutex<TransportStats>,
    // Every read and write counts: without a lock.
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counters {
    pub(super) fn stats(&self) -> TransportStats {
        let [bytes_received, bytes_sent] = [&self.received, &self.sent].map(|bytes| bytes.load(Ordering::Relaxed));
        TransportStats { bytes_received, bytes_sent, ..*lock(&self.stats) }
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A handshake is about to begin, or a dial before it.
    pub(super) fn begun(&self, direction: Direction) {
        let stats = &mut *lock(&self.stats);
        bump(match direction {
            Direction::Inbound => &mut stats.accepted,
            Direction::Outbound => &mut stats.dialed,
        });
    }

    /// How a handshake ended.
    pub(super) fn ended<T>(&self, direction: Direction, result: &Result<T, HandshakeError>) {
        let stats = &mut *lock(&self.stats);
        match (result, direction) {
            (Ok(_), Direction::Inbound) => bump(&mut stats.accepts_completed),
            (Ok(_), Direction::Outbound) => bump(&mut stats.dials_completed),
            (Err(error), _) => stats.count_failure(error.blame()),
        }
    }
}

fn bump(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
