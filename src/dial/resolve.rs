//! How often discovery is asked where one of the operator's peers is: a lookup costs many packets, and a peer that is gone would cost one
//! for every dial.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kadwire_wire::address::PeerId;

/// A peer is not looked for again within this time (dial.go, `initialResolveDelay`).
const FIRST_DELAY: Duration = Duration::from_secs(60);

/// Each time it is not found the delay doubles, up to this (dial.go, `maxResolveDelay`).
const MAX_DELAY: Duration = Duration::from_secs(60 * 60);

/// Who was looked for. As many as the operator names.
#[derive(Debug, Default)]
pub(super) struct Resolving(BTreeMap<PeerId, Asked>);

#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Instant,
    delay: Duration,
}

impl Resolving {
    /// Whether `id` may be looked for now, and notes it if so.
    pub(super) fn ask(&mut self, now: Instant, id: &PeerId) -> bool {
        let known = self.0.get(id).copied();
        if known.is_some_and(|asked| now < asked.at + asked.delay) {
            return false;
        }
        let delay = known.map_or(FIRST_DELAY, |asked| asked.delay);
        self.0.insert(*id, Asked { at: now, delay });
        true
    }

    /// The lookup is over: the delay counts from now, as that of the dialer whose lookups take no time.
    pub(super) fn answered(&mut self, now: Instant, id: &PeerId, found: bool) {
        if let Some(asked) = self.0.get_mut(id) {
            asked.at = now;
            asked.delay = if found { FIRST_DELAY } else { (asked.delay * 2).min(MAX_DELAY) };
        }
    }

    /// When it may be looked for again.
    pub(super) fn next(&self, id: &PeerId) -> Option<Instant> {
        self.0.get(id).map(|asked| asked.at + asked.delay)
    }

    pub(super) fn forget(&mut self, id: &PeerId) {
        self.0.remove(id);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests: a fixed base for virtual time")]
mod tests {
    use super::*;
    use crate::dial::tests::id;

    #[test]
    fn a_peer_that_is_not_found_is_looked_for_after_1_2_4_minutes_and_then_every_hour() {
        let (mut now, mut resolving) = (Instant::now(), Resolving::default());
        assert!(resolving.ask(now, &id(1)) && resolving.ask(now, &id(2)) && !resolving.ask(now, &id(1)));
        for minutes in [2, 4, 8, 16, 32, 60, 60] {
            resolving.answered(now, &id(1), false);
            now += Duration::from_secs(minutes * 60 - 1);
            assert!(!resolving.ask(now, &id(1)), "before {minutes} min");
            now += Duration::from_secs(1);
            assert_eq!(resolving.next(&id(1)), Some(now));
            assert!(resolving.ask(now, &id(1)), "after {minutes} min");
        }
        resolving.answered(now, &id(1), true);
        assert!(!resolving.ask(now + Duration::from_secs(59), &id(1)));
        assert!(resolving.ask(now + Duration::from_secs(60), &id(1)), "it was found: as at the beginning");
        resolving.forget(&id(1));
        assert!(resolving.ask(now, &id(1)));
    }
}
