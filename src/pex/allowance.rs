//! How often one peer may ask for addresses: CometBFT's interval, with room for honest clients that break it.
//!
//! A leaky bucket (GCRA): each answered request costs [`INTERVAL`], up to [`BURST`] of them may be owed at once.

use std::time::{Duration, Instant};

/// One answer is earned in this time. CometBFT demands 10 s (a third of its ensure period); a fifth less forgives
/// a request that was held up on its way while the next one was not.
const INTERVAL: Duration = Duration::from_secs(8);

/// Requests answered at once. CometBFT gives each peer two free passes before it counts; the third is the one counted.
const BURST: u32 = 3;

/// Requests above the rate before the peer is said to insist. CometBFT's own clients go above it when several things
/// make them ask at once (cometbft #4620), then wait again: each answered request forgives one.
const PATIENCE: u32 = 8;

/// What to do about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Within the rate.
    Answer,
    /// Above the rate: no answer, no harm.
    Ignore,
    /// Above the rate again and again: misbehaviour.
    Insists,
}

/// What one peer has used up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// When everything answered so far will be earned.
    earned_at: Instant,
    excess: u32,
}

impl Allowance {
    /// A full allowance.
    pub(super) fn new(now: Instant) -> Self {
        Self { earned_at: now, excess: 0 }
    }

    /// Judges a request that came now.
    pub(super) fn request(&mut self, now: Instant) -> Verdict {
        let owed = self.earned_at.saturating_duration_since(now) + INTERVAL;
        if owed <= INTERVAL * BURST {
            self.earned_at = now + owed;
            self.excess = self.excess.saturating_sub(1);
            return Verdict::Answer;
        }
        self.excess += 1;
        if self.excess < PATIENCE {
            return Verdict::Ignore;
        }
        // Said once per PATIENCE requests: the peer is about to go.
        self.excess = 0;
        Verdict::Insists
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(times: impl IntoIterator<Item = u64>) -> Vec<Verdict> {
        #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        times.into_iter().map(|ms| allowance.request(start + Duration::from_millis(ms))).collect()
    }

    #[test]
    fn an_honest_cometbft_peer_is_always_answered() {
        // The free passes at once, then CometBFT's minimum of 10 s; and its ordinary 30 s.
        assert!(
            requests([0, 0, 0].into_iter().chain((1..100).map(|n| n * 10_000))).iter().all(|v| *v == Verdict::Answer)
        );
        assert!(requests((0..100).map(|n| n * 30_000)).iter().all(|v| *v == Verdict::Answer));
        // One request held up for two seconds on the way.
        assert!(requests([0, 12_000, 20_000, 30_000, 42_000, 50_000]).iter().all(|v| *v == Verdict::Answer));
    }

    #[test]
    fn a_burst_is_ignored_and_forgiven() {
        // Six at once every minute: three are answered, three ignored, and never more comes of it.
        let verdicts = requests((0..50).flat_map(|minute| [minute * 60_000; 6]));
        assert!(!verdicts.contains(&Verdict::Insists));
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Answer).count(), 150);
    }

    #[test]
    fn insisting_is_misbehaviour() {
        // Tendermint v0.35's shortest interval, 200 ms.
        let verdicts = requests((0..20).map(|n| n * 200));
        assert_eq!(verdicts.iter().position(|v| *v == Verdict::Insists), Some(10));
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Answer).count(), 3);
    }
}
