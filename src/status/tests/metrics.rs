//! A status as Prometheus text.

use super::*;

/// Every line is a comment or `name{label="value",…} number`; each sample belongs to the metric whose type was given last, none twice.
#[test]
fn the_metrics_are_what_prometheus_reads() {
    let mut status = on_wire(|wire| {
        wire.dials_failed = counts([("timed_out", 3), ("connection_refused", 1), ("too_many_peers", 5), ("novel", 2)]);
        (wire.inbound, wire.outbound) = (1, 2);
        (wire.received_bytes, wire.sent_bytes) = (12_345, 678);
    });
    status.wires.push(wire("rlpx"));
    status.discovery.as_mut().unwrap().clock_ahead_seconds = Some(-30);
    status.chains = seed(|chain| chain.id = "a \"b\"\\\n".to_owned()).chains;
    let text = metrics(&status);
    let (mut current, mut named, mut seen) = (String::new(), BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit()),
                "{line}"
            );
            assert!(named.insert(name.to_owned()), "{name} is there twice");
            current = name.to_owned();
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            let name = sample.split_once('{').map_or(sample, |(name, labels)| {
                assert!(labels.ends_with("\"}"), "{line}");
                name
            });
            assert_eq!(name, current, "{line}");
            assert!(seen.insert(sample.to_owned()), "{sample} is there twice");
        }
    }
    for line in [
        "p2p_peers{wire=\"tendermint\"} 3",
        "p2p_peers{wire=\"rlpx\"} 0",
        "p2p_ingress{wire=\"tendermint\"} 12345",
        "p2p_egress{wire=\"tendermint\"} 678",
        "discover_ingress 0",
        "p2p_dials_error_connection{wire=\"tendermint\"} 4",
        "p2p_dials_error_saturated{wire=\"tendermint\"} 5",
        "p2p_dials_error_other{wire=\"tendermint\"} 2",
        "kadwire_dials_failed{wire=\"tendermint\",cause=\"timed_out\"} 3",
        "kadwire_discovery_live_nodes 20",
        "kadwire_clock_ahead_seconds -30",
        "kadwire_has_peers 1",
        "kadwire_seed_known{chain_id=\"a \\\"b\\\"\\\\\\n\"} 0",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
}
