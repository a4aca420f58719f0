//! Ethereum peers that lie, stall or babble at each stage, over raw sockets: each gets a typed error that says whose fault it was, is counted, is
//! told why where it would understand, holds no memory, and disturbs nobody else.

mod handshake;
mod live;
#[path = "../raw_rlpx/mod.rs"]
mod raw_rlpx;

use std::{net::SocketAddr, time::Duration};

use kadwire_wire::{
    PeerId,
    rlpx::{PublicKey, SecretKey, capability::Protocol, hello::Hello, message::join},
    transport::{RlpxConfig, RlpxTransport, Transport},
};
use raw_rlpx::RawPeer;
use tokio::net::TcpStream;

/// What the node under test speaks: codes 16–20, messages of up to 100,000 bytes.
fn protocols() -> Vec<Protocol> {
    vec![Protocol { max_message_size: 100_000, ..Protocol::new("test", 1, 5).unwrap() }]
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

/// Node n listens at 127.131.0.n.
fn config(n: u8) -> RlpxConfig {
    let listen = Some(SocketAddr::from(([127, 131, 0, n], 0)));
    RlpxConfig { listen, ..RlpxConfig::new(key(n), "kadwire/test", protocols()) }
}

async fn node(n: u8) -> RlpxTransport {
    RlpxTransport::bind(config(n)).await.unwrap()
}

async fn stream(node: &RlpxTransport) -> TcpStream {
    TcpStream::connect(node.local().socket_addr().unwrap()).await.unwrap()
}

fn public_key(node: &RlpxTransport) -> PublicKey {
    let PeerId::Ethereum(key) = node.id() else { unreachable!("an Ethereum node") };
    PublicKey::from_bytes(&key).unwrap()
}

/// An honest handshake with the node.
async fn secure(node: &RlpxTransport, n: u8) -> RawPeer {
    RawPeer::secure(stream(node).await, &key(n), &public_key(node)).await
}

/// An honest Hello, but for what `change` does to it.
fn hello(n: u8, change: impl FnOnce(&mut Hello)) -> Vec<u8> {
    let mut hello = Hello::new(*key(n).public().as_bytes(), "raw", &protocols());
    change(&mut hello);
    hello.to_frame()
}

/// Nothing here takes long; a test that hangs says where.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap_or_else(|_| panic!("{what} hangs"))
}

/// Two honest nodes connect: what the evil ones do is no hindrance.
async fn serves_others(node: &RlpxTransport) {
    let friend = self::node(200).await;
    let address = node.address().unwrap();
    let (dialed, accepted) =
        tokio::join!(friend.dial(&address), async { node.accept().await.unwrap().handshake().await });
    let (dialed, mut accepted) = (dialed.unwrap(), accepted.unwrap());
    dialed.send(0, join(1, b"hello")).await.unwrap();
    assert_eq!(soon("an honest message", accepted.recv()).await, Some((0, join(1, b"hello"))));
}
