//! The file: opened if it is sound, set aside if it is not.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, ErrorCode};

use super::{
    NodeDbError, Remembered,
    rows::{SCHEMA, read_local, read_seeds, unix},
};
use crate::NodeId;

/// Raised whenever the schema changes; another version is set aside.
const SCHEMA_VERSION: i64 = 2;

/// Opens the file and reads what it knows; if that shows damage or another version, sets it aside and creates a new one.
pub(super) fn open_sound(path: &Path, local: NodeId, now: SystemTime) -> Result<(Connection, Remembered), NodeDbError> {
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

pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
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
pub(super) fn set_aside(path: &Path, now: SystemTime) -> Result<PathBuf, NodeDbError> {
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
