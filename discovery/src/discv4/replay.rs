//! Datagrams that come again. go-ethereum answers a captured FindNode as often as it is sent within its 20 s.
//!
//! Signatures are deterministic and expirations whole seconds, so an honest node that asks twice within a second sends the
//! very same datagram: a retry, or two parts of it that want the same. go-ethereum's ENRRequest, from its table and from
//! its user, may be 1 ms apart, and each waits for an answer of its own. So a few repetitions have to pass.

use std::net::{IpAddr, SocketAddr};

use super::rate::Recent;
use super::{MAX_EXPIRATION, Rejected};
use crate::time::Now;

/// Times a FindNode or ENRRequest may arrive: the request and two more.
const MAX_SIGHTINGS: u8 = 3;

/// Datagrams remembered; a minute of 250 requests a second.
const MAX_REMEMBERED: usize = 16 * 1024;

#[derive(Debug)]
struct Seen {
    port: u16,
    count: u8,
    expiration: u64,
}

/// Requests seen, until they expire. The key is the datagram's hash (half of it) and the source address: nobody can
/// use up the sightings of somebody else's datagram from elsewhere.
#[derive(Debug)]
pub(crate) struct ReplayFilter(Recent<([u8; 16], IpAddr), Seen>);

impl ReplayFilter {
    pub(crate) fn new() -> ReplayFilter {
        ReplayFilter(Recent::new(MAX_REMEMBERED))
    }

    /// Notes a request; refuses it if it is a replay. `is_ping`: a ping is answered by less than it weighs and limited
    /// by other means, so it may come again, but not from another port, where it would move its sender.
    pub(crate) fn admit(
        &mut self,
        now: Now,
        from: SocketAddr,
        hash: &[u8; 32],
        expiration: u64,
        is_ping: bool,
    ) -> Result<(), Rejected> {
        self.forget_expired(now);
        let key = (hash.first_chunk::<16>().copied().unwrap_or_default(), from.ip());
        let mut is_new = false;
        let seen = self.0.entry(key, || {
            is_new = true;
            Seen { port: from.port(), count: 1, expiration }
        });
        if is_new {
            return Ok(());
        }
        if seen.port != from.port() || (seen.count >= MAX_SIGHTINGS && !is_ping) {
            return Err(Rejected::Replayed);
        }
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
                filter.admit(now, from("23.1.1.1:30303"), &[1; 32], expiration, false).is_ok()
            })
            .count();
        assert_eq!(answered, 3);
    }

    #[test]
    fn who_asks_the_same_twice_in_a_second_gets_two_answers() {
        let (mut filter, now) = (ReplayFilter::new(), Now::read());
        let mut admit = |now| filter.admit(now, from("23.1.1.1:30303"), &[1; 32], now.unix_seconds() + 20, false);
        assert_eq!(admit(now), Ok(()));
        assert_eq!(admit(now.after(Duration::from_millis(1))), Ok(()), "another part of it wants the same");
        assert_eq!(admit(now.after(Duration::from_millis(500))), Ok(()), "a retry");
        assert_eq!(admit(now.after(Duration::from_millis(501))), Err(Rejected::Replayed));
    }

    #[test]
    fn a_captured_ping_cannot_move_its_sender_to_another_port() {
        let (mut filter, now) = (ReplayFilter::new(), Now::read());
        let mut admit = |at: &str| filter.admit(now, from(at), &[1; 32], now.unix_seconds() + 20, true);
        assert_eq!(admit("23.1.1.1:30303"), Ok(()));
        assert_eq!(admit("23.1.1.1:30303"), Ok(()));
        assert_eq!(admit("23.1.1.1:6666"), Err(Rejected::Replayed));
        assert_eq!(admit("23.9.9.9:30303"), Ok(()), "another address has to prove itself anyway");
    }

    #[test]
    fn what_has_expired_is_forgotten() {
        let (mut filter, start) = (ReplayFilter::new(), Now::read());
        for n in 0..1000_u32 {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&n.to_be_bytes());
            let now = start.after(Duration::from_secs(u64::from(n)));
            filter.admit(now, from("23.1.1.1:30303"), &hash, now.unix_seconds() + 20, false).unwrap();
        }
        assert!(filter.0.len() <= 22);
    }
}
