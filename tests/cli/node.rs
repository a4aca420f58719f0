//! `kadwire node`: what it prints, gossip from stdin to the other's stdout, what it keeps, and what damaged files do to it.

use std::fs;
use std::path::Path;

use kadwire_discovery::NodeRecord;
use kadwire_wire::PeerAddress;
use serde_json::Value;

use crate::process::{Process, run, until_heard};

/// Starts a node and reads its first line.
fn start(ip: &str, datadir: &Path, more: &[&str]) -> (Process, Value) {
    let (udp, tcp, nat) = (format!("{ip}:30303"), format!("{ip}:26656"), format!("extip:{ip}"));
    let datadir = datadir.to_str().unwrap();
    let flags =
        ["node", "--json", "--addr", &udp, "--laddr", &tcp, "--nat", &nat, "--chain-id", "test", "--datadir", datadir];
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
fn two_nodes_meet_through_discovery_and_what_one_says_the_other_prints() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, listening) = start("127.17.2.1", &dir.path().join("first"), &[]);
    let enode: NodeRecord = text(&listening, "enode").parse().unwrap();
    let enr: NodeRecord = text(&listening, "enr").parse().unwrap();
    let mconn: PeerAddress = text(&listening, "mconn").parse().unwrap();
    assert_eq!((enode.id(), enode.endpoint()), (enr.id(), enr.endpoint()));
    assert_eq!(enode.endpoint().to_string(), "127.17.2.1:30303");
    assert_eq!(mconn.socket_addr().unwrap().to_string(), "127.17.2.1:26656");
    let tm = enr.tendermint().expect("its record says where it speaks MConnection");
    assert_eq!((Some(tm.node_id), tm.tcp_port), (mconn.id().tendermint(), 26656));

    let bootnode = ["--bootnodes", text(&listening, "enode"), "--moniker", "the second"];
    let (mut second, listening) = start("127.17.2.2", &dir.path().join("second"), &bootnode);
    let up = next(&mut first, "peer_up");
    assert_eq!(Some(text(&up, "peer")), text(&listening, "mconn").split('@').next());
    assert_eq!((text(&up, "moniker"), &up["peers"]), ("the second", &1.into()));
    next(&mut second, "peer_up");

    for (speaker, listener) in [(&mut first, &mut second)] {
        for line in ["good morning", "", "good \"evening\" é"] {
            until_heard(|| {
                speaker.write_line(line);
                listener.hears("gossip", line)
            });
        }
    }
    let (code, stderr) = second.end("TERM");
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(next(&mut first, "peer_down")["peers"], 0);
    assert_eq!(first.end("INT").0, Some(0));
}

#[test]
fn two_nodes_meet_over_ipv6() {
    let start = |more: &[&str]| {
        let flags = ["node", "--json", "--addr", "[::1]:0", "--laddr", "[::1]:0", "--chain-id", "six"];
        let mut node = Process::start(&[&flags[..], more].concat());
        let first: Value = serde_json::from_str(&node.line()).unwrap();
        (node, first)
    };
    let (mut first, listening) = start(&[]);
    let enr: NodeRecord = text(&listening, "enr").parse().unwrap();
    assert!(enr.ip().is_ipv6() && text(&listening, "mconn").contains("@[::1]:"), "{listening}");
    let (mut second, _) = start(&["--bootnodes", text(&listening, "enr")]);
    for node in [&mut first, &mut second] {
        let up = next(node, "peer_up");
        assert!(text(&up, "address").starts_with("[::1]:"), "{up}");
    }
}

#[test]
fn identities_outlive_damaged_files_which_are_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let restart = || {
        let (node, listening) = start("127.17.2.3", dir.path(), &[]);
        let (code, stderr) = node.end("TERM");
        assert_eq!(code, Some(0), "{stderr}");
        (listening["enode"].clone(), listening["mconn"].clone(), stderr)
    };
    let (enode, mconn, _) = restart();
    for file in ["addrbook.json", "nodes.db"] {
        assert!(dir.path().join(file).exists(), "{file}");
        fs::write(dir.path().join(file), "{ neither JSON nor SQLite").unwrap();
    }
    let (enode_after, mconn_after, stderr) = restart();
    assert_eq!((enode_after, mconn_after), (enode, mconn));
    for file in ["addrbook.json.corrupt-", "nodes.db.corrupt-"] {
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().any(|name| name.to_string_lossy().starts_with(file)), "{file}: {names:?}");
        assert!(stderr.contains(file), "{stderr}");
    }
}

#[test]
fn a_damaged_key_is_a_failure_in_one_line_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node_key.json");
    fs::write(&file, "{}").unwrap();
    #[cfg(unix)]
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let output =
        run(&["node", "--addr", "127.17.2.4:0", "--laddr", "127.17.2.4:0", "--datadir", dir.path().to_str().unwrap()]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("node_key.json"), "{stderr}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "{}", "an identity is never overwritten");
}
