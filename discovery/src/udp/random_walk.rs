//! Nodes from all over the network, one at a time, for whoever wants to dial some. Few of them are of one network, and few
//! are known from one hand: see [`Candidates`](crate::discv4::Candidates).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Discovery, driver::Command};
use crate::{NodeRecord, Now, discv4::RequestError};

/// Least time between the starts of two lookups (go-ethereum `lookupIterator`): a consumer that dislikes every node must not
/// turn into a flood.
const PACE: Duration = Duration::from_secs(1);

/// Random lookups, pulled: nothing is sent unless somebody waits in [`next`](Self::next).
#[derive(Debug)]
pub struct RandomWalk {
    discovery: Discovery,
    found: VecDeque<NodeRecord>,
    started: Option<Instant>,
    lookup: Option<oneshot::Receiver<Result<Vec<NodeRecord>, RequestError>>>,
}

impl RandomWalk {
    pub(super) fn new(discovery: Discovery) -> Self {
        Self { discovery, found: VecDeque::new(), started: None, lookup: None }
    }

    /// The next node of the current lookup, or of a new one. Nodes come again and again, in the order of their distance to
    /// a random target. Waits as long as the network is empty; `None` once the service is closed. Nothing is lost if the
    /// future is dropped.
    pub async fn next(&mut self) -> Option<NodeRecord> {
        loop {
            if let Some(node) = self.found.pop_front() {
                return Some(node);
            }
            if let Some(lookup) = &mut self.lookup {
                // While too many lookups are under way it is tried again, at its pace.
                self.found = lookup.await.ok().and_then(Result::ok).unwrap_or_default().into();
                self.lookup = None;
                continue;
            }
            if let Some(due) = self.started.and_then(|started| started.checked_add(PACE)) {
                tokio::time::sleep_until(due.into()).await;
            }
            let place = self.discovery.commands.reserve().await.ok()?;
            let (reply, lookup) = oneshot::channel();
            place.send(Command::Walk { reply });
            (self.started, self.lookup) = (Some(Now::read().monotonic), Some(lookup));
        }
    }
}
