//! A [`Status`] as Prometheus text (exposition format 0.0.4).
//!
//! Where go-ethereum has a metric, ours has its name, slashes turned into `_` as its own exporter does, so that dashboards and alerts fit:
//! `p2p_peers`, `p2p_dials_error_saturated`, `discover_ingress`. What only we count begins with `kadwire_`. Every peer metric has the label
//! `wire`; none has one that grows with the number of peers. The table of all of them is in `docs/status.md`.

use std::fmt::{Display, Write};

use super::{Chain, Counts, Discovery, Found, Role, Status, Wire, of, total};

/// Causes of failed dials by go-ethereum's metric; what is in none of them is `other`.
const DIAL_ERRORS: [(&str, &[&str]); 8] = [
    ("connection", &["connection_refused", "timed_out", "unreachable", "connect_failed", "not_resolved"]),
    ("saturated", &["too_many_peers"]),
    ("known", &["already_connected"]),
    ("self", &["our_own"]),
    ("useless", &["useless_peer"]),
    ("id_unexpected", &["wrong_identity"]),
    ("rlpx_enc", &["handshake_cut", "handshake_failed", "handshake_timed_out"]),
    ("rlpx_proto", &["incompatible"]),
];

/// The metrics of `status`, each with help and type.
pub fn metrics(status: &Status) -> String {
    let mut page = Page::default();
    let role = match status.role {
        Role::Node => "node",
        Role::Bootnode => "bootnode",
        Role::Seed => "seed",
    };
    page.metric(Gauge, "kadwire_info", "What runs; always 1.");
    page.sample("kadwire_info", &[("role", role), ("version", &status.version)], 1);
    page.one(Gauge, "kadwire_uptime_seconds", "Seconds since the start.", status.uptime_seconds);
    let help = "1 if there are peers (of a bootnode: live nodes; of a seed: addresses that it reached), else 0.";
    page.one(Gauge, "kadwire_has_peers", help, u8::from(status.peers() > 0));
    if let Some(discovery) = &status.discovery {
        self::discovery(&mut page, discovery);
    }
    if !status.wires.is_empty() {
        wires(&mut page, &status.wires);
    }
    if !status.chains.is_empty() {
        chains(&mut page, &status.chains);
    }
    page.0
}

fn discovery(page: &mut Page, discovery: &Discovery) {
    page.one(Counter, "discover_ingress", "Bytes of datagrams read.", discovery.received_bytes);
    page.one(Counter, "discover_egress", "Bytes of datagrams sent.", discovery.sent_bytes);
    let ways = counts([("in", discovery.received), ("out", discovery.sent)]);
    page.by(Counter, "kadwire_discovery_datagrams", "Datagrams read and sent.", "way", &ways);
    let help = "Datagrams that the system did not take.";
    page.one(Counter, "kadwire_discovery_send_errors", help, discovery.send_errors);
    page.by(Counter, "kadwire_discovery_accepted", "Packets taken, by message.", "message", &discovery.accepted);
    page.by(Counter, "kadwire_discovery_refused", "Datagrams refused, by cause.", "cause", &discovery.refused);
    let help = "Packets and requests of ours not sent, their address being out of reach.";
    page.one(Counter, "kadwire_discovery_withheld", help, discovery.sends_withheld);
    page.one(Gauge, "kadwire_discovery_table_nodes", "Nodes in the table.", discovery.table);
    page.one(Gauge, "kadwire_discovery_live_nodes", "Nodes in the table that answered us.", discovery.live);
    page.one(Gauge, "kadwire_discovery_endpoint_proofs", "Endpoint proofs remembered.", discovery.bonds);
    page.one(Gauge, "kadwire_discovery_bootnodes", "Nodes to begin with.", discovery.bootnodes);
    page.one(Counter, "kadwire_discovery_lookups", "Lookups started.", discovery.lookups);
    let outcomes = counts([("answered", discovery.requests_answered), ("timed_out", discovery.requests_timed_out)]);
    page.by(Counter, "kadwire_discovery_requests", "Our requests, by outcome.", "outcome", &outcomes);
    let help = "Requests of others that we answered.";
    page.one(Counter, "kadwire_discovery_answers", help, discovery.answers_given);
    if let Some(ahead) = discovery.clock_ahead_seconds {
        let help = "Seconds by which our clock is ahead of most nodes' (negative: behind); absent while it is right.";
        page.one(Gauge, "kadwire_clock_ahead_seconds", help, ahead);
    }
}

fn wires(page: &mut Page, wires: &[Wire]) {
    page.each(wires, Gauge, "p2p_peers", "Peers.", |wire| wire.connected() as u64);
    page.each(wires, Gauge, "p2p_peers_inbound", "Peers that dialed us.", |wire| wire.inbound as u64);
    page.each(wires, Gauge, "p2p_peers_outbound", "Peers that we dialed.", |wire| wire.outbound as u64);
    page.each(wires, Counter, "p2p_dials", "Dials started.", |wire| wire.dials);
    page.each(wires, Counter, "p2p_dials_success", "Dials that became connections.", |wire| wire.dials_connected);
    let among = |wire: &Wire, causes: &[&str]| {
        causes.iter().fold(0, |sum: u64, cause| sum.saturating_add(of(&wire.dials_failed, cause)))
    };
    for (name, causes) in DIAL_ERRORS {
        let (name, help) = (format!("p2p_dials_error_{name}"), format!("Failed dials: {}.", causes.join(", ")));
        page.each(wires, Counter, &name, &help, |wire| among(wire, causes));
    }
    page.each(wires, Counter, "p2p_dials_error_other", "Failed dials of any other cause.", |wire| {
        let known = DIAL_ERRORS.iter().fold(0, |sum: u64, (_, causes)| sum.saturating_add(among(wire, causes)));
        total(&wire.dials_failed).saturating_sub(known)
    });
    page.each(wires, Counter, "p2p_serves", "Connections that others opened.", |wire| wire.accepted);
    page.each(wires, Counter, "p2p_serves_success", "Those that became peers.", |wire| wire.accepts_connected);
    page.each(wires, Counter, "p2p_ingress", "Bytes of streams read.", |wire| wire.received_bytes);
    page.each(wires, Counter, "p2p_egress", "Bytes of streams written.", |wire| wire.sent_bytes);
    let help = "Places for peers that dial us.";
    page.each(wires, Gauge, "kadwire_peers_inbound_max", help, |wire| wire.max_inbound as u64);
    let help = "Places for peers that we dial.";
    page.each(wires, Gauge, "kadwire_peers_outbound_max", help, |wire| wire.max_outbound as u64);
    page.each(wires, Gauge, "kadwire_dials_active", "Dials under way.", |wire| wire.dialing as u64);
    page.each(wires, Gauge, "kadwire_dials_wanted", "Dials wanted.", |wire| wire.wanted as u64);
    page.each(wires, Gauge, "kadwire_book_addresses", "Addresses in the book.", |wire| wire.book as u64);
    let help = "Peers to dial first after a restart.";
    page.each(wires, Gauge, "kadwire_anchors", help, |wire| wire.anchors as u64);
    let help = "Such peers of the last run that were dialed.";
    page.each(wires, Counter, "kadwire_anchors_dialed", help, |wire| wire.anchors_dialed as u64);
    let help = "Those of them that became peers.";
    page.each(wires, Counter, "kadwire_anchors_reached", help, |wire| wire.anchors_reached as u64);
    page.each(wires, Counter, "kadwire_peers_evicted", "Peers closed for better ones.", |wire| wire.evicted);
    page.each(wires, Counter, "kadwire_peers_banned", "Peers banned.", |wire| wire.banned);
    page.each_by(wires, Counter, "kadwire_dials_failed", "Dials that failed, by cause.", "cause", |wire| {
        wire.dials_failed.clone()
    });
    let help = "Candidates, dials and connections that we refused, by reason.";
    page.each_by(wires, Counter, "kadwire_refused", help, "reason", |wire| wire.refused.clone());
    let help = "Candidates told to the dial scheduler, by source.";
    page.each_by(wires, Counter, "kadwire_candidates", help, "source", |wire| wire.candidates.clone());
    let help = "Handshakes that failed, in both directions, by whose fault it was.";
    page.each_by(wires, Counter, "kadwire_handshakes_failed", help, "fault", |wire| wire.handshakes_failed.clone());
    let help = "Nodes that discovery found, by what became of them.";
    page.each_by(wires, Counter, "kadwire_nodes_found", help, "outcome", |wire| {
        let Found { nodes: _, without_record, other_wire, filtered, candidates } = wire.found;
        counts([
            ("candidate", candidates),
            ("filtered", filtered),
            ("other_wire", other_wire),
            ("without_record", without_record),
        ])
    });
}

fn chains(page: &mut Page, chains: &[Chain]) {
    page.each(chains, Gauge, "kadwire_seed_known", "Addresses in the book.", |chain| chain.known as u64);
    let help = "Addresses that were reached and are passed on.";
    page.each(chains, Gauge, "kadwire_seed_reachable", help, |chain| chain.reachable as u64);
    let help = "Addresses that nobody has checked yet.";
    page.each(chains, Gauge, "kadwire_seed_unchecked", help, |chain| chain.unchecked as u64);
    let help = "Addresses that were not reached the last time, by cause.";
    page.each_by(chains, Gauge, "kadwire_seed_unreachable", help, "cause", |chain| chain.unreachable.clone());
    page.each(chains, Gauge, "kadwire_seed_banned", "Peers kept away for misbehaviour.", |chain| chain.banned as u64);
    page.each(chains, Gauge, "kadwire_seed_guests", "Guests connected.", |chain| chain.guests as u64);
    page.each(chains, Counter, "kadwire_seed_answered", "Guests answered.", |chain| chain.answered);
    let help = "Visits put off, their host or network having had enough.";
    page.each(chains, Counter, "kadwire_seed_put_off", help, |chain| chain.put_off);
}

fn counts<const N: usize>(named: [(&str, u64); N]) -> Counts {
    named.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

use Kind::{Counter, Gauge};

/// What there may be several of, told apart by a label.
trait Member {
    const LABEL: &'static str;
    fn name(&self) -> &str;
}

impl Member for Wire {
    const LABEL: &'static str = "wire";
    fn name(&self) -> &str {
        &self.name
    }
}

impl Member for Chain {
    const LABEL: &'static str = "chain_id";
    fn name(&self) -> &str {
        &self.id
    }
}

/// The text so far.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Begins a metric: its samples follow.
    fn metric(&mut self, kind: Kind, name: &str, help: &str) {
        let kind = match kind {
            Counter => "counter",
            Gauge => "gauge",
        };
        // Writing to a String does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let _ = match labels.is_empty() {
            true => writeln!(self.0, "{name} {value}"),
            false => writeln!(self.0, "{name}{{{}}} {value}", labels.join(",")),
        };
    }

    fn one(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.metric(kind, name, help);
        self.sample(name, &[], value);
    }

    fn by(&mut self, kind: Kind, name: &str, help: &str, label: &str, counts: &Counts) {
        self.metric(kind, name, help);
        for (value, count) in counts {
            self.sample(name, &[(label, value)], count);
        }
    }

    fn each<M: Member>(&mut self, members: &[M], kind: Kind, name: &str, help: &str, value: impl Fn(&M) -> u64) {
        self.metric(kind, name, help);
        for member in members {
            self.sample(name, &[(M::LABEL, member.name())], value(member));
        }
    }

    fn each_by<M: Member>(
        &mut self,
        members: &[M],
        kind: Kind,
        name: &str,
        help: &str,
        label: &str,
        counts: impl Fn(&M) -> Counts,
    ) {
        self.metric(kind, name, help);
        for member in members {
            for (value, count) in counts(member) {
                self.sample(name, &[(M::LABEL, member.name()), (label, &value)], count);
            }
        }
    }
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
