//! What comes in: the cheap checks before a signature is looked at, and the rules of the six messages after
//! (spec sheet discv4 §4).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::bonds::PingSeen;
use super::message::{
    Endpoint, EnrRequest, EnrResponse, FindNode, Kind, MAX_NEIGHBORS, Message, Neighbor, Neighbors, Ping, Pong,
};
use super::packet::{Header, Packet};
use super::requests::Purpose;
use super::{Answer, Discv4, MAX_EXPIRATION, MAX_QUEUED_REPLIES, Rejected, RequestError, Transmit};
use crate::address::check_relay;
use crate::key::NodeId;
use crate::table::{Check, Prefer};
use crate::{NodeRecord, Now, PublicKey};

/// Nodes in the answer to a FindNode (Kademlia's k), and the most that is taken from one.
const MAX_FOUND: usize = 16;

/// Datagrams taken as the answer to one FindNode: enough for nodes that come one by one. Each is waited for anew, so without
/// a bound whoever repeats himself would hold up a lookup, and the refresh that made it, for as long as he likes.
const MAX_ANSWERS: usize = MAX_FOUND;

/// Lowest UDP port that a neighbour may have, less one (go-ethereum `errLowPort`): nobody is to be made to send
/// packets to system services.
const LOW_PORTS: u16 = 1024;

/// Shortest and longest wait for a ping back after a pong, if the round trip is shorter or longer. Nodes that need our
/// proof send both at once.
const PING_BACK_WAIT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// How long answers to FindNode have the same expiration, seconds.
const ANSWER_PERIOD: u64 = 10;

/// Wait for more Neighbors after a datagram that was full, and after one that was not, which is the last unless they
/// were mixed up on the way.
const MORE_NEIGHBORS_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(50));

impl Discv4 {
    /// The checks that need no signature, cheapest first: expiry, [`Reach`](super::Reach), whether an answer is awaited, whether
    /// anybody there may ask, replays, and the rate of strangers' pings.
    ///
    /// # Errors
    /// The first reason to drop the packet; it is counted.
    pub fn admit(&mut self, now: Now, from: SocketAddr, header: &Header) -> Result<(), Rejected> {
        let result = self.check_admission(now, canonical(from), header);
        if let Err(reason) = result {
            self.stats.rejected.add(reason);
            if matches!(reason, Rejected::Expired | Rejected::TooFarAhead) {
                self.hear_untimely(now, canonical(from), header);
            }
        }
        result
    }

    /// A packet is refused for its time. Of those we know, or wait for, that may say something about our clock.
    fn hear_untimely(&mut self, now: Now, from: SocketAddr, header: &Header) {
        let is_heard = match header.kind {
            Kind::Pong => self.requests.is_awaited(from.ip(), header.kind, header.reply_to.as_ref()),
            Kind::Ping => self.bonds.is_endpoint_proven(now.monotonic, from),
            Kind::FindNode | Kind::Neighbors | Kind::EnrRequest | Kind::EnrResponse => false,
        };
        if let Some(expiration) = header.expiration.filter(|_| is_heard) {
            self.hear_clock(now, from.ip(), expiration);
        }
    }

    /// Whether somebody at exactly this address has proven to receive what we send there: whose packets a busy driver
    /// looks at first.
    pub fn is_endpoint_proven(&self, now: Now, from: SocketAddr) -> bool {
        self.bonds.is_endpoint_proven(now.monotonic, canonical(from))
    }

    fn check_admission(&mut self, now: Now, from: SocketAddr, header: &Header) -> Result<(), Rejected> {
        let seconds = now.unix_seconds();
        let expiration = header.expiration.unwrap_or(seconds);
        if expiration < seconds {
            return Err(Rejected::Expired);
        }
        if expiration > seconds.saturating_add(MAX_EXPIRATION.as_secs()) {
            return Err(Rejected::TooFarAhead);
        }
        if !self.allows(from.ip()) {
            return Err(Rejected::NotAllowed);
        }
        match header.kind {
            Kind::Pong | Kind::Neighbors | Kind::EnrResponse => {
                match self.requests.is_awaited(from.ip(), header.kind, header.reply_to.as_ref()) {
                    true => Ok(()),
                    false => Err(Rejected::Unsolicited),
                }
            }
            Kind::FindNode | Kind::EnrRequest => {
                if !self.bonds.is_address_proven(now.monotonic, from.ip()) {
                    return Err(Rejected::NoEndpointProof);
                }
                self.replays.check(from, &header.hash)
            }
            Kind::Ping => {
                if !self.bonds.is_endpoint_proven(now.monotonic, from) {
                    self.rates.admit_stranger_ping(now.monotonic, from.ip())?;
                }
                Ok(())
            }
        }
    }

    /// Acts on a packet that was admitted and whose sender is proven by its signature.
    ///
    /// # Errors
    /// Why it was dropped; it is counted.
    pub fn handle_packet(&mut self, now: Now, from: SocketAddr, packet: Packet) -> Result<(), Rejected> {
        let (from, kind) = (canonical(from), packet.message.kind());
        let sender = Sender { id: packet.id, key: packet.from, at: from };
        let result = match packet.message {
            _ if packet.from == self.key => Err(Rejected::OwnKey),
            Message::Ping(ping) => self.handle_ping(now, &sender, packet.hash, &ping),
            Message::Pong(pong) => self.handle_pong(now, &sender, &pong),
            Message::FindNode(find) => self.handle_find_node(now, &sender, &packet.hash, &find),
            Message::Neighbors(neighbors) => self.handle_neighbors(now, &sender, &neighbors),
            Message::EnrRequest(request) => self.handle_enr_request(now, &sender, packet.hash, &request),
            Message::EnrResponse(response) => self.handle_enr_response(now, &sender, response),
        };
        match result {
            Ok(()) => {
                self.table.heard(&sender.id, sender.at);
                self.stats.received.add(kind);
            }
            Err(reason) => self.stats.rejected.add(reason),
        }
        self.settle(now);
        result
    }

    /// Always a pong; a ping back if the sender has not proven itself; whoever waits for this ping can go on. What may be a replay
    /// that would move its sender moves nobody: only a pong, since it may also be its true sender, that has moved and whose last
    /// ping said that it lasts longer.
    fn handle_ping(&mut self, now: Now, sender: &Sender, hash: [u8; 32], ping: &Ping) -> Result<(), Rejected> {
        let Sender { id, at, .. } = *sender;
        let seen = PingSeen::new(at, &hash, ping.expiration);
        let is_replay = self.bonds.is_replay(now, id, at.ip(), seen);
        let pong = Message::Pong(Pong {
            to: Endpoint::new(at, ping.from.tcp),
            ping_hash: hash,
            expiration: Discv4::expiration(now),
            enr_seq: self.our_seq(),
        });
        if !self.reply(at, pong) || is_replay {
            return Ok(());
        }
        self.bonds.ping_received(now.monotonic, id, at, ping.from.tcp, seen);
        self.proof_given(now, id, at.ip());
        if self.bonds.is_proven(now.monotonic, id, at.ip()) {
            self.hear_clock(now, at.ip(), ping.expiration);
            self.add_inbound(now, sender, ping.from.tcp);
        } else if let Some(stranger) = sender.record(ping.from.tcp) {
            self.ping_back(now, stranger);
        }
        Ok(())
    }

    fn handle_pong(&mut self, now: Now, sender: &Sender, pong: &Pong) -> Result<(), Rejected> {
        let Sender { id, at, .. } = *sender;
        let answered = self.requests.answered_by(id, at.ip(), Kind::Pong, Some(&pong.ping_hash));
        if answered.is_empty() {
            return Err(Rejected::Unsolicited);
        }
        self.bonds.pong_received(now.monotonic, id, at);
        if let Some(tcp) = self.bonds.tcp_of_ping(now.monotonic, id, at.ip()) {
            self.add_inbound(now, sender, tcp);
        }
        self.table.answered(now.monotonic, &id, at);
        self.hear_vote(now, at.ip(), &pong.to);
        self.hear_clock(now, at.ip(), pong.expiration);
        for request in answered {
            let Some(ping) = self.requests.remove(request) else { continue };
            self.rates.answered(ping.node.endpoint());
            self.stats.requests_answered = self.stats.requests_answered.saturating_add(1);
            let sent_at = ping.sent_at(&pong.ping_hash).unwrap_or(now.monotonic);
            let rtt = now.monotonic.saturating_duration_since(sent_at);
            self.round_trip.measured(rtt, !ping.is_first(&pong.ping_hash));
            self.wait_for_ping_back(now, id, at.ip(), rtt);
            match ping.purpose {
                Purpose::Check => self.checked(now, &ping.node, Check::Answered),
                Purpose::User => {
                    let answer = Answer::Pong { rtt, enr_seq: pong.enr_seq.unwrap_or(0) };
                    self.request_done(request, Ok(answer));
                }
                Purpose::PingBack
                | Purpose::Bond
                | Purpose::Update
                | Purpose::Lookup(_)
                | Purpose::Resolve(_)
                | Purpose::Run => {}
            }
        }
        self.update_record(now, id, at.ip(), pong.enr_seq.unwrap_or(0));
        Ok(())
    }

    /// A pong says where it sees us.
    fn hear_vote(&mut self, now: Now, voter: IpAddr, endpoint: &Endpoint) {
        let seen = endpoint.ip.map(|ip| SocketAddr::new(ip, endpoint.udp));
        let Some(seen) = seen.filter(|seen| !self.local.is_explicit(seen.ip())) else { return };
        if let Some(majority) = self.external.vote(now.monotonic, voter, seen) {
            self.local.seen_at(majority);
            self.local_changed();
        }
    }

    /// They live. If they do not know that we do, their ping is on its way already: those who wait to ask them need
    /// not wait longer than for that.
    fn wait_for_ping_back(&mut self, now: Now, id: NodeId, ip: IpAddr, rtt: Duration) {
        let (shortest, longest) = PING_BACK_WAIT;
        let wait = rtt.clamp(shortest, longest);
        for request in self.requests.bonding(id, ip) {
            self.requests.set_deadline(request, now.after(wait).monotonic);
        }
    }

    fn handle_find_node(
        &mut self,
        now: Now,
        sender: &Sender,
        hash: &[u8; 32],
        find: &FindNode,
    ) -> Result<(), Rejected> {
        let Sender { id, at, .. } = *sender;
        if !self.bonds.is_proven(now.monotonic, id, at.ip()) {
            return Err(Rejected::NoEndpointProof);
        }
        self.replays.note(now, at, hash, find.expiration)?;
        self.welcome(now, sender);
        let target = NodeId::of_target(&find.target);
        // One more, since the asker itself is no news to it.
        let closest = self.table.closest(&target, MAX_FOUND.saturating_add(1), Prefer::Live);
        let is_told =
            |node: &NodeRecord| node.id() != id && node.udp() > LOW_PORTS && check_relay(at.ip(), node.ip()).is_ok();
        let mut nodes: Vec<NodeRecord> = closest.into_iter().filter(is_told).take(MAX_FOUND).collect();
        // In an order that does not depend on the target: whoever asks sorts by distance anyway, and targets that have the
        // same nodes near them get the same datagrams.
        nodes.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        let expiration = answer_expiration(now);
        let mut chunks = nodes.chunks(MAX_NEIGHBORS);
        // An empty answer is an answer too, or the asker would take us for dead.
        let first = chunks.next().unwrap_or_default();
        for nodes in std::iter::once(first).chain(chunks) {
            let nodes = nodes.iter().map(Neighbor::from).collect();
            self.reply(at, Message::Neighbors(Neighbors { nodes, skipped: 0, expiration }));
        }
        Ok(())
    }

    fn handle_neighbors(&mut self, now: Now, sender: &Sender, neighbors: &Neighbors) -> Result<(), Rejected> {
        let Sender { id, at, .. } = *sender;
        // Neighbors does not say what it answers. Answers come in the order of the questions, near enough.
        let awaited = self.requests.answered_by(id, at.ip(), Kind::Neighbors, None);
        let Some(request) = awaited.first().copied() else { return Err(Rejected::Unsolicited) };
        self.table.answered(now.monotonic, &id, at);
        if self.echoes.takes(now.monotonic, id, at.ip(), &neighbors.nodes) {
            return Ok(());
        }
        let Some(find) = self.requests.get(request) else { return Ok(()) };
        let room = MAX_FOUND.saturating_sub(find.received);
        // The question may have been asked twice, and answered twice.
        let is_new = |neighbor: &&Neighbor| !find.told.contains(&neighbor.key);
        let news: Vec<&Neighbor> = neighbors.nodes.iter().filter(is_new).take(room).collect();
        let accepted: Vec<NodeRecord> =
            news.iter().filter_map(|neighbor| self.judge_neighbor(at.ip(), neighbor)).collect();
        let told: Vec<[u8; 64]> = news.iter().map(|neighbor| neighbor.key).collect();
        let count = news.len().saturating_add(neighbors.skipped);
        let refused = count.saturating_sub(accepted.len()) as u64;
        self.stats.neighbors_refused = self.stats.neighbors_refused.saturating_add(refused);
        let is_full = neighbors.nodes.len() >= MAX_NEIGHBORS;
        let Some(find) = self.requests.get_mut(request) else { return Ok(()) };
        find.answers = find.answers.saturating_add(1);
        find.received = find.received.saturating_add(count);
        find.nodes.extend(accepted);
        find.told.extend(told);
        if find.received >= MAX_FOUND || find.answers >= MAX_ANSWERS {
            self.find_over(now, request);
        } else {
            let (after_full, after_short) = MORE_NEIGHBORS_WAIT;
            let wait = if is_full { after_full } else { after_short };
            self.requests.set_deadline(request, now.after(wait).monotonic);
        }
        Ok(())
    }

    /// What somebody says of somebody else. Bad entries are dropped, not the packet (spec sheet discv4 §6).
    pub(super) fn judge_neighbor(&self, sender: IpAddr, neighbor: &Neighbor) -> Option<NodeRecord> {
        let is_bad = neighbor.udp <= LOW_PORTS
            || neighbor.key == *self.key.as_bytes()
            || check_relay(sender, neighbor.ip).is_err()
            || !self.allows(neighbor.ip);
        if is_bad {
            return None;
        }
        // Known nodes are much of what we hear, and need no check of their keys.
        let id = NodeId::of_target(&neighbor.key);
        match self.table.record(&id).filter(|known| Neighbor::from(*known) == *neighbor) {
            Some(known) => Some(known.clone()),
            None => {
                let key = PublicKey::from_bytes(&neighbor.key).ok()?;
                NodeRecord::with_id(key, id, neighbor.ip, neighbor.udp, neighbor.tcp).ok()
            }
        }
    }

    fn handle_enr_request(
        &mut self,
        now: Now,
        sender: &Sender,
        hash: [u8; 32],
        request: &EnrRequest,
    ) -> Result<(), Rejected> {
        if !self.bonds.is_proven(now.monotonic, sender.id, sender.at.ip()) {
            return Err(Rejected::NoEndpointProof);
        }
        self.replays.note(now, sender.at, &hash, request.expiration)?;
        if let Some(record) = self.record.clone() {
            self.reply(sender.at, Message::EnrResponse(EnrResponse { request_hash: hash, record }));
        }
        Ok(())
    }

    fn handle_enr_response(&mut self, now: Now, sender: &Sender, response: EnrResponse) -> Result<(), Rejected> {
        let Sender { id, key, at } = *sender;
        let answered = self.requests.answered_by(id, at.ip(), Kind::EnrResponse, Some(&response.request_hash));
        if answered.is_empty() {
            return Err(Rejected::Unsolicited);
        }
        let is_own = *response.record.key() == key;
        self.table.answered(now.monotonic, &id, at);
        // The record may name no endpoint; if it names one, it is to be one the sender may speak of.
        // Of two endpoints the one we have just heard it from, since that one works; else one that is in reach.
        let at_an = |allows: &dyn Fn(IpAddr) -> bool| NodeRecord::from_enr_where(response.record.clone(), allows).ok();
        let node = at_an(&|ip| ip == at.ip()).or_else(|| at_an(&|ip| self.allows(ip))).or_else(|| at_an(&|_| true));
        let is_placed = node.as_ref().is_none_or(|node| check_relay(at.ip(), node.ip()).is_ok());
        if let Some(node) = node.as_ref().filter(|node| is_own && is_placed && self.allows(node.ip())) {
            self.table.update(now.monotonic, node);
        }
        for request in answered {
            let Some(asked) = self.requests.remove(request) else { continue };
            self.stats.requests_answered = self.stats.requests_answered.saturating_add(1);
            let outcome = match asked.node.enr() {
                _ if !is_own || !is_placed => Err(RequestError::BadRecord),
                Some(newer) if newer.seq() > response.record.seq() => Ok(newer.clone()),
                _ => Ok(response.record.clone()),
            };
            self.enr_done(now, request, asked.purpose, outcome);
        }
        if is_own { Ok(()) } else { Err(Rejected::ForeignRecord) }
    }

    /// Somebody who has pinged us and has proven its endpoint comes into the table.
    fn add_inbound(&mut self, now: Now, sender: &Sender, tcp: u16) {
        if let Some(record) = sender.record(tcp) {
            _ = self.table.add_inbound(now.monotonic, &record);
        }
    }

    /// Somebody who is not in the table asks, and so lives: it may have pinged us before there was a place for it. Only a ping
    /// changes what the table says of those who are there.
    fn welcome(&mut self, now: Now, sender: &Sender) {
        let Sender { id, at, .. } = *sender;
        if self.table.get(&id).is_none()
            && self.bonds.is_endpoint_proven(now.monotonic, at)
            && let Some(tcp) = self.bonds.tcp_of_ping(now.monotonic, id, at.ip())
        {
            self.add_inbound(now, sender, tcp);
            if self.is_known_alive(now, id, at.ip()) {
                self.table.answered(now.monotonic, &id, at);
            }
        }
    }

    /// Queues an answer; `false` if there is no room for it.
    fn reply(&mut self, to: SocketAddr, message: Message) -> bool {
        let has_room = self.transmits.len() < MAX_QUEUED_REPLIES;
        if has_room {
            self.transmit(Transmit { to, message, request: None });
        } else {
            self.stats.replies_dropped = self.stats.replies_dropped.saturating_add(1);
        }
        has_room
    }
}

/// The expiration of Neighbors: 20 to 30 s ahead (others write 20 s), the same for 10 s, so that answers with the same nodes
/// are the same datagrams and the driver need not sign each. A receiver whose clock is ahead loses nothing by it.
fn answer_expiration(now: Now) -> u64 {
    let past = now.unix_seconds() % ANSWER_PERIOD;
    Discv4::expiration(now).saturating_add(ANSWER_PERIOD.saturating_sub(past))
}

/// Who has sent a packet, and from where.
struct Sender {
    id: NodeId,
    key: PublicKey,
    at: SocketAddr,
}

impl Sender {
    /// The sender as a node; `None` if the source of the packet is no endpoint (port 0).
    fn record(&self, tcp: u16) -> Option<NodeRecord> {
        NodeRecord::with_id(self.key, self.id, self.at.ip(), self.at.port(), tcp).ok()
    }
}

/// IPv4-mapped addresses are IPv4 addresses.
fn canonical(from: SocketAddr) -> SocketAddr {
    SocketAddr::new(from.ip().to_canonical(), from.port())
}
