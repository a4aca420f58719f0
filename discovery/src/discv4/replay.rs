//! FindNodes and ENRRequests that come again. go-ethereum answers a captured one as often as it is sent within its 20 s.
//!
//! Signatures are deterministic and expirations whole seconds, so an honest node that asks twice within a second sends the
//! very same datagram: a retry, or two parts of it that want the same. go-ethereum's ENRRequest, from its table and from
//! its user, may be 1 ms apart, and each waits for an answer of its own. So a few repetitions have to pass.
//!
//! Only what a proven node has signed is noted: whoever writes false sources on datagrams of its own makes us forget nothing.
//! To drive a question out before it expires takes 16,384 others of proven nodes within 20 s, 2.8 MB, for three more answers
//! of 1.2 KB to whoever had asked. Replayed pings are looked for elsewhere ([`Bonds`](super::bonds::Bonds)).

use std::net::{IpAddr, SocketAddr};

use super::rate::Recent;
use super::{MAX_EXPIRATION, Rejected};
use crate::time::Now;

/// Times a question may arrive: once, and two more.
const MAX_SIGHTINGS: u8 = 3;

/// Questions remembered; a minute of 250 a second.
const MAX_REMEMBERED: usize = 16 * 1024;

#[derive(Debug)]
struct Seen {
    port: u16,
    count: u8,
    expiration: u64,
}

impl Seen {
    fn check(&self, from: SocketAddr) -> Result<(), Rejected> {
        let is_ours_to_answer = self.port == from.port() && self.count < MAX_SIGHTINGS;
        if is_ours_to_answer { Ok(()) } else { Err(Rejected::Replayed) }
    }
}

/// Questions answered, until they expire. The key is the datagram's hash (half of it) and the source address: nobody can
/// use up the sightings of somebody else's datagram from elsewhere.
#[derive(Debug)]
pub(crate) struct ReplayFilter(Recent<([u8; 16], IpAddr), Seen>);

impl ReplayFilter {
    pub(crate) fn new() -> ReplayFilter {
        ReplayFilter(Recent::new(MAX_REMEMBERED))
    }

    /// Refuses a replay before its signature is looked at. Remembers nothing: anybody can write this source and any hash.
    pub(crate) fn check(&self, from: SocketAddr, hash: &[u8; 32]) -> Result<(), Rejected> {
        self.0.peek(&key(from, hash)).map_or(Ok(()), |seen| seen.check(from))
    }

    /// Notes a question whose signer has proven to be there; refuses it if it is a replay. Several copies may have passed
    /// [`check`](Self::check) before the first of them came here.
    pub(crate) fn note(
        &mut self,
        now: Now,
        from: SocketAddr,
        hash: &[u8; 32],
        expiration: u64,
    ) -> Result<(), Rejected> {
        self.forget_expired(now);
        let seen = self.0.entry(key(from, hash), || Seen { port: from.port(), count: 0, expiration });
        seen.check(from)?;
        seen.count = seen.count.saturating_add(1);
        Ok(())
    }

    fn forget_expired(&mut self, now: Now) {
        let seconds = now.unix_seconds();
        // One that claims to be valid for longer than is allowed comes from before a step of the clock.
        self.0.forget_while(|seen| {
            seen.expiration < seconds || seen.expiration > seconds.saturating_add(MAX_EXPIRATION.as_secs())
        });
    }
}

fn key(from: SocketAddr, hash: &[u8; 32]) -> ([u8; 16], IpAddr) {
    (hash.first_chunk().copied().unwrap_or_default(), from.ip())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn from(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_captured_findnode_is_answered_three_times_at_most() {
        let (mut filter, start) = (ReplayFilter::new(), Now::read());
        let expiration = start.unix_seconds() + 20;
        let answered = (0..200)
            .filter(|n| {
                let now = start.after(Duration::from_millis(20 * n));
                let (checked, at) = (filter.check(from("23.1.1.1:30303"), &[1; 32]), from("23.1.1.1:30303"));
                let noted = filter.note(now, at, &[1; 32], expiration);
                assert_eq!(checked, noted, "both say the same");
                noted.is_ok()
            })
            .count();
        assert_eq!(answered, 3);
    }

    #[test]
    fn who_asks_the_same_twice_in_a_second_gets_two_answers() {
        let (mut filter, now) = (ReplayFilter::new(), Now::read());
        let mut note = |now| filter.note(now, from("23.1.1.1:30303"), &[1; 32], now.unix_seconds() + 20);
        assert_eq!(note(now), Ok(()));
        assert_eq!(note(now.after(Duration::from_millis(1))), Ok(()), "another part of it wants the same");
        assert_eq!(note(now.after(Duration::from_millis(500))), Ok(()), "a retry");
        assert_eq!(note(now.after(Duration::from_millis(501))), Err(Rejected::Replayed));
    }

    #[test]
    fn a_captured_findnode_has_one_port() {
        let (mut filter, now) = (ReplayFilter::new(), Now::read());
        let mut note = |at: &str| filter.note(now, from(at), &[1; 32], now.unix_seconds() + 20);
        assert_eq!(note("23.1.1.1:30303"), Ok(()));
        assert_eq!(note("23.1.1.1:6666"), Err(Rejected::Replayed));
        assert_eq!(note("23.9.9.9:30303"), Ok(()), "another address has to prove itself anyway");
        assert_eq!(filter.check(from("23.1.1.1:6666"), &[1; 32]), Err(Rejected::Replayed));
        assert_eq!(filter.check(from("23.1.1.1:30303"), &[1; 32]), Ok(()));
    }

    #[test]
    fn what_has_expired_is_forgotten_and_memory_is_bounded() {
        let (mut filter, start) = (ReplayFilter::new(), Now::read());
        let hash = |n: u32| {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&n.to_be_bytes());
            hash
        };
        for n in 0..1000 {
            let now = start.after(Duration::from_secs(u64::from(n)));
            filter.note(now, from("23.1.1.1:30303"), &hash(n), now.unix_seconds() + 20).unwrap();
        }
        assert!(filter.0.len() <= 22);
        for n in 0..100_000 {
            filter.note(start, from("23.1.1.1:30303"), &hash(n), start.unix_seconds() + 20).unwrap();
        }
        assert_eq!(filter.0.len(), MAX_REMEMBERED);
    }
}
