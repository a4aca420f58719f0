//! Plain counters of the discv4 machine. Drivers publish them; nothing is decided by them.

use super::Rejected;
use super::message::Kind;

/// One counter for each kind of message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerKind([u64; 6]);

impl PerKind {
    /// The count for one kind.
    pub fn get(&self, kind: Kind) -> u64 {
        self.0.get(index(kind)).copied().unwrap_or(0)
    }

    /// All kinds together.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(crate) fn add(&mut self, kind: Kind) {
        if let Some(count) = self.0.get_mut(index(kind)) {
            *count = count.saturating_add(1);
        }
    }
}

fn index(kind: Kind) -> usize {
    usize::from(kind as u8).saturating_sub(1)
}

/// What the machine has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets accepted and acted on.
    pub received: PerKind,
    /// Packets given out to be sent.
    pub sent: PerKind,
    /// Packets refused, by the first reason found.
    pub rejected: RejectedCounts,
    /// Requests that brought an answer.
    pub requests_answered: u64,
    /// Requests that did not, in time.
    pub requests_timed_out: u64,
    /// Requests not made because too many were under way.
    pub requests_refused: u64,
    /// Requests not made and packets not sent because their address is out of reach: not allowed, or of a family that our
    /// socket does not speak.
    pub sends_withheld: u64,
    /// Answers not given because the sending queue was full.
    pub replies_dropped: u64,
    /// Pings not sent back because their address does not answer pings.
    pub ping_backs_withheld: u64,
    /// Neighbour entries refused: own id, bad key, low port, an address the sender may not speak of.
    pub neighbors_refused: u64,
    /// Lookups started.
    pub lookups: u64,
    /// Nodes found by a walk and not handed out, since there were too many of their network or from one hand.
    pub candidates_refused: u64,
}

/// Packets refused, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RejectedCounts([u64; Rejected::COUNT]);

impl RejectedCounts {
    /// The count for one reason.
    pub fn get(&self, reason: Rejected) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// All reasons together.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(crate) fn add(&mut self, reason: Rejected) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }
}
