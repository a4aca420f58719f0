//! When to ask a gateway or a STUN server, what of its last answer still holds, and what is news. A machine: told the time.
//!
//! ```text
//! due ──found──> held ──half of the lease, at most 10 min──> due
//!  └───failed──> waits 15 s, 30 s, … 10 min ──> due          what was held holds until its lease ends
//! ```

use std::time::{Duration, Instant};

use kadwire_discovery::discv4::ExternalEndpoint;

use super::trouble::Trouble;

/// The lease asked for. Twice the refresh: one refresh may fail, and what a killed process leaves behind is gone soon.
pub(super) const LEASE: Duration = Duration::from_secs(20 * 60);

/// The longest time between two questions: an address or a gateway may change (go-ethereum refreshes every 10 minutes too).
const REFRESH: Duration = Duration::from_secs(10 * 60);

/// The shortest, however short a lease is granted.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);

/// The wait after a first failure; it doubles up to [`REFRESH`].
const RETRY: Duration = Duration::from_secs(15);

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) endpoint: ExternalEndpoint,
    /// How long it holds; for ever without.
    pub(super) lease: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Keeper {
    due: Instant,
    failures: u32,
    held: Option<(ExternalEndpoint, Option<Instant>)>,
    trouble: Option<Trouble>,
}

impl Keeper {
    /// The first question is due at once.
    pub(super) fn new(now: Instant) -> Self {
        Keeper { due: now, failures: 0, held: None, trouble: None }
    }

    /// What holds now.
    pub(super) fn external(&self) -> Option<ExternalEndpoint> {
        self.held.map(|(endpoint, _)| endpoint)
    }

    /// When to ask.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// When what is held ends, unless it is refreshed.
    pub(super) fn poll_lease_end(&self) -> Option<Instant> {
        self.held.and_then(|(_, until)| until)
    }

    /// An answer: `true` if it is news.
    pub(super) fn handle_found(&mut self, now: Instant, found: Found) -> bool {
        let refresh = found.lease.map_or(REFRESH, |lease| (lease / 2).clamp(SHORTEST_REFRESH, REFRESH));
        let until = found.lease.map(|lease| now + lease);
        let is_news = self.external() != Some(found.endpoint) || self.trouble.is_some();
        *self = Keeper { due: now + refresh, failures: 0, held: Some((found.endpoint, until)), trouble: None };
        is_news
    }

    /// No answer, or no good one: `true` if we did not have this trouble before.
    pub(super) fn handle_failed(&mut self, now: Instant, trouble: Trouble) -> bool {
        let wait = RETRY.saturating_mul(2_u32.saturating_pow(self.failures)).min(REFRESH);
        self.failures = self.failures.saturating_add(1);
        self.due = now + wait;
        let is_news = !self.trouble.as_ref().is_some_and(|last| last.is_like(&trouble));
        self.trouble = Some(trouble);
        is_news
    }

    /// The last trouble, if there has been no success since.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Forgets what has ended: `true` if something has.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let is_over = self.poll_lease_end().is_some_and(|end| end <= now);
        if is_over {
            self.held = None;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kadwire_discovery::Now;

    const MINUTE: Duration = Duration::from_secs(60);

    fn found(ip: [u8; 4], lease: Option<Duration>) -> Found {
        Found { endpoint: ExternalEndpoint { ip: ip.into(), udp: Some(30303), tcp: [None; 2] }, lease }
    }

    fn timed_out() -> Trouble {
        Trouble::TimedOut(20)
    }

    #[test]
    fn a_lease_is_refreshed_at_half_its_time() {
        let now = Now::read().monotonic;
        for (lease, refresh) in [
            (Some(20 * MINUTE), 10 * MINUTE),
            (Some(2 * MINUTE), MINUTE),
            (Some(Duration::from_secs(1)), SHORTEST_REFRESH),
            (Some(24 * 60 * MINUTE), REFRESH),
            (None, REFRESH),
        ] {
            let mut keeper = Keeper::new(now);
            assert_eq!(keeper.poll_timeout(), now, "at once");
            assert!(keeper.handle_found(now, found([24, 0, 0, 1], lease)));
            assert_eq!(keeper.poll_timeout(), now + refresh, "{lease:?}");
            assert_eq!(keeper.poll_lease_end(), lease.map(|lease| now + lease));
        }
    }

    #[test]
    fn only_a_change_is_news() {
        let (mut keeper, now) = (Keeper::new(Now::read().monotonic), Now::read().monotonic);
        assert!(keeper.handle_found(now, found([24, 0, 0, 1], None)));
        assert!(!keeper.handle_found(now, found([24, 0, 0, 1], Some(LEASE))));
        assert!(keeper.handle_found(now, found([24, 0, 0, 2], Some(LEASE))));
        assert!(keeper.handle_failed(now, timed_out()));
        assert!(!keeper.handle_failed(now, timed_out()));
        assert!(keeper.handle_failed(now, Trouble::NoRoute), "another trouble");
        assert!(keeper.handle_found(now, found([24, 0, 0, 2], Some(LEASE))), "it works again");
    }

    #[test]
    fn what_is_held_survives_failures_until_its_lease_ends() {
        let start = Now::read().monotonic;
        let mut keeper = Keeper::new(start);
        keeper.handle_found(start, found([24, 0, 0, 1], Some(LEASE)));
        let (mut now, mut asked) = (start, 0);
        while now < start + LEASE {
            now = keeper.poll_timeout();
            if keeper.poll_lease_end().is_some_and(|end| end <= now) {
                break;
            }
            keeper.handle_failed(now, timed_out());
            assert!(!keeper.handle_timeout(now));
            assert!(keeper.external().is_some());
            asked += 1;
        }
        assert!((4..10).contains(&asked), "asked again {asked} times within the lease");
        assert!(keeper.handle_timeout(start + LEASE));
        assert_eq!((keeper.external(), keeper.poll_lease_end()), (None, None));
        assert!(!keeper.handle_timeout(start + LEASE), "once");
    }

    #[test]
    fn failures_back_off_to_ten_minutes_and_a_success_starts_over() {
        let mut now = Now::read().monotonic;
        let mut keeper = Keeper::new(now);
        let waits: Vec<_> = (0..8)
            .map(|_| {
                keeper.handle_failed(now, timed_out());
                let wait = keeper.poll_timeout() - now;
                now = keeper.poll_timeout();
                wait.as_secs()
            })
            .collect();
        assert_eq!(waits, [15, 30, 60, 120, 240, 480, 600, 600]);
        (0..100).for_each(|_| _ = keeper.handle_failed(now, timed_out()));
        keeper.handle_found(now, found([24, 0, 0, 1], None));
        keeper.handle_failed(now, timed_out());
        assert_eq!(keeper.poll_timeout(), now + RETRY);
    }
}
