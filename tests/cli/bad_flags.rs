//! A bad flag: exit code 2, one line that names the flag and says where to read on, nothing on stdout.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use kadwire_discovery::SecretKey;

use crate::process::run;

#[test]
fn a_bad_flag_is_answered_by_one_line_and_exit_code_2() {
    let zeros = "0".repeat(64);
    let no_curve_point = format!("enode://{}@127.0.0.1:1", "ab".repeat(64));
    let tendermint = format!("{}@127.0.0.1:1", "ab".repeat(20));
    let private = format!("enode://{}@10.1.2.3:1", SecretKey::from_bytes(&[1; 32]).unwrap().public());
    let ethereum_id = "ab".repeat(64);
    let ethereum = format!("enode://{}@127.0.0.1:1", "ab".repeat(64));
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().to_str().unwrap().to_owned();
    let cases: &[(&[&str], &str)] = &[
        (&["no-such-command"], "no-such-command"),
        (&["bootnode", "--no-such-flag"], "--no-such-flag"),
        (&["bootnode", "--adr", ":1"], "--addr"),
        (&["bootnode", "--addr", "nonsense"], "IP:PORT"),
        (&["bootnode", "-addr", "nonsense"], "IP:PORT"),
        (&["bootnode", "--addr"], "--addr"),
        (&["bootnode", "--nodekey", "zz"], "--nodekey"),
        (&["bootnode", "--nodekey", &zeros], "--nodekey"),
        (&["bootnode", "--nodekey", &home], "is a folder"),
        (&["bootnode", "--nodekeyhex", "12"], "64 hex"),
        (&["bootnode", "--nodekey", &zeros, "--nodekeyhex", &zeros], "--nodekeyhex"),
        (&["bootnode", "--nat", "sideways"], "extip:IP"),
        (&["bootnode", "--nat", "upnp", "--nat", "extip:1.2.3.4"], "upnp and extip:1.2.3.4 both"),
        (&["bootnode", "--nat", "extip:2a00::1", "--nat", "extip:2a00::2"], "extip:2a00::1 and extip:2a00::2 both"),
        (&["node", "--nat", "none", "--nat", "pmp"], "none and pmp contradict"),
        (&["node", "--nat", "pmp:router"], "IPv4 address after pmp:"),
        (&["bootnode", "--public-only", "--bootnodes", &private], "10.1.2.3 is not a public address"),
        (&["crawl", "eth", "--public-only", "--bootnodes", &private], "--public-only deals with no other"),
        (&["node", "--public-only", "--persistent-peers", &tendermint], "127.0.0.1 is not a public address"),
        (&["crawl", "tendermint", "--public-only", "--devnet", "3"], "--devnet"),
        (&["bootnode", "--netrestrict", "127.0.0.1/99"], "--netrestrict"),
        (&["bootnode", "--netrestrict", "127.0.0.1"], "want networks such as"),
        (&["bootnode", "--status", ":6060"], "want IP:PORT"),
        (&["node", "--external-address", "here"], "want IP:PORT"),
        (&["node", "--max-peers", "many"], "want a whole number"),
        (&["bootnode", "--bootnodes", "enode://abcd@127.0.0.1:1"], "--bootnodes"),
        (&["bootnode", "--bootnodes", &no_curve_point], "--bootnodes"),
        (&["bootnode", "--bootnodes", "127.0.0.1:30303"], "want enode://KEY@IP:PORT or enr:"),
        (&["bootnode", "--bootnodes", "enrtree://AM5F@nodes.example.org"], "DNS lists are not read"),
        (&["node", "--rlpx", "--static", &no_curve_point], "no valid key"),
        (&["node", "--rlpx", "--trusted", &ethereum_id], "no valid key"),
        (&["node", "--eth-network", "mainnet"], "--rlpx"),
        (&["node", "--rlpx", "--eth-network", "main"], "mainnet, sepolia, hoodi"),
        (&["bootnode", "--verbosity", "9"], "--verbosity"),
        (&["node", "--laddr", "nonsense"], "IP:PORT"),
        (&["node", "--seeds", "127.0.0.1:26656"], "--seeds"),
        (&["node", "--seeds", &ethereum], "id@host:port"),
        (&["node", "--persistent-peers", &ethereum], "--persistent-peers"),
        (&["node", "--unconditional-peer-ids", &ethereum_id], "40 hex digits"),
        (&["node", "--max-connections", "many"], "--max-connections"),
        (&["node", "--max-connections", "0", "--persistent-peers", &tendermint], "max_connections"),
        (&["node", "--pex", "perhaps"], "--pex"),
        (&["node", "--chain-id", ""], "network"),
        (&["node", "--moniker", "caf\u{e9}"], "moniker"),
        (&["node", "--nodekey", "zz"], "--nodekey"),
        (&["seed", "--chain-id", "x"], "--home"),
        (&["seed", "--home", &home, "--chain-id", "x", "--laddr", "nowhere"], "IP:PORT"),
        (&["seed", "--home", &home], "--chain-id"),
        (&["seed", "--home", &home, "--chain-id", "x", "--seeds", &ethereum], "seeds"),
        (&["seed", "--home", &home, "--chain", "x"], "ID=tcp://IP:PORT"),
        (&["seed", "--home", &home, "--chain", "../x=:1"], "folder"),
        (&["seed", "--home", &home, "--chain", "x=:1", "--chain", "x=:2"], "twice"),
        (&["seed", "--home", &home, "--chain", "x=:1", "--chain-id", "y"], "--chain-id"),
        (&["seed", "--home", &home, "--chain-id", "x", "--recheck", "0"], "--recheck"),
        (&["seed", "--home", &home, "--chain-id", "x", "--external-address", "here"], "203.0.113.7"),
        (&["devnet", "1"], "1"),
        (&["crawl", "tendermint", "--devnet", "3", "--chain-id", "x"], "--chain-id"),
        (&["crawl", "nowhere"], "nowhere"),
        (&["crawl", "eth"], "--bootnodes"),
        (&["crawl", "eth", "--bootnodes", ""], "--bootnodes"),
        (&["crawl", "eth", "--bootnodes", "enr:-nope"], "--bootnodes"),
        (&["crawl", "eth", "--devnet", "1"], "--devnet"),
        (&["crawl", "eth", "--devnet", "3", "--parallel", "0"], "--parallel"),
        (&["crawl", "tendermint", "--seeds", "127.0.0.1:26656", "--chain-id", "x"], "<id>@<host>:<port>"),
        (&["crawl", "tendermint", "--seeds", &tendermint], "--chain-id"),
        (&["crawl", "tendermint", "--seeds", &ethereum, "--chain-id", "x"], "id@host:port"),
    ];
    for (args, mentioned) in cases {
        let output = run(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(mentioned), "{args:?}: {stderr}");
        assert!(stderr.trim_end().ends_with("--help')"), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn what_is_wrong_with_a_long_value_can_be_read() {
    let long = "a".repeat(100_000);
    for args in [["bootnode", "--addr", &long], ["bootnode", "--bootnodes", &long], ["node", "--static", &long]] {
        let stderr = String::from_utf8(run(&args).stderr).unwrap();
        assert!(stderr.len() < 600 && stderr.starts_with("error: invalid value 'aaa"), "{stderr}");
        assert!(stderr.ends_with("--help')\n"), "what is wrong comes after the value: {stderr}");
    }
}

#[test]
fn an_argument_that_is_no_text_is_named() {
    let bad = OsStr::from_bytes(b"--addr=\xff");
    let output = Command::new(env!("CARGO_BIN_EXE_kadwire")).arg("bootnode").arg(bad).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.contains(r#"not in UTF-8: "--addr=\xFF""#)), (Some(2), true), "{stderr}");
}

#[test]
fn a_bad_log_filter_is_said_and_keeps_nobody_from_starting() {
    let log = |filter: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kadwire"));
        let output = command.args(["crawl", "eth", "--devnet", "2"]).env("RUST_LOG", filter).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(log("kadwire=loud").contains("RUST_LOG has no effect"));
    assert_eq!(log("kadwire=warn"), "");
}
