//! What happens to a packet on its way: seeded delay, jitter, reordering and loss.

use std::ops::Range;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Index, mix};

/// What every link does to packets.
#[derive(Clone, Debug)]
pub struct Links {
    /// One-way delay; each pair of nodes has its own, drawn from this range.
    pub delay: Range<Duration>,
    /// Most that is added to the delay. Changes every 10 ms, so that packets sent together mostly arrive in order.
    pub jitter: Duration,
    /// Share of packets delayed by up to 30 ms more, so that others overtake them.
    pub reordered: f64,
    /// Share of packets lost.
    pub loss: f64,
}

impl Default for Links {
    fn default() -> Links {
        Links {
            delay: Duration::from_millis(5)..Duration::from_millis(120),
            jitter: Duration::from_millis(3),
            reordered: 0.01,
            loss: 0.0,
        }
    }
}

impl Links {
    pub fn lossy(loss: f64) -> Links {
        Links { loss, ..Links::default() }
    }
}

impl Links {
    /// How long a packet sent at `now` takes; `None` if it is lost. `seed` is what the delays of the pairs follow from.
    pub(super) fn fate(&self, now: Duration, from: Index, to: Index, seed: u64, rng: &mut StdRng) -> Option<Duration> {
        if self.loss > 0.0 && rng.random_bool(self.loss) {
            return None;
        }
        let Range { start, end } = self.delay;
        let pair = ((from.min(to) as u64) << 32) | from.max(to) as u64;
        let spread = (end - start).as_nanos() as u64;
        let own = Duration::from_nanos(mix(pair, seed) % spread.max(1));
        let weather = mix(pair ^ (now.as_millis() as u64 / 10), !seed);
        let mut late = Duration::from_nanos(weather % (self.jitter.as_nanos() as u64 + 1));
        if rng.random_bool(self.reordered) {
            late += Duration::from_millis(rng.random_range(0..30));
        }
        Some(start + own + late)
    }
}
