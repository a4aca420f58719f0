//! What each cause of a failed dial and each reason of a refusal means for an operator, and what to do about it.

/// What failed dials with this cause say, to follow "N of M dials: ", and what to do. Causes without a line of their own get a general one.
pub(super) fn on_failed_dial(cause: &str) -> (&'static str, &'static str) {
    match cause {
        "timed_out" | "timeout" => (
            "no answer to the connection",
            "If it is nearly all of them, outgoing TCP is blocked: try one of the addresses with `nc -vz HOST PORT`. Nodes that are gone time out too.",
        ),
        "connection_refused" | "refused" => (
            "nobody listens there",
            "The addresses are stale, or their nodes take no peers: give fresh bootnodes, seeds or static peers.",
        ),
        "unreachable" => (
            "no route there",
            "This machine is offline, or lacks that address family (IPv6 addresses need an IPv6 route).",
        ),
        "not_resolved" | "resolve" => ("the host name has no address", "Check the name, and this machine's DNS."),
        "not_dialable" => (
            "no transport of ours dials such an address, or not there",
            "`id@host:port` needs the Tendermint wire, `enode://…` needs --rlpx; --public-only and --netrestrict hold for dials too.",
        ),
        "not_allowed" => ("the name leads to an address we may not dial", "--public-only or --netrestrict says so."),
        "handshake_timed_out" | "handshake_timeout" => (
            "connected, then silence",
            "Something between takes TCP connections and leads nowhere (a proxy or firewall), or the port is of another protocol.",
        ),
        "handshake_cut" | "handshake_closed" | "closed" => (
            "hung up on during the handshake",
            "Full nodes do that, and nodes of another protocol: wait if there are more to try. For a peer of your own, look at its log.",
        ),
        "too_many_peers" => (
            "the peer is full",
            "Normal on a large network, where most nodes are full: wait, the next ones are tried. A peer of your own must trust you (go-ethereum admin_addTrustedPeer, unconditional_peer_ids) or have a higher limit.",
        ),
        "useless_peer" => (
            "no protocol in common",
            "Those nodes run other protocols or versions. Check the names and versions of ours; a filter on the record saves such dials.",
        ),
        "already_connected" => (
            "we are its peer already",
            "Another process runs with our key, or a connection has not ended there: wait half a minute.",
        ),
        "our_own" | "self" => (
            "it is this node",
            "Our own address is among the bootnodes, seeds or static peers, or another machine has a copy of our key.",
        ),
        "wrong_identity" | "wrong_id" => (
            "another node is there",
            "The address is of a node that has a new key: get its current id (`id@host:port`, `enode://…`).",
        ),
        "wrong_network" => (
            "it belongs to another chain",
            "Compare --chain-id with the network of those bootnodes, seeds or peers, letter for letter.",
        ),
        "incompatible" | "incompatible_version" => (
            "it speaks another version of the protocol",
            "Upgrade the older of the two nodes, or find peers of this network's version.",
        ),
        "no_common_channel" | "no_pex" => (
            "no channel in common",
            "The peer runs none of the reactors that this node runs: is it of the same kind of network?",
        ),
        "bad_node_info" => {
            ("it says of itself what no node may say", "The peer is at fault, or of another protocol version.")
        }
        "handshake_failed" | "handshake" => (
            "what is there does not speak our protocol",
            "The port is of another service, or the address is of the other wire: `id@host:port` is Tendermint's, `enode://…` Ethereum's.",
        ),
        "filtered" => ("a filter of this program keeps it out", "Look at what the filter by id lets in."),
        "filter_timeout" => ("a filter of this program gave no answer in time", "A filter by id hangs."),
        "refused_by_peer" => (
            "the peer does not want us",
            "Its operator may allow few networks or peers only, or it is about to stop. Ask another, or look at its log.",
        ),
        "refused_by_us" => (
            "we had no place for it any more when it was reached",
            "The figures of what we refused say why; with few places this is normal.",
        ),
        "ended_at_once" => (
            "the peer hung up within ten seconds",
            "Full nodes do that, and nodes with which we share no protocol. Run with --verbosity 4, which names the reason of each.",
        ),
        "unsupported" => (
            "no transport of ours dials such an address",
            "`id@host:port` needs the Tendermint wire, `enode://…` needs --rlpx.",
        ),
        _ => ("failed", "Run with --verbosity 4: each failed dial is a line."),
    }
}

/// What refusals for this reason say of `what` (candidates, connections), and what to do. `None`: nothing worth telling, it passes or is
/// of no harm.
pub(super) fn on_refused(reason: &str) -> Option<(&'static str, &'static str)> {
    let lines = match reason {
        "net_restricted" => ("outside the networks of --netrestrict", "Widen --netrestrict, or give it up."),
        "not_public" => {
            ("on private addresses", "--public-only keeps them out: in a network of your own, leave it away.")
        }
        "no_slots" => ("no place was free", "Raise the limits of peers."),
        "banned" => ("banned for misbehaviour", "A ban ends after 24 h, or with a new address book."),
        "duplicate_ip" => (
            "we have a peer of the same IP already",
            "Several nodes of one machine or NAT: --allow-duplicate-ip, if that is your network.",
        ),
        "too_many_from_ip" | "too_many_attempts" | "too_many_half_open" | "throttled" => (
            "too many connections or attempts of one IP",
            "Somebody tries very often; behind one NAT, raise the limits per IP.",
        ),
        "filtered" => ("a filter of this program keeps them out", "Look at what the filters let in."),
        "filter_timeout" => ("a filter of this program gave no answer in time", "A filter by IP or id hangs."),
        "self" => ("it is this node", "Our own address is among the bootnodes, seeds or static peers."),
        "backing_off" => (
            "their last dials failed, and they wait",
            "See why dials fail; each address is tried again after a growing pause.",
        ),
        _ => return None,
    };
    Some(lines)
}
