//! The router's task: the loop that owns the [`PeerManager`] and carries out what it decides.

mod accepting;
mod connections;
mod dialing;
mod farewell;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use kadwire_wire::{
    address::{PeerAddress, PeerId},
    transport::{CloseReason, DialError, Incoming, Transport},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{debug, info, warn};

pub use self::dialing::DIAL_LIMIT;

use self::{
    accepting::{Accepted, HalfOpen, Identified},
    connections::Open,
    dialing::Dialed,
};
use super::{
    Config,
    connected::{PeerEvent, PeerMap},
    discover::Resolver,
    events::{self, Teller},
    filter::Filters,
    handle::{Command, DialFailure, Stats},
    now,
    session::Serve,
};
use crate::{
    anchors,
    candidate::Candidate,
    peers::{Action, Because, ConnectionId, Event, PeerManager},
};

/// Between two writes of the address book (CometBFT `dumpAddressInterval`) and of the anchors.
const SAVE_INTERVAL: Duration = Duration::from_secs(120);

/// Between two feelers (Bitcoin Core, `FEELER_INTERVAL`).
const FEELER_INTERVAL: Duration = Duration::from_secs(120);

/// Handshakes whose peer is known and that may wait for the router's word; more wait for room.
const IDENTIFIED: usize = 16;

/// Where the router's work comes from, besides its own tasks.
pub(super) struct Sources {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) incoming: mpsc::Receiver<Incoming>,
    pub(super) candidates: mpsc::Receiver<Candidate>,
    pub(super) stopped: oneshot::Receiver<()>,
}

/// Whom the router tells what it does.
pub(super) struct Outlets {
    /// Who is connected.
    pub(super) connected: watch::Sender<PeerMap>,
    /// Who came and went, each one.
    pub(super) teller: Teller,
    /// How many candidates are wanted.
    pub(super) wanted: watch::Sender<usize>,
}

/// The tasks that the router waits for, by what they bring. The peer manager bounds each kind.
#[derive(Default)]
struct Tasks {
    dials: JoinSet<Dialed>,
    handshakes: JoinSet<Accepted>,
    probes: JoinSet<(PeerAddress, Result<(), DialError>)>,
    searches: JoinSet<(PeerId, Option<PeerAddress>)>,
    sessions: JoinSet<(ConnectionId, CloseReason)>,
    /// Connections that write their last messages.
    farewells: JoinSet<()>,
    saves: JoinSet<()>,
}

pub(super) struct Router<T> {
    config: Config,
    transport: Arc<T>,
    peers: PeerManager,
    serve: Serve,
    filters: Arc<Filters>,
    resolver: Option<Resolver>,
    outlets: Outlets,
    last_connection: u64,
    /// Connections that the peer manager has taken, until their sessions end.
    open: BTreeMap<ConnectionId, Open>,
    dialing: HashMap<PeerAddress, AbortHandle>,
    half_open: HashMap<ConnectionId, HalfOpen>,
    /// Where handshakes ask on the way, and what they ask.
    checkpoint: mpsc::Sender<Identified>,
    identified: mpsc::Receiver<Identified>,
    to_probe: VecDeque<PeerAddress>,
    probes_proven: u64,
    probes_failed: u64,
    last_dial_failure: Option<DialFailure>,
    stopping: bool,
    tasks: Tasks,
}

impl<T: Transport> Router<T> {
    pub(super) fn new(
        config: Config,
        transport: Arc<T>,
        peers: PeerManager,
        serve: Serve,
        filters: Filters,
        resolver: Option<Resolver>,
        outlets: Outlets,
    ) -> Self {
        let (checkpoint, identified) = mpsc::channel(IDENTIFIED);
        Router {
            config,
            transport,
            peers,
            serve,
            filters: Arc::new(filters),
            resolver,
            outlets,
            last_connection: 0,
            open: BTreeMap::new(),
            dialing: HashMap::new(),
            half_open: HashMap::new(),
            checkpoint,
            identified,
            to_probe: VecDeque::new(),
            probes_proven: 0,
            probes_failed: 0,
            last_dial_failure: None,
            stopping: false,
            tasks: Tasks::default(),
        }
    }

    pub(super) async fn run(mut self, mut from: Sources, helpers: JoinSet<()>) {
        info!(local = %self.transport.local(), "listening for peers");
        let mut save = interval(SAVE_INTERVAL);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, and there is nothing to save yet.
        save.tick().await;
        let mut feel = interval(FEELER_INTERVAL);
        feel.set_missed_tick_behavior(MissedTickBehavior::Delay);
        feel.tick().await;
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
                Some(identified) = self.identified.recv() => self.handle_identified(identified),
                Some(done) = self.tasks.probes.join_next() => self.handle_probe(done),
                Some(Ok((peer, found))) = self.tasks.searches.join_next() => {
                    self.peers.handle_resolved(now(), &peer, found);
                }
                Some(_) = self.tasks.farewells.join_next() => {}
                Some(_) = self.tasks.saves.join_next() => {}
                () = sleep_until(timeout.unwrap_or_else(Instant::now)), if timeout.is_some() => {
                    self.peers.handle_timeout(now());
                }
                _ = save.tick() => self.save(),
                _ = feel.tick() => self.feel(),
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
                Action::Probe(address) => self.probe(address),
                Action::Abort(connection) => self.abort(connection),
                // Nobody to ask.
                Action::Resolve(peer) => self.search(peer),
            }
        }
        while let Some(event) = self.peers.poll_event() {
            self.publish(event);
        }
        let wanted = self.peers.wanted();
        self.outlets.wanted.send_if_modified(|value| std::mem::replace(value, wanted) != wanted);
    }

    fn publish(&mut self, event: Event) {
        let (mut came, mut went) = (None, None);
        self.outlets.connected.send_modify(|connected| {
            let connected = Arc::make_mut(connected);
            match event {
                Event::Up { connection, .. } => {
                    if let Some(open) = self.open.get(&connection) {
                        came = Some(open.peer.clone());
                        went = connected.insert(open.peer.id, open.peer.clone());
                    }
                }
                // The connection that replaced it may be there already.
                Event::Down { peer, connection } => {
                    if connected.get(&peer).is_some_and(|there| there.number == connection.0) {
                        went = connected.remove(&peer);
                    }
                }
            }
        });
        if let Some(PeerEvent::Down(peer, reason)) = went.map(PeerEvent::down) {
            self.outlets.teller.tell(events::Event::Dropped(peer, reason));
        }
        if let Some(peer) = came {
            self.outlets.teller.tell(events::Event::Added(peer));
        }
        // Everybody hears of the peer before its first message.
        if let Event::Up { connection, .. } = event
            && let Some(begin) = self.open.get_mut(&connection).and_then(|open| open.begin.take())
        {
            let _ = begin.send(());
        }
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
            Command::Advertise(to, reply) => drop(reply.send(self.peers.advertise(&to))),
            Command::WantsAddresses(reply) => drop(reply.send(self.peers.book().need_more())),
            Command::Dial(address, reply) => drop(reply.send(self.peers.dial(now, address))),
            Command::RemovePersistent(peer) => self.peers.remove_persistent(now, &peer),
            Command::AddTrusted(peer) => self.peers.add_unconditional(now, peer),
            Command::RemoveTrusted(peer) => self.peers.remove_unconditional(now, &peer),
            Command::Roles(peers, reply) => {
                drop(reply.send(peers.iter().map(|peer| self.peers.role(peer)).collect()));
            }
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

    fn stats(&self) -> Stats {
        Stats {
            peers: self.peers.stats(),
            dials: self.peers.dial_stats(),
            transport: self.transport.stats(),
            probes_proven: self.probes_proven,
            probes_failed: self.probes_failed,
            last_dial_failure: self.last_dial_failure.clone(),
        }
    }

    // The end.

    /// Writes a copy of the book and of the anchors, beside the router's work.
    fn save(&mut self) {
        if !self.tasks.saves.is_empty() {
            warn!("the address book and the anchors are still being written");
            return;
        }
        if let Some(file) = self.config.book_file.clone() {
            let snapshot = self.peers.book().snapshot();
            self.tasks.saves.spawn_blocking(move || {
                if let Err(error) = snapshot.write(&file) {
                    warn!(file = %file.display(), %error, "cannot write the address book");
                }
            });
        }
        if let Some(file) = self.config.anchors_file.clone() {
            let anchors = self.peers.choose_anchors(now());
            self.tasks.saves.spawn_blocking(move || {
                if let Err(error) = anchors::file::write(&file, &anchors) {
                    warn!(file = %file.display(), %error, "cannot write the anchors");
                }
            });
        }
    }

    async fn shut_down(mut self, from: Sources, mut helpers: JoinSet<()>) {
        self.stopping = true;
        // While everybody is still there.
        self.peers.choose_anchors(now());
        self.transport.close();
        // Streams that nobody looked at, and commands that nobody will carry out. Senders that wait are released.
        drop(from);
        helpers.shutdown().await;
        self.tasks.dials.shutdown().await;
        self.tasks.handshakes.shutdown().await;
        self.tasks.probes.shutdown().await;
        self.tasks.searches.shutdown().await;
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
        info!(peers = self.outlets.connected.borrow().len(), "router stopped");
    }
}

/// What a finished task brings.
type Joined<R> = Result<R, tokio::task::JoinError>;
