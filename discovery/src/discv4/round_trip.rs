//! How long answers take, over all nodes, and how many get lost: when it is time to ask again (RFC 6298, for a crowd instead of
//! one peer), and when to give up.

use std::time::Duration;

/// Before anything is measured.
const INITIAL: Duration = Duration::from_millis(250);

/// Bounds of the wait before asking again: a busy machine on loopback, and the far side of the world.
const BOUNDS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));

/// Share of answers to repeated questions up to which silence means that nobody is there: three questions in a row get lost once
/// in 30,000 times then.
const CALM: u32 = WHOLE / 32;

/// All answers, where shares are counted.
const WHOLE: u32 = 1 << 16;

/// A smoothed mean and deviation of round trips, and a smoothed share of lost ones.
#[derive(Debug, Default)]
pub(crate) struct RoundTrip {
    mean: Duration,
    deviation: Duration,
    /// Of [`WHOLE`] answers, those to a repeated question.
    repeated: u32,
}

impl RoundTrip {
    /// A datagram was answered after `rtt`; it was the first, or one that repeated it.
    pub(crate) fn measured(&mut self, rtt: Duration, was_repeated: bool) {
        // repeated += (this - repeated) / 16
        let part_of_it = |share: u32| share.checked_div(16).unwrap_or_default();
        let this = if was_repeated { part_of_it(WHOLE) } else { 0 };
        self.repeated = self.repeated.saturating_sub(part_of_it(self.repeated)).saturating_add(this);
        if self.mean.is_zero() {
            (self.mean, self.deviation) = (rtt, half(rtt));
            return;
        }
        // deviation += (|mean - rtt| - deviation) / 4, mean += (rtt - mean) / 8
        let off = self.mean.abs_diff(rtt);
        self.deviation = part(self.deviation, 3, 4).saturating_add(part(off, 1, 4));
        self.mean = part(self.mean, 7, 8).saturating_add(part(rtt, 1, 8));
    }

    /// Whether hardly anything gets lost: who is silent then has nothing to say.
    pub(crate) fn is_calm(&self) -> bool {
        self.repeated <= CALM
    }

    /// After how long an answer is late.
    pub(crate) fn late_after(&self) -> Duration {
        let (shortest, longest) = BOUNDS;
        match self.mean {
            Duration::ZERO => INITIAL,
            mean => mean.saturating_add(self.deviation.saturating_mul(4)).clamp(shortest, longest),
        }
    }
}

fn half(duration: Duration) -> Duration {
    part(duration, 1, 2)
}

/// `numerator / denominator` of a duration.
fn part(duration: Duration, numerator: u32, denominator: u32) -> Duration {
    duration.saturating_mul(numerator).checked_div(denominator).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_loss_of_a_hundred_is_calm_and_one_of_ten_is_not() {
        let calm_after = |every: usize| {
            let mut round_trip = RoundTrip::default();
            let mut was_calm = |n| {
                round_trip.measured(ms(10), n % every == every - 1);
                round_trip.is_calm()
            };
            (0..10_000).filter(|n| was_calm(*n)).count()
        };
        assert!(calm_after(100) > 8000, "{}", calm_after(100));
        assert!(calm_after(10) < 1000, "{}", calm_after(10));
    }

    #[test]
    fn follows_the_network_within_bounds() {
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.late_after(), INITIAL);
        (0..100).for_each(|_| round_trip.measured(Duration::from_micros(200), false));
        assert_eq!(round_trip.late_after(), ms(50));
        (0..100).for_each(|n| round_trip.measured(ms(80 + 40 * (n % 2)), false));
        assert!((ms(140)..ms(240)).contains(&round_trip.late_after()), "{:?}", round_trip.late_after());
        (0..100).for_each(|_| round_trip.measured(ms(5000), false));
        assert_eq!(round_trip.late_after(), ms(400));
    }
}
