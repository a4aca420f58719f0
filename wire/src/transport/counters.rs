//! What a transport counts: its handshakes run beside each other and beside whoever asks.

use std::sync::Mutex;

use super::{Direction, HandshakeError, lock};
use crate::stats::TransportStats;

#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<TransportStats>);

impl Counters {
    pub(super) fn stats(&self) -> TransportStats {
        *lock(&self.0)
    }

    /// A handshake is about to begin, or a dial before it.
    pub(super) fn begun(&self, direction: Direction) {
        let stats = &mut *lock(&self.0);
        bump(match direction {
            Direction::Inbound => &mut stats.accepted,
            Direction::Outbound => &mut stats.dialed,
        });
    }

    /// How a handshake ended.
    pub(super) fn ended<T>(&self, direction: Direction, result: &Result<T, HandshakeError>) {
        let stats = &mut *lock(&self.0);
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
