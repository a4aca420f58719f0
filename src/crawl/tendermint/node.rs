//! A node of the Tendermint crawl, and how it is written.

use std::time::SystemTime;

use data_encoding::HEXLOWER;
use kadwire_wire::tendermint::node_info::NodeInfo;
use kadwire_wire::{PeerAddress, PeerId};
use serde::Serialize;

use crate::crawl::output::{Describe, Edge, rfc3339};
use crate::crawl::topology::Vertex;

/// What a crawl knows of a Tendermint node.
#[derive(Debug, Clone)]
pub struct TendermintNode {
    /// The address that worked, else the first one that somebody told us.
    pub address: PeerAddress,
    /// What it says of itself, if a handshake came to its end.
    pub node_info: Option<NodeInfo>,
    /// When it was first heard of.
    pub first_seen: SystemTime,
    /// Why it could not be reached, or did not answer.
    pub error: Option<&'static str>,
    /// In how many answers it was told; an answer that was a whole book counts twice.
    pub told: u32,
}

impl Vertex for TendermintNode {
    type Id = PeerId;
    fn id(&self) -> PeerId {
        self.address.id()
    }
}

impl Describe for TendermintNode {
    const NETWORK: &'static str = "tendermint";

    fn row(&self) -> impl Serialize {
        #[derive(Serialize)]
        struct Row<'a> {
            id: PeerId,
            address: &'a PeerAddress,
            #[serde(flatten)]
            says: Option<Says<'a>>,
            reachable: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'static str>,
            first_seen: String,
        }

        #[derive(Serialize)]
        struct Says<'a> {
            moniker: &'a str,
            version: &'a str,
            network: &'a str,
            channels: String,
            listen_addr: &'a str,
        }

        let says = self.node_info.as_ref().map(|info| Says {
            moniker: &info.moniker,
            version: &info.version,
            network: &info.network,
            channels: HEXLOWER.encode(&info.channels),
            listen_addr: &info.listen_addr,
        });
        let first_seen = rfc3339(self.first_seen);
        let reachable = self.is_reachable();
        Row { id: self.id(), address: &self.address, says, reachable, error: self.error, first_seen }
    }

    fn edge(&self, to: &Self) -> Edge {
        Edge { from: self.id().to_string(), to: to.id().to_string(), kind: "pex", distance: None }
    }

    /// Whether a handshake with it came to its end.
    fn is_reachable(&self) -> bool {
        self.node_info.is_some()
    }

    fn error(&self) -> Option<&str> {
        self.error
    }
}
