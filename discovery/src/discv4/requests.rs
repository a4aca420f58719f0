//! Requests under way: what we have asked, whom, why, and until when.
//!
//! A book, not a policy: it finds the request an answer belongs to, and the ones whose time is over.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use super::message::Kind;
use super::{LookupId, RequestId};
use crate::key::NodeId;
use crate::record::NodeRecord;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    Ping,
    FindNode([u8; 64]),
    Enr,
}

impl Question {
    /// The kind of message that answers it.
    pub(crate) fn answer(&self) -> Kind {
        match self {
            Question::Ping => Kind::Pong,
            Question::FindNode(_) => Kind::Neighbors,
            Question::Enr => Kind::EnrResponse,
        }
    }
}

/// Who waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The owner of the machine.
    User,
    /// The endpoint proof of somebody who pinged us.
    PingBack,
    /// Our endpoint proof towards somebody we want to ask.
    Bond,
    /// The table checks a node.
    Check,
    /// The table gets a newer record.
    Update,
    Lookup(LookupId),
    /// A run of the table.
    Run,
    /// One step of resolving a node; the id is the user's.
    Resolve(RequestId),
}

/// ```text
/// Bonding ──their ping, or none within a short wait──> Sent ──answer──> over
///    └── our ping unanswered ──> over                  │ ^ └── last deadline ──> over
///                                      a deadline before └─┘ sends again
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waiting until they know that we are where we say.
    Bonding,
    /// In the hands of the driver or on its way.
    Sent,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) node: NodeRecord,
    pub(crate) question: Question,
    pub(crate) purpose: Purpose,
    pub(crate) stage: Stage,
    pub(crate) deadline: Instant,
    /// When it was given to the driver, each time.
    pub(crate) sends: Vec<Instant>,
    /// Hashes of our datagrams, as the driver has sealed them: in the same order.
    pub(crate) hashes: Vec<[u8; 32]>,
    /// Its answer may have been missed since it was sent last, by no fault of the node.
    pub(crate) is_excused: bool,
    /// Datagrams of the answer so far, and the nodes in them.
    pub(crate) answers: usize,
    pub(crate) received: usize,
    /// The keys of those nodes, those that were not believed too.
    pub(crate) told: Vec<[u8; 64]>,
    pub(crate) nodes: Vec<NodeRecord>,
}

impl Request {
    /// How often it was given to the driver.
    pub(crate) fn sent(&self) -> u32 {
        u32::try_from(self.sends.len()).unwrap_or(u32::MAX)
    }

    /// When the datagram went out that the answer names.
    pub(crate) fn sent_at(&self, hash: &[u8; 32]) -> Option<Instant> {
        let at = self.hashes.iter().position(|ours| ours == hash)?;
        self.sends.get(at).copied()
    }

    /// Whether the answer names the first of our datagrams.
    pub(crate) fn is_first(&self, hash: &[u8; 32]) -> bool {
        self.hashes.first() == Some(hash)
    }

    /// Whether the answer names one of our datagrams.
    pub(crate) fn is_named(&self, hash: &[u8; 32]) -> bool {
        self.hashes.iter().any(|ours| bool::from(ours.ct_eq(hash)))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Requests {
    next: u64,
    all: HashMap<RequestId, Request>,
    by_address: BTreeSet<(IpAddr, RequestId)>,
    by_deadline: BTreeSet<(Instant, RequestId)>,
}

impl Requests {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn new_id(&mut self) -> RequestId {
        self.next = self.next.wrapping_add(1);
        RequestId(self.next)
    }

    pub(crate) fn insert(&mut self, id: RequestId, request: Request) {
        self.by_address.insert((request.node.ip(), id));
        self.by_deadline.insert((request.deadline, id));
        self.all.insert(id, request);
    }

    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Request> {
        let request = self.all.remove(&id)?;
        self.by_address.remove(&(request.node.ip(), id));
        self.by_deadline.remove(&(request.deadline, id));
        Some(request)
    }

    pub(crate) fn get(&self, id: RequestId) -> Option<&Request> {
        self.all.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        self.all.get_mut(&id)
    }

    /// The machine stood still: nobody is to be blamed for an answer that is missing, and what is overdue gets `more` time,
    /// since its answer may be here and unread. Once: where the machine is late each time, requests end all the same.
    pub(crate) fn excuse(&mut self, now: Instant, more: Duration) {
        let overdue = self.by_deadline.range(..=(now, RequestId(u64::MAX))).map(|(_, id)| *id);
        let first_time = |id: &RequestId| self.all.get(id).is_some_and(|request| !request.is_excused);
        let overdue: Vec<_> = overdue.filter(first_time).collect();
        let deadline = now.checked_add(more).unwrap_or(now);
        overdue.into_iter().for_each(|id| self.set_deadline(id, deadline));
        self.all.values_mut().for_each(|request| request.is_excused = true);
    }

    /// Moves the deadline; see also [`Requests::get_mut`], which must not.
    pub(crate) fn set_deadline(&mut self, id: RequestId, deadline: Instant) {
        if let Some(request) = self.all.get_mut(&id) {
            self.by_deadline.remove(&(request.deadline, id));
            request.deadline = deadline;
            self.by_deadline.insert((deadline, id));
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// The request whose time was over first, if any's is.
    pub(crate) fn overdue(&self, now: Instant) -> Option<RequestId> {
        self.by_deadline.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id)
    }

    fn at(&self, ip: IpAddr) -> impl Iterator<Item = (RequestId, &Request)> {
        let range = (ip, RequestId(u64::MIN))..=(ip, RequestId(u64::MAX));
        self.by_address.range(range).filter_map(|(_, id)| Some((*id, self.all.get(id)?)))
    }

    /// Requests to one node at one address, oldest first.
    pub(crate) fn to(&self, id: NodeId, ip: IpAddr) -> impl Iterator<Item = (RequestId, &Request)> {
        self.at(ip).filter(move |(_, request)| request.node.id() == id)
    }

    /// Those of them that wait until we have proven ourselves.
    pub(crate) fn bonding(&self, id: NodeId, ip: IpAddr) -> Vec<RequestId> {
        self.to(id, ip).filter(|(_, request)| request.stage == Stage::Bonding).map(|(id, _)| id).collect()
    }

    /// Whether somebody at `ip` owes us such an answer: all that can be known before a signature is checked.
    /// `reply_to` is the hash the answer names, if its kind does.
    pub(crate) fn is_awaited(&self, ip: IpAddr, kind: Kind, reply_to: Option<&[u8; 32]>) -> bool {
        self.at(ip).any(|(_, request)| {
            request.question.answer() == kind
                && request.stage == Stage::Sent
                && reply_to.is_none_or(|hash| request.is_named(hash))
        })
    }

    /// The requests of which this is the answer. Only Neighbors, which names none, can answer several.
    pub(crate) fn answered_by(
        &self,
        id: NodeId,
        ip: IpAddr,
        kind: Kind,
        reply_to: Option<&[u8; 32]>,
    ) -> Vec<RequestId> {
        let awaited = self.to(id, ip).filter(|(_, request)| {
            request.question.answer() == kind
                && request.stage == Stage::Sent
                && reply_to.is_none_or(|hash| request.is_named(hash))
        });
        awaited.map(|(id, _)| id).collect()
    }
}
