//! From a [`Status`] to sentences: why there are no peers, the most likely cause first, each with what to do next.
//!
//! The way to a peer has stations (the module's picture); what is missing at one explains all that is missing after it. So the order is: our
//! own settings, datagrams, discovery's answers, candidates, dials, connections that did not last, and last what is only a hint.

use super::{
    Cause, Chain, Counts, Discovery, Finding, Role, Status, Wire,
    advice::{on_failed_dial, on_refused},
    of, sum, total,
};

/// Before that nothing is certain: discovery waits for answers, and dials for their time-outs.
const YOUNG_SECONDS: u64 = 30;

/// A request has so long to be answered, and was sent again: longer silence says something.
const SILENCE_SECONDS: u64 = 5;

/// The clocks may differ by what go-ethereum gives a packet to live; farther off, every packet is expired.
const CLOCK_SECONDS: u64 = 20;

/// Others come to a node with an open port in less time.
const INBOUND_SECONDS: u64 = 10 * 60;

/// Causes of failed dials that are told, the most frequent first.
const MAX_DIAL_CAUSES: usize = 3;

/// Why `status` has no peers, the most likely cause first; never empty. With peers the first finding says so, and hints follow.
pub fn diagnose(status: &Status) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    let peers = status.peers();
    if peers > 0 {
        let without: Vec<_> = status.wires.iter().filter(|wire| wire.connected() == 0).collect();
        let mut of_others = Findings(Vec::new());
        without.into_iter().for_each(|wire| one_wire(status, wire, &mut of_others));
        let advice = match of_others.0.is_empty() {
            true => "Nothing to do.",
            false => "Below is why there is none on the other wire.",
        };
        findings.add(Cause::HasPeers, has_peers(status), advice);
        findings.0.append(&mut of_others.0);
    } else {
        match status.role {
            Role::Node => node(status, &mut findings),
            Role::Bootnode => bootnode(status, &mut findings),
            Role::Seed => seed(status, &mut findings),
        }
        young(status, &mut findings);
    }
    hints(status, &mut findings);
    if findings.0.is_empty() {
        findings.add(
            Cause::Unknown,
            "No peers, and nothing in the figures says why.".to_owned(),
            "Run with --verbosity 4 and look at what is refused and what fails.",
        );
    }
    findings.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, cause: Cause, says: String, advice: impl Into<String>) {
        self.0.push(Finding { cause, says, advice: advice.into() });
    }
}

fn has_peers(status: &Status) -> String {
    let peers = status.peers();
    match status.role {
        Role::Node => {
            let all = |of: fn(&Wire) -> usize| sum(status.wires.iter().map(of));
            let (inbound, outbound) = (all(|wire| wire.inbound), all(|wire| wire.outbound));
            let without = status.wires.iter().filter(|wire| wire.connected() == 0);
            let none: String = without.map(|wire| format!(" None on {}.", wire.name)).collect();
            format!("{}: {outbound} that we dialed, {inbound} that dialed us.{none}", number(peers, "peer"))
        }
        Role::Bootnode => format!("{} in the table.", number(peers, "live node")),
        Role::Seed => format!("{} that we reached and pass on.", number(peers, "address")),
    }
}

/// Says first that it is early, unless our own settings are to blame.
fn young(status: &Status, findings: &mut Findings) {
    use Cause::{NoPlaces, NobodyToAsk, NotDialing};
    let certain = findings.0.first().is_some_and(|first| matches!(first.cause, NoPlaces | NobodyToAsk | NotDialing));
    if status.uptime_seconds < YOUNG_SECONDS && !certain {
        let says = format!("Started {} s ago: it may be too early to tell.", status.uptime_seconds);
        let advice = "Ask again in half a minute.".to_owned();
        findings.0.insert(0, Finding { cause: Cause::JustStarted, says, advice });
    }
}

// A node: settings, discovery, then each wire.

fn node(status: &Status, findings: &mut Findings) {
    let all = |of: fn(&Wire) -> usize| sum(status.wires.iter().map(of));
    let [max_outbound, configured] = [all(|wire| wire.max_outbound), all(|wire| wire.configured)];
    if sum([all(|wire| wire.max_inbound), max_outbound, all(beyond_places)]) == 0 {
        let says = match configured {
            0 => "The limits are 0 inbound and 0 outbound peers, and no peer is named.",
            _ => "The limits are 0 inbound and 0 outbound peers, and static peers need a place like all others.",
        };
        let says = says.to_owned();
        findings.add(
            Cause::NoPlaces,
            says,
            "Raise the limits of peers (--max-num-inbound-peers, --max-num-outbound-peers, --max-peers).",
        );
        return;
    }
    if sum([max_outbound, configured]) == 0 {
        let says = format!(
            "We dial nobody (0 outbound peers, or --no-dial), and of those that dialed us, {} came through.",
            status.wires.iter().fold(0, |sum, wire| wire.accepts_connected.saturating_add(sum))
        );
        findings.add(Cause::NotDialing, says, "Allow outbound peers, or see to it that others can reach our TCP port.");
    }
    let begins_with = status.discovery.as_ref().map_or(0, |discovery| sum([discovery.bootnodes, discovery.table]));
    if sum([begins_with, configured, all(|wire| wire.book), all(|wire| wire.anchors_dialed)]) == 0 {
        let own = status.wires.iter().any(|wire| of(&wire.refused, "self") > 0);
        let says = match own {
            true => "We know nobody but ourselves: of the seeds and peers by name none is another node.",
            false => {
                "We know nobody: no bootnodes, no seeds, no peers by name, an empty table and an empty address book."
            }
        };
        findings.add(
            Cause::NobodyToAsk,
            says.to_owned(),
            "Name somebody to begin with: --bootnodes enode://…, --seeds or --persistent-peers id@host:port, --static enode://….",
        );
    }
    if let Some(discovery) = &status.discovery {
        udp(status, discovery, findings);
    }
    status.wires.iter().for_each(|wire| one_wire(status, wire, findings));
}

/// What keeps one wire from having peers.
fn one_wire(status: &Status, wire: &Wire, findings: &mut Findings) {
    candidates(status, wire, findings);
    dials(wire.dials, wire.dials_connected, wire.dialing, &wire.dials_failed, &on_wire(status, wire), findings);
    lost(status, wire, findings);
    refused_inbound(status, wire, findings);
}

/// The operator's peers that need no place: Tendermint's persistent ones. Ethereum's static ones take one (go-ethereum).
fn beyond_places(wire: &Wire) -> usize {
    if wire.name == "rlpx" { 0 } else { wire.configured }
}

/// Discovery from datagrams to live nodes. Says nothing while there are live nodes.
fn udp(status: &Status, discovery: &Discovery, findings: &mut Findings) {
    let Discovery { received, sent, send_errors, .. } = *discovery;
    if let Some(ahead) = discovery.clock_ahead_seconds.filter(|ahead| ahead.unsigned_abs() > CLOCK_SECONDS) {
        let (by, way) = (ahead.unsigned_abs(), if ahead > 0 { "ahead of" } else { "behind" });
        clock(format!("Our clock is {by} s {way} that of most nodes: packets are taken for expired."), findings);
    }
    if discovery.live > 0 {
        return;
    }
    let refused = total(&discovery.refused);
    if sent == 0 && send_errors > 0 || send_errors > sent / 2 && received == 0 {
        let says = format!("The system did not take {send_errors} of our datagrams ({sent} were sent).");
        findings.add(
            Cause::CannotSend,
            says,
            "Is this machine online? Does a firewall or the sandbox forbid outgoing UDP?",
        );
    } else if sent == 0 && discovery.sends_withheld > 0 {
        let says =
            format!("We may not send to anybody we know: {} withheld.", number(discovery.sends_withheld, "packet"));
        let advice = match (discovery.netrestrict, discovery.public_only) {
            (true, _) => "--netrestrict leaves the bootnodes out.",
            (false, true) => "--public-only leaves private bootnodes out.",
            (false, false) => {
                "The bootnodes are of an address family that we do not listen on: listen on :PORT for both."
            }
        };
        findings.add(Cause::OutOfReach, says, advice);
    } else if received == 0 && sent > 0 && status.uptime_seconds >= SILENCE_SECONDS {
        let says = format!(
            "Nothing at all arrives by UDP: {} sent in {} s, none received.",
            number(sent, "datagram"),
            status.uptime_seconds
        );
        findings.add(
            Cause::NothingArrives,
            says,
            "Are the bootnodes alive, and their addresses and ports right (`devp2p discv4 ping ENODE` from another machine)? Does a firewall or NAT let UDP out and its answers in? Is our clock right? Nodes do not answer what looks expired to them.",
        );
    } else if received > 0 && refused >= received {
        rejected(status, discovery, findings);
    } else if received > 0 && discovery.requests_answered == 0 && discovery.requests_timed_out > 0 {
        let unsolicited = of(&discovery.refused, "unsolicited");
        if unsolicited > 0 {
            wrong_key(unsolicited, findings);
        } else {
            let says = format!(
                "{} arrived, but none of our {} was answered.",
                number(received, "datagram"),
                number(discovery.requests_timed_out, "request")
            );
            findings.add(
                Cause::NobodyAnswers,
                says,
                "Others reach us, but our packets or their answers get lost: look at outgoing UDP. If our clock is behind, others take our packets for expired.",
            );
        }
    } else if discovery.requests_answered > 0 && discovery.table == 0 {
        alone(discovery, findings);
    }
}

/// Every datagram was refused: by what was wrong with most of them.
fn rejected(status: &Status, discovery: &Discovery, findings: &mut Findings) {
    let Some((most, count)) = by_count(&discovery.refused).into_iter().next() else { return };
    let all = format!("all {} that arrived were refused, {count} of them", number(discovery.received, "datagram"));
    match most {
        "expired" | "too_far_ahead" => {
            if !findings.0.iter().any(|finding| finding.cause == Cause::ClockOff) {
                clock(
                    format!("Our clock is probably wrong: {all} since they seem expired, or far in the future."),
                    findings,
                );
            }
        }
        "unsolicited" if discovery.requests_answered == 0 => wrong_key(count, findings),
        "not_allowed" => findings.add(
            Cause::SourcesNotAllowed,
            format!("We deal with none of those who write to us: {all} for their address."),
            if discovery.netrestrict {
                "--netrestrict leaves them out."
            } else {
                "--public-only leaves private addresses out."
            },
        ),
        _ => findings.add(
            Cause::NotDiscv4,
            format!("What arrives is not discv4: {all} as {most}."),
            format!(
                "Are the bootnodes discv5 only, or is something else sending to our port? Up {} s.",
                status.uptime_seconds
            ),
        ),
    }
}

fn clock(says: String, findings: &mut Findings) {
    findings.add(Cause::ClockOff, says, "Set the clock: `timedatectl set-ntp true`, or `chronyc makestep`.");
}

fn wrong_key(unsolicited: u64, findings: &mut Findings) {
    let says = format!(
        "The machines we ask answer, but not as the nodes we asked for: {} refused, no request answered.",
        number(unsolicited, "answer")
    );
    findings.add(Cause::WrongBootnodeKey, says, "The bootnodes have new keys: get their current enode URLs.");
}

fn alone(discovery: &Discovery, findings: &mut Findings) {
    let says =
        format!("{} of our requests were answered, but there is nobody in the table.", discovery.requests_answered);
    findings.add(
        Cause::Alone,
        says,
        "The nodes that answered know nobody else, or are gone: wait for others to join, or add bootnodes.",
    );
}

/// From what discovery finds to what is dialed.
fn candidates(status: &Status, wire: &Wire, findings: &mut Findings) {
    let on = on_wire(status, wire);
    let told = total(&wire.candidates).max(wire.found.candidates);
    let found = wire.found;
    let reached = status.discovery.as_ref().filter(|discovery| discovery.live > 0);
    // A bootnode may give a TCP port, and be dialed like others.
    let are_bootnodes = |discovery: &&Discovery| {
        discovery.table <= discovery.bootnodes && (told == 0 || wire.dials <= discovery.bootnodes as u64)
    };
    if let Some(discovery) = reached.filter(are_bootnodes) {
        let says = format!("Discovery reached {} and learnt of nobody else.", number(discovery.live, "bootnode"));
        findings.add(
            Cause::Alone,
            says,
            "They know nobody but us yet: wait for others to join, or add bootnodes of a network that lives.",
        );
    } else if told == 0 && found.nodes > 0 {
        let nodes = number(found.nodes, "node");
        // Whatever became of most of them.
        if found.filtered > 0 && found.filtered >= found.other_wire.max(found.without_record) {
            let says =
                format!("Discovery found {nodes}{on}, and the filter on the record left {} out.", found.filtered);
            findings.add(
                Cause::NonePassesTheFilter,
                says,
                "They are of other chains: are the bootnodes of ours? Is the filter (--eth-network) right?",
            );
        } else if found.other_wire > 0 && found.other_wire >= found.without_record {
            let says = format!("Discovery found {nodes}, and none of them speaks {}.", wire.name);
            let advice = match wire.name.as_str() {
                "tendermint" => {
                    "Their records have no pair `tm`: the bootnodes lead to another network (Ethereum's, say). Use bootnodes of ours, --seeds or --persistent-peers."
                }
                _ => "Their records give no TCP port: the bootnodes lead to bootnodes only.",
            };
            findings.add(Cause::NoneSpeaksThisWire, says, advice);
        } else if found.without_record > 0 {
            let says = format!("Discovery found {nodes}, and none of them gave its record{on}.");
            findings.add(
                Cause::NoRecords,
                says,
                "Nodes without EIP-868 cannot say what they speak: wait, or use other bootnodes.",
            );
        }
    }
    // Without candidates it was those who dialed us that were refused, or the operator's peers before anything began.
    if wire.dials == 0 && (told > 0 || wire.configured > 0) && sum([wire.max_outbound, wire.configured]) > 0 {
        let reasons = by_count(&wire.refused).into_iter().filter(|(reason, _)| told > 0 || *reason == "net_restricted");
        let known =
            reasons.filter_map(|(reason, count)| Some((reason, count, on_refused(reason)?))).take(MAX_DIAL_CAUSES);
        for (reason, count, (what, advice)) in known {
            let says = format!("{}{on} refused before any dial: {what} ({reason}).", number(count, "candidate"));
            findings.add(Cause::Refused, says, advice);
        }
    }
}

/// Dials that failed, by cause.
fn dials(started: u64, connected: u64, dialing: usize, failed: &Counts, on: &str, findings: &mut Findings) {
    let all = total(failed);
    for (cause, count) in by_count(failed).into_iter().take(MAX_DIAL_CAUSES) {
        let (what, advice) = on_failed_dial(cause);
        let says = format!("{count} of {}{on} failed: {what} ({cause}).", number(started.max(all), "dial"));
        let cause = if cause == "too_many_peers" { Cause::PeersAreFull } else { Cause::DialsFail };
        findings.add(cause, says, advice);
    }
    if all == 0 && connected == 0 && dialing > 0 {
        let says = format!("{}{on} under way, none has ended yet.", number(dialing, "dial"));
        findings.add(Cause::StillDialing, says, "Wait: a dial that nobody answers takes seconds.");
    }
}

/// There were connections, and there are none.
fn lost(status: &Status, wire: &Wire, findings: &mut Findings) {
    let made = wire.dials_connected.saturating_add(wire.accepts_connected);
    if made > 0 {
        let on = on_wire(status, wire);
        let says =
            format!("{}{on} made ({} by us), none of which is left.", number(made, "connection"), wire.dials_connected);
        let advice = "Peers hung up on us, or the line broke: run with --verbosity 4, which names the reason of each.";
        findings.add(Cause::ConnectionsEnd, says, advice);
    }
}

/// Others dialed us in vain.
fn refused_inbound(status: &Status, wire: &Wire, findings: &mut Findings) {
    if wire.accepted == 0 || wire.accepts_connected > 0 {
        return;
    }
    let on = on_wire(status, wire);
    let mut known =
        by_count(&wire.refused).into_iter().filter_map(|(reason, count)| Some((reason, count, on_refused(reason)?)));
    let says = format!("{}{on} tried to connect, and none came through", number(wire.accepted, "stranger"));
    let (says, advice) = match known.next() {
        Some((reason, count, (what, advice))) => (format!("{says}: {what} ({reason} {count})."), advice),
        None => (
            format!("{says}: handshakes failed."),
            "They speak another protocol or belong to another network; scanners do that to every open port.",
        ),
    };
    findings.add(Cause::InboundRefused, says, advice);
}

// Bootnodes and seeds.

fn bootnode(status: &Status, findings: &mut Findings) {
    let Some(discovery) = &status.discovery else { return };
    if discovery.received == 0 && discovery.bootnodes == 0 {
        let says = format!("Nobody has written to us in {} s, and we know nobody to write to.", status.uptime_seconds);
        let advice = "A bootnode without bootnodes waits: do others have its enode URL with the right IP, and is its UDP port open? --bootnodes makes it look around itself.";
        findings.add(Cause::NobodyToAsk, says, advice);
    }
    udp(status, discovery, findings);
}

fn seed(status: &Status, findings: &mut Findings) {
    for chain in &status.chains {
        let Chain { id, seeds, known, unchecked, unreachable, .. } = chain;
        if sum([*seeds, *known]) == 0 {
            let says = format!("{id}: the seed knows nobody, and nobody came.");
            findings.add(Cause::NobodyToAsk, says, "Name peers to begin with: --seeds id@host:port.");
        }
        let failed = total(unreachable);
        dials(failed, 0, 0, unreachable, &format!(" of {id}"), findings);
        if failed == 0 && *unchecked > 0 {
            let says = format!("{id}: {} still to be checked.", number(*unchecked, "address"));
            findings.add(Cause::StillDialing, says, "Wait a few seconds.");
        }
    }
}

// What is worth knowing whether or not there are peers.

fn hints(status: &Status, findings: &mut Findings) {
    for wire in &status.wires {
        if wire.max_inbound > 0
            && wire.accepted == 0
            && wire.address.is_some()
            && status.uptime_seconds >= INBOUND_SECONDS
        {
            let says = format!(
                "Nobody from outside has dialed us{} in {} min: the TCP port is probably closed.",
                on_wire(status, wire),
                status.uptime_seconds / 60
            );
            let place = wire.address.as_deref().unwrap_or_default();
            let advice = format!(
                "Open or forward it ({place}), or have it mapped: --nat any. Peers that we dial do not need it."
            );
            findings.add(Cause::NobodyDialsUs, says, advice);
        }
    }
    if let Some(discovery) = &status.discovery
        && let (Some(listen), Some(advertised)) = (discovery.listen, discovery.advertised)
        && listen.ip().is_unspecified()
        && advertised.is_loopback()
    {
        let says = format!("Our record gives {advertised}, where nobody but this machine can reach us.");
        findings.add(Cause::AdvertisedUnreachable, says, "Say where we are: --nat extip:IP, or --nat any.");
    }
}

/// The counts, the largest first; of equal ones in the order of their names.
fn by_count(counts: &Counts) -> Vec<(&str, u64)> {
    let mut counts: Vec<_> =
        counts.iter().filter(|(_, count)| **count > 0).map(|(name, count)| (name.as_str(), *count)).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

/// Which wire, where there are two.
fn on_wire(status: &Status, wire: &Wire) -> String {
    if status.wires.len() > 1 { format!(" on {}", wire.name) } else { String::new() }
}

/// `1 peer`, `2 peers`, `3 addresses`.
fn number(count: impl TryInto<u64>, what: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    match (count, what.ends_with('s')) {
        (1, _) => format!("1 {what}"),
        (_, true) => format!("{count} {what}es"),
        (_, false) => format!("{count} {what}s"),
    }
}
