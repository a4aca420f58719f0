//! Answers that are still on their way although their question is over.
//!
//! A FindNode that was repeated is answered twice by whoever was only slow, and Neighbors does not say what it answers: the second
//! answer would be taken for that to the next question, that one's for the next but one, and so on. A crawl misses buckets by it, a
//! lookup the nodes near its target. So what may still come is remembered for a moment, and a datagram that tells just what was told
//! before is taken for it. A true answer that tells the same costs a repetition: no more datagrams are taken than may be out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::message::{MAX_NEIGHBORS, Neighbor};
use super::requests::Request;
use crate::key::NodeId;
use crate::table::after;

/// How long an echo is waited for: what was on its way when the question ended. Nobody waits longer for an answer than half of this.
const AWAITED: Duration = Duration::from_secs(1);

/// Questions remembered, 1 MB at most; those beyond it go without.
const MAX_ECHOES: usize = 1024;

/// One over question.
#[derive(Debug)]
struct Echo {
    /// The keys told.
    told: Vec<[u8; 64]>,
    /// Datagrams that may still come.
    datagrams: usize,
    until: Instant,
}

/// The last repeated question to each node.
#[derive(Debug, Default)]
pub(crate) struct Echoes(HashMap<(NodeId, IpAddr), Echo>);

impl Echoes {
    /// A FindNode is over.
    pub(crate) fn expect(&mut self, now: Instant, request: &Request) {
        let each = request.told.len().div_ceil(MAX_NEIGHBORS).max(1);
        let all = usize::try_from(request.sent()).unwrap_or(usize::MAX).saturating_mul(each);
        let datagrams = all.saturating_sub(request.answers);
        if datagrams == 0 {
            return;
        }
        if self.0.len() >= MAX_ECHOES {
            self.0.retain(|_, echo| now < echo.until);
        }
        if self.0.len() < MAX_ECHOES {
            let echo = Echo { told: request.told.clone(), datagrams, until: after(now, AWAITED) };
            self.0.insert((request.node.id(), request.node.ip()), echo);
        }
    }

    /// Whether a datagram of Neighbors is such an answer.
    pub(crate) fn takes(&mut self, now: Instant, id: NodeId, ip: IpAddr, nodes: &[Neighbor]) -> bool {
        let Some(echo) = self.0.get_mut(&(id, ip)) else { return false };
        if echo.until <= now || echo.datagrams == 0 {
            self.0.remove(&(id, ip));
            return false;
        }
        let is_told = |node: &Neighbor| echo.told.contains(&node.key);
        let tells_the_same = nodes.is_empty() == echo.told.is_empty() && nodes.iter().all(is_told);
        if tells_the_same {
            echo.datagrams = echo.datagrams.saturating_sub(1);
        }
        tells_the_same
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discv4::requests::{Purpose, Question, Stage};
    use crate::{NodeRecord, Now, SecretKey};

    /// A question that was asked twice and answered once, to a host of its own.
    fn repeated(number: u16, now: Instant) -> Request {
        let key = *SecretKey::from_bytes(&[1; 32]).unwrap().public();
        let [high, low] = number.to_be_bytes();
        Request {
            node: NodeRecord::new(key, [24, 0, high, low].into(), 30303, 0).unwrap(),
            question: Question::FindNode([1; 64]),
            purpose: Purpose::User,
            stage: Stage::Sent,
            deadline: now,
            sends: vec![now; 2],
            hashes: Vec::new(),
            is_excused: false,
            answers: 1,
            received: 0,
            told: Vec::new(),
            nodes: Vec::new(),
        }
    }

    #[test]
    fn so_many_questions_are_remembered_and_for_a_second_only() {
        let (mut echoes, now) = (Echoes::default(), Now::read().monotonic);
        (0..2000).for_each(|number| echoes.expect(now, &repeated(number, now)));
        assert_eq!(echoes.0.len(), MAX_ECHOES);
        echoes.expect(now + AWAITED, &repeated(2000, now));
        assert_eq!(echoes.0.len(), 1);
    }
}
