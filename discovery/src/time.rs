//! The two clocks a machine is told: a monotonic one for time-outs, and the wall clock for what goes on the wire or on disk.
//!
//! Only drivers read real clocks ([`Now::read`]); machines take [`Now`] as an argument, simulations advance it by hand.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment on both clocks. Time-outs use `monotonic`, so that they survive a step of the wall clock; packet expirations and
/// stored timestamps use `wall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Never goes backwards; meaningless outside this process.
    pub monotonic: Instant,
    /// Seconds since 1970 for the wire; may jump.
    pub wall: SystemTime,
}

impl Now {
    /// Reads both clocks: for drivers and tests only.
    #[expect(clippy::disallowed_methods, reason = "driver: the one place that reads the clocks")]
    pub fn read() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// Whole seconds since 1970 by the wall clock; 0 before.
    pub fn unix_seconds(&self) -> u64 {
        self.wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// Both clocks, `duration` later. A duration that no clock can represent leaves that clock where it is.
    pub fn after(&self, duration: Duration) -> Self {
        Self {
            monotonic: self.monotonic.checked_add(duration).unwrap_or(self.monotonic),
            wall: self.wall.checked_add(duration).unwrap_or(self.wall),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_advance_together() {
        let now = Now { monotonic: Now::read().monotonic, wall: UNIX_EPOCH + Duration::from_secs(1_136_239_445) };
        assert_eq!(now.unix_seconds(), 1_136_239_445);
        let later = now.after(Duration::from_secs(20));
        assert_eq!(later.unix_seconds(), 1_136_239_465);
        assert_eq!(later.monotonic - now.monotonic, Duration::from_secs(20));
    }

    #[test]
    fn an_impossible_duration_does_not_panic() {
        let now = Now::read();
        assert_eq!(now.after(Duration::MAX).wall, now.wall);
        assert_eq!(Now { wall: UNIX_EPOCH - Duration::from_secs(5), ..now }.unix_seconds(), 0);
    }
}
