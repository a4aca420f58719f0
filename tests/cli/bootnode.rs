//! `kadwire bootnode`: go-ethereum's flags, the first two lines, keys, and what a damaged data folder does.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use kadwire_discovery::{NodeRecord, SecretKey};

use crate::process::{Process, run, stdout_of};

/// The key of the published discv4 vectors.
const KEY: &str = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291";

fn text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn its_first_two_lines_are_its_enode_and_its_enr() {
    let public = SecretKey::from_hex(KEY).unwrap().public().to_string();
    for flags in [["--addr", "--nodekey", "--nat"], ["-addr", "-nodekeyhex", "-nat"]] {
        let [addr, key, nat] = flags;
        let mut bootnode = Process::start(&["bootnode", addr, "127.17.0.1:0", key, KEY, nat, "extip:127.17.0.1"]);
        let (enode, enr) = (bootnode.line(), bootnode.line());
        assert!(enode.starts_with(&format!("enode://{public}@127.17.0.1:")), "{enode}");
        let (enode, enr): (NodeRecord, NodeRecord) = (enode.parse().unwrap(), enr.parse().unwrap());
        assert_eq!((enode.id(), enode.endpoint()), (enr.id(), enr.endpoint()));
        assert!(enode.udp() != 0, "the real port, not the 0 it was told");
        assert!(enr.seq() > 0);
        let (code, stderr) = bootnode.end("TERM");
        assert_eq!(code, Some(0), "{stderr}");
    }
}

#[test]
fn genkey_makes_a_private_file_once_and_writeaddress_shows_its_public_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("boot.key");
    assert_eq!(stdout_of(&["bootnode", "-genkey", text(&file)]), "");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let shown = stdout_of(&["bootnode", "-nodekey", text(&file), "-writeaddress"]);
    assert_eq!(shown.trim_end(), SecretKey::load(&file).unwrap().public().to_string());

    let before = fs::read(&file).unwrap();
    let again = run(&["bootnode", "--genkey", text(&file)]);
    assert_eq!(again.status.code(), Some(1), "an identity is never overwritten");
    assert_eq!(fs::read(&file).unwrap(), before);
}

/// The README's command, on a machine where nothing has been made yet.
#[test]
fn a_key_of_its_own_and_a_data_folder_that_is_not_there_go_together() {
    let dir = tempfile::tempdir().unwrap();
    let datadir = dir.path().join("var/kadwire");
    let flags = ["--addr", "127.200.20.1:0", "--nodekey", KEY, "--datadir", text(&datadir)];
    for command in [&["bootnode"][..], &["node", "--rlpx"]] {
        let mut process = Process::start(&[command, &flags].concat());
        assert!(process.line().starts_with("enode://"), "{command:?}");
        let (code, stderr) = process.end("TERM");
        assert_eq!(code, Some(0), "{command:?}: {stderr}");
        assert!(datadir.join("nodes.db").exists() && !datadir.join("nodekey").exists(), "{command:?}");
        fs::remove_dir_all(&datadir).unwrap();
    }
}

#[test]
fn what_another_process_has_is_said_by_its_flag() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Process::start(&["bootnode", "--addr", "127.200.20.2:30301", "--datadir", text(dir.path())]);
    let http = std::net::TcpListener::bind("127.200.20.2:0").unwrap();
    let taken = http.local_addr().unwrap().to_string();
    first.line();
    for (flags, problem) in [
        (["--addr", "127.200.20.2:30301", "--nodekey", KEY], "--addr: cannot listen on UDP 127.200.20.2:30301"),
        (["--addr", "127.200.20.2:0", "--datadir", text(dir.path())], "--datadir: node database"),
        (["--addr", "127.200.20.2:0", "--status", &taken], "--status: cannot listen on"),
    ] {
        let output = run(&[&["bootnode"][..], &flags].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{flags:?}: {stderr}");
        assert!(stderr.contains(&format!("error: {problem}")), "{flags:?}: {stderr}");
        assert!(!stderr.contains("ERROR"), "it stops as it should: {stderr}");
    }
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("boot.key");
    fs::write(&file, KEY).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let output = run(&["bootnode", "--nodekey", text(&file), "--writeaddress"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("chmod 600"));
}

#[test]
fn a_data_folder_keeps_identity_and_record_and_a_corrupt_database_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let datadir = dir.path().join("made/at/start");
    let args = ["bootnode", "--addr", "127.17.0.2:0", "--datadir", text(&datadir)];
    let start = || {
        let mut bootnode = Process::start(&args);
        let record: NodeRecord = (bootnode.line(), bootnode.line()).1.parse().unwrap();
        let (code, stderr) = bootnode.end("INT");
        assert_eq!(code, Some(0), "{stderr}");
        (record.id(), stderr)
    };
    let (id, _) = start();
    assert_eq!(fs::metadata(datadir.join("nodekey")).unwrap().permissions().mode() & 0o777, 0o600);
    let database = datadir.join("nodes.db");
    assert!(fs::read(&database).unwrap().starts_with(b"SQLite format 3"));
    fs::write(&database, b"SQLite format 3\0 and then nothing of the kind").unwrap();

    let (id_after, stderr) = start();
    assert_eq!(id_after, id, "the key outlives the database");
    assert!(stderr.contains("corrupt"), "{stderr}");
    let names: Vec<_> = fs::read_dir(&datadir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name.to_string_lossy().starts_with("nodes.db.corrupt-")), "{names:?}");
    assert!(fs::read(&database).unwrap().starts_with(b"SQLite format 3"));
}

#[test]
fn a_data_folder_that_is_none_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for (command, folder, words) in [
        ("bootnode", file.clone(), "is no folder"),
        ("bootnode", file.join("in"), "cannot make the folder"),
        ("node", file.clone(), "is no folder"),
    ] {
        let output = run(&[command, "--addr", "127.132.4.1:0", "--datadir", text(&folder)]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.contains("--datadir") && stderr.contains(words), "{stderr}");
    }
}

#[test]
fn an_address_in_use_is_a_failure_in_one_line() {
    let taken = std::net::UdpSocket::bind("127.17.0.3:0").unwrap();
    let output = run(&["bootnode", "--addr", &taken.local_addr().unwrap().to_string(), "--nodekey", KEY]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("--addr: cannot listen on UDP"), "{stderr}");

    let taken = std::net::TcpListener::bind("127.132.4.2:0").unwrap();
    let laddr = taken.local_addr().unwrap().to_string();
    let output = run(&["node", "--verbosity", "1", "--addr", "127.132.4.2:0", "--laddr", &laddr]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains(&format!("cannot listen on TCP {laddr}")), "{stderr}");
}
