//! Tendermint's peer wire (CometBFT 0.34–1.0, P2P protocol 8), in the order a connection uses it: an encrypted stream with
//! proven identities, an exchange of [`NodeInfo`](node_info::NodeInfo), then messages of several channels over one stream,
//! of which peer exchange is one.

mod delimited;
pub mod key;
pub mod mconnection;
pub mod node_info;
pub mod pex_message;
mod protobuf;
pub mod secret_connection;

pub(crate) use delimited::{DelimitedError, delimit, split_delimited};
