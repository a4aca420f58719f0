//! The loop that owns the machine, the socket and the clock.
//!
//! Each round takes a bounded share of everything that is ready — commands, what is due, results of the workers, datagrams —
//! and then hands out what the machine wants sent and told. Local work comes before new work from remotes.

mod commands;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, rngs::StdRng};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub(super) use self::commands::{Command, Question};

use self::commands::{Finder, Waiter};
use super::{
    BindError, Config, DiscoveryEvent, UdpStats,
    inlet::Inlet,
    local_record::{Publisher, as_node},
    outlet::Outlet,
    pong_queue::PongQueue,
    signers::Signers,
    socket,
    store::Store,
    workers::{Class, Done, Received, Workers},
};
use crate::{
    NodeRecord, Now,
    discv4::{
        Discv4, Event, LocalContent, LookupId, RequestId,
        message::Kind,
        packet::{MAX_DATAGRAM, Unverified},
    },
    node_db::StoredNode,
    table::Seed,
};

/// Commands taken in one round.
const COMMANDS_PER_ROUND: usize = 32;

/// Datagrams read in one round.
const DATAGRAMS_PER_ROUND: usize = 128;

/// The longest that datagrams wait because the workers have enough to do, or because many came to nothing.
const REST: Duration = Duration::from_millis(2);

/// Datagrams that come to nothing within one [`REST`] from which on the driver rests for as long: a flood of 4,000 a second.
/// Reading it in handfuls costs half, and delays an honest datagram less than any network does.
const FLOOD: usize = 8;

pub(super) struct Driver {
    machine: Discv4,
    inlet: Inlet,
    outlet: Arc<Outlet>,
    workers: Workers,
    commands: mpsc::Receiver<Command>,
    events: broadcast::Sender<DiscoveryEvent>,
    local_record: watch::Sender<NodeRecord>,
    publisher: Publisher,
    store: Store,
    requests: BTreeMap<RequestId, Waiter>,
    lookups: BTreeMap<LookupId, Finder>,
    pongs: PongQueue,
    signers: Signers,
    /// Datagrams that came to nothing, and until when they are counted together.
    useless: usize,
    useless_until: Instant,
    stats: UdpStats,
}

/// Randomness for what has no seed in its configuration.
#[expect(clippy::disallowed_methods, reason = "driver: the machine's seed comes from the system")]
pub(super) fn random() -> StdRng {
    rand::make_rng()
}

impl Driver {
    /// Opens everything. The driver does nothing until it runs.
    pub(super) async fn new(
        config: Config,
        commands: mpsc::Receiver<Command>,
        events: broadcast::Sender<DiscoveryEvent>,
    ) -> Result<(Self, watch::Receiver<NodeRecord>, SocketAddr), BindError> {
        let now = Now::read();
        let in_use = |source| BindError::Socket { address: config.listen, source };
        let socket = socket::bind(config.listen).map_err(in_use)?;
        let bound = socket.local_addr().map_err(in_use)?;
        let outlet = Arc::new(socket.try_clone().and_then(Outlet::new).map_err(in_use)?);
        let inlet = Inlet::new(socket).map_err(in_use)?;

        let (store, remembered) = Store::open(&config, now).await?;
        let seed = |StoredNode { record, last_pong, find_failures, inbound, .. }| Seed {
            record,
            last_pong,
            find_failures,
            inbound,
        };
        let seeds = remembered.seeds.into_iter().map(seed);
        let mut seed = [0; 32];
        random().fill_bytes(&mut seed);
        let mut machine =
            Discv4::new(now, config.machine(bound, seeds.collect(), remembered.local_record.as_ref()), seed);
        let mut publisher = Publisher::new(config.key.clone(), config.pairs.clone(), remembered.local_record);
        let record = publisher.publish(machine.local_content(), now.wall)?;
        machine.set_local_record(record.clone());
        store.local_record(&record);
        let (local_record, published) = watch::channel(as_node(&record)?);

        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers =
            Workers::start(config.workers.unwrap_or(cores), &config.key, &outlet).map_err(BindError::Thread)?;
        let driver = Self {
            machine,
            inlet,
            outlet,
            workers,
            commands,
            events,
            local_record,
            publisher,
            store,
            requests: BTreeMap::new(),
            lookups: BTreeMap::new(),
            pongs: PongQueue::default(),
            signers: Signers::default(),
            useless: 0,
            useless_until: now.monotonic,
            stats: UdpStats::default(),
        };
        Ok((driver, published, bound))
    }

    /// Runs until it is closed or nobody has a handle any more.
    pub(super) async fn run(mut self) {
        let closed_by = loop {
            let is_busy = match self.round(Now::read()) {
                Round::Busy => true,
                Round::Idle => false,
                Round::Close(reply) => break reply,
            };
            if is_busy {
                tokio::task::yield_now().await;
                continue;
            }
            let timeout = self.await_what();
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => if let Some(reply) = self.command(Now::read(), command) { break Some(reply) },
                    None => break None,
                },
                () = tokio::time::sleep_until(timeout.into()) => {}
                () = self.workers.rings() => {}
                () = self.inlet.readable() => {}
            }
        };
        self.close(closed_by).await;
    }

    /// Whether datagrams are to wake us, and until when to wait for whatever comes.
    fn await_what(&mut self) -> Instant {
        let sweep = self.store.poll_timeout();
        let timeout = self.machine.poll_timeout().map_or(sweep, |due| due.min(sweep));
        let (now, is_flooded) = (Now::read(), self.useless >= FLOOD);
        if self.useless_until <= now.monotonic {
            (self.useless, self.useless_until) = (0, now.after(REST).monotonic);
        }
        if !is_flooded && !self.workers.are_busy() {
            match self.inlet.watch() {
                Ok(()) => return timeout,
                // Out of file descriptors, most likely. It is read every few milliseconds until it can be: no place for warnings.
                Err(error) => {
                    self.stats.receive_errors = self.stats.receive_errors.saturating_add(1);
                    tracing::debug!(%error, "the socket cannot be watched");
                }
            }
        }
        self.inlet.rest();
        timeout.min(self.useless_until)
    }

    /// A bounded share of everything that is ready.
    fn round(&mut self, now: Now) -> Round {
        let mut is_busy = false;
        for taken in 1..=COMMANDS_PER_ROUND {
            match self.commands.try_recv() {
                Ok(command) => {
                    if let Some(reply) = self.command(now, command) {
                        return Round::Close(Some(reply));
                    }
                }
                Err(mpsc::error::TryRecvError::Disconnected) => return Round::Close(None),
                Err(mpsc::error::TryRecvError::Empty) => break,
            }
            is_busy |= taken == COMMANDS_PER_ROUND;
        }
        if self.machine.poll_timeout().is_some_and(|due| due <= now.monotonic) {
            self.machine.handle_timeout(now);
        }
        // Bounded by the jobs that were queued.
        for done in self.workers.results() {
            self.result(now, done);
        }
        is_busy |= self.receive(now);
        self.hand_out(now);
        self.store.handle_timeout(now);
        if is_busy { Round::Busy } else { Round::Idle }
    }

    /// Reads datagrams; `true` if there may be more.
    fn receive(&mut self, now: Now) -> bool {
        // One byte more than allowed shows that there was more.
        let mut buffer = [0; MAX_DATAGRAM + 1];
        for _ in 0..DATAGRAMS_PER_ROUND {
            match self.inlet.try_recv_from(&mut buffer) {
                Ok((length, from)) => {
                    self.outlet.heard(from);
                    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                    self.datagram(now, from, buffer.get(..length).unwrap_or_default());
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    // Some systems report here that an earlier datagram found no listener, or that the interface is gone. It may
                    // be so again at once: then it is asked every few milliseconds.
                    self.stats.receive_errors = self.stats.receive_errors.saturating_add(1);
                    self.useless = self.useless.saturating_add(FLOOD);
                    tracing::debug!(%error, "receive failed");
                    return false;
                }
            }
        }
        true
    }

    fn datagram(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) {
        self.stats.received = self.stats.received.saturating_add(1);
        self.stats.received_bytes = self.stats.received_bytes.saturating_add(datagram.len() as u64);
        self.useless = self.useless.saturating_add(1);
        match Unverified::parse(datagram) {
            Ok(packet) => {
                let padded = u64::from(packet.padded_ports());
                self.stats.padded_ports = self.stats.padded_ports.saturating_add(padded);
                if let Some(packet) = self.pongs.hold(from, packet) {
                    self.admit(now, from, packet);
                }
            }
            Err(error) => {
                tracing::trace!(%from, %error, "not a packet");
                self.stats.malformed.count(&error);
            }
        }
    }

    /// The machine's cheap checks, then the queue for the dear one.
    fn admit(&mut self, now: Now, from: SocketAddr, packet: Unverified) {
        let header = *packet.header();
        if let Err(reason) = self.machine.admit(now, from, &header) {
            tracing::trace!(%from, kind = %header.kind, %reason, "refused");
            return;
        }
        // All other kinds are admitted only from those who are known, or in answer to us.
        let is_stranger = header.kind == Kind::Ping && !self.machine.is_endpoint_proven(now, from);
        let class = if is_stranger { Class::Stranger } else { Class::Known };
        let likely = self.signers.likely(from);
        if self.workers.recover(class, Received { from, packet, likely }) {
            self.useless = self.useless.saturating_sub(1);
            self.pongs.queued(from, header.kind);
            return;
        }
        let dropped = if is_stranger { &mut self.stats.dropped_strangers } else { &mut self.stats.dropped_known };
        *dropped = dropped.saturating_add(1);
    }

    fn result(&mut self, now: Now, done: Done) {
        match done {
            Done::Recovered { from, kind, packet } => {
                match packet {
                    Ok(packet) => {
                        // Nobody who floods us from false addresses makes us forget the others.
                        if self.machine.is_endpoint_proven(now, from) {
                            self.signers.learn(from, packet.signer());
                        }
                        if let Err(reason) = self.machine.handle_packet(now, from, packet) {
                            tracing::trace!(%from, %kind, %reason, "dropped");
                        }
                    }
                    Err(error) => self.stats.malformed.count(&error),
                }
                for packet in self.pongs.recovered(from, kind) {
                    self.admit(now, from, packet);
                }
            }
            Done::Request { to, request, sealed } => {
                self.machine.handle_sealed(request, sealed.hash);
                self.outlet.send(to, &sealed.datagram);
            }
        }
    }

    /// Hands out what the machine wants sent and told.
    fn hand_out(&mut self, now: Now) {
        while let Some(transmit) = self.machine.poll_transmit() {
            if !self.workers.seal(transmit) {
                self.stats.dropped_outgoing = self.stats.dropped_outgoing.saturating_add(1);
            }
        }
        while let Some(event) = self.machine.poll_event() {
            match event {
                // Nobody may be listening.
                Event::NodeAdded(node) => _ = self.events.send(DiscoveryEvent::NodeAdded(node)),
                Event::NodeRemoved(node) => _ = self.events.send(DiscoveryEvent::NodeRemoved(node)),
                Event::RequestDone { request, outcome } => {
                    self.requests.remove(&request).into_iter().for_each(|waiter| _ = waiter.send(outcome.clone()));
                }
                Event::LookupDone { lookup, closest } => {
                    self.lookups.remove(&lookup).into_iter().for_each(|waiter| _ = waiter.send(Ok(closest.clone())));
                }
                Event::FindFailures { id, ip, failures } => self.store.find_failures(id, ip, failures),
                Event::Store { record, checks, find_failures, inbound } => {
                    self.store.node(StoredNode { record, last_pong: now.wall, checks, find_failures, inbound });
                }
                Event::LocalRecordChanged(content) => self.publish(now, &content),
                Event::ClockOff { ahead } => {
                    tracing::warn!(
                        seconds_ahead = ahead,
                        "this machine's clock differs from that of most nodes: set it"
                    );
                }
            }
        }
    }

    fn publish(&mut self, now: Now, content: &LocalContent) {
        let signed = self.publisher.publish(content, now.wall).map_err(|error| error.to_string());
        let published = signed.and_then(|record| {
            let node = as_node(&record).map_err(|error| error.to_string())?;
            Ok((record, node))
        });
        match published {
            Ok((record, node)) => {
                self.store.local_record(&record);
                self.machine.set_local_record(record);
                if self.local_record.send_if_modified(|last| std::mem::replace(last, node.clone()) != node) {
                    tracing::info!(record = %node, "own record changed");
                    _ = self.events.send(DiscoveryEvent::LocalRecord(node));
                }
            }
            // The last one stays.
            Err(error) => tracing::warn!(%error, "own record cannot be published"),
        }
    }

    async fn close(self, closed_by: Option<oneshot::Sender<()>>) {
        let Self { workers, store, inlet, outlet, mut commands, requests, lookups, .. } = self;
        // Whoever waits for anything learns now that nothing will come. A sender that has its place in the queue already
        // is waited for: what it put into a dropped queue would stay there, and its answer would be awaited for ever.
        drop((requests, lookups, inlet));
        commands.close();
        while let Some(refused) = commands.recv().await {
            drop(refused);
        }
        let joined = tokio::task::spawn_blocking(move || {
            workers.join();
            store.close();
        });
        // A runtime that is being shut down does not run it: no fault of ours.
        if joined.await.is_err_and(|error| error.is_panic()) {
            tracing::error!("discovery did not close cleanly");
        }
        drop(outlet);
        tracing::info!("discovery stopped");
        closed_by.into_iter().for_each(|reply| _ = reply.send(()));
    }
}

enum Round {
    /// Something was left for the next round.
    Busy,
    Idle,
    Close(Option<oneshot::Sender<()>>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SecretKey, node_db::NodeDb};

    fn key(number: u8) -> SecretKey {
        SecretKey::from_bytes(&[number; 32]).unwrap()
    }

    /// With the sender that keeps it open.
    async fn driver(config: Config) -> (Driver, mpsc::Sender<Command>) {
        let (commands, queue) = mpsc::channel(1);
        (Driver::new(config, queue, broadcast::channel(1).0).await.unwrap().0, commands)
    }

    /// A socket on which each read is an error, as long as there are any: what it sends finds no listener.
    fn refused() -> std::net::UdpSocket {
        let bind = || std::net::UdpSocket::bind("127.220.3.1:0").unwrap();
        let (socket, closed) = (bind(), bind().local_addr().unwrap());
        socket.connect(closed).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// An interface that is down, a filter that answers for the other side: the loop must not spin on it, nor wait for ever.
    #[tokio::test]
    async fn a_socket_that_fails_is_read_again_after_a_rest() {
        let (mut driver, _commands) = driver(Config::new(key(1), ([127, 220, 3, 2], 0).into())).await;
        let (broken, working) = (refused(), driver.inlet);
        driver.inlet = Inlet::new(broken.try_clone().unwrap()).unwrap();
        driver.inlet.rest(); // the runtime wakes nobody for an error
        for errors in 1..=20 {
            broken.send(b"nobody hears this").unwrap();
            // Once the system has brought the answer.
            let refusal = async {
                while driver.stats.receive_errors < errors {
                    assert!(!driver.receive(Now::read()), "there is more");
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), refusal).await.expect("no error");
            assert_eq!(driver.stats.receive_errors, errors);
            assert!(driver.await_what() <= Now::read().after(REST).monotonic);
            tokio::select! {
                biased;
                () = driver.inlet.readable() => panic!("woken from a rest"),
                () = tokio::task::yield_now() => {}
            }
        }
        driver.inlet = working;
        driver.close(None).await;
    }

    /// The schedule is the store's; that the loop keeps it shows here.
    #[tokio::test]
    async fn a_round_after_an_hour_sweeps_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let (path, start) = (folder.path().join("nodes.db"), Now::read());
        let hour = Duration::from_secs(60 * 60);
        let node = |number, last_pong| {
            let record = NodeRecord::new(*key(number).public(), [127, 220, 2, number].into(), 9, 0).unwrap();
            StoredNode { record, last_pong, checks: 6, find_failures: 0, inbound: false }
        };
        for (later, left) in [(hour / 2, 2), (hour + Duration::from_secs(1), 1)] {
            let (db, _) = NodeDb::open(&path, key(1).public().node_id(), start.wall).unwrap();
            db.store(node(2, start.wall - 24 * hour));
            db.store(node(3, start.wall));
            db.close();
            let config = Config { node_db: Some(path.clone()), ..Config::new(key(1), ([127, 220, 2, 1], 0).into()) };
            let (mut driver, _commands) = driver(config).await;
            assert!(driver.await_what() <= start.after(hour + Duration::from_secs(1)).monotonic);
            driver.round(Now::read().after(later));
            driver.close(None).await;
            let (db, remembered) = NodeDb::open(&path, key(1).public().node_id(), start.wall).unwrap();
            db.close();
            assert_eq!(remembered.seeds.len(), left, "after {later:?}");
        }
    }
}
