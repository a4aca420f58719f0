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
//! `--delay MS` (a slow reader: before each message it takes), `--report N` (a JSON line after every N messages that it took). A listener prints
//! `id@ip:port` first, then a JSON line for each peer that leaves; a dialer prints one JSON line. Messages are protobuf BytesValues, so that
//! a peer that decodes them is content.
//!
//! In an echo check every channel sends `--count` messages (or the `--sizes`) at the same time as the others, and wants them back in order.

mod peer;

use std::{process::ExitCode, time::Duration};

use bytes::Bytes;
use kadwire_wire::{
    PeerAddress,
    tendermint::{
        key::NodeKey,
        mconnection::{ChannelSpec, MConnectionConfig},
    },
    transport::{CloseReason, TendermintConfig, TendermintTransport, Transport},
};
use peer::{Options, Speech, parse, parse_list, print_times};
use rand::rngs::StdRng;
use tokio::{runtime::Builder, time::Instant};

/// The largest message on the channel: CometBFT's test peers take 32 MiB.
const MAX_MESSAGE: usize = 1 << 25;

fn main() -> ExitCode {
    let run = parse_options(std::env::args().skip(1)).map(|(options, own)| run(options, own));
    peer::run("mconn_peer", &mut Builder::new_multi_thread(), run)
}

/// What the command line asks of this wire only.
struct Own {
    network: String,
    /// Ids with their priorities, at least one.
    channels: Vec<(u8, u8)>,
    key: Option<std::path::PathBuf>,
    mconnection: MConnectionConfig,
}

fn parse_options(args: impl Iterator<Item = String>) -> Result<(Options, Own), String> {
    let mut own = Own {
        network: "interop-test".to_owned(),
        channels: vec![(0x30, 1)],
        key: None,
        mconnection: MConnectionConfig { send_rate: 0, recv_rate: 0, ..MConnectionConfig::default() },
    };
    let options = Options::parse(args, MAX_MESSAGE - 8, |flag, value| {
        let mconnection = &mut own.mconnection;
        match flag {
            "--network" => own.network = value.to_owned(),
            "--channel" | "--channels" => own.channels = parse_list(value, parse_channel)?,
            "--key" => own.key = Some(value.into()),
            "--payload" => mconnection.max_packet_payload = parse(flag, value)?,
            "--ping" => mconnection.ping_interval = Duration::from_millis(parse(flag, value)?),
            "--pong" => mconnection.pong_timeout = Duration::from_millis(parse(flag, value)?),
            "--rate" => {
                mconnection.send_rate = parse(flag, value)?;
                mconnection.recv_rate = mconnection.send_rate;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((options, own))
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

async fn run(options: Options, own: Own) -> Result<(), String> {
    #[expect(clippy::disallowed_methods, reason = "driver: a fresh identity for each run")]
    let mut rng = rand::make_rng::<StdRng>();
    let key = match &own.key {
        Some(file) => NodeKey::load(file).map_err(|error| format!("--key: {error}"))?,
        None => NodeKey::generate(&mut rng),
    };
    let speech = Speech { channels: own.channels.iter().map(|(id, _)| *id).collect(), message: bytes_value };
    let mut config = TendermintConfig::new(key, own.network, "mconn_peer");
    let spec = |(id, priority): (u8, u8)| ChannelSpec {
        priority,
        send_queue: 256,
        max_message_size: MAX_MESSAGE,
        ..ChannelSpec::new(id)
    };
    config.channels = own.channels.into_iter().map(spec).collect();
    config.listen = options.dial.is_none().then_some(options.laddr);
    config.source = options.source;
    config.mconnection = own.mconnection;
    let transport = TendermintTransport::bind(config).await.map_err(|error| error.to_string())?;
    match (&options.dial, options.mode.as_str()) {
        (dial, "idle") => idle(&transport, dial.as_ref(), &speech, &options).await,
        (None, _) => peer::listen(&transport, transport.address(), &speech, &options).await,
        (Some(address), "handshake") => handshakes(&transport, address, options.count).await,
        (Some(address), _) => {
            let connection = transport.dial(address).await.map_err(|error| error.to_string())?;
            peer::serve(connection, &speech, &options).await
        }
    }
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
async fn idle(
    transport: &TendermintTransport,
    dial: Option<&PeerAddress>,
    speech: &Speech,
    options: &Options,
) -> Result<(), String> {
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
            Some(_) => connection.send(speech.channel(), message.clone()).await.map_err(|error| error.to_string())?,
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
