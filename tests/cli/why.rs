//! `kadwire why`: what it says of nodes without and with peers, its exit codes, and what `--status` serves.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use serde_json::Value;

use crate::process::{Process, run};

/// A node at this IP, its status at port 6060 of it. Returns after its first line.
fn node(ip: &str, more: &[&str]) -> (Process, Value) {
    let (udp, tcp, status) = (format!("{ip}:30303"), format!("{ip}:26656"), format!("{ip}:6060"));
    let flags = ["node", "--json", "--addr", &udp, "--laddr", &tcp, "--status", &status, "--chain-id", "test"];
    let mut node = Process::start(&[&flags[..], more].concat());
    let first = serde_json::from_str(&node.line()).unwrap();
    (node, first)
}

/// Exit code and answer of `kadwire why IP:6060 --json`.
fn why(ip: &str) -> (Option<i32>, Value) {
    let output = run(&["why", &format!("{ip}:6060"), "--json"]);
    let answer = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        answer.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr))),
    )
}

fn causes(answer: &Value) -> Vec<&str> {
    answer["findings"].as_array().unwrap().iter().map(|finding| finding["cause"].as_str().unwrap()).collect()
}

/// Asks until it is as expected: what a node does takes its time. At most a minute, by the node's own clock.
fn wait_for(ip: &str, expected: impl Fn(&Value) -> bool) -> (Option<i32>, Value) {
    loop {
        let (code, answer) = why(ip);
        if expected(&answer) {
            return (code, answer);
        }
        assert!(answer["status"]["uptime_seconds"].as_u64() < Some(60), "{answer:#}");
    }
}

fn get(ip: &str, path: &str) -> String {
    let mut stream = TcpStream::connect((ip, 6060)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{head}");
    body.to_owned()
}

#[test]
fn a_node_that_knows_nobody_says_so() {
    let (_node, _) = node("127.135.2.1", &[]);
    let (code, answer) = why("127.135.2.1");
    assert_eq!((code, causes(&answer)[0]), (Some(1), "nobody_to_ask"), "{answer:#}");
    let output = run(&["why", "http://127.135.2.1:6060"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with("node ") && text.contains("1. We know nobody") && text.contains("--bootnodes"), "{text}");
}

#[test]
fn a_node_whose_bootnode_is_dead_says_that_nothing_arrives() {
    // Bound, and silent: nobody else gets the port meanwhile.
    let dead = UdpSocket::bind("127.135.2.2:0").unwrap();
    let port = dead.local_addr().unwrap().port();
    let key = kadwire_discovery::SecretKey::from_bytes(&[7; 32]).unwrap();
    let enode = format!("enode://{}@127.135.2.2:0?discport={port}", key.public());
    let (_node, _) = node("127.135.2.3", &["--bootnodes", &enode]);
    let (code, answer) = wait_for("127.135.2.3", |answer| causes(answer).contains(&"nothing_arrives"));
    assert_eq!(code, Some(1));
    assert!(answer["status"]["discovery"]["sent"].as_u64() > Some(0), "{answer:#}");
}

#[test]
fn a_node_whose_peer_is_not_there_names_the_cause() {
    // Nobody listens on this port.
    let peer = format!("{}@127.135.2.4:26656", "ab".repeat(20));
    let (_node, _) = node("127.135.2.5", &["--persistent-peers", &peer]);
    let (code, answer) = wait_for("127.135.2.5", |answer| causes(answer).contains(&"dials_fail"));
    assert_eq!(code, Some(1));
    let wire = &answer["status"]["wires"][0];
    assert!(wire["dials_failed"]["connection_refused"].as_u64() > Some(0), "{wire:#}");
    assert_eq!(wire["configured"], 1, "{wire:#}");
}

#[test]
fn nodes_with_peers_say_so_and_their_metrics_are_served() {
    let (_first, listening) = node("127.135.2.6", &[]);
    let enode = listening["enode"].as_str().unwrap();
    let (_second, _) = node("127.135.2.7", &["--bootnodes", enode]);
    for ip in ["127.135.2.6", "127.135.2.7"] {
        let (code, answer) = wait_for(ip, |answer| answer["peers"] == 1);
        assert_eq!((code, causes(&answer)[0]), (Some(0), "has_peers"), "{answer:#}");
        assert_eq!(answer["status"]["wires"][0]["peers"].as_array().unwrap().len(), 1);
        for path in ["/metrics", "/debug/metrics/prometheus"] {
            let metrics = get(ip, path);
            assert!(metrics.contains("\np2p_peers{wire=\"tendermint\"} 1\n"), "{metrics}");
            assert!(metrics.contains("\nkadwire_has_peers 1\n"), "{metrics}");
            // A handshake alone has hundreds of bytes.
            for name in ["p2p_ingress", "p2p_egress"] {
                let bytes =
                    metrics.lines().find_map(|line| line.strip_prefix(&format!("{name}{{wire=\"tendermint\"}} ")));
                assert!(bytes.unwrap().parse::<u64>().unwrap() > 100, "{metrics}");
            }
            let samples = metrics.lines().filter(|line| !line.starts_with('#'));
            assert!(samples.map(|line| line.rsplit_once(' ').unwrap().1).all(|value| value.parse::<f64>().is_ok()));
        }
    }
    let text = String::from_utf8(run(&["why", "127.135.2.6:6060"]).stdout).unwrap();
    assert!(text.contains("tendermint   peers: 1, ") && text.contains("1. 1 peer:"), "{text}");
}

#[test]
fn a_node_whose_bootnodes_lead_to_the_other_wire_says_so() {
    let (_first, listening) = node("127.135.2.12", &[]);
    let enode = listening["enode"].as_str().unwrap();
    let (_second, _) = node("127.135.2.13", &["--bootnodes", enode]);
    let mut ethereum = Process::start(&[
        "node",
        "--addr",
        "127.135.2.14:30303",
        "--rlpx",
        "--bootnodes",
        enode,
        "--status",
        "127.135.2.14:6060",
    ]);
    ethereum.line();
    let (code, answer) = wait_for("127.135.2.14", |answer| causes(answer).contains(&"none_speaks_this_wire"));
    assert_eq!((code, &answer["peers"]), (Some(1), &0.into()), "{answer:#}");
    let wires = answer["status"]["wires"].as_array().unwrap();
    assert_eq!((wires.len(), &wires[0]["name"]), (1, &"rlpx".into()), "{answer:#}");
    assert!(get("127.135.2.14", "/metrics").contains("\np2p_peers{wire=\"rlpx\"} 0\n"));
}

#[test]
fn a_bootnode_and_a_seed_say_how_they_stand() {
    let mut bootnode = Process::start(&["bootnode", "--addr", "127.135.2.8:0", "--status", "127.135.2.8:6060"]);
    bootnode.line();
    let (code, answer) = why("127.135.2.8");
    assert_eq!((code, causes(&answer)[0], &answer["status"]["role"]), (Some(1), "nobody_to_ask", &"bootnode".into()));

    let home = tempfile::tempdir().unwrap();
    let home = home.path().to_str().unwrap();
    let seed =
        ["seed", "--home", home, "--laddr", "tcp://127.135.2.9:0", "--chain-id", "c", "--status", "127.135.2.9:6060"];
    let mut seed = Process::start(&seed);
    seed.line();
    let (code, answer) = why("127.135.2.9");
    assert_eq!((code, causes(&answer)[0], &answer["status"]["role"]), (Some(1), "nobody_to_ask", &"seed".into()));
    assert!(get("127.135.2.9", "/metrics").contains("kadwire_seed_known{chain_id=\"c\"} 0\n"));
}

#[test]
fn what_cannot_be_asked_is_exit_code_2_and_says_what_to_do() {
    for (at, words) in
        [("127.135.2.10:6060", "--status"), ("https://127.0.0.1", "only http://"), ("x:99999", "HOST:PORT")]
    {
        let output = run(&["why", at]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), 1), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
    let taken = std::net::TcpListener::bind("127.135.2.11:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let output = run(&["bootnode", "--addr", "127.135.2.11:0", "--status", &taken]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("--status: cannot listen on"), "{stderr}");
}
