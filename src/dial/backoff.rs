//! How long to leave a peer's address alone after dials to it failed. Kept per (id, address), never per id: whoever spreads a false
//! address for an honest peer then only delays the false address.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use kadwire_wire::address::{PeerAddress, PeerId};
use rand::{RngExt, rngs::StdRng};

use crate::time::FOR_EVER;

/// The first failure costs 2 s and every further one doubles it (CometBFT: 2^attempts seconds).
const BASE: Duration = Duration::from_secs(2);

/// Up to this is added at random, so that many nodes do not come back to one at the same moment (CometBFT: less than 1 s).
const JITTER_MS: u64 = 1_000;

/// Failures beyond this no longer change the delay; bounds the shift.
const MAX_DOUBLINGS: u32 = 20;

/// Addresses remembered, at about 200 bytes each. When full, the one that may be tried first is forgotten.
const MAX_ADDRESSES: usize = 8_192;

#[derive(Debug)]
struct Failing {
    failures: u32,
    retry_at: Instant,
}

/// Failed addresses and when each may be tried again.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failing: HashMap<PeerAddress, Failing>,
    order: BTreeSet<(Instant, PeerAddress)>,
    by_id: HashMap<PeerId, u32>,
}

impl Backoff {
    /// Counts one more failure and waits for twice as long plus jitter, `cap` at most.
    pub(crate) fn fail(&mut self, now: Instant, address: &PeerAddress, cap: Duration, rng: &mut StdRng) {
        let failures = self.failures(address).saturating_add(1);
        let doublings = failures.saturating_sub(1).min(MAX_DOUBLINGS);
        let jitter = Duration::from_millis(rng.random_range(0..JITTER_MS));
        self.set(now, address, failures, BASE.saturating_mul(1 << doublings).saturating_add(jitter).min(cap));
    }

    /// Counts one more failure and waits for `delay`: for what will not get better soon.
    pub(crate) fn fail_for(&mut self, now: Instant, address: &PeerAddress, delay: Duration) {
        self.set(now, address, self.failures(address).saturating_add(1), delay);
    }

    fn set(&mut self, now: Instant, address: &PeerAddress, failures: u32, delay: Duration) {
        self.clear(address);
        if self.failing.len() >= MAX_ADDRESSES
            && let Some((_, first)) = self.order.first().cloned()
        {
            self.clear(&first);
        }
        let retry_at = now + delay.min(FOR_EVER);
        self.order.insert((retry_at, address.clone()));
        self.failing.insert(address.clone(), Failing { failures, retry_at });
        let total = self.by_id.entry(address.id()).or_default();
        *total = total.saturating_add(failures);
    }

    /// Forgets the failures of an address that worked.
    pub(crate) fn clear(&mut self, address: &PeerAddress) {
        let Some(old) = self.failing.remove(address) else { return };
        self.order.remove(&(old.retry_at, address.clone()));
        if let Some(total) = self.by_id.get_mut(&address.id()) {
            *total = total.saturating_sub(old.failures);
            if *total == 0 {
                self.by_id.remove(&address.id());
            }
        }
    }

    /// How often in a row the address failed.
    pub(crate) fn failures(&self, address: &PeerAddress) -> u32 {
        self.failing.get(address).map_or(0, |failing| failing.failures)
    }

    /// The failures of all addresses of a peer, which count against its score.
    pub(crate) fn failures_of(&self, id: &PeerId) -> u32 {
        self.by_id.get(id).copied().unwrap_or(0)
    }

    /// When the address may be tried again, if it must wait.
    pub(crate) fn waits_until(&self, now: Instant, address: &PeerAddress) -> Option<Instant> {
        self.failing.get(address).map(|failing| failing.retry_at).filter(|retry_at| *retry_at > now)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.failing.len(), self.order.len());
        assert!(self.by_id.len() <= self.failing.len());
        self.failing.len()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests: a fixed base for virtual time")]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::dial::tests::address;

    #[test]
    fn the_delay_doubles_up_to_its_cap_and_success_forgets_it() {
        let (now, mut rng, mut backoff) = (Instant::now(), StdRng::seed_from_u64(1), Backoff::default());
        let cap = Duration::from_secs(300);
        for expected in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            backoff.fail(now, &address(1), cap, &mut rng);
            let delay = backoff.waits_until(now, &address(1)).unwrap() - now;
            assert!(delay >= Duration::from_secs(expected) && delay < Duration::from_secs(expected + 1), "{delay:?}");
        }
        assert_eq!((backoff.failures(&address(1)), backoff.failures_of(&address(1).id())), (10, 10));
        backoff.clear(&address(1));
        assert_eq!((backoff.waits_until(now, &address(1)), backoff.failures_of(&address(1).id())), (None, 0));
    }

    #[test]
    fn a_false_address_does_not_delay_the_true_one() {
        let (now, mut rng, mut backoff) = (Instant::now(), StdRng::seed_from_u64(1), Backoff::default());
        let elsewhere = PeerAddress::from_socket(address(1).id(), "9.9.9.9:9".parse().unwrap()).unwrap();
        backoff.fail(now, &elsewhere, Duration::MAX, &mut rng);
        assert!(backoff.waits_until(now, &elsewhere).is_some() && backoff.waits_until(now, &address(1)).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (now, mut rng, mut backoff) = (Instant::now(), StdRng::seed_from_u64(1), Backoff::default());
        for n in 0..MAX_ADDRESSES as u32 + 100 {
            backoff.fail(now, &address(n), Duration::from_secs(300), &mut rng);
        }
        assert_eq!(backoff.len(), MAX_ADDRESSES);
    }
}
