//! How to talk to a peer, over TCP or in memory: Tendermint's SecretConnection, NodeInfo, MConnection and PEX messages; Ethereum's RLPx,
//! Hello and multiplexed protocols.
//!
//! What it is not: it knows no address book, no dialing policy and no routing. It says only what a peer proved and sent.
//!
//! # Layout
//!
//! - [`address`]: who (a [`PeerId`]) and where (a [`PeerAddress`]), with their text forms.
//! - [`tendermint`], [`rlpx`]: the protocols, as machines without sockets or clocks.
//! - [`transport`]: the drivers that own sockets and clocks, and the [`Connection`](transport::Connection) they yield.
//! - [`error`]: whose fault an error is. [`stats`]: plain counters.
//!
//! ```
//! use kadwire_wire::PeerAddress;
//!
//! let address: PeerAddress = "mconn://ABCDEF0123456789abcdef0123456789abcdef01@[::1]:26656".parse()?;
//! assert_eq!(address.to_string(), "abcdef0123456789abcdef0123456789abcdef01@[::1]:26656");
//! # Ok::<(), kadwire_wire::address::AddressError>(())
//! ```
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod address;
pub mod error;
pub mod rlpx;
mod send_queue;
pub mod stats;
pub mod tendermint;
pub mod transport;

pub use address::{Host, PeerAddress, PeerId};
pub use error::Blame;
