//! A network on virtual time: hosts that answer, lie, are silent or gone, and one seed that visits them.

mod attacks;
mod guests;
mod network;
mod visits;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::Duration,
};

use kadwire_discovery::Now;
use kadwire_wire::{
    PeerAddress, PeerId,
    tendermint::{node_info::NodeInfo, pex_message::PexMessage},
};

use super::{Action, Config, Errand, Seed, Visit, Visited, Why};
use crate::{
    book::{Book, BookConfig},
    dial::tests::{id, peer_at},
    peers::ConnectionId,
    visit::{Answer, Trouble},
};

/// The seed itself.
const OWN: u32 = 1_000_000;

/// A visit to a host that is there takes so long.
const ROUND_TRIP: Duration = Duration::from_millis(20);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Peer `n`, in a /16 of its own.
fn peer(n: u32) -> PeerAddress {
    peer_at(n, &format!("{}.{}.0.1:26656", 30 + n / 250, n % 250))
}

/// What a visitor meets.
#[derive(Clone, Debug)]
enum Host {
    /// A peer that answers with these.
    Knows(Vec<PeerAddress>),
    /// A peer that answers otherwise.
    Says(Trouble),
    /// A peer whose handshake takes 4.9 s, and that never answers (5 s).
    Stalls,
    /// No peer of ours.
    Fails(Trouble),
}

struct World {
    now: Now,
    seed: Seed,
    /// Where nobody is, a dial is refused.
    hosts: HashMap<PeerAddress, Host>,
    /// Visits under way, by when they are over.
    under_way: BTreeMap<(std::time::Instant, u64), (Visit, Visited)>,
    /// Seconds since the start, and who was visited.
    visits: Vec<(f64, Visit)>,
    actions: Vec<Action>,
    /// Seconds since the start, and who was answered.
    answered: Vec<(f64, ConnectionId)>,
    started: Now,
    number: u64,
    guests: HashMap<u32, ConnectionId>,
}

impl World {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_book(change, Book::new(BookConfig { seed: 7, ..BookConfig::default() }))
    }

    fn with_book(change: impl FnOnce(&mut Config), book: Book) -> Self {
        let mut config = Config::new(id(OWN));
        change(&mut config);
        let now = Now::read();
        World {
            seed: Seed::new(now, config, book),
            now,
            hosts: HashMap::new(),
            under_way: BTreeMap::new(),
            visits: Vec::new(),
            actions: Vec::new(),
            answered: Vec::new(),
            started: now,
            number: 0,
            guests: HashMap::new(),
        }
    }

    fn host(mut self, n: u32, host: Host) -> Self {
        self.hosts.insert(peer(n), host);
        self
    }

    /// Peers that know nobody.
    fn hosts(mut self, numbers: impl IntoIterator<Item = u32>) -> Self {
        for n in numbers {
            self.hosts.insert(peer(n), Host::Knows(vec![]));
        }
        self
    }

    fn seconds(&self) -> f64 {
        (self.now.monotonic - self.started.monotonic).as_secs_f64()
    }

    /// Does what the seed asks for.
    fn settle(&mut self) {
        while let Some(visit) = self.seed.poll_visit(self.now) {
            let (took, visited) = self.outcome(&visit);
            self.visits.push((self.seconds(), visit.clone()));
            self.number += 1;
            self.under_way.insert((self.now.monotonic + took, self.number), (visit, visited));
        }
        while let Some(action) = self.seed.poll_action() {
            if let Action::Answer(number, _) = &action {
                self.answered.push((self.seconds(), *number));
            }
            self.actions.push(action);
        }
    }

    fn outcome(&self, visit: &Visit) -> (Duration, Visited) {
        let remote = visit.address.socket_addr();
        let answered = |answer| Visited::Reached { remote, answer: (visit.errand == Errand::Ask).then_some(answer) };
        match self.hosts.get(&visit.address) {
            Some(Host::Knows(addresses)) => {
                let addresses = addresses.iter().take(250).cloned().collect();
                (ROUND_TRIP, answered(Ok(Answer { addresses, skipped: 0 })))
            }
            Some(Host::Says(trouble)) => (ROUND_TRIP, answered(Err(*trouble))),
            Some(Host::Stalls) if visit.errand == Errand::Ask => (secs(10), answered(Err(Trouble::Unanswered))),
            Some(Host::Stalls) => (secs(5), answered(Err(Trouble::Unanswered))),
            Some(Host::Fails(Trouble::Timeout)) => (secs(3), Visited::Failed(Trouble::Timeout)),
            Some(Host::Fails(trouble)) => (ROUND_TRIP, Visited::Failed(*trouble)),
            None => (ROUND_TRIP, Visited::Failed(Trouble::Refused)),
        }
    }

    /// Lets so much time pass.
    fn run(&mut self, time: Duration) -> &mut Self {
        let end = self.now.after(time);
        self.settle();
        loop {
            let landing = self.under_way.first_key_value().map(|(key, _)| key.0);
            let next = landing.into_iter().chain([self.seed.poll_timeout()]).min().unwrap_or(end.monotonic);
            if next > end.monotonic {
                break;
            }
            self.now = self.now.after(next.saturating_duration_since(self.now.monotonic));
            match self.under_way.first_entry().filter(|first| first.key().0 <= self.now.monotonic) {
                Some(first) => {
                    let (visit, visited) = first.remove();
                    self.seed.handle_visited(self.now, &visit.address, visited);
                }
                None => self.seed.handle_timeout(self.now),
            }
            self.settle();
            self.seed.schedule.assert_bounds();
        }
        self.now = end;
        self
    }

    /// Who of these is served.
    fn served(&self, numbers: impl IntoIterator<Item = u32>) -> Vec<u32> {
        numbers.into_iter().filter(|n| self.seed.serves(&id(*n))).collect()
    }

    fn visits_to(&self, address: &PeerAddress) -> Vec<f64> {
        self.visits.iter().filter(|(_, visit)| visit.address == *address).map(|(at, _)| *at).collect()
    }

    // Guests.

    /// Peer `n` dials us from where it is, and says so.
    fn knock(&mut self, n: u32) -> Result<ConnectionId, crate::dial::WhyNot> {
        let at = peer(n).socket_addr().unwrap();
        self.knock_as(n, at, &at.to_string())
    }

    fn knock_as(&mut self, n: u32, from: SocketAddr, listen_addr: &str) -> Result<ConnectionId, crate::dial::WhyNot> {
        self.number += 1;
        let number = ConnectionId(self.number);
        self.seed.handle_incoming(self.now, number, Some(from.ip()))?;
        let node_info = NodeInfo {
            listen_addr: listen_addr.to_owned(),
            ..NodeInfo::new(id(n).tendermint().unwrap(), "chain", "guest")
        };
        let from = SocketAddr::new(from.ip(), 55_555);
        self.seed.handle_accepted(self.now, number, Some(from), &node_info)?;
        self.guests.insert(n, number);
        self.settle();
        Ok(number)
    }

    fn says(&mut self, n: u32, message: &[u8]) -> &mut Self {
        self.seed.handle_message(self.now, self.guests[&n], message);
        self.settle();
        self
    }

    fn asks(&mut self, n: u32) -> &mut Self {
        self.says(n, &PexMessage::Request.encode())
    }

    fn leaves(&mut self, n: u32) -> &mut Self {
        self.seed.handle_closed(self.now, self.guests[&n]);
        self.settle();
        self
    }

    /// What guest `n` was answered, if it was.
    fn answer_to(&self, n: u32) -> Option<Vec<PeerAddress>> {
        let number = self.guests[&n];
        self.actions.iter().find_map(|action| match action {
            Action::Answer(to, PexMessage::Addresses { addresses, .. } | PexMessage::AddressesV2 { addresses, .. })
                if *to == number =>
            {
                Some(addresses.clone())
            }
            _ => None,
        })
    }

    fn hung_up_on(&self, n: u32) -> Option<Why> {
        let number = self.guests[&n];
        self.actions.iter().find_map(|action| match action {
            Action::HangUp(to, why) if *to == number => Some(*why),
            _ => None,
        })
    }
}

fn ids(addresses: &[PeerAddress]) -> Vec<PeerId> {
    let mut ids: Vec<_> = addresses.iter().map(PeerAddress::id).collect();
    ids.sort();
    ids
}
