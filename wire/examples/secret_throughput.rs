//! Bytes through a SecretConnection alone, over TCP: one process seals and writes, the other reads and opens.
//!
//! ```text
//! secret_throughput listen 127.0.0.1:0                      prints the address, then one JSON line when the peer is gone
//! secret_throughput dial 127.0.0.1:40000 65536 2            writes of 65,536 bytes for 2 seconds
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

/// Read at most this much at once.
const READ: usize = 64 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["listen", address] => {
            let listener = TcpListener::bind(address).await?;
            println!("{}", listener.local_addr()?);
            receive(listener.accept().await?.0).await
        }
        ["dial", address, size, seconds] => {
            let until = Duration::from_secs_f64(seconds.parse()?);
            send(TcpStream::connect(address).await?, size.parse()?, until).await
        }
        _ => Err("usage: secret_throughput listen IP:PORT | dial IP:PORT BYTES SECONDS".into()),
    }
}

async fn secure(stream: &mut TcpStream) -> Result<Secured, Failure> {
    let key = NodeKey::generate(&mut rand::make_rng::<StdRng>());
    let mut handshake = Handshake::new(&key, &mut rand::make_rng::<StdRng>());
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
    let mut secured = secure(&mut stream).await?;
    let (data, mut frames) = (vec![7; size], SealBuffer::default());
    let started = Instant::now();
    while started.elapsed() < until {
        frames.put(&data);
        frames.seal(&mut secured.sealer)?;
        stream.write_all(frames.sealed()).await?;
        frames.clear();
    }
    Ok(())
}

async fn receive(mut stream: TcpStream) -> Result<(), Failure> {
    let Secured { mut opener, received: mut frames, .. } = secure(&mut stream).await?;
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
