//! `kadwire node --rlpx`: Ethereum peers, alone and beside Tendermint's.

use kadwire_discovery::NodeRecord;
use kadwire_wire::PeerAddress;
use serde_json::Value;

use crate::process::{Process, run, until_heard};

/// Starts a node on an IP and reads its first line.
fn start(ip: &str, more: &[&str]) -> (Process, Value) {
    let (socket, nat) = (format!("{ip}:30303"), format!("extip:{ip}"));
    let flags = ["node", "--json", "--addr", &socket, "--nat", &nat, "--rlpx"];
    let mut node = Process::start(&[&flags[..], more].concat());
    let first: Value = serde_json::from_str(&node.line()).unwrap();
    assert_eq!(first["event"], "listening", "{first}");
    (node, first)
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_else(|| panic!("no {field} in {event}"))
}

/// The next event of that kind.
fn next(node: &mut Process, kind: &str) -> Value {
    loop {
        let event: Value = serde_json::from_str(&node.line()).unwrap();
        if event["event"] == kind {
            return event;
        }
    }
}

#[test]
fn two_nodes_find_each_other_by_discovery_and_one_answers_the_other() {
    let (mut first, listening) = start("127.134.1.1", &[]);
    let enode: NodeRecord = text(&listening, "enode").parse().unwrap();
    let enr: NodeRecord = text(&listening, "enr").parse().unwrap();
    assert_eq!((enode.tcp(), enr.tcp(), enr.tendermint()), (30303, 30303, None));
    assert_eq!(text(&listening, "rlpx"), format!("enode://{}@127.134.1.1:30303", enode.key()));
    assert!(listening["mconn"].is_null(), "Tendermint's wire was not asked for: {listening}");

    let (mut second, listening) = start("127.134.1.2", &["--bootnodes", text(&listening, "enode")]);
    let up = next(&mut first, "peer_up");
    let rlpx: PeerAddress = text(&listening, "rlpx").parse().unwrap();
    assert_eq!((text(&up, "peer"), text(&up, "wire")), (rlpx.id().to_string().as_str(), "rlpx"));
    assert!(text(&up, "moniker").starts_with("kadwire/v"), "{up}");
    next(&mut second, "peer_up");

    for line in ["good morning", "", "é"] {
        let echo = until_heard(|| {
            second.write_line(line);
            second.hears("echo", line)
        });
        assert_eq!(text(&echo, "from"), enode.key().to_string());
    }
    let (code, stderr) = second.end("TERM");
    assert_eq!(code, Some(0), "{stderr}");
    let down = next(&mut first, "peer_down");
    assert_eq!((text(&down, "reason"), &down["peers"]), ("closed by the peer: client quitting", &0.into()));
    assert_eq!(first.end("INT").0, Some(0));
}

/// Three nodes: one of each wire, and one of both, which meets the other two.
#[test]
fn both_wires_in_one_process_have_peers_of_their_own() {
    let tendermint = ["--laddr", "127.134.2.1:26656", "--chain-id", "test"];
    let (mut both, listening) = start("127.134.2.1", &tendermint);
    let enr: NodeRecord = text(&listening, "enr").parse().unwrap();
    assert_eq!((enr.tcp(), enr.tendermint().map(|tm| tm.tcp_port)), (30303, Some(26656)));
    let bootnode = text(&listening, "enode").to_owned();
    let (mut ethereum, _) = start("127.134.2.2", &["--bootnodes", &bootnode]);
    let mut tendermint = Process::start(
        &[
            &["node", "--json", "--addr", "127.134.2.3:30303", "--nat", "extip:127.134.2.3"][..],
            &["--laddr", "127.134.2.3:26656", "--chain-id", "test", "--bootnodes", &bootnode],
        ]
        .concat(),
    );

    let mut up = [next(&mut both, "peer_up"), next(&mut both, "peer_up")].map(|up| text(&up, "wire").to_owned());
    up.sort();
    assert_eq!(up, ["mconn", "rlpx"]);
    assert_eq!(text(&next(&mut ethereum, "peer_up"), "wire"), "rlpx");
    assert_eq!(text(&next(&mut tendermint, "peer_up"), "wire"), "mconn");
    // What is said goes to both.
    until_heard(|| {
        both.write_line("hello");
        both.hears("echo", "hello")
    });
    until_heard(|| tendermint.hears("gossip", "hello").or_else(|| (both.write_line("hello"), None).1));
    for node in [both, ethereum, tendermint] {
        let (code, stderr) = node.end("TERM");
        assert_eq!(code, Some(0), "{stderr}");
    }
}

/// Without discovery's help: `--static` names a node, `--no-dial` keeps the others away, `--trusted` opens a full house.
#[test]
fn static_and_trusted_peers_are_the_operators_own() {
    let key = "01".repeat(32);
    let public = kadwire_discovery::SecretKey::from_hex(&key).unwrap().public().to_string();
    let (mut full, listening) = start("127.134.3.1", &["--max-peers", "0", "--no-dial", "--trusted", &public]);
    let full_node = text(&listening, "rlpx");
    let (_stranger, _) = start("127.134.3.2", &["--static", full_node, "--status", "127.134.3.2:6060"]);
    let (mut trusted, _) = start("127.134.3.3", &["--static", full_node, "--nodekey", &key]);
    assert_eq!(text(&next(&mut full, "peer_up"), "peer"), public, "nobody else has a place");
    next(&mut trusted, "peer_up");
    // The stranger is told so, and says it to whoever asks.
    loop {
        let answer: Value = serde_json::from_slice(&run(&["why", "127.134.3.2:6060", "--json"]).stdout).unwrap();
        if answer.to_string().contains("\"too_many_peers\"") {
            break;
        }
        assert!(answer["status"]["uptime_seconds"].as_u64() < Some(60), "{answer:#}");
    }
}

#[test]
fn wrong_flags_say_what_is_wrong() {
    let enode = format!("enode://{}@127.0.0.1:30303", "ab".repeat(64));
    let mconn = format!("{}@127.0.0.1:26656", "ab".repeat(20));
    for (flags, problem) in [
        (&["--static", &enode][..], "--rlpx"),
        (&["--rlpx", "nowhere"], "--rlpx"),
        (&["--rlpx", "--static", &mconn], "not an enode"),
        (&["--rlpx", "--trusted", &mconn], "--trusted"),
    ] {
        let output = run(&[&["node", "--addr", "127.134.4.1:0"][..], flags].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
        assert!(stderr.contains(problem) && stderr.lines().count() == 1, "{flags:?}: {stderr}");
    }
    let help = String::from_utf8(run(&["node", "--help"]).stdout).unwrap();
    assert!(help.contains("Which wire is used when:"), "{help}");
}
