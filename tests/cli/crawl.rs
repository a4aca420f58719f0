//! `kadwire crawl`: a network of its own, what it writes and prints, and how it ends.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::process::{Process, run, stdout_of};

fn rows(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts<'a>(rows: &'a [Value], field: &str) -> BTreeSet<&'a str> {
    rows.iter().map(|row| row[field].as_str().unwrap()).collect()
}

#[test]
fn a_devnet_is_crawled_to_its_end_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("made/for/it");
    let json = stdout_of(&["crawl", "eth", "--devnet", "8", "--out", out.to_str().unwrap(), "--json"]);
    let summary: Value = serde_json::from_str(&json).unwrap();
    let (nodes, edges) = (rows(&out.join("nodes.ndjson")), rows(&out.join("edges.ndjson")));
    assert_eq!((&summary["found"], &summary["reachable"]), (&8.into(), &8.into()), "{json}");
    assert_eq!(summary["edges"], edges.len());
    assert!(summary["seconds"].as_f64().unwrap() > 0.0 && summary["errors"].is_object(), "{json}");
    assert_eq!(texts(&nodes, "id").len(), 8);
    assert!(
        texts(&edges, "from").is_subset(&texts(&nodes, "id")) && texts(&edges, "to").is_subset(&texts(&nodes, "id"))
    );
    assert!(edges.iter().all(|edge| edge["from"] != edge["to"] && edge["kind"] == "table"));
    let written: Value = serde_json::from_str(&fs::read_to_string(out.join("crawl.json")).unwrap()).unwrap();
    assert_eq!(written, summary);
}

#[test]
fn a_devnet_is_crawled_by_peer_exchange_too() {
    let dir = tempfile::tempdir().unwrap();
    let json = stdout_of(&["crawl", "tendermint", "--devnet", "5", "--out", dir.path().to_str().unwrap(), "--json"]);
    let summary: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&summary["found"], &summary["reachable"]), (&5.into(), &5.into()), "{json}");
    let nodes = rows(&dir.path().join("nodes.ndjson"));
    assert_eq!(texts(&nodes, "moniker"), ["node0", "node1", "node2", "node3", "node4"].into());
    assert!(rows(&dir.path().join("edges.ndjson")).iter().all(|edge| edge["kind"] == "pex"));
}

#[test]
fn without_json_a_short_table_is_printed() {
    let table = stdout_of(&["crawl", "eth", "--devnet", "3"]);
    let first: Vec<_> = table.lines().map(|line| line.split_whitespace().next().unwrap()).take(4).collect();
    assert_eq!(first, ["found", "reachable", "edges", "seconds"], "{table}");
}

/// A socket that never answers.
fn silent() -> (std::net::UdpSocket, String) {
    let socket = std::net::UdpSocket::bind("127.17.1.1:0").unwrap();
    let key = kadwire_discovery::SecretKey::from_hex(&"7".repeat(64)).unwrap();
    let enode = format!("enode://{}@{}", key.public(), socket.local_addr().unwrap());
    (socket, enode)
}

#[test]
fn when_nobody_answers_it_fails_and_still_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (_socket, enode) = silent();
    let output =
        run(&["crawl", "eth", "--bootnodes", &enode, "--attempts", "1", "--out", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no node answered"));
    let nodes = rows(&dir.path().join("nodes.ndjson"));
    assert_eq!((nodes.len(), &nodes[0]["error"]), (1, &"timeout".into()));
}

#[test]
fn a_crawl_cut_short_by_its_timeout_is_partial() {
    let (_socket, enode) = silent();
    let flags = ["--devnet", "2", "--timeout", "3", "--attempts", "10", "--json"];
    let output = run(&[&["crawl", "eth", "--bootnodes", &enode], &flags[..]].concat());
    assert_eq!(output.status.code(), Some(3));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["found"], &summary["complete"]), (&3.into(), &false.into()), "{summary}");
}

#[test]
fn a_signal_ends_it_well_with_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, enode) = silent();
    let out = dir.path().to_str().unwrap();
    let crawl = Process::start(&["crawl", "eth", "--bootnodes", &enode, "--attempts", "10", "--out", out]);
    // It has begun once it asks.
    socket.recv_from(&mut [0; 1280]).unwrap();
    let (code, stderr) = crawl.end("INT");
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(rows(&dir.path().join("nodes.ndjson")).len(), 1);
}

#[test]
fn a_folder_that_cannot_be_made_is_refused_before_the_crawl() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let output = run(&["crawl", "eth", "--devnet", "2", "--out", file.join("in").to_str().unwrap()]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("--out"));
}
