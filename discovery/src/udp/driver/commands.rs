//! What the handles want of the driver, and how it is done.

use tokio::sync::oneshot;

use super::Driver;
use crate::{
    DiscoveryStats, NodeId, NodeRecord, Now, TendermintEntry,
    discv4::{Answer, ExternalEndpoint, RequestError},
    table::Prefer,
};

/// What is asked of one node.
#[derive(Debug)]
pub(in crate::udp) enum Question {
    Ping,
    FindNode([u8; 64]),
    Enr,
    Resolve,
}

/// What a handle wants.
#[derive(Debug)]
pub(in crate::udp) enum Command {
    Lookup { target: [u8; 64], reply: Finder },
    Walk { reply: Finder },
    Ask { node: NodeRecord, question: Question, reply: Waiter },
    SetTendermint { entry: Option<TendermintEntry>, reply: oneshot::Sender<()> },
    SetExternal { endpoints: Vec<ExternalEndpoint>, reply: oneshot::Sender<()> },
    Nodes(oneshot::Sender<Vec<NodeRecord>>),
    RandomNodes { count: usize, reply: oneshot::Sender<Vec<NodeRecord>> },
    Closest { target: NodeId, count: usize, reply: oneshot::Sender<Vec<NodeRecord>> },
    Stats(oneshot::Sender<Box<DiscoveryStats>>),
    Close(oneshot::Sender<()>),
}

/// Who waits for an answer.
pub(super) type Waiter = oneshot::Sender<Result<Answer, RequestError>>;

/// Who waits for the result of a lookup.
pub(super) type Finder = oneshot::Sender<Result<Vec<NodeRecord>, RequestError>>;

impl Driver {
    /// Does what a handle wants; returns whom to tell when it is to close.
    pub(super) fn command(&mut self, now: Now, command: Command) -> Option<oneshot::Sender<()>> {
        match command {
            Command::Lookup { target, reply } => match self.machine.lookup(now, target) {
                Ok(lookup) => _ = self.lookups.insert(lookup, reply),
                Err(error) => _ = reply.send(Err(error)),
            },
            Command::Walk { reply } => match self.machine.walk(now) {
                Ok(lookup) => _ = self.lookups.insert(lookup, reply),
                Err(error) => _ = reply.send(Err(error)),
            },
            Command::Ask { node, question, reply } => {
                let request = match question {
                    Question::Ping => self.machine.ping(now, &node),
                    Question::FindNode(target) => self.machine.find_node(now, &node, target),
                    Question::Enr => self.machine.request_enr(now, &node),
                    Question::Resolve => self.machine.resolve(now, &node),
                };
                match request {
                    Ok(request) => _ = self.requests.insert(request, reply),
                    Err(error) => _ = reply.send(Err(error)),
                }
            }
            Command::SetTendermint { entry, reply } => {
                self.machine.set_tendermint(entry);
                self.hand_out(now); // so that the record has changed when the caller goes on
                _ = reply.send(());
            }
            Command::SetExternal { endpoints, reply } => {
                self.machine.set_external(&endpoints);
                self.hand_out(now); // likewise
                _ = reply.send(());
            }
            Command::Nodes(reply) => {
                _ = reply.send(self.machine.table().entries().map(|entry| entry.record().clone()).collect());
            }
            Command::RandomNodes { count, reply } => _ = reply.send(self.machine.random_nodes(count)),
            Command::Closest { target, count, reply } => {
                _ = reply.send(self.machine.table().closest(&target, count, Prefer::All));
            }
            Command::Stats(reply) => _ = reply.send(Box::new(self.snapshot())),
            Command::Close(reply) => return Some(reply),
        }
        None
    }

    fn snapshot(&self) -> DiscoveryStats {
        let (table, reach) = (self.machine.table(), self.machine.reach());
        DiscoveryStats {
            udp: self.outlet.stats(self.stats),
            discv4: *self.machine.stats(),
            node_db: self.store.stats(),
            table_nodes: table.len(),
            table_live: table.entries().filter(|entry| entry.is_live()).count(),
            bootnodes: table.bootnodes().len(),
            netrestrict: !reach.netrestrict.is_empty(),
            public_only: reach.public_only,
            requests: self.machine.requests_under_way(),
            bonds: self.machine.bonds(),
            clock_ahead: self.machine.clock_ahead(),
        }
    }
}
