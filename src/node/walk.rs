//! The join of the two worlds: discv4's random walk, told as candidates to dial.
//!
//! discv4 names a node by its secp256k1 key and says nothing of Tendermint. A node that speaks MConnection says so in its signed
//! record: the pair `tm` has its node id and TCP port (EIP-868 brings the record). A node without it is not for us. What `tm`
//! claims is proved by the handshake, not before.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use kadwire_discovery::{Discovery, Enr, NodeId, NodeRecord, RandomWalk, TendermintEntry};
use kadwire_wire::address::{PeerAddress, PeerId};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    candidate::{Candidate, Source},
    router::CandidateSource,
};

/// Records asked for at once (go-ethereum `eth/backend.go`: 16).
const ASKING: usize = 16;

/// What a node's record said is believed for this long; then the node is asked again.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

/// A node that did not give its record is asked again after this time: it may not have had our endpoint proof yet.
const ASK_AGAIN: Duration = Duration::from_secs(20);

/// Nodes remembered; the longest-known one is forgotten first.
const MAX_REMEMBERED: usize = 4_096;

/// Candidates out of a random walk.
pub(super) struct Walk {
    discovery: Discovery,
    walk: RandomWalk,
    /// Nodes whose record was not with them, being asked for it.
    asking: JoinSet<(NodeRecord, Option<Enr>)>,
    known: Known,
}

impl Walk {
    pub(super) fn new(discovery: Discovery) -> Self {
        Self { walk: discovery.random_walk(), discovery, asking: JoinSet::new(), known: Known::default() }
    }
}

impl CandidateSource for Walk {
    async fn next(&mut self) -> Option<Candidate> {
        loop {
            let address = tokio::select! {
                biased;
                Some(Ok((record, enr))) = self.asking.join_next() => self.learn(&record, enr),
                record = self.walk.next(), if self.asking.len() < ASKING => self.look_at(record?),
            };
            if let Some(address) = address {
                return Some(Candidate::new(address, Source::Discv4));
            }
        }
    }
}

impl Walk {
    /// The Tendermint address of a node, if it is known; if not, its record is asked for.
    fn look_at(&mut self, record: NodeRecord) -> Option<PeerAddress> {
        if record.enr().is_some() {
            return tendermint_address(&record, record.tendermint());
        }
        if let Some(known) = self.known.get(&record.id()) {
            return known;
        }
        // Not twice at a time.
        self.known.insert(record.id(), None, ASK_AGAIN);
        let discovery = self.discovery.clone();
        self.asking.spawn(async move {
            let enr = discovery.request_enr(&record).await.ok();
            (record, enr)
        });
        None
    }

    fn learn(&mut self, record: &NodeRecord, enr: Option<Enr>) -> Option<PeerAddress> {
        // No answer, or somebody else's record.
        let enr = enr.filter(|enr| enr.node_id() == record.id())?;
        let address = tendermint_address(record, enr.tendermint());
        self.known.insert(record.id(), address.clone(), REMEMBERED);
        address
    }
}

/// Where a node speaks MConnection: at the IP that it answers from, which it has proved, on the port that its record gives.
fn tendermint_address(record: &NodeRecord, tm: Option<TendermintEntry>) -> Option<PeerAddress> {
    let tm = tm?;
    PeerAddress::from_socket(PeerId::Tendermint(tm.node_id), (record.ip(), tm.tcp_port).into()).ok()
}

/// What was learned of nodes that came without their record.
#[derive(Default)]
struct Known {
    nodes: HashMap<NodeId, (Instant, Option<PeerAddress>)>,
    order: VecDeque<NodeId>,
}

impl Known {
    fn insert(&mut self, id: NodeId, address: Option<PeerAddress>, time: Duration) {
        if self.nodes.insert(id, (Instant::now() + time, address)).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.nodes.remove(&oldest);
        }
    }

    /// `Some(None)` is a node known not to speak MConnection, or asked a moment ago.
    fn get(&self, id: &NodeId) -> Option<Option<PeerAddress>> {
        let (until, address) = self.nodes.get(id)?;
        (Instant::now() < *until).then(|| address.clone())
    }
}
