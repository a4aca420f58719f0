//! Randomness from the operating system, for keys and for the seeds of machines.

use rand::rngs::StdRng;

/// A generator seeded by the operating system. Panics if that has no randomness to give: nothing safe could go on.
#[expect(clippy::disallowed_methods, reason = "driver: where randomness comes from")]
pub(super) fn generator() -> StdRng {
    rand::make_rng()
}
