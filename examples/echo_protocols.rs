//! Protocols over RLPx: two of them share each connection, and both answer requests with what was asked.
//!
//! `cargo run --example echo_protocols` has two nodes of this process talk to each other. As a partner for other programs
//! (`tests/interop`): `echo_protocols LISTEN COUNT [ENODE…]` prints its enode, answers whoever comes, and asks each of these nodes COUNT
//! questions on each protocol: random bytes and repeated ones, most of up to 32 KiB, one in a hundred of up to 1 MiB. They are sent without
//! waiting; each answer must be the next question. It prints a line for each protocol that has all.

use std::{error::Error, net::SocketAddr};

use bytes::Bytes;
use kadwire::{
    config::EthereumConfig,
    node::Node,
    protocol::{Message, PeerSender, PeerStream, Protocol, ProtocolError},
};
use kadwire_discovery::SecretKey;
use kadwire_wire::{address::PeerAddress, transport::Direction};
use rand::{
    Rng, RngExt, SeedableRng,
    rngs::{StdRng, SysRng},
};
use tokio::sync::mpsc;

const REQUEST: u64 = 0;
const ANSWER: u64 = 1;

/// The protocols, both of two messages.
const NAMES: [&str; 2] = ["kad", "kae"];

/// What is asked, one message after another: always the same, so that whoever checks the answers can make them again.
struct Questions {
    rng: StdRng,
    left: usize,
}

impl Questions {
    fn new(count: usize) -> Self {
        Questions { rng: StdRng::seed_from_u64(7), left: count }
    }
}

impl Iterator for Questions {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.left = self.left.checked_sub(1)?;
        let bits = if self.left.is_multiple_of(100) { 20 } else { self.rng.random_range(0..16_u32) };
        let size = self.rng.random_range(0..=1_usize << bits);
        let mut question = vec![self.rng.random(); size];
        if self.rng.random() {
            self.rng.fill_bytes(&mut question);
        }
        Some(question.into())
    }
}

/// One protocol with one peer. Only who dialed asks: two that both ask, and answer before they read on, could wait for each other.
async fn talk(
    mut stream: PeerStream,
    name: &str,
    count: usize,
    done: mpsc::Sender<String>,
) -> Result<(), ProtocolError> {
    let count = if stream.peer().direction == Direction::Outbound { count } else { 0 };
    let mut wanted = Questions::new(count);
    let asking = tokio::spawn(ask(stream.sender(), Questions::new(count)));
    while let Some(Message { code, payload }) = stream.recv().await {
        if code == REQUEST {
            stream.send(ANSWER, payload).await?;
            continue;
        }
        if wanted.next() != Some(payload) {
            return Err(ProtocolError::failed(format!("not the answer to question {}", count - wanted.left)));
        }
        if wanted.left == 0 {
            // Nobody may want to know.
            let _ = done.send(format!("{name}: {count} answers")).await;
        }
    }
    asking.abort();
    Ok(())
}

async fn ask(peer: PeerSender, questions: Questions) -> Result<(), ProtocolError> {
    for question in questions {
        peer.send(REQUEST, question).await?;
    }
    Ok(())
}

/// A node that has both protocols, and asks each of `peers` so many questions on each of them.
async fn start(
    listen: SocketAddr,
    count: usize,
    peers: Vec<PeerAddress>,
    done: &mpsc::Sender<String>,
) -> Result<Node, Box<dyn Error>> {
    let mut config = EthereumConfig::new(SecretKey::random(&mut StdRng::try_from_rng(&mut SysRng)?), Some(listen));
    config.static_nodes = peers;
    let mut builder = Node::ethereum_builder(config);
    for name in NAMES {
        let done = done.clone();
        let talk = move |stream| {
            let done = done.clone();
            async move { talk(stream, name, count, done).await }
        };
        builder.with_protocol(Protocol::new(name, 1, 2, talk)?);
    }
    Ok(builder.start().await?)
}

fn enode(node: &Node) -> Result<PeerAddress, Box<dyn Error>> {
    Ok(node.ethereum().ok_or("a node without RLPx")?.local_address().cloned().ok_or("a node that does not listen")?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (done, mut all_back) = mpsc::channel(16);
    let [listen, count, peers @ ..] = arguments.as_slice() else {
        return both_here().await;
    };
    let peers = peers.iter().map(|peer| peer.parse()).collect::<Result<_, _>>()?;
    let node = start(listen.parse()?, count.parse()?, peers, &done).await?;
    println!("{}", enode(&node)?);
    while let Some(line) = all_back.recv().await {
        println!("{line}");
    }
    Ok(())
}

/// Two nodes, until one has asked the other a thousand questions on each protocol.
async fn both_here() -> Result<(), Box<dyn Error>> {
    let (done, mut all_back) = mpsc::channel(16);
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let answering = start(anywhere, 0, Vec::new(), &done).await?;
    let asking = start(anywhere, 1000, vec![enode(&answering)?], &done).await?;
    for _ in NAMES {
        println!("{}", all_back.recv().await.ok_or("the handlers ended early")?);
    }
    asking.stop().await;
    answering.stop().await;
    Ok(())
}
