//! Plain counters. Machines keep them, drivers publish them; nothing here decides anything.

/// What one connection has carried. Messages are whole messages; packets are MConnection's, or RLPx frames, and bytes theirs before encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStats {
    /// Messages handed to the stream.
    pub messages_sent: u64,
    /// Messages completed by the peer.
    pub messages_received: u64,
    /// Packets written, pings and pongs included.
    pub packets_sent: u64,
    /// Packets read, pings and pongs included.
    pub packets_received: u64,
    /// Packet bytes written, with their length prefixes; of RLPx frame data.
    pub bytes_sent: u64,
    /// Packet bytes read, with their length prefixes; of RLPx frame data.
    pub bytes_received: u64,
    /// Pings written.
    pub pings_sent: u64,
    /// Pings read.
    pub pings_received: u64,
    /// Pongs written: fewer than the pings read when several came at once.
    pub pongs_sent: u64,
    /// Pongs read, also those nobody asked for.
    pub pongs_received: u64,
    /// Base messages of a kind that is not known, read and ignored (RLPx only).
    pub unknown_received: u64,
}

/// What one transport has seen since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransportStats {
    /// Dials begun.
    pub dialed: u64,
    /// Dials that became connections.
    pub dials_completed: u64,
    /// Streams accepted, before any handshake.
    pub accepted: u64,
    /// Accepted streams that became connections.
    pub accepts_completed: u64,
    /// Handshakes that failed because the peer sent bytes that are not the protocol.
    pub handshakes_malformed: u64,
    /// Handshakes that failed because the peer broke a rule.
    pub handshakes_misbehaved: u64,
    /// Handshakes that failed because the two do not fit.
    pub handshakes_incompatible: u64,
    /// Handshakes that failed on this side or in the network: time-outs, resets.
    pub handshakes_failed: u64,
    /// Bytes read from streams, as they are on the wire, handshakes and probes included. In memory none are.
    pub bytes_received: u64,
    /// Bytes written to streams, likewise.
    pub bytes_sent: u64,
}

impl TransportStats {
    /// Counts a failed handshake under whose fault it was.
    pub(crate) fn count_failure(&mut self, blame: crate::Blame) {
        let counter = match blame {
            crate::Blame::Malformed => &mut self.handshakes_malformed,
            crate::Blame::Misbehaved => &mut self.handshakes_misbehaved,
            crate::Blame::Incompatible => &mut self.handshakes_incompatible,
            crate::Blame::Local => &mut self.handshakes_failed,
        };
        *counter = counter.saturating_add(1);
    }
}
