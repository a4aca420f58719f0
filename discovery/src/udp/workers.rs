//! Signatures on all cores: threads that recover signers and sign what is sent, behind one bounded queue.
//!
//! ECDSA is nearly all of discovery's cost. The task that owns the machine only parses, decides and queues; it never waits
//! for a worker. A full class drops what comes next, so that a flood of strangers costs strangers their answers and nobody
//! else. The workers send replies themselves; what must be remembered (our own requests) goes back to the machine first.
//!
//! Packets to one address are signed by one worker in the order given, since a question must not overtake the pong that
//! allows it. Received packets are taken by whoever is free.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use tokio::sync::Notify;

use super::{outlet::Outlet, signed_answers::SignedAnswers};
use crate::{
    SecretKey,
    discv4::{
        RequestId, Transmit,
        message::{Kind, Message},
        packet::{Packet, PacketError, Sealed, Signer, Unverified, encode},
    },
};

/// Whose received packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It answers us, or its sender has proven its endpoint: taken first.
    Known,
    /// Anybody else's; most of them pings, in a flood nearly all of them false.
    Stranger,
}

/// A packet whose signer is to be found.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) from: SocketAddr,
    pub(super) packet: Unverified,
    pub(super) likely: Option<Signer>,
}

/// Packets to one worker's share of addresses that may wait to be signed.
const MAX_OUTGOING: usize = 4096;

/// Packets of known nodes that may wait: 40 ms of work on two cores.
const MAX_KNOWN: usize = 1024;

/// Questions of known nodes at one address that may wait. Who has proven its endpoint is not limited otherwise; this keeps
/// three quarters of the queue for the others, whatever one address sends.
const MAX_QUESTIONS_OF_ADDRESS: usize = MAX_KNOWN / 4;

/// The same of all its packets. Who owes us an answer can send it any number of times, and so can whoever writes its address:
/// which of them is true shows only when their signers are found.
const MAX_OF_ADDRESS: usize = MAX_KNOWN / 2;

/// Packets of strangers that may wait: 10 ms of work on two cores. More would only make every answer later.
const MAX_STRANGERS: usize = 256;

/// After so many packets a stranger's goes first, so that busy acquaintances do not shut newcomers out.
const STRANGER_EVERY: u64 = 16;

/// Jobs for each worker that are enough for the driver to rest: 0.5 to 0.8 ms of work.
const ENOUGH: usize = 8;

/// Jobs for each worker below which the driver is woken for the results there are: waking it costs more than all that it
/// does with a result.
const FEW: usize = 2;

/// Received packets that a worker takes at once if there are enough for all: of what can be shared, four together save three quarters, and
/// more would only make each wait longer.
const AT_ONCE: usize = 4;

/// Something computed.
#[derive(Debug)]
pub(super) enum Done {
    /// The signer is known, or there is none.
    Recovered { from: SocketAddr, kind: Kind, packet: Result<Packet, PacketError> },
    /// A request of ours is signed: the machine must learn its hash before it is sent.
    Request { to: SocketAddr, request: RequestId, sealed: Sealed },
}

/// The threads and their queue. Dropping it ends them.
pub(super) struct Workers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
    /// Spreads addresses over workers in a way that nobody outside can aim at.
    spread: RandomState,
}

impl Workers {
    /// Starts `count` threads, at least one.
    pub(super) fn start(count: usize, key: &SecretKey, outlet: &Arc<Outlet>) -> io::Result<Self> {
        let count = count.max(1);
        let answers = Arc::new(SignedAnswers::new());
        let mut workers = Self { queue: Arc::new(Queue::new(count)), threads: Vec::new(), spread: RandomState::new() };
        for number in 0..count {
            let worker = Worker {
                number,
                queue: workers.queue.clone(),
                key: key.clone(),
                answers: answers.clone(),
                outlet: outlet.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("kadwire-ecdsa-{number}"));
            workers.threads.push(thread.spawn(move || worker.run())?);
        }
        Ok(workers)
    }

    /// Queues a received packet; `false` if its class is full.
    pub(super) fn recover(&self, class: Class, received: Received) -> bool {
        let mut jobs = self.queue.lock();
        let has_room = jobs.put(class, received);
        if has_room {
            let idle = jobs.desks.iter_mut().position(|desk| std::mem::take(&mut desk.is_idle));
            drop(jobs);
            idle.into_iter().for_each(|number| self.queue.wake(number));
        }
        has_room
    }

    /// Queues a message to be signed, and sent if it is a reply; `false` if there are too many.
    pub(super) fn seal(&self, transmit: Transmit) -> bool {
        let mut jobs = self.queue.lock();
        let share = self.spread.hash_one(transmit.to) as usize;
        let number = share.checked_rem(jobs.desks.len()).unwrap_or(0);
        let Some(desk) = jobs.desks.get_mut(number) else { return false };
        let has_room = desk.outgoing.len() < MAX_OUTGOING;
        if has_room {
            desk.outgoing.push_back(transmit);
            let was_idle = std::mem::take(&mut desk.is_idle);
            drop(jobs);
            was_idle.then(|| self.queue.wake(number));
        }
        has_room
    }

    /// All results there are.
    pub(super) fn results(&self) -> Vec<Done> {
        std::mem::take(&mut *self.queue.lock_results())
    }

    /// Waits until there are results and the workers have few jobs left. Cancel-safe.
    pub(super) async fn rings(&self) {
        self.queue.driver.notified().await;
    }

    /// Whether the workers have so much to do that the driver may rest; it hears when that comes to an end.
    pub(super) fn are_busy(&self) -> bool {
        let jobs = self.queue.lock();
        jobs.waiting() >= jobs.desks.len().saturating_mul(ENOUGH)
    }

    /// Ends the threads, each after the job it is at, and waits for them: for a thread that may block.
    pub(super) fn join(mut self) {
        self.queue.close();
        for thread in std::mem::take(&mut self.threads) {
            if thread.join().is_err() {
                tracing::error!("a signature worker panicked");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue.close();
    }
}

struct Queue {
    jobs: Mutex<Jobs>,
    /// One for each worker: a packet to be signed is of use to one of them only.
    bells: Vec<Condvar>,
    /// What is done. Bounded by the jobs: only who takes these away brings more of those.
    results: Mutex<Vec<Done>>,
    driver: Notify,
}

struct Jobs {
    desks: Vec<Desk>,
    known: VecDeque<Received>,
    strangers: VecDeque<Received>,
    /// How many there are in `known`, by address.
    by_address: HashMap<IpAddr, usize>,
    recovered: u64,
    closed: bool,
}

/// One worker's own work.
#[derive(Default)]
struct Desk {
    outgoing: VecDeque<Transmit>,
    /// The worker waits for its bell.
    is_idle: bool,
}

enum Job {
    /// At most [`AT_ONCE`].
    Recover(Vec<Received>),
    Seal(Transmit),
}

impl Jobs {
    /// Queues a received packet; `false` if there is no room for it.
    fn put(&mut self, class: Class, received: Received) -> bool {
        match class {
            Class::Stranger if self.strangers.len() < MAX_STRANGERS => self.strangers.push_back(received),
            Class::Known if self.known.len() < MAX_KNOWN => {
                let limit = if is_question(&received.packet) { MAX_QUESTIONS_OF_ADDRESS } else { MAX_OF_ADDRESS };
                let waiting = self.by_address.entry(received.from.ip()).or_default();
                if *waiting >= limit {
                    return false;
                }
                *waiting = waiting.saturating_add(1);
                self.known.push_back(received);
            }
            Class::Stranger | Class::Known => return false,
        }
        true
    }

    fn take_known(&mut self) -> Option<Received> {
        let received = self.known.pop_front()?;
        let ip = received.from.ip();
        if let Some(waiting) = self.by_address.get_mut(&ip) {
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                self.by_address.remove(&ip);
            }
        }
        Some(received)
    }

    /// All that nobody has taken yet.
    fn waiting(&self) -> usize {
        let received = self.known.len().saturating_add(self.strangers.len());
        self.desks.iter().fold(received, |sum, desk| sum.saturating_add(desk.outgoing.len()))
    }

    /// What is sent goes first: the work that led to it is already paid for.
    fn take(&mut self, number: usize) -> Option<Job> {
        if let Some(transmit) = self.desks.get_mut(number)?.outgoing.pop_front() {
            return Some(Job::Seal(transmit));
        }
        let received = self.known.len().saturating_add(self.strangers.len());
        let share = received.div_ceil(self.desks.len()).min(AT_ONCE);
        let received: Vec<_> = std::iter::from_fn(|| self.take_received()).take(share).collect();
        (!received.is_empty()).then_some(Job::Recover(received))
    }

    fn take_received(&mut self) -> Option<Received> {
        self.recovered = self.recovered.wrapping_add(1);
        let newcomer = if self.recovered.is_multiple_of(STRANGER_EVERY) { self.strangers.pop_front() } else { None };
        newcomer.or_else(|| self.take_known()).or_else(|| self.strangers.pop_front())
    }
}

fn is_question(packet: &Unverified) -> bool {
    matches!(packet.header().kind, Kind::Ping | Kind::FindNode | Kind::EnrRequest)
}

impl Queue {
    fn new(workers: usize) -> Self {
        let jobs = Jobs {
            desks: (0..workers).map(|_| Desk::default()).collect(),
            known: VecDeque::new(),
            strangers: VecDeque::new(),
            by_address: HashMap::new(),
            recovered: 0,
            closed: false,
        };
        Self {
            jobs: Mutex::new(jobs),
            bells: (0..workers).map(|_| Condvar::new()).collect(),
            results: Mutex::default(),
            driver: Notify::new(),
        }
    }

    /// A worker that panicked left nothing half done: the lock is only held to put and take jobs.
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, number: usize) {
        self.bells.get(number).into_iter().for_each(Condvar::notify_one);
    }

    fn close(&self) {
        self.lock().closed = true;
        self.bells.iter().for_each(Condvar::notify_one);
    }

    fn lock_results(&self) -> MutexGuard<'_, Vec<Done>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the driver if there are results.
    fn ring(&self) {
        if !self.lock_results().is_empty() {
            self.driver.notify_one();
        }
    }

    /// Waits for a job, and says whether few are left; `None` once the queue is closed.
    fn take(&self, number: usize) -> Option<(Job, bool)> {
        let bell = self.bells.get(number)?;
        let mut jobs = self.lock();
        loop {
            if jobs.closed {
                return None;
            }
            if let Some(job) = jobs.take(number) {
                let is_few = jobs.waiting() <= jobs.desks.len().saturating_mul(FEW);
                return Some((job, is_few));
            }
            self.ring();
            jobs.desks.get_mut(number)?.is_idle = true;
            jobs = bell.wait(jobs).unwrap_or_else(PoisonError::into_inner);
            jobs.desks.get_mut(number)?.is_idle = false;
        }
    }
}

struct Worker {
    number: usize,
    queue: Arc<Queue>,
    key: SecretKey,
    answers: Arc<SignedAnswers>,
    outlet: Arc<Outlet>,
}

impl Worker {
    fn run(self) {
        while let Some((job, is_few)) = self.queue.take(self.number) {
            let done = self.done(job);
            if !done.is_empty() {
                self.queue.lock_results().extend(done);
            }
            if is_few {
                self.queue.ring();
            }
        }
    }

    /// Does one job. A reply is sent; anything else is the machine's to know.
    fn done(&self, job: Job) -> Vec<Done> {
        match job {
            Job::Recover(received) => {
                let whose: Vec<_> =
                    received.iter().map(|received| (received.from, received.packet.header().kind)).collect();
                let packets = received.into_iter().map(|received| (received.packet, received.likely)).collect();
                let recovered = whose.into_iter().zip(Unverified::recover_all(packets));
                recovered.map(|((from, kind), packet)| Done::Recovered { from, kind, packet }).collect()
            }
            Job::Seal(Transmit { to, message: Message::Neighbors(answer), request: None }) => {
                self.outlet.send(to, &self.answers.seal(&self.key, answer));
                Vec::new()
            }
            Job::Seal(Transmit { to, message, request }) => {
                let sealed = encode(&self.key, &message);
                match request {
                    Some(request) => vec![Done::Request { to, request, sealed }],
                    None => {
                        self.outlet.send(to, &sealed.datagram);
                        Vec::new()
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discv4::message::{EnrRequest, Message, Neighbors};
    use std::{net::UdpSocket, time::Duration};

    fn key() -> SecretKey {
        SecretKey::from_bytes(&[1; 32]).unwrap()
    }

    fn message(number: u64) -> Message {
        Message::EnrRequest(EnrRequest { expiration: number })
    }

    fn packet(from: SocketAddr, number: u64) -> Received {
        let packet = Unverified::parse(&encode(&key(), &message(number)).datagram).unwrap();
        Received { from, packet, likely: None }
    }

    fn at(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    /// Nobody knows which of them is the answer that is awaited before their signers are found.
    #[test]
    fn a_flood_of_answers_leaves_room_for_others() {
        let workers = idle(1);
        let nodes = Message::Neighbors(Neighbors { nodes: Vec::new(), skipped: 0, expiration: 9 });
        let answer = Unverified::parse(&encode(&key(), &nodes).datagram).unwrap();
        let queued = |from| workers.recover(Class::Known, Received { from, packet: answer.clone(), likely: None });
        assert_eq!((0..10_000).filter(|_| queued(at(2))).count(), MAX_OF_ADDRESS);
        assert!(workers.recover(Class::Known, packet(([127, 0, 1, 1], 2).into(), 1)));
        assert!(!workers.recover(Class::Known, packet(at(2), 1)), "nor does its question find a place");
        while !next(&workers).is_empty() {}
        assert!(workers.queue.lock().by_address.is_empty());
    }

    /// A queue for so many workers, at which nobody works.
    fn idle(desks: usize) -> Workers {
        Workers { queue: Arc::new(Queue::new(desks)), threads: Vec::new(), spread: RandomState::new() }
    }

    /// What is in the job that is taken next.
    fn next(workers: &Workers) -> Vec<String> {
        match workers.queue.lock().take(0) {
            Some(Job::Seal(transmit)) => vec![format!("seal {}", transmit.to.port())],
            Some(Job::Recover(all)) => all.iter().map(|one| format!("recover {}", one.from.port())).collect(),
            None => Vec::new(),
        }
    }

    #[test]
    fn ours_before_known_before_strangers() {
        let workers = idle(1);
        assert!(workers.recover(Class::Stranger, packet(at(3), 1)));
        assert!(workers.recover(Class::Known, packet(at(2), 1)));
        assert!(workers.seal(Transmit { to: at(1), message: message(1), request: None }));
        assert_eq!(next(&workers), ["seal 1"]);
        assert_eq!(next(&workers), ["recover 2", "recover 3"]);
        assert!(next(&workers).is_empty());
    }

    /// One takes what it can do at once, but not what others could begin with.
    #[test]
    fn workers_share_what_there_is() {
        let workers = idle(2);
        let mut shares = Vec::new();
        (0..13).for_each(|number| assert!(workers.recover(Class::Known, packet(at(1), number))));
        while let share @ 1.. = next(&workers).len() {
            shares.push(share);
        }
        assert_eq!(shares, [AT_ONCE, AT_ONCE, 3, 1, 1]);
    }

    #[test]
    fn a_flood_of_strangers_costs_strangers_only() {
        let (workers, packet) = (idle(1), packet(at(1), 1));
        let from = |from| Received { from, ..packet.clone() };
        let queued = (0..10_000).filter(|_| workers.recover(Class::Stranger, from(at(3)))).count();
        assert_eq!(queued, MAX_STRANGERS);
        // Nor can one acquaintance shut out the others.
        let queued = (0..10_000).filter(|_| workers.recover(Class::Known, from(at(2)))).count();
        assert_eq!(queued, MAX_QUESTIONS_OF_ADDRESS);
        let other = |number: u16| SocketAddr::from(([127, 0, 1, number.to_le_bytes()[0]], 2));
        let queued = (0..10_000).filter(|number| workers.recover(Class::Known, from(other(*number)))).count();
        assert_eq!(queued, MAX_KNOWN - MAX_QUESTIONS_OF_ADDRESS);
        let transmit = Transmit { to: at(1), message: message(1), request: None };
        assert_eq!((0..10_000).filter(|_| workers.seal(transmit.clone())).count(), MAX_OUTGOING);
        // Nor are newcomers shut out: among the known packets there is one of theirs now and then.
        (0..MAX_OUTGOING).for_each(|_| assert_eq!(next(&workers), ["seal 1"]));
        let taken: Vec<_> = (0..160_usize.div_ceil(AT_ONCE)).flat_map(|_| next(&workers)).collect();
        assert_eq!(taken.iter().filter(|job| *job == "recover 3").count(), 10);
        while !next(&workers).is_empty() {}
        assert!(workers.queue.lock().by_address.is_empty());
    }

    fn outlet() -> Arc<Outlet> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Arc::new(Outlet::new(socket).unwrap())
    }

    #[test]
    fn replies_to_one_address_leave_in_order() {
        let workers = Workers::start(4, &key(), &outlet()).unwrap();
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let to = receiver.local_addr().unwrap();
        for number in 0..100 {
            assert!(workers.seal(Transmit { to, message: message(number), request: None }));
        }
        let mut buffer = [0; 1280];
        for number in 0..100 {
            let (length, _) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(Unverified::parse(&buffer[..length]).unwrap().header().expiration, Some(number));
        }
        workers.join();
    }

    #[tokio::test]
    async fn all_is_recovered_and_the_driver_may_go_first() {
        let workers = Workers::start(2, &key(), &outlet()).unwrap();
        (0..50).for_each(|number| assert!(workers.recover(Class::Known, packet(at(1), number))));
        let mut recovered = 0;
        while recovered < 50 {
            workers.rings().await;
            for result in workers.results() {
                let Done::Recovered { packet, .. } = result else { panic!("not recovered") };
                assert_eq!(packet.unwrap().from, *key().public());
                recovered += 1;
            }
        }
        // Results that nobody takes do not keep the service from closing.
        (0..50).for_each(|number| assert!(workers.recover(Class::Known, packet(at(1), number))));
        workers.join();
    }

    #[test]
    fn the_driver_rests_while_there_is_enough_to_do() {
        let workers = idle(1);
        for number in 0..ENOUGH {
            assert!(!workers.are_busy());
            assert!(workers.recover(Class::Known, packet(at(1), number as u64)));
        }
        assert!(workers.are_busy());
        // A worker that leaves few says so.
        let is_few = |_| workers.queue.take(0).unwrap().1;
        assert_eq!([0, 1].map(is_few), [false, true]);
    }
}
