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

/// Later than this, or this far from the other clock, and the machine stood still or a clock was set: answers may have come
/// and gone meanwhile.
const STOOD_STILL: Duration = Duration::from_secs(2);

/// The moment up to which both clocks have been watched: shows whether the machine slept, or a clock was set. On most systems
/// monotonic clocks, and with them timers, stand still while a machine is suspended; the wall clock does not.
#[derive(Debug)]
pub struct Watched(Now);

impl Watched {
    /// Watches from now on.
    pub fn new(now: Now) -> Watched {
        Watched(now)
    }

    /// Whether time went on without this machine, or one clock without the other, since the last call. `due` is when the
    /// machine had asked to be woken.
    pub fn has_jumped(&mut self, now: Now, due: Option<Instant>) -> bool {
        let before = std::mem::replace(&mut self.0, now);
        let passed = now.monotonic.saturating_duration_since(before.monotonic);
        let expected = before.wall.checked_add(passed).unwrap_or(before.wall);
        let off = now.wall.duration_since(expected).unwrap_or_else(|error| error.duration());
        let late = due.map_or(Duration::ZERO, |due| now.monotonic.saturating_duration_since(due));
        off > STOOD_STILL || late > STOOD_STILL
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

    #[test]
    fn standing_still_and_being_set_are_noticed_and_time_that_passes_is_not() {
        let start = Now::read();
        let mut watched = Watched::new(start);
        let mut now = start.after(Duration::from_secs(3600));
        assert!(!watched.has_jumped(now, Some(now.monotonic)), "woken when it wanted to be");
        assert!(watched.has_jumped(now.after(Duration::from_secs(3)), Some(now.monotonic)), "three seconds late");
        now = now.after(Duration::from_secs(3));
        for wall in [now.wall + Duration::from_secs(60), start.wall, UNIX_EPOCH] {
            now.wall = wall;
            assert!(watched.has_jumped(now, None));
            assert!(!watched.has_jumped(now, None), "once");
        }
    }
}
