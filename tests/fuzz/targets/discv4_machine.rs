//! The discv4 machine among strangers who send whatever they like, whenever they like, from wherever they like; and who now and then
//! answer as they should. Packets are not signed: whose they are is what the workers have found.
//!
//! What holds, whatever happens: who has not proven its endpoint gets pongs and pings only; nothing leaves for an address out of reach; the
//! table keeps its bounds; no timer fires for ever; whoever asked for something hears of it, once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kadwire_discovery::discv4::message::{
    Endpoint, EnrRequest, EnrResponse, FindNode, Kind, MAX_NEIGHBORS, Message, Neighbor, Neighbors, Ping, Pong,
};
use kadwire_discovery::discv4::packet::Packet;
use kadwire_discovery::discv4::{Config, Discv4, Event, ExternalEndpoint, LookupId, RequestId, Transmit};
use kadwire_discovery::table::{Seed, TableConfig};
use kadwire_discovery::{Enr, NodeId, NodeRecord, Now, PublicKey, SecretKey, TendermintEntry, check_relay};

use crate::script::Script;

/// Strangers, and as many addresses.
const PEERS: usize = 32;

/// Datagrams of the machine that strangers may answer.
const REMEMBERED: usize = 64;

/// Bytes of a story that are read: those of a page. Longer ones take long and find nothing else.
const LONGEST: usize = 1024;

struct Peer {
    key: PublicKey,
    id: NodeId,
    /// Of two sequence numbers: at its own address, and at the next one's.
    records: [Enr; 2],
}

/// Three in a /24, some on a local network, on loopback, on IPv6, and on a low port.
fn address(number: usize) -> SocketAddr {
    let byte = number as u8;
    let ip: IpAddr = match number % 8 {
        0 => [192, 168, 0, byte].into(),
        1 => [0x2a00, 0, number as u16 / 12, 0, 0, 0, 0, 1].into(),
        2 if number < 8 => [127, 0, 0, 1].into(),
        _ => [24, 0, byte / 12, byte].into(),
    };
    SocketAddr::new(ip, if number == 31 { 53 } else { 30303 })
}

static OURS: LazyLock<PublicKey> = LazyLock::new(|| *secret(0xfe).public());

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32]).expect("a key")
}

static ALL: LazyLock<Vec<Peer>> = LazyLock::new(|| {
    let peer = |number: usize| {
        let secret = secret(number as u8 + 1);
        let record = |seq: u64| {
            let at = address((number + seq as usize - 1) % PEERS);
            let builder = Enr::builder(seq).address(at.ip()).udp(at.port()).tcp(30303);
            builder.sign(&secret).expect("small")
        };
        Peer { key: *secret.public(), id: secret.public().node_id(), records: [record(1), record(2)] }
    };
    (0..PEERS).map(peer).collect()
});

fn node(number: usize) -> NodeRecord {
    let at = address(number);
    NodeRecord::new(ALL[number].key, at.ip(), at.port(), 30303).expect("an endpoint")
}

fn neighbor(script: &mut Script<'_>) -> Neighbor {
    let (number, at) = (script.below(PEERS + 2), address(script.below(PEERS)));
    let key =
        ALL.get(number).map_or(if number == PEERS { *OURS.as_bytes() } else { [9; 64] }, |peer| *peer.key.as_bytes());
    Neighbor { ip: at.ip(), udp: at.port(), tcp: script.byte().into(), key }
}

fn config(script: &mut Script<'_>, now: Now) -> Config {
    let mut config = Config::new(*OURS, 30303);
    let flags = script.byte();
    if flags & 1 != 0 {
        config.table = TableConfig::cpp_ethereum();
    }
    if flags & 2 != 0 {
        (config.table.bucket_size, config.table.replacements, config.table.inbound) = (3, 2, 1);
    }
    config.reach.public_only = flags & 4 != 0;
    if flags & 8 != 0 {
        config.max_requests = 4;
    }
    config.table.subnet_limits.lan = flags & 16 != 0;
    let (bootnodes, seeds) = (script.byte(), script.byte());
    config.bootnodes = (0..4).filter(|number| bootnodes >> number & 1 != 0).map(node).collect();
    let seed = |number| Seed {
        record: node(number),
        last_pong: now.wall - Duration::from_secs(60),
        find_failures: 0,
        inbound: flags & 32 != 0,
    };
    config.seeds = (0..8).filter(|number| seeds >> number & 1 != 0).map(|number| seed(number + 4)).collect();
    config
}

/// A datagram of the machine's.
struct Sent {
    to: SocketAddr,
    message: Message,
    hash: [u8; 32],
}

struct World {
    now: Now,
    machine: Discv4,
    table: TableConfig,
    /// The last of them.
    sent: VecDeque<Sent>,
    hashes: u64,
    /// Who has answered a ping of ours, and where.
    proven: BTreeSet<(IpAddr, NodeId)>,
    requests: BTreeSet<RequestId>,
    lookups: BTreeSet<LookupId>,
}

impl World {
    fn hash(&mut self) -> [u8; 32] {
        self.hashes += 1;
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.hashes.to_be_bytes());
        hash
    }

    fn packet(&mut self, from: SocketAddr, peer: usize, hash: [u8; 32], message: Message) {
        let (key, id) = ALL.get(peer).map_or((*OURS, OURS.node_id()), |peer| (peer.key, peer.id));
        let kind = message.kind();
        let packet = Packet { from: key, id, hash, message };
        let admitted = self.machine.admit(self.now, from, &packet.header());
        let handled = admitted.and_then(|()| self.machine.handle_packet(self.now, from, packet));
        match handled {
            Ok(()) => match kind {
                Kind::Pong => _ = self.proven.insert((from.ip(), id)),
                Kind::FindNode | Kind::EnrRequest => {
                    assert!(self.proven.contains(&(from.ip(), id)), "{from} has proven nothing")
                }
                _ => {}
            },
            Err(reason) => _ = (reason.to_string(), reason.blame()),
        }
    }

    fn is_proven(&self, ip: IpAddr) -> bool {
        self.proven.iter().any(|(proven, _)| *proven == ip)
    }

    /// Takes all that the machine wants sent and told.
    fn drain(&mut self) {
        while let Some(Transmit { to, message, request }) = self.machine.poll_transmit() {
            let hash = self.hash();
            assert!(self.machine.reach().check(to.ip()).is_ok(), "{to} is out of reach");
            match &message {
                Message::Neighbors(neighbors) => {
                    assert!(self.is_proven(to.ip()), "{to} has proven nothing");
                    assert!(neighbors.nodes.len() <= MAX_NEIGHBORS);
                    for told in &neighbors.nodes {
                        assert!(told.udp > 1024 && check_relay(to.ip(), told.ip).is_ok(), "{told:?}");
                    }
                }
                Message::EnrResponse(_) => assert!(self.is_proven(to.ip()), "{to} has proven nothing"),
                _ => {}
            }
            request.into_iter().for_each(|request| self.machine.handle_sealed(request, hash));
            self.sent.push_back(Sent { to, message, hash });
            if self.sent.len() > REMEMBERED {
                self.sent.pop_front();
            }
        }
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::RequestDone { request, outcome } => {
                    assert!(self.requests.remove(&request), "told twice, or of nobody's request");
                    let _ = outcome.map_err(|error| (error.to_string(), error.blame()));
                }
                Event::LookupDone { lookup, closest } => {
                    assert!(self.lookups.remove(&lookup), "told twice, or of nobody's lookup");
                    assert!(closest.len() <= self.table.bucket_size);
                }
                Event::LocalRecordChanged(content) => {
                    let record = content.builder(self.hashes).sign(&secret(0xfe)).expect("small");
                    self.machine.set_local_record(record);
                }
                _ => {}
            }
        }
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now.after(span);
        self.machine.handle_timeout(self.now);
    }

    /// Runs what is due, when it is due; `false` if nothing is, up to then.
    fn wait_for_due(&mut self, until: Now) -> bool {
        let Some(due) = self.machine.poll_timeout().filter(|due| *due <= until.monotonic) else { return false };
        self.wait(due.saturating_duration_since(self.now.monotonic));
        true
    }

    /// What an honest node says to this.
    fn answer(&mut self, sent: &Sent) {
        let Some(peer) = (0..PEERS).find(|number| address(*number) == sent.to) else { return };
        let expiration = self.now.unix_seconds() + 20;
        let hash = self.hash();
        let answer = match &sent.message {
            Message::Ping(_) => {
                let to = Endpoint { ip: Some([24, 9, 9, 9].into()), udp: 30303, tcp: 0 };
                Message::Pong(Pong { to, ping_hash: sent.hash, expiration, enr_seq: Some(1) })
            }
            Message::FindNode(_) => {
                let nodes = (peer..peer + 6).map(|number| Neighbor::from(&node(number % PEERS))).collect();
                Message::Neighbors(Neighbors { nodes, skipped: 0, expiration })
            }
            Message::EnrRequest(_) => {
                Message::EnrResponse(EnrResponse { request_hash: sent.hash, record: ALL[peer].records[0].clone() })
            }
            _ => return,
        };
        self.packet(sent.to, peer, hash, answer);
    }

    fn check_table(&self) {
        let (table, own) = (self.machine.table(), self.machine.id());
        let buckets = self.table.buckets;
        let bucket = |id: &NodeId| usize::from(own.log_distance(id)).saturating_sub(256 - buckets).saturating_sub(1);
        let (mut ids, mut sizes) = (BTreeSet::new(), BTreeMap::<_, [usize; 2]>::new());
        let (mut nets, mut nets_of_bucket) = (BTreeMap::<_, usize>::new(), BTreeMap::<_, usize>::new());
        let entries = table.entries().map(|entry| (entry.record(), 0));
        for (record, place) in entries.chain(table.replacements().map(|record| (record, 1))) {
            assert!(ids.insert(record.id()) && record.id() != own, "twice, or ourselves");
            assert!(self.machine.reach().check(record.ip()).is_ok());
            let at = bucket(&record.id());
            sizes.entry(at).or_default()[place] += 1;
            if self.table.subnet_limits.lan || !kadwire_discovery::is_lan(record.ip()) {
                let net = kadwire_discovery::network(record.ip());
                *nets.entry(net).or_default() += 1;
                *nets_of_bucket.entry((at, net)).or_default() += 1;
            }
        }
        assert!(
            sizes
                .values()
                .all(|[entries, waiting]| *entries <= self.table.bucket_size && *waiting <= self.table.replacements)
        );
        let limits = self.table.subnet_limits;
        assert!(
            nets.values().all(|count| *count <= limits.table)
                && nets_of_bucket.values().all(|count| *count <= limits.bucket)
        );
        assert_eq!(table.len(), table.entries().count());
    }

    /// Nobody says anything any more: all that was asked for comes to an end.
    fn finish(&mut self) {
        let (until, mut steps, mut last) = (self.now.after(Duration::from_secs(15 * 60)), 0, (self.now.monotonic, 0));
        while !(self.requests.is_empty() && self.lookups.is_empty()) && self.wait_for_due(until) {
            self.drain();
            steps += 1;
            last = if last.0 == self.now.monotonic { (last.0, last.1 + 1) } else { (self.now.monotonic, 0) };
            assert!(last.1 < 1000, "a timer fires for ever");
        }
        assert!(self.requests.is_empty() && self.lookups.is_empty(), "somebody waits for ever, after {steps} steps");
    }
}

/// Input: settings, then one thing after the other.
pub(crate) fn run(data: &[u8]) {
    let mut script = Script::new(&data[..data.len().min(LONGEST)]);
    let now = Now { wall: UNIX_EPOCH + Duration::from_secs(1_700_000_000), ..Now::read() };
    let config = config(&mut script, now);
    let table = config.table.clone();
    let machine = Discv4::new(now, config, [7; 32]);
    let (proven, requests, lookups) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut world = World { now, machine, table, sent: VecDeque::new(), hashes: 0, proven, requests, lookups };
    // A restored proof is one.
    world.proven.extend((4..12).map(|number| (address(number).ip(), ALL[number].id)));
    world.drain();
    while !script.is_over() {
        step(&mut world, &mut script);
        world.drain();
    }
    world.check_table();
    world.finish();
    world.check_table();
}

fn step(world: &mut World, script: &mut Script<'_>) {
    let now = world.now;
    match script.below(20) {
        0 => world.wait(Duration::from_millis(script.byte().into())),
        1 => world.wait(Duration::from_secs(u64::from(script.u16()) * 4)),
        2 => _ = world.wait_for_due(now.after(Duration::from_secs(3600))),
        3 => {
            // Everybody answers, the latest asked first.
            let sent = std::mem::take(&mut world.sent);
            sent.iter().rev().for_each(|sent| world.answer(sent));
        }
        4 => {
            let some = world.sent.len().saturating_sub(1 + script.below(8));
            let sent = world.sent.drain(some..).next();
            sent.into_iter().for_each(|sent| world.answer(&sent));
        }
        op @ 5..=10 => {
            let (peer, at) = (script.below(PEERS + 1), script.below(PEERS));
            let mut from = address(if script.bit() { at } else { peer % PEERS });
            from.set_port(from.port() ^ u16::from(script.byte() & 3));
            let said = script.below(world.sent.len().clamp(1, 256));
            let about = world.sent.len().checked_sub(1 + said).map_or([0; 32], |at| world.sent[at].hash);
            let expiration =
                (now.unix_seconds() + 20).wrapping_add_signed(i64::from(script.byte() as i8) << (script.byte() % 56));
            let hash = if script.byte() > 250 { [1; 32] } else { world.hash() };
            let message = match op {
                5 => {
                    let from = Endpoint::new(from, script.byte().into());
                    let enr_seq = Some(u64::from(script.byte())).filter(|seq| *seq < 128);
                    Message::Ping(Ping { version: 4, from, to: from, expiration, enr_seq })
                }
                6 => {
                    let to = Endpoint::new(address(script.below(PEERS)), 0);
                    Message::Pong(Pong { to, ping_hash: about, expiration, enr_seq: Some(script.byte().into()) })
                }
                7 => Message::FindNode(FindNode { target: [script.byte(); 64], expiration }),
                8 => {
                    let nodes = (0..script.below(20)).map(|_| neighbor(script)).collect();
                    Message::Neighbors(Neighbors { nodes, skipped: script.below(4), expiration })
                }
                9 => Message::EnrRequest(EnrRequest { expiration }),
                _ => {
                    let record = ALL[script.below(PEERS)].records[script.below(2)].clone();
                    Message::EnrResponse(EnrResponse { request_hash: about, record })
                }
            };
            world.packet(from, peer, hash, message);
        }
        op @ 11..=14 => {
            let node = node(script.below(PEERS));
            let asked = match op {
                11 => world.machine.ping(now, &node),
                12 => world.machine.find_node(now, &node, [script.byte(); 64]),
                13 => world.machine.request_enr(now, &node),
                _ => world.machine.resolve(now, &node),
            };
            world.requests.extend(asked.ok());
        }
        15 => world.lookups.extend(world.machine.lookup(now, [script.byte(); 64]).ok()),
        16 => world.lookups.extend(world.machine.walk(now).ok()),
        17 => {
            if let Some(lookup) = world.lookups.pop_first() {
                world.machine.cancel_lookup(lookup);
            }
        }
        18 => {
            let ip = address(script.below(PEERS)).ip();
            let udp = Some(script.byte().into()).filter(|port| *port != 0);
            world.machine.set_external(&[ExternalEndpoint { ip, udp, tcp: [None; 2] }]);
            let entry = TendermintEntry { node_id: [script.byte(); 20], tcp_port: script.byte().into() };
            world.machine.set_tendermint(Some(entry));
        }
        _ => {
            let step = Duration::from_secs(u64::from(script.u16()) << script.below(16));
            let wall = if script.bit() { now.wall.checked_add(step) } else { now.wall.checked_sub(step) };
            world.now.wall = wall.filter(|wall| *wall > SystemTime::UNIX_EPOCH).unwrap_or(now.wall);
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let ping = |peer: u8| [5, peer, 0, 0, 0, 0, 0, 0, 0, 9, 1];
    let find = |peer: u8| [7, peer, 0, 0, 0, 0, 0, 0, 0, 9];
    let lookups = [[15, 7, 3, 3, 2].as_slice(), &[3, 3, 16, 3, 3, 2, 3, 0, 200, 3]].concat();
    let bonded = [ping(4).as_slice(), &[3], &ping(5), &[3], &find(4), &find(5), &[9, 4, 0, 0, 0, 0, 0, 0, 0]].concat();
    let asked = [11, 5, 3, 12, 6, 7, 3, 3, 13, 4, 3, 3, 14, 9, 3, 3, 3, 1, 0, 9, 14, 9].to_vec();
    let start = |flags: u8| [flags, 0b1111, 0b1010, 2, 3, 3, 3, 2, 3, 3].to_vec();
    let clocks = [[19, 0, 200, 9, 1].as_slice(), &ping(4), &[3, 18, 5, 5, 5, 5, 1, 255, 255, 3]].concat();
    let lies =
        [&[12, 5, 7, 3][..], &[8, 5, 0, 0, 0, 0, 0, 0, 0, 4, 1, 2, 3, 33, 5, 6, 32, 1, 1, 7, 31, 9], &bonded].concat();
    let all =
        |flags| [start(flags), bonded.clone(), lookups.clone(), asked.clone(), clocks.clone(), lies.clone()].concat();
    vec![start(0), all(0), all(1), all(2), all(8), all(16), all(35), [start(4), lookups.clone()].concat()]
}
