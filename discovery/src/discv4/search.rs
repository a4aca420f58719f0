//! Lookups, and resolutions of one node: what is made of many questions.
//!
//! The search itself is [`Lookup`]; here its queries become requests, and its result goes to whoever wanted it.

use std::net::IpAddr;
use std::time::Duration;

use super::requests::{Purpose, Question};
use super::{Answer, Discv4, Event, LookupId, MAX_LOOKUPS, RequestError, RequestId};
use crate::table::{Found, Lookup, Prefer, Step};
use crate::{NodeId, NodeRecord, Now};

/// A node that answered a ping this recently lives: it belongs into the result of a lookup even if its Neighbors were lost.
const ALIVE_WITHIN: Duration = Duration::from_secs(10);

/// A lookup under way.
#[derive(Debug)]
pub(crate) struct Search {
    pub(super) lookup: Lookup,
    target: [u8; 64],
    owner: Owner,
}

/// Who wanted a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    User,
    /// Somebody who dials what it finds.
    Walk,
    Refresh,
    Resolve(RequestId),
}

/// A resolution under way: the node itself, then our newer copy, then the network (go-ethereum `Resolve`).
#[derive(Debug)]
pub(crate) struct Resolving {
    node: NodeRecord,
    step: ResolveStep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResolveStep {
    AskNode,
    AskTableCopy,
    Lookup,
    AskFound,
}

impl Discv4 {
    /// Finds out where a node is now: asks it where it was, then where the table says it is, then looks it up. The
    /// answer comes as [`Event::RequestDone`] with [`Answer::Node`].
    ///
    /// # Errors
    /// [`RequestError::Busy`].
    pub fn resolve(&mut self, now: Now, node: &NodeRecord) -> Result<RequestId, RequestError> {
        if self.resolving.len() >= MAX_LOOKUPS {
            return Err(RequestError::Busy);
        }
        let id = self.requests.new_id();
        self.resolving.insert(id, Resolving { node: node.clone(), step: ResolveStep::AskNode });
        if self.ask(now, node.clone(), Question::Enr, Purpose::Resolve(id)).is_err() {
            self.resolve_next(now, id, None);
        }
        self.settle(now);
        Ok(id)
    }

    /// Looks for the nodes closest to `target` (64 bytes, not necessarily a key). The result comes as
    /// [`Event::LookupDone`]. With an empty table it first tries what a refresh would start from.
    ///
    /// # Errors
    /// [`RequestError::Busy`].
    pub fn lookup(&mut self, now: Now, target: [u8; 64]) -> Result<LookupId, RequestError> {
        self.start(now, target, Owner::User)
    }

    /// Looks for the nodes closest to a random target, for somebody who dials. The result comes as
    /// [`Event::LookupDone`] and is what [`Candidates`](super::Candidates) lets through, so it may be empty.
    ///
    /// # Errors
    /// [`RequestError::Busy`].
    pub fn walk(&mut self, now: Now) -> Result<LookupId, RequestError> {
        let target = self.random_target();
        self.start(now, target, Owner::Walk)
    }

    fn start(&mut self, now: Now, target: [u8; 64], owner: Owner) -> Result<LookupId, RequestError> {
        if self.searches.len() >= MAX_LOOKUPS {
            return Err(RequestError::Busy);
        }
        // A walk goes on for as long as peers are wanted: it leaves an empty table to the back-off of its refresh.
        if self.table.is_empty() && (owner == Owner::User || !self.table.is_lonely()) {
            self.table.refresh(now.monotonic);
            self.table.handle_timeout(now.monotonic);
        }
        let id = self.search(now, target, owner);
        self.settle(now);
        Ok(id)
    }

    /// Ends a lookup without a result.
    pub fn cancel_lookup(&mut self, lookup: LookupId) {
        let is_ours = |search: &Search| matches!(search.owner, Owner::User | Owner::Walk);
        if self.searches.get(&lookup).is_some_and(is_ours) {
            self.searches.remove(&lookup);
        }
    }

    /// A step of resolving a node has ended, with the node or without.
    pub(super) fn resolve_next(&mut self, now: Now, id: RequestId, found: Option<NodeRecord>) {
        let Some(Resolving { node, step }) = self.resolving.remove(&id) else { return };
        if let Some(found) = found {
            return self.request_done(id, Ok(Answer::Node(found)));
        }
        let copy = self.table.get(&node.id()).map(|entry| entry.record().clone());
        let copy = copy.filter(|copy| copy.seq() > node.seq() || copy.endpoint() != node.endpoint());
        match (step, copy) {
            (ResolveStep::AskNode, Some(copy)) => {
                self.resolving.insert(id, Resolving { node, step: ResolveStep::AskTableCopy });
                if self.ask(now, copy, Question::Enr, Purpose::Resolve(id)).is_err() {
                    self.resolve_next(now, id, None);
                }
            }
            (ResolveStep::AskNode | ResolveStep::AskTableCopy, _) => {
                let target = *node.key().as_bytes();
                self.resolving.insert(id, Resolving { node, step: ResolveStep::Lookup });
                self.search(now, target, Owner::Resolve(id));
            }
            (ResolveStep::Lookup, _) => self.request_done(id, Err(RequestError::NotFound)),
            // It has answered the lookup, and may be too old to have a record.
            (ResolveStep::AskFound, _) => self.request_done(id, Ok(Answer::Node(node))),
        }
    }

    /// The lookup of a resolution has ended.
    fn resolve_found(&mut self, now: Now, id: RequestId, closest: &[NodeRecord]) {
        let Some(resolving) = self.resolving.get_mut(&id) else { return };
        if let Some(found) = closest.iter().find(|found| found.id() == resolving.node.id()).cloned() {
            *resolving = Resolving { node: found.clone(), step: ResolveStep::AskFound };
            if self.ask(now, found, Question::Enr, Purpose::Resolve(id)).is_ok() {
                return;
            }
        }
        self.resolve_next(now, id, None);
    }

    /// Starts a lookup; its first steps are taken when things settle.
    pub(super) fn search(&mut self, now: Now, target: [u8; 64], owner: Owner) -> LookupId {
        self.next_lookup = self.next_lookup.wrapping_add(1);
        let id = LookupId(self.next_lookup);
        let place = NodeId::of_target(&target);
        let config = self.table.config();
        let (count, alpha, attempts, limits) =
            (config.bucket_size, config.alpha, config.attempts, config.subnet_limits);
        let mut known = self.table.closest(&place, count, Prefer::Found);
        if owner == Owner::Refresh && self.table.hears_nobody(now.monotonic) {
            // Perhaps all of them are gone, and full buckets keep the bootnodes out.
            known.truncate(count.checked_div(2).unwrap_or(0));
            known.extend_from_slice(self.table.bootnodes());
        }
        let lookup = Lookup::new(self.id, place, count, alpha, attempts, limits, known);
        self.searches.insert(id, Search { lookup, target, owner });
        self.ready.push_back(id);
        self.stats.lookups = self.stats.lookups.saturating_add(1);
        id
    }

    /// Takes the next steps of a lookup.
    pub(super) fn advance(&mut self, now: Now, id: LookupId) {
        while let Some(search) = self.searches.get_mut(&id) {
            match search.lookup.poll() {
                Step::Query(node) => {
                    let (asked, target) = (node.id(), search.target);
                    let request = self.ask(now, node, Question::FindNode(target), Purpose::Lookup(id));
                    if request.is_err()
                        && let Some(search) = self.searches.get_mut(&id)
                    {
                        search.lookup.failed(&asked);
                    }
                }
                Step::Wait => return,
                Step::Finished => {
                    let Some(search) = self.searches.remove(&id) else { return };
                    return self.search_over(now, id, search);
                }
            }
        }
    }

    /// Whether it has just answered a ping.
    pub(super) fn is_known_alive(&self, now: Now, id: NodeId, ip: IpAddr) -> bool {
        let pong = self.bonds.last_pong(id, ip);
        pong.is_some_and(|pong| now.monotonic.saturating_duration_since(pong) < ALIVE_WITHIN)
    }

    fn search_over(&mut self, now: Now, id: LookupId, search: Search) {
        let found = search.lookup.into_result(|node| self.is_known_alive(now, node.id(), node.ip()));
        let may_be_told = |found: &Found| match search.owner {
            Owner::Walk => match self.candidates.admit(now.monotonic, &found.record, found.named_by) {
                Ok(()) => true,
                Err(_) => {
                    self.stats.candidates_refused = self.stats.candidates_refused.saturating_add(1);
                    false
                }
            },
            Owner::User | Owner::Refresh | Owner::Resolve(_) => true,
        };
        let mut closest: Vec<NodeRecord> = found.into_iter().filter(may_be_told).map(|found| found.record).collect();
        for node in &mut closest {
            // A lookup hears of nodes by neighbours, without their signed records.
            let known = self.table.get(&node.id()).map(|entry| entry.record());
            if let Some(known) = known.filter(|known| known.seq() > node.seq() && known.endpoint() == node.endpoint()) {
                *node = known.clone();
            }
        }
        match search.owner {
            Owner::User | Owner::Walk => self.events.push_back(Event::LookupDone { lookup: id, closest }),
            Owner::Refresh => self.table.refresh_lookup_done(now.monotonic, closest.len()),
            Owner::Resolve(resolving) => self.resolve_found(now, resolving, &closest),
        }
    }
}
