//! Questions that came right behind the pong that allows them.
//!
//! A node may send its pong and its FindNode back to back. The pong proves its endpoint only after a worker has recovered its
//! signer, and meanwhile the FindNode would be refused. So questions from an address whose pong is with the workers wait.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::discv4::{message::Kind, packet::Unverified};

/// Questions that wait for one address. Few ask more than one at a time.
const MAX_HELD: usize = 4;

/// Addresses whose pongs are with the workers. Bounded by the workers' queue: only pongs that answer pings of ours get
/// there.
#[derive(Debug, Default)]
pub(super) struct PongQueue(BTreeMap<SocketAddr, Held>);

#[derive(Debug, Default)]
struct Held {
    pongs: usize,
    questions: Vec<Unverified>,
}

impl PongQueue {
    /// Takes the packet if it has to wait; gives it back otherwise.
    pub(super) fn hold(&mut self, from: SocketAddr, packet: Unverified) -> Option<Unverified> {
        let is_question = matches!(packet.header().kind, Kind::FindNode | Kind::EnrRequest);
        match self.0.get_mut(&from).filter(|held| is_question && held.questions.len() < MAX_HELD) {
            Some(held) => {
                held.questions.push(packet);
                None
            }
            None => Some(packet),
        }
    }

    /// A packet of this kind went to the workers.
    pub(super) fn queued(&mut self, from: SocketAddr, kind: Kind) {
        if kind == Kind::Pong {
            let held = self.0.entry(from).or_default();
            held.pongs = held.pongs.saturating_add(1);
        }
    }

    /// A packet of this kind came back from the workers and was handled: what can go on now.
    pub(super) fn recovered(&mut self, from: SocketAddr, kind: Kind) -> Vec<Unverified> {
        let Some(held) = self.0.get_mut(&from).filter(|_| kind == Kind::Pong) else { return Vec::new() };
        held.pongs = held.pongs.saturating_sub(1);
        if held.pongs > 0 {
            return Vec::new();
        }
        self.0.remove(&from).map(|held| held.questions).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        SecretKey,
        discv4::{
            message::{Endpoint, EnrRequest, Message, Pong},
            packet::encode,
        },
    };

    fn packet(message: &Message) -> Unverified {
        let key = SecretKey::from_bytes(&[1; 32]).unwrap();
        Unverified::parse(&encode(&key, message).datagram).unwrap()
    }

    #[test]
    fn a_question_waits_for_the_pong_in_front_of_it() {
        let (a, b): (SocketAddr, SocketAddr) = ("1.1.1.1:1".parse().unwrap(), "2.2.2.2:2".parse().unwrap());
        let question = packet(&Message::EnrRequest(EnrRequest { expiration: 1 }));
        let to = Endpoint { ip: None, udp: 0, tcp: 0 };
        let pong = packet(&Message::Pong(Pong { to, ping_hash: [0; 32], expiration: 1, enr_seq: None }));
        let mut pongs = PongQueue::default();
        assert!(pongs.hold(a, question.clone()).is_some(), "no pong is under way");
        pongs.queued(a, Kind::Pong);
        pongs.queued(a, Kind::Pong);
        assert!(pongs.hold(a, pong).is_some(), "only questions wait");
        assert!(pongs.hold(b, question.clone()).is_some(), "another address");
        for _ in 0..MAX_HELD {
            assert!(pongs.hold(a, question.clone()).is_none());
        }
        assert!(pongs.hold(a, question).is_some(), "few questions wait");
        assert!(pongs.recovered(a, Kind::Ping).is_empty());
        assert!(pongs.recovered(a, Kind::Pong).is_empty(), "another pong is under way");
        assert_eq!(pongs.recovered(a, Kind::Pong).len(), MAX_HELD);
        assert!(pongs.0.is_empty());
    }
}
