//! Where others see us: a vote of the pongs (spec sheet discv4 §7).
//!
//! Only who answers a ping of ours votes, on the family it is asked over, and each network has one vote, so that a liar needs
//! addresses in ten networks. An address given by the operator is not voted on.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::address::{check_relay, network};

/// How long a statement counts (go-ethereum `iptrackWindow`).
const WINDOW: Duration = Duration::from_secs(5 * 60);

/// Statements that agree before they are believed (go-ethereum `iptrackMinStatements`).
const MIN_STATEMENTS: usize = 10;

/// Networks whose statements are kept, in each family.
const MAX_VOTERS: usize = 256;

/// The statements about our endpoint in one address family.
#[derive(Debug, Default)]
struct Votes {
    /// By the network of who made them.
    statements: BTreeMap<IpAddr, (SocketAddr, Instant)>,
    /// Who has won last.
    present: Option<SocketAddr>,
}

impl Votes {
    fn add(&mut self, now: Instant, voter: IpAddr, endpoint: SocketAddr) {
        self.statements.retain(|_, (_, at)| now.saturating_duration_since(*at) < WINDOW);
        if self.statements.len() >= MAX_VOTERS && !self.statements.contains_key(&voter) {
            let oldest = self.statements.iter().min_by_key(|(_, (_, at))| *at).map(|(voter, _)| *voter);
            oldest.into_iter().for_each(|voter| _ = self.statements.remove(&voter));
        }
        self.statements.insert(voter, (endpoint, now));
    }

    /// The endpoint most networks agree on, if enough do. A tie changes nothing: with two addresses seen by as many each
    /// (two uplinks), our record would change with every pong. go-ethereum takes either.
    fn winner(&mut self) -> Option<SocketAddr> {
        let mut counts = BTreeMap::<SocketAddr, usize>::new();
        for (endpoint, _) in self.statements.values() {
            let count = counts.entry(*endpoint).or_default();
            *count = count.saturating_add(1);
        }
        let present = self.present;
        let (endpoint, count) =
            counts.into_iter().max_by_key(|(endpoint, count)| (*count, Some(*endpoint) == present))?;
        if count < MIN_STATEMENTS {
            return None;
        }
        self.present = Some(endpoint);
        self.present
    }
}

/// Both families' votes.
#[derive(Debug, Default)]
pub(crate) struct ExternalIp {
    v4: Votes,
    v6: Votes,
}

impl ExternalIp {
    /// `voter` has answered our ping and says that it came from `endpoint`. Returns the endpoint of that family which
    /// now has the majority, if one has.
    pub(crate) fn vote(&mut self, now: Instant, voter: IpAddr, endpoint: SocketAddr) -> Option<SocketAddr> {
        // Who is asked over one family cannot see our address in the other; and ten networks of IPv6 come cheaper.
        if voter.is_ipv4() != endpoint.is_ipv4() || check_relay(voter, endpoint.ip()).is_err() || endpoint.port() == 0 {
            return None;
        }
        // One vote for each /24 or /48: who controls a host controls its neighbourhood's statements.
        let votes = if endpoint.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        votes.add(now, network(voter), endpoint);
        votes.winner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Now;

    fn voter(n: u8, host: u8) -> IpAddr {
        IpAddr::from([24, 0, n, host])
    }

    fn endpoint(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ten_networks_agree() {
        let (mut votes, now) = (ExternalIp::default(), Now::read().monotonic);
        let us = endpoint("23.1.1.1:30303");
        for n in 1..10 {
            assert_eq!(votes.vote(now, voter(n, 1), us), None);
            assert_eq!(votes.vote(now, voter(n, 2), us), None, "the same network again");
        }
        assert_eq!(votes.vote(now, voter(10, 1), us), Some(us));
    }

    #[test]
    fn the_majority_wins_and_the_latest_statement_of_a_network_counts() {
        let (mut votes, now) = (ExternalIp::default(), Now::read().monotonic);
        let (old, new) = (endpoint("23.1.1.1:30303"), endpoint("23.2.2.2:30303"));
        (0..19).for_each(|n| _ = votes.vote(now, voter(n, 1), old));
        let results: Vec<_> = (0..19).map(|n| votes.vote(now, voter(n, 2), new)).collect();
        assert_eq!(results[8], Some(old), "10 to 9");
        assert_eq!(results[9], Some(new), "9 to 10");
    }

    /// Two uplinks: as many networks see us at the one as at the other.
    #[test]
    fn a_tie_stays_with_the_present_address_whichever_it_is() {
        let (low, high) = (endpoint("23.1.1.1:30303"), endpoint("23.2.2.2:30303"));
        for (present, other) in [(low, high), (high, low)] {
            let (mut votes, now) = (ExternalIp::default(), Now::read().monotonic);
            (0..12).for_each(|n| _ = votes.vote(now, voter(n, 1), present));
            (12..24).for_each(|n| assert_eq!(votes.vote(now, voter(n, 1), other), Some(present), "12 to {}", n - 11));
            for n in 0..100 {
                // Both are said again and again, in turn.
                assert_eq!(votes.vote(now, voter(n % 12, 1), present), Some(present));
                assert_eq!(votes.vote(now, voter(12 + n % 12, 1), other), Some(present));
            }
            assert_eq!(votes.vote(now, voter(24, 1), other), Some(other), "12 to 13");
            assert_eq!(votes.vote(now, voter(25, 1), present), Some(other), "13 to 13");
        }
    }

    /// Too few statements are no reason to change, and no reason to forget what was said before.
    #[test]
    fn the_present_address_keeps_its_ties_after_a_silence() {
        let (low, high) = (endpoint("23.1.1.1:30303"), endpoint("23.2.2.2:30303"));
        let (mut votes, now) = (ExternalIp::default(), Now::read().monotonic);
        (0..10).for_each(|n| _ = votes.vote(now, voter(n, 1), low));
        let later = now + WINDOW;
        (0..9).for_each(|n| assert_eq!(votes.vote(later, voter(n, 1), low), None));
        (10..19).for_each(|n| assert_eq!(votes.vote(later, voter(n, 1), high), None));
        assert_eq!(votes.vote(later, voter(9, 1), low), Some(low), "10 to 9");
        assert_eq!(votes.vote(later, voter(19, 1), high), Some(low), "10 to 10");
    }

    #[test]
    fn statements_are_forgotten_after_five_minutes() {
        let (mut votes, now) = (ExternalIp::default(), Now::read().monotonic);
        let us = endpoint("23.1.1.1:30303");
        (0..9).for_each(|n| _ = votes.vote(now, voter(n, 1), us));
        assert_eq!(votes.vote(now + WINDOW, voter(10, 1), us), None);
    }

    #[test]
    fn nobody_on_the_internet_tells_us_we_are_on_loopback() {
        let (mut votes, now) = (ExternalIp::default(), Now::read().monotonic);
        for lie in ["127.0.0.1:30303", "10.0.0.1:30303", "0.0.0.0:1", "224.0.0.1:1", "23.1.1.1:0"] {
            (0..100).for_each(|n| assert_eq!(votes.vote(now, voter(n, 1), endpoint(lie)), None));
        }
    }

    #[test]
    fn families_are_counted_apart_and_memory_is_bounded() {
        let (mut votes, now) = (ExternalIp::default(), Now::read().monotonic);
        let (v4, v6) = (endpoint("23.1.1.1:30303"), endpoint("[2a00::1]:30303"));
        (0..10).for_each(|n| _ = votes.vote(now, voter(n, 1), v4));
        let mut won = None;
        for n in 0..1000_u16 {
            won = votes.vote(now, IpAddr::from([0x2a01, n, 0, 0, 0, 0, 0, 1]), v6);
        }
        assert_eq!(won, Some(v6));
        assert_eq!((votes.v4.statements.len(), votes.v6.statements.len()), (10, MAX_VOTERS));
    }

    #[test]
    fn nobody_votes_on_the_family_it_does_not_see() {
        let (mut votes, now) = (ExternalIp::default(), Now::read().monotonic);
        for n in 0..100_u8 {
            let v6 = IpAddr::from([0x2a01, u16::from(n), 0, 0, 0, 0, 0, 1]);
            assert_eq!(votes.vote(now, v6, endpoint("23.1.1.1:30303")), None);
            assert_eq!(votes.vote(now, voter(n, 1), endpoint("[2a00::1]:30303")), None);
        }
    }

    #[test]
    fn one_vote_for_each_48_of_ipv6() {
        let (mut votes, now) = (ExternalIp::default(), Now::read().monotonic);
        let (us, at) = (endpoint("[2a00::1]:30303"), |net, host| IpAddr::from([0x2a01, 0, net, host, 0, 0, 0, host]));
        (0..100).for_each(|host| assert_eq!(votes.vote(now, at(0, host), us), None, "all in one network"));
        (1..9).for_each(|net| assert_eq!(votes.vote(now, at(net, 1), us), None));
        assert_eq!(votes.vote(now, at(9, 1), us), Some(us));
    }
}
