//! What guests get: one answer, and a visit in return.
//!
//! A guest is not believed: where it says it is, it is visited, and only then passed on. It is visited when it has left, because a CometBFT
//! node takes no second connection with an IP it has one with (`allow_duplicate_ip`). While hardly anybody is known, its identity is proven at
//! its address also while it is here and waits for its answer, which is how the first nodes of a new network meet.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use kadwire_discovery::{Now, is_public, network};
use kadwire_wire::{
    PeerAddress, PeerId,
    tendermint::{
        node_info::NodeInfo,
        pex_message::{MAX_PEX_ADDRESSES_V2, PexError, PexMessage},
    },
    transport::HandshakeError,
};
use tracing::debug;

use super::{
    Action, Seed, Why,
    guests::{AFTER_LEAVING, Guest, SILENCE, State},
    schedule::Claim,
    served::LEAST,
};
use crate::{
    dial::WhyNot,
    peers::{ConnectionId, host},
    visit::most_addresses,
};

/// While hardly anybody is known, a request waits until nobody new was reached for so long …
const QUIET: Duration = Duration::from_secs(1);

/// … and no visit to somebody new is under way, but no longer than this: the nodes of a new network, started together, then hear of each
/// other at once, where a CometBFT node that heard of one only would look for others 30 s later.
const SHORT_WAIT: Duration = Duration::from_secs(3);

/// A request waits so long for the first address that can be answered: CometBFT does not mind waiting. Then the answer is empty: nothing was
/// reached, and we do not make up anything. (CometBFT comes back at once, if we say that we are where its `seeds` has us.)
const LONG_WAIT: Duration = Duration::from_secs(10);

/// Between the answers to two guests while hardly anybody is known. Two CometBFT nodes that hear of each other at the same moment dial each
/// other, each refuses the other's connection as a second one, and both try again 30 s later, at the same moment.
const TURN: Duration = Duration::from_millis(250);

/// A guest that can only be visited when it has left is hung up on while nobody is known, without an answer: CometBFT then comes back after
/// 30 s, but at once if the answer is empty. The others may be told of it if they wait for as long as the visit takes.
const SENT_AWAY: Duration = Duration::from_secs(4);

/// A guest is visited once in so long while it is here. Its refusal counts for nothing, so something else must keep us from calling often.
const CALL_INTERVAL: Duration = Duration::from_secs(60);

impl Seed {
    /// A stream was opened to us. If it may go on, its handshake must be followed by [`Self::handle_accepted`] or
    /// [`Self::handle_not_accepted`].
    pub fn handle_incoming(&mut self, now: Now, number: ConnectionId, ip: Option<IpAddr>) -> Result<(), WhyNot> {
        match self.guests.begin(now.monotonic, number, ip) {
            Ok(pushed_out) => {
                self.actions.extend(pushed_out.map(Action::Abort));
                Ok(())
            }
            Err(why) => Err(self.stats.refused.count(why)),
        }
    }

    /// Its handshake failed.
    pub fn handle_not_accepted(&mut self, number: ConnectionId, error: &HandshakeError) {
        if self.guests.end(number) {
            self.stats.guest_failures.count(error.into());
        }
    }

    /// It proved who it is. An error means that it must be hung up on; otherwise it is a guest until [`Self::handle_closed`].
    pub fn handle_accepted(
        &mut self,
        now: Now,
        number: ConnectionId,
        remote: Option<SocketAddr>,
        node_info: &NodeInfo,
    ) -> Result<(), WhyNot> {
        let peer = PeerId::Tendermint(node_info.id);
        let place = if !self.guests.end(number) {
            Err(WhyNot::Stale)
        } else if self.book.is_banned(now.wall, &peer) {
            Err(WhyNot::Banned)
        } else {
            self.guests.place(&peer)
        };
        match place {
            Ok(None) => {}
            Ok(Some(oldest)) => self.send_off(oldest, Why::Crowded),
            Err(why) => return Err(self.stats.refused.count(why)),
        }
        self.stats.guests += 1;
        let (ip, claims) = (remote.map(|remote| remote.ip()), claims(node_info, remote));
        self.guests.add(now.monotonic, number, peer, ip, claims, most_addresses(node_info));
        Ok(())
    }

    /// A guest sent this on channel 0x00.
    pub fn handle_message(&mut self, now: Now, number: ConnectionId, message: &[u8]) {
        let Some(guest) = self.guests.get_mut(number) else { return };
        let peer = guest.peer;
        match (PexMessage::decode(message), guest.state) {
            (_, State::Leaving) | (Ok(PexMessage::Request | PexMessage::RequestV2), State::Asked(_)) => {
                self.stats.repeated += 1
            }
            (Ok(request @ (PexMessage::Request | PexMessage::RequestV2)), State::Silent) => {
                guest.in_v2 = request == PexMessage::RequestV2;
                guest.state = State::Asked(now.monotonic);
                if self.served.len_for(&peer) < LEAST {
                    self.visit_guest(now, Duration::ZERO, number, true);
                }
                self.release(now);
            }
            (Ok(PexMessage::Addresses { .. } | PexMessage::AddressesV2 { .. }), _) => {
                self.stats.unsolicited += 1;
                self.expel(now, number, Why::Unsolicited);
            }
            // Not of any version that we know; it may be a later one.
            (Err(PexError::UnknownMessage), _) => {
                self.stats.malformed += 1;
                self.hang_up(number, Why::Malformed);
            }
            (Err(error), _) => {
                debug!(%peer, %error, "guest");
                self.stats.malformed += 1;
                self.expel(now, number, Why::Malformed);
            }
        }
    }

    /// The connection with a guest is over.
    pub fn handle_closed(&mut self, now: Now, number: ConnectionId) {
        if self.guests.get_mut(number).is_some() {
            self.visit_guest(now, AFTER_LEAVING, number, false);
            self.guests.remove(number);
        }
    }

    /// Finds out whether a guest is where it says.
    fn visit_guest(&mut self, now: Now, after: Duration, number: ConnectionId, is_here: bool) {
        let Some(guest) = self.guests.get_mut(number) else { return };
        let peer = guest.peer;
        let mut claims = guest.claims.clone();
        if is_here && self.called.contains(now.monotonic, &peer) {
            claims.clear();
        }
        let seen = guest.ip;
        let seen_at = seen.and_then(|ip| PeerAddress::from_socket(peer, (ip, 1).into()).ok());
        let by = seen.filter(|_| seen_at.is_some_and(|at| self.book.limited_group(&at).is_some())).map(network);
        claims.retain(|claim| {
            let elsewhere = claim.ip().filter(|ip| Some(host(*ip)) != seen);
            self.served.address_of(&peer) == Some(claim)
                || (self.book.may_keep(now.wall, claim).is_ok()
                    && elsewhere.is_none_or(|ip| self.declared.allow(now.monotonic, ip)))
        });
        let mut claims = claims.into_iter();
        let planned = match claims.next() {
            Some(first) => {
                let (when, or_else) = (now.monotonic + after, claims.next());
                self.introduce(when, first, Claim { or_else: or_else.clone(), is_here, by })
                    || or_else.is_some_and(|other| self.introduce(when, other, Claim { or_else: None, is_here, by }))
            }
            None => false,
        };
        if is_here && planned {
            self.called.insert(peer, now.monotonic + CALL_INTERVAL);
        }
    }

    /// Answers those who asked, as far as there is something to say or they have waited long enough.
    pub(super) fn release(&mut self, now: Now) {
        self.news = self.news.filter(|news| now.monotonic < *news + QUIET);
        self.next_turn = self.next_turn.filter(|turn| now.monotonic < *turn);
        self.next_sent_away = self.next_sent_away.filter(|turn| now.monotonic < *turn);
        let settled = self.news.is_none() && !self.schedule.is_exploring(now.monotonic);
        let (mut ready, mut in_turn, mut unvisited) = (Vec::new(), Vec::new(), None);
        for (number, guest) in self.guests.iter() {
            let State::Asked(since) = guest.state else { continue };
            let waited = now.monotonic.saturating_duration_since(since);
            match self.served.len_for(&guest.peer) {
                0 if waited >= LONG_WAIT => ready.push(number),
                0 if guest.not_visited => unvisited = unvisited.or(Some(number)),
                1..LEAST if settled || waited >= SHORT_WAIT => in_turn.push(number),
                ..LEAST => {}
                _ => ready.push(number),
            }
        }
        if self.next_turn.is_none() && !in_turn.is_empty() {
            in_turn.truncate(1);
            self.next_turn = Some(now.monotonic + TURN);
            ready.append(&mut in_turn);
        }
        if self.next_sent_away.is_none() && unvisited.is_some() {
            self.next_sent_away = Some(now.monotonic + SENT_AWAY);
            unvisited.into_iter().for_each(|number| self.hang_up(number, Why::ToBeVisited));
        }
        ready.into_iter().for_each(|number| self.answer(number));
    }

    fn answer(&mut self, number: ConnectionId) {
        let Some(guest) = self.guests.get_mut(number) else { return };
        guest.state = State::Leaving;
        let (peer, most, in_v2) = (guest.peer, guest.most, guest.in_v2);
        let mut addresses = self.served.selection(&peer, &mut self.rng);
        addresses.truncate(if in_v2 { MAX_PEX_ADDRESSES_V2 } else { most });
        self.stats.answered += 1;
        self.stats.answered_empty += u64::from(addresses.is_empty());
        let message = if in_v2 { PexMessage::addresses_v2(addresses) } else { PexMessage::addresses(addresses) };
        self.actions.push_back(Action::Answer(number, message));
    }

    /// Ends a guest's stay: with an answer if it waits for one.
    fn send_off(&mut self, number: ConnectionId, why: Why) {
        match self.guests.get_mut(number).map(|guest| guest.state) {
            Some(State::Asked(_)) => self.answer(number),
            Some(State::Silent) => self.hang_up(number, why),
            Some(State::Leaving) | None => {}
        }
    }

    fn hang_up(&mut self, number: ConnectionId, why: Why) {
        if let Some(guest) = self.guests.get_mut(number) {
            guest.state = State::Leaving;
            self.actions.push_back(Action::HangUp(number, why));
        }
    }

    fn expel(&mut self, now: Now, number: ConnectionId, why: Why) {
        if let Some(guest) = self.guests.get_mut(number) {
            // Its word is worth nothing, also about itself.
            guest.claims.clear();
            let peer = guest.peer;
            self.ban(now, &peer);
            self.hang_up(number, why);
        }
    }

    /// Hangs up on those who asked for nothing.
    pub(super) fn leave_silent(&mut self, now: Now) {
        let silent = |state, since: Instant| state == State::Silent && since + SILENCE <= now.monotonic;
        let gone: Vec<ConnectionId> = self
            .guests
            .iter()
            .filter(|(_, guest)| silent(guest.state, guest.since))
            .map(|(number, _)| number)
            .collect();
        for number in gone {
            self.stats.silent += 1;
            self.hang_up(number, Why::Silent);
        }
    }

    /// When the next guest has waited long enough, for whatever it is.
    pub(super) fn first_deadline(&self) -> Option<Instant> {
        let settles = self.news.map(|news| news + QUIET);
        let deadline = |(_, guest): (_, &Guest)| match guest.state {
            State::Silent => Some(guest.since + SILENCE),
            State::Asked(since) if self.served.len_for(&guest.peer) == 0 => Some(since + LONG_WAIT),
            State::Asked(since) => settles.into_iter().chain([since + SHORT_WAIT]).min().max(self.next_turn),
            State::Leaving => None,
        };
        self.guests.iter().filter_map(deadline).chain(self.next_turn).chain(self.next_sent_away).min()
    }
}

/// Where a guest says it is: the address it declares, which may have another IP than the one we see, and the port it listens on at the IP
/// we see. In memory, its id.
fn claims(node_info: &NodeInfo, remote: Option<SocketAddr>) -> Vec<PeerAddress> {
    let id = PeerId::Tendermint(node_info.id);
    let Some(remote) = remote else { return vec![PeerAddress::memory(node_info.id)] };
    // From a public IP only public ones may be named: nobody makes us look into networks that are private to us.
    let may_name = |ip: IpAddr| is_public(ip) || !is_public(remote.ip());
    let declared = node_info.listen_address().filter(|address| address.ip().is_some_and(may_name));
    let port = node_info.listen_addr.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let seen = port.and_then(|port| PeerAddress::from_socket(id, (remote.ip(), port).into()).ok());
    let seen = seen.filter(|seen| declared.as_ref() != Some(seen));
    declared.into_iter().chain(seen).collect()
}
