//! What survives a restart: nodes that answered, and our own signed record. A driver over SQLite (WAL, one writer thread).
//!
//! The machine only says "store this" and is given seeds; it never waits for the disk. Writes go through a bounded queue to a
//! thread that commits them in batches; when the queue is full an update is dropped and counted, since the next check of the
//! node brings another. A file that is damaged, or of another version, is set aside as `<file>.corrupt-<unix time>` with a
//! warning, and the store starts empty.

mod file;
mod rows;

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use rusqlite::Connection;

use self::{
    file::{is_damage, open_sound, set_aside},
    rows::{expire, write_find_failures, write_local, write_node},
};
use crate::{Blame, Enr, NodeId, NodeRecord};

/// Nodes without a pong for so long are dropped by [`NodeDb::expire`] (go-ethereum `nodeDBNodeExpiration`). Shorter than
/// [`SEED_MAX_AGE`](crate::table::SEED_MAX_AGE) on purpose: expiry only runs while we do, and after three days off the nodes
/// of three days ago are better than none.
pub const NODE_EXPIRATION: Duration = Duration::from_secs(24 * 60 * 60);

/// Writes waiting for the disk. Checks bring about one a second, a crawl some hundreds.
const QUEUE: usize = 1024;

/// Writes in one transaction.
const MAX_BATCH: usize = 256;

/// Why the store does not open. Damage is no reason: a damaged file is set aside.
#[derive(Debug, thiserror::Error)]
pub enum NodeDbError {
    /// Another process has it open.
    #[error("node database {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// SQLite refused.
    #[error("node database {}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The system refused to move a damaged file, or to start a thread.
    #[error("node database {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl NodeDbError {
    /// Always [`Blame::Local`].
    pub fn blame(&self) -> Blame {
        Blame::Local
    }
}

/// What is kept of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredNode {
    /// The node as last known.
    pub record: NodeRecord,
    /// Its last pong, by the wall clock; kept to the second.
    pub last_pong: SystemTime,
    /// Checks answered in a row.
    pub checks: u32,
    /// FindNode requests unanswered in a row.
    pub find_failures: u32,
    /// Whether all that speaks for it is that it contacted us.
    pub inbound: bool,
}

/// What an opened store already knew.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// The [`FRESHEST_SEEDS`](crate::table::FRESHEST_SEEDS) nodes with the latest pongs, latest first, and
    /// [`SEED_COUNT`](crate::table::SEED_COUNT) others drawn at random; none without a pong in the last
    /// [`SEED_MAX_AGE`](crate::table::SEED_MAX_AGE).
    pub seeds: Vec<StoredNode>,
    /// Our own record as last published under this key.
    pub local_record: Option<Enr>,
    /// Where a damaged file was moved.
    pub set_aside: Option<PathBuf>,
}

/// Plain counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeDbStats {
    /// Updates dropped because the queue was full.
    pub dropped: u64,
    /// Updates lost because SQLite failed.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    dropped: AtomicU64,
    failed: AtomicU64,
}

enum Write {
    Node(Box<StoredNode>),
    FindFailures(NodeId, IpAddr, u32),
    /// Our own record is in its place.
    Local,
    Expire(SystemTime),
}

/// Our own record until it is written: a full queue or a full disk must not lose it, or a number would be used twice.
#[derive(Clone, Debug, Default)]
struct OwnRecord(Arc<Mutex<Option<Enr>>>);

impl OwnRecord {
    fn put(&self, record: Enr) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(record);
    }

    fn take(&self) -> Option<Enr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// It was not written, and is to be, unless there is a newer one.
    fn put_back(&self, record: Option<Enr>) {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *place = place.take().or(record);
    }
}

/// The open store. Dropping it ends the writer after what is queued; [`close`](Self::close) waits for that.
#[derive(Debug)]
pub struct NodeDb {
    writes: SyncSender<Write>,
    own: OwnRecord,
    counters: Arc<Counters>,
    writer: JoinHandle<()>,
}

impl NodeDb {
    /// Opens or creates the file, reads what it knows, and starts the writer. Blocks on the disk.
    pub fn open(path: &Path, local: NodeId, now: SystemTime) -> Result<(Self, Remembered), NodeDbError> {
        let (connection, remembered) = open_sound(path, local, now)?;
        let (own, counters) = (OwnRecord::default(), Arc::new(Counters::default()));
        let (writes, queue) = sync_channel(QUEUE);
        let writer = Writer {
            path: path.to_owned(),
            local,
            connection,
            own: own.clone(),
            counters: counters.clone(),
            now,
            is_failing: false,
        };
        let writer = std::thread::Builder::new()
            .name("kadwire-node-db".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|source| NodeDbError::Io { path: path.to_owned(), source })?;
        Ok((Self { writes, own, counters, writer }, remembered))
    }

    /// Queues a node. Never blocks: dropped and counted when the queue is full.
    pub fn store(&self, node: StoredNode) {
        self.queue(Write::Node(Box::new(node)));
    }

    /// Queues what has become of a node's FindNode requests; of one that is not stored at this address nothing is kept. Never
    /// blocks, as [`store`](Self::store).
    pub fn store_find_failures(&self, id: NodeId, ip: IpAddr, failures: u32) {
        self.queue(Write::FindFailures(id, ip, failures));
    }

    /// Has our own record written. Never blocks, and is never dropped: when the queue is full, or the write fails, the record
    /// goes with the next one that succeeds.
    pub fn store_local(&self, record: Enr) {
        self.own.put(record);
        // A full queue brings the writer here anyway.
        let _woken = self.writes.try_send(Write::Local);
    }

    /// Drops nodes without a pong in the last [`NODE_EXPIRATION`], and those with a pong as far in the future (the clock was
    /// wrong then); to be called about once an hour. Drops nobody unless somebody has answered in that time: a clock that is
    /// wrong now, or a network that is away, must not cost all we know.
    pub fn expire(&self, now: SystemTime) {
        self.queue(Write::Expire(now));
    }

    /// Plain counters.
    pub fn stats(&self) -> NodeDbStats {
        NodeDbStats {
            dropped: self.counters.dropped.load(Ordering::Relaxed),
            failed: self.counters.failed.load(Ordering::Relaxed),
        }
    }

    /// Writes what is queued and closes the file. Blocks on the disk.
    pub fn close(self) {
        drop(self.writes);
        if self.writer.join().is_err() {
            tracing::error!("node database: the writer panicked");
        }
    }

    fn queue(&self, write: Write) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.writes.try_send(write) {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Writer {
    path: PathBuf,
    local: NodeId,
    connection: Connection,
    own: OwnRecord,
    counters: Arc<Counters>,
    /// The last moment heard of: names a file that has to be set aside.
    now: SystemTime,
    /// The last batch was lost.
    is_failing: bool,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Write>) {
        while let Ok(first) = queue.recv() {
            let batch: Vec<_> = std::iter::once(first).chain(queue.try_iter().take(MAX_BATCH)).collect();
            self.write(&batch);
        }
        // Folds the log into the file, so that a stopped node leaves one file.
        let _ = self.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
    }

    /// Says once that nothing can be written, and once that it can again: a full disk stays full for many batches.
    fn write(&mut self, batch: &[Write]) {
        let own = self.own.take();
        let path = self.path.display().to_string();
        match self.commit(batch, own.as_ref()) {
            Ok(()) if self.is_failing => {
                self.is_failing = false;
                tracing::info!(%path, "node database: written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.own.put_back(own);
                self.counters.failed.fetch_add(batch.len() as u64, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%path, %error, "node database: what is to be written is lost, until it can be");
                }
                if is_damage(&error) {
                    self.start_fresh();
                }
            }
        }
    }

    fn commit(&mut self, batch: &[Write], own: Option<&Enr>) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        own.map_or(Ok(()), |record| write_local(&transaction, record))?;
        for write in batch {
            match write {
                Write::Node(node) => {
                    self.now = node.last_pong;
                    write_node(&transaction, node)?;
                }
                Write::FindFailures(id, ip, failures) => write_find_failures(&transaction, id, *ip, *failures)?,
                Write::Local => {}
                Write::Expire(now) => {
                    self.now = *now;
                    expire(&transaction, *now)?;
                }
            }
        }
        transaction.commit()
    }

    /// The file was damaged while we had it open: go on with an empty one.
    fn start_fresh(&mut self) {
        let Ok(idle) = Connection::open_in_memory() else { return };
        drop(std::mem::replace(&mut self.connection, idle)); // its lock must go before the file is moved
        match set_aside(&self.path, self.now).and_then(|_| Ok(open_sound(&self.path, self.local, self.now)?.0)) {
            Ok(connection) => self.connection = connection,
            Err(error) => tracing::error!(%error, "node database: nothing is stored from now on"),
        }
    }
}

#[cfg(test)]
mod tests;
