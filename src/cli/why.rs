//! `kadwire why`: reads the status of a running node, bootnode or seed, and says why it has no peers, or that it has.
//!
//! Exit code 0 with peers, 1 without, 2 if there is no status to read.

use std::fmt::Write;

use kadwire::status::{
    Chain, Counts, Discovery, Finding, Role, Status, Wire, diagnose,
    fetch::{DEFAULT_PORT, Endpoint, fetch},
};
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::{output, shutdown};

/// Say why a running node, bootnode or seed has no peers (exit code 1), or that it has some (0)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where it serves its status: what its --status says
    #[arg(value_name = "URL|ADDR", default_value_t = format!("127.0.0.1:{DEFAULT_PORT}"))]
    at: String,

    /// Print one JSON object: peers, findings, status
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let at: Endpoint = args.at.parse().map_err(|error| Failure::usage(&args.at, error))?;
    let status = shutdown::runtime_of_one_thread()?.block_on(fetch(&at)).map_err(|error| {
        let hint = "is the node running, with --status and this address?";
        Failure::usage(&at.to_string(), format!("{error}; {hint}"))
    })?;
    let findings = diagnose(&status);
    let peers = status.peers();
    if args.json {
        let json = serde_json::to_string(&Answer { peers, findings: &findings, status: &status });
        output::line(json.map_err(|error| Failure::of("cannot print", error))?)?;
    } else {
        output::line(page(&status, &findings).trim_end())?;
    }
    Ok(if peers > 0 { Exit::Done } else { Exit::No })
}

#[derive(Serialize)]
struct Answer<'a> {
    peers: usize,
    findings: &'a [Finding],
    status: &'a Status,
}

/// The table, then the findings.
fn page(status: &Status, findings: &[Finding]) -> String {
    let mut page = Page::default();
    let role = match status.role {
        Role::Node => "node",
        Role::Bootnode => "bootnode",
        Role::Seed => "seed",
    };
    page.row(role, format!("kadwire {}, up {}", status.version, duration(status.uptime_seconds)));
    if let Some(enode) = &status.enode {
        page.row("enode", enode);
    }
    if let Some(discovery) = &status.discovery {
        page.discovery(discovery);
    }
    status.wires.iter().for_each(|wire| page.wire(wire));
    status.chains.iter().for_each(|chain| page.chain(chain));
    page.0.push('\n');
    for (number, Finding { says, advice, .. }) in findings.iter().enumerate() {
        let _ = writeln!(page.0, "{}. {says}\n   -> {advice}", number + 1);
    }
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn row(&mut self, name: &str, text: impl std::fmt::Display) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "{name:<13}{text}");
    }

    fn discovery(&mut self, discovery: &Discovery) {
        let Discovery { received, sent, table, live, bootnodes, lookups, .. } = discovery;
        let listen = discovery.listen.map(|listen| format!("{listen}, ")).unwrap_or_default();
        self.row("udp", format!("{listen}datagrams {sent} out, {received} in; refused: {}", named(&discovery.refused)));
        let (answered, timed_out) = (discovery.requests_answered, discovery.requests_timed_out);
        self.row("requests", format!("{answered} answered, {timed_out} timed out; {lookups} lookups"));
        self.row("table", format!("{live} live of {table} nodes; bootnodes: {bootnodes}"));
    }

    fn wire(&mut self, wire: &Wire) {
        let Wire { inbound, max_inbound, outbound, max_outbound, book, configured, dialing, .. } = wire;
        let at = wire.address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
        let peers = wire.connected();
        self.row(
            &wire.name,
            format!("peers: {peers}, {inbound} of {max_inbound} in, {outbound} of {max_outbound} out{at}"),
        );
        let found = wire.found;
        let (filtered, other, silent) = (found.filtered, found.other_wire, found.without_record);
        let candidates = named(&wire.candidates);
        self.row(
            "  found",
            format!("{} nodes: {filtered} filtered, {other} of another wire, {silent} without record", found.nodes),
        );
        self.row(
            "  candidates",
            format!(
                "{candidates}; {configured} named, {book} in the book, {} waiting, {} wanted",
                wire.waiting, wire.wanted
            ),
        );
        if wire.anchors + wire.anchors_dialed > 0 {
            let (dialed, reached) = (wire.anchors_dialed, wire.anchors_reached);
            let now = wire.anchors;
            self.row("  anchors", format!("{reached} of {dialed} reached at the start; {now} for the next one"));
        }
        let (dials, connected) = (wire.dials, wire.dials_connected);
        self.row(
            "  dials",
            format!("{dials}: {connected} connected, {dialing} under way; failed: {}", named(&wire.dials_failed)),
        );
        if let Some(last) = &wire.last_dial_failure {
            self.row("  last", format!("{}: {}", last.address, last.error));
        }
        self.row("  inbound", format!("{} opened, {} connected", wire.accepted, wire.accepts_connected));
        self.row("  refused", named(&wire.refused));
    }

    fn chain(&mut self, chain: &Chain) {
        let Chain { id, address, known, reachable, unchecked, guests, answered, .. } = chain;
        self.row("chain", format!("{id} at {address}"));
        let unreachable = named(&chain.unreachable);
        self.row(
            "  addresses",
            format!("{known} known, {reachable} reachable, {unchecked} unchecked; unreachable: {unreachable}"),
        );
        self.row("  guests", format!("{guests} now, {answered} answered"));
    }
}

fn named(counts: &Counts) -> String {
    let named: Vec<_> =
        counts.iter().filter(|(_, count)| **count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    if named.is_empty() { "none".to_owned() } else { named.join(", ") }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}
