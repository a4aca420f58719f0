//! One address that the book knows, and how good it has proved.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use kadwire_wire::address::{PeerAddress, PeerId};

use super::{
    group::{Group, is_routable},
    sources::Source,
};

/// Who told us of an address, and where from. Its network decides where the address is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The peer that told us.
    pub id: PeerId,
    /// Where it is connected from; `None` within this process.
    pub socket: Option<SocketAddr>,
}

impl Origin {
    pub(crate) fn group(&self, strict: bool) -> Group {
        self.socket.map_or(Group::Local, |socket| Group::of_ip(socket.ip(), strict))
    }

    /// Whose word it is: one network's or, in a private one that the book is meant for, one peer's.
    pub(crate) fn source(&self, strict: bool) -> Source {
        let private = self.socket.is_none_or(|socket| !is_routable(socket.ip()));
        if private && !strict { Source::Peer(self.id) } else { Source::Network(self.group(strict)) }
    }
}

/// Which kind of bucket an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Somebody said so.
    New,
    /// We reached it ourselves.
    Old,
}

/// Days without contact after which an address is bad (CometBFT, `numMissingDays`).
const MISSING: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// An address just tried is not thrown away (CometBFT, one minute).
const JUST_TRIED: Duration = Duration::from_secs(60);

/// Failures after which an address that never worked is bad (CometBFT, `numRetries`).
const RETRIES: u32 = 3;

/// Failures after which an address that worked is bad (CometBFT, `maxFailures`), if it last did so [`MIN_BAD`] ago.
const MAX_FAILURES: u32 = 10;

/// See [`MAX_FAILURES`] (CometBFT, `minBadDays`).
const MIN_BAD: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// An address and its record. Times are wall time, because they outlive the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) address: PeerAddress,
    pub(crate) origin: Origin,
    /// Failures in a row.
    pub(crate) attempts: u32,
    pub(crate) last_attempt: Option<SystemTime>,
    pub(crate) last_success: Option<SystemTime>,
    pub(crate) last_ban: Option<SystemTime>,
    pub(crate) kind: Kind,
    /// The buckets of that kind that it is in: one if old, up to four if new.
    pub(crate) buckets: Vec<u16>,
}

impl Entry {
    /// An address nobody tried. It counts as tried now, so that it is not thrown away at once (CometBFT).
    pub(crate) fn new(now: SystemTime, address: PeerAddress, origin: Origin) -> Self {
        Entry {
            address,
            origin,
            attempts: 0,
            last_attempt: Some(now),
            last_success: None,
            last_ban: None,
            kind: Kind::New,
            buckets: Vec::new(),
        }
    }

    pub(crate) fn mark_attempt(&mut self, now: SystemTime) {
        self.attempts = self.attempts.saturating_add(1);
        self.last_attempt = Some(now);
    }

    pub(crate) fn mark_good(&mut self, now: SystemTime) {
        self.attempts = 0;
        self.last_attempt = Some(now);
        self.last_success = Some(now);
    }

    /// Whether it may be thrown away for another (CometBFT, `isBad`).
    pub(crate) fn is_bad(&self, now: SystemTime) -> bool {
        if self.kind == Kind::Old {
            return false;
        }
        let tried = age(now, self.last_attempt);
        if tried <= JUST_TRIED {
            return false;
        }
        tried > MISSING || (self.last_success.is_none() && self.attempts >= RETRIES) || self.has_long_failed(now)
    }

    /// Whether another address claimed for the same peer may replace this one: a claim that was never true gives way once it failed, one
    /// that was proven only when it is bad by CometBFT's rule, or a liar would move all our peers after a minute without an uplink. (CometBFT
    /// keeps the first claim for good, so a false one shuts a peer out.)
    pub(crate) fn gives_way(&self, now: SystemTime) -> bool {
        if self.last_success.is_some() { self.has_long_failed(now) } else { self.attempts > 0 }
    }

    /// Whether it worked once, and neither lately nor the last times.
    fn has_long_failed(&self, now: SystemTime) -> bool {
        age(now, self.last_success) > MIN_BAD && self.attempts >= MAX_FAILURES
    }

    /// Whether we reached it ourselves and it has not failed several times since: what is passed on first.
    pub(crate) fn is_proven(&self) -> bool {
        self.last_success.is_some() && self.attempts < RETRIES
    }

    /// Whether it may be passed on although it is not proven: it is not if it failed, nor if only the peer itself says so. (200 fake
    /// handshakes left a CometBFT node's book with 61 fakes of 65.)
    pub(crate) fn is_hearsay(&self) -> bool {
        self.last_success.is_none() && self.attempts == 0 && self.origin.id != self.address.id()
    }
}

/// How long ago something was; nothing is longest ago, and what a clock step put into the future is now.
fn age(now: SystemTime, then: Option<SystemTime>) -> Duration {
    then.map_or(Duration::MAX, |then| now.duration_since(then).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial::tests::{address, id};

    #[test]
    fn an_address_is_bad_by_cometbfts_rules() {
        let day = Duration::from_secs(86_400);
        let now = SystemTime::UNIX_EPOCH + 1_000 * day;
        let ago = |d: Duration| Some(now - d);
        // (kind, attempts, last attempt, last success, bad)
        for (kind, attempts, last_attempt, last_success, bad) in [
            (Kind::New, 0, ago(Duration::from_secs(61)), None, false),
            (Kind::New, 3, ago(Duration::from_secs(59)), None, false),
            (Kind::New, 3, ago(Duration::from_secs(61)), None, true),
            (Kind::New, 2, ago(Duration::from_secs(61)), None, false),
            (Kind::New, 0, ago(8 * day), None, true),
            (Kind::New, 9, ago(day), ago(8 * day), false),
            (Kind::New, 10, ago(day), ago(8 * day), true),
            (Kind::New, 10, ago(day), ago(6 * day), false),
            (Kind::Old, 99, ago(99 * day), None, false),
            (Kind::New, 0, None, None, true),
            // A wall clock that was set back makes nothing bad.
            (Kind::New, 9, Some(now + day), None, false),
        ] {
            let origin = Origin { id: id(2), socket: None };
            let entry = Entry { kind, attempts, last_attempt, last_success, ..Entry::new(now, address(1), origin) };
            assert_eq!(entry.is_bad(now), bad, "{entry:?}");
        }
    }
}
