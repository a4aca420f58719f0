//! Whether our wall clock is that of the others.
//!
//! go-ethereum asks an NTP server after 32 time-outs in a row. Here nobody else is asked: every packet carries the time at
//! which it expires, and honest nodes write much the same.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::Now;

/// Seconds from now to the expiration of an honest packet: go-ethereum writes 20, Besu 60, we up to 52; and a little for
/// the way and for clocks that are nearly right.
const HONEST: std::ops::RangeInclusive<i64> = 0..=75;

/// What most of them write.
const USUAL: i64 = 20;

/// Votes of one address each: the latest this many.
const MAX_VOTES: usize = 32;

/// Fewer say nothing.
const MIN_VOTES: usize = 5;

/// How far those who agree may be from each other, seconds: what they write differs by 40.
const SPREAD: u64 = 60;

/// The operator is not told more often: forged packets could make it a nuisance.
const TELL_AGAIN: Duration = Duration::from_secs(10 * 60);

/// How far our wall clock is from that of those who answer us or have proven their endpoint.
#[derive(Debug, Default)]
pub(crate) struct Drift {
    /// Seconds that the packets of an address have left.
    votes: VecDeque<(IpAddr, i64)>,
    told: Option<Instant>,
    /// It is off, and that was told.
    is_told: bool,
}

impl Drift {
    /// Somebody who answers us, or has proven its endpoint, writes this expiration. Returns by how many seconds our clock
    /// is ahead of most others' (negative: behind), when that is to be told.
    pub(crate) fn vote(&mut self, now: Now, from: IpAddr, expiration: u64) -> Option<i64> {
        let seconds = i64::try_from(now.unix_seconds()).unwrap_or(i64::MAX);
        let left = i64::try_from(expiration).unwrap_or(i64::MAX).saturating_sub(seconds);
        self.votes.retain(|(voter, _)| *voter != from);
        self.votes.push_back((from, left));
        if self.votes.len() > MAX_VOTES {
            self.votes.pop_front();
        }
        let ahead = self.ahead();
        let may_tell = self.told.is_none_or(|told| now.monotonic.saturating_duration_since(told) >= TELL_AGAIN);
        let tell = ahead.filter(|_| !self.is_told && may_tell);
        self.is_told = ahead.is_some() && (self.is_told || may_tell);
        if tell.is_some() {
            self.told = Some(now.monotonic);
        }
        tell
    }

    /// By how many seconds our clock is ahead of most others'; `None` as long as it is not known to be off.
    pub(crate) fn ahead(&self) -> Option<i64> {
        let odd = self.votes.iter().filter(|(_, left)| !HONEST.contains(left)).count();
        if odd.saturating_mul(2) < self.votes.len() {
            return None; // then the median is honest too: the usual case, and nothing is sorted
        }
        let mut left: Vec<i64> = self.votes.iter().map(|(_, left)| *left).collect();
        left.sort_unstable();
        let median = *left.get(left.len().checked_div(2)?)?;
        let agree = left.iter().filter(|left| left.abs_diff(median) <= SPREAD).count();
        let is_most = agree.saturating_mul(4) >= left.len().saturating_mul(3);
        let is_off = left.len() >= MIN_VOTES && is_most && !HONEST.contains(&median);
        is_off.then(|| USUAL.saturating_sub(median))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([24, 0, n, 1])
    }

    /// A moment, and the expiration that a node writes whose clock is `ahead` of ours.
    fn written(ahead: i64) -> (Now, u64) {
        let now = Now::read();
        (now, now.unix_seconds().saturating_add_signed(ahead + 20))
    }

    #[test]
    fn most_must_agree_before_anything_is_said_and_it_is_said_once() {
        let mut drift = Drift::default();
        let (now, expiration) = written(-HOUR);
        let told: Vec<_> = (0..40).filter_map(|n| drift.vote(now, address(n), expiration)).collect();
        assert_eq!(told, [HOUR]);
        assert_eq!(drift.ahead(), Some(HOUR));
        assert!(drift.votes.len() <= MAX_VOTES);
    }

    #[test]
    fn one_address_has_one_vote_and_a_few_wrong_clocks_are_theirs() {
        let mut drift = Drift::default();
        let (now, expiration) = written(-HOUR);
        assert!((0..100).all(|_| drift.vote(now, address(1), expiration).is_none()));
        let (_, honest) = written(0);
        for n in 2..30 {
            let expiration = if n % 4 == 0 { expiration } else { honest };
            assert_eq!(drift.vote(now, address(n), expiration), None);
        }
    }

    #[test]
    fn a_clock_that_is_right_again_is_believed_and_may_be_wrong_again() {
        let mut drift = Drift::default();
        let (now, slow) = written(2 * HOUR);
        let (_, honest) = written(0);
        assert_eq!((0..9).find_map(|n| drift.vote(now, address(n), slow)), Some(-2 * HOUR));
        (0..9).for_each(|n| assert_eq!(drift.vote(now, address(n), honest), None));
        assert_eq!(drift.ahead(), None);
        assert_eq!((0..9).find_map(|n| drift.vote(now, address(n), slow)), None, "not twice in ten minutes");
        let later = Now { monotonic: now.monotonic + TELL_AGAIN, ..now };
        assert_eq!(drift.vote(later, address(1), slow), Some(-2 * HOUR), "but then, if it is still off");
        let now = later;
        (0..9).for_each(|n| _ = drift.vote(now, address(n), honest));
        let later = Now { monotonic: now.monotonic + TELL_AGAIN, ..now };
        assert_eq!((0..9).find_map(|n| drift.vote(later, address(n), slow)), Some(-2 * HOUR));
    }

    #[test]
    fn any_time_at_all_is_survived() {
        let mut drift = Drift::default();
        for (n, expiration) in [0, 1, u64::MAX, u64::MAX / 2, 1 << 63].into_iter().cycle().take(200).enumerate() {
            _ = drift.vote(written(0).0, address(n as u8), expiration);
        }
    }
}
