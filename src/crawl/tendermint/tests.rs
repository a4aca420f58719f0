//! Crawls of scripted networks: books of many sizes that answer with samples like CometBFT's, full peers, false addresses.

use std::collections::HashMap;

use kadwire_wire::tendermint::node_info::NodeInfo;
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::crawl::output::Describe;

/// How long a visit takes: two answers, each held back by CometBFT's flush time.
const VISIT: Duration = Duration::from_millis(250);

struct Scripted {
    address: PeerAddress,
    book: Vec<PeerAddress>,
    /// Closes before it answers, so many times.
    full: u32,
    /// Answers so many requests, then no more.
    allowance: usize,
    /// Hangs up after one answer, as a CometBFT seed does.
    seed: bool,
    online: bool,
    /// How long a visit to it takes.
    takes: Duration,
}

struct Network {
    rng: StdRng,
    peers: Vec<Scripted>,
    place: HashMap<PeerId, usize>,
    now: Now,
    visits: usize,
    last_answer: Instant,
}

fn address(number: usize) -> PeerAddress {
    let mut id = [0xab; 20];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let ip = [127, 7, (number / 250) as u8, 1 + (number % 250) as u8];
    PeerAddress::from_socket(PeerId::Tendermint(id), (ip, 26656).into()).unwrap()
}

impl Network {
    /// `count` peers; everyone knows `book` others.
    fn new(seed: u64, count: usize, book: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let peers = (0..count).map(|own| {
            let mut others: Vec<_> = (0..count).filter(|&other| other != own).collect();
            others.shuffle(&mut rng);
            let book = others.into_iter().take(book).map(address).collect();
            Scripted {
                address: address(own),
                book,
                full: 0,
                allowance: usize::MAX,
                seed: false,
                online: true,
                takes: VISIT,
            }
        });
        let peers: Vec<_> = peers.collect();
        let place = (0..count).map(|number| (address(number).id(), number)).collect();
        let now = Now::read();
        Network { rng, peers, place, now, visits: 0, last_answer: now.monotonic }
    }

    fn visit(&mut self, to: &PeerAddress) -> Visited {
        self.visits += 1;
        let refused = Visited { error: Some("refused"), hopeless: true, ..Visited::default() };
        let Some(peer) = self.place.get(&to.id()).map(|&place| &mut self.peers[place]) else { return refused };
        if peer.address != *to || !peer.online {
            return refused;
        }
        let mut info = NodeInfo::new(to.id().tendermint().unwrap(), "test-1", "scripted");
        info.channels = vec![0];
        let mut visited = Visited { node_info: Some(info), asked: 1, ..Visited::default() };
        if peer.full > 0 {
            peer.full -= 1;
            return Visited { error: Some("closed"), ..visited };
        }
        // pex.md §4, GetSelection.
        let size = peer.book.len();
        let selected = (size * 23 / 100).max(size.min(32)).min(250);
        for asked in 1..=if Visited::is_sample(selected) { 2 } else { 1 } {
            visited.asked = asked;
            if peer.allowance == 0 {
                return Visited { error: Some(UNANSWERED), ..visited };
            }
            if peer.seed && asked == 2 {
                return Visited { error: Some("closed"), ..visited };
            }
            peer.allowance -= 1;
            peer.book.shuffle(&mut self.rng);
            visited.answers.push(peer.book[..selected].to_vec());
        }
        visited
    }

    fn crawl(&mut self, config: Config) -> Crawl {
        let parallel = config.crawl.parallel;
        let mut crawl = Crawl::new(config, address(9_999).id());
        crawl.add(self.now, self.peers[0].address.clone());
        let mut in_flight: Vec<(Instant, PeerAddress)> = Vec::new();
        loop {
            while let Some(Visit { address, .. }) = crawl.poll_visit(self.now) {
                assert!(in_flight.iter().all(|(_, other)| other.id() != address.id()), "one visit at a time to a peer");
                let takes = self.place.get(&address.id()).map_or(VISIT, |&place| self.peers[place].takes);
                in_flight.push((self.now.monotonic + takes, address));
            }
            assert!(in_flight.len() <= parallel);
            if crawl.is_over() {
                return crawl;
            }
            // What ends at the same time ends in any order.
            in_flight.shuffle(&mut self.rng);
            let next = (0..in_flight.len()).min_by_key(|&place| in_flight[place].0);
            let ends = next.map(|place| in_flight[place].0);
            let due = crawl.poll_timeout().filter(|due| ends.is_none_or(|ends| *due < ends));
            let then = due.or(ends).expect("not over, so something is due");
            self.now = self.now.after(then.saturating_duration_since(self.now.monotonic));
            if let (None, Some(place)) = (due, next) {
                let (_, address) = in_flight.swap_remove(place);
                let visited = self.visit(&address);
                self.last_answer = if visited.answers.is_empty() { self.last_answer } else { self.now.monotonic };
                crawl.handle_visited(self.now, address.id(), visited);
            }
        }
    }
}

#[test]
fn a_network_with_small_books_is_visited_once_each() {
    let mut network = Network::new(1, 50, 10);
    let crawl = network.crawl(Config::default());
    assert_eq!((crawl.progress().found, crawl.progress().reachable, network.visits), (50, 50, 50));
    assert_eq!(crawl.progress().edges, 500, "an answer below 32 is the whole book");
}

#[test]
fn samples_are_taken_until_two_visits_more_bring_nothing_new() {
    let mut network = Network::new(2, 100, 99);
    let begun = network.now.monotonic;
    let crawl = network.crawl(Config::default());
    // The first peer, those it told, the others, and each twice more.
    assert!(network.now.monotonic - begun <= 5 * VISIT + 2 * Config::default().revisit_after);
    assert_eq!((crawl.progress().found, network.visits), (100, 300));
    // 32 of 99, six times.
    assert!(crawl.progress().edges > 8_500, "{}", crawl.progress().edges);
}

#[test]
fn the_dead_delay_nobody() {
    let mut network = Network::new(7, 100, 99);
    for peer in &mut network.peers[50..80] {
        (peer.online, peer.takes) = (false, Duration::from_secs(3));
    }
    let begun = network.now.monotonic;
    let crawl = network.crawl(Config::default());
    assert_eq!((crawl.progress().found, crawl.progress().reachable), (100, 70));
    let (answers, all) = (network.last_answer - begun, network.now.monotonic - begun);
    assert!(answers < Duration::from_secs(2), "the living had been visited three times after {answers:?}");
    assert!(all < Duration::from_secs(4), "{all:?}");
}

#[test]
fn who_answers_three_requests_and_no_more_is_not_asked_on_and_on() {
    let mut network = Network::new(6, 100, 99);
    network.peers.iter_mut().for_each(|peer| peer.allowance = 3);
    let crawl = network.crawl(Config::default());
    assert_eq!((crawl.progress().found, crawl.progress().reachable, network.visits), (100, 100, 200));
    assert!(crawl.topology().nodes().iter().all(|node| node.error.is_none()), "they did answer");
    assert_eq!(crawl.progress().asked - crawl.progress().answered, 100);
}

#[test]
fn a_seed_that_answers_once_and_hangs_up_is_asked_again() {
    for seed in 0..5 {
        let mut network = Network::new(seed, 60, 0);
        network.peers[0].book = (1..60).map(address).collect();
        network.peers[0].seed = true;
        let crawl = network.crawl(Config::default());
        assert!(crawl.progress().found > 58, "seed {seed}: {} found", crawl.progress().found);
        assert_eq!(crawl.topology().nodes().iter().filter(|node| node.error.is_some()).count(), 0);
    }
}

#[test]
fn a_node_that_only_one_large_book_knows_is_found_by_asking_again() {
    for seed in 0..5 {
        // The hub knows 300 and tells 69 at a time; the others know nobody else.
        let mut network = Network::new(seed, 301, 0);
        network.peers[0].book = (1..301).map(address).collect();
        let crawl = network.crawl(Config::default());
        assert!(crawl.progress().found > 298, "seed {seed}: {} found", crawl.progress().found);
        assert!(network.visits < 331, "seed {seed}: {} visits", network.visits);
    }
}

#[test]
fn a_full_peer_is_tried_again_and_a_dead_one_is_not() {
    let mut network = Network::new(3, 20, 19);
    network.peers[0].full = 1;
    network.peers[7].online = false;
    network.peers[8].full = 99;
    let crawl = network.crawl(Config::default());
    assert_eq!((crawl.progress().found, crawl.progress().reachable), (20, 19));
    let error = |number: usize| crawl.topology().node(&address(number).id()).unwrap().error;
    assert_eq!((error(0), error(7), error(8)), (None, Some("refused"), Some("closed")));
    assert_eq!(network.visits, 20 + 2);
}

#[test]
fn a_false_address_does_not_hide_a_peer() {
    let mut network = Network::new(4, 10, 9);
    for told in &mut network.peers[0].book {
        *told = PeerAddress::new(told.id(), "127.66.6.6".parse().unwrap(), 6).unwrap();
    }
    // Somebody is known truly, else there is no way in.
    network.peers[0].book[0] = network.peers[3].address.clone();
    network.peers[0].book.retain(|told| told.id() != address(3).id() || *told == address(3));
    let crawl = network.crawl(Config::default());
    assert_eq!(crawl.progress().reachable, 10);
    assert!(crawl.topology().nodes().iter().all(|node| node.address.port() == 26656));
}

#[test]
fn a_row_has_the_documented_fields() {
    let mut network = Network::new(5, 2, 1);
    let crawl = network.crawl(Config::default());
    let row = serde_json::to_value(crawl.topology().nodes()[0].row()).unwrap();
    assert_eq!(row["address"], address(0).to_string());
    assert_eq!(
        (&row["moniker"], &row["network"], &row["channels"]),
        (&"scripted".into(), &"test-1".into(), &"00".into())
    );
    assert_eq!(row["reachable"], true);
    assert!(row.get("error").is_none());
    let (from, to) = crawl.topology().edges().next().unwrap();
    assert_eq!(serde_json::to_value(from.edge(to)).unwrap()["kind"], "pex");

    network.peers[0].online = false;
    let crawl = network.crawl(Config::default());
    let row = serde_json::to_value(crawl.topology().nodes()[0].row()).unwrap();
    assert_eq!((&row["reachable"], &row["error"]), (&false.into(), &"refused".into()));
    assert!(row.get("moniker").is_none());
}
