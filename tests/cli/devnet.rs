//! `kadwire devnet`: nodes of our own find each other, dial each other, and tell each other's addresses.

use serde_json::Value;

use crate::process::{Process, stdout_of};

#[test]
fn all_find_and_join_each_other() {
    let json = stdout_of(&["devnet", "6", "--json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&report["nodes"], &report["discovered"], &report["pex_found"]),
        (&6.into(), &6.into(), &6.into()),
        "{json}"
    );
    assert!(report["connections"].as_u64() >= Some(5) && report["one_network"] == true, "{json}");
}

#[test]
fn with_stay_it_can_be_talked_to_until_a_signal_comes() {
    let mut devnet = Process::start(&["devnet", "2", "--stay"]);
    let first: Vec<_> = (0..4).map(|_| devnet.line().split_whitespace().next().unwrap().to_owned()).collect();
    assert_eq!(first, ["nodes", "discovery", "connections", "PEX"]);
    let (enode, peer) = (devnet.line(), devnet.line());
    let table = stdout_of(&["crawl", "eth", "--bootnodes", &enode]);
    // The crawler that looked before may still stand in their tables.
    assert_eq!(table.lines().nth(1), Some("reachable  2"), "{table}");
    let table = stdout_of(&["crawl", "tendermint", "--seeds", &peer, "--chain-id", "kadwire-devnet"]);
    assert!(table.starts_with("found      2\nreachable  2\n"), "{table}");
    assert_eq!(devnet.end("INT").0, Some(0));
}
