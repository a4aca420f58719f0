//! Which channel sends next: the one with the fewest recently sent bytes per priority (CometBFT `sendPacketMsg`).

use std::time::{Duration, Instant};

/// How often recently sent bytes fade (CometBFT `updateStats`).
const FADE_INTERVAL: Duration = Duration::from_secs(2);

/// What stays of them: 0.8, truncated.
const FADE: (u64, u64) = (4, 5);

/// After this many intervals nothing is left of any 64-bit number, so more need not be counted.
const MAX_FADES: u64 = 256;

/// Bytes that a channel sent lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecentlySent(u64);

impl RecentlySent {
    pub(super) fn add(&mut self, bytes: usize) {
        // Kept small enough to be multiplied by a priority and by 4.
        self.0 = self.0.saturating_add(bytes as u64).min(u64::MAX >> 8);
    }

    fn fade(&mut self) {
        self.0 = self.0.saturating_mul(FADE.0).checked_div(FADE.1).unwrap_or(0);
    }

    /// Compares bytes per priority without dividing.
    fn is_less(self, priority: u8, other: RecentlySent, other_priority: u8) -> bool {
        self.0.saturating_mul(other_priority.into()) < other.0.saturating_mul(priority.into())
    }
}

/// The index, among channels that have something to send, of the one whose turn it is. The first wins a tie.
pub(super) fn choose(candidates: impl Iterator<Item = (usize, RecentlySent, u8)>) -> Option<usize> {
    candidates
        .reduce(|best, next| if next.1.is_less(next.2, best.1, best.2) { next } else { best })
        .map(|(index, _, _)| index)
}

/// Counts the intervals after which recently sent bytes fade. No timer is needed: it is asked before each choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fading {
    faded: Instant,
}

impl Fading {
    pub(super) fn new(now: Instant) -> Self {
        Fading { faded: now }
    }

    /// Fades each channel as often as intervals have passed.
    pub(super) fn fade<'a>(&mut self, now: Instant, channels: impl Iterator<Item = &'a mut RecentlySent>) {
        let elapsed = now.saturating_duration_since(self.faded);
        if elapsed < FADE_INTERVAL {
            return;
        }
        let intervals = elapsed.as_secs().checked_div(FADE_INTERVAL.as_secs()).unwrap_or(0);
        let passed = Duration::from_secs(intervals.saturating_mul(FADE_INTERVAL.as_secs()));
        self.faded = self.faded.checked_add(passed).unwrap_or(now);
        for channel in channels {
            for _ in 0..intervals.min(MAX_FADES) {
                channel.fade();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_per_priority_decide_and_the_first_wins_a_tie() {
        let channel = |index, sent, priority| (index, RecentlySent(sent), priority);
        assert_eq!(choose([].into_iter()), None);
        assert_eq!(choose([channel(0, 100, 1), channel(1, 100, 2)].into_iter()), Some(1));
        assert_eq!(choose([channel(0, 100, 1), channel(1, 200, 2)].into_iter()), Some(0));
        assert_eq!(choose([channel(0, 101, 1), channel(1, 200, 2), channel(2, 0, 1)].into_iter()), Some(2));
        let full = RecentlySent(u64::MAX >> 8);
        assert!(!full.is_less(255, full, 255));
    }

    #[test]
    fn what_was_sent_fades_by_a_fifth_every_two_seconds() {
        #[expect(clippy::disallowed_methods, reason = "test: a fixed base for virtual time")]
        let now = Instant::now();
        let (mut fading, mut sent) = (Fading::new(now), RecentlySent(1001));
        let mut at = |ms: u64| {
            fading.fade(now + Duration::from_millis(ms), std::iter::once(&mut sent));
            sent.0
        };
        assert_eq!([at(1999), at(2000), at(3999), at(8100)], [1001, 800, 800, 409]);
        assert_eq!(at(1_000_000_000), 0);
    }
}
