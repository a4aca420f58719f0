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
//! Also: `--protocol NAME/VERSION/LENGTH` (bench/1/8), `--source IP`, and of `mconn_peer`'s flags those that are not Tendermint's. A listener prints its enode first, then a JSON line for each peer that
//! leaves; a dialer prints one JSON line. Messages have the code 0 and random bytes, which do not compress.

mod peer;

use std::{net::SocketAddr, process::ExitCode};

use kadwire_wire::{
    PeerAddress,
    rlpx::{
        Handshake, PublicKey, SecretKey,
        capability::Protocol,
        message::{MAX_MESSAGE_SIZE, join},
    },
    transport::{RlpxConfig, RlpxTransport, Transport},
};
use peer::{Options, Speech, parse};
use rand::rngs::StdRng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

/// Messages that may wait to be sent: what a few writes take.
const SEND_QUEUE: usize = 1024;

fn main() -> ExitCode {
    let options = parse_options(std::env::args().skip(1));
    // One handshake after the other is work for one thread; others would only cost what it takes to wake them.
    let mut runtime = match &options {
        Ok((options, _)) if matches!(options.mode.as_str(), "accept" | "handshakes") => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    peer::run("rlpx_peer", &mut runtime, options.map(|(options, protocol)| run(options, protocol)))
}

fn parse_options(args: impl Iterator<Item = String>) -> Result<(Options, Protocol), String> {
    let mut protocol = parse_protocol("bench/1/8")?;
    let options = Options::parse(args, MAX_MESSAGE_SIZE, |flag, value| {
        if flag == "--protocol" {
            protocol = parse_protocol(value)?;
        }
        Ok(flag == "--protocol")
    })?;
    Ok((options, protocol))
}

fn parse_protocol(value: &str) -> Result<Protocol, String> {
    let [name, version, length] = value.split('/').collect::<Vec<_>>()[..] else {
        return Err(format!("--protocol: {value:?}: expected name/version/length"));
    };
    let (version, length) = (parse("--protocol: a version", version)?, parse("--protocol: a length", length)?);
    let protocol = Protocol::new(name, version, length).map_err(|error| format!("--protocol: {error}"))?;
    Ok(Protocol { send_queue: SEND_QUEUE, ..protocol })
}

async fn run(options: Options, protocol: Protocol) -> Result<(), String> {
    let key = SecretKey::random(&mut new_rng());
    match (&options.dial, options.mode.as_str()) {
        (None, "accept") => return accept_handshakes(&key, options.laddr).await.map_err(|error| error.to_string()),
        (Some(address), "handshakes") => {
            return handshakes(&key, address, options.count).await.map_err(|error| error.to_string());
        }
        _ => {}
    }
    // The only protocol is the first channel.
    let speech = Speech { channels: vec![0], message: |payload| join(0, payload) };
    let mut config = RlpxConfig::new(key, "rlpx_peer", vec![protocol]);
    config.listen = options.dial.is_none().then_some(options.laddr);
    config.source = options.source;
    let transport = RlpxTransport::bind(config).await.map_err(|error| error.to_string())?;
    let Some(address) = &options.dial else {
        return peer::listen(&transport, transport.address(), &speech, &options).await;
    };
    let connection = transport.dial(address).await.map_err(|error| error.to_string())?;
    peer::serve(connection, &speech, &options).await
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
