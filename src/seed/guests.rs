//! The peers that dialed us: who is here, since when, and what each waits for. Bookkeeping; [`answers`](super::answers) has the rules.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use kadwire_wire::{PeerAddress, PeerId};

use crate::{
    dial::WhyNot,
    peers::{ConnectionId, Incoming, Slots, host},
};

/// A guest that asks for nothing leaves after this: who wants addresses asks when it has connected, or when it next looks for peers
/// (CometBFT `defaultEnsurePeersPeriod`, 30 s).
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// A guest is visited so long after it left: until then it may still see its old connection.
pub(super) const AFTER_LEAVING: Duration = Duration::from_secs(1);

/// What a guest waits for.
///
/// ```text
/// accepted -> Silent -- request --> Asked -- answer --> Leaving -> gone
///                    \------------ hung up on --------/
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has said nothing yet.
    Silent,
    /// It asked then, and there is nothing good to answer yet.
    Asked(Instant),
    /// We are hanging up.
    Leaving,
}

#[derive(Debug)]
pub(super) struct Guest {
    pub(super) peer: PeerId,
    pub(super) ip: Option<IpAddr>,
    pub(super) since: Instant,
    pub(super) state: State,
    /// Where it says it is, best guess first.
    pub(super) claims: Vec<PeerAddress>,
    /// Most addresses that it takes in one answer.
    pub(super) most: usize,
    /// It asked in the second version of the messages, with URLs.
    pub(super) in_v2: bool,
    /// We could not visit it while it is here.
    pub(super) not_visited: bool,
}

/// Guests hanging up, beyond the places there are.
const MAX_LEAVING: usize = 256;

#[derive(Debug)]
pub(super) struct Guests {
    incoming: Incoming,
    slots: Slots,
    /// In the order of their arrival.
    here: BTreeMap<ConnectionId, Guest>,
    by_peer: HashMap<PeerId, ConnectionId>,
    from_ip: HashMap<IpAddr, usize>,
}

impl Guests {
    pub(super) fn new(slots: Slots, attempts_per_ip: u32) -> Self {
        Guests {
            incoming: Incoming::new(attempts_per_ip, None, false),
            slots,
            here: BTreeMap::new(),
            by_peer: HashMap::new(),
            from_ip: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.here.len()
    }

    pub(super) fn half_open(&self) -> usize {
        self.incoming.len()
    }

    /// Lets a connection begin its handshake; the oldest unfinished one makes room if it must.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        number: ConnectionId,
        ip: Option<IpAddr>,
    ) -> Result<Option<ConnectionId>, WhyNot> {
        let from_ip = ip.and_then(|ip| self.from_ip.get(&host(ip))).copied().unwrap_or(0);
        self.incoming.begin(now, number, ip, &self.slots, from_ip)
    }

    /// The handshake is over. `false` if it was given up before.
    pub(super) fn end(&mut self, number: ConnectionId) -> bool {
        self.incoming.end(number)
    }

    /// Whether a new guest finds a place; `Ok(Some)` is who must leave for it.
    pub(super) fn place(&self, peer: &PeerId) -> Result<Option<ConnectionId>, WhyNot> {
        if self.by_peer.contains_key(peer) {
            return Err(WhyNot::AlreadyConnected);
        }
        let places = self.slots.inbound.max(1);
        if self.here.len() >= places.saturating_add(MAX_LEAVING) {
            return Err(WhyNot::NoSlots);
        }
        let mut staying = self.here.iter().filter(|(_, guest)| guest.state != State::Leaving);
        // Counting is only needed near the limit.
        match self.here.len() >= places && staying.clone().count() >= places {
            true => Ok(staying.next().map(|(oldest, _)| *oldest)),
            false => Ok(None),
        }
    }

    pub(super) fn add(
        &mut self,
        now: Instant,
        number: ConnectionId,
        peer: PeerId,
        ip: Option<IpAddr>,
        claims: Vec<PeerAddress>,
        most: usize,
    ) {
        let ip = ip.map(host);
        let guest =
            Guest { peer, ip, since: now, state: State::Silent, claims, most, in_v2: false, not_visited: false };
        self.here.insert(number, guest);
        self.by_peer.insert(peer, number);
        if let Some(ip) = ip {
            *self.from_ip.entry(ip).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, number: ConnectionId) -> Option<Guest> {
        let guest = self.here.remove(&number)?;
        self.by_peer.remove(&guest.peer);
        if let Some(ip) = guest.ip
            && let Some(count) = self.from_ip.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                self.from_ip.remove(&ip);
            }
        }
        Some(guest)
    }

    pub(super) fn get_mut(&mut self, number: ConnectionId) -> Option<&mut Guest> {
        self.here.get_mut(&number)
    }

    /// The guests, in the order of their arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Guest)> {
        self.here.iter().map(|(number, guest)| (*number, guest))
    }

    /// Whether this peer is a guest now.
    pub(super) fn has(&self, peer: &PeerId) -> bool {
        self.by_peer.contains_key(peer)
    }

    /// A guest was dialed while it is here, and not reached.
    pub(super) fn could_not_visit(&mut self, peer: &PeerId) {
        if let Some(number) = self.by_peer.get(peer)
            && let Some(guest) = self.here.get_mut(number)
        {
            guest.not_visited = true;
        }
    }
}
