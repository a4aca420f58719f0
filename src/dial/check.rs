//! Whether an address may be dialed now, and every reason why not. The same value is logged, counted and tested.

use std::net::IpAddr;

use kadwire_discovery::{Now, is_public};
use kadwire_wire::address::{PeerAddress, PeerId};

use super::Dialer;
use crate::count::reasons;

reasons! {
    /// Why a peer is not dialed, or a connection not taken.
    WhyNot, counted by
    /// How often each reason was given.
    Refusals,
    {
        /// It is this node.
        SelfId = "self",
        /// A dial to this peer is under way.
        AlreadyDialing = "already_dialing",
        /// There is a connection with this peer.
        AlreadyConnected = "already_connected",
        /// The peer's own connection to us is about to be made.
        PendingInbound = "pending_inbound",
        /// The address is outside the networks the operator allows.
        NetRestricted = "net_restricted",
        /// The address is private, shared, loopback or special, and only public ones are dialed.
        NotPublic = "not_public",
        /// The address was dialed less than 35 s ago.
        RecentlyDialed = "recently_dialed",
        /// The last dials to this address failed, and its waiting time is not over.
        BackingOff = "backing_off",
        /// The connection with this peer ended less than 2 s ago.
        CoolingDown = "cooling_down",
        /// The peer misbehaved and its ban is not over.
        Banned = "banned",
        /// All places are taken by peers that score no lower.
        NoSlots = "no_slots",
        /// The peer waits in the queue already.
        AlreadyQueued = "already_queued",
        /// Too many candidates wait.
        QueueFull = "queue_full",
        /// Too many candidates of the same subnet wait.
        SubnetFull = "subnet_full",
        /// Too many dials in a short time.
        TooFast = "too_fast",
        /// This IP tried to connect too often in the last seconds.
        TooManyAttempts = "too_many_attempts",
        /// This IP opened a connection less than 30 s ago.
        Throttled = "throttled",
        /// This IP has too many unfinished handshakes.
        TooManyHalfOpen = "too_many_half_open",
        /// There is a peer with this IP already, and it may have one only.
        DuplicateIp = "duplicate_ip",
        /// This IP has too many connections.
        TooManyFromIp = "too_many_from_ip",
        /// Both sides dialed each other at once, and the other connection stays.
        LostCrossing = "lost_crossing",
        /// A filter of the library's user keeps it out.
        Filtered = "filtered",
        /// A filter of the library's user gave no answer in time.
        FilterTimeout = "filter_timeout",
        /// The caller names an attempt or dial that was given up before.
        Stale = "stale",
    }
}

impl std::error::Error for WhyNot {}

impl Dialer {
    /// Whether this is ourselves: our identity, or where we listen, under whatever identity.
    pub(crate) fn is_own(&self, address: &PeerAddress) -> bool {
        address.id() == self.config.own_id
            || address.socket_addr().is_some_and(|socket| self.config.own_sockets.contains(&socket))
    }

    /// Whether the operator wants no dealings with this IP (`--netrestrict`).
    pub(crate) fn is_restricted(&self, ip: IpAddr) -> bool {
        !self.config.netrestrict.is_empty() && !self.config.netrestrict.iter().any(|net| net.contains(&ip))
    }

    /// Whether `address` may be dialed at `now`, apart from free places. `known` says what speaks against the peer itself: connected,
    /// banned. The order is go-ethereum's `checkDial`: what will not change soon comes first.
    pub fn check_dial(
        &self,
        now: Now,
        address: &PeerAddress,
        known: impl Fn(&PeerId) -> Result<(), WhyNot>,
    ) -> Result<(), WhyNot> {
        let id = address.id();
        if self.is_own(address) {
            return Err(WhyNot::SelfId);
        }
        if self.dialing.contains_key(&id) {
            return Err(WhyNot::AlreadyDialing);
        }
        known(&id)?;
        if address.ip().is_some_and(|ip| self.is_restricted(ip)) {
            return Err(WhyNot::NetRestricted);
        }
        if self.config.public_only && address.ip().is_some_and(|ip| !is_public(ip)) {
            return Err(WhyNot::NotPublic);
        }
        if self.cooling.contains(now.monotonic, &id) {
            return Err(WhyNot::CoolingDown);
        }
        if self.history.contains(now.monotonic, address) {
            return Err(WhyNot::RecentlyDialed);
        }
        if self.backoff.waits_until(now.monotonic, address).is_some() {
            return Err(WhyNot::BackingOff);
        }
        Ok(())
    }
}
