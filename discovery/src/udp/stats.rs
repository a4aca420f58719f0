//! What the driver counted.

use crate::{
    discv4::{message::MessageError, packet::PacketError, stats::Stats},
    node_db::NodeDbStats,
};

/// A snapshot of all counters of the service, each since its start.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct DiscoveryStats {
    /// Datagrams and what became of them.
    pub udp: UdpStats,
    /// What the protocol saw.
    pub discv4: Stats,
    /// What the store lost.
    pub node_db: NodeDbStats,
    /// Nodes in the table.
    pub table_nodes: usize,
    /// Those of them that answered us.
    pub table_live: usize,
    /// Bootnodes, those out of our reach left out.
    pub bootnodes: usize,
    /// Whether only some networks are dealt with.
    pub netrestrict: bool,
    /// Whether nothing is sent to addresses that are not public.
    pub public_only: bool,
    /// Requests of ours under way.
    pub requests: usize,
    /// Pairs of node and address whose endpoint proofs are remembered, theirs or ours.
    pub bonds: usize,
    /// Seconds by which our wall clock is ahead of most nodes' (negative: behind), if they agree that it is wrong.
    pub clock_ahead: Option<i64>,
}

/// Datagrams and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpStats {
    /// Datagrams read from the socket.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Errors of the socket while reading.
    pub receive_errors: u64,
    /// Datagrams handed to the socket.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams that the socket did not take: no route, full buffer.
    pub send_errors: u64,
    /// Datagrams that were no packets.
    pub malformed: MalformedStats,
    /// Ports padded to two bytes: tolerated.
    pub padded_ports: u64,
    /// Dropped because too many packets of strangers waited for a worker.
    pub dropped_strangers: u64,
    /// Dropped because too many packets of known nodes waited for a worker.
    pub dropped_known: u64,
    /// Packets of ours dropped because too many waited for a worker.
    pub dropped_outgoing: u64,
}

/// Datagrams that were no packets, by what was wrong with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MalformedStats {
    /// Shorter than hash, signature and type.
    pub too_small: u64,
    /// Longer than 1,280 bytes.
    pub too_big: u64,
    /// The hash did not fit.
    pub bad_hash: u64,
    /// A type byte that names no message.
    pub unknown_kind: u64,
    /// RLP that is not the body of its message.
    pub bad_body: u64,
    /// A signature that nobody can have made.
    pub bad_signature: u64,
    /// A record in an ENRResponse that is invalid.
    pub bad_record: u64,
}

impl MalformedStats {
    /// All of them together.
    pub fn total(&self) -> u64 {
        let Self { too_small, too_big, bad_hash, unknown_kind, bad_body, bad_signature, bad_record } = *self;
        [too_small, too_big, bad_hash, unknown_kind, bad_body, bad_signature, bad_record]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    pub(super) fn count(&mut self, error: &PacketError) {
        let counter = match error {
            PacketError::TooSmall(_) => &mut self.too_small,
            PacketError::TooBig(_) => &mut self.too_big,
            PacketError::BadHash => &mut self.bad_hash,
            PacketError::UnknownKind(_) => &mut self.unknown_kind,
            PacketError::Message(MessageError::Rlp { .. }) => &mut self.bad_body,
            PacketError::Message(MessageError::Record(_)) => &mut self.bad_record,
            PacketError::BadRecoveryId(_) | PacketError::BadSignature => &mut self.bad_signature,
        };
        *counter = counter.saturating_add(1);
    }
}
