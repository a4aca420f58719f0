//! When to ask a gateway or a STUN server, what of its last answer still holds, and what is news. A machine: told the time.
//!
//! ```text
//! due ──found──> held ──half of the lease, at most 10 min──> due
//!  └───failed──> waits 15 s, 30 s, … 10 min ──> due          what was held holds until its lease ends
//! any of them ──the machine slept, or a clock was set──> due  an attempt that was under way says nothing of what is now
//! ```

use std::time::{Duration, Instant};

use kadwire_discovery::{Now, Watched, discv4::ExternalEndpoint};

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

/// How often the clocks are looked at. Timers stand still while a machine is suspended, and mappings end: one of ten minutes
/// would go off up to ten minutes after it woke up.
const LOOK: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Keeper {
    watched: Watched,
    next_look: Instant,
    due: Instant,
    /// An attempt is under way.
    is_asked: bool,
    /// It was when the machine slept.
    is_stale: bool,
    failures: u32,
    held: Option<(ExternalEndpoint, Option<Instant>)>,
    trouble: Option<Trouble>,
}

impl Keeper {
    /// The first question is due at once.
    pub(super) fn new(now: Now) -> Self {
        Keeper {
            watched: Watched::new(now),
            next_look: now.after(LOOK).monotonic,
            due: now.monotonic,
            is_asked: false,
            is_stale: false,
            failures: 0,
            held: None,
            trouble: None,
        }
    }

    /// What holds now.
    pub(super) fn external(&self) -> Option<ExternalEndpoint> {
        self.held.map(|(endpoint, _)| endpoint)
    }

    /// Whether to ask now. Who hears `true` owes an outcome: [`Keeper::handle_found`] or [`Keeper::handle_failed`].
    pub(super) fn poll_ask(&mut self, now: Instant) -> bool {
        let is_due = !self.is_asked && self.due <= now;
        self.is_asked |= is_due;
        is_due
    }

    /// When to call [`Keeper::handle_timeout`] and then [`Keeper::poll_ask`].
    pub(super) fn poll_timeout(&self) -> Instant {
        let due = (!self.is_asked).then_some(self.due);
        let end = self.held.and_then(|(_, until)| until);
        due.into_iter().chain(end).fold(self.next_look, Instant::min)
    }

    /// An answer: `true` if it is news.
    pub(super) fn handle_found(&mut self, now: Instant, found: Found) -> bool {
        let refresh = found.lease.map_or(REFRESH, |lease| (lease / 2).clamp(SHORTEST_REFRESH, REFRESH));
        let until = found.lease.map(|lease| now + lease);
        let is_news = self.external() != Some(found.endpoint) || self.trouble.is_some();
        self.failures = 0;
        self.held = Some((found.endpoint, until));
        self.trouble = None;
        self.asked(now, refresh);
        is_news
    }

    /// No answer, or no good one: `true` if we did not have this trouble before.
    pub(super) fn handle_failed(&mut self, now: Instant, trouble: Trouble) -> bool {
        let wait = RETRY.saturating_mul(2_u32.saturating_pow(self.failures)).min(REFRESH);
        self.failures = self.failures.saturating_add(1);
        let is_news = !self.trouble.as_ref().is_some_and(|last| last.is_like(&trouble));
        self.trouble = Some(trouble);
        self.asked(now, wait);
        is_news
    }

    /// An attempt is over; the next is due after `wait`, unless the machine slept meanwhile.
    fn asked(&mut self, now: Instant, wait: Duration) {
        let wait = if std::mem::take(&mut self.is_stale) { Duration::ZERO } else { wait };
        self.is_asked = false;
        self.due = now + wait;
    }

    /// The last trouble, if there has been no success since.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Looks at the clocks, and forgets what has ended: `true` if something has.
    pub(super) fn handle_timeout(&mut self, now: Now) -> bool {
        if self.watched.has_jumped(now, Some(self.poll_timeout())) {
            // The network may be another one now, or not there yet: then failures are soon followed by another attempt.
            self.failures = 0;
            self.is_stale = self.is_asked;
            self.due = now.monotonic;
        }
        self.next_look = now.after(LOOK).monotonic;
        let is_over = self.held.is_some_and(|(_, until)| until.is_some_and(|end| end <= now.monotonic));
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
        let now = Now::read();
        for (lease, refresh) in [
            (Some(20 * MINUTE), 10 * MINUTE),
            (Some(2 * MINUTE), MINUTE),
            (Some(Duration::from_secs(1)), SHORTEST_REFRESH),
            (Some(24 * 60 * MINUTE), REFRESH),
            (None, REFRESH),
        ] {
            let (mut keeper, start) = (Keeper::new(now), now.monotonic);
            assert!(keeper.poll_ask(start), "at once");
            assert!(!keeper.poll_ask(start), "one attempt at a time");
            assert!(keeper.handle_found(start, found([24, 0, 0, 1], lease)));
            assert_eq!(keeper.due, start + refresh, "{lease:?}");
            assert!(!keeper.poll_ask(start + refresh - Duration::from_millis(1)) && keeper.poll_ask(start + refresh));
        }
    }

    #[test]
    fn only_a_change_is_news() {
        let (mut keeper, now) = (Keeper::new(Now::read()), Now::read().monotonic);
        assert!(keeper.handle_found(now, found([24, 0, 0, 1], None)));
        assert!(!keeper.handle_found(now, found([24, 0, 0, 1], Some(LEASE))));
        assert!(keeper.handle_found(now, found([24, 0, 0, 2], Some(LEASE))));
        assert!(keeper.handle_failed(now, timed_out()));
        assert!(!keeper.handle_failed(now, timed_out()));
        assert!(keeper.handle_failed(now, Trouble::NoRoute), "another trouble");
        assert!(keeper.handle_found(now, found([24, 0, 0, 2], Some(LEASE))), "it works again");
    }

    /// Lives from `start` on as the driver does, and says after how many seconds it asked; it is woken when it wants to be.
    fn asked(
        keeper: &mut Keeper,
        start: Now,
        span: Duration,
        mut answer: impl FnMut(&mut Keeper, Instant),
    ) -> Vec<u64> {
        let (mut now, mut asked) = (start, Vec::new());
        while now.monotonic <= start.monotonic + span {
            keeper.handle_timeout(now);
            if keeper.poll_ask(now.monotonic) {
                asked.push((now.monotonic - start.monotonic).as_secs());
                answer(keeper, now.monotonic);
            }
            now = now.after(keeper.poll_timeout() - now.monotonic);
        }
        asked
    }

    fn fails(keeper: &mut Keeper, now: Instant) {
        keeper.handle_failed(now, timed_out());
    }

    #[test]
    fn what_is_held_survives_failures_until_its_lease_ends() {
        let start = Now::read();
        let mut keeper = Keeper::new(start);
        keeper.handle_found(start.monotonic, found([24, 0, 0, 1], Some(LEASE)));
        let almost = LEASE - Duration::from_millis(1);
        assert_eq!(asked(&mut keeper, start, almost, fails), [600, 615, 645, 705, 825, 1065]);
        assert!(keeper.external().is_some());
        assert!(keeper.handle_timeout(start.after(LEASE)));
        assert_eq!(keeper.external(), None);
        assert!(!keeper.handle_timeout(start.after(LEASE)), "once");
    }

    /// A laptop is shut at any moment, for any time: its timers stand still, mappings do not.
    #[test]
    fn who_has_slept_asks_again_within_seconds() {
        for seconds_before in [0, 1, 14, 15, 299, 601] {
            for slept in [10, 60, 8 * 3600] {
                let start = Now::read();
                let mut keeper = Keeper::new(start);
                let answers =
                    |keeper: &mut Keeper, now| _ = keeper.handle_found(now, found([24, 0, 0, 1], Some(LEASE)));
                asked(&mut keeper, start, Duration::from_secs(seconds_before), answers);
                let mut woken = start.after(Duration::from_secs(seconds_before));
                woken.wall += Duration::from_secs(slept);
                let wakes = woken.after(keeper.poll_timeout().saturating_duration_since(woken.monotonic));
                assert!(wakes.monotonic <= woken.monotonic + LOOK);
                keeper.handle_timeout(wakes);
                assert!(keeper.poll_ask(wakes.monotonic), "{seconds_before} s before, {slept} s of sleep");
                // The network takes a while to come back.
                fails(&mut keeper, wakes.monotonic);
                assert_eq!(asked(&mut keeper, wakes, Duration::from_secs(120), fails), [15, 45, 105]);
                assert!(keeper.external().is_some());
            }
        }
    }

    /// What it says was true before, and the mapping may have ended since.
    #[test]
    fn an_answer_from_before_the_sleep_is_asked_for_again() {
        for is_found in [true, false] {
            let start = Now::read();
            let mut keeper = Keeper::new(start);
            assert!(keeper.poll_ask(start.monotonic));
            let woken = Now { wall: start.wall + MINUTE, ..start.after(Duration::from_secs(1)) };
            keeper.handle_timeout(woken);
            assert!(!keeper.poll_ask(woken.monotonic), "one attempt at a time");
            match is_found {
                true => _ = keeper.handle_found(woken.monotonic, found([24, 0, 0, 1], Some(LEASE))),
                false => fails(&mut keeper, woken.monotonic),
            }
            assert!(keeper.poll_ask(woken.monotonic));
            keeper.handle_found(woken.monotonic, found([24, 0, 0, 1], Some(LEASE)));
            assert!(!keeper.poll_ask(woken.monotonic), "once");
        }
    }

    #[test]
    fn failures_back_off_to_ten_minutes_and_a_success_starts_over() {
        let start = Now::read();
        let mut keeper = Keeper::new(start);
        let at = asked(&mut keeper, start, Duration::from_secs(2200), fails);
        let waits: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits, [15, 30, 60, 120, 240, 480, 600, 600]);
        let now = start.monotonic;
        (0..100).for_each(|_| fails(&mut keeper, now));
        keeper.handle_found(now, found([24, 0, 0, 1], None));
        fails(&mut keeper, now);
        assert_eq!(keeper.due, now + RETRY);
    }
}
