//! A limit in bytes per second, on whatever time the caller has.

use std::time::{Duration, Instant};

/// Credit that may gather, as a part of one second's: CometBFT's flow-rate monitor samples every 100 ms.
const BURST_PER_SECOND: u128 = 10;

/// When all credit is used, the least that is waited for, as a part of one second's: 10 ms keeps writes large.
const QUANTUM_PER_SECOND: u128 = 100;

/// Nanoseconds in a second: credit is counted in bytes × this, so that nothing is lost to rounding.
const UNIT: u128 = 1_000_000_000;

/// A token bucket. What is spent may exceed the credit; the debt is then waited for.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    /// Bytes per second; 0 is no limit.
    per_second: u64,
    credit: i128,
    exhausted: bool,
    updated: Instant,
}

impl Rate {
    pub(super) fn new(per_second: u64, now: Instant) -> Self {
        let mut rate = Rate { per_second, credit: 0, exhausted: false, updated: now };
        rate.credit = rate.part_of_second(BURST_PER_SECOND);
        rate
    }

    /// Whether something may be spent now.
    pub(super) fn is_available(&mut self, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let elapsed = now.saturating_duration_since(self.updated);
        self.updated = self.updated.max(now);
        let gained = u128::from(self.per_second).saturating_mul(elapsed.as_nanos());
        self.credit = self.credit.saturating_add_unsigned(gained).min(self.part_of_second(BURST_PER_SECOND));
        if self.credit >= self.part_of_second(QUANTUM_PER_SECOND) {
            self.exhausted = false;
        }
        !self.exhausted
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        if self.per_second == 0 {
            return;
        }
        let cost = (bytes as u128).saturating_mul(UNIT);
        self.credit = self.credit.saturating_sub_unsigned(cost);
        if self.credit <= 0 {
            self.exhausted = true;
        }
    }

    /// When something may be spent again; `None` if it may be now.
    pub(super) fn available_at(&self) -> Option<Instant> {
        if !self.exhausted {
            return None;
        }
        let missing = self.part_of_second(QUANTUM_PER_SECOND).saturating_sub(self.credit).unsigned_abs();
        let wait = missing.div_ceil(u128::from(self.per_second.max(1)));
        let wait = Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX));
        Some(self.updated.checked_add(wait).unwrap_or(self.updated))
    }

    fn part_of_second(&self, part: u128) -> i128 {
        let credit = u128::from(self.per_second).saturating_mul(UNIT).checked_div(part).unwrap_or(0);
        i128::try_from(credit).unwrap_or(i128::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "test: a fixed base for virtual time")]
        Instant::now()
    }

    #[test]
    fn zero_is_no_limit() {
        let now = start();
        let mut rate = Rate::new(0, now);
        rate.spend(usize::MAX);
        assert!(rate.is_available(now) && rate.available_at().is_none());
    }

    #[test]
    fn a_burst_of_a_tenth_of_a_second_then_the_rate() {
        let now = start();
        let mut rate = Rate::new(1000, now);
        rate.spend(100);
        assert!(!rate.is_available(now));
        assert_eq!(rate.available_at(), Some(now + Duration::from_millis(10)));
        assert!(!rate.is_available(now + Duration::from_micros(9_999)));
        assert!(rate.is_available(now + Duration::from_millis(10)));
        // A debt of half a second, and ten milliseconds more.
        rate.spend(510);
        assert_eq!(rate.available_at(), Some(now + Duration::from_millis(520)));
        // Credit does not grow while nothing is sent.
        assert!(rate.is_available(now + Duration::from_secs(1000)));
        rate.spend(100);
        assert!(!rate.is_available(now + Duration::from_secs(1000)));
        // A clock that goes back changes nothing.
        assert!(!rate.is_available(now));
    }

    proptest! {
        #[test]
        fn over_time_the_rate_is_kept(per_second in 1u64..10_000_000, sizes in proptest::collection::vec(1usize..70_000, 1..50)) {
            let begin = start();
            let mut now = begin;
            let mut rate = Rate::new(per_second, now);
            let mut spent = 0u128;
            for size in &sizes {
                if let Some(at) = rate.available_at() {
                    now = now.max(at);
                }
                prop_assert!(rate.is_available(now));
                rate.spend(*size);
                spent += *size as u128;
            }
            let allowed = u128::from(per_second) * ((now - begin).as_nanos() + UNIT / 10) / UNIT;
            prop_assert!(spent <= allowed + *sizes.last().unwrap() as u128 + 1);
        }
    }
}
