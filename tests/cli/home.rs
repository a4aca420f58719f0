//! `kadwire node --home`: a CometBFT node's folder says who the node is, where it listens and whom it knows; flags go before it, and
//! what is wrong in it is said with its line.

use std::fs;
use std::path::Path;

use kadwire_wire::{PeerAddress, PeerId, tendermint::key::NodeKey};
use serde_json::Value;

use crate::process::{Process, run};

/// Makes a home folder with this `config.toml`, of the chain `home-test`.
fn home(dir: &Path, config: &str) -> String {
    fs::create_dir_all(dir.join("config")).unwrap();
    fs::write(dir.join("config/config.toml"), config).unwrap();
    fs::write(dir.join("config/genesis.json"), r#"{"chain_id": "home-test", "app_hash": ""}"#).unwrap();
    dir.to_str().unwrap().to_owned()
}

fn start(home: &str, udp: &str, more: &[&str]) -> (Process, Value) {
    let mut node = Process::start(&[&["node", "--json", "--home", home, "--addr", udp][..], more].concat());
    let listening: Value = serde_json::from_str(&node.line()).unwrap();
    assert_eq!(listening["event"], "listening", "{listening}");
    (node, listening)
}

fn mconn(listening: &Value) -> PeerAddress {
    listening["mconn"].as_str().unwrap().parse().unwrap()
}

#[test]
fn two_homes_are_two_nodes_that_keep_their_identity_and_know_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let p2p = |ip: &str, peers: &str| {
        format!(
            "moniker = \"at {ip}\"\n[p2p]\nladdr = \"tcp://{ip}:26656\"\npersistent_peers = \"{peers}\"\n\
             addr_book_strict = false\nmax_conections = 7\n"
        )
    };
    let first_home = home(&dir.path().join("first"), &p2p("127.110.2.1", ""));
    let (first, listening) = start(&first_home, "127.110.2.1:30303", &[]);
    let first_address = mconn(&listening);
    assert_eq!(first_address.socket_addr().unwrap().to_string(), "127.110.2.1:26656");
    let key = NodeKey::load(dir.path().join("first/config/node_key.json")).unwrap();
    assert_eq!(first_address.id(), PeerId::Tendermint(key.id()));

    let second_home = home(&dir.path().join("second"), &p2p("127.110.2.2", &first_address.to_string()));
    let (mut second, _) = start(&second_home, "127.110.2.2:30303", &["--moniker", "flag"]);
    let up: Value = serde_json::from_str(&second.line()).unwrap();
    assert_eq!((&up["event"], &up["moniker"]), (&"peer_up".into(), &"at 127.110.2.1".into()), "{up}");
    let (code, stderr) = second.end("TERM");
    assert_eq!(code, Some(0), "{stderr}");
    let warned = "config.toml:6: max_conections in [p2p] is unknown and has no effect: did you mean max_connections?";
    assert!(stderr.contains(warned), "{stderr}");
    for file in ["config/addrbook.json", "data/nodekey", "data/nodes.db"] {
        assert!(dir.path().join("second").join(file).exists(), "{file}");
    }

    let (code, _) = first.end("TERM");
    assert_eq!(code, Some(0));
    // Flags go before the file.
    let (_again, listening) = start(&first_home, "127.110.2.1:30303", &["--laddr", "tcp://127.110.2.3:26656"]);
    assert_eq!(mconn(&listening).socket_addr().unwrap().to_string(), "127.110.2.3:26656");
    assert_eq!(mconn(&listening).id(), first_address.id());
}

#[test]
fn what_is_wrong_in_a_home_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let toml = path.join("config/config.toml").display().to_string();
    for (config, said) in [
        ("[p2p]\nladdr = \"somewhere\"", format!("{toml}:2: laddr: want IP:PORT")),
        ("[p2p]\n\nhandshake-timeout = \"0s\"", format!("{toml}:3: handshake_timeout: must be longer")),
        ("[p2p]\npex = true\npex = false", format!("{toml}:3: ")),
        ("[p2p]\nseed_mode = true", format!("run `kadwire seed --home {}`", path.display())),
        ("mode = \"seed\"", "kadwire seed".to_owned()),
        ("genesis_file = \"/nowhere\"", "--chain-id: needed".to_owned()),
    ] {
        let home = home(path, config);
        let output = run(&["node", "--home", &home, "--addr", "127.110.2.4:0", "--laddr", "127.110.2.4:0"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        let code = if said.starts_with("--") { 2 } else { 1 };
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(code), 1), "{config}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(&said), "{config}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}
