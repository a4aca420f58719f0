//! `kadwire seed`: what it prints, what it keeps, several chains, damaged files, and that a node finds another one through it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kadwire_wire::PeerAddress;
use serde_json::Value;

use crate::process::{Process, run, stdout_of};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn start(home: &Path, more: &[&str]) -> Process {
    Process::start(&[&["seed", "--home", text(home)], more].concat())
}

/// The next status that fits.
fn until(seed: &mut Process, fits: impl Fn(&Value) -> bool) -> Value {
    loop {
        let event: Value = serde_json::from_str(&seed.line()).unwrap();
        if event["event"] == "status" && fits(&event) {
            return event;
        }
    }
}

fn addresses(book: &Path) -> Vec<String> {
    let book: Value = serde_json::from_str(&fs::read_to_string(book).unwrap()).unwrap();
    let address = |entry: &Value| {
        let address = &entry["addr"];
        format!("{}@{}:{}", address["id"].as_str().unwrap(), address["ip"].as_str().unwrap(), address["port"])
    };
    let mut all: Vec<_> = book["addrs"].as_array().unwrap().iter().map(address).collect();
    all.sort();
    all
}

#[test]
fn a_home_folder_has_one_seed() {
    let home = tempfile::tempdir().unwrap();
    let flags = ["--chain-id", "test", "--laddr", "tcp://127.200.21.1:0"];
    let mut first = start(home.path(), &flags);
    first.line();
    let second = run(&[&["seed", "--home", text(home.path())][..], &flags].concat());
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert_eq!((second.status.code(), stderr.contains("--home: ")), (Some(1), true), "{stderr}");
    assert!(stderr.contains("in use by another process"), "{stderr}");
    assert_eq!(first.end("TERM").0, Some(0));
    start(home.path(), &flags).line();
}

#[test]
fn its_first_line_is_its_address_and_its_home_is_cometbfts() {
    let home = tempfile::tempdir().unwrap();
    let mut seed = start(home.path(), &["--laddr", "tcp://127.17.4.1:0", "--chain-id", "test"]);
    let address: PeerAddress = seed.line().parse().unwrap();
    assert_eq!(address.ip().unwrap().to_string(), "127.17.4.1");
    let (code, stderr) = seed.end("INT");
    assert_eq!(code, Some(0), "{stderr}");
    let key = home.path().join("config/node_key.json");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(addresses(&home.path().join("config/addrbook.json")), [""; 0]);
    for args in
        [["seed", "show-node-id", "--home", text(home.path())], ["seed", "--home", text(home.path()), "show-node-id"]]
    {
        assert_eq!(stdout_of(&args).trim(), address.id().to_string());
    }
}

#[test]
fn nodes_find_each_other_through_it_and_it_keeps_whom_it_reached() {
    let home = tempfile::tempdir().unwrap();
    let flags = ["--laddr", "tcp://127.17.4.2:0", "--chain-id", "test", "--json", "--status-every", "0.1"];
    let mut seed = start(home.path(), &flags);
    let listening: Value = serde_json::from_str(&seed.line()).unwrap();
    assert_eq!((&listening["event"], &listening["chain_id"]), (&"listening".into(), &"test".into()));
    let mconn = listening["mconn"].as_str().unwrap();
    let mut nodes: Vec<_> = ["127.17.4.3", "127.17.4.4"]
        .into_iter()
        .map(|ip| {
            let (udp, tcp, nat) = (format!("{ip}:30303"), format!("{ip}:26656"), format!("extip:{ip}"));
            let flags = [
                "node",
                "--json",
                "--addr",
                &udp,
                "--laddr",
                &tcp,
                "--nat",
                &nat,
                "--chain-id",
                "test",
                "--seeds",
                mconn,
            ];
            let mut node = Process::start(&flags);
            let first: Value = serde_json::from_str(&node.line()).unwrap();
            (first["mconn"].as_str().unwrap().to_owned(), node)
        })
        .collect();
    let status = until(&mut seed, |status| status["reachable"] == 2);
    assert_eq!((&status["known"], &status["unreachable"]), (&2.into(), &serde_json::json!({})));
    let (other, _) = nodes[1].0.split_once('@').unwrap();
    let other = other.to_owned();
    loop {
        let event: Value = serde_json::from_str(&nodes[0].1.line()).unwrap();
        if event["event"] == "peer_up" && event["peer"] == other {
            break;
        }
    }
    let mut expected: Vec<_> = nodes.iter().map(|(mconn, _)| mconn.clone()).collect();
    expected.sort();
    assert_eq!(seed.end("TERM").0, Some(0));
    assert_eq!(addresses(&home.path().join("config/addrbook.json")), expected);

    // Started again without seeds: the book is enough.
    let mut seed = start(home.path(), &flags);
    seed.line();
    until(&mut seed, |status| status["reachable"] == 2);
}

#[test]
fn several_chains_have_one_key_a_port_and_a_book_each() {
    let home = tempfile::tempdir().unwrap();
    let chains = ["--chain", "first-1=tcp://127.17.4.5:0", "--chain", "second-2=127.17.4.6:0"];
    let mut seed = start(home.path(), &[&chains[..], &["--json", "--status-every", "0.1"]].concat());
    let lines: Vec<Value> = (0..2).map(|_| serde_json::from_str(&seed.line()).unwrap()).collect();
    let [first, second] = [0, 1].map(|n| lines[n]["mconn"].as_str().unwrap().parse::<PeerAddress>().unwrap());
    assert_eq!((&lines[0]["chain_id"], &lines[1]["chain_id"]), (&"first-1".into(), &"second-2".into()));
    assert_eq!([&first, &second].map(|address| address.ip().unwrap().to_string()), ["127.17.4.5", "127.17.4.6"]);
    assert_eq!(first.id(), second.id());

    // A node of the second chain is known to the second book only.
    let flags =
        ["node", "--json", "--addr", "127.17.4.7:30303", "--laddr", "127.17.4.7:26656", "--nat", "extip:127.17.4.7"];
    let seeds = second.to_string();
    let mut node = Process::start(&[&flags[..], &["--chain-id", "second-2", "--seeds", &seeds]].concat());
    let listening: Value = serde_json::from_str(&node.line()).unwrap();
    until(&mut seed, |status| status["chain_id"] == "second-2" && status["reachable"] == 1);
    let (code, stderr) = seed.end("TERM");
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(addresses(&home.path().join("first-1/addrbook.json")), [""; 0]);
    let expected = [listening["mconn"].as_str().unwrap()];
    assert_eq!(addresses(&home.path().join("second-2/addrbook.json")), expected, "{stderr}");
}

#[test]
fn a_damaged_book_is_set_aside_and_config_toml_is_read() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("book.json"), "{ not JSON").unwrap();
    fs::write(config.join("genesis.json"), r#"{"chain_id":"from-genesis"}"#).unwrap();
    let toml =
        "[p2p]\nladdr = \"tcp://127.17.4.8:0\"\naddr_book_file = \"config/book.json\"\naddr_book_strict = false\n";
    fs::write(config.join("config.toml"), toml).unwrap();
    let mut seed = start(home.path(), &["--json"]);
    let listening: Value = serde_json::from_str(&seed.line()).unwrap();
    assert_eq!(listening["chain_id"], "from-genesis");
    assert!(listening["mconn"].as_str().unwrap().contains("@127.17.4.8:"), "{listening}");
    let (code, stderr) = seed.end("TERM");
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(addresses(&config.join("book.json")), [""; 0]);
    let names: Vec<_> = fs::read_dir(&config).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name.to_string_lossy().starts_with("book.json.corrupt-")), "{names:?}");
}
