//! Crawls of scripted networks: tables like go-ethereum's, nodes that are silent, lose packets or lie.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use kadwire_discovery::{Enr, NodeId, NodeRecord, Now, SecretKey};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::crawl::output::Describe;

/// How a scripted node behaves.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Honest,
    Silent,
    /// Answers nothing the first `n` times it is asked.
    Deaf(u32),
    /// Answers FindNode with sixteen nodes that do not exist, each time others.
    Inventor,
    /// Shows that it lives but answers no FindNode.
    Mute,
}

struct Scripted {
    key: SecretKey,
    record: NodeRecord,
    table: Vec<NodeRecord>,
    /// Comes into the table once the node has been visited.
    later: Vec<NodeRecord>,
    manner: Manner,
}

struct Network {
    rng: StdRng,
    nodes: Vec<Scripted>,
    place: HashMap<NodeId, usize>,
    now: Now,
}

fn record(key: &SecretKey, number: usize) -> NodeRecord {
    let ip = IpAddr::V4(Ipv4Addr::new(127, 9, (number / 250) as u8, 1 + (number % 250) as u8));
    NodeRecord::new(*key.public(), ip, 30303, 30303).unwrap()
}

impl Network {
    /// `count` nodes; everyone's table has sixteen a bucket of all the others.
    fn new(seed: u64, count: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let keys: Vec<_> = (0..count).map(|_| SecretKey::random(&mut rng)).collect();
        let records: Vec<_> = keys.iter().enumerate().map(|(number, key)| record(key, number)).collect();
        let nodes = keys.into_iter().zip(&records).map(|(key, own)| {
            let mut fill = [0; 257];
            let mut others = records.clone();
            others.rotate_left(rng.random_range(0..count));
            others.retain(|other| {
                let bucket = other.id().log_distance(&own.id()) as usize;
                fill[bucket] += 1;
                bucket > 0 && fill[bucket] <= FULL
            });
            Scripted { key, record: own.clone(), table: others, later: Vec::new(), manner: Manner::Honest }
        });
        let nodes: Vec<_> = nodes.collect();
        let place = records.iter().enumerate().map(|(number, record)| (record.id(), number)).collect();
        Network { rng, nodes, place, now: Now::read() }
    }

    fn answer(&mut self, question: &Question) -> Answer {
        let silent = Answer::Failed("timeout");
        let Some(&place) = self.place.get(&question.to.id()) else { return silent };
        let node = &mut self.nodes[place];
        if node.record.endpoint() != question.to.endpoint() {
            return silent;
        }
        if question.ask == Ask::Record {
            // The last question of a visit.
            node.table.append(&mut node.later);
        }
        match (&mut node.manner, question.ask) {
            (Manner::Silent, _) => silent,
            (Manner::Deaf(0), _) | (Manner::Honest, _) => honest(node, question),
            (Manner::Deaf(left), _) => {
                *left -= 1;
                silent
            }
            (Manner::Mute, Ask::Neighbors(_)) => silent,
            (Manner::Inventor, Ask::Neighbors(_)) => {
                let invented = |_| record(&SecretKey::random(&mut self.rng), 77);
                Answer::Neighbors((0..FULL).map(invented).collect())
            }
            (Manner::Mute | Manner::Inventor, _) => honest(node, question),
        }
    }

    /// Runs a crawl from the first node to its end. Answers come in an order drawn from the seed.
    fn crawl(&mut self, config: Config) -> Crawl {
        let own = NodeId([9; 32]);
        let parallel = config.parallel;
        let mut crawl = Crawl::new(config, own);
        crawl.add(self.now, self.nodes[0].record.clone());
        let mut in_flight: Vec<Question> = Vec::new();
        loop {
            while let Some(question) = crawl.poll_question(self.now) {
                in_flight.push(question);
            }
            if crawl.is_over() {
                break;
            }
            let asked: HashSet<_> = in_flight.iter().map(|question| question.to.id()).collect();
            assert_eq!(asked.len(), in_flight.len(), "one question at a time to a node");
            assert!(in_flight.len() <= parallel);
            assert_eq!(crawl.progress().in_flight, in_flight.len());
            if in_flight.is_empty() {
                let due = crawl.poll_timeout().expect("not over, so something is due");
                self.now = self.now.after(due - self.now.monotonic);
                continue;
            }
            let question = in_flight.swap_remove(self.rng.random_range(0..in_flight.len()));
            let answer = self.answer(&question);
            crawl.handle_answer(self.now, question.to.id(), answer);
        }
        assert_eq!(crawl.progress().in_flight, 0);
        assert_eq!(crawl.poll_timeout(), None);
        crawl
    }

    fn edges(&self, keep: impl Fn(&Scripted) -> bool) -> BTreeSet<(NodeId, NodeId)> {
        let nodes = self.nodes.iter().filter(|node| keep(node));
        nodes.flat_map(|node| node.table.iter().map(|told| (node.record.id(), told.id()))).collect()
    }
}

fn honest(node: &Scripted, question: &Question) -> Answer {
    match question.ask {
        Ask::Neighbors(target) => {
            let target = NodeId::of_target(&target);
            let mut closest = node.table.clone();
            closest.sort_by_key(|other| other.id().distance(&target));
            closest.truncate(FULL);
            Answer::Neighbors(closest)
        }
        Ask::Ping => Answer::Pong,
        Ask::Record => Answer::Record(Enr::builder(7).address(node.record.ip()).udp(30303).sign(&node.key).unwrap()),
    }
}

fn crawled_edges(crawl: &Crawl) -> BTreeSet<(NodeId, NodeId)> {
    crawl.topology().edges().map(|(from, to)| (from.record.id(), to.record.id())).collect()
}

fn errors(crawl: &Crawl) -> usize {
    crawl.topology().nodes().iter().filter(|node| node.error.is_some()).count()
}

#[test]
fn every_node_and_every_table_entry_is_found() {
    for seed in [1, 2] {
        let mut network = Network::new(seed, 150);
        let crawl = network.crawl(Config { parallel: 16, ..Config::default() });
        assert_eq!(crawl.progress().found, 150, "seed {seed}");
        assert_eq!(crawl.progress().reachable, 150);
        assert_eq!(crawled_edges(&crawl), network.edges(|_| true), "seed {seed}");
        assert!(crawl.topology().nodes().iter().all(|node| node.enr.as_ref().is_some_and(|enr| enr.seq() == 7)));
        assert!(crawl.progress().asked < 150 * 8, "{} questions", crawl.progress().asked);
        assert_eq!(crawl.progress().asked, crawl.progress().answered);
    }
}

#[test]
fn who_comes_into_a_table_during_the_crawl_is_found_at_a_second_look() {
    let mut network = Network::new(11, 60);
    // Nobody names the last one; its neighbour does once it has been visited.
    let young = network.nodes[59].record.clone();
    network.nodes.iter_mut().for_each(|node| node.table.retain(|told| told.id() != young.id()));
    let neighbour = network.nodes[..59].iter_mut().min_by_key(|node| node.record.id().distance(&young.id())).unwrap();
    neighbour.later.push(young.clone());
    let crawl = network.crawl(Config::default());
    assert_eq!((crawl.progress().found, crawl.progress().reachable), (60, 60));
    assert_eq!(crawl.topology().node(&young.id()).map(|node| node.reachable), Some(true));
}

#[test]
fn silent_nodes_are_found_but_not_reachable() {
    let mut network = Network::new(3, 80);
    (0..80).filter(|number| number % 4 == 3).for_each(|number| network.nodes[number].manner = Manner::Silent);
    let crawl = network.crawl(Config::default());
    assert_eq!((crawl.progress().found, crawl.progress().reachable), (80, 60));
    assert_eq!(errors(&crawl), 20);
    assert_eq!(crawled_edges(&crawl), network.edges(|node| node.manner == Manner::Honest));
    // Three attempts each.
    assert_eq!(crawl.progress().asked - crawl.progress().answered, 60);
    assert!(crawl.topology().nodes().iter().filter(|node| node.reachable).all(|node| node.error.is_none()));
}

#[test]
fn a_crawl_that_nobody_answers_ends() {
    let mut network = Network::new(12, 3);
    network.nodes[0].manner = Manner::Silent;
    let crawl = network.crawl(Config::default());
    assert_eq!((crawl.progress().found, crawl.progress().reachable, crawl.progress().asked), (1, 0, 3));
    assert_eq!(Network::new(13, 1).crawl(Config::default()).progress().found, 1, "alone in its network");
}

#[test]
fn who_misses_a_question_is_asked_again_later() {
    let mut network = Network::new(4, 60);
    network.nodes.iter_mut().for_each(|node| node.manner = Manner::Deaf(2));
    let start = network.now;
    let crawl = network.crawl(Config::default());
    assert_eq!((crawl.progress().found, crawl.progress().reachable), (60, 60));
    assert_eq!(crawled_edges(&crawl), network.edges(|_| true));
    assert_eq!(errors(&crawl), 0, "nothing was given up");
    assert!(network.now.monotonic - start.monotonic >= Duration::from_millis(900), "300 ms, then 600 ms");
}

#[test]
fn a_false_endpoint_does_not_hide_a_node() {
    let mut network = Network::new(5, 30);
    // The start tells false endpoints for everybody; the others tell the true ones.
    for told in &mut network.nodes[0].table {
        *told = NodeRecord::new(*told.key(), IpAddr::V4(Ipv4Addr::new(127, 1, 1, 1)), 9, 9).unwrap();
    }
    // One of them the start knows well enough.
    let second = network.nodes[1].record.clone();
    *network.nodes[0].table.iter_mut().find(|told| told.id() == second.id()).unwrap() = second.clone();
    let crawl = network.crawl(Config::default());
    assert_eq!(crawl.progress().reachable, 30);
    assert!(
        crawl.topology().nodes().iter().all(|node| node.record.udp() == 30303),
        "the endpoint that answered is kept"
    );
}

#[test]
fn who_lives_but_tells_nothing_is_reachable_and_its_record_is_asked_for() {
    let mut network = Network::new(6, 20);
    network.nodes[5].manner = Manner::Mute;
    let mute = network.nodes[5].record.id();
    let crawl = network.crawl(Config::default());
    let node = crawl.topology().node(&mute).unwrap();
    assert!(node.reachable && node.enr.is_some());
    assert_eq!(node.error, Some("timeout"));
}

#[test]
fn an_inventor_of_nodes_is_bounded() {
    let mut network = Network::new(7, 20);
    network.nodes[2].manner = Manner::Inventor;
    let crawl = network.crawl(Config { parallel: 4, ..Config::default() });
    assert_eq!(crawl.progress().reachable, 20, "nothing honest is lost");
    let invented = crawl.progress().found - 20;
    assert!((FULL..=18 * FULL).contains(&invented), "{invented} invented: at most sixteen for each bucket");

    let mut network = Network::new(8, 20);
    network.nodes[0].manner = Manner::Inventor;
    let limits = crate::crawl::topology::Limits { nodes: 10, ..Default::default() };
    let crawl = network.crawl(Config { limits, ..Config::default() });
    assert_eq!(crawl.progress().found, 10);
    assert!(crawl.topology().turned_away().nodes > 0);
}

#[test]
fn the_crawler_itself_is_no_node() {
    let mut network = Network::new(9, 5);
    let own = SecretKey::random(&mut network.rng);
    let own_record = record(&own, 99);
    network.nodes[0].table.push(own_record.clone());
    let mut crawl = Crawl::new(Config::default(), own_record.id());
    crawl.add(network.now, own_record.clone());
    crawl.add(network.now, network.nodes[0].record.clone());
    let question = crawl.poll_question(network.now).unwrap();
    let answer = network.answer(&question);
    crawl.handle_answer(network.now, question.to.id(), answer);
    assert_eq!(crawl.progress().found, 5);
    assert!(crawl.topology().node(&own_record.id()).is_none());
}

#[test]
fn a_row_has_the_documented_fields() {
    let mut network = Network::new(10, 2);
    let crawl = network.crawl(Config::default());
    let node = &crawl.topology().nodes()[0];
    let row = serde_json::to_value(node.row()).unwrap();
    assert_eq!(row["id"], node.record.id().to_string());
    assert_eq!(row["ip"], "127.9.0.1");
    assert_eq!(
        (&row["udp"], &row["tcp"], &row["seq"], &row["reachable"]),
        (&30303.into(), &30303.into(), &7.into(), &true.into())
    );
    assert!(row["enode"].as_str().unwrap().starts_with("enode://") && row["enr"].as_str().unwrap().starts_with("enr:"));
    assert!(row.get("error").is_none() && row.get("tm").is_none());
    let (from, to) = crawl.topology().edges().next().unwrap();
    let edge = serde_json::to_value(from.edge(to)).unwrap();
    assert_eq!(edge["kind"], "table");
    assert_eq!(edge["distance"], u64::from(from.record.id().log_distance(&to.record.id())));
}
