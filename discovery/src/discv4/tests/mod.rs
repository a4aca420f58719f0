//! The rules of discv4 as stories: one machine, peers that say what the story wants, a clock moved by hand.

mod asking;
mod clock;
mod cpp_table;
mod defence;
mod echoes;
mod eclipse;
mod reach;
mod receiving;
mod table_life;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::message::{Endpoint, EnrRequest, EnrResponse, FindNode, Kind, Message, Neighbor, Neighbors, Ping, Pong};
use super::packet::Packet;
use super::*;
use crate::{NodeRecord, SecretKey};

/// A peer: a key and where its packets come from.
#[derive(Clone)]
struct Peer {
    secret: SecretKey,
    at: SocketAddr,
}

impl Peer {
    fn record(&self) -> NodeRecord {
        NodeRecord::new(*self.secret.public(), self.at.ip(), self.at.port(), 30303).unwrap()
    }

    fn id(&self) -> NodeId {
        self.secret.public().node_id()
    }

    fn moved(&self, at: &str) -> Peer {
        Peer { at: at.parse().unwrap(), ..self.clone() }
    }

    fn enr(&self, seq: u64) -> Enr {
        Enr::builder(seq).address(self.at.ip()).udp(self.at.port()).tcp(30303).sign(&self.secret).unwrap()
    }
}

/// Something the machine has sent, with the hash it was sealed with.
#[derive(Debug, Clone)]
struct Sent {
    to: SocketAddr,
    message: Message,
    hash: [u8; 32],
}

struct Scene {
    now: Now,
    machine: Discv4,
    secret: SecretKey,
    rng: StdRng,
    hashes: u64,
}

impl Scene {
    /// A machine past its first refresh, with an empty table.
    fn new() -> Scene {
        Scene::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Scene {
        let mut scene = Scene::before_refresh(change);
        scene.machine.handle_timeout(scene.now);
        while scene.machine.poll_event().is_some() {}
        scene
    }

    fn before_refresh(change: impl FnOnce(&mut Config)) -> Scene {
        let mut rng = StdRng::seed_from_u64(1);
        let secret = SecretKey::random(&mut rng);
        let mut config = Config::new(*secret.public(), 30303);
        config.endpoint.explicit_ips = vec!["24.0.0.1".parse().unwrap()];
        config.endpoint.tcp = 30304;
        change(&mut config);
        // A fixed wall clock: expirations are whole seconds, and where in a second a test begins must not matter to it.
        let now = Now { wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000), ..Now::read() };
        Scene { now, machine: Discv4::new(now, config, [7; 32]), secret, rng, hashes: 0 }
    }

    fn peer(&mut self, at: &str) -> Peer {
        Peer { secret: SecretKey::random(&mut self.rng), at: at.parse().unwrap() }
    }

    fn new_hash(&mut self) -> [u8; 32] {
        self.hashes += 1;
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.hashes.to_be_bytes());
        hash
    }

    fn expiration(&self) -> u64 {
        self.now.unix_seconds() + 20
    }

    /// A packet arrives; the first reason against it, if there is one.
    fn hears(&mut self, from: &Peer, message: Message) -> Result<(), Rejected> {
        let hash = self.new_hash();
        self.hears_hashed(from, hash, message)
    }

    fn hears_hashed(&mut self, from: &Peer, hash: [u8; 32], message: Message) -> Result<(), Rejected> {
        let key = *from.secret.public();
        let packet = Packet { from: key, id: key.node_id(), hash, message };
        self.machine.admit(self.now, from.at, &packet.header())?;
        self.machine.handle_packet(self.now, from.at, packet)
    }

    fn hears_ping(&mut self, from: &Peer) -> Result<(), Rejected> {
        let ping = self.ping(from);
        self.hears(from, ping)
    }

    fn ping(&self, from: &Peer) -> Message {
        let expiration = self.expiration();
        let us = Endpoint { ip: None, udp: 30303, tcp: 0 };
        Message::Ping(Ping { version: 4, from: Endpoint::new(from.at, 30303), to: us, expiration, enr_seq: None })
    }

    fn pong_to(&self, ping: &Sent, enr_seq: Option<u64>) -> Message {
        let us = Endpoint::new("24.0.0.1:30303".parse().unwrap(), 0);
        Message::Pong(Pong { to: us, ping_hash: ping.hash, expiration: self.expiration(), enr_seq })
    }

    fn hears_pong(&mut self, from: &Peer, ping: &Sent) -> Result<(), Rejected> {
        let pong = self.pong_to(ping, None);
        self.hears(from, pong)
    }

    fn hears_find_node(&mut self, from: &Peer, target: [u8; 64]) -> Result<(), Rejected> {
        let expiration = self.expiration();
        self.hears(from, Message::FindNode(FindNode { target, expiration }))
    }

    fn hears_neighbors(&mut self, from: &Peer, nodes: Vec<Neighbor>) -> Result<(), Rejected> {
        let expiration = self.expiration();
        self.hears(from, Message::Neighbors(Neighbors { nodes, skipped: 0, expiration }))
    }

    fn hears_enr_request(&mut self, from: &Peer) -> Result<(), Rejected> {
        let expiration = self.expiration();
        self.hears(from, Message::EnrRequest(EnrRequest { expiration }))
    }

    fn hears_enr(&mut self, from: &Peer, request: &Sent, record: Enr) -> Result<(), Rejected> {
        self.hears(from, Message::EnrResponse(EnrResponse { request_hash: request.hash, record }))
    }

    /// Seals and takes all that the machine wants sent.
    fn sent(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(Transmit { to, message, request }) = self.machine.poll_transmit() {
            let hash = self.new_hash();
            request.into_iter().for_each(|request| self.machine.handle_sealed(request, hash));
            sent.push(Sent { to, message, hash });
        }
        sent
    }

    fn sent_kinds(&mut self) -> Vec<Kind> {
        self.sent().iter().map(|sent| sent.message.kind()).collect()
    }

    /// The one thing the machine has sent.
    fn sent_one(&mut self, kind: Kind) -> Sent {
        let mut sent = self.sent();
        assert_eq!(sent.iter().map(|sent| sent.message.kind()).collect::<Vec<_>>(), [kind]);
        sent.remove(0)
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.machine.poll_event()).collect()
    }

    /// The outcome of the one request that has ended.
    fn outcome(&mut self) -> Option<Result<Answer, RequestError>> {
        self.events().into_iter().find_map(|event| match event {
            Event::RequestDone { outcome, .. } => Some(outcome),
            _ => None,
        })
    }

    /// Time passes; what is due happens when it is due. Returns what is sent meanwhile.
    fn wait(&mut self, span: Duration) -> Vec<Sent> {
        let until = self.now.after(span);
        let mut sent = self.sent();
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= until.monotonic) {
            self.now = self.now.after(due.saturating_duration_since(self.now.monotonic));
            self.machine.handle_timeout(self.now);
            sent.extend(self.sent());
        }
        self.now = until;
        sent
    }

    /// The peer pings, answers the ping back, and is proven.
    fn bond(&mut self, peer: &Peer) {
        self.hears_ping(peer).unwrap();
        let ping = self.sent().into_iter().find(|sent| sent.message.kind() == Kind::Ping).expect("no ping back");
        self.hears_pong(peer, &ping).unwrap();
        self.sent();
    }

    fn bonded(&mut self, at: &str) -> Peer {
        let peer = self.peer(at);
        self.bond(&peer);
        peer
    }

    fn knows(&self, peer: &Peer) -> bool {
        self.machine.table().get(&peer.id()).is_some()
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
