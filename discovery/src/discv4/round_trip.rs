//! How long answers take, over all nodes: when it is time to ask again (RFC 6298, for a crowd instead of one peer).

use std::time::Duration;

/// Before anything is measured.
const INITIAL: Duration = Duration::from_millis(250);

/// Bounds of the wait before asking again: a busy machine on loopback, and the far side of the world.
const BOUNDS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));

/// A smoothed mean and deviation of round trips.
#[derive(Debug, Default)]
pub(crate) struct RoundTrip {
    mean: Duration,
    deviation: Duration,
}

impl RoundTrip {
    /// A datagram was answered after `rtt`.
    pub(crate) fn measured(&mut self, rtt: Duration) {
        if self.mean.is_zero() {
            (self.mean, self.deviation) = (rtt, half(rtt));
            return;
        }
        // deviation += (|mean - rtt| - deviation) / 4, mean += (rtt - mean) / 8
        let off = self.mean.abs_diff(rtt);
        self.deviation = part(self.deviation, 3, 4).saturating_add(part(off, 1, 4));
        self.mean = part(self.mean, 7, 8).saturating_add(part(rtt, 1, 8));
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
    fn follows_the_network_within_bounds() {
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.late_after(), INITIAL);
        (0..100).for_each(|_| round_trip.measured(Duration::from_micros(200)));
        assert_eq!(round_trip.late_after(), ms(50));
        (0..100).for_each(|n| round_trip.measured(ms(80 + 40 * (n % 2))));
        assert!((ms(140)..ms(240)).contains(&round_trip.late_after()), "{:?}", round_trip.late_after());
        (0..100).for_each(|_| round_trip.measured(ms(5000)));
        assert_eq!(round_trip.late_after(), ms(400));
    }
}
