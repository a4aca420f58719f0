//! Pulled discovery: a source of candidates is asked only while the peer manager wants some.

use std::{future::Future, pin::Pin};

use kadwire_wire::address::{PeerAddress, PeerId};
use tokio::sync::{mpsc, watch};
use tracing::debug;

use crate::candidate::Candidate;

/// Somebody who finds peers, one at a time: discv4's random walk, a DNS list.
pub trait CandidateSource: Send + 'static {
    /// The next candidate, looked for only now; `None` when there will never be another.
    fn next(&mut self) -> impl Future<Output = Option<Candidate>> + Send;
}

/// What one router wants of a source that serves several.
#[derive(Debug)]
pub(crate) struct Demand {
    wanted: watch::Receiver<usize>,
    found: mpsc::Sender<Candidate>,
}

impl Demand {
    pub(super) fn new(wanted: watch::Receiver<usize>, found: mpsc::Sender<Candidate>) -> Self {
        Self { wanted, found }
    }

    /// How many candidates the peer manager would like now.
    pub(crate) fn wanted(&self) -> usize {
        *self.wanted.borrow()
    }

    /// Waits until some are wanted; for ever if the router has ended.
    pub(crate) async fn is_wanted(&mut self) {
        if self.wanted.wait_for(|wanted| *wanted > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Hands a candidate over if one is wanted and there is room: discovery finds the others again.
    pub(crate) fn offer(&self, candidate: Candidate) -> bool {
        self.wanted() > 0 && self.found.try_send(candidate).is_ok()
    }
}

/// Finds out where a peer is that the operator named.
pub(crate) type Resolver = Box<dyn Fn(PeerId) -> Resolving + Send + Sync>;

/// A search for a peer; `None` if it is not found.
pub(crate) type Resolving = Pin<Box<dyn Future<Output = Option<PeerAddress>> + Send>>;

/// Candidates found but not yet taken in by the router.
pub(super) const FOUND: usize = 16;

/// Asks `source` while candidates are wanted, until it or the router is gone. A search that is under way when the demand ends is
/// not cut off; its one result waits.
pub(super) async fn run(
    mut source: impl CandidateSource,
    mut wanted: watch::Receiver<usize>,
    found: mpsc::Sender<Candidate>,
) {
    loop {
        if wanted.wait_for(|wanted| *wanted > 0).await.is_err() {
            return;
        }
        let candidate = tokio::select! {
            candidate = source.next() => candidate,
            () = found.closed() => return,
        };
        let Some(candidate) = candidate else {
            debug!("a source of candidates has ended");
            return;
        };
        if found.send(candidate).await.is_err() {
            return;
        }
    }
}
