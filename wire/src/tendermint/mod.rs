//! Tendermint's peer wire (CometBFT 0.34–1.0, P2P protocol 8), in the order a connection uses it: an encrypted stream with
//! proven identities, an exchange of [`NodeInfo`](node_info::NodeInfo), then messages of several channels over one stream.

pub mod mconnection;
pub mod node_info;
