//! What survives a restart: nodes that answered, and our own signed record. A driver over SQLite (WAL, one writer thread).
//!
//! The machine only says "store this" and is given seeds; it never waits for the disk. Writes go through a bounded queue to a
//! thread that commits them in batches; when the queue is full an update is dropped and counted, since the next check of the
//! node brings another. A file that is damaged, or of another version, is set aside as `<file>.corrupt-<unix time>` with a
//! warning, and the store starts empty.

use std::{
    ffi::OsString,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

use crate::{
    Blame, Enr, NodeId, NodeRecord, PublicKey,
    table::{FRESHEST_SEEDS, SEED_COUNT, SEED_MAX_AGE},
};

/// Nodes without a pong for so long are dropped by [`NodeDb::expire`] (go-ethereum `nodeDBNodeExpiration`). Shorter than
/// [`SEED_MAX_AGE`] on purpose: expiry only runs while we do, and after three days off the nodes of three days ago are
/// better than none.
pub const NODE_EXPIRATION: Duration = Duration::from_secs(24 * 60 * 60);

/// Most nodes kept: some 30 MB of file. The ones with the oldest pongs go first.
const MAX_NODES: u32 = 100_000;

/// Writes waiting for the disk. Checks bring about one a second, a crawl some hundreds.
const QUEUE: usize = 1024;

/// Writes in one transaction.
const MAX_BATCH: usize = 256;

/// Raised whenever the schema changes; another version is set aside.
const SCHEMA_VERSION: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE nodes (
        id BLOB PRIMARY KEY,            -- 32 bytes
        key BLOB NOT NULL,              -- X || Y
        ip BLOB NOT NULL,               -- 4 or 16 bytes
        udp INTEGER NOT NULL,
        tcp INTEGER NOT NULL,
        enr BLOB,                       -- the signed record, if any
        seq BLOB NOT NULL,              -- 8 bytes big-endian; 0 for an unsigned record
        last_pong INTEGER NOT NULL,     -- unix seconds
        checks INTEGER NOT NULL,        -- checks answered in a row
        find_failures INTEGER NOT NULL, -- FindNode requests unanswered in a row
        inbound INTEGER NOT NULL        -- 1 if all that speaks for it is that it contacted us
    ) WITHOUT ROWID;
    CREATE INDEX nodes_by_pong ON nodes (last_pong);
    CREATE TABLE local (
        id BLOB PRIMARY KEY,            -- 32 bytes: a data folder may see several keys
        record BLOB NOT NULL            -- our last signed record
    ) WITHOUT ROWID;";

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
    /// The [`FRESHEST_SEEDS`] nodes with the latest pongs, latest first, and [`SEED_COUNT`] others drawn at random; none
    /// without a pong in the last [`SEED_MAX_AGE`].
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

#[derive(Default)]
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
#[derive(Clone, Default)]
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
        let writer =
            Writer { path: path.to_owned(), local, connection, own: own.clone(), counters: counters.clone(), now };
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
}

impl Writer {
    fn run(mut self, queue: &Receiver<Write>) {
        while let Ok(first) = queue.recv() {
            let batch: Vec<_> = std::iter::once(first).chain(queue.try_iter().take(MAX_BATCH)).collect();
            let own = self.own.take();
            if let Err(error) = self.commit(&batch, own.as_ref()) {
                self.own.put_back(own);
                self.counters.failed.fetch_add(batch.len() as u64, Ordering::Relaxed);
                tracing::warn!(path = %self.path.display(), %error, "node database: write failed");
                if is_damage(&error) {
                    self.start_fresh();
                }
            }
        }
        // Folds the log into the file, so that a stopped node leaves one file.
        let _ = self.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
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

/// Opens the file and reads what it knows; if that shows damage or another version, sets it aside and creates a new one.
fn open_sound(path: &Path, local: NodeId, now: SystemTime) -> Result<(Connection, Remembered), NodeDbError> {
    match open_once(path).and_then(|connection| read(connection, local, now)) {
        Ok(opened) => Ok(opened),
        Err(error) if is_bad_file(path, &error) => {
            let moved = set_aside(path, now)?;
            tracing::warn!(path = %path.display(), %error, moved = %moved.display(), "node database set aside");
            let connection = open_once(path).map_err(|source| NodeDbError::Sqlite { path: path.to_owned(), source })?;
            Ok((connection, Remembered { set_aside: Some(moved), ..Remembered::default() }))
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            Err(NodeDbError::InUse(path.to_owned()))
        }
        Err(source) => Err(NodeDbError::Sqlite { path: path.to_owned(), source }),
    }
}

fn read(connection: Connection, local: NodeId, now: SystemTime) -> rusqlite::Result<(Connection, Remembered)> {
    let seeds = read_seeds(&connection, local, now)?;
    let local_record = read_local(&connection, local)?;
    Ok((connection, Remembered { seeds, local_record, set_aside: None }))
}

fn open_once(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::ZERO)?;
    // One process only: two would take each other's sequence numbers.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A power failure may cost the last batch, never the file.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (version, tables) {
        (0, 0) => transaction.execute_batch(SCHEMA)?,
        (SCHEMA_VERSION, _) => {
            // Not quick_check: a bad index would hide nodes for ever.
            let verdict: String = transaction.pragma_query_value(None, "integrity_check", |row| row.get(0))?;
            if verdict != "ok" {
                return Err(damage(format!("integrity_check: {verdict}")));
            }
            // Whether our tables are there: anybody can write a version into a file.
            transaction
                .prepare("SELECT id, key, ip, udp, tcp, enr, seq, last_pong, checks, find_failures, inbound FROM nodes")
                .and(transaction.prepare("SELECT id, record FROM local"))
                .map(drop)
                .map_err(|error| damage(error.to_string()))?;
        }
        (version, _) => return Err(damage(format!("version {version}, want {SCHEMA_VERSION}"))),
    }
    // Shows whether it can be written.
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(connection)
}

/// A finding of ours in SQLite's words, so that there is one kind of damage.
fn damage(what: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(what))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether a file that does not open is to be set aside. A flipped bit in its header can also make it one of a later
/// format, which SQLite refuses with an error of no kind, or only reads.
fn is_bad_file(path: &Path, error: &rusqlite::Error) -> bool {
    let may_be_written = || fs::metadata(path).is_ok_and(|file| !file.permissions().readonly());
    match error.sqlite_error_code() {
        Some(ErrorCode::ReadOnly) => may_be_written(),
        code => code == Some(ErrorCode::Unknown) || is_damage(error),
    }
}

/// Moves the file and its log away; a log left behind would be replayed into the next file of that name.
fn set_aside(path: &Path, now: SystemTime) -> Result<PathBuf, NodeDbError> {
    let with_suffix = |suffix: &str| {
        let mut name = OsString::from(path);
        name.push(suffix);
        PathBuf::from(name)
    };
    let io = |source| NodeDbError::Io { path: path.to_owned(), source };
    // Two in one second are possible; neither may overwrite the other.
    let seconds = unix(now);
    let moved = (seconds..seconds.saturating_add(1000))
        .map(|number| with_suffix(&format!(".corrupt-{number}")))
        .find(|candidate| !candidate.exists())
        .ok_or_else(|| io(io::ErrorKind::AlreadyExists.into()))?;
    fs::rename(path, &moved).map_err(io)?;
    for log in ["-wal", "-shm"] {
        match fs::remove_file(with_suffix(log)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => (),
        }
    }
    Ok(moved)
}

fn write_node(connection: &Connection, node: &StoredNode) -> rusqlite::Result<()> {
    let record = &node.record;
    // Of two records the one with the higher sequence number stays; what we saw of the node is always newer.
    let sql = "INSERT INTO nodes (id, key, ip, udp, tcp, enr, seq, last_pong, checks, find_failures, inbound)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
        ON CONFLICT (id) DO UPDATE SET
            ip = iif(excluded.seq >= seq, excluded.ip, ip),
            udp = iif(excluded.seq >= seq, excluded.udp, udp),
            tcp = iif(excluded.seq >= seq, excluded.tcp, tcp),
            enr = iif(excluded.seq >= seq, excluded.enr, enr),
            seq = max(excluded.seq, seq),
            last_pong = excluded.last_pong, checks = excluded.checks, find_failures = excluded.find_failures,
            inbound = excluded.inbound";
    connection.prepare_cached(sql)?.execute(params![
        record.id().0,
        record.key().as_bytes(),
        octets(record.ip()),
        record.udp(),
        record.tcp(),
        record.enr().map(Enr::encode),
        record.seq().to_be_bytes(),
        unix(node.last_pong),
        node.checks,
        node.find_failures,
        node.inbound,
    ])?;
    Ok(())
}

fn write_find_failures(connection: &Connection, id: &NodeId, ip: IpAddr, failures: u32) -> rusqlite::Result<()> {
    let sql = "UPDATE nodes SET find_failures = ?3 WHERE id = ?1 AND ip = ?2";
    connection.prepare_cached(sql)?.execute(params![id.0, octets(ip), failures])?;
    Ok(())
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn write_local(connection: &Connection, record: &Enr) -> rusqlite::Result<()> {
    let sql = "INSERT INTO local (id, record) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET record = excluded.record";
    connection.prepare_cached(sql)?.execute(params![record.node_id().0, record.encode()])?;
    Ok(())
}

fn expire(connection: &Connection, now: SystemTime) -> rusqlite::Result<()> {
    let (now, day) = (unix(now), NODE_EXPIRATION.as_secs() as i64);
    let (oldest, newest) = (now.saturating_sub(day), now.saturating_add(day));
    let recent = "SELECT EXISTS (SELECT 1 FROM nodes WHERE last_pong BETWEEN ?1 AND ?2)";
    if connection.query_row(recent, [oldest, newest], |row| row.get(0))? {
        connection.execute("DELETE FROM nodes WHERE last_pong NOT BETWEEN ?1 AND ?2", [oldest, newest])?;
    }
    let surplus = "DELETE FROM nodes WHERE id IN (SELECT id FROM nodes ORDER BY last_pong DESC LIMIT -1 OFFSET ?1)";
    connection.execute(surplus, [MAX_NODES])?;
    Ok(())
}

fn read_seeds(connection: &Connection, local: NodeId, now: SystemTime) -> rusqlite::Result<Vec<StoredNode>> {
    let oldest = unix(now).saturating_sub(SEED_MAX_AGE.as_secs() as i64);
    let sql = "WITH known AS (SELECT * FROM nodes WHERE last_pong >= ?1 AND id != ?2),
        freshest AS (SELECT * FROM known ORDER BY last_pong DESC, id LIMIT ?3),
        others AS (SELECT * FROM known WHERE id NOT IN (SELECT id FROM freshest) ORDER BY random() LIMIT ?4)
        SELECT key, ip, udp, tcp, enr, last_pong, checks, find_failures, inbound
        FROM (SELECT * FROM freshest UNION ALL SELECT * FROM others) ORDER BY last_pong DESC";
    let mut statement = connection.prepare(sql)?;
    let counts = (FRESHEST_SEEDS as i64, SEED_COUNT as i64);
    let rows = statement.query_map(params![oldest, local.0, counts.0, counts.1], read_node)?;
    let nodes = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let unreadable = nodes.iter().filter(|node| node.is_none()).count();
    if unreadable > 0 {
        tracing::warn!(unreadable, "node database: rows that are no nodes were skipped");
    }
    Ok(nodes.into_iter().flatten().collect())
}

/// `None` if the row holds no node: SQLite keeps pages sound, not their meaning.
fn read_node(row: &Row<'_>) -> rusqlite::Result<Option<StoredNode>> {
    let enr = row.get_ref(4)?.as_blob_or_null().ok().flatten();
    let ip =
        row.get_ref(1).ok().and_then(|ip| ip.as_blob().ok()).and_then(|ip| {
            <[u8; 4]>::try_from(ip).map(IpAddr::from).or(<[u8; 16]>::try_from(ip).map(IpAddr::from)).ok()
        });
    let endpoint = || {
        let key = PublicKey::from_bytes(row.get_ref(0).ok()?.as_blob().ok()?.try_into().ok()?).ok()?;
        NodeRecord::new(key, ip?, row.get(2).ok()?, row.get(3).ok()?).ok()
    };
    // A record may give two endpoints: it is the one it was stored at that has answered.
    let of_enr = |enr: Enr| {
        let stored = NodeRecord::from_enr_where(enr.clone(), |at| Some(at) == ip);
        stored.or_else(|_| NodeRecord::from_enr(enr)).ok()
    };
    let record = match enr {
        Some(enr) => Enr::decode(enr).ok().and_then(of_enr).or_else(endpoint),
        None => endpoint(),
    };
    let last_pong = row.get::<_, i64>(5).ok().and_then(|seconds| u64::try_from(seconds).ok());
    let last_pong = last_pong.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    let (Some(record), Some(last_pong)) = (record, last_pong) else { return Ok(None) };
    let (checks, find_failures) = (row.get(6).unwrap_or(0), row.get(7).unwrap_or(0));
    // Not knowing better, it is one that contacted us.
    let inbound = row.get(8).unwrap_or(true);
    Ok(Some(StoredNode { record, last_pong, checks, find_failures, inbound }))
}

fn read_local(connection: &Connection, local: NodeId) -> rusqlite::Result<Option<Enr>> {
    let sql = "SELECT record FROM local WHERE id = ?1";
    let record: Option<Vec<u8>> = connection.query_row(sql, [local.0], |row| row.get(0)).optional()?;
    Ok(record.and_then(|record| Enr::decode(&record).ok()).filter(|record| record.node_id() == local))
}

/// Seconds since 1970, as SQLite counts.
fn unix(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
