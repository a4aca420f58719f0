//! A bare Ethereum peer, to try RLPx against other implementations and to measure it.
//!
//! ```text
//! rlpx_peer listen --laddr 127.0.0.1:0 --mode echo|sink
//! rlpx_peer dial enode://…@ip:port --mode echo-check --count 1000 --max 1048576 --seed 1
//! rlpx_peer dial enode://…@ip:port --mode flood --size 65536 --seconds 2
//! rlpx_peer dial enode://…@ip:port --mode ping --size 64 --count 1000
//! rlpx_peer listen --mode accept                                  and, in another process:
//! rlpx_peer dial enode://…@ip:port --mode handshakes --count 1000  the encryption handshake alone, without Hello
//! ```
//!
//! Also: `--protocol NAME/VERSION/LENGTH` (bench/1/8), `--source IP`. A listener prints its enode first, then a JSON line for each peer that
//! leaves; a dialer prints one JSON line. Messages have the code 0 and random bytes, which do not compress.

use std::{net::SocketAddr, process::ExitCode, str::FromStr, time::Duration};

use bytes::Bytes;
use kadwire_wire::{
    PeerAddress,
    rlpx::{Handshake, PublicKey, SecretKey, capability::Protocol, message::join},
    transport::{CloseReason, Connection, RlpxConfig, RlpxTransport, Transport},
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    time::Instant,
};

/// Messages under way in an echo check.
const WINDOW: usize = 64;

/// The longest wait for the next echo.
const ECHO_TIMEOUT: Duration = Duration::from_secs(30);

/// Messages that may wait to be sent: what a few writes take.
const SEND_QUEUE: usize = 1024;

/// The only protocol's channel.
const CHANNEL: u8 = 0;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("rlpx_peer: {error}");
            return ExitCode::from(2);
        }
    };
    // One handshake after the other is work for one thread; others would only cost what it takes to wake them.
    let mut runtime = match options.mode.as_str() {
        "accept" | "handshakes" => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let result = runtime.enable_all().build().map_err(|error| error.to_string());
    match result.and_then(|runtime| runtime.block_on(run(options))) {
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
    protocol: Protocol,
    mode: String,
    count: usize,
    max: usize,
    size: usize,
    seconds: u64,
    seed: u64,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let dial = match args.next().as_deref() {
            Some("listen") => None,
            Some("dial") => Some(parse("the address", &args.next().ok_or("dial: an enode is missing")?)?),
            other => return Err(format!("expected 'listen' or 'dial', found {:?}", other.unwrap_or("nothing"))),
        };
        let mut options = Options {
            mode: if dial.is_some() { "echo-check" } else { "echo" }.to_owned(),
            dial,
            laddr: ([127, 0, 0, 1], 0).into(),
            source: None,
            protocol: parse_protocol("bench/1/8")?,
            count: 1000,
            max: 1 << 20,
            size: 1024,
            seconds: 2,
            seed: 1,
        };
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| format!("{flag}: a value is missing"))?;
            match flag.as_str() {
                "--laddr" => options.laddr = parse(&flag, &value)?,
                "--source" => options.source = Some(parse(&flag, &value)?),
                "--protocol" => options.protocol = parse_protocol(&value)?,
                "--mode" => options.mode = value,
                "--count" => options.count = parse(&flag, &value)?,
                "--max" => options.max = parse(&flag, &value)?,
                "--size" => options.size = parse(&flag, &value)?,
                "--seconds" => options.seconds = parse(&flag, &value)?,
                "--seed" => options.seed = parse(&flag, &value)?,
                _ => return Err(format!("unknown flag {flag}")),
            }
        }
        Ok(options)
    }
}

fn parse<T: FromStr<Err: std::fmt::Display>>(what: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{what}: {value:?}: {error}"))
}

fn parse_protocol(value: &str) -> Result<Protocol, String> {
    let [name, version, length] = value.split('/').collect::<Vec<_>>()[..] else {
        return Err(format!("--protocol: {value:?}: expected name/version/length"));
    };
    let (version, length) = (parse("--protocol: a version", version)?, parse("--protocol: a length", length)?);
    let protocol = Protocol::new(name, version, length).map_err(|error| format!("--protocol: {error}"))?;
    Ok(Protocol { send_queue: SEND_QUEUE, ..protocol })
}

async fn run(options: Options) -> Result<(), String> {
    let key = SecretKey::random(&mut new_rng());
    match (&options.dial, options.mode.as_str()) {
        (None, "accept") => return accept_handshakes(&key, options.laddr).await.map_err(|error| error.to_string()),
        (Some(address), "handshakes") => {
            return handshakes(&key, address, options.count).await.map_err(|error| error.to_string());
        }
        _ => {}
    }
    let mut config = RlpxConfig::new(key, "rlpx_peer", vec![options.protocol]);
    config.listen = options.dial.is_none().then_some(options.laddr);
    config.source = options.source;
    let transport = RlpxTransport::bind(config).await.map_err(|error| error.to_string())?;
    let Some(address) = &options.dial else { return listen(&transport, &options).await };
    let connection = transport.dial(address).await.map_err(|error| error.to_string())?;
    match options.mode.as_str() {
        "echo-check" => echo_check(connection, &options).await,
        "flood" => flood(connection, &options).await,
        "ping" => ping(connection, &options).await,
        mode => Err(format!("dial: unknown mode {mode}")),
    }
}

async fn listen(transport: &RlpxTransport, options: &Options) -> Result<(), String> {
    println!("{}", transport.address().ok_or("--laddr: an address that peers can dial is needed")?);
    let echo = match options.mode.as_str() {
        "echo" => true,
        "sink" => false,
        mode => return Err(format!("listen: unknown mode {mode}")),
    };
    loop {
        let incoming = transport.accept().await.map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            match incoming.handshake().await {
                Ok(connection) => serve(connection, echo).await,
                Err(error) => eprintln!("rlpx_peer: {error}"),
            }
        });
    }
}

async fn serve(mut connection: Connection, echo: bool) {
    let (mut messages, mut bytes, mut begun) = (0u64, 0, None);
    let mut last = Instant::now();
    while let Some((channel, message)) = connection.recv().await {
        // The clock is read now and then only.
        if messages.is_multiple_of(64) {
            last = Instant::now();
        }
        begun.get_or_insert(last);
        messages += 1;
        bytes += message.len() as u64 - 1;
        if echo && connection.send(channel, message).await.is_err() {
            break;
        }
    }
    let seconds = (Instant::now() - begun.unwrap_or(last)).as_secs_f64();
    let line = serde_json::json!({
        "event": "peer_gone", "peer": connection.peer, "name": connection.info.name(), "messages": messages, "bytes": bytes,
        "seconds": seconds, "msgs_per_s": messages as f64 / seconds, "MB_per_s": bytes as f64 / 1e6 / seconds,
        "reason": connection.closed().await.to_string(),
    });
    println!("{line}");
}

/// A message of random bytes.
fn message(rng: &mut StdRng, size: usize) -> Bytes {
    let mut payload = vec![0; size];
    rng.fill_bytes(&mut payload);
    join(0, &payload)
}

async fn echo_check(mut connection: Connection, options: &Options) -> Result<(), String> {
    let started = Instant::now();
    let mut rng = StdRng::seed_from_u64(options.seed);
    let (count, max, sender) = (options.count, options.max as f64, connection.sender.clone());
    let (expect, mut expected) = tokio::sync::mpsc::channel::<Bytes>(WINDOW);
    let sending = tokio::spawn(async move {
        for _ in 0..count {
            // As many messages of 1–2 bytes as of half to all of the largest.
            let size = max.powf(rng.random::<f64>()).round() as usize;
            let message = message(&mut rng, size);
            if expect.send(message.clone()).await.is_err() || sender.send(CHANNEL, message).await.is_err() {
                return;
            }
        }
    });
    let (mut good, mut bytes) = (0, 0);
    while good < count {
        let received = tokio::time::timeout(ECHO_TIMEOUT, connection.recv()).await;
        let received = received.map_err(|_| format!("no echo in {ECHO_TIMEOUT:?}, after {good}"))?;
        let Some((_, message)) = received else {
            return Err(format!("connection ended after {good}: {}", connection.closed().await));
        };
        // It was noted before it was sent.
        if expected.try_recv().ok().as_ref() != Some(&message) {
            return Err(format!("another message came back after {good}"));
        }
        (good, bytes) = (good + 1, bytes + message.len());
    }
    sending.abort();
    let seconds = started.elapsed().as_secs_f64();
    let line = serde_json::json!({ "event": "echo_check", "echoed": good, "bytes": bytes, "seconds": seconds });
    println!("{line}");
    connection.flush_and_close(CloseReason::requested("done")).await;
    Ok(())
}

async fn flood(connection: Connection, options: &Options) -> Result<(), String> {
    let message = message(&mut StdRng::seed_from_u64(options.seed), options.size);
    let started = Instant::now();
    let mut sent = 0u64;
    // The clock is read now and then only.
    while !sent.is_multiple_of(64) || started.elapsed() < Duration::from_secs(options.seconds) {
        connection.send(CHANNEL, message.clone()).await.map_err(|error| error.to_string())?;
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
    let message = message(&mut StdRng::seed_from_u64(options.seed), options.size);
    let mut times = Vec::with_capacity(options.count);
    for _ in 0..options.count {
        let started = Instant::now();
        connection.send(CHANNEL, message.clone()).await.map_err(|error| error.to_string())?;
        connection.recv().await.ok_or("connection ended")?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied();
    println!("{}", serde_json::json!({ "event": "ping", "size": options.size, "p50_us": at(0.5), "p99_us": at(0.99) }));
    connection.flush_and_close(CloseReason::requested("done")).await;
    Ok(())
}

type Failure = Box<dyn std::error::Error>;

async fn accept_handshakes(key: &SecretKey, laddr: SocketAddr) -> Result<(), Failure> {
    let listener = TcpListener::bind(laddr).await?;
    println!("{}", PeerAddress::from_socket((*key.public()).into(), listener.local_addr()?)?);
    loop {
        let (stream, _) = listener.accept().await?;
        shake_hands(stream, Handshake::recipient(key, &mut new_rng())).await?;
    }
}

async fn handshakes(key: &SecretKey, address: &PeerAddress, count: usize) -> Result<(), Failure> {
    let recipient = PublicKey::from_bytes(&address.id().ethereum().ok_or("no enode")?)?;
    for _ in 0..count {
        let stream = TcpStream::connect(address.socket_addr().ok_or("no IP")?).await?;
        shake_hands(stream, Handshake::initiator(key, &recipient, &mut new_rng())).await?;
    }
    Ok(())
}

async fn shake_hands(mut stream: TcpStream, mut handshake: Handshake<'_>) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let mut bytes = [0; 2048];
    loop {
        while let Some(bytes) = handshake.poll_transmit() {
            stream.write_all(&bytes).await?;
        }
        if handshake.poll_secured().is_some() {
            return Ok(());
        }
        let len = stream.read(&mut bytes).await?;
        if len == 0 {
            return Err("the peer hung up".into());
        }
        handshake.handle_bytes(&bytes[..len])?;
    }
}

#[expect(clippy::disallowed_methods, reason = "driver: keys come from the operating system")]
fn new_rng() -> StdRng {
    rand::make_rng()
}
