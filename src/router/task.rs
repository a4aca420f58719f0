//! The router's task: the loop that owns the [`PeerManager`] and carries out what it decides.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use kadwire_wire::{
    address::PeerAddress,
    transport::{CloseReason, Connection, DialError, HandshakeError, Incoming, Receiver, Transport},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    Config,
    channel::Inlet,
    connected::{Peer, PeerMap},
    handle::{Command, DialFailure, Stats},
    now,
    session::{self, Inlets},
};
use crate::{
    candidate::Candidate,
    peers::{self, Action, Because, ConnectionId, Event, PeerManager},
};

/// Between two writes of the address book (CometBFT `dumpAddressInterval`).
const SAVE_INTERVAL: Duration = Duration::from_secs(120);

/// How long the last messages to a peer that we leave may take.
const FLUSH: Duration = Duration::from_secs(2);

/// A dial that the transport's own time-outs (3 s for the stream, 20 s for the handshake) have not ended by then is dropped. Below the
/// 30 s in which the peer set takes two connections of one peer for dials that crossed: a slower one would be judged differently by both.
const DIAL_LIMIT: Duration = Duration::from_secs(25);

/// Addresses probed at once, and those that may wait for it.
const PROBES: usize = 8;
const PROBES_WAITING: usize = 256;

/// Where the router's work comes from, besides its own tasks.
pub(super) struct Sources {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) incoming: mpsc::Receiver<Incoming>,
    pub(super) candidates: mpsc::Receiver<Candidate>,
    pub(super) stopped: oneshot::Receiver<()>,
}

/// The tasks that the router waits for, by what they bring. The peer manager bounds each kind.
#[derive(Default)]
struct Tasks {
    dials: JoinSet<(PeerAddress, Result<Connection, DialError>)>,
    handshakes: JoinSet<(ConnectionId, Result<Connection, HandshakeError>)>,
    probes: JoinSet<(PeerAddress, Result<(), DialError>)>,
    sessions: JoinSet<(ConnectionId, CloseReason)>,
    /// Connections that write their last messages.
    farewells: JoinSet<()>,
    saves: JoinSet<()>,
}

pub(super) struct Router<T> {
    config: Config,
    transport: Arc<T>,
    peers: PeerManager,
    inlets: Inlets,
    connected: watch::Sender<PeerMap>,
    wanted: watch::Sender<usize>,
    last_connection: u64,
    /// Connections that the peer manager has taken, until their sessions end.
    open: BTreeMap<ConnectionId, Open>,
    dialing: HashMap<PeerAddress, AbortHandle>,
    half_open: HashMap<ConnectionId, AbortHandle>,
    to_probe: VecDeque<PeerAddress>,
    probes_proven: u64,
    probes_failed: u64,
    last_dial_failure: Option<DialFailure>,
    tasks: Tasks,
}

struct Open {
    peer: Arc<Peer>,
    session: AbortHandle,
}

impl<T: Transport> Router<T> {
    pub(super) fn new(
        config: Config,
        transport: Arc<T>,
        peers: PeerManager,
        inlets: BTreeMap<u8, Inlet>,
        connected: watch::Sender<PeerMap>,
        wanted: watch::Sender<usize>,
    ) -> Self {
        Router {
            config,
            transport,
            peers,
            inlets: Arc::new(inlets),
            connected,
            wanted,
            last_connection: 0,
            open: BTreeMap::new(),
            dialing: HashMap::new(),
            half_open: HashMap::new(),
            to_probe: VecDeque::new(),
            probes_proven: 0,
            probes_failed: 0,
            last_dial_failure: None,
            tasks: Tasks::default(),
        }
    }

    pub(super) async fn run(mut self, mut from: Sources, helpers: JoinSet<()>) {
        info!(local = %self.transport.local(), "listening for peers");
        let mut save = interval(SAVE_INTERVAL);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, and there is nothing to save yet.
        save.tick().await;
        self.peers.handle_timeout(now());
        loop {
            self.carry_out();
            let timeout = self.peers.poll_timeout().map(Instant::from_std);
            // Local work before new work from a remote.
            tokio::select! {
                biased;
                _ = &mut from.stopped => break,
                Some(command) = from.commands.recv() => self.handle_command(command),
                Some(ended) = self.tasks.sessions.join_next() => self.handle_session_end(ended),
                Some(done) = self.tasks.dials.join_next() => self.handle_dial(done),
                Some(done) = self.tasks.handshakes.join_next() => self.handle_handshake(done),
                Some(done) = self.tasks.probes.join_next() => self.handle_probe(done),
                Some(_) = self.tasks.farewells.join_next() => {}
                Some(_) = self.tasks.saves.join_next() => {}
                () = sleep_until(timeout.unwrap_or_else(Instant::now)), if timeout.is_some() => {
                    self.peers.handle_timeout(now());
                }
                _ = save.tick() => self.save(),
                Some(candidate) = from.candidates.recv() => self.add(candidate),
                Some(incoming) = from.incoming.recv() => self.handle_incoming(incoming),
            }
        }
        self.shut_down(from, helpers).await;
    }

    /// Does what the peer manager asks for and publishes who is connected.
    fn carry_out(&mut self) {
        while let Some(action) = self.peers.poll_action() {
            match action {
                Action::Dial(address) => self.dial(address),
                Action::Close { connection, because, .. } => self.close(connection, because),
                Action::Abort(connection) => {
                    if let Some(handshake) = self.half_open.remove(&connection) {
                        debug!(%connection, "handshake cut: newer ones need its room");
                        handshake.abort();
                    }
                }
            }
        }
        while let Some(event) = self.peers.poll_event() {
            self.publish(event);
        }
        let wanted = self.peers.wanted();
        self.wanted.send_if_modified(|value| std::mem::replace(value, wanted) != wanted);
    }

    fn publish(&mut self, event: Event) {
        self.connected.send_modify(|connected| {
            let connected = Arc::make_mut(connected);
            match event {
                Event::Up { connection, .. } => {
                    if let Some(open) = self.open.get(&connection) {
                        connected.insert(open.peer.id, open.peer.clone());
                    }
                }
                // The connection that replaced it may be there already.
                Event::Down { peer, connection } => {
                    if connected.get(&peer).is_some_and(|there| there.number == connection.0) {
                        connected.remove(&peer);
                    }
                }
            }
        });
    }

    fn handle_command(&mut self, command: Command) {
        let now = now();
        // Whoever asked may be gone by now.
        match command {
            Command::Report(peer, report) => {
                debug!(%peer, ?report, "report");
                self.peers.report(now, &peer, report);
            }
            Command::Add(candidate) => self.add(candidate),
            Command::AddAnswer(from, addresses) => match self.peers.add_answer(now, &from, addresses) {
                Ok(answered) => debug!(%from, ?answered, "addresses"),
                Err(refused) => debug!(%from, %refused, "addresses"),
            },
            Command::Probe(address) => self.probe(address),
            Command::Advertise(to, reply) => drop(reply.send(self.peers.advertise(&to))),
            Command::WantsAddresses(reply) => drop(reply.send(self.peers.book().need_more())),
            Command::Dial(address, reply) => drop(reply.send(self.peers.dial(now, address))),
            Command::Disconnect(peer) => self.peers.disconnect(now, &peer),
            Command::Stats(reply) => drop(reply.send(self.stats())),
        }
    }

    fn add(&mut self, candidate: Candidate) {
        let (address, source) = (candidate.address.clone(), candidate.source);
        if let Err(refused) = self.peers.add(now(), candidate) {
            debug!(%address, ?source, %refused, "candidate");
        }
    }

    // Dials.

    fn dial(&mut self, address: PeerAddress) {
        debug!(%address, "dialing");
        let (transport, to) = (self.transport.clone(), address.clone());
        let task = self.tasks.dials.spawn(async move {
            let dialed = timeout(DIAL_LIMIT, transport.dial(&to)).await;
            (to, dialed.unwrap_or(Err(DialError::Timeout(DIAL_LIMIT))))
        });
        self.dialing.insert(address, task);
    }

    fn handle_dial(&mut self, done: Joined<(PeerAddress, Result<Connection, DialError>)>) {
        let (address, dialed) = match done {
            Ok(done) => done,
            Err(error) => {
                let Some(address) = find(&self.dialing, &error) else { return };
                warn!(%address, %error, "a dial ended badly");
                (address, Err(DialError::Timeout(DIAL_LIMIT)))
            }
        };
        self.dialing.remove(&address);
        match dialed {
            Ok(connection) => {
                let number = self.number();
                let remote = connection.remote.socket_addr();
                let taken = self.peers.handle_dialed(now(), number, &address, remote);
                self.take(number, connection, taken);
            }
            Err(error) => {
                // The operator wants to know of those that the configuration names; strangers' addresses fail all the time.
                match self.peers.is_configured(&address) {
                    true => warn!(%address, %error, "cannot connect to a configured peer; will try again"),
                    false => debug!(%address, %error, "dial failed"),
                }
                self.peers.handle_dial_failed(now(), &address, error.blame());
                self.last_dial_failure = Some(DialFailure { address, error });
            }
        }
    }

    // Those who dial us.

    fn handle_incoming(&mut self, incoming: Incoming) {
        let (number, remote) = (self.number(), incoming.remote());
        if let Err(why) = self.peers.handle_incoming(now(), number, remote.ip()) {
            debug!(%remote, %why, "refused before the handshake");
            return;
        }
        let task = self.tasks.handshakes.spawn(async move { (number, incoming.handshake().await) });
        self.half_open.insert(number, task);
    }

    fn handle_handshake(&mut self, done: Joined<(ConnectionId, Result<Connection, HandshakeError>)>) {
        let (number, connection) = match done {
            Ok(done) => done,
            Err(error) => {
                // Aborted ones are already forgotten.
                let Some(number) = find(&self.half_open, &error) else { return };
                warn!(%error, "a handshake ended badly");
                self.half_open.remove(&number);
                return self.peers.handle_incoming_failed(number);
            }
        };
        self.half_open.remove(&number);
        match connection {
            Ok(connection) => {
                let remote = connection.remote.socket_addr();
                let taken = self.peers.handle_accepted(now(), number, connection.peer, remote);
                self.take(number, connection, taken);
            }
            Err(error) => {
                debug!(%error, "handshake failed");
                self.peers.handle_incoming_failed(number);
            }
        }
    }

    // Addresses that peers give for themselves.

    fn probe(&mut self, address: PeerAddress) {
        if self.to_probe.len() < PROBES_WAITING && !self.to_probe.contains(&address) {
            self.to_probe.push_back(address);
        }
        self.start_probes();
    }

    fn start_probes(&mut self) {
        while self.tasks.probes.len() < PROBES
            && let Some(address) = self.to_probe.pop_front()
        {
            let transport = self.transport.clone();
            self.tasks.probes.spawn(async move {
                let probed = timeout(DIAL_LIMIT, transport.probe(&address)).await;
                (address, probed.unwrap_or(Err(DialError::Timeout(DIAL_LIMIT))))
            });
        }
    }

    fn handle_probe(&mut self, done: Joined<(PeerAddress, Result<(), DialError>)>) {
        match done {
            Ok((address, Ok(()))) => {
                debug!(%address, "is where it says");
                self.probes_proven += 1;
                self.peers.handle_probed(now(), &address);
            }
            Ok((address, Err(error))) => {
                debug!(%address, %error, "is not where it says");
                self.probes_failed += 1;
            }
            Err(error) => warn!(%error, "a probe ended badly"),
        }
        self.start_probes();
    }

    // Connections.

    fn number(&mut self) -> ConnectionId {
        self.last_connection += 1;
        ConnectionId(self.last_connection)
    }

    /// Takes a proven connection up, if the peer manager did.
    fn take(&mut self, number: ConnectionId, connection: Connection, taken: Result<(), peers::WhyNot>) {
        let peer = Arc::new(Peer::new(number.0, &connection));
        if let Err(why) = taken {
            debug!(peer = %peer.id, remote = %peer.remote, %why, "refused");
            connection.close(CloseReason::requested(format!("refused: {why}")));
            return;
        }
        let (ready, go) = oneshot::channel();
        let session = session(peer.clone(), connection.receiver, self.inlets.clone(), go);
        let session = self.tasks.sessions.spawn(async move { (number, session.await) });
        debug!(peer = %peer.id, remote = %peer.remote, direction = ?peer.direction, "connected");
        self.open.insert(number, Open { peer, session });
        self.peers.handle_ready(number);
        // Everybody hears of the peer before its first message.
        self.carry_out();
        let _ = ready.send(());
    }

    fn close(&mut self, number: ConnectionId, because: Because) {
        let Some(open) = self.open.get(&number) else { return };
        let sender = open.peer.sender.clone();
        let reason = CloseReason::requested(why(because));
        if because == Because::Misbehaved {
            sender.close(reason);
        } else {
            self.tasks.farewells.spawn(async move {
                if timeout(FLUSH, sender.flush_and_close(reason.clone())).await.is_err() {
                    sender.close(reason);
                }
            });
        }
    }

    fn handle_session_end(&mut self, ended: Joined<(ConnectionId, CloseReason)>) {
        let (number, reason) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let found = self.open.iter().find(|(_, open)| open.session.id() == error.id());
                let Some((number, open)) = found else { return };
                warn!(peer = %open.peer.id, %error, "a session ended badly");
                let reason = CloseReason::Dropped;
                open.peer.sender.close(reason.clone());
                (*number, reason)
            }
        };
        if let Some(Open { peer, .. }) = self.open.remove(&number) {
            debug!(peer = %peer.id, remote = %peer.remote, %reason, "disconnected");
        }
        self.peers.handle_closed(now(), number, reason.blame());
    }

    fn stats(&self) -> Stats {
        Stats {
            peers: self.peers.stats(),
            transport: self.transport.stats(),
            probes_proven: self.probes_proven,
            probes_failed: self.probes_failed,
            last_dial_failure: self.last_dial_failure.clone(),
        }
    }

    // The end.

    /// Writes a copy of the book, beside the router's work.
    fn save(&mut self) {
        let Some(file) = self.config.book_file.clone() else { return };
        if !self.tasks.saves.is_empty() {
            warn!(file = %file.display(), "the address book is still being written");
            return;
        }
        let snapshot = self.peers.book().snapshot();
        self.tasks.saves.spawn_blocking(move || {
            if let Err(error) = snapshot.write(&file) {
                warn!(file = %file.display(), %error, "cannot write the address book");
            }
        });
    }

    async fn shut_down(mut self, from: Sources, mut helpers: JoinSet<()>) {
        self.transport.close();
        // Streams that nobody looked at, and commands that nobody will carry out. Senders that wait are released.
        drop(from);
        helpers.shutdown().await;
        self.tasks.dials.shutdown().await;
        self.tasks.handshakes.shutdown().await;
        self.tasks.probes.shutdown().await;
        let open: Vec<_> = self.open.keys().copied().collect();
        for number in open {
            self.close(number, Because::Requested);
        }
        while self.tasks.farewells.join_next().await.is_some() {}
        // A closed connection ends its session, even one that waits for a reactor.
        while let Some(ended) = self.tasks.sessions.join_next().await {
            self.handle_session_end(ended);
            while let Some(event) = self.peers.poll_event() {
                self.publish(event);
            }
        }
        while self.tasks.saves.join_next().await.is_some() {}
        self.save();
        while self.tasks.saves.join_next().await.is_some() {}
        info!(peers = self.connected.borrow().len(), "router stopped");
    }
}

/// A session that begins when everybody has heard of its peer.
async fn session(peer: Arc<Peer>, receiver: Receiver, inlets: Inlets, go: oneshot::Receiver<()>) -> CloseReason {
    let _ = go.await;
    session::run(peer, receiver, inlets).await
}

/// What the log of a connection that we end says.
fn why(because: Because) -> &'static str {
    match because {
        Because::Evicted => "a better peer takes its place",
        Because::Replaced => "another connection with this peer takes its place",
        Because::Misbehaved => "it broke the rules",
        Because::Requested => "we are leaving",
    }
}

/// What a finished task brings.
type Joined<R> = Result<R, tokio::task::JoinError>;

/// Whose task ended badly.
fn find<K: Clone>(tasks: &HashMap<K, AbortHandle>, error: &tokio::task::JoinError) -> Option<K> {
    tasks.iter().find(|(_, task)| task.id() == error.id()).map(|(key, _)| key.clone())
}
