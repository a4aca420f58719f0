//! The store over restarts, and over what can happen to a file in between.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::*;
use crate::{
    SecretKey,
    table::{FRESHEST_SEEDS, SEED_COUNT},
};
use std::{fs, net::Ipv4Addr, time::UNIX_EPOCH};

const LOCAL: NodeId = NodeId([0; 32]);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 60 * 60)
}

fn key(number: u32) -> SecretKey {
    let mut scalar = [1; 32];
    scalar[..4].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_bytes(&scalar).unwrap()
}

fn node(number: u32) -> StoredNode {
    let ip = IpAddr::from(number.to_be_bytes().map(|byte| byte | 1));
    let record = NodeRecord::new(*key(number).public(), ip, 30303, 30304).unwrap();
    StoredNode { record, last_pong: now(), checks: 6, find_failures: 1, inbound: false }
}

fn signed(number: u32, seq: u64, udp: u16) -> StoredNode {
    let enr = Enr::builder(seq).ip(Ipv4Addr::new(10, 0, 0, 1)).udp(udp).sign(&key(number)).unwrap();
    StoredNode { record: NodeRecord::from_enr(enr).unwrap(), ..node(number) }
}

/// Opens, writes, closes: one run of a node.
fn run(path: &Path, now: SystemTime, body: impl FnOnce(&NodeDb)) -> Remembered {
    let (db, remembered) = NodeDb::open(path, LOCAL, now).unwrap();
    body(&db);
    assert_eq!(db.stats(), NodeDbStats::default());
    db.close();
    remembered
}

fn seeds(path: &Path, now: SystemTime) -> Vec<StoredNode> {
    let mut seeds = run(path, now, |_| ()).seeds;
    seeds.sort_by_key(|seed| seed.record.udp());
    seeds
}

#[test]
fn nodes_come_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    let v6 = NodeRecord::new(*key(3).public(), "2001:db8::1".parse().unwrap(), 1, 0).unwrap();
    let v6 = StoredNode { record: v6, inbound: true, ..node(3) };
    let stored = [v6, signed(2, u64::MAX, 2), node(1)]; // by UDP port
    let first = run(&path, now(), |db| stored.iter().for_each(|node| db.store(node.clone())));
    assert!(first.seeds.is_empty() && first.set_aside.is_none());
    assert_eq!(seeds(&path, now()), stored);
}

/// A node of both families has answered at one of its endpoints: that is the one to come back to.
#[test]
fn a_node_comes_back_where_it_was_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    let both = Enr::builder(1).ip([24, 0, 0, 1].into()).udp(1).ip6("2a00::1".parse().unwrap()).udp6(2);
    let both = both.sign(&key(1)).unwrap();
    for family in ["24.0.0.1:1", "[2a00::1]:2"] {
        let record = NodeRecord::from_enr_where(both.clone(), |ip| family.contains(&ip.to_string())).unwrap();
        run(&path, now(), |db| db.store(StoredNode { record, ..node(1) }));
        assert_eq!(seeds(&path, now())[0].record.endpoint().to_string(), family);
    }
}

#[test]
fn find_failures_come_back_and_are_those_of_one_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    let stored = |number| node(number).record;
    run(&path, now(), |db| {
        db.store(node(1));
        db.store_find_failures(stored(1).id(), stored(1).ip(), 4);
        db.store_find_failures(stored(1).id(), [9, 9, 9, 9].into(), 5);
        db.store_find_failures(stored(2).id(), stored(2).ip(), 5); // says nothing of a node that never answered
    });
    assert_eq!(seeds(&path, now()), [StoredNode { find_failures: 4, ..node(1) }]);
}

#[test]
fn the_record_with_the_higher_sequence_number_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    run(&path, now(), |db| {
        db.store(signed(1, 300, 5));
        db.store(StoredNode { last_pong: now() + days(1), checks: 9, ..signed(1, 299, 6) });
    });
    let kept = StoredNode { last_pong: now() + days(1), checks: 9, ..signed(1, 300, 5) };
    assert_eq!(seeds(&path, now()), [kept]);
}

#[test]
fn seeds_are_at_most_five_days_old() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    run(&path, now(), |db| {
        (1..=40).for_each(|number| db.store(node(number)));
        db.store(StoredNode { last_pong: now() - days(6), ..node(41) });
        db.store(StoredNode { last_pong: now() + days(2), ..node(42) }); // the clock was set back since
    });
    assert_eq!(seeds(&path, now()).len(), 41);
    assert_eq!(seeds(&path, now() + days(6)), [StoredNode { last_pong: now() + days(2), ..node(42) }]);
    assert_eq!(seeds(&path, now() + days(8)).len(), 0);
}

/// Those that answered last come back, which is everybody of the last table, and thirty of the others.
#[test]
fn seeds_are_the_freshest_and_thirty_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    let old = |number| StoredNode { last_pong: now() - days(1) + Duration::from_secs(number), ..node(number as u32) };
    run(&path, now(), |db| (1..=300).for_each(|number| db.store(node(number))));
    run(&path, now(), |db| (301..=600).for_each(|number| db.store(old(number))));
    let numbers = || -> Vec<u32> {
        let keys: Vec<_> = (1..=600).map(|number| *key(number).public()).collect();
        let seeds = run(&path, now(), |_| ()).seeds;
        seeds.iter().map(|seed| 1 + keys.iter().position(|key| key == seed.record.key()).unwrap() as u32).collect()
    };
    let drawn = numbers();
    let (fresh, others) = drawn.split_at(FRESHEST_SEEDS);
    assert_eq!((fresh.len(), others.len()), (FRESHEST_SEEDS, SEED_COUNT));
    assert!(fresh[..300].iter().all(|number| *number <= 300));
    assert_eq!(fresh[300..], (301..=600).rev().take(FRESHEST_SEEDS - 300).collect::<Vec<_>>());
    assert!(others.iter().all(|number| !fresh.contains(number)) && others.is_sorted_by(|a, b| a > b));
    assert_ne!(numbers()[FRESHEST_SEEDS..], *others, "others each time");
}

#[test]
fn we_are_no_seed_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    run(&path, now(), |db| db.store(node(1)));
    let (db, remembered) = NodeDb::open(&path, node(1).record.id(), now()).unwrap();
    assert!(remembered.seeds.is_empty());
    db.close();
}

#[test]
fn a_day_without_a_pong_is_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    run(&path, now(), |db| {
        db.store(StoredNode { last_pong: now() - days(2), ..node(1) });
        db.store(StoredNode { last_pong: now() - days(1), ..node(2) });
    });
    // Opening alone forgets nobody.
    assert_eq!(seeds(&path, now()).len(), 2);
    run(&path, now(), |db| db.expire(now()));
    assert_eq!(seeds(&path, now()).len(), 1);
}

/// A sweep while the clock is wrong deletes nothing; one with the right clock deletes what the wrong one has written, as
/// soon as anybody has answered.
#[test]
fn a_wrong_clock_expires_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    let future = StoredNode { last_pong: now() + days(3650), ..node(3) };
    run(&path, now(), |db| [node(1), node(2), future].into_iter().for_each(|node| db.store(node)));
    for wrong in [now() + days(2000), now() + days(30), now() - days(30), UNIX_EPOCH] {
        run(&path, now(), |db| db.expire(wrong));
        assert_eq!(seeds(&path, now()).len(), 3);
    }
    run(&path, now(), |db| db.expire(now()));
    assert_eq!(seeds(&path, now()).len(), 2, "the one from the future is gone");
}

#[test]
fn our_own_record_is_kept_for_each_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    let records = [1, 2].map(|number| Enr::builder(u64::from(number)).udp(1).sign(&key(number)).unwrap());
    for record in &records {
        run(&path, now(), |db| db.store_local(record.clone()));
    }
    for record in records {
        let (db, remembered) = NodeDb::open(&path, record.node_id(), now()).unwrap();
        assert_eq!(remembered.local_record, Some(record));
        db.close();
    }
    assert_eq!(run(&path, now(), |_| ()).local_record, None);
}

#[test]
fn only_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    let (first, _) = NodeDb::open(&path, LOCAL, now()).unwrap();
    assert!(matches!(NodeDb::open(&path, LOCAL, now()), Err(NodeDbError::InUse(_))));
    first.close();
    run(&path, now(), |_| ());
    let nowhere = folder.path().join("absent").join("nodes.db");
    assert!(matches!(NodeDb::open(&nowhere, LOCAL, now()), Err(NodeDbError::Sqlite { .. })));
}

/// Damages a good file, and expects it set aside and a fresh one in its place.
fn is_set_aside(damage: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    run(&path, now(), |db| (1..=200).for_each(|number| db.store(node(number))));
    damage(&path);
    let damaged = fs::read(&path).unwrap();
    let remembered = run(&path, now(), |db| db.store(node(7)));
    let moved = folder.path().join("nodes.db.corrupt-1800000000");
    assert_eq!(remembered.set_aside.as_deref(), Some(&*moved));
    assert!(remembered.seeds.is_empty());
    assert!(fs::read(&moved).unwrap().len() >= damaged.len().min(1), "the damaged file is kept");
    assert_eq!(seeds(&path, now()), [node(7)]);
    // A second misfortune in the same second overwrites nothing.
    fs::write(&path, b"not a database at all").unwrap();
    let again = run(&path, now(), |_| ()).set_aside.unwrap();
    assert_eq!(again, folder.path().join("nodes.db.corrupt-1800000001"));
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    is_set_aside(|path| fs::write(path, vec![0x5a; 5000]).unwrap());
}

#[test]
fn a_damaged_file_is_set_aside() {
    is_set_aside(|path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[4096..].iter_mut().for_each(|byte| *byte ^= 0xa5); // every page but the first
        fs::write(path, bytes).unwrap();
    });
}

#[test]
fn a_truncated_file_is_set_aside() {
    is_set_aside(|path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
}

#[test]
fn another_version_is_set_aside() {
    is_set_aside(|path| Connection::open(path).unwrap().pragma_update(None, "user_version", 1).unwrap());
}

#[test]
fn a_file_with_our_version_but_not_our_tables_is_set_aside() {
    is_set_aside(|path| Connection::open(path).unwrap().execute_batch("DROP TABLE local").unwrap());
}

/// Whatever a crash and a bad disk leave behind, in the file or in its log: the store opens, and stores. What it gives back are nodes,
/// and if it lost any the file is set aside or they were in the part of the log that is gone.
#[test]
fn torn_and_flipped_files_open() {
    // In memory where the system has such a folder: what is damaged here has been written, and waiting for a disk shows nothing.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let made = folder.path().join("made.db");
    // As after kill -9: some of it in the file, the rest in the log.
    let (db, _) = NodeDb::open(&made, LOCAL, now()).unwrap();
    (1..=200).for_each(|number| db.store(node(number)));
    db.close();
    let (connection, _) = open_sound(&made, LOCAL, now()).unwrap();
    (201..=400).for_each(|number| write_node(&connection, &node(number)).unwrap());
    let log_of = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    let (file, log) = (fs::read(&made).unwrap(), fs::read(log_of(&made)).unwrap());
    assert!(file.len() > 20_000 && log.len() > 20_000, "{} {}", file.len(), log.len());
    drop(connection);

    let seed = std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("SIM_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut set_aside = 0;
    for round in 0..400 {
        let path = folder.path().join(format!("{round}.db"));
        // The log has most pages anew, and hides what is wrong with the file: half of the files come without.
        let (mut file, mut log) = (file.clone(), if round % 4 == 0 { Vec::new() } else { log.clone() });
        let damaged = if round % 2 == 0 { &mut file } else { &mut log };
        match rng.random_range(0..4) {
            0 => damaged.truncate(rng.random_range(0..damaged.len())),
            1 => (0..rng.random_range(1..20)).for_each(|_| {
                let at = rng.random_range(0..damaged.len());
                damaged[at] ^= 1 << rng.random_range(0..8);
            }),
            2 => damaged[rng.random_range(0..100)] ^= 1 << rng.random_range(0..8), // a header
            _ => {
                let at = rng.random_range(0..damaged.len() - 512);
                rng.fill_bytes(&mut damaged[at..at + 512]); // a sector
            }
        }
        fs::write(&path, file).unwrap();
        fs::write(log_of(&path), log).unwrap();
        let (db, remembered) =
            NodeDb::open(&path, LOCAL, now()).unwrap_or_else(|error| panic!("round {round}: {error}"));
        set_aside += usize::from(remembered.set_aside.is_some());
        db.store(node(500));
        db.close();
        let again = run(&path, now(), |_| ());
        assert!(again.set_aside.is_some() || again.seeds.contains(&node(500)), "round {round}");
    }
    println!("{set_aside} of 400 were set aside");
    assert!(set_aside > 50);
}

#[test]
fn a_row_that_is_no_node_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    run(&path, now(), |db| [1, 2, 3].into_iter().for_each(|number| db.store(node(number))));
    let damage = Connection::open(&path).unwrap();
    damage.execute("UPDATE nodes SET key = x'00' WHERE id = ?1", [node(1).record.id().0]).unwrap();
    damage.execute("UPDATE nodes SET last_pong = 'soon' WHERE id = ?1", [node(2).record.id().0]).unwrap();
    drop(damage);
    assert_eq!(seeds(&path, now()), [node(3)]);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let (writes, queue) = sync_channel(1);
    let writer = std::thread::spawn(|| ());
    let db = NodeDb { writes, own: OwnRecord::default(), counters: Arc::default(), writer };
    (1..=3).for_each(|number| db.store(node(number)));
    assert_eq!(db.stats(), NodeDbStats { dropped: 2, failed: 0 });
    drop(queue);
    db.close();
}

/// Lost, its number would be given out again, and whoever has it would not ask for the new record.
#[test]
fn our_own_record_is_written_however_full_the_queue_is() {
    let folder = tempfile::tempdir().unwrap();
    let (path, local) = (folder.path().join("nodes.db"), key(7).public().node_id());
    let (connection, _) = open_sound(&path, local, now()).unwrap();
    let (writes, queue) = sync_channel(1);
    let (own, counters) = (OwnRecord::default(), Arc::new(Counters::default()));
    let writer = Writer {
        path: path.clone(),
        local,
        connection,
        own: own.clone(),
        counters: counters.clone(),
        now: now(),
        is_failing: false,
    };
    let db = NodeDb { writes, own, counters, writer: std::thread::spawn(|| ()) };
    db.store(node(1));
    let records = [1, 2].map(|seq| Enr::builder(seq).sign(&key(7)).unwrap());
    records.iter().for_each(|record| db.store_local(record.clone()));
    assert_eq!(db.stats(), NodeDbStats::default());
    db.close();
    writer.run(&queue);
    assert_eq!(NodeDb::open(&path, local, now()).unwrap().1.local_record.as_ref(), records.last());
}

/// What comes meanwhile is lost and counted, our own record is not, and the file is as good as before.
#[test]
fn a_full_disk_costs_what_comes_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (path, local) = (folder.path().join("nodes.db"), key(999).public().node_id());
    run(&path, now(), |db| db.store(node(1)));
    let (connection, _) = open_sound(&path, local, now()).unwrap();
    let room = |connection: &Connection, pages: i64| {
        connection.execute_batch(&format!("PRAGMA max_page_count = {pages}")).unwrap();
    };
    room(&connection, 1); // as few as there are
    let (own, counters) = (OwnRecord::default(), Arc::new(Counters::default()));
    let record = Enr::builder(5).sign(&key(999)).unwrap();
    own.put(record.clone());
    let counted = counters.clone();
    let mut writer = Writer { path: path.clone(), local, connection, own, counters, now: now(), is_failing: false };
    let batch = |numbers: std::ops::Range<u32>| -> Vec<Write> {
        numbers.map(|number| Write::Node(Box::new(node(number)))).collect()
    };
    for lost in [100, 200] {
        writer.write(&batch(10..110));
        assert_eq!((counted.failed.load(Ordering::Relaxed), writer.is_failing), (lost, true));
    }
    room(&writer.connection, 1 << 20);
    writer.write(&batch(2..3));
    assert_eq!((counted.failed.load(Ordering::Relaxed), writer.is_failing), (200, false));
    drop(writer);
    let (db, remembered) = NodeDb::open(&path, local, now()).unwrap();
    db.close();
    assert_eq!((remembered.local_record, remembered.set_aside), (Some(record), None));
    assert_eq!(seeds(&path, now()).len(), 2);
}

/// The file goes bad under the writer: what it was writing is lost and counted, the file is set aside, and what comes next
/// is stored in a new one, with our own record if that was among the lost.
#[test]
fn damage_found_while_open_costs_one_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.db");
    run(&path, now(), |db| db.store(node(1)));
    let (local, own) = (key(999).public().node_id(), OwnRecord::default());
    let (connection, _) = open_sound(&path, local, now()).unwrap();
    let record = Enr::builder(5).sign(&key(999)).unwrap();
    own.put(record.clone());
    let damage = "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 9999 WHERE name = 'nodes'; PRAGMA schema_version = 99;";
    connection.execute_batch(damage).unwrap();
    let counters = Arc::new(Counters::default());
    let (writes, queue) = sync_channel(QUEUE);
    let batch = MAX_BATCH as u32 + 1;
    (1..=batch + 1).for_each(|number| writes.send(Write::Node(Box::new(node(number)))).unwrap());
    drop(writes);
    Writer { path: path.clone(), local, connection, own, counters: counters.clone(), now: now(), is_failing: false }
        .run(&queue);
    assert_eq!(counters.failed.load(Ordering::Relaxed), u64::from(batch));
    assert!(folder.path().join("nodes.db.corrupt-1800000000").exists());
    assert_eq!(seeds(&path, now()), [node(batch + 1)]);
    assert_eq!(NodeDb::open(&path, local, now()).unwrap().1.local_record, Some(record));
}
