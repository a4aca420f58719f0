//! Peers, ourselves and events as JSON, in go-ethereum's words (`p2p/peer.go`, `PeerInfo` and `PeerEvent`; `p2p/server.go`, `NodeInfo`;
//! what `admin_peers` and `admin_nodeInfo` answer), for tools that read those.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use kadwire_discovery::{NodeRecord, PublicKey};
use kadwire_wire::{
    address::{PeerAddress, PeerId},
    transport::{Direction, Endpoint},
};
use serde::Serialize;
use serde_json::Value;

use super::Protocol;
use crate::{
    peers::Role,
    router::{Event, MessageEvent, Peer},
};

/// A connected peer. Keys and values are go-ethereum's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeerJson {
    /// `enode://…`: for a peer that dialed us, with the port it dialed from.
    pub enode: String,
    /// keccak256 of its public key, 64 hex digits.
    pub id: String,
    /// The client that it says it is.
    pub name: String,
    /// All it says it speaks, as `name/version`.
    pub caps: Vec<String>,
    /// The connection.
    pub network: NetworkJson,
    /// What the protocols that both have say of it, by name.
    pub protocols: BTreeMap<String, Value>,
}

/// A connection, and why it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkJson {
    /// Where we listen, `ip:port`, empty if we do not; go-ethereum's is our end of this stream.
    pub local_address: String,
    /// Its end, `ip:port`.
    pub remote_address: String,
    /// Whether it dialed us.
    pub inbound: bool,
    /// Whether it is let in beyond the limits.
    pub trusted: bool,
    /// Whether it is one that we keep.
    pub r#static: bool,
}

/// This node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeJson {
    /// keccak256 of our public key, 64 hex digits.
    pub id: String,
    /// The client that we say we are.
    pub name: String,
    /// `enode://…`. Without discovery, and if we take no connections, with `127.0.0.1:0`.
    pub enode: String,
    /// `enr:…`; empty without discovery.
    pub enr: String,
    /// Where we are.
    pub ip: String,
    /// The ports there.
    pub ports: PortsJson,
    /// Where we listen for peers, `ip:port`; empty if we do not.
    pub listen_addr: String,
    /// What our protocols say of themselves, by name.
    pub protocols: BTreeMap<String, Value>,
}

/// The ports of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PortsJson {
    /// UDP; 0 without discovery.
    pub discovery: u16,
    /// TCP; 0 if we take no connections.
    pub listener: u16,
}

impl PeerJson {
    /// What is known of a peer of these protocols.
    pub(crate) fn new(peer: &Peer, listen: Option<Endpoint>, role: Role, protocols: &[Arc<Protocol>]) -> Self {
        let caps = peer.info.ethereum().map(|hello| hello.capabilities.as_slice()).unwrap_or_default();
        let info = |protocol: Arc<Protocol>| {
            let info = match &protocol.peer_info {
                Some(info) => info(peer.id).unwrap_or_else(|| "handshake".into()),
                None => "unknown".into(),
            };
            (protocol.name().to_owned(), info)
        };
        PeerJson {
            enode: enode(peer),
            id: node_id(&peer.id),
            name: peer.info.name().to_owned(),
            caps: caps.iter().map(ToString::to_string).collect(),
            network: NetworkJson {
                local_address: shown(listen),
                remote_address: peer.remote.to_string(),
                inbound: peer.direction == Direction::Inbound,
                trusted: role.unconditional,
                r#static: role.persistent,
            },
            protocols: super::serve::shared(protocols, peer).into_iter().map(info).collect(),
        }
    }
}

impl NodeJson {
    /// What others know us by: `local` is where we are dialed, `record` what discovery says of us.
    pub(crate) fn new(
        name: &str,
        id: PeerId,
        local: Option<&PeerAddress>,
        listen: Option<Endpoint>,
        record: Option<&NodeRecord>,
        protocols: &[Arc<Protocol>],
    ) -> Self {
        let info = |protocol: &Arc<Protocol>| {
            let info = protocol.node_info.as_ref().map_or_else(|| "unknown".into(), |info| info());
            (protocol.name().to_owned(), info)
        };
        // go-ethereum's word for "not known" (`p2p/server.go`, `setupLocalNode`).
        let nowhere = || (format!("enode://{id}@127.0.0.1:0"), Some(Ipv4Addr::LOCALHOST.into()));
        let known = record.map(|record| (record.to_string(), Some(record.ip())));
        let known = known.or_else(|| local.map(|local| (local.to_string(), local.ip())));
        let (enode, ip) = known.unwrap_or_else(nowhere);
        NodeJson {
            id: node_id(&id),
            name: name.to_owned(),
            enode,
            enr: record.and_then(NodeRecord::enr).map(ToString::to_string).unwrap_or_default(),
            ip: ip.map(|ip| ip.to_string()).unwrap_or_default(),
            ports: PortsJson {
                discovery: record.map_or(0, NodeRecord::udp),
                listener: record.map(NodeRecord::tcp).or(local.map(PeerAddress::port)).unwrap_or(0),
            },
            listen_addr: shown(listen),
            // Of several versions the first says it.
            protocols: protocols.iter().rev().map(info).collect(),
        }
    }
}

fn shown(listen: Option<Endpoint>) -> String {
    listen.map(|listen| listen.to_string()).unwrap_or_default()
}

/// The id that go-ethereum shows: keccak256 of the key. A Tendermint node's is its own.
fn node_id(id: &PeerId) -> String {
    let key = id.ethereum().and_then(|key| PublicKey::from_bytes(&key).ok());
    key.map_or_else(|| id.to_string(), |key| key.node_id().to_string())
}

fn enode(peer: &Peer) -> String {
    let address = match peer.remote {
        Endpoint::Socket(socket) => PeerAddress::from_socket(peer.id, socket).ok(),
        Endpoint::Memory(id) => Some(PeerAddress::memory(id)),
    };
    address.map(|address| address.to_string()).unwrap_or_default()
}

/// go-ethereum's PeerEvent: `type` is add, drop, msgsend or msgrecv.
#[derive(Serialize)]
struct EventJson<'a> {
    r#type: &'static str,
    peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_code: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_size: Option<usize>,
    remote: String,
}

/// As go-ethereum's PeerEvent, `{"type":"add","peer":"<64 hex>","remote":"ip:port"}`, without the key `local`.
impl Serialize for Event {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = |r#type, peer: &Peer| EventJson {
            r#type,
            peer: node_id(&peer.id),
            error: None,
            protocol: None,
            msg_code: None,
            msg_size: None,
            remote: peer.remote.to_string(),
        };
        fn message<'a>(event: EventJson<'a>, message: &'a MessageEvent) -> EventJson<'a> {
            EventJson {
                protocol: Some(&message.protocol),
                msg_code: Some(message.code),
                msg_size: Some(message.size),
                ..event
            }
        }
        let json = match self {
            Event::Added(peer) => event("add", peer),
            Event::Dropped(peer, reason) => EventJson { error: Some(reason.to_string()), ..event("drop", peer) },
            Event::Sent(sent) => message(event("msgsend", &sent.peer), sent),
            Event::Received(received) => message(event("msgrecv", &received.peer), received),
        };
        json.serialize(serializer)
    }
}
