//! SecretConnections alone, over TCP: bytes through one (one process seals and writes, the other reads and opens), or
//! handshakes, one after the other.
//!
//! ```text
//! secret_throughput listen 127.0.0.1:0                      prints the address, then one JSON line when the peer is gone
//! secret_throughput dial 127.0.0.1:40000 65536 2            writes of 65,536 bytes for 2 seconds
//! secret_throughput accept 127.0.0.1:0                      prints the address, then completes handshakes until it is killed
//! secret_throughput handshakes 127.0.0.1:40000 1000         as many handshakes
//! ```

#![expect(clippy::disallowed_methods, reason = "driver: it measures time and makes keys")]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use kadwire_wire::tendermint::{
    key::NodeKey,
    secret_connection::{Handshake, SealBuffer, Secured},
};
use rand::rngs::StdRng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

type Failure = Box<dyn Error>;

/// Read at most this much at once, and write about as much: as many writes of the user's as fit leave together, as in a live connection.
const READ: usize = 384 * 1024;
const BATCH: usize = 320 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["listen", address] => {
            let listener = TcpListener::bind(address).await?;
            println!("{}", listener.local_addr()?);
            receive(listener.accept().await?.0).await
        }
        ["accept", address] => {
            let (listener, key) = (TcpListener::bind(address).await?, new_key());
            println!("{}", listener.local_addr()?);
            loop {
                secure(&mut listener.accept().await?.0, &key).await?;
            }
        }
        ["handshakes", address, count] => {
            let key = new_key();
            for _ in 0..count.parse()? {
                secure(&mut TcpStream::connect(address).await?, &key).await?;
            }
            Ok(())
        }
        ["dial", address, size, seconds] => {
            let until = Duration::from_secs_f64(seconds.parse()?);
            send(TcpStream::connect(address).await?, size.parse()?, until).await
        }
        _ => Err("usage: secret_throughput listen IP:PORT | dial IP:PORT BYTES SECONDS | accept IP:PORT | handshakes IP:PORT COUNT".into()),
    }
}

fn new_key() -> NodeKey {
    NodeKey::generate(&mut rand::make_rng::<StdRng>())
}

async fn secure(stream: &mut TcpStream, key: &NodeKey) -> Result<Secured, Failure> {
    stream.set_nodelay(true)?;
    let mut handshake = Handshake::new(key, &mut rand::make_rng::<StdRng>());
    let mut buffer = Vec::with_capacity(READ);
    loop {
        if let Some(bytes) = handshake.poll_transmit() {
            stream.write_all(&bytes).await?;
        } else if let Some(mut secured) = handshake.poll_secured() {
            secured.received.spare(buffer.len()).extend_from_slice(&buffer);
            return Ok(secured);
        } else if stream.read_buf(&mut buffer).await? == 0 {
            return Err("the peer hung up".into());
        } else {
            let taken = handshake.handle_bytes(&buffer)?;
            buffer.drain(..taken);
        }
    }
}

async fn send(mut stream: TcpStream, size: usize, until: Duration) -> Result<(), Failure> {
    let mut secured = secure(&mut stream, &new_key()).await?;
    let (data, mut frames) = (vec![7; size], SealBuffer::default());
    let started = Instant::now();
    while started.elapsed() < until {
        while frames.len() < BATCH {
            frames.put(&data);
        }
        frames.seal(&mut secured.sealer)?;
        stream.write_all(frames.sealed()).await?;
        frames.clear();
    }
    Ok(())
}

async fn receive(mut stream: TcpStream) -> Result<(), Failure> {
    let Secured { mut opener, received: mut frames, .. } = secure(&mut stream, &new_key()).await?;
    let (started, mut bytes) = (Instant::now(), 0);
    loop {
        frames.open(&mut opener)?;
        bytes += frames.plaintext().len();
        frames.consume(frames.plaintext().len());
        if stream.read_buf(&mut frames.spare(READ)).await? == 0 {
            break;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let line = serde_json::json!({
        "event": "received", "bytes": bytes, "seconds": seconds, "MB_per_s": bytes as f64 / 1e6 / seconds,
    });
    println!("{line}");
    Ok(())
}
