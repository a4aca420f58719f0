//! How many requests does a node answer, and what does one cost in CPU? A real service on loopback, all cores.
//!
//! `cargo bench --bench discv4_served [-- --seconds 5]`. Clients with endpoint proofs keep a window of requests open; every
//! datagram is signed before the clock starts, so the generator costs little, but it shares the cores. CPU time is that of the
//! service's own threads (Linux: `/proc/self/task`). The reference figures were measured elsewhere and are labelled so.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::{
    collections::BTreeSet,
    io,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use kadwire_discovery::{
    Config, Discovery, Now, SecretKey,
    discv4::{
        message::{Endpoint, FindNode, Kind, Message, Ping, Pong},
        packet::{MAX_DATAGRAM, Unverified, encode},
    },
};

/// Clients, each with a key and an address of its own.
const CLIENTS: u8 = 8;

/// Requests a client has open.
const WINDOW: usize = 8;

/// Distinct requests of each client for one second of measuring: the same datagram twice is a replay.
const REQUESTS_PER_SECOND: u64 = 3000;

/// Nodes in the table that FindNode asks about.
const NEIGHBOURS: u8 = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(()); // compiled by `cargo test --all-targets`, not asked to measure
    }
    let seconds = arguments.iter().skip_while(|argument| *argument != "--seconds").nth(1);
    let seconds: u64 = seconds.map_or(Ok(5), |seconds| seconds.parse())?;

    println!(
        "reference figures, measured elsewhere (not in this run), go-ethereum v1.17.10 on two cores over loopback:"
    );
    println!("  ping -> pong          200 us CPU each, 4,427 answers/s");
    println!("  findnode -> 16 nodes  312 us CPU each");

    let before = threads()?;
    let runtime = |name: &str| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build()
    };
    let service = runtime("service")?;
    let node = service.block_on(Discovery::bind(Config::new(key(1), SocketAddr::from(([127, 90, 0, 1], 0)))))?;
    let ours: Vec<_> = threads()?.difference(&before).cloned().collect();

    let others = runtime("others")?;
    let neighbours = others.block_on(fill_table(&node))?;
    let clients = (0..CLIENTS).map(|number| Client::prove(number, &node)).collect::<io::Result<Vec<_>>>()?;

    println!("this run, {seconds} s each, {CLIENTS} clients with a window of {WINDOW}:");
    measure("ping -> pong", &clients, Kind::Pong, 1, seconds, &ours, |number, expiration| {
        let nowhere = Endpoint { ip: None, udp: 0, tcp: 0 };
        Message::Ping(Ping { version: 4, from: nowhere, to: nowhere, expiration, enr_seq: Some(number) })
    })?;
    measure("findnode -> 16 nodes", &clients, Kind::Neighbors, 2, seconds, &ours, |number, expiration| {
        let mut target = [0; 64];
        target[..8].copy_from_slice(&number.to_be_bytes());
        Message::FindNode(FindNode { target, expiration })
    })?;
    let stats = service.block_on(node.stats())?;
    println!("dropped: {} known, {} outgoing", stats.udp.dropped_known, stats.udp.dropped_outgoing);
    others.block_on(async {
        for neighbour in neighbours {
            neighbour.close().await;
        }
    });
    service.block_on(node.close());
    Ok(())
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32]).expect("a small scalar is a key")
}

fn expiration() -> u64 {
    Now::read().unix_seconds().saturating_add(600)
}

/// Nodes that join through `node`, so that it has somebody to name.
async fn fill_table(node: &Discovery) -> Result<Vec<Discovery>, Box<dyn std::error::Error>> {
    let mut neighbours = Vec::new();
    for number in 0..NEIGHBOURS {
        let listen = SocketAddr::from(([127, 90, 1, number + 1], 0));
        let mut config = Config::new(key(100 + number), listen);
        config.bootnodes.push(node.local_record());
        config.workers = Some(1);
        neighbours.push(Discovery::bind(config).await?);
    }
    while node.nodes().await?.len() < usize::from(NEIGHBOURS) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(neighbours)
}

/// A peer that speaks by hand.
struct Client {
    key: SecretKey,
    socket: UdpSocket,
}

impl Client {
    /// Pings the node, and answers its ping back.
    fn prove(number: u8, node: &Discovery) -> io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::from(([127, 90, 2, number + 1], 0)))?;
        socket.connect(node.local_address())?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let client = Self { key: key(10 + number), socket };
        let us = Endpoint::new(client.socket.local_addr()?, 0);
        let ping = Ping { version: 4, from: us, to: us, expiration: expiration(), enr_seq: None };
        client.socket.send(&encode(&client.key, &Message::Ping(ping)).datagram)?;
        let mut buffer = [0; MAX_DATAGRAM];
        loop {
            let length = client.socket.recv(&mut buffer)?;
            let Ok(packet) = Unverified::parse(&buffer[..length]) else { continue };
            if packet.header().kind == Kind::Ping {
                let pong = Pong { to: us, ping_hash: packet.header().hash, expiration: expiration(), enr_seq: None };
                client.socket.send(&encode(&client.key, &Message::Pong(pong)).datagram)?;
                std::thread::sleep(Duration::from_millis(50)); // until it has been looked at
                return Ok(client);
            }
        }
    }
}

/// Keeps every client's window open for `seconds`, and prints what came of it.
fn measure(
    name: &str,
    clients: &[Client],
    answer: Kind,
    datagrams_per_answer: usize,
    seconds: u64,
    threads: &[String],
    request: impl Fn(u64, u64) -> Message,
) -> Result<(), Box<dyn std::error::Error>> {
    let expiration = expiration();
    let count = REQUESTS_PER_SECOND * seconds;
    let prepare = |client: &Client| (0..count).map(|n| encode(&client.key, &request(n, expiration)).datagram).collect();
    let prepared: Vec<Vec<_>> = clients.iter().map(prepare).collect();

    let (started, cpu) = (Instant::now(), cpu_time(threads)?);
    let until = started + Duration::from_secs(seconds);
    let mut waits = std::thread::scope(|scope| -> io::Result<Vec<Duration>> {
        let running: Vec<_> = clients
            .iter()
            .zip(&prepared)
            .map(|(client, requests)| scope.spawn(move || run(client, requests, answer, datagrams_per_answer, until)))
            .collect();
        let mut waits = Vec::new();
        for client in running {
            waits.extend(client.join().map_err(|_| io::Error::other("a client panicked"))??);
        }
        Ok(waits)
    })?;
    let (elapsed, cpu) = (started.elapsed(), cpu_time(threads)?.saturating_sub(cpu));
    waits.sort();
    let (answers, wait) =
        (waits.len().max(1), |share: usize| waits.get(waits.len() * share / 100).copied().unwrap_or_default());
    println!(
        "  {name:<21} {:.0} us CPU each, {:.0} answers/s, wait p50 {:.2?} p99 {:.2?}",
        cpu.as_secs_f64() * 1e6 / answers as f64,
        answers as f64 / elapsed.as_secs_f64(),
        wait(50),
        wait(99),
    );
    Ok(())
}

/// One client: a new request for every answer; a window that stands still for 100 ms is opened again.
fn run(
    client: &Client,
    requests: &[impl AsRef<[u8]>],
    answer: Kind,
    datagrams_per_answer: usize,
    until: Instant,
) -> io::Result<Vec<Duration>> {
    client.socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (mut requests, mut waits, mut datagrams) = (requests.iter(), Vec::new(), 0);
    // Answers come in the order of the requests, near enough to tell how long one waits.
    let mut sent = std::collections::VecDeque::new();
    let mut buffer = [0; MAX_DATAGRAM];
    while Instant::now() < until {
        while sent.len() < WINDOW {
            let Some(request) = requests.next() else { return Ok(waits) };
            sent.push_back(Instant::now());
            client.socket.send(request.as_ref())?;
        }
        match client.socket.recv(&mut buffer) {
            Ok(length) if length > 97 && buffer[97] == answer as u8 => {
                datagrams += 1;
                if datagrams % datagrams_per_answer == 0 {
                    waits.extend(sent.pop_front().map(|sent| sent.elapsed()));
                }
            }
            Ok(_) => {} // a check of ours
            Err(_) => sent.clear(),
        }
    }
    Ok(waits)
}

/// The threads of this process.
fn threads() -> io::Result<BTreeSet<String>> {
    let tasks = std::fs::read_dir("/proc/self/task")?;
    tasks.map(|task| Ok(task?.file_name().to_string_lossy().into_owned())).collect()
}

/// What these threads have had of the processors.
fn cpu_time(threads: &[String]) -> io::Result<Duration> {
    let mut sum = Duration::ZERO;
    for thread in threads {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"))?;
        let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        sum += Duration::from_nanos(nanos);
    }
    Ok(sum)
}
