//! A node of the Ethereum crawl, and how it is written.

use std::net::IpAddr;
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use kadwire_discovery::{Enr, NodeId, NodeRecord};
use serde::Serialize;

use crate::crawl::output::{Describe, Edge, rfc3339};
use crate::crawl::topology::Vertex;

/// What a crawl knows of an Ethereum node.
#[derive(Debug, Clone)]
pub struct EthNode {
    /// The endpoint that answered, else the first one that somebody told us.
    pub record: NodeRecord,
    /// The signed record it answered with.
    pub enr: Option<Enr>,
    /// When it was first heard of.
    pub first_seen: SystemTime,
    /// Whether it answered anything.
    pub reachable: bool,
    /// Why a question to it was given up, the last one if several were.
    pub error: Option<&'static str>,
}

impl Vertex for EthNode {
    type Id = NodeId;
    fn id(&self) -> NodeId {
        self.record.id()
    }
}

impl Describe for EthNode {
    const NETWORK: &'static str = "eth";

    fn row(&self) -> impl Serialize {
        #[derive(Serialize)]
        struct Row {
            id: String,
            enode: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            enr: Option<String>,
            ip: IpAddr,
            udp: u16,
            tcp: u16,
            seq: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            tm: Option<Tendermint>,
            reachable: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'static str>,
            first_seen: String,
        }

        #[derive(Serialize)]
        struct Tendermint {
            id: String,
            port: u16,
        }

        let tm = self.enr.as_ref().and_then(Enr::tendermint);
        Row {
            id: self.record.id().to_string(),
            enode: self.record.to_string(),
            enr: self.enr.as_ref().map(ToString::to_string),
            ip: self.record.ip(),
            udp: self.record.udp(),
            tcp: self.record.tcp(),
            seq: self.enr.as_ref().map_or(0, Enr::seq),
            tm: tm.map(|tm| Tendermint { id: HEXLOWER.encode(&tm.node_id), port: tm.tcp_port }),
            reachable: self.reachable,
            error: self.error,
            first_seen: rfc3339(self.first_seen),
        }
    }

    fn edge(&self, to: &Self) -> Edge {
        let (from, to) = (self.record.id(), to.record.id());
        Edge { from: from.to_string(), to: to.to_string(), kind: "table", distance: Some(from.log_distance(&to)) }
    }

    fn is_reachable(&self) -> bool {
        self.reachable
    }

    fn error(&self) -> Option<&str> {
        self.error
    }
}
