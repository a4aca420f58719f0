//! Ethereum UDP node discovery: who is out there.
//!
//! This crate knows keys, signed records, the k-bucket table and the discv4 protocol. It is **not** a dialer: it never opens
//! a TCP connection and knows nothing of what a node speaks once it is reached.
//!
//! ```text
//! udp (driver: socket, workers, clock) > discv4 (machine) > table (machine) > record, enr > key
//! node_db (driver: what survives a restart)
//! ```
//!
//! A *machine* is a plain struct that is told the time and what arrived, and is asked what to send; a *driver* owns the
//! socket and the clock. The sans-I/O contract is described in ARCHITECTURE.md.
//!
//! ```
//! use kadwire_discovery::{Config, Discovery, SecretKey};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let keys = [SecretKey::from_bytes(&[1; 32])?, SecretKey::from_bytes(&[2; 32])?];
//! # let [key, other_key] = keys;
//! // A bootnode: answers on UDP, dials nobody.
//! let bootnode = Discovery::bind(Config::new(key, "127.0.0.1:0".parse()?)).await?;
//! println!("{}", bootnode.local_record());
//!
//! // A node that joins through it, and whoever wants to dial somebody pulls candidates out of it.
//! let mut config = Config::new(other_key, "127.0.0.1:0".parse()?);
//! config.bootnodes.push(bootnode.local_record());
//! let node = Discovery::bind(config).await?;
//! let found = node.random_walk().next().await;
//! assert_eq!(found, Some(bootnode.local_record()));
//! # node.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! Types of other crates in its interface: `ipnet` 2, `rand` 0.10 (for keys and machines), `rlp` 0.6 (errors and lists).

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod address;
pub mod discv4;
mod enr;
mod error;
mod keccak256;
mod key;
mod key_file;
pub mod node_db;
mod record;
mod rlp_list;
mod secp256k1;
pub mod table;
mod time;
mod udp;

pub use address::{RelayError, check_relay, is_lan, is_public, is_special, network};
pub use enr::{Enr, EnrBuilder, EnrError, EnrPair, MAX_RECORD_SIZE, TendermintEntry};
pub use error::Blame;
pub use key::{KeyError, NodeId, PublicKey, SecretKey};
pub use key_file::KeyFileError;
pub use record::{NodeRecord, RecordError};
pub use rlp_list::RlpError;
pub use time::{Now, Watched};
pub use udp::{
    BindError, Config, Discovery, DiscoveryError, DiscoveryEvent, DiscoveryStats, MalformedStats, PingReply,
    RandomWalk, UdpStats,
};
