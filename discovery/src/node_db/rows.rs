//! What is in the tables, and the statements that write and read it.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{NODE_EXPIRATION, StoredNode};
use crate::{
    Enr, NodeId, NodeRecord, PublicKey,
    table::{FRESHEST_SEEDS, SEED_COUNT, SEED_MAX_AGE},
};

/// Most nodes kept: some 30 MB of file. The ones with the oldest pongs go first.
const MAX_NODES: u32 = 100_000;

pub(super) const SCHEMA: &str = "
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

pub(super) fn write_node(connection: &Connection, node: &StoredNode) -> rusqlite::Result<()> {
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

pub(super) fn write_find_failures(
    connection: &Connection,
    id: &NodeId,
    ip: IpAddr,
    failures: u32,
) -> rusqlite::Result<()> {
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

pub(super) fn write_local(connection: &Connection, record: &Enr) -> rusqlite::Result<()> {
    let sql = "INSERT INTO local (id, record) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET record = excluded.record";
    connection.prepare_cached(sql)?.execute(params![record.node_id().0, record.encode()])?;
    Ok(())
}

pub(super) fn expire(connection: &Connection, now: SystemTime) -> rusqlite::Result<()> {
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

pub(super) fn read_seeds(connection: &Connection, local: NodeId, now: SystemTime) -> rusqlite::Result<Vec<StoredNode>> {
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

pub(super) fn read_local(connection: &Connection, local: NodeId) -> rusqlite::Result<Option<Enr>> {
    let sql = "SELECT record FROM local WHERE id = ?1";
    let record: Option<Vec<u8>> = connection.query_row(sql, [local.0], |row| row.get(0)).optional()?;
    Ok(record.and_then(|record| Enr::decode(&record).ok()).filter(|record| record.node_id() == local))
}

/// Seconds since 1970, as SQLite counts.
pub(super) fn unix(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}
