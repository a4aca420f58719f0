//! The refresh cycle: when to look for ourselves and for random targets, so that the buckets fill.
//!
//! A self lookup and three random ones (go-ethereum `doRefresh`); again after 15–30 minutes, or much sooner, with
//! back-off, while nobody answers: go-ethereum then waits out the whole interval (its issue #20630). A young node looks around
//! more often, most of all in a network that seems small.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Refreshing, after};

/// Random lookups after the self lookup (go-ethereum `doRefresh`).
const RANDOM_LOOKUPS: u32 = 3;

/// First pause if nobody answers; doubles with every attempt. Long enough for a dead bootnode to time out.
const LONELY_PAUSE: Duration = Duration::from_secs(2);

/// Longest pause if nobody answers: a node that lost its network must be back soon after the network is.
const LONELY_PAUSE_MAX: Duration = Duration::from_secs(120);

/// The same for the later refreshes of a young node: it cares for its own neighbourhood, but half of a far bucket is for
/// nodes that lookups have found ([`TableConfig::inbound`](super::TableConfig::inbound)), and these are found far away.
const RANDOM_LOOKUPS_OF_YOUNG: u32 = 1;

/// Longest pause of a young node; it grows with its age until it is the whole interval. A network that starts at once,
/// or grows quickly, is known to itself within minutes this way: when its early nodes looked around, there was nobody
/// near them. go-ethereum waits for 15–30 minutes.
const YOUNG_PAUSE: Duration = Duration::from_secs(60);

/// The same for a young node that knows hardly anybody: half of a small network may have come after it has looked around, and
/// there is nobody else to tell of a node whom everybody has refused a place as a guest.
const SMALL_PAUSE: Duration = Duration::from_secs(1);

/// Nodes that a small network has at most: those of four buckets. Who joins a large one knows more after the first refresh, and
/// goes on as if there were no such rule.
const SMALL: usize = 64;

/// What the refresh wants done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    LookupSelf,
    LookupRandom,
    Run,
    Finished,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Looking { random_left: u32 },
}

#[derive(Debug)]
pub(crate) struct Refresh {
    kind: Refreshing,
    state: State,
    lonely_rounds: u32,
    completed: bool,
    started: Instant,
}

impl Refresh {
    /// The first refresh is due at once.
    pub(crate) fn new(now: Instant, kind: Refreshing) -> Refresh {
        Refresh { kind, state: State::Waiting { until: now }, lonely_rounds: 0, completed: false, started: now }
    }

    /// Starts a refresh that is due; the first step is the self lookup or the run.
    pub(crate) fn start_if_due(&mut self, now: Instant) -> Option<Step> {
        let is_due = matches!(self.state, State::Waiting { until } if until <= now);
        is_due.then(|| {
            let (step, random_left) = match self.kind {
                Refreshing::Runs { .. } => (Step::Run, 0),
                Refreshing::Lookups { interval } => {
                    let is_again = self.completed && self.lonely_rounds == 0 && self.age(now) < interval;
                    (Step::LookupSelf, if is_again { RANDOM_LOOKUPS_OF_YOUNG } else { RANDOM_LOOKUPS })
                }
            };
            self.state = State::Looking { random_left };
            step
        })
    }

    /// A lookup of this refresh has ended, or its run; so many nodes are known.
    pub(crate) fn lookup_done(&mut self, now: Instant, nobody_answered: bool, known: usize, rng: &mut StdRng) -> Step {
        match &mut self.state {
            State::Looking { random_left } if *random_left > 0 && !nobody_answered => {
                *random_left = random_left.saturating_sub(1);
                Step::LookupRandom
            }
            State::Looking { .. } => {
                self.completed = true;
                if self.lonely_rounds > 0 && !nobody_answered {
                    self.started = now; // the network is there at last, or is back, and may be as new as we are
                }
                self.lonely_rounds = if nobody_answered { self.lonely_rounds.saturating_add(1) } else { 0 };
                self.state = State::Waiting { until: after(now, self.pause(now, known, rng)) };
                Step::Finished
            }
            State::Waiting { .. } => Step::Finished,
        }
    }

    /// Asks for a refresh now; joins the one that is running.
    pub(crate) fn request(&mut self, now: Instant) {
        if let State::Waiting { until } = &mut self.state {
            *until = (*until).min(now);
        }
    }

    /// The last node has left the table.
    pub(crate) fn table_became_empty(&mut self, now: Instant, rng: &mut StdRng) {
        self.lonely_rounds = self.lonely_rounds.max(1);
        let pause = self.pause(now, 0, rng);
        if let State::Waiting { until } = &mut self.state {
            *until = (*until).min(after(now, pause));
        }
    }

    /// Whether the first refresh has ended: until then nobody who contacts us enters the table.
    pub(crate) fn completed_once(&self) -> bool {
        self.completed
    }

    /// Whether the last refresh reached nobody: the next comes by itself, and soon.
    pub(crate) fn is_lonely(&self) -> bool {
        self.lonely_rounds > 0
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Looking { .. })
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Looking { .. } => None,
        }
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Uniform in [half, whole): nodes that started together drift apart. Between runs it is always the same.
    fn pause(&self, now: Instant, known: usize, rng: &mut StdRng) -> Duration {
        let interval = match self.kind {
            Refreshing::Lookups { interval } => interval,
            Refreshing::Runs { pause, .. } => return pause,
        };
        let whole = match self.lonely_rounds {
            0 => self.age(now).max(if known < SMALL { SMALL_PAUSE } else { YOUNG_PAUSE }).min(interval),
            rounds => {
                let doubling = 2_u32.saturating_pow(rounds.saturating_sub(1));
                LONELY_PAUSE.saturating_mul(doubling).min(LONELY_PAUSE_MAX).min(interval)
            }
        };
        upper_half(whole, rng)
    }
}

fn upper_half(whole: Duration, rng: &mut StdRng) -> Duration {
    let half = whole.checked_div(2).unwrap_or_default();
    rng.random_range(half..whole.max(half.saturating_add(Duration::from_nanos(1))))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::time::Now;

    const INTERVAL: Duration = Duration::from_secs(30 * 60);
    const LOOKUPS: Refreshing = Refreshing::Lookups { interval: INTERVAL };

    fn refresh_once(refresh: &mut Refresh, now: Instant, empty: bool, rng: &mut StdRng) -> Vec<Step> {
        let mut steps = vec![refresh.start_if_due(now).unwrap()];
        while *steps.last().unwrap() != Step::Finished {
            steps.push(refresh.lookup_done(now, empty, SMALL, rng));
        }
        steps
    }

    #[test]
    fn self_and_three_random_lookups_then_fifteen_to_thirty_minutes() {
        let (mut now, mut rng) = (Now::read().monotonic, StdRng::seed_from_u64(1));
        let mut refresh = Refresh::new(now, LOOKUPS);
        now += INTERVAL; // no longer young
        for _ in 0..100 {
            let steps = refresh_once(&mut refresh, now, false, &mut rng);
            use Step::*;
            assert_eq!(steps, [LookupSelf, LookupRandom, LookupRandom, LookupRandom, Finished]);
            let pause = refresh.next().unwrap() - now;
            assert!((INTERVAL / 2..INTERVAL).contains(&pause), "{pause:?}");
            now += pause;
        }
    }

    #[test]
    fn an_unanswered_refresh_is_repeated_with_back_off_up_to_two_minutes() {
        let (mut now, mut rng) = (Now::read().monotonic, StdRng::seed_from_u64(2));
        let mut refresh = Refresh::new(now, LOOKUPS);
        now += INTERVAL; // no longer young
        for whole in [2, 4, 8, 16, 32, 64, 120, 120, 120] {
            refresh_once(&mut refresh, now, true, &mut rng);
            let pause = refresh.next().unwrap() - now;
            let whole = Duration::from_secs(whole);
            assert!((whole / 2..whole).contains(&pause), "{pause:?} of {whole:?}");
            now += pause;
        }
        refresh_once(&mut refresh, now, false, &mut rng);
        let pause = refresh.next().unwrap() - now;
        assert!((YOUNG_PAUSE / 2..YOUNG_PAUSE).contains(&pause), "success ends the back-off: {pause:?}");
    }

    #[test]
    fn requests_join_a_running_refresh() {
        let (now, mut rng) = (Now::read().monotonic, StdRng::seed_from_u64(3));
        let mut refresh = Refresh::new(now, LOOKUPS);
        assert!(refresh.start_if_due(now).is_some());
        refresh.request(now);
        assert_eq!(refresh.start_if_due(now), None);
        while refresh.lookup_done(now, false, SMALL, &mut rng) != Step::Finished {}
        assert!(refresh.completed_once());
        assert_eq!(refresh.start_if_due(now), None);
        refresh.request(now);
        assert!(refresh.start_if_due(now).is_some());
    }

    #[test]
    fn a_young_node_looks_around_more_often() {
        let (start, mut rng) = (Now::read().monotonic, StdRng::seed_from_u64(5));
        let (mut now, mut refreshes) = (start, 0);
        let mut refresh = Refresh::new(now, LOOKUPS);
        while now - start < INTERVAL {
            let steps = refresh_once(&mut refresh, now, false, &mut rng);
            assert_eq!(steps.len(), if refreshes == 0 { 5 } else { 3 }, "itself and one more, after the first time");
            now = refresh.next().unwrap();
            refreshes += 1;
        }
        assert!((5..14).contains(&refreshes), "{refreshes} refreshes in the first half hour");
    }

    #[test]
    fn a_young_node_of_a_small_network_looks_around_within_seconds() {
        let (start, mut rng) = (Now::read().monotonic, StdRng::seed_from_u64(6));
        let (mut now, mut at) = (start, Vec::new());
        let mut refresh = Refresh::new(now, LOOKUPS);
        while now - start < 2 * YOUNG_PAUSE {
            assert!(refresh.start_if_due(now).is_some());
            while refresh.lookup_done(now, false, SMALL - 1, &mut rng) != Step::Finished {}
            at.push(now - start);
            now = refresh.next().unwrap();
        }
        assert!(at[1] < SMALL_PAUSE && at[2] < 2 * SMALL_PAUSE, "{at:?}");
        assert!((6..12).contains(&at.len()), "later each time: {at:?}");
    }

    #[test]
    fn losing_the_last_node_brings_the_refresh_forward() {
        let (now, mut rng) = (Now::read().monotonic, StdRng::seed_from_u64(4));
        let mut refresh = Refresh::new(now, LOOKUPS);
        let now = now + INTERVAL;
        refresh_once(&mut refresh, now, false, &mut rng);
        refresh.table_became_empty(now, &mut rng);
        assert!(refresh.next().unwrap() - now < LONELY_PAUSE);
    }
}
