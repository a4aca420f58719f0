//! A bare Tendermint peer, to try the wire against other implementations and to measure it.
//!
//! ```text
//! mconn_peer listen --laddr 127.0.0.1:0 --mode echo|sink [--once]
//! mconn_peer dial id@ip:port --mode echo-check --count 1000 --min 1 --max 1048576 --seed 1
//! mconn_peer dial id@ip:port --mode echo-check --sizes 0,1,1024,20000000 --channels 0x20:6,0x21:10,0x22:7
//! mconn_peer dial id@ip:port --mode flood --size 1024 --seconds 5
//! mconn_peer dial id@ip:port --mode ping --size 64 --count 1000
//! mconn_peer dial id@ip:port --mode handshake --count 100
//! mconn_peer listen --laddr 127.0.0.1:0 --mode idle --count 1000      and, in another process:
//! mconn_peer dial id@ip:port --mode idle --count 1000 --size 65536    what a connection holds that has carried one message and rests
//! ```
//!
//! Also: `--network NAME` (interop-test), `--channels ID[:PRIORITY],…` (0x30; `--channel ID` for one), `--payload BYTES` (1024),
//! `--source IP`, `--key FILE` (node_key.json), `--ping MS` and `--pong MS` (60,000 and 45,000), `--rate BYTES` a second (no limit),
//! `--delay MS` (a slow reader: before each message it takes). A listener prints `id@ip:port` first, then a JSON line for each peer
//! that leaves; a dialer prints one JSON line. Messages are protobuf BytesValues, so that a peer that decodes them is content.
//!
//! In an echo check every channel sends `--count` messages (or the `--sizes`) at the same time as the others, and wants them back in order.

use std::{collections::BTreeMap, net::SocketAddr, process::ExitCode, str::FromStr, time::Duration};

use bytes::Bytes;
use kadwire_wire::{
    PeerAddress,
    tendermint::{
        key::NodeKey,
        mconnection::{ChannelSpec, MConnectionConfig},
    },
    transport::{CloseReason, Connection, TendermintConfig, TendermintTransport, Transport},
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::mpsc, time::Instant};

/// Messages of a channel under way in an echo check.
const WINDOW: usize = 64;

/// The longest wait for the next echo.
const ECHO_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest message on the channel: CometBFT's test peers take 32 MiB.
const MAX_MESSAGE: usize = 1 << 25;

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("mconn_peer: {error}");
            return ExitCode::from(2);
        }
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", serde_json::json!({ "event": "error", "error": error }));
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
struct Options {
    dial: Option<PeerAddress>,
    laddr: SocketAddr,
    source: Option<std::net::IpAddr>,
    network: String,
    /// Ids with their priorities, at least one.
    channels: Vec<(u8, u8)>,
    payload: usize,
    key: Option<std::path::PathBuf>,
    ping: Option<u64>,
    pong: Option<u64>,
    rate: u64,
    delay: u64,
    mode: String,
    count: usize,
    min: usize,
    max: usize,
    sizes: Vec<usize>,
    size: usize,
    seconds: u64,
    seed: u64,
    once: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let dial = match args.next().as_deref() {
            Some("listen") => None,
            Some("dial") => {
                let address = args.next().ok_or("dial: an address id@ip:port is missing")?;
                Some(parse("the address", &address)?)
            }
            other => return Err(format!("expected 'listen' or 'dial', found {:?}", other.unwrap_or("nothing"))),
        };
        let mut options = Options {
            mode: if dial.is_some() { "echo-check" } else { "echo" }.to_owned(),
            dial,
            laddr: ([127, 0, 0, 1], 0).into(),
            source: None,
            network: "interop-test".to_owned(),
            channels: vec![(0x30, 1)],
            payload: 1024,
            key: None,
            ping: None,
            pong: None,
            rate: 0,
            delay: 0,
            count: 1000,
            min: 1,
            max: 1 << 20,
            sizes: Vec::new(),
            size: 1024,
            seconds: 5,
            seed: 1,
            once: false,
        };
        while let Some(flag) = args.next() {
            if flag == "--once" {
                options.once = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{flag}: a value is missing"))?;
            match flag.as_str() {
                "--laddr" => options.laddr = parse(&flag, &value)?,
                "--source" => options.source = Some(parse(&flag, &value)?),
                "--network" => options.network = value,
                "--channel" | "--channels" => options.channels = parse_list(&value, parse_channel)?,
                "--key" => options.key = Some(value.into()),
                "--ping" => options.ping = Some(parse(&flag, &value)?),
                "--pong" => options.pong = Some(parse(&flag, &value)?),
                "--rate" => options.rate = parse(&flag, &value)?,
                "--delay" => options.delay = parse(&flag, &value)?,
                "--sizes" => options.sizes = parse_list(&value, |size| parse(&flag, size))?,
                "--payload" => options.payload = parse(&flag, &value)?,
                "--mode" => options.mode = value,
                "--count" => options.count = parse(&flag, &value)?,
                "--min" => options.min = parse(&flag, &value)?,
                "--max" => options.max = parse(&flag, &value)?,
                "--size" => options.size = parse(&flag, &value)?,
                "--seconds" => options.seconds = parse(&flag, &value)?,
                "--seed" => options.seed = parse(&flag, &value)?,
                _ => return Err(format!("unknown flag {flag}")),
            }
        }
        let largest = options.sizes.iter().copied().chain([options.max, options.size]).max();
        if !(1..=options.max).contains(&options.min) || largest > Some(MAX_MESSAGE - 8) {
            return Err(format!("sizes must be 1 <= --min <= --max, and below {MAX_MESSAGE}"));
        }
        Ok(options)
    }

    /// The channel of modes that use one.
    fn channel(&self) -> u8 {
        self.channels.first().map_or(0x30, |(id, _)| *id)
    }
}

fn parse<T: FromStr<Err: std::fmt::Display>>(what: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{what}: {value:?}: {error}"))
}

fn parse_list<T>(value: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    value.split(',').map(parse).collect()
}

/// `0x30`, `48` or `0x30:5`.
fn parse_channel(value: &str) -> Result<(u8, u8), String> {
    let (id, priority) = value.split_once(':').unwrap_or((value, "1"));
    let id = match id.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16).map_err(|error| error.to_string()),
        None => parse("an id", id),
    };
    Ok((id.map_err(|error| format!("--channels: {value:?}: {error}"))?, parse("--channels: a priority", priority)?))
}

async fn run(options: Options) -> Result<(), String> {
    #[expect(clippy::disallowed_methods, reason = "driver: a fresh identity for each run")]
    let mut rng = rand::make_rng::<StdRng>();
    let key = match &options.key {
        Some(file) => NodeKey::load(file).map_err(|error| format!("--key: {error}"))?,
        None => NodeKey::generate(&mut rng),
    };
    let mut config = TendermintConfig::new(key, options.network.clone(), "mconn_peer");
    let spec = |&(id, priority): &(u8, u8)| ChannelSpec {
        priority,
        send_queue: 256,
        max_message_size: MAX_MESSAGE,
        ..ChannelSpec::new(id)
    };
    config.channels = options.channels.iter().map(spec).collect();
    config.listen = options.dial.is_none().then_some(options.laddr);
    config.source = options.source;
    config.mconnection =
        MConnectionConfig { send_rate: options.rate, recv_rate: options.rate, ..MConnectionConfig::default() };
    config.mconnection.max_packet_payload = options.payload;
    let millis = |given: Option<u64>, default| given.map_or(default, Duration::from_millis);
    config.mconnection.ping_interval = millis(options.ping, config.mconnection.ping_interval);
    config.mconnection.pong_timeout = millis(options.pong, config.mconnection.pong_timeout);
    let transport = TendermintTransport::bind(config).await.map_err(|error| error.to_string())?;
    match &options.dial {
        None if options.mode == "idle" => idle(&transport, None, &options).await,
        None => listen(&transport, &options).await,
        Some(address) if options.mode == "idle" => idle(&transport, Some(address), &options).await,
        Some(address) if options.mode == "handshake" => handshakes(&transport, address, options.count).await,
        Some(address) => {
            let connection = transport.dial(address).await.map_err(|error| error.to_string())?;
            serve(connection, &options).await
        }
    }
}

async fn listen(transport: &TendermintTransport, options: &Options) -> Result<(), String> {
    println!("{}", transport.address().ok_or("--laddr: an address that peers can dial is needed")?);
    loop {
        let incoming = transport.accept().await.map_err(|error| error.to_string())?;
        let remote = incoming.remote();
        let connection = match incoming.handshake().await {
            Ok(connection) => connection,
            Err(error) => {
                eprintln!("{remote}: {error}");
                continue;
            }
        };
        if options.once {
            return serve(connection, options).await;
        }
        let (mode, delay) = (options.mode.clone(), Duration::from_millis(options.delay));
        tokio::spawn(async move {
            match mode.as_str() {
                "echo" | "sink" => receive(connection, mode == "echo", delay).await,
                _ => connection.close(CloseReason::requested(format!("mode {mode} needs --once"))),
            }
        });
    }
}

async fn serve(connection: Connection, options: &Options) -> Result<(), String> {
    let delay = Duration::from_millis(options.delay);
    match options.mode.as_str() {
        "echo" => receive(connection, true, delay).await,
        "sink" => receive(connection, false, delay).await,
        "echo-check" => return echo_check(connection, options).await,
        "flood" => return flood(connection, options).await,
        "ping" => return ping(connection, options).await,
        mode => return Err(format!("--mode: {mode:?} is not echo, sink, echo-check, flood, ping or handshake")),
    }
    Ok(())
}

async fn receive(mut connection: Connection, echo: bool, delay: Duration) {
    let (mut first, mut last, mut messages, mut bytes) = (None, None, 0u64, 0u64);
    loop {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let Some((channel, message)) = connection.recv().await else { break };
        let now = Instant::now();
        first.get_or_insert(now);
        last = Some(now);
        messages += 1;
        bytes += message.len() as u64;
        if echo && connection.send(channel, message).await.is_err() {
            break;
        }
    }
    let seconds = first.zip(last).map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    let reason = connection.closed().await.to_string();
    let stats = connection.stats();
    let line = serde_json::json!({
        "event": "peer_gone", "id": connection.peer, "reason": reason, "messages": messages, "bytes": bytes,
        "seconds": seconds, "msgs_per_s": messages as f64 / seconds, "MB_per_s": bytes as f64 / 1e6 / seconds,
        "pings_sent": stats.pings_sent, "pongs_received": stats.pongs_received,
        "pings_received": stats.pings_received, "pongs_sent": stats.pongs_sent,
    });
    println!("{line}");
}

/// A protobuf BytesValue.
fn bytes_value(payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 6);
    if !payload.is_empty() {
        out.push(0x0a);
        let mut len = payload.len();
        while len >= 0x80 {
            out.push((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend_from_slice(payload);
    }
    out.into()
}

async fn echo_check(mut connection: Connection, options: &Options) -> Result<(), String> {
    let started = Instant::now();
    // What each channel still wants back, in order.
    let mut expected = BTreeMap::new();
    let mut sending = tokio::task::JoinSet::new();
    for &(channel, _) in &options.channels {
        let (expect, wanted) = mpsc::channel::<Bytes>(WINDOW);
        expected.insert(channel, wanted);
        let (sender, messages) = (connection.sender.clone(), Messages::new(options, channel));
        sending.spawn(async move {
            for message in messages {
                if expect.send(message.clone()).await.is_err() || sender.send(channel, message).await.is_err() {
                    return;
                }
            }
        });
    }
    let total = Messages::new(options, 0).count * expected.len();
    let (mut good, mut bytes, mut fault) = (0usize, 0u64, None);
    while good < total && fault.is_none() {
        let received = tokio::time::timeout(ECHO_TIMEOUT, connection.recv()).await;
        let Ok(Some((channel, message))) = received else {
            let why = match received {
                Ok(_) => format!("connection ended: {}", connection.closed().await),
                Err(_) => format!("no echo in {ECHO_TIMEOUT:?}"),
            };
            fault = Some(format!("after {good} messages: {why}"));
            break;
        };
        // It was noted before it was sent.
        let wanted = expected.get_mut(&channel).and_then(|wanted| wanted.try_recv().ok());
        if wanted.as_ref() == Some(&message) {
            good += 1;
            bytes += message.len() as u64;
        } else {
            let wanted = wanted.map_or("none".to_owned(), |wanted| format!("one of {} bytes", wanted.len()));
            fault = Some(format!("after {good} messages: {} bytes on {channel:#04x}, not {wanted}", message.len()));
        }
    }
    sending.abort_all();
    let line = serde_json::json!({
        "event": "echo_check", "count": total, "echoed": good, "bytes": bytes, "seed": options.seed,
        "seconds": started.elapsed().as_secs_f64(), "peer": connection.peer, "fault": fault,
    });
    println!("{line}");
    connection.flush_and_close(CloseReason::requested("done")).await;
    if good == total { Ok(()) } else { Err(format!("{good} of {total} echoed")) }
}

/// The messages of one channel in an echo check.
struct Messages {
    rng: StdRng,
    sizes: Vec<usize>,
    count: usize,
    range: (f64, f64),
    made: usize,
}

impl Messages {
    fn new(options: &Options, channel: u8) -> Self {
        let count = if options.sizes.is_empty() { options.count } else { options.sizes.len() };
        let range = (options.min as f64, options.max as f64);
        let rng = StdRng::seed_from_u64(options.seed ^ u64::from(channel) << 32);
        Messages { rng, sizes: options.sizes.clone(), count, range, made: 0 }
    }
}

impl Iterator for Messages {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let (min, max) = self.range;
        // As many messages of 1–2 bytes as of 512–1024 KiB, unless sizes were given.
        let size = self.sizes.get(self.made).copied();
        let size = size.unwrap_or_else(|| (min * (max / min).powf(self.rng.random::<f64>())).round() as usize);
        self.made += 1;
        let mut payload = vec![0; size];
        self.rng.fill_bytes(&mut payload);
        (self.made <= self.count).then(|| bytes_value(&payload))
    }
}

async fn flood(connection: Connection, options: &Options) -> Result<(), String> {
    let message = bytes_value(&vec![0; options.size]);
    let started = Instant::now();
    let mut sent = 0u64;
    // The clock is read now and then only.
    while !sent.is_multiple_of(64) || started.elapsed() < Duration::from_secs(options.seconds) {
        connection.send(options.channel(), message.clone()).await.map_err(|error| error.to_string())?;
        sent += 1;
    }
    connection.flush_and_close(CloseReason::requested("done")).await;
    let seconds = started.elapsed().as_secs_f64();
    let line = serde_json::json!({
        "event": "flood", "size": options.size, "messages": sent, "seconds": seconds,
        "msgs_per_s": sent as f64 / seconds, "MB_per_s": (sent * options.size as u64) as f64 / 1e6 / seconds,
    });
    println!("{line}");
    Ok(())
}

async fn ping(mut connection: Connection, options: &Options) -> Result<(), String> {
    let message = bytes_value(&vec![7; options.size]);
    let mut times = Vec::with_capacity(options.count);
    for _ in 0..options.count {
        let started = Instant::now();
        connection.send(options.channel(), message.clone()).await.map_err(|error| error.to_string())?;
        let echo = tokio::time::timeout(Duration::from_secs(5), connection.recv()).await;
        echo.map_err(|_| "no echo in 5 s")?.ok_or("connection ended")?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    print_times("ping", options.size, times);
    connection.flush_and_close(CloseReason::requested("done")).await;
    Ok(())
}

async fn handshakes(transport: &TendermintTransport, address: &PeerAddress, count: usize) -> Result<(), String> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        let connection = transport.dial(address).await.map_err(|error| error.to_string())?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
        connection.flush_and_close(CloseReason::requested("done")).await;
    }
    print_times("handshake", 0, times);
    Ok(())
}

/// Connections that have carried one message and do nothing: what does each hold on this side? Linux only.
async fn idle(transport: &TendermintTransport, dial: Option<&PeerAddress>, options: &Options) -> Result<(), String> {
    if dial.is_none() {
        println!("{}", transport.address().ok_or("--laddr: an address that peers can dial is needed")?);
    }
    let message = bytes_value(&vec![7; options.size]);
    let (mut connections, mut before) = (Vec::with_capacity(options.count), 0);
    for n in 0..options.count {
        let mut connection = match dial {
            Some(address) => transport.dial(address).await.map_err(|error| error.to_string())?,
            None => {
                let incoming = transport.accept().await.map_err(|error| error.to_string())?;
                incoming.handshake().await.map_err(|error| error.to_string())?
            }
        };
        match dial {
            Some(_) => connection.send(options.channel(), message.clone()).await.map_err(|error| error.to_string())?,
            None => drop(connection.recv().await.ok_or("connection ended")?),
        }
        connections.push(connection);
        // What the first ones need for all is not counted.
        if n < options.count / 10 {
            before = resident()?;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (after, counted) = (resident()?, options.count - options.count / 10);
    let each = after.saturating_sub(before) / counted.max(1) as u64;
    println!(
        "{}",
        serde_json::json!({ "event": "idle", "connections": options.count, "rss": after, "rss_each": each })
    );
    for connection in &connections {
        connection.closed().await;
    }
    Ok(())
}

/// The process's resident memory, in bytes.
fn resident() -> Result<u64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().map_err(|_| "VmRSS is no number")?;
    Ok(kib * 1024)
}

fn print_times(event: &str, size: usize, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).or(times.last()).copied();
    let line = serde_json::json!({
        "event": event, "size": size, "count": times.len(), "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99),
    });
    println!("{line}");
}
