//! The diagnosis as a table: one row a cause, the first finding named.

mod metrics;
mod nodes;

use std::collections::BTreeSet;

use kadwire_wire::address::PeerId;

use super::{Cause::*, *};
use crate::{
    node::WalkStats,
    peers::{WhyFailed, WhyNot},
    visit::Trouble,
};

/// A node that runs for five minutes, has discovery and one wire with the default limits, and nothing has happened yet.
fn node() -> Status {
    Status {
        version: "1.2.3".to_owned(),
        uptime_seconds: 300,
        discovery: Some(Discovery { bootnodes: 1, ..Discovery::default() }),
        wires: vec![wire("tendermint")],
        ..Status::default()
    }
}

fn wire(name: &str) -> Wire {
    let address = Some("id@203.0.113.7:26656".to_owned());
    Wire { name: name.to_owned(), max_inbound: 40, max_outbound: 10, address, ..Wire::default() }
}

/// A node whose discovery works: what is missing is missing later.
fn discovering() -> Status {
    let mut status = node();
    let discovery = status.discovery.as_mut().unwrap();
    (discovery.table, discovery.live, discovery.sent, discovery.received) = (30, 20, 500, 400);
    discovery.requests_answered = 200;
    status
}

fn with(mut status: Status, change: impl FnOnce(&mut Status)) -> Status {
    change(&mut status);
    status
}

fn udp(change: impl FnOnce(&mut Discovery)) -> Status {
    with(node(), |status| change(status.discovery.as_mut().unwrap()))
}

fn on_wire(change: impl FnOnce(&mut Wire)) -> Status {
    with(discovering(), |status| change(&mut status.wires[0]))
}

fn bootnode(change: impl FnOnce(&mut Discovery)) -> Status {
    let status = Status { role: Role::Bootnode, wires: Vec::new(), ..node() };
    with(status, |status| {
        let discovery = status.discovery.as_mut().unwrap();
        discovery.bootnodes = 0;
        change(discovery);
    })
}

fn seed(change: impl FnOnce(&mut Chain)) -> Status {
    let mut chain = Chain { id: "cosmoshub-4".to_owned(), ..Chain::default() };
    change(&mut chain);
    Status { role: Role::Seed, uptime_seconds: 300, chains: vec![chain], ..Status::default() }
}

fn counts<const N: usize>(named: [(&str, u64); N]) -> Counts {
    named.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// What is the case, the causes expected in this order, and words that the first one must say.
fn rows() -> Vec<(&'static str, Status, Vec<Cause>, &'static str)> {
    vec![
        // Our own settings.
        (
            "no places",
            with(node(), |status| {
                (status.wires[0].max_inbound, status.wires[0].max_outbound) = (0, 0);
            }),
            vec![NoPlaces],
            "0 inbound and 0 outbound",
        ),
        (
            "a static peer without a place",
            with(node(), |status| {
                status.wires = vec![Wire { max_inbound: 0, max_outbound: 0, configured: 1, ..wire("rlpx") }];
            }),
            vec![NoPlaces],
            "static peers need a place",
        ),
        (
            "peers on one wire of two",
            with(discovering(), |status| {
                status.wires[0].outbound = 3;
                let dials_failed = counts([("useless_peer", 4)]);
                status.wires.push(Wire { dials: 4, dials_failed, ..wire("rlpx") });
            }),
            vec![HasPeers, DialsFail],
            "None on rlpx",
        ),
        (
            "only inbound",
            with(discovering(), |status| status.wires[0].max_outbound = 0),
            vec![NotDialing],
            "dial nobody",
        ),
        ("nobody to begin with", udp(|udp| udp.bootnodes = 0), vec![NobodyToAsk], "no bootnodes"),
        (
            "this node as its own only static peer",
            with(udp(|udp| udp.bootnodes = 0), |status| status.wires[0].refused = counts([("self", 1)])),
            vec![NobodyToAsk],
            "nobody but ourselves",
        ),
        ("a bootnode that nobody knows", bootnode(|_| {}), vec![NobodyToAsk], "Nobody has written to us in 300 s"),
        ("a seed without seeds", seed(|_| {}), vec![NobodyToAsk], "cosmoshub-4"),
        // Datagrams.
        (
            "a moment after the start",
            with(udp(|udp| udp.sent = 2), |status| status.uptime_seconds = 6),
            vec![JustStarted, NothingArrives],
            "6 s ago",
        ),
        ("offline", udp(|udp| udp.send_errors = 9), vec![CannotSend], "did not take 9"),
        (
            "bootnodes out of reach",
            udp(|udp| (udp.sends_withheld, udp.netrestrict) = (4, true)),
            vec![OutOfReach],
            "4 packets",
        ),
        (
            "a dead bootnode",
            udp(|udp| udp.sent = 12),
            vec![NothingArrives],
            "12 datagrams sent in 300 s, none received",
        ),
        (
            "a dead bootnode, asked by a bootnode",
            bootnode(|udp| (udp.bootnodes, udp.sent) = (1, 12)),
            vec![NothingArrives],
            "none received",
        ),
        (
            "a discv5 bootnode",
            udp(|udp| {
                (udp.sent, udp.received, udp.refused) = (9, 9, counts([("bad_hash", 8), ("expired", 1)]));
            }),
            vec![NotDiscv4],
            "8 of them as bad_hash",
        ),
        (
            "a clock 90 s behind",
            with(discovering(), |status| {
                status.discovery.as_mut().unwrap().clock_ahead_seconds = Some(-90);
            }),
            vec![ClockOff],
            "90 s behind",
        ),
        (
            "a clock ahead of few nodes",
            udp(|udp| {
                (udp.sent, udp.received, udp.refused) = (9, 5, counts([("expired", 5)]));
            }),
            vec![ClockOff],
            "all 5 datagrams",
        ),
        (
            "only strangers from networks not allowed",
            udp(|udp| {
                (udp.sent, udp.received, udp.refused) = (9, 5, counts([("not_allowed", 5)]));
                udp.netrestrict = true;
            }),
            vec![SourcesNotAllowed],
            "none of those who write",
        ),
        (
            "a bootnode with a new key",
            udp(|udp| {
                (udp.sent, udp.received, udp.requests_timed_out) = (9, 9, 4);
                udp.refused = counts([("unsolicited", 9)]);
            }),
            vec![WrongBootnodeKey],
            "not as the nodes we asked for",
        ),
        (
            "others reach us, we do not reach them",
            udp(|udp| {
                (udp.sent, udp.received, udp.requests_timed_out) = (9, 9, 4);
                udp.accepted = counts([("ping", 9)]);
            }),
            vec![NobodyAnswers],
            "none of our 4 requests",
        ),
        (
            "those who answered are gone",
            udp(|udp| (udp.sent, udp.received, udp.requests_answered) = (9, 9, 3)),
            vec![Alone],
            "nobody in the table",
        ),
        (
            "a bootnode that knows nobody else",
            udp(|udp| {
                (udp.table, udp.live, udp.sent, udp.received, udp.requests_answered) = (1, 1, 9, 9, 9);
            }),
            vec![Alone],
            "1 bootnode",
        ),
        (
            "a bootnode that takes no peers and knows nobody else",
            with(discovering(), |status| {
                let discovery = status.discovery.as_mut().unwrap();
                (discovery.table, discovery.live) = (1, 1);
                let wire = &mut status.wires[0];
                (wire.candidates, wire.dials) = (counts([("discv4", 9)]), 1);
                wire.dials_failed = counts([("connection_refused", 1)]);
            }),
            vec![Alone, DialsFail],
            "learnt of nobody else",
        ),
        // Candidates.
        (
            "another network's bootnodes",
            on_wire(|wire| wire.found = Found { nodes: 40, other_wire: 40, ..Found::default() }),
            vec![NoneSpeaksThisWire],
            "40 nodes, and none of them speaks tendermint",
        ),
        (
            "another chain's fork id",
            on_wire(|wire| wire.found = Found { nodes: 40, filtered: 30, other_wire: 10, ..Found::default() }),
            vec![NonePassesTheFilter],
            "left 30 out",
        ),
        (
            "nodes without EIP-868, but for one",
            on_wire(|wire| wire.found = Found { nodes: 5, without_record: 4, other_wire: 1, ..Found::default() }),
            vec![NoRecords],
            "none of them gave its record",
        ),
        (
            "nodes without EIP-868",
            on_wire(|wire| wire.found = Found { nodes: 5, without_record: 5, ..Found::default() }),
            vec![NoRecords],
            "none of them gave its record",
        ),
        (
            "all refused",
            on_wire(|wire| {
                (wire.candidates, wire.refused) =
                    (counts([("discv4", 9)]), counts([("net_restricted", 9), ("already_queued", 20)]));
            }),
            vec![Refused],
            "9 candidates refused before any dial: outside the networks",
        ),
        (
            "a static peer outside --netrestrict",
            with(udp(|udp| udp.bootnodes = 0), |status| {
                (status.wires[0].configured, status.wires[0].refused) = (1, counts([("net_restricted", 1)]));
            }),
            vec![Refused],
            "1 candidate refused before any dial: outside the networks",
        ),
        // Dials.
        (
            "dials under way",
            on_wire(|wire| (wire.candidates, wire.dials, wire.dialing) = (counts([("discv4", 9)]), 3, 3)),
            vec![StillDialing],
            "3 dials under way",
        ),
        (
            "outgoing TCP blocked",
            on_wire(|wire| {
                (wire.dials, wire.dials_failed) = (10, counts([("timed_out", 7), ("connection_refused", 3)]))
            }),
            vec![DialsFail, DialsFail],
            "7 of 10 dials failed: no answer",
        ),
        (
            "everybody is full",
            on_wire(|wire| (wire.dials, wire.dials_failed) = (80, counts([("too_many_peers", 60), ("timed_out", 20)]))),
            vec![PeersAreFull, DialsFail],
            "60 of 80 dials failed: the peer is full",
        ),
        (
            "no shared protocol",
            on_wire(|wire| (wire.dials, wire.dials_failed) = (8, counts([("useless_peer", 8)]))),
            vec![DialsFail],
            "no protocol in common",
        ),
        (
            "a cause without a line of its own",
            on_wire(|wire| (wire.dials, wire.dials_failed) = (1, counts([("novel", 1)]))),
            vec![DialsFail],
            "1 of 1 dial failed: failed (novel)",
        ),
        (
            "a seed that reaches nobody",
            seed(|chain| (chain.known, chain.unreachable) = (9, counts([("wrong_network", 9)]))),
            vec![DialsFail],
            "9 of 9 dials of cosmoshub-4 failed: it belongs to another chain",
        ),
        (
            "a seed that has just read its book",
            seed(|chain| (chain.known, chain.unchecked) = (9, 9)),
            vec![StillDialing],
            "9 addresses",
        ),
        // Connections.
        (
            "connections that end at once",
            on_wire(|wire| {
                (wire.dials, wire.dials_connected) = (5, 5);
            }),
            vec![ConnectionsEnd],
            "5 connections made (5 by us), none of which is left",
        ),
        (
            "full peers that say so after the handshake",
            on_wire(|wire| {
                (wire.dials, wire.dials_connected) = (5, 5);
                wire.dials_failed = counts([("too_many_peers", 4), ("ended_at_once", 1)]);
            }),
            vec![PeersAreFull, DialsFail, ConnectionsEnd],
            "4 of 5 dials failed: the peer is full",
        ),
        (
            "strangers refused",
            on_wire(|wire| {
                (wire.accepted, wire.refused) = (6, counts([("duplicate_ip", 6)]));
                (wire.dials, wire.dialing) = (1, 1);
            }),
            vec![StillDialing, InboundRefused],
            "under way",
        ),
        (
            "a closed port",
            with(on_wire(|wire| wire.inbound = 0), |status| {
                status.uptime_seconds = 3_600;
                status.wires[0].outbound = 2;
            }),
            vec![HasPeers, NobodyDialsUs],
            "2 peers: 2 that we dialed",
        ),
        (
            "our record says 127.0.0.1",
            with(discovering(), |status| {
                status.wires[0].inbound = 1;
                let discovery = status.discovery.as_mut().unwrap();
                (discovery.listen, discovery.advertised) =
                    (Some("0.0.0.0:30303".parse().unwrap()), Some("127.0.0.1".parse().unwrap()));
            }),
            vec![HasPeers, AdvertisedUnreachable],
            "1 peer: 0 that we dialed, 1 that dialed us",
        ),
        ("nothing conspicuous", discovering(), vec![Unknown], "nothing in the figures"),
        ("a bootnode at work", bootnode(|udp| (udp.table, udp.live) = (9, 7)), vec![HasPeers], "7 live nodes"),
        ("a seed at work", seed(|chain| chain.reachable = 3), vec![HasPeers], "3 addresses"),
    ]
}

#[test]
fn each_cause_is_found_first_where_it_is_the_cause() {
    let mut found = BTreeSet::new();
    for (what, status, causes, words) in rows() {
        let findings = diagnose(&status);
        let told: Vec<_> = findings.iter().map(|finding| finding.cause).collect();
        assert_eq!(told, causes, "{what}: {findings:#?}");
        assert!(findings[0].says.contains(words), "{what}: {:?}", findings[0].says);
        assert!(findings.iter().all(|finding| !finding.advice.is_empty()), "{what}");
        found.extend(told);
    }
    assert_eq!(found.len(), ALL, "a cause has no row");
}

/// How many causes there are. Who adds one is stopped here, and adds a row.
const ALL: usize = match HasPeers {
    HasPeers
    | NoPlaces
    | NotDialing
    | NobodyToAsk
    | JustStarted
    | CannotSend
    | OutOfReach
    | NothingArrives
    | NotDiscv4
    | ClockOff
    | SourcesNotAllowed
    | WrongBootnodeKey
    | NobodyAnswers
    | Alone
    | NoneSpeaksThisWire
    | NonePassesTheFilter
    | NoRecords
    | Refused
    | DialsFail
    | PeersAreFull
    | StillDialing
    | ConnectionsEnd
    | InboundRefused
    | NobodyDialsUs
    | AdvertisedUnreachable
    | Unknown => 26,
};

#[test]
fn two_wires_are_told_apart() {
    let status =
        with(on_wire(|wire| (wire.dials, wire.dials_failed) = (2, counts([("connection_refused", 2)]))), |status| {
            status.wires.push(Wire { dials: 3, dials_failed: counts([("timed_out", 3)]), ..wire("rlpx") });
        });
    let says: Vec<_> = diagnose(&status).into_iter().map(|finding| finding.says).collect();
    assert!(says[0].starts_with("2 of 2 dials on tendermint failed"), "{says:?}");
    assert!(says[1].starts_with("3 of 3 dials on rlpx failed"), "{says:?}");
}

#[test]
fn a_node_of_both_wires_is_found_for_both() {
    // Of ten nodes five speak both wires, two each one of them; one gave no record, and the filter refused it and one of another chain.
    let walked = WalkStats {
        found: 10,
        unanswered: 1,
        tendermint: 7,
        ethereum: 6,
        not_tendermint: 2,
        not_ethereum: 2,
        filtered: 1,
        filtered_unseen: 1,
        ..WalkStats::default()
    };
    let tendermint = Found { nodes: 10, without_record: 1, other_wire: 2, filtered: 0, candidates: 7 };
    assert_eq!(collect::found(PeerId::Tendermint([1; 20]), walked), tendermint);
    let rlpx = Found { nodes: 10, without_record: 1, other_wire: 2, filtered: 1, candidates: 6 };
    assert_eq!(collect::found(PeerId::Ethereum([1; 64]), walked), rlpx);
}

#[test]
fn every_cause_that_we_count_has_its_words() {
    let general = advice::on_failed_dial("novel");
    let wordless = |name: &&str| advice::on_failed_dial(name) == general;
    let dials: Vec<_> = WhyFailed::ALL.iter().map(|why| why.name()).filter(wordless).collect();
    assert_eq!(dials, ["connect_failed"], "which says nothing more than that");
    let visits: Vec<_> = Trouble::ALL.iter().map(|trouble| trouble.name()).filter(wordless).collect();
    assert_eq!(visits, ["connect", "answer_timeout", "bad_pex"], "likewise, or the peer is there");
    let passing: Vec<_> =
        WhyNot::ALL.iter().map(|why| why.name()).filter(|why| advice::on_refused(why).is_none()).collect();
    let by_itself = [
        "already_dialing",
        "already_connected",
        "pending_inbound",
        "recently_dialed",
        "cooling_down",
        "already_queued",
        "queue_full",
        "subnet_full",
        "too_fast",
        "lost_crossing",
        "stale",
    ];
    assert_eq!(passing, by_itself, "they pass by themselves");
}

#[test]
fn a_status_survives_json_and_readers_of_other_versions() {
    for (what, status, ..) in rows() {
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status, "{what}");
    }
    let sparse: Status =
        serde_json::from_str(r#"{"role":"node","novel":1,"wires":[{"name":"rlpx","inbound":2}]}"#).unwrap();
    assert_eq!(sparse.peers(), 2);
}

/// A status comes over the network: none of its figures need be true.
#[test]
fn figures_beyond_all_reason_are_diagnosed_all_the_same() {
    use serde_json::Value;

    fn exaggerate(key: &str, value: &mut Value) {
        match value {
            Value::Number(_) if key == "clock_ahead_seconds" => *value = i64::MIN.into(),
            Value::Number(_) => *value = u64::MAX.into(),
            Value::Array(members) => {
                members.extend(members.clone());
                members.iter_mut().for_each(|member| exaggerate(key, member));
            }
            Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| exaggerate(key, value)),
            _ => {}
        }
    }

    for (what, status, ..) in rows() {
        for has_no_peers in [false, true] {
            let mut value = serde_json::to_value(&status).unwrap();
            exaggerate("", &mut value);
            let mut status: Status = serde_json::from_value(value).unwrap();
            if has_no_peers {
                // Without peers, the other way through.
                status.wires.iter_mut().for_each(|wire| (wire.inbound, wire.outbound) = (0, 0));
                status.chains.iter_mut().for_each(|chain| chain.reachable = 0);
                status.discovery.iter_mut().for_each(|discovery| discovery.live = 0);
            }
            assert!(!diagnose(&status).is_empty() && metrics(&status).ends_with('\n'), "{what}");
        }
    }
}
