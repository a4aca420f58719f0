//! Whether a newcomer gets a place, and who leaves for it: when all places of its side are taken, the connection with the lowest score does,
//! if it is strictly lower than the newcomer's (ADR-062, "upgrade").
//!
//! Inbound and outbound places are apart: whoever dials us can never push out a peer that we chose. (Tendermint 0.35 has one pool.)

use kadwire_wire::address::PeerId;

use super::{
    score::Score,
    set::{Connected, ConnectionId, Direction, PeerSet, State},
};
use crate::dial::WhyNot;

/// How many connections and dials there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Connections of peers that dialed us, unconditional and persistent ones apart (CometBFT: 40).
    pub inbound: usize,
    /// Connections that we dialed, persistent and unconditional ones apart (CometBFT: 10).
    pub outbound: usize,
    /// Connections in all, of which only unconditional peers have more (Tendermint, `max_connections`: 64). Outbound places are taken
    /// out of it first.
    pub total: usize,
    /// Dials under way at once (go-ethereum: 50).
    pub dialing: usize,
    /// Open connections beyond the places of each side while a better peer replaces one that still closes (ADR-062: 4).
    pub upgrade: usize,
    /// Unfinished inbound handshakes, which have a pool of their own: silent sockets take no place of a peer.
    pub half_open: usize,
    /// Unfinished inbound handshakes of one IP.
    pub half_open_per_ip: usize,
    /// Inbound connections of one IP (Tendermint 0.35: 100).
    pub per_ip: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Slots {
            inbound: 40,
            outbound: 10,
            total: 64,
            dialing: 50,
            upgrade: 4,
            half_open: 1_024,
            half_open_per_ip: 8,
            per_ip: 100,
        }
    }
}

impl Slots {
    /// The places of one side.
    pub(crate) fn of(&self, direction: Direction) -> usize {
        match direction {
            Direction::Inbound => self.inbound.min(self.total.saturating_sub(self.outbound)),
            Direction::Outbound => self.outbound.min(self.total),
        }
    }
}

/// How a newcomer is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A place is free, or it needs none.
    Free,
    /// This connection leaves for it.
    InsteadOf(ConnectionId),
}

/// Finds a place on one side for a newcomer of a certain score.
pub(crate) fn place(
    set: &PeerSet,
    slots: &Slots,
    direction: Direction,
    score: Score,
    score_of: impl Fn(&PeerId) -> Score,
) -> Result<Place, WhyNot> {
    let (taken, places) = (set.taken(direction), slots.of(direction));
    if taken.open >= places + slots.upgrade {
        return Err(WhyNot::NoSlots);
    }
    if taken.staying < places {
        return Ok(Place::Free);
    }
    match lowest(set, direction, score_of) {
        Some((lowest, connection)) if lowest < score => Ok(Place::InsteadOf(connection)),
        _ => Err(WhyNot::NoSlots),
    }
}

/// The connection of one side that would leave first: lowest score, and of equals the youngest, which has proved itself least.
pub(crate) fn lowest(
    set: &PeerSet,
    direction: Direction,
    score_of: impl Fn(&PeerId) -> Score,
) -> Option<(Score, ConnectionId)> {
    let scored = may_leave(set, direction).map(|c| (score_of(&c.peer), c.connection));
    scored.min_by_key(|(score, connection)| (*score, std::cmp::Reverse(*connection)))
}

/// The scores of the connections of one side that may leave, lowest first.
pub(crate) fn lowest_scores(set: &PeerSet, direction: Direction, score_of: impl Fn(&PeerId) -> Score) -> Vec<Score> {
    let mut scores: Vec<Score> = may_leave(set, direction).map(|c| score_of(&c.peer)).collect();
    scores.sort_unstable();
    scores
}

fn may_leave(set: &PeerSet, direction: Direction) -> impl Iterator<Item = &Connected> {
    set.iter().filter(move |c| c.place == Some(direction) && c.state != State::Closing)
}
