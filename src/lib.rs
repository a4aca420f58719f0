//! Discovery and peers for Ethereum and Tendermint networks.
//!
//! A UDP discovery table (XOR-distance k-buckets, revalidation, refresh, lookup) feeds a dial scheduler that makes TCP peers;
//! those peers speak Tendermint's MConnection and exchange addresses (PEX). Three packages: [`kadwire_discovery`] says who is
//! out there, [`kadwire_wire`] how to talk, and this one whom to know, whom to dial and what to say.
//!
//! What it is not: a chain client. It finds peers, proves who they are and carries messages; what the messages say is yours.
//!
//! # Three ways to use it
//!
//! A bootnode answers on UDP and dials nobody:
//!
//! ```no_run
//! # async fn f(key: kadwire::discovery::SecretKey) -> Result<(), Box<dyn std::error::Error>> {
//! use kadwire::discovery::{Config, Discovery};
//!
//! let discovery = Discovery::bind(Config::new(key, "127.0.0.1:30301".parse()?)).await?;
//! println!("{}", discovery.local_record());
//! # Ok(()) }
//! ```
//!
//! A crawler walks a network to its end and keeps who knows whom ([`crawl`]):
//!
//! ```no_run
//! # async fn f(discovery: kadwire::discovery::Discovery, bootnodes: Vec<kadwire::discovery::NodeRecord>) -> std::io::Result<()> {
//! use kadwire::crawl::{self, discv4, output};
//!
//! let crawled = discv4::crawl(&discovery, bootnodes, crawl::Config::default(), |_| {}, std::future::pending()).await;
//! output::save("crawl".as_ref(), &crawled.topology, &crawled.summary)?;
//! # Ok(()) }
//! ```
//!
//! A node has peers: discovery feeds its dialer, PEX its address book, and your reactor a channel ([`node`], [`router`]):
//!
//! ```no_run
//! # async fn f(key: kadwire::discovery::SecretKey, node_key: kadwire::wire::tendermint::key::NodeKey) -> Result<(), Box<dyn std::error::Error>> {
//! use kadwire::{config::NodeConfig, discovery, node::Node, router::To, wire::transport::ChannelSpec};
//!
//! let mut builder = Node::builder(NodeConfig::new(node_key, "my-chain"));
//! builder.with_discovery(discovery::Config::new(key, "127.0.0.1:30303".parse()?)).with_pex();
//! let mut gossip = builder.channel(ChannelSpec { priority: 5, max_message_size: 1 << 16, ..ChannelSpec::new(0x70) });
//! let node = builder.start().await?;
//! while let Some(envelope) = gossip.recv().await {
//!     gossip.send(To::Except(envelope.from), envelope.message).await?;
//! }
//! # node.stop().await;
//! # Ok(()) }
//! ```
//!
//! Only a DHT, for somebody else's dialer: [`discovery::Discovery::random_walk`]. No runtime at all: the machines that all of
//! this drives, [`discovery::discv4::Discv4`] and [`wire::tendermint::mconnection`].
//!
//! Types of other crates in its interface: `bytes` 1, `ipnet` 2, `rand` 0.10 (for keys), `rlp` 0.6.

pub use kadwire_discovery as discovery;
pub use kadwire_wire as wire;

pub mod anchors;
pub mod book;
pub mod candidate;
pub mod config;
mod count;
pub mod crawl;
pub mod dial;
pub mod fork_id;
pub mod nat;
pub mod node;
pub mod peers;
pub mod pex;
pub mod protocol;
pub mod router;
pub mod seed;
mod state_file;
pub mod status;
mod time;
pub mod visit;
