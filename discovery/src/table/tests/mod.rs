//! The table's rules as stories: nodes come, answer, fall silent, move.

mod bookkeeping;
mod cpp_ethereum;
mod entering;
mod liveness;
mod questions;
mod records;
mod starting;
mod subnets;

use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use rand::RngExt;

use super::revalidation::Pace;
use super::*;
use crate::SecretKey;

/// A table and made-up nodes, all in its last bucket (distance 256) unless said otherwise.
struct World {
    now: Instant,
    table: Table,
    rng: StdRng,
    made: u32,
}

const LAST: usize = 16;

impl World {
    fn new(config: TableConfig) -> World {
        let mut rng = StdRng::seed_from_u64(7);
        let now = crate::Now::read().monotonic;
        let table = Table::new(now, NodeId([0; 32]), config, Vec::new(), &mut rng);
        World { now, table, rng, made: 0 }
    }

    /// A world past its first refresh.
    fn started() -> World {
        World::started_with(TableConfig::default())
    }

    fn started_with(config: TableConfig) -> World {
        let mut world = World::new(config);
        world.finish_refresh();
        world
    }

    fn finish_refresh(&mut self) {
        self.table.handle_timeout(self.now);
        while let Some(action) = self.table.poll_action() {
            match action {
                Action::LookupSelf | Action::LookupRandom => self.table.refresh_lookup_done(self.now, self.table.len()),
                Action::Find { node, .. } => self.table.find_done(self.now, &node.id()),
                Action::Check(_) => {}
            }
        }
        assert!(self.table.is_initialised());
    }

    fn key_in(&mut self, bucket: usize) -> crate::PublicKey {
        let buckets = self.table.config().buckets;
        loop {
            let key = *SecretKey::random(&mut self.rng).public();
            if bucket_index(NodeId([0; 32]).log_distance(&key.node_id()), buckets) == bucket {
                return key;
            }
        }
    }

    fn node_at(&mut self, bucket: usize, ip: impl Into<IpAddr>) -> NodeRecord {
        NodeRecord::new(self.key_in(bucket), ip.into(), 30303, 30303).unwrap()
    }

    /// A node of a network of its own.
    fn node(&mut self) -> NodeRecord {
        self.made += 1;
        let ip = Ipv4Addr::from(0x1700_0001 + (self.made << 8));
        self.node_at(self.table.config().buckets - 1, ip)
    }

    fn add_nodes(&mut self, count: usize) -> Vec<NodeRecord> {
        let nodes: Vec<_> = (0..count).map(|_| self.node()).collect();
        for node in &nodes {
            assert_eq!(self.table.add_found(self.now, node), Ok(()));
        }
        nodes
    }

    /// Waits for the table to check `node`, then answers as `outcome` says.
    fn check(&mut self, node: &NodeRecord, outcome: Check) {
        for _ in 0..100_000 {
            self.now = self.table.poll_timeout().unwrap().max(self.now);
            self.table.handle_timeout(self.now);
            while let Some(action) = self.table.poll_action() {
                match action {
                    Action::Check(record) if record.id() == node.id() => {
                        self.table.check_done(self.now, &node.id(), outcome);
                        return;
                    }
                    Action::Check(record) => {
                        self.table.check_done(self.now, &record.id(), Check::Answered);
                    }
                    Action::LookupSelf | Action::LookupRandom => {
                        self.table.refresh_lookup_done(self.now, self.table.len())
                    }
                    Action::Find { node, .. } => self.table.find_done(self.now, &node.id()),
                }
            }
        }
        panic!("never checked");
    }

    fn pass(&mut self, node: &NodeRecord, times: usize) {
        (0..times).for_each(|_| self.check(node, Check::Answered));
    }

    fn miss(&mut self, node: &NodeRecord) {
        self.check(node, Check::Missed);
    }

    fn has(&self, node: &NodeRecord) -> bool {
        self.table.get(&node.id()).is_some()
    }

    /// What has changed; not who was alive.
    fn events(&mut self) -> Vec<TableEvent> {
        let all = std::iter::from_fn(|| self.table.poll_event());
        all.filter(|event| !matches!(event, TableEvent::Alive { .. })).collect()
    }

    /// Who was found alive, and how many checks it has passed.
    fn alive(&mut self) -> Vec<(NodeId, u32)> {
        let all = std::iter::from_fn(|| self.table.poll_event());
        all.filter_map(|event| match event {
            TableEvent::Alive { record, checks, .. } => Some((record.id(), checks)),
            TableEvent::Added(_) | TableEvent::Removed(_) => None,
        })
        .collect()
    }

    /// The checks wanted now.
    fn checks(&mut self) -> Vec<NodeRecord> {
        let all = std::iter::from_fn(|| self.table.poll_action());
        all.filter_map(|action| match action {
            Action::Check(node) => Some(node),
            _ => None,
        })
        .collect()
    }
}

fn moved(node: &NodeRecord, ip: &str, udp: u16) -> NodeRecord {
    NodeRecord::new(*node.key(), ip.parse().unwrap(), udp, udp).unwrap()
}

/// The same node with a signed record, which needs its secret key.
fn signed(key: &SecretKey, seq: u64, ip: &str) -> NodeRecord {
    let record = crate::Enr::builder(seq).ip(ip.parse().unwrap()).udp(30303).tcp(30303).sign(key).unwrap();
    NodeRecord::from_enr(record).unwrap()
}
