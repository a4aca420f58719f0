//! What goes out: requests, the endpoint proof they may need first, and what becomes of them.
//!
//! Nothing sleeps. go-ethereum's `ensureBond` pings and then waits for 500 ms; here a question goes out as soon as the
//! other side's ping has been answered, or shortly after its pong if no ping comes with it.

use std::net::IpAddr;
use std::time::Duration;

use super::message::{Endpoint, EnrRequest, FindNode, Message, Ping};
use super::requests::{Purpose, Question, Request, Stage};
use super::search::Owner;
use super::{Discv4, Event, RequestId, TIMEOUT, Transmit};
use crate::table::{Action, Check, TableEvent};
use crate::{Blame, Enr, NodeId, NodeRecord, Now};

/// Times a question is repeated if its answer is late. go-ethereum never repeats one; but one packet of a hundred lost
/// means every tenth lookup misses something, and every repetition makes that fifty times rarer.
const REPETITIONS: u32 = 2;

/// The same for a ping that may hit somebody who has asked for nothing: each also counts for its limits.
const PING_BACK_REPETITIONS: u32 = 1;

/// Times a question goes out at most, when pings of the other side show that it may have had no proof of us.
const MAX_SENT: u32 = 6;

/// How long a question waits at most for our endpoint proof; our ping is over before that.
const BOND_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait for a ping back when the round trip is not at hand.
const PING_BACK_WAIT: Duration = Duration::from_millis(50);

/// Requests in a row whose expirations differ, in seconds.
const EXPIRATION_SPREAD: u64 = 32;

/// A request's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a ping.
    Pong {
        /// From the machine's queue and back.
        rtt: Duration,
        /// Sequence number of the node's record; 0 if it has none.
        enr_seq: u64,
    },
    /// To `find_node`: at most 16 nodes, none of them verified.
    Neighbors(Vec<NodeRecord>),
    /// To `request_enr`: the node's record, or the one it was asked with if that is newer.
    Enr(Enr),
    /// To `resolve`: the node with its record of today.
    Node(NodeRecord),
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nothing came in time.
    #[error("no answer in time")]
    Timeout,
    /// Nothing came, but this machine stood still or its clock was set meanwhile: says nothing about the node.
    #[error("interrupted: this machine slept or its clock was set")]
    Interrupted,
    /// Too many requests or lookups are under way.
    #[error("too many requests under way")]
    Busy,
    /// The address is one that we do not deal with ([`Reach`](super::Reach)), or our own.
    #[error("address is not allowed")]
    NotAllowed,
    /// The record that came is another node's, or names an address that its sender may not speak of.
    #[error("unacceptable record")]
    BadRecord,
    /// Neither the node nor anybody near it knows where it is now.
    #[error("node not found")]
    NotFound,
}

impl RequestError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            RequestError::Timeout | RequestError::NotFound => Blame::Incompatible,
            RequestError::Interrupted | RequestError::Busy | RequestError::NotAllowed => Blame::Local,
            RequestError::BadRecord => Blame::Misbehaved,
        }
    }
}

impl Request {
    /// Whether it is asked again if its answer is late. The user's pings are not, since they measure.
    fn may_repeat(&self) -> bool {
        let repetitions = match (&self.question, self.purpose) {
            (Question::Ping, Purpose::User) => 0,
            (Question::Ping, Purpose::PingBack) => PING_BACK_REPETITIONS,
            _ => REPETITIONS,
        };
        self.sent() <= repetitions
    }
}

impl Discv4 {
    /// Pings a node. The answer comes as [`Event::RequestDone`] with [`Answer::Pong`].
    ///
    /// # Errors
    /// [`RequestError::Busy`] or [`RequestError::NotAllowed`].
    pub fn ping(&mut self, now: Now, node: &NodeRecord) -> Result<RequestId, RequestError> {
        self.ask(now, node.clone(), Question::Ping, Purpose::User)
    }

    /// Asks a node for those it knows near `target` (64 bytes, not necessarily a key). The answer comes as
    /// [`Event::RequestDone`] with [`Answer::Neighbors`]; the nodes in it do not enter the table.
    ///
    /// # Errors
    /// [`RequestError::Busy`] or [`RequestError::NotAllowed`].
    pub fn find_node(&mut self, now: Now, node: &NodeRecord, target: [u8; 64]) -> Result<RequestId, RequestError> {
        self.ask(now, node.clone(), Question::FindNode(target), Purpose::User)
    }

    /// Asks a node for its record. The answer comes as [`Event::RequestDone`] with [`Answer::Enr`].
    ///
    /// # Errors
    /// [`RequestError::Busy`] or [`RequestError::NotAllowed`].
    pub fn request_enr(&mut self, now: Now, node: &NodeRecord) -> Result<RequestId, RequestError> {
        self.ask(now, node.clone(), Question::Enr, Purpose::User)
    }

    /// Makes a request, and sees to it that the other side will accept it.
    pub(super) fn ask(
        &mut self,
        now: Now,
        node: NodeRecord,
        question: Question,
        purpose: Purpose,
    ) -> Result<RequestId, RequestError> {
        let Some(node) = self.reach.place(&node) else {
            self.stats.sends_withheld = self.stats.sends_withheld.saturating_add(1);
            return Err(RequestError::NotAllowed);
        };
        if node.id() == self.id {
            return Err(RequestError::NotAllowed);
        }
        if self.requests.len() >= self.max_requests {
            self.stats.requests_refused = self.stats.requests_refused.saturating_add(1);
            return Err(RequestError::Busy);
        }
        let (id, ip, is_ping) = (node.id(), node.ip(), question == Question::Ping);
        let request = self.requests.new_id();
        self.requests.insert(
            request,
            Request {
                question,
                purpose,
                stage: Stage::Bonding,
                deadline: now.after(BOND_TIMEOUT).monotonic,
                sends: Vec::new(),
                hashes: Vec::new(),
                is_excused: false,
                answers: 0,
                received: 0,
                told: Vec::new(),
                nodes: Vec::new(),
                node: node.clone(),
            },
        );
        if is_ping || self.bonds.are_we_proven(now.monotonic, id, ip) {
            self.send(now, request);
        } else if self.has_just_answered(now, id, ip) {
            self.requests.set_deadline(request, now.after(PING_BACK_WAIT).monotonic);
        } else if !self.is_pinging(id, ip) && self.ask(now, node, Question::Ping, Purpose::Bond).is_err() {
            self.requests.remove(request);
            return Err(RequestError::Busy);
        }
        Ok(request)
    }

    /// Gives a request to the driver, for the first time or again.
    pub(super) fn send(&mut self, now: Now, id: RequestId) {
        let (late_after, is_calm) = (self.round_trip.late_after(), self.round_trip.is_calm());
        let Some(request) = self.requests.get_mut(id) else { return };
        request.stage = Stage::Sent;
        request.is_excused = false;
        // Signatures are deterministic: the same question in the same second would be the same datagram, and so a replay.
        let spread = id.0.wrapping_add(u64::from(request.sent())) % EXPIRATION_SPREAD;
        let expiration = Discv4::expiration(now).saturating_add(spread);
        // Later each time: an answer that is late because somebody is overloaded does not come sooner for being asked for.
        let patience = 2_u32.saturating_pow(request.sent());
        request.sends.push(now.monotonic);
        // A lookup does not wait longer for those who are gone than it must.
        let is_short =
            request.may_repeat() || (is_calm && matches!(request.purpose, Purpose::Bond | Purpose::Lookup(_)));
        let wait = if is_short { late_after.saturating_mul(patience).min(TIMEOUT) } else { TIMEOUT };
        let (to, question) = (request.node.endpoint(), request.question.clone());
        self.requests.set_deadline(id, now.after(wait).monotonic);
        let message = match question {
            Question::Ping => Message::Ping(Ping {
                version: 4,
                from: self.content.endpoint_towards(to, self.local.udp()),
                to: Endpoint::new(to, 0),
                expiration,
                enr_seq: self.our_seq(),
            }),
            Question::FindNode(target) => Message::FindNode(FindNode { target, expiration }),
            Question::Enr => Message::EnrRequest(EnrRequest { expiration }),
        };
        self.transmit(Transmit { to, message, request: Some(id) });
    }

    /// Asks a stranger that has pinged us for its endpoint proof, once more if it had been asked: perhaps that is what
    /// got lost. A ping of ours for another purpose will do as well.
    pub(super) fn ping_back(&mut self, now: Now, stranger: NodeRecord) {
        let under_way = self.requests.to(stranger.id(), stranger.ip());
        let ping = under_way.into_iter().find(|(_, request)| request.question == Question::Ping);
        let ping = ping.map(|(id, request)| (id, request.purpose, request.sent()));
        if ping.is_some_and(|(_, purpose, sent)| purpose != Purpose::PingBack || sent >= MAX_SENT) {
            return;
        }
        if !self.rates.admit_ping_back(now.monotonic, stranger.endpoint()) {
            self.stats.ping_backs_withheld = self.stats.ping_backs_withheld.saturating_add(1);
            return;
        }
        match ping {
            Some((id, ..)) => self.send(now, id),
            None => _ = self.ask(now, stranger, Question::Ping, Purpose::PingBack),
        }
    }

    /// Whether a ping of ours to this node awaits its pong.
    pub(super) fn is_pinging(&self, id: NodeId, ip: IpAddr) -> bool {
        self.requests.to(id, ip).any(|(_, request)| request.question == Question::Ping)
    }

    /// Fetches the record of a node in the table if it has a newer one.
    pub(super) fn update_record(&mut self, now: Now, id: NodeId, ip: IpAddr, seq: u64) {
        let Some(record) = self.table.get(&id).map(|entry| entry.record().clone()) else { return };
        let is_asked = self.requests.to(id, ip).any(|(_, request)| request.question == Question::Enr);
        if seq <= record.seq() || record.ip() != ip || is_asked {
            return;
        }
        _ = self.ask(now, record, Question::Enr, Purpose::Update);
    }

    /// Whether a pong came so recently that a ping back may still be under way, and another ping of ours is pointless.
    fn has_just_answered(&self, now: Now, id: NodeId, ip: IpAddr) -> bool {
        let pong = self.bonds.last_pong(id, ip);
        pong.is_some_and(|pong| now.monotonic.saturating_duration_since(pong) < TIMEOUT)
    }

    // --- Ends of requests ---

    /// The time of a request is over.
    pub(super) fn deadline_passed(&mut self, now: Now, id: RequestId) {
        let Some(request) = self.requests.get(id) else { return };
        let (node, ip, stage, answers) = (request.node.id(), request.node.ip(), request.stage, request.answers);
        let may_repeat = request.may_repeat();
        match stage {
            // They live, and have not pinged us: they seem to know us.
            Stage::Bonding if self.has_just_answered(now, node, ip) => self.send(now, id),
            // Some nodes have fewer neighbours than a full answer.
            Stage::Sent if answers > 0 => self.find_over(now, id),
            Stage::Sent if may_repeat => self.repeat(now, id),
            Stage::Bonding | Stage::Sent => self.timed_out(now, id),
        }
    }

    /// An answer is late: asks again, and lets lookups go on without it for now.
    fn repeat(&mut self, now: Now, id: RequestId) {
        let Some(request) = self.requests.get(id) else { return };
        let (node, ip, is_ping) = (request.node.clone(), request.node.ip(), request.question == Question::Ping);
        let is_ping_back = request.purpose == Purpose::PingBack;
        if !is_ping && !self.is_pinging(node.id(), ip) {
            // Perhaps our proof is what was lost; or they have forgotten it.
            _ = self.ask(now, node.clone(), Question::Ping, Purpose::Bond);
        }
        if is_ping_back && !self.rates.admit_ping_back(now.monotonic, node.endpoint()) {
            return self.timed_out(now, id);
        }
        let mut late = if is_ping { self.requests.bonding(node.id(), ip) } else { Vec::new() };
        late.push(id);
        for id in late {
            let Some(Purpose::Lookup(lookup)) = self.requests.get(id).map(|request| request.purpose) else { continue };
            if let Some(search) = self.searches.get_mut(&lookup) {
                search.lookup.late(&node.id());
                self.ready.push_back(lookup);
            }
        }
        self.send(now, id);
    }

    /// They have pinged us and got their pong: what waited for that goes out, and what they have not answered goes
    /// out again, since they may not have had our proof before.
    pub(super) fn proof_given(&mut self, now: Now, id: NodeId, ip: IpAddr) {
        let waits = |request: &Request| match request.stage {
            Stage::Bonding => true,
            Stage::Sent => request.question != Question::Ping && request.answers == 0 && request.sent() < MAX_SENT,
        };
        let waiting: Vec<_> =
            self.requests.to(id, ip).filter(|(_, request)| waits(request)).map(|(id, _)| id).collect();
        for request in waiting {
            self.send(now, request);
        }
    }

    fn timed_out(&mut self, now: Now, id: RequestId) {
        let Some(request) = self.requests.remove(id) else { return };
        self.stats.requests_timed_out = self.stats.requests_timed_out.saturating_add(1);
        let node = request.node.id();
        let (missed, error) = match request.is_excused {
            true => (Check::NotMade, RequestError::Interrupted),
            false => (Check::Missed, RequestError::Timeout),
        };
        if request.question != Question::Ping {
            self.bonds.doubt_ours(node, request.node.ip());
        } else {
            // Whoever waits for a proof towards this node waits in vain, unless another ping of ours is under way.
            if !self.is_pinging(node, request.node.ip()) {
                for waiting in self.requests.bonding(node, request.node.ip()) {
                    self.timed_out(now, waiting);
                }
            }
        }
        match (&request.question, request.purpose) {
            (Question::Ping, Purpose::Check) => self.checked(now, &request.node, missed),
            (Question::FindNode(_), Purpose::Lookup(_) | Purpose::Run) => self.find_ended(now, id, request),
            (Question::Enr, purpose) => self.enr_done(now, id, purpose, Err(error)),
            (_, Purpose::User) => self.request_done(id, Err(error)),
            _ => {}
        }
    }

    /// All that a FindNode will bring is there.
    pub(super) fn find_over(&mut self, now: Now, id: RequestId) {
        if let Some(request) = self.requests.remove(id) {
            self.stats.requests_answered = self.stats.requests_answered.saturating_add(1);
            self.echoes.expect(now.monotonic, &request);
            self.find_ended(now, id, request);
        }
    }

    fn find_ended(&mut self, now: Now, id: RequestId, mut request: Request) {
        let (node, is_answered) = (request.node.id(), request.answers > 0);
        let nodes = std::mem::take(&mut request.nodes);
        if request.purpose == Purpose::User {
            let outcome = if is_answered { Ok(Answer::Neighbors(nodes)) } else { Err(RequestError::Timeout) };
            return self.request_done(id, outcome);
        }
        // A silence that is our own fault is no failure of theirs.
        if is_answered || !(request.is_excused || self.table.hears_nobody(now.monotonic)) {
            let ip = request.node.ip();
            let before = self.bonds.find_failures(node, ip);
            let failures = self.bonds.find_done(now.monotonic, node, request.node.endpoint(), !nodes.is_empty());
            if failures != before {
                self.events.push_back(Event::FindFailures { id: node, ip, failures });
            }
            if failures > 0 {
                self.table.find_failed(now.monotonic, &node, failures);
            }
        }
        for found in &nodes {
            _ = self.table.add_found(now.monotonic, found);
        }
        let Purpose::Lookup(lookup) = request.purpose else { return self.table.find_done(now.monotonic, &node) };
        if let Some(search) = self.searches.get_mut(&lookup) {
            match is_answered {
                true => _ = search.lookup.answered(&node, nodes),
                false if self.round_trip.is_calm() => search.lookup.given_up(&node),
                false => search.lookup.failed(&node),
            }
            self.ready.push_back(lookup);
        }
    }

    /// A request for a record has ended.
    pub(super) fn enr_done(&mut self, now: Now, id: RequestId, purpose: Purpose, outcome: Result<Enr, RequestError>) {
        match purpose {
            Purpose::User => self.request_done(id, outcome.map(Answer::Enr)),
            Purpose::Resolve(resolving) => {
                let node = outcome.ok().and_then(|record| NodeRecord::from_enr(record).ok());
                self.resolve_next(now, resolving, node);
            }
            Purpose::PingBack
            | Purpose::Bond
            | Purpose::Check
            | Purpose::Update
            | Purpose::Lookup(_)
            | Purpose::Run => {}
        }
    }

    /// A check of the table has ended. It says nothing of a node that has moved meanwhile.
    pub(super) fn checked(&mut self, now: Now, asked: &NodeRecord, outcome: Check) {
        let entry = self.table.get(&asked.id());
        let has_moved = entry.is_some_and(|entry| entry.record().endpoint() != asked.endpoint());
        let outcome = if has_moved { Check::NotMade } else { outcome };
        self.table.check_done(now.monotonic, &asked.id(), outcome);
    }

    pub(super) fn request_done(&mut self, request: RequestId, outcome: Result<Answer, RequestError>) {
        self.events.push_back(Event::RequestDone { request, outcome });
    }

    /// Does what has become possible, until nothing is left but to wait.
    pub(super) fn settle(&mut self, now: Now) {
        loop {
            if let Some(lookup) = self.ready.pop_front() {
                self.advance(now, lookup);
            } else if let Some(action) = self.table.poll_action() {
                self.act(now, action);
            } else {
                break;
            }
        }
        while let Some(event) = self.table.poll_event() {
            self.events.push_back(match event {
                TableEvent::Added(node) => Event::NodeAdded(node),
                TableEvent::Removed(node) => Event::NodeRemoved(node),
                TableEvent::Alive { record, checks, inbound } => {
                    let find_failures = self.bonds.find_failures(record.id(), record.ip());
                    Event::Store { record, checks, find_failures, inbound }
                }
            });
        }
    }

    fn act(&mut self, now: Now, action: Action) {
        match action {
            Action::Check(node) => {
                let id = node.id();
                if self.ask(now, node, Question::Ping, Purpose::Check).is_err() {
                    self.table.check_done(now.monotonic, &id, Check::NotMade);
                }
            }
            Action::LookupSelf => {
                self.search(now, *self.key.as_bytes(), Owner::Refresh);
            }
            Action::LookupRandom => {
                let target = self.random_target();
                self.search(now, target, Owner::Refresh);
            }
            Action::Find { node, target } => {
                let id = node.id();
                if self.ask(now, node, Question::FindNode(target), Purpose::Run).is_err() {
                    self.table.find_done(now.monotonic, &id);
                }
            }
        }
    }
}
