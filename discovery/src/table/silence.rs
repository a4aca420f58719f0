//! Whether nobody at all answers: then the fault is ours (no network, a wrong clock, a machine just woken), and those who
//! were alive are not forgotten for it.
//!
//! go-ethereum forgets its whole table within minutes without a network. One answer of anybody ends the silence, so that
//! nobody can keep the dead in a table by being silent himself.

use std::time::{Duration, Instant};

/// Checks missed in a row, whomever they were of, that make a silence. In a network where every third check is missed,
/// that many come once in 6,500 checks, and then cost nothing but a delay.
const MISSES: u32 = 8;

/// How long a silence is taken for our own fault. A router is replaced within half an hour; and if everybody else is
/// gone for good, their places must become free.
const TRUSTED: Duration = Duration::from_secs(30 * 60);

/// The misses since the last answer.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    misses: u32,
    since: Option<Instant>,
}

impl Silence {
    /// Somebody has answered.
    pub(crate) fn broken(&mut self) {
        *self = Silence::default();
    }

    /// A check was missed.
    pub(crate) fn missed(&mut self, now: Instant) {
        self.misses = self.misses.saturating_add(1);
        self.since = self.since.or(Some(now));
    }

    /// Whether what is missed now says nothing about the others.
    pub(crate) fn is_ours(&self, now: Instant) -> bool {
        let is_fresh = self.since.is_some_and(|since| now.saturating_duration_since(since) < TRUSTED);
        self.misses >= MISSES && is_fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_misses_in_a_row_are_our_own_fault_for_half_an_hour() {
        let (start, mut silence) = (crate::Now::read().monotonic, Silence::default());
        for _ in 0..7 {
            silence.missed(start);
            assert!(!silence.is_ours(start));
        }
        silence.missed(start);
        assert!(silence.is_ours(start + TRUSTED - Duration::from_secs(1)));
        assert!(!silence.is_ours(start + TRUSTED), "they are gone");
        silence.broken();
        silence.missed(start);
        assert!(!silence.is_ours(start), "one answer, and it begins anew");
    }
}
