//! "Why have I no peers?", in numbers: one plain struct that the command and the metrics show.

use serde::Serialize;

use super::{Direction, PeerManager};
use crate::{
    candidate::Candidates,
    dial::{Failures, Refusals},
};

/// Whom we look for, how many were tried, and why they did not become peers. What is *now* may fall; what is *so far* only grows.
///
/// How to read it: nobody is wanted while `outbound` has reached `outbound_most` (or all connections together `most`). If somebody is
/// wanted and nothing is tried, look at `candidates`: no source brings any, or `refused` says why none is dialed. If much is tried and
/// nothing succeeds, `failed` says why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DialStats {
    /// Peers connected now that dialed us.
    pub inbound: usize,
    /// How many of them there may be, the operator's apart.
    pub inbound_most: usize,
    /// Peers connected now that we dialed.
    pub outbound: usize,
    /// How many of them there may be, the operator's apart.
    pub outbound_most: usize,
    /// How many peers there may be in all.
    pub most: usize,
    /// The operator's peers: persistent or static ones.
    pub operators: usize,
    /// Those of them that are connected now.
    pub operators_connected: usize,
    /// The operator's seeds, asked when nobody else is known.
    pub seeds: usize,
    /// Peers to dial first after a restart: as they were chosen last.
    pub anchors: usize,
    /// Such peers of the last run that were dialed so far.
    pub anchors_dialed: usize,
    /// Those of them that became peers.
    pub anchors_reached: usize,
    /// Dials wanted now: twice the free outbound places, less those under way, and never more than may be under way.
    pub wanted: usize,
    /// Candidates asked of discovery now: the same, less those that wait for their turn.
    pub candidates_wanted: usize,
    /// Candidates that wait for their turn now.
    pub candidates_waiting: usize,
    /// Dials under way now.
    pub under_way: usize,
    /// Dials started so far.
    pub tried: u64,
    /// Dials so far that brought a peer, even if it left soon.
    pub succeeded: u64,
    /// Dials so far that brought none, or one that left within ten seconds, by why.
    pub failed: Failures,
    /// Connections of peers that dialed us and were taken so far, even if they left soon.
    pub accepted: u64,
    /// Candidates that were not dialed and connections that were not taken so far, by why.
    pub refused: Refusals,
    /// Candidates so far, by who brought them.
    pub candidates: Candidates,
    /// Those of them that were taken up: kept, queued or dialed. The others are in `refused`, or the address book has no use for them.
    pub candidates_taken: Candidates,
    /// How often discovery was asked where one of the operator's peers is, so far.
    pub resolves: u64,
    /// How often it knew a place.
    pub resolved: u64,
}

impl PeerManager {
    /// "Why have I no peers?", in numbers.
    pub fn dial_stats(&self) -> DialStats {
        let count = |direction| self.peers().filter(|connected| connected.direction == direction).count();
        let operators = self.dialer.persistent_ids();
        DialStats {
            inbound: count(Direction::Inbound),
            inbound_most: self.slots.of(Direction::Inbound),
            outbound: count(Direction::Outbound),
            outbound_most: self.slots.of(Direction::Outbound),
            most: self.slots.total,
            operators: operators.len(),
            operators_connected: operators.iter().filter(|id| self.set.standing(id).is_some()).count(),
            seeds: self.dialer.seeds(),
            anchors: self.anchors.kept().len(),
            anchors_dialed: self.anchors.dialed(),
            anchors_reached: self.anchors.reached(),
            wanted: self.dialer.room(self.outbound_taken()),
            candidates_wanted: self.wanted(),
            candidates_waiting: self.dialer.queued(),
            under_way: self.dialer.dialing().count(),
            refused: self.stats.refusals,
            ..self.counted
        }
    }
}
