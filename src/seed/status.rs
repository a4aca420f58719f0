//! What a seed has to say of itself: counters that only grow, and how things stand.

use serde::Serialize;
use std::collections::BTreeMap;

use super::Seed;
use crate::{dial::Refusals, visit::Troubles};

/// What has happened since the start; all values only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Visits made.
    pub visits: u64,
    /// Those that ended with a proven identity of our network.
    pub reached: u64,
    /// Those that did not, by what went wrong.
    pub failures: Troubles,
    /// Handshakes of guests that failed, likewise.
    pub guest_failures: Troubles,
    /// New addresses taken from answers.
    pub learned: u64,
    /// Addresses of answers left out: beyond 100 of an answer, 32 of a network, or what their source has waiting unchecked.
    pub beyond: u64,
    /// Addresses that the book would not have: special or private networks, banned peers, ourselves.
    pub not_kept: u64,
    /// Addresses of answers that we could not reach a short while ago.
    pub failed_lately: u64,
    /// Entries of answers that were no addresses.
    pub skipped: u64,
    /// Addresses that were reached and not kept: 4 of their IP are served, or 128 of their network.
    pub crowded: u64,
    /// Visits put off: their host or network had as many in the last minute as others may cause.
    pub put_off: u64,
    /// Addresses that were served and are no more.
    pub demoted: u64,
    /// Addresses given up.
    pub dropped: u64,
    /// Guests let in.
    pub guests: u64,
    /// Guests not let in, by reason.
    pub refused: Refusals,
    /// Guests answered.
    pub answered: u64,
    /// Those whose answer had no address in it.
    pub answered_empty: u64,
    /// Requests after a guest's first one: ignored, we are hanging up.
    pub repeated: u64,
    /// Guests that sent addresses nobody asked for: banned.
    pub unsolicited: u64,
    /// Guests and hosts that sent what is no message.
    pub malformed: u64,
    /// Guests that asked for nothing.
    pub silent: u64,
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Addresses in the book.
    pub known: usize,
    /// Those that we reached and pass on.
    pub reachable: usize,
    /// Those that nobody has checked yet.
    pub unchecked: usize,
    /// Those that were not reached the last time, by what went wrong.
    pub unreachable: BTreeMap<&'static str, usize>,
    /// Peers kept away for misbehaviour.
    pub banned: usize,
    /// Visits under way.
    pub visiting: usize,
    /// Guests connected.
    pub guests: usize,
    /// Guests answered since the start.
    pub answered: u64,
    /// Handshakes of guests not finished.
    pub half_open: usize,
    /// Visits put off since the start, their host or network having had enough.
    pub put_off: u64,
}

impl Seed {
    /// The counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// How things stand.
    pub fn status(&self) -> Status {
        let mut unreachable = BTreeMap::new();
        for check in self.schedule.checks().filter(|check| check.failures > 0) {
            if let Some(trouble) = check.trouble {
                *unreachable.entry(trouble.name()).or_insert(0) += 1;
            }
        }
        Status {
            known: self.book.len(),
            reachable: self.served.len(),
            unchecked: self.schedule.unchecked(),
            unreachable,
            banned: self.book.banned(),
            visiting: self.schedule.in_flight(),
            guests: self.guests.len(),
            answered: self.stats.answered,
            half_open: self.guests.half_open(),
            put_off: self.stats.put_off,
        }
    }
}
