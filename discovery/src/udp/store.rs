//! The node database as the driver has it: perhaps there is none, and once an hour it is swept.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{BindError, Config};
use crate::{
    Enr, NodeId, Now,
    node_db::{NodeDb, NodeDbStats, Remembered, StoredNode},
};

/// Pause between two sweeps (go-ethereum `nodeDBCleanupCycle`).
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);

pub(super) struct Store {
    db: Option<NodeDb>,
    next_sweep: Instant,
}

impl Store {
    /// Opens the database, if there is to be one. That reads the file, which may take long.
    pub(super) async fn open(config: &Config, now: Now) -> Result<(Self, Remembered), BindError> {
        let (db, remembered) = match config.node_db.clone() {
            Some(path) => {
                let (local, wall) = (config.key.public().node_id(), now.wall);
                let opened = tokio::task::spawn_blocking(move || NodeDb::open(&path, local, wall));
                let (db, remembered) = opened.await.map_err(|error| BindError::Thread(error.into()))??;
                (Some(db), remembered)
            }
            None => (None, Remembered::default()),
        };
        Ok((Self { db, next_sweep: next_sweep(now) }, remembered))
    }

    pub(super) fn node(&self, node: StoredNode) {
        if let Some(db) = &self.db {
            db.store(node);
        }
    }

    pub(super) fn find_failures(&self, id: NodeId, ip: IpAddr, failures: u32) {
        self.db.iter().for_each(|db| db.store_find_failures(id, ip, failures));
    }

    pub(super) fn local_record(&self, record: &Enr) {
        self.db.iter().for_each(|db| db.store_local(record.clone()));
    }

    pub(super) fn stats(&self) -> NodeDbStats {
        self.db.as_ref().map(NodeDb::stats).unwrap_or_default()
    }

    /// Writes what is left. Blocks on the disk.
    pub(super) fn close(self) {
        self.db.into_iter().for_each(NodeDb::close);
    }

    /// When to call [`Store::handle_timeout`] next.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.next_sweep
    }

    /// Sweeps if it is time.
    pub(super) fn handle_timeout(&mut self, now: Now) {
        if self.next_sweep <= now.monotonic {
            self.next_sweep = next_sweep(now);
            self.db.iter().for_each(|db| db.expire(now.wall));
        }
    }
}

fn next_sweep(now: Now) -> Instant {
    now.after(SWEEP_EVERY).monotonic
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::SystemTime};

    use super::*;
    use crate::{NodeRecord, SecretKey, node_db::NODE_EXPIRATION};

    const MINUTE: Duration = Duration::from_secs(60);

    fn config(path: PathBuf) -> Config {
        let key = SecretKey::from_bytes(&[1; 32]).unwrap();
        Config { node_db: Some(path), ..Config::new(key, ([127, 220, 1, 1], 0).into()) }
    }

    fn node(number: u8, last_pong: SystemTime) -> StoredNode {
        let key = SecretKey::from_bytes(&[number; 32]).unwrap();
        let record = NodeRecord::new(*key.public(), [127, 220, 1, number].into(), 30303, 0).unwrap();
        StoredNode { record, last_pong, checks: 6, find_failures: 0, inbound: false }
    }

    /// How many the file has.
    async fn stored(config: &Config, now: Now) -> usize {
        let (store, remembered) = Store::open(config, now).await.unwrap();
        store.close();
        remembered.seeds.len()
    }

    #[tokio::test]
    async fn the_database_is_swept_once_an_hour() {
        let folder = tempfile::tempdir().unwrap();
        let (config, start) = (config(folder.path().join("nodes.db")), Now::read());
        let at = |minutes: u32| start.after(MINUTE * minutes);
        // A node whose day is over after 30 minutes, one after 90, and one that answers whenever we look.
        let day = NODE_EXPIRATION;
        let fresh = |minutes| node(4, at(minutes).wall);
        for (until, left) in [(59, 3), (60, 2), (119, 2), (120, 1)] {
            let (mut store, _) = Store::open(&config, start).await.unwrap();
            store.node(node(2, start.wall + 30 * MINUTE - day));
            store.node(node(3, start.wall + 90 * MINUTE - day));
            for minutes in 0..=until {
                store.node(fresh(minutes));
                store.handle_timeout(at(minutes));
                assert_eq!(store.poll_timeout(), at(minutes / 60 * 60 + 60).monotonic, "after {minutes} min");
            }
            store.close();
            assert_eq!(stored(&config, at(until)).await, left, "after {until} min");
        }
    }

    /// After a suspended hour or ten there is one sweep, and the next an hour later.
    #[tokio::test]
    async fn missed_sweeps_are_not_made_up_for() {
        let folder = tempfile::tempdir().unwrap();
        let (config, start) = (config(folder.path().join("nodes.db")), Now::read());
        let (mut store, _) = Store::open(&config, start).await.unwrap();
        store.handle_timeout(start.after(630 * MINUTE));
        assert_eq!(store.poll_timeout(), start.after(690 * MINUTE).monotonic);
        store.close();
    }

    #[tokio::test]
    async fn without_a_database_there_is_nothing_to_do() {
        let (mut store, remembered) = {
            let config = Config { node_db: None, ..config(PathBuf::new()) };
            Store::open(&config, Now::read()).await.unwrap()
        };
        assert!(remembered.seeds.is_empty());
        store.node(node(2, Now::read().wall));
        store.handle_timeout(Now::read().after(90 * MINUTE));
        assert_eq!(store.stats(), NodeDbStats::default());
        store.close();
    }
}
