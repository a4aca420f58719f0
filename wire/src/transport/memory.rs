//! Connections inside one process: the same [`Connection`], checks and limits as over TCP, without bytes on a stream.
//!
//! Every node of a [`MemoryNetwork`] is found by `memory:<id>`, and by `<id>@ip:port` if it was given a socket address (which
//! is then only a name). One task per direction carries messages from one side's outbox to the other's inbox.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    AcceptError, ChannelSpec, CloseReason, Connection, DialError, Direction, Endpoint, HandshakeError, Incoming,
    IncomingStream, PeerInfo, Transport, check_peer,
    counters::Counters,
    link::{Link, State},
    lock,
};
use crate::{
    Host, PeerAddress, PeerId,
    rlpx::{
        capability::{Protocol, ProtocolError, UselessPeer, check_protocols, match_protocols},
        hello::{Hello, HelloError},
    },
    stats::TransportStats,
    tendermint::{
        mconnection::MConnectionError,
        node_info::{NodeInfo, NodeInfoError},
    },
};

/// Streams that may wait to be accepted; more dialers wait.
const BACKLOG: usize = 64;

/// A dial waits this long for the other side's handshake, as over TCP (CometBFT `handshake_timeout`).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// One Ethereum node of a [`MemoryNetwork`].
#[derive(Clone, Debug)]
pub struct MemoryRlpxConfig {
    /// The node's public key, of which nothing is proven here.
    pub id: [u8; 64],
    /// What its Hello calls it.
    pub name: String,
    /// What it speaks. Only peers that share one of them become connections.
    pub protocols: Vec<Protocol>,
    /// Where it can be dialed, and seems to dial from, besides `memory:<id>`.
    pub address: Option<SocketAddr>,
}

/// The nodes that can reach each other in this process; clones are the same network.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork {
    nodes: Arc<Mutex<BTreeMap<PeerId, Node>>>,
}

#[derive(Debug)]
struct Node {
    address: Option<SocketAddr>,
    dialers: mpsc::Sender<Dialing>,
}

/// One node of a [`MemoryNetwork`].
#[derive(Clone, Debug)]
pub struct MemoryConfig {
    /// What the node says of itself; `channels` is replaced by the ids of the field below.
    pub node_info: NodeInfo,
    /// Its channels.
    pub channels: Vec<ChannelSpec>,
    /// Where it can be dialed, and seems to dial from, besides `memory:<id>`.
    pub address: Option<SocketAddr>,
}

impl MemoryNetwork {
    /// A network without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node; it leaves the network when the transport is closed or dropped.
    pub fn listen(&self, config: MemoryConfig) -> Result<MemoryTransport, MemoryError> {
        let MemoryConfig { mut node_info, channels, address } = config;
        node_info.channels = channels.iter().map(|spec| spec.id).collect();
        node_info.validate().map_err(MemoryError::NodeInfo)?;
        self.join(PeerInfo::Tendermint(node_info), Speaks::Channels(channels), address)
    }

    /// Adds an Ethereum node, whose channels are the protocols that it shares with each peer, in their order.
    pub fn listen_rlpx(&self, config: MemoryRlpxConfig) -> Result<MemoryTransport, MemoryError> {
        let MemoryRlpxConfig { id, name, protocols, address } = config;
        check_protocols(&protocols).map_err(MemoryError::Protocols)?;
        let hello = Hello::new(id, name, &protocols);
        hello.check().map_err(MemoryError::Hello)?;
        self.join(PeerInfo::Ethereum(hello), Speaks::Protocols(protocols), address)
    }

    fn join(
        &self,
        info: PeerInfo,
        speaks: Speaks,
        address: Option<SocketAddr>,
    ) -> Result<MemoryTransport, MemoryError> {
        let (dialers, incoming) = mpsc::channel(BACKLOG);
        let mut nodes = lock(&self.nodes);
        let address_taken = address.is_some() && nodes.values().any(|node| node.address == address);
        if address_taken || nodes.contains_key(&info.id()) {
            return Err(MemoryError::Taken);
        }
        nodes.insert(info.id(), Node { address, dialers });
        drop(nodes);
        let local = Arc::new(Local { info, speaks, address, counters: Counters::default() });
        let incoming = tokio::sync::Mutex::new(incoming);
        Ok(MemoryTransport { network: self.clone(), local, incoming, closed: watch::Sender::new(false) })
    }
}

/// Why a node cannot join a [`MemoryNetwork`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Another node has this id or address.
    #[error("id or address is already in the network")]
    Taken,
    /// The node's own NodeInfo breaks a rule.
    #[error(transparent)]
    NodeInfo(NodeInfoError),
    /// The node's protocols do not fit together.
    #[error(transparent)]
    Protocols(ProtocolError),
    /// No peer would take the node's own Hello.
    #[error(transparent)]
    Hello(HelloError),
}

/// What a node speaks.
#[derive(Debug)]
enum Speaks {
    Channels(Vec<ChannelSpec>),
    Protocols(Vec<Protocol>),
}

impl Speaks {
    /// This side's end of a connection with a peer that says `theirs`.
    fn link(&self, theirs: &PeerInfo) -> Result<Arc<Link>, HandshakeError> {
        match (self, theirs) {
            (Speaks::Channels(channels), PeerInfo::Tendermint(node_info)) => {
                Ok(Link::new(channels, &node_info.channels))
            }
            (Speaks::Protocols(protocols), PeerInfo::Ethereum(hello)) => {
                Ok(Link::of_protocols(&match_protocols(protocols, &hello.capabilities)?, hello.version))
            }
            // A node dials those that speak its own wire.
            _ => Err(HandshakeError::UselessPeer(UselessPeer)),
        }
    }
}

/// One node's view of a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemoryTransport {
    network: MemoryNetwork,
    local: Arc<Local>,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Dialing>>,
    closed: watch::Sender<bool>,
}

#[derive(Debug)]
struct Local {
    info: PeerInfo,
    speaks: Speaks,
    address: Option<SocketAddr>,
    counters: Counters,
}

impl Local {
    fn endpoint(&self) -> Endpoint {
        self.address.map_or(Endpoint::Memory(self.info.id()), Endpoint::Socket)
    }

    /// A node dials those that speak its own wire.
    fn check_wire(&self, address: &PeerAddress) -> Result<(), DialError> {
        let same = mem::discriminant(&address.id()) == mem::discriminant(&self.info.id());
        if same { Ok(()) } else { Err(DialError::Unsupported) }
    }

    /// The checks of a handshake, without its proofs.
    fn check(&self, expected: Option<PeerId>, theirs: &PeerInfo) -> Result<(), HandshakeError> {
        if let Some(expected) = expected {
            check_id(expected, theirs.id())?;
        }
        match (&self.info, theirs) {
            (PeerInfo::Tendermint(ours), PeerInfo::Tendermint(theirs)) => check_peer(ours, None, theirs.id, theirs),
            (ours, theirs) if ours.id() == theirs.id() => Err(HandshakeError::SelfConnection),
            (_, theirs) => self.speaks.link(theirs).map(|_| ()),
        }
    }
}

/// What a dialer sends to the node it dials.
#[derive(Debug)]
struct Dialing {
    from: Arc<Local>,
    answer: oneshot::Sender<Answer>,
}

/// What comes back: the dialer's end, which is closed if nobody takes it; or, if the acceptor refused, what it says of itself.
type Answer = Result<Connection, PeerInfo>;

impl Transport for MemoryTransport {
    async fn dial(&self, address: &PeerAddress) -> Result<Connection, DialError> {
        self.local.counters.begun(Direction::Outbound);
        self.local.check_wire(address)?;
        let (_, dialers) = self.find(address)?;
        let (answer, answered) = oneshot::channel();
        let dialing = Dialing { from: self.local.clone(), answer };
        let handshake = async {
            dialers.send(dialing).await.map_err(|_| HandshakeError::Closed)?;
            let answer = answered.await.map_err(|_| HandshakeError::Closed)?;
            let info = answer.as_ref().map_or_else(|info| info, |connection| &connection.info);
            self.local.check(Some(address.id()), info)?;
            answer.map_err(|_| HandshakeError::Closed)
        };
        let done = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await;
        let result = done.unwrap_or(Err(HandshakeError::Timeout(HANDSHAKE_TIMEOUT)));
        self.local.counters.ended(Direction::Outbound, &result);
        Ok(result?)
    }

    async fn probe(&self, address: &PeerAddress) -> Result<(), DialError> {
        self.local.check_wire(address)?;
        let (proven, _) = self.find(address)?;
        Ok(check_id(address.id(), proven)?)
    }

    async fn accept(&self) -> Result<Incoming, AcceptError> {
        let mut incoming = self.incoming.lock().await;
        let mut closed = self.closed.subscribe();
        let dialing = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => None,
            dialing = incoming.recv() => dialing,
        };
        let Some(dialing) = dialing else {
            // Whoever dialed and was not accepted sees the stream closed.
            incoming.close();
            while incoming.try_recv().is_ok() {}
            return Err(AcceptError::Closed);
        };
        self.local.counters.begun(Direction::Inbound);
        let remote = dialing.from.endpoint();
        Ok(Incoming { remote, stream: IncomingStream::Memory(MemoryIncoming { local: self.local.clone(), dialing }) })
    }

    fn id(&self) -> PeerId {
        self.local.info.id()
    }

    fn local(&self) -> Endpoint {
        self.local.endpoint()
    }

    fn stats(&self) -> TransportStats {
        self.local.counters.stats()
    }

    fn close(&self) {
        lock(&self.network.nodes).remove(&self.local.info.id());
        self.closed.send_replace(true);
    }
}

impl MemoryTransport {
    /// Who is there, and where it takes dials.
    fn find(&self, address: &PeerAddress) -> Result<(PeerId, mpsc::Sender<Dialing>), DialError> {
        let nodes = lock(&self.network.nodes);
        let found = match address.host() {
            Host::Memory => nodes.get_key_value(&address.id()),
            Host::Ip(_) => nodes.iter().find(|(_, node)| node.address == address.socket_addr()),
            Host::Name(_) => return Err(DialError::Resolve(std::io::ErrorKind::NotFound)),
        };
        let (id, node) = found.ok_or(DialError::Connect(std::io::ErrorKind::ConnectionRefused))?;
        Ok((*id, node.dialers.clone()))
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        self.close();
    }
}

/// The acceptor's end of a dial, before its handshake.
#[derive(Debug)]
pub(super) struct MemoryIncoming {
    local: Arc<Local>,
    dialing: Dialing,
}

impl MemoryIncoming {
    pub(super) async fn handshake(self, remote: Endpoint) -> Result<Connection, HandshakeError> {
        let local = self.local.clone();
        let result = self.meet(remote);
        local.counters.ended(Direction::Inbound, &result);
        result
    }

    fn meet(self, remote: Endpoint) -> Result<Connection, HandshakeError> {
        let MemoryIncoming { local, dialing: Dialing { from, answer } } = self;
        if let Err(error) = local.check(None, &from.info) {
            // The dialer does its own checks, and sees the stream closed if it finds nothing wrong.
            let _ = answer.send(Err(local.info.clone()));
            return Err(error);
        }
        let (ours, dialers) = (local.speaks.link(&from.info)?, from.speaks.link(&local.info)?);
        tokio::spawn(carry(ours.clone(), dialers.clone()));
        tokio::spawn(carry(dialers.clone(), ours.clone()));
        let theirs = Connection::new(local.info.clone(), local.endpoint(), Direction::Outbound, dialers);
        if answer.send(Ok(theirs)).is_err() {
            ours.close(CloseReason::Remote);
            return Err(HandshakeError::Closed);
        }
        Ok(Connection::new(from.info.clone(), remote, Direction::Inbound, ours))
    }
}

/// Carries messages from one side to the other until either is over.
async fn carry(from: Arc<Link>, to: Arc<Link>) {
    loop {
        // Read before the outbox: what was sent before a flush is still found.
        let state = from.state();
        let mut messages = VecDeque::from(from.take());
        while let Some((channel, message)) = messages.pop_front() {
            tokio::select! {
                biased;
                reason = from.closed() => return to.close(seen_from_afar(&reason)),
                () = to.room() => {}
            }
            if let State::Closed(reason) = to.state() {
                return from.close(seen_from_afar(&reason));
            }
            if let Err(error) = accept_message(&to, channel, &message) {
                to.close(error.into());
                return from.close(CloseReason::Remote);
            }
            count(&from, &to, message.len());
            to.deliver([(channel, message)]);
            from.written(channel, 1);
        }
        match state {
            State::Open => match to.state() {
                State::Closed(reason) => return from.close(seen_from_afar(&reason)),
                State::Open | State::Flushing(_) => from.work().await,
            },
            State::Flushing(reason) => {
                to.close(seen_from_afar(&reason));
                return from.close(reason);
            }
            State::Closed(reason) => return to.close(seen_from_afar(&reason)),
        }
    }
}

/// What the other side sees of the reason why this one ended a connection: a Disconnect says it.
fn seen_from_afar(reason: &CloseReason) -> CloseReason {
    match reason {
        CloseReason::Disconnected(reason) => CloseReason::RemoteDisconnected(*reason),
        _ => CloseReason::Remote,
    }
}

/// Over RLPx a node that does not have the dialed key cannot read what it is sent, and hangs up.
fn check_id(expected: PeerId, proven: PeerId) -> Result<(), HandshakeError> {
    match (expected, proven) {
        _ if expected == proven => Ok(()),
        (PeerId::Tendermint(expected), PeerId::Tendermint(proven)) => {
            Err(HandshakeError::IdMismatch { expected, proven })
        }
        _ => Err(HandshakeError::Closed),
    }
}

fn accept_message(to: &Link, channel: u8, message: &Bytes) -> Result<(), MConnectionError> {
    let (spec, ..) = to.channel(channel).ok_or(MConnectionError::UnknownChannel(channel.into()))?;
    if message.len() > spec.max_message_size {
        return Err(MConnectionError::MessageTooLarge { channel, max: spec.max_message_size });
    }
    Ok(())
}

fn count(from: &Link, to: &Link, len: usize) {
    let len = u64::try_from(len).unwrap_or(u64::MAX);
    let mut stats = from.stats();
    stats.messages_sent = stats.messages_sent.saturating_add(1);
    stats.bytes_sent = stats.bytes_sent.saturating_add(len);
    from.set_stats(stats);
    let mut stats = to.stats();
    stats.messages_received = stats.messages_received.saturating_add(1);
    stats.bytes_received = stats.bytes_received.saturating_add(len);
    to.set_stats(stats);
}

#[cfg(test)]
mod tests;
