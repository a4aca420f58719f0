//! Ethereum's peer wire: RLPx (devp2p `rlpx.md`, EIP-8) and the base protocol "p2p" version 5, as machines.
//!
//! In the order a connection uses it: a handshake that proves both static keys, encrypted frames, then an exchange of
//! [`Hello`](hello::Hello) and messages of several protocols over one stream ([`Multiplex`](multiplex::Multiplex)).

pub mod capability;
pub mod disconnect;
pub mod hello;
pub mod message;
pub mod multiplex;
#[allow(dead_code, reason = "until all of the base protocol is here")]
mod rlp_list;

pub use rlp_list::RlpError;
