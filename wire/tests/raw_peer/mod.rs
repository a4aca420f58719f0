//! A peer that does by hand what the TCP driver does, up to the stage where a test wants it to be evil.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{net::SocketAddr, time::Duration};

use kadwire_wire::{
    tendermint::{
        key::NodeKey,
        mconnection::{ChannelSpec, MConnectionConfig},
        node_info::NodeInfo,
        secret_connection::{Handshake, SealBuffer, Secured},
    },
    transport::{Connection, Endpoint, TendermintConfig, TendermintTransport, Transport},
};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

pub(crate) const CHANNEL: u8 = 0x30;

pub(crate) fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed(&[seed; 32])
}

/// A node on its own loopback address, without rate limits.
pub(crate) fn config(seed: u8, ip: [u8; 4]) -> TendermintConfig {
    let mut config = TendermintConfig::new(key(seed), "test-net", format!("node {seed}"));
    config.channels = vec![ChannelSpec { send_queue: 16, ..ChannelSpec::new(CHANNEL) }, ChannelSpec::new(0x31)];
    config.listen = Some((ip, 0).into());
    config.mconnection = MConnectionConfig { send_rate: 0, recv_rate: 0, ..MConnectionConfig::default() };
    config
}

pub(crate) async fn node(seed: u8, ip: [u8; 4]) -> TendermintTransport {
    TendermintTransport::bind(config(seed, ip)).await.unwrap()
}

/// Dials from the first to the second; both ends.
pub(crate) async fn connect(a: &TendermintTransport, b: &TendermintTransport) -> (Connection, Connection) {
    let address = b.address().unwrap();
    let (dialed, accepted) = tokio::join!(a.dial(&address), async { b.accept().await.unwrap().handshake().await });
    (dialed.unwrap(), accepted.unwrap())
}

pub(crate) fn socket(transport: &TendermintTransport) -> SocketAddr {
    match transport.local() {
        Endpoint::Socket(socket) => socket,
        Endpoint::Memory(_) => unreachable!("a TCP transport"),
    }
}

pub(crate) struct RawPeer {
    pub(crate) stream: TcpStream,
    pub(crate) secured: Secured,
}

impl RawPeer {
    /// An honest SecretConnection.
    pub(crate) async fn secure(mut stream: TcpStream, seed: u8) -> Self {
        let key = key(seed);
        let mut handshake = Handshake::new(&key, &mut StdRng::seed_from_u64(seed.into()));
        let mut secured = loop {
            if let Some(bytes) = handshake.poll_transmit() {
                stream.write_all(&bytes).await.unwrap();
            }
            if let Some(secured) = handshake.poll_secured() {
                break secured;
            }
            // Byte by byte, so that no frame of what follows is taken.
            let byte = stream.read_u8().await.unwrap();
            handshake.handle_bytes(&[byte]).unwrap();
        };
        secured.received.open(&mut secured.opener).unwrap();
        RawPeer { stream, secured }
    }

    pub(crate) async fn dial(to: SocketAddr, seed: u8) -> Self {
        Self::secure(TcpStream::connect(to).await.unwrap(), seed).await
    }

    /// An honest NodeInfo, but for what `change` does to it.
    pub(crate) fn node_info(seed: u8, change: impl FnOnce(&mut NodeInfo)) -> Vec<u8> {
        let mut info = NodeInfo::new(key(seed).id(), "test-net", "raw");
        info.channels = vec![CHANNEL];
        change(&mut info);
        delimited(&info.encode())
    }

    /// Up to a live connection.
    pub(crate) async fn connect(to: SocketAddr, seed: u8) -> Self {
        let mut peer = Self::dial(to, seed).await;
        peer.write(&Self::node_info(seed, |_| ())).await;
        // Their NodeInfo has less than one frame.
        let _ = peer.read_some().await;
        peer
    }

    pub(crate) async fn write(&mut self, plaintext: &[u8]) {
        self.try_write(plaintext).await.unwrap();
    }

    pub(crate) async fn try_write(&mut self, plaintext: &[u8]) -> std::io::Result<()> {
        let mut frames = SealBuffer::default();
        frames.put(plaintext);
        frames.seal(&mut self.secured.sealer).unwrap();
        self.stream.write_all(frames.sealed()).await
    }

    /// The next plaintext; `None` when the stream ends.
    pub(crate) async fn read_some(&mut self) -> Option<Vec<u8>> {
        loop {
            let received = &mut self.secured.received;
            received.open(&mut self.secured.opener).unwrap();
            if !received.plaintext().is_empty() {
                let plaintext = received.plaintext().to_vec();
                received.consume(plaintext.len());
                return Some(plaintext);
            }
            let read = self.stream.read_buf(received.spare(2000)).await;
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

/// Puts a length of up to 14 bits in front.
pub(crate) fn delimited(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let len = message.len();
    if len < 0x80 {
        out.push(len as u8);
    } else {
        out.extend([(len & 0x7f) as u8 | 0x80, (len >> 7) as u8]);
    }
    out.extend_from_slice(message);
    out
}

/// Nothing here takes long; a test that hangs says where.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("{what} hangs"))
}

/// With the strangers' ends, fewer files than the thousand that many systems allow.
const STREAMS: usize = 400;

/// What a node holds for each of many streams whose other end says nothing more, in bytes. `open` opens the n-th and goes as far as it will.
pub(crate) async fn held_for_each(node: &impl Transport, open: impl AsyncFn(usize) -> TcpStream) -> usize {
    let (mut handshakes, mut strangers, mut before) = (JoinSet::new(), Vec::new(), 0);
    for n in 0..STREAMS {
        // The first ones pay for what all share.
        if n == STREAMS / 5 {
            before = allocated();
        }
        let accept = async {
            let incoming = node.accept().await.unwrap();
            handshakes.spawn(incoming.handshake());
        };
        let (stranger, ()) = soon("stream", async { tokio::join!(open(n), accept) }).await;
        strangers.push(stranger.into_std().unwrap());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(handshakes.try_join_next().is_none(), "all of them wait");
    (allocated() - before) / (STREAMS * 4 / 5)
}

/// The memory that this process may write to, in bytes, whether it has touched it or not.
pub(crate) fn allocated() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
