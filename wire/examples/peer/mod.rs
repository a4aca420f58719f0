//! What the bare peers of both wires share: the command line, the modes that send and receive, and the JSON lines that they print.

use std::{
    collections::BTreeMap, fmt::Display, future::Future, net::SocketAddr, process::ExitCode, str::FromStr,
    time::Duration,
};

use bytes::Bytes;
use kadwire_wire::{
    PeerAddress,
    transport::{CloseReason, Connection, Transport},
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tokio::{runtime, sync::mpsc, time::Instant};

/// Messages of a channel under way in an echo check.
const WINDOW: usize = 64;

/// The longest wait for the next echo.
const ECHO_TIMEOUT: Duration = Duration::from_secs(30);

/// What the command line asks of a peer of any wire.
pub(crate) struct Options {
    pub(crate) dial: Option<PeerAddress>,
    pub(crate) laddr: SocketAddr,
    pub(crate) source: Option<std::net::IpAddr>,
    pub(crate) mode: String,
    pub(crate) count: usize,
    pub(crate) size: usize,
    min: usize,
    max: usize,
    sizes: Vec<usize>,
    seconds: u64,
    seed: u64,
    delay: Duration,
    report: u64,
    once: bool,
}

impl Options {
    /// Flags that are not known here are given to `own` with their values; it says whether it knows them. Messages have less than `limit` bytes.
    pub(crate) fn parse(
        mut args: impl Iterator<Item = String>,
        limit: usize,
        mut own: impl FnMut(&str, &str) -> Result<bool, String>,
    ) -> Result<Self, String> {
        let dial = match args.next().as_deref() {
            Some("listen") => None,
            Some("dial") => Some(parse("the address", &args.next().ok_or("dial: an address is missing")?)?),
            other => return Err(format!("expected 'listen' or 'dial', found {:?}", other.unwrap_or("nothing"))),
        };
        let mut options = Options {
            mode: if dial.is_some() { "echo-check" } else { "echo" }.to_owned(),
            dial,
            laddr: ([127, 0, 0, 1], 0).into(),
            source: None,
            count: 1000,
            size: 1024,
            min: 1,
            max: 1 << 20,
            sizes: Vec::new(),
            seconds: 5,
            seed: 1,
            delay: Duration::ZERO,
            report: 0,
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
                "--mode" => options.mode = value,
                "--count" => options.count = parse(&flag, &value)?,
                "--size" => options.size = parse(&flag, &value)?,
                "--min" => options.min = parse(&flag, &value)?,
                "--max" => options.max = parse(&flag, &value)?,
                "--sizes" => options.sizes = parse_list(&value, |size| parse(&flag, size))?,
                "--seconds" => options.seconds = parse(&flag, &value)?,
                "--seed" => options.seed = parse(&flag, &value)?,
                "--delay" => options.delay = Duration::from_millis(parse(&flag, &value)?),
                "--report" => options.report = parse(&flag, &value)?,
                _ if own(&flag, &value)? => {}
                _ => return Err(format!("unknown flag {flag}")),
            }
        }
        let largest = options.sizes.iter().copied().chain([options.max, options.size]).max();
        if !(1..=options.max).contains(&options.min) || largest >= Some(limit) {
            return Err(format!("sizes must be 1 <= --min <= --max, and below {limit}"));
        }
        Ok(options)
    }
}

pub(crate) fn parse<T: FromStr<Err: Display>>(what: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{what}: {value:?}: {error}"))
}

pub(crate) fn parse_list<T>(value: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    value.split(',').map(parse).collect()
}

/// Runs to the end: 2 if the command line is wrong, 1 and a JSON line if the run fails.
pub(crate) fn run(
    program: &str,
    runtime: &mut runtime::Builder,
    run: Result<impl Future<Output = Result<(), String>>, String>,
) -> ExitCode {
    let run = match run {
        Ok(run) => run,
        Err(error) => {
            eprintln!("{program}: {error}");
            return ExitCode::from(2);
        }
    };
    let runtime = runtime.enable_all().build().map_err(|error| error.to_string());
    match runtime.and_then(|runtime| runtime.block_on(run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", serde_json::json!({ "event": "error", "error": error }));
            ExitCode::FAILURE
        }
    }
}

/// How a wire says what the modes say: its channels, of which most modes use the first, and a message of some bytes.
pub(crate) struct Speech {
    pub(crate) channels: Vec<u8>,
    pub(crate) message: fn(&[u8]) -> Bytes,
}

impl Speech {
    pub(crate) fn channel(&self) -> u8 {
        self.channels.first().copied().unwrap_or_default()
    }

    /// Random bytes, which do not compress.
    fn noise(&self, rng: &mut StdRng, size: usize) -> Bytes {
        let mut payload = vec![0; size];
        rng.fill_bytes(&mut payload);
        (self.message)(&payload)
    }
}

/// Prints where it listens, and serves whoever comes.
pub(crate) async fn listen(
    transport: &impl Transport,
    address: Option<PeerAddress>,
    speech: &Speech,
    options: &Options,
) -> Result<(), String> {
    println!("{}", address.ok_or("--laddr: an address that peers can dial is needed")?);
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
            return serve(connection, speech, options).await;
        }
        let (mode, delay, report) = (options.mode.clone(), options.delay, options.report);
        tokio::spawn(async move {
            match mode.as_str() {
                "echo" | "sink" => receive(connection, mode == "echo", delay, report).await,
                _ => connection.close(CloseReason::requested(format!("mode {mode} needs --once"))),
            }
        });
    }
}

/// Does with one peer what the mode says.
pub(crate) async fn serve(connection: Connection, speech: &Speech, options: &Options) -> Result<(), String> {
    match options.mode.as_str() {
        "echo" => receive(connection, true, options.delay, options.report).await,
        "sink" => receive(connection, false, options.delay, options.report).await,
        "echo-check" => return echo_check(connection, speech, options).await,
        "flood" => return flood(connection, speech, options).await,
        "ping" => return ping(connection, speech, options).await,
        mode => return Err(format!("--mode: {mode:?} is none of this program")),
    }
    Ok(())
}

async fn receive(mut connection: Connection, echo: bool, delay: Duration, report: u64) {
    let (mut messages, mut bytes, mut first) = (0u64, 0u64, None);
    loop {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let Some((channel, message)) = connection.recv().await else { break };
        first.get_or_insert_with(Instant::now);
        messages += 1;
        bytes += message.len() as u64;
        if report > 0 && messages.is_multiple_of(report) {
            println!("{}", serde_json::json!({ "event": "received", "messages": messages }));
        }
        if echo && connection.send(channel, message).await.is_err() {
            break;
        }
    }
    // Whoever floods hangs up at once.
    let seconds = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
    let reason = connection.closed().await.to_string();
    let stats = connection.stats();
    let line = serde_json::json!({
        "event": "peer_gone", "id": connection.peer, "name": connection.info.name(), "reason": reason,
        "messages": messages, "bytes": bytes,
        "seconds": seconds, "msgs_per_s": messages as f64 / seconds, "MB_per_s": bytes as f64 / 1e6 / seconds,
        "pings_sent": stats.pings_sent, "pongs_received": stats.pongs_received,
        "pings_received": stats.pings_received, "pongs_sent": stats.pongs_sent,
    });
    println!("{line}");
}

/// Every channel sends its messages at the same time as the others, and wants them back in order.
async fn echo_check(mut connection: Connection, speech: &Speech, options: &Options) -> Result<(), String> {
    let started = Instant::now();
    // What each channel still wants back, in order.
    let mut expected = BTreeMap::new();
    let mut sending = tokio::task::JoinSet::new();
    for &channel in &speech.channels {
        let (expect, wanted) = mpsc::channel::<Bytes>(WINDOW);
        expected.insert(channel, wanted);
        let (sender, messages) = (connection.sender.clone(), Messages::new(options, speech.message, channel));
        sending.spawn(async move {
            for message in messages {
                if expect.send(message.clone()).await.is_err() || sender.send(channel, message).await.is_err() {
                    return;
                }
            }
        });
    }
    let total = Messages::new(options, speech.message, 0).count * expected.len();
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
    speech: Speech,
    rng: StdRng,
    sizes: Vec<usize>,
    count: usize,
    range: (f64, f64),
    made: usize,
}

impl Messages {
    fn new(options: &Options, message: fn(&[u8]) -> Bytes, channel: u8) -> Self {
        let count = if options.sizes.is_empty() { options.count } else { options.sizes.len() };
        let range = (options.min as f64, options.max as f64);
        let rng = StdRng::seed_from_u64(options.seed ^ u64::from(channel) << 32);
        let speech = Speech { channels: vec![channel], message };
        Messages { speech, rng, sizes: options.sizes.clone(), count, range, made: 0 }
    }
}

impl Iterator for Messages {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.made == self.count {
            return None;
        }
        let (min, max) = self.range;
        // As many messages of 1–2 bytes as of 512–1024 KiB, unless sizes were given.
        let size = self.sizes.get(self.made).copied();
        let size = size.unwrap_or_else(|| (min * (max / min).powf(self.rng.random::<f64>())).round() as usize);
        self.made += 1;
        Some(self.speech.noise(&mut self.rng, size))
    }
}

async fn flood(connection: Connection, speech: &Speech, options: &Options) -> Result<(), String> {
    let message = speech.noise(&mut StdRng::seed_from_u64(options.seed), options.size);
    let started = Instant::now();
    let mut sent = 0u64;
    // The clock is read now and then only.
    while !sent.is_multiple_of(64) || started.elapsed() < Duration::from_secs(options.seconds) {
        connection.send(speech.channel(), message.clone()).await.map_err(|error| error.to_string())?;
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

async fn ping(mut connection: Connection, speech: &Speech, options: &Options) -> Result<(), String> {
    let message = speech.noise(&mut StdRng::seed_from_u64(options.seed), options.size);
    let mut times = Vec::with_capacity(options.count);
    for _ in 0..options.count {
        let started = Instant::now();
        connection.send(speech.channel(), message.clone()).await.map_err(|error| error.to_string())?;
        let echo = tokio::time::timeout(Duration::from_secs(5), connection.recv()).await;
        echo.map_err(|_| "no echo in 5 s")?.ok_or("connection ended")?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    print_times("ping", options.size, times);
    connection.flush_and_close(CloseReason::requested("done")).await;
    Ok(())
}

/// Times in µs.
pub(crate) fn print_times(event: &str, size: usize, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).or(times.last()).copied();
    let line = serde_json::json!({
        "event": event, "size": size, "count": times.len(), "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99),
    });
    println!("{line}");
}
