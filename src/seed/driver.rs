//! The loop that carries a [`Seed`]: its transport, its clock, its file.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use kadwire_wire::{
    PeerAddress,
    tendermint::pex_message::PEX_CHANNEL,
    transport::{CloseReason, Connection, DialError, HandshakeError, Incoming, Receiver, Sender, Transport},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, Id, JoinError, JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tracing::{debug, warn};

use super::{Action, Config, Errand, Seed, Status, Visit, Visited};
use crate::{
    book::Book,
    peers::ConnectionId,
    router::{listen, now},
    visit::{Trouble, ask},
};

/// Between two writes of the address book (CometBFT `dumpAddressInterval`).
const SAVE_INTERVAL: Duration = Duration::from_secs(120);

/// A peer has so long to answer a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A guest has so long to take its answer.
const FLUSH: Duration = Duration::from_secs(5);

/// Messages of one guest that are read: it has one thing to say.
const MAX_MESSAGES: usize = 16;

/// Questions of how things stand that may wait; then those who ask do.
const QUESTIONS: usize = 16;

/// Messages of guests that may wait; then guests do.
const MESSAGES: usize = 256;

/// What one chain's seed needs besides its transport.
#[derive(Debug)]
pub struct Chain {
    /// The machine's configuration.
    pub config: Config,
    /// What is known from before.
    pub book: Book,
    /// Where the book is written, every two minutes and at the end.
    pub book_file: Option<PathBuf>,
    /// How often the status is published, a thousand times a second at most.
    pub status_every: Duration,
}

/// A seed at work. Dropping it ends it without saving; [`Running::stop`] saves.
#[derive(Debug)]
pub struct Running {
    stop: oneshot::Sender<()>,
    status: watch::Receiver<Status>,
    handle: Handle,
    task: JoinHandle<()>,
}

/// Asks a running seed; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    questions: mpsc::Sender<oneshot::Sender<Status>>,
}

impl Handle {
    /// How things stand now; `None` when the seed has ended.
    pub async fn status(&self) -> Option<Status> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(reply).await.ok()?;
        answer.await.ok()
    }
}

impl Running {
    /// A handle to ask it by.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// How things stand, as last published.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Ends it: the book is written when this returns.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            warn!(%error, "the seed ended badly");
        }
    }
}

/// Starts a seed on `transport`, whose channels must include [`channel`](crate::visit::channel).
pub fn start<T: Transport>(transport: T, chain: Chain) -> Running {
    let (stop, stopped) = oneshot::channel();
    let (publish, status) = watch::channel(Status::default());
    let (questions, asked) = mpsc::channel(QUESTIONS);
    let Chain { config, book, book_file, status_every } = chain;
    let driver = Driver {
        seed: Seed::new(now(), config, book),
        transport: Arc::new(transport),
        book_file,
        saved: None,
        last_number: 0,
        guests: HashMap::new(),
        visits: Tasks::default(),
        handshakes: Tasks::default(),
        half_open: HashMap::new(),
        stays: Tasks::default(),
        farewells: JoinSet::new(),
        saves: JoinSet::new(),
    };
    let task = tokio::spawn(driver.run(stopped, asked, publish, status_every));
    Running { stop, status, handle: Handle { questions }, task }
}

/// Tasks that each stand for something, also when they end badly.
struct Tasks<K, R> {
    set: JoinSet<R>,
    names: HashMap<Id, K>,
}

impl<K, R> Default for Tasks<K, R> {
    fn default() -> Self {
        Tasks { set: JoinSet::new(), names: HashMap::new() }
    }
}

impl<K, R: Send + 'static> Tasks<K, R> {
    fn spawn(&mut self, name: K, task: impl Future<Output = R> + Send + 'static) -> AbortHandle {
        let handle = self.set.spawn(task);
        self.names.insert(handle.id(), name);
        handle
    }

    /// The next that is over. Cancel-safe; `None` if there is no task.
    async fn next(&mut self) -> Option<(K, Result<R, JoinError>)> {
        let (id, result) = match self.set.join_next_with_id().await? {
            Ok((id, result)) => (id, Ok(result)),
            Err(error) => (error.id(), Err(error)),
        };
        Some((self.names.remove(&id)?, result))
    }
}

struct Driver<T> {
    seed: Seed,
    transport: Arc<T>,
    book_file: Option<PathBuf>,
    /// The book's changes when it was last written.
    saved: Option<u64>,
    last_number: u64,
    guests: HashMap<ConnectionId, Sender>,
    visits: Tasks<PeerAddress, Visited>,
    handshakes: Tasks<ConnectionId, Result<Connection, HandshakeError>>,
    half_open: HashMap<ConnectionId, AbortHandle>,
    /// One for each guest, until its connection is over.
    stays: Tasks<ConnectionId, ()>,
    farewells: JoinSet<()>,
    saves: JoinSet<()>,
}

impl<T: Transport> Driver<T> {
    async fn run(
        mut self,
        mut stopped: oneshot::Receiver<()>,
        mut asked: mpsc::Receiver<oneshot::Sender<Status>>,
        publish: watch::Sender<Status>,
        status_every: Duration,
    ) {
        let (incoming, mut knocks) = mpsc::channel(listen::BACKLOG);
        let (said, mut messages) = mpsc::channel(MESSAGES);
        let mut listening = JoinSet::new();
        listening.spawn(listen::run(self.transport.clone(), incoming));
        let mut save = interval(SAVE_INTERVAL);
        let mut report = interval(status_every.max(Duration::from_millis(1)));
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        report.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // The first tick is at once, and there is nothing to save or to say yet.
        save.tick().await;
        report.tick().await;
        loop {
            self.carry_out();
            let timeout = Instant::from_std(self.seed.poll_timeout());
            // Local work before new work from a remote.
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                Some((address, visited)) = self.visits.next() => {
                    let visited = visited.unwrap_or_else(|error| {
                        warn!(%address, %error, "a visit ended badly");
                        Visited::Failed(Trouble::Closed)
                    });
                    self.seed.handle_visited(now(), &address, visited);
                }
                Some((number, shaken)) = self.handshakes.next() => self.handle_handshake(number, shaken, &said),
                Some((number, _)) = self.stays.next() => {
                    self.guests.remove(&number);
                    self.seed.handle_closed(now(), number);
                }
                Some(_) = self.farewells.join_next() => {}
                Some(_) = self.saves.join_next() => {}
                () = sleep_until(timeout) => self.seed.handle_timeout(now()),
                _ = save.tick() => self.save(),
                _ = report.tick() => drop(publish.send_replace(self.seed.status())),
                Some(reply) = asked.recv() => drop(reply.send(self.seed.status())),
                Some((number, message)) = messages.recv() => self.handle_message(number, &message),
                Some(incoming) = knocks.recv() => self.handle_incoming(incoming),
            }
        }
        self.transport.close();
        publish.send_replace(self.seed.status());
        for guest in self.guests.values() {
            guest.close(CloseReason::requested("we are leaving"));
        }
        while self.saves.join_next().await.is_some() {}
        self.saved = None;
        self.save();
        while self.saves.join_next().await.is_some() {}
    }

    /// Does what the machine asks for.
    fn carry_out(&mut self) {
        while let Some(visit) = self.seed.poll_visit(now()) {
            let transport = self.transport.clone();
            self.visits.spawn(visit.address.clone(), async move { call(&*transport, &visit).await });
        }
        while let Some(action) = self.seed.poll_action() {
            match action {
                Action::Abort(number) => {
                    if let Some(handshake) = self.half_open.remove(&number) {
                        handshake.abort();
                    }
                }
                Action::HangUp(number, why) => {
                    if let Some(guest) = self.guests.get(&number) {
                        debug!(%number, %why, "hung up");
                        guest.close(CloseReason::requested(why.to_string()));
                    }
                }
                Action::Answer(number, answer) => {
                    if let Some(guest) = self.guests.get(&number) {
                        debug!(%number, "answered");
                        self.farewells.spawn(farewell(guest.clone(), answer.encode().into()));
                    }
                }
            }
        }
    }

    // Guests.

    fn handle_incoming(&mut self, incoming: Incoming) {
        self.last_number += 1;
        let (number, remote) = (ConnectionId(self.last_number), incoming.remote());
        if let Err(why) = self.seed.handle_incoming(now(), number, remote.ip()) {
            debug!(%remote, %why, "refused before the handshake");
            return;
        }
        self.half_open.insert(number, self.handshakes.spawn(number, incoming.handshake()));
    }

    fn handle_handshake(
        &mut self,
        number: ConnectionId,
        shaken: Result<Result<Connection, HandshakeError>, JoinError>,
        said: &mpsc::Sender<(ConnectionId, Bytes)>,
    ) {
        self.half_open.remove(&number);
        // One that was cut, or ended badly, is as good as closed.
        match shaken.unwrap_or(Err(HandshakeError::Closed)) {
            Err(error) => {
                debug!(%number, %error, "a guest's handshake failed");
                self.seed.handle_not_accepted(number, &error);
            }
            Ok(connection) => {
                let remote = connection.remote.socket_addr();
                // A seed's wire is Tendermint's.
                let Some(node_info) = connection.info.tendermint() else {
                    return self.seed.handle_not_accepted(number, &HandshakeError::Closed);
                };
                if let Err(why) = self.seed.handle_accepted(now(), number, remote, node_info) {
                    debug!(peer = %connection.peer, %why, "refused");
                    connection.close(CloseReason::requested(format!("refused: {why}")));
                    return;
                }
                debug!(%number, peer = %connection.peer, remote = %connection.remote, "guest");
                self.guests.insert(number, connection.sender);
                self.stays.spawn(number, stay(number, connection.receiver, said.clone()));
            }
        }
    }

    fn handle_message(&mut self, number: ConnectionId, message: &[u8]) {
        self.seed.handle_message(now(), number, message);
    }

    // The book.

    /// Writes a copy of the book, beside this task's work.
    fn save(&mut self) {
        let Some(file) = self.book_file.clone() else { return };
        let changes = self.seed.book().changes();
        if self.saved == Some(changes) || !self.saves.is_empty() {
            return;
        }
        self.saved = Some(changes);
        let snapshot = self.seed.book().snapshot();
        self.saves.spawn_blocking(move || {
            if let Err(error) = snapshot.write(&file) {
                warn!(file = %file.display(), %error, "cannot write the address book");
            }
        });
    }
}

async fn call<T: Transport>(transport: &T, visit: &Visit) -> Visited {
    match visited(transport, visit).await {
        Ok(visited) => visited,
        Err(error) => Visited::Failed(Trouble::from(&error)),
    }
}

async fn visited<T: Transport>(transport: &T, Visit { address, errand }: &Visit) -> Result<Visited, DialError> {
    if *errand == Errand::Prove {
        transport.probe(address).await?;
        return Ok(Visited::Reached { remote: address.socket_addr(), answer: None });
    }
    let mut connection = transport.dial(address).await?;
    let remote = connection.remote.socket_addr();
    let answer = match errand {
        Errand::Ask => Some(ask(&mut connection, ANSWER_TIMEOUT).await),
        Errand::Look | Errand::Prove => None,
    };
    connection.close(CloseReason::requested("visited"));
    Ok(Visited::Reached { remote, answer })
}

/// Sends the answer and hangs up when it is written, or after a while.
async fn farewell(guest: Sender, answer: Bytes) {
    let reason = CloseReason::requested("answered");
    let written = async {
        if guest.send(PEX_CHANNEL, answer).await.is_ok() {
            guest.flush_and_close(reason.clone()).await;
        }
    };
    if timeout(FLUSH, written).await.is_err() {
        guest.close(reason);
    }
}

/// Passes on what a guest says, until its connection is over.
async fn stay(number: ConnectionId, mut receiver: Receiver, said: mpsc::Sender<(ConnectionId, Bytes)>) {
    let mut messages = 0;
    while let Some((channel, message)) = receiver.recv().await {
        messages += 1;
        if messages > MAX_MESSAGES {
            debug!(%number, "a guest that does not stop talking");
            return;
        }
        if channel == PEX_CHANNEL && said.send((number, message)).await.is_err() {
            return;
        }
    }
}
