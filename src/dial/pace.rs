//! How many dials start in a second.

use std::time::{Duration, Instant};

/// At most so many dials a second, in the long run, as may be under way at once. A refused dial frees its place within a millisecond;
/// without a pace, a book full of dead addresses would be walked at the speed of the wire.
#[derive(Debug)]
pub(super) struct Pace {
    /// Time that one dial costs.
    step: Duration,
    /// Dials that may start at once after a rest.
    burst: u32,
    /// When the dials made so far are paid for.
    paid_at: Option<Instant>,
}

impl Pace {
    pub(super) fn new(per_second: usize) -> Self {
        let burst = u32::try_from(per_second).unwrap_or(u32::MAX).max(1);
        Pace { step: Duration::from_secs(1) / burst, burst: burst.saturating_mul(2), paid_at: None }
    }

    pub(super) fn allows(&self, now: Instant) -> bool {
        self.allows_at().is_none_or(|at| at <= now)
    }

    pub(super) fn allows_at(&self) -> Option<Instant> {
        self.paid_at.and_then(|at| at.checked_sub(self.step * (self.burst - 1)))
    }

    pub(super) fn pay(&mut self, now: Instant) {
        self.paid_at = Some(self.paid_at.map_or(now, |at| at.max(now)) + self.step);
    }
}
