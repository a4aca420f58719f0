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

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod address;
pub mod discv4;
mod enr;
mod error;
mod key;
mod key_file;
pub mod node_db;
mod record;
mod rlp_list;
mod secp256k1;
pub mod stats;
pub mod table;
mod time;

pub use address::{RelayError, check_relay, is_lan, is_special};
pub use enr::{Enr, EnrBuilder, EnrError, MAX_RECORD_SIZE, TendermintEntry};
pub use error::Blame;
pub use key::{KeyError, NodeId, PublicKey, SecretKey};
pub use key_file::KeyFileError;
pub use record::{NodeRecord, RecordError};
pub use rlp_list::RlpError;
pub use time::Now;
