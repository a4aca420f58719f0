//! The join of the worlds: discv4's random walk, told as candidates to the wire that each node speaks.
//!
//! discv4 names a node by its secp256k1 key. A node that speaks MConnection says so in its signed record: the pair `tm` has its node id and
//! TCP port. One that speaks RLPx has a TCP port (`tcp`), and perhaps a word about its chain (`eth`), which the user's record filter
//! may want to see before anybody dials. What came without its record is asked for it (EIP-868), several at a time. All of it is a
//! claim: the handshake proves who is there.
//!
//! ```text
//!   random walk ──record──> its own ENR, or asked for ──┬─ tm ─────────────────> Tendermint's router
//!   (only while one of them wants candidates)           └─ tcp, filter passed ─> Ethereum's router
//! ```

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use kadwire_discovery::{Discovery, Enr, NodeId, NodeRecord, RandomWalk};
use kadwire_wire::address::{PeerAddress, PeerId};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    candidate::{Candidate, Source},
    router::Demand,
};

/// Records asked for at once (go-ethereum `eth/backend.go`: 16).
const ASKING: usize = 16;

/// The longest wait for a record: a ping to be answered, then the question.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// What a node's record said is believed for this long; then the node is asked again.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

/// A node that did not give its record is asked again after this time: it may not have had our endpoint proof yet.
const ASK_AGAIN: Duration = Duration::from_secs(20);

/// Nodes remembered; the longest-known one is forgotten first.
const MAX_REMEMBERED: usize = 4_096;

/// Says whether a node is worth a dial, by its record: see [`NodeBuilder::with_record_filter`](super::NodeBuilder::with_record_filter).
pub(super) type RecordFilter = Box<dyn Fn(&NodeRecord) -> bool + Send + Sync>;

/// What discovery's walk has brought so far. One node may come many times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalkStats {
    /// Nodes that the walk found.
    pub found: u64,
    /// Nodes asked for their record.
    pub asked: u64,
    /// Of these, those that did not give it.
    pub unanswered: u64,
    /// Candidates for Tendermint's wire.
    pub tendermint: u64,
    /// Candidates for Ethereum's wire.
    pub ethereum: u64,
    /// Nodes whose record has no `tm`, whatever else they speak.
    pub not_tendermint: u64,
    /// Nodes without a TCP port for RLPx, whatever else they speak.
    pub not_ethereum: u64,
    /// Nodes with a TCP port that the record filter kept from being dialed, having seen their record.
    pub filtered: u64,
    /// Those that it kept from being dialed since they gave no record.
    pub filtered_unseen: u64,
    /// Nodes without a word about where they take connections that we speak.
    pub useless: u64,
    /// Candidates that nobody wanted any more.
    pub unwanted: u64,
}

/// The wires that take candidates.
#[derive(Default)]
pub(super) struct Outlets {
    pub(super) tendermint: Option<Demand>,
    pub(super) ethereum: Option<Demand>,
    /// Whom Ethereum's wire may dial.
    pub(super) filter: Option<RecordFilter>,
}

impl Outlets {
    /// Waits until some wire wants candidates.
    async fn are_wanted(&mut self) {
        async fn wanted(demand: &mut Option<Demand>) {
            match demand {
                Some(demand) => demand.is_wanted().await,
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = wanted(&mut self.tendermint) => {}
            () = wanted(&mut self.ethereum) => {}
        }
    }

    /// Whether a node's signed record must be seen before it can be said what it is good for.
    fn need_record(&self) -> bool {
        self.tendermint.is_some() || self.filter.is_some()
    }

    /// Offers a node to the wires that it speaks; one that speaks both is offered to both. For each wire it is counted once.
    fn offer(&self, record: &NodeRecord, enr: Option<Enr>, stats: &mut WalkStats) {
        let (tendermint, ethereum) = (tendermint_address(record, enr.as_ref()), ethereum_address(record, enr.as_ref()));
        // Without a record nobody can say whether there is a `tm`.
        stats.not_tendermint += u64::from(tendermint.is_none() && enr.is_some());
        stats.not_ethereum += u64::from(ethereum.is_none());
        let (tendermint, ethereum) = (self.tendermint.as_ref().zip(tendermint), self.ethereum.as_ref().zip(ethereum));
        stats.useless += u64::from(tendermint.is_none() && ethereum.is_none());
        if let Some((demand, address)) = tendermint {
            match demand.offer(Candidate::new(address, Source::Discv4)) {
                true => stats.tendermint += 1,
                false => stats.unwanted += 1,
            }
        }
        let Some((demand, address)) = ethereum else { return };
        let is_seen = enr.is_some();
        let passes = self.filter.as_ref().is_none_or(|filter| filter(&with_enr(record, enr)));
        match (passes, is_seen) {
            (true, _) if demand.offer(Candidate::new(address, Source::Discv4)) => stats.ethereum += 1,
            (true, _) => stats.unwanted += 1,
            (false, true) => stats.filtered += 1,
            (false, false) => stats.filtered_unseen += 1,
        }
    }
}

/// Candidates out of a random walk.
pub(super) struct Walk {
    discovery: Discovery,
    walk: RandomWalk,
    outlets: Outlets,
    /// Nodes whose record was not with them, being asked for it.
    asking: JoinSet<(NodeRecord, Option<Enr>)>,
    known: Known,
    stats: WalkStats,
    published: watch::Sender<WalkStats>,
}

impl Walk {
    pub(super) fn new(discovery: Discovery, outlets: Outlets, published: watch::Sender<WalkStats>) -> Self {
        let (asking, known, stats) = (JoinSet::new(), Known::default(), WalkStats::default());
        Self { walk: discovery.random_walk(), discovery, outlets, asking, known, stats, published }
    }

    /// Walks while candidates are wanted, until discovery ends. A search that is under way when the demand ends is not cut off.
    pub(super) async fn run(mut self) {
        loop {
            self.outlets.are_wanted().await;
            tokio::select! {
                biased;
                Some(asked) = self.asking.join_next() => {
                    if let Ok((record, enr)) = asked {
                        self.learn(record, enr);
                    }
                }
                record = self.walk.next(), if self.asking.len() < ASKING => match record {
                    Some(record) => self.look_at(record),
                    None => return,
                },
            }
            self.published.send_replace(self.stats);
        }
    }

    /// Passes a node on, once enough is known of it; if not, its record is asked for.
    fn look_at(&mut self, record: NodeRecord) {
        self.stats.found += 1;
        if record.enr().is_some() || !self.outlets.need_record() {
            let enr = record.enr().cloned();
            return self.outlets.offer(&record, enr, &mut self.stats);
        }
        match self.known.get(&record.id()) {
            Some(Asked::Answered(enr)) => self.outlets.offer(&record, Some(enr), &mut self.stats),
            // Not twice at a time, and not too often.
            Some(Asked::Waiting) => {}
            None => {
                self.known.insert(record.id(), Asked::Waiting, ASK_AGAIN);
                self.stats.asked += 1;
                let discovery = self.discovery.clone();
                self.asking.spawn(async move {
                    let enr = timeout(ASK_TIMEOUT, discovery.request_enr(&record)).await;
                    (record, enr.ok().and_then(Result::ok))
                });
            }
        }
    }

    fn learn(&mut self, record: NodeRecord, enr: Option<Enr>) {
        // No answer, or somebody else's record.
        let enr = enr.filter(|enr| enr.node_id() == record.id());
        match &enr {
            Some(enr) => self.known.insert(record.id(), Asked::Answered(enr.clone()), REMEMBERED),
            None => self.stats.unanswered += 1,
        }
        self.outlets.offer(&record, enr, &mut self.stats);
    }
}

/// Where a node speaks MConnection: at the IP that it answers from, which it has proved, on the port that its record gives.
fn tendermint_address(record: &NodeRecord, enr: Option<&Enr>) -> Option<PeerAddress> {
    let tm = enr?.tendermint()?;
    PeerAddress::from_socket(PeerId::Tendermint(tm.node_id), (record.ip(), tm.tcp_port).into()).ok()
}

/// Where a node speaks RLPx: likewise, on the TCP port of its record, else the one that others give for it.
fn ethereum_address(record: &NodeRecord, enr: Option<&Enr>) -> Option<PeerAddress> {
    let tcp = enr.map_or(Some(record.tcp()), |enr| enr.tcp_for(&record.ip()))?;
    PeerAddress::from_socket(PeerId::Ethereum(*record.key().as_bytes()), (record.ip(), tcp).into()).ok()
}

/// The node with its signed record, for a filter to look at.
fn with_enr(record: &NodeRecord, enr: Option<Enr>) -> NodeRecord {
    enr.and_then(|enr| NodeRecord::from_enr(enr).ok()).unwrap_or_else(|| record.clone())
}

/// What asking a node for its record has come to.
#[derive(Clone)]
enum Asked {
    /// No answer, or none yet.
    Waiting,
    Answered(Enr),
}

/// What was learned of nodes that came without their record.
#[derive(Default)]
struct Known {
    nodes: HashMap<NodeId, (Instant, Asked)>,
    order: VecDeque<NodeId>,
}

impl Known {
    fn insert(&mut self, id: NodeId, asked: Asked, time: Duration) {
        if self.nodes.insert(id, (Instant::now() + time, asked)).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.nodes.remove(&oldest);
        }
    }

    /// What is still to be believed.
    fn get(&self, id: &NodeId) -> Option<Asked> {
        let (until, asked) = self.nodes.get(id)?;
        (Instant::now() < *until).then(|| asked.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use kadwire_discovery::{EnrBuilder, SecretKey, TendermintEntry};

    use super::*;
    use crate::router::Setup;

    const TM: TendermintEntry = TendermintEntry { node_id: [7; 20], tcp_port: 26656 };

    /// A node with a record that says so, and one that gave none but a TCP port.
    fn node(n: u8, says: impl FnOnce(EnrBuilder) -> EnrBuilder) -> (NodeRecord, Option<Enr>) {
        let builder = says(Enr::builder(1).ip(Ipv4Addr::new(24, 0, 0, n)).udp(30303));
        let enr = builder.sign(&SecretKey::from_bytes(&[n; 32]).unwrap()).unwrap();
        (NodeRecord::from_enr(enr.clone()).unwrap(), Some(enr))
    }

    fn mute(n: u8) -> (NodeRecord, Option<Enr>) {
        let key = SecretKey::from_bytes(&[n; 32]).unwrap();
        (format!("enode://{}@24.0.0.{n}:30303", key.public()).parse().unwrap(), None)
    }

    /// What is counted of nodes that speak nothing, Tendermint, RLPx, both, and of one without a record.
    fn counted(filter: Option<RecordFilter>) -> WalkStats {
        // Nobody runs the routers: nobody wants any of them, which is counted as such.
        let (tendermint, ethereum) = (Setup::default(), Setup::default());
        let outlets = Outlets { tendermint: Some(tendermint.demand()), ethereum: Some(ethereum.demand()), filter };
        let mut stats = WalkStats::default();
        let nodes = [
            node(1, |says| says),
            node(2, |says| says.tendermint(TM)),
            node(3, |says| says.tcp(30303)),
            node(4, |says| says.tcp(30303).tendermint(TM)),
            node(5, |says| says.tcp(30303).tendermint(TM)),
            mute(6),
        ];
        nodes.into_iter().for_each(|(record, enr)| outlets.offer(&record, enr, &mut stats));
        stats
    }

    #[test]
    fn who_speaks_both_wires_is_of_no_other_wire() {
        let stats = counted(None);
        assert_eq!((stats.not_tendermint, stats.not_ethereum, stats.useless), (2, 2, 1), "{stats:?}");
        // Three for Tendermint, four for Ethereum: that of the node without record too.
        assert_eq!((stats.unwanted, stats.filtered), (7, 0), "{stats:?}");
    }

    #[test]
    fn who_gave_no_record_is_not_said_to_be_of_another_chain() {
        let stats = counted(Some(Box::new(|_| false)));
        assert_eq!((stats.filtered, stats.filtered_unseen), (3, 1), "{stats:?}");
        assert_eq!((stats.unwanted, stats.not_ethereum), (3, 2), "{stats:?}");
    }
}
