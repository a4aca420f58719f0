//! Whether a newcomer gets a place, and who leaves for it: when all places of its side are taken, the connection with the lowest score does,
//! if it is strictly lower than the newcomer's (ADR-062, "upgrade"); otherwise one of a crowd from one network, if the newcomer dialed us
//! from another.
//!
//! Inbound and outbound places are apart: whoever dials us can never push out a peer that we chose. (Tendermint 0.35 has one pool.)

use std::collections::BTreeMap;

use kadwire_wire::address::PeerId;

use super::{
    Because,
    score::Score,
    set::{Connected, ConnectionId, Direction, PeerSet},
};
use crate::dial::{MAX_PER_SUBNET, Subnet, WhyNot};

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
    /// go-ethereum's: of `max_peers` one in `dial_ratio` is dialed (0: one in three), at least one; the rest is for those who dial us. Dials
    /// and unfinished handshakes are 50 each (`MaxPendingPeers`). Nobody leaves for a better peer. Go with [`Places::Everybody`].
    ///
    /// [`Places::Everybody`]: crate::dial::Places
    pub fn ethereum(max_peers: usize, dial_ratio: usize) -> Self {
        let ratio = if dial_ratio == 0 { DIAL_RATIO } else { dial_ratio };
        let outbound = (max_peers / ratio).max(1).min(max_peers);
        Slots {
            inbound: max_peers - outbound,
            outbound,
            total: max_peers,
            dialing: 50,
            upgrade: 0,
            half_open: 50,
            ..Slots::default()
        }
    }

    /// The places of one side.
    pub(crate) fn of(&self, direction: Direction) -> usize {
        match direction {
            Direction::Inbound => self.inbound.min(self.total.saturating_sub(self.outbound)),
            Direction::Outbound => self.outbound.min(self.total),
        }
    }
}

/// One in so many peers is dialed (go-ethereum `p2p/config.go`, `defaultDialRatio`).
const DIAL_RATIO: usize = 3;

/// Peers of one subnet are no crowd up to this many, as in go-ethereum's table (two per bucket).
const NO_CROWD: usize = MAX_PER_SUBNET;

/// Who wants a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newcomer {
    /// On which side.
    pub(crate) direction: Direction,
    /// Its worth.
    pub(crate) score: Score,
    /// Its network, if it dialed us and is limited by it.
    pub(crate) subnet: Option<Subnet>,
    /// Free places that are kept for others.
    pub(crate) kept: usize,
}

/// How a newcomer is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A place is free, or it needs none.
    Free,
    /// This connection leaves for it.
    InsteadOf(ConnectionId, Because),
}

/// Finds a place on one side for a newcomer.
pub(crate) fn place(
    set: &PeerSet,
    slots: &Slots,
    newcomer: Newcomer,
    score_of: impl Fn(&PeerId) -> Score,
    subnet_of: impl Fn(&Connected) -> Option<Subnet>,
) -> Result<Place, WhyNot> {
    let direction = newcomer.direction;
    let (taken, places) = (set.taken(direction), slots.of(direction));
    if taken.open >= places.saturating_add(slots.upgrade) {
        return Err(WhyNot::NoSlots);
    }
    if taken.staying < places {
        return if taken.staying + newcomer.kept < places { Ok(Place::Free) } else { Err(WhyNot::NoSlots) };
    }
    if let Some((lowest, connection)) = lowest(set, direction, &score_of)
        && lowest < newcomer.score
    {
        return Ok(Place::InsteadOf(connection, Because::Evicted));
    }
    let crowded = newcomer.subnet.and_then(|subnet| crowded(set, subnet, newcomer, score_of, subnet_of));
    crowded.map(|connection| Place::InsteadOf(connection, Because::Crowded)).ok_or(WhyNot::NoSlots)
}

/// Whose place a newcomer from elsewhere gets when nobody's score is lower: that of the youngest peer, with a score no higher, of the subnet
/// that has the most, if that is a crowd and has at least two more than the newcomer's own. So nobody fills all places from one network, and
/// no two networks take a place from each other in turn.
fn crowded(
    set: &PeerSet,
    own: Subnet,
    newcomer: Newcomer,
    score_of: impl Fn(&PeerId) -> Score,
    subnet_of: impl Fn(&Connected) -> Option<Subnet>,
) -> Option<ConnectionId> {
    let mut subnets: BTreeMap<Subnet, (usize, Option<ConnectionId>)> = BTreeMap::new();
    for connected in may_leave(set, newcomer.direction) {
        let Some(subnet) = subnet_of(connected) else { continue };
        let (count, youngest) = subnets.entry(subnet).or_default();
        *count += 1;
        if score_of(&connected.peer) <= newcomer.score {
            *youngest = Some(connected.connection); // in the order of their numbers
        }
    }
    let own = subnets.get(&own).map_or(0, |(count, _)| *count);
    let crowds = subnets.into_values().filter(|(count, _)| *count > NO_CROWD && *count >= own + 2);
    crowds.filter_map(|(count, youngest)| Some((count, youngest?))).max().map(|(_, youngest)| youngest)
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
    set.iter().filter(move |c| c.place == Some(direction) && c.stands())
}
