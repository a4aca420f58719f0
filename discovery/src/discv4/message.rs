//! The six messages of discv4 and their RLP bodies (Node Discovery v4, "Wire Protocol"; EIP-8; EIP-868).
//!
//! Reading is tolerant exactly where EIP-8 asks for it: any ping version, more list elements than we know, data after the
//! list. An element at the place of `enr-seq` that is not an integer counts as absent, because the EIP-8 vectors have a list
//! there. Ports padded to two bytes (ethereumjs) are read and counted. Everything else is strict, and writing is canonical.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::{Blame, Enr, EnrError, NodeRecord, PublicKey, RecordError, RlpError};

/// Most entries in one Neighbors datagram: 12 of at most 91 bytes make 1,205 of the 1,280 allowed, 13 would make 1,296.
pub const MAX_NEIGHBORS: usize = 12;

/// The packet type byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Are you there, and where am I?
    Ping = 1,
    /// The answer to Ping.
    Pong = 2,
    /// Which nodes do you know near this target?
    FindNode = 3,
    /// The answer to FindNode, in one or more datagrams.
    Neighbors = 4,
    /// Your signed record, please (EIP-868).
    EnrRequest = 5,
    /// The answer to EnrRequest.
    EnrResponse = 6,
}

impl Kind {
    /// All of them, in the order of their bytes.
    pub const ALL: [Self; 6] =
        [Self::Ping, Self::Pong, Self::FindNode, Self::Neighbors, Self::EnrRequest, Self::EnrResponse];

    /// `None` for a byte that names no message.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The RLP of the body.
    #[error("{kind}: {source}")]
    Rlp {
        /// Which message it was to be.
        kind: Kind,
        /// What is wrong with it.
        source: RlpError,
    },
    /// The record in an ENRResponse.
    #[error("ENRResponse: {0}")]
    Record(#[from] EnrError),
}

impl MessageError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Rlp { .. } => Blame::Malformed,
            Self::Record(error) => error.blame(),
        }
    }
}

/// Any of the six messages. Expirations are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// See [`Ping`].
    Ping(Ping),
    /// See [`Pong`].
    Pong(Pong),
    /// See [`FindNode`].
    FindNode(FindNode),
    /// See [`Neighbors`].
    Neighbors(Neighbors),
    /// See [`EnrRequest`].
    EnrRequest(EnrRequest),
    /// See [`EnrResponse`].
    EnrResponse(EnrResponse),
}

/// `[version, from, to, expiration, enr-seq]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Written as 4; readers accept any.
    pub version: u64,
    /// Where the sender believes it is. Only its TCP port means anything.
    pub from: Endpoint,
    /// Where the sender sees the receiver.
    pub to: Endpoint,
    /// When the packet is void, seconds since 1970.
    pub expiration: u64,
    /// Sequence number of the sender's record (EIP-868).
    pub enr_seq: Option<u64>,
}

/// `[to, ping-hash, expiration, enr-seq]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pong {
    /// The source of the ping's datagram, with the TCP port of its `from`.
    pub to: Endpoint,
    /// The first 32 bytes of the ping's datagram.
    pub ping_hash: [u8; 32],
    /// When the packet is void, seconds since 1970.
    pub expiration: u64,
    /// Sequence number of the sender's record (EIP-868).
    pub enr_seq: Option<u64>,
}

/// `[target, expiration]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindNode {
    /// 64 bytes in the form of a public key; need not be a point on the curve.
    pub target: [u8; 64],
    /// When the packet is void, seconds since 1970.
    pub expiration: u64,
}

/// `[[ip, udp, tcp, key]…, expiration]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Neighbors {
    /// At most [`MAX_NEIGHBORS`] are written; a reader takes what a datagram holds.
    pub nodes: Vec<Neighbor>,
    /// Entries of a datagram that could not be read, and were skipped. Not written.
    pub skipped: usize,
    /// When the packet is void, seconds since 1970.
    pub expiration: u64,
}

/// `[expiration]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrRequest {
    /// When the packet is void, seconds since 1970.
    pub expiration: u64,
}

/// `[request-hash, record]`. It has no expiration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrResponse {
    /// The first 32 bytes of the request's datagram.
    pub request_hash: [u8; 32],
    /// The sender's record, its signature verified.
    pub record: Enr,
}

/// `[ip, udp, tcp]`: 4 or 16 bytes, and two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `None` where the sender left it empty or wrote neither 4 nor 16 bytes. IPv4-mapped addresses are read as IPv4.
    pub ip: Option<IpAddr>,
    /// UDP port.
    pub udp: u16,
    /// TCP port; 0 for none or unknown.
    pub tcp: u16,
}

impl Endpoint {
    /// The endpoint of a socket address.
    pub fn new(udp: SocketAddr, tcp: u16) -> Self {
        Self { ip: Some(udp.ip().to_canonical()), udp: udp.port(), tcp }
    }
}

/// An entry of Neighbors: a claim, of which nothing is checked but its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Neighbor {
    /// IPv4-mapped addresses are read as IPv4.
    pub ip: IpAddr,
    /// UDP port.
    pub udp: u16,
    /// TCP port; 0 for none.
    pub tcp: u16,
    /// `X ‖ Y`, not yet known to be on the curve.
    pub key: [u8; 64],
}

impl Neighbor {
    /// Checks the key and the endpoint (about 1 µs).
    pub fn to_record(&self) -> Result<NodeRecord, RecordError> {
        NodeRecord::new(PublicKey::from_bytes(&self.key)?, self.ip, self.udp, self.tcp)
    }
}

impl From<&NodeRecord> for Neighbor {
    fn from(record: &NodeRecord) -> Self {
        Self { ip: record.ip(), udp: record.udp(), tcp: record.tcp(), key: *record.key().as_bytes() }
    }
}

impl Message {
    /// Which of the six it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Ping(_) => Kind::Ping,
            Self::Pong(_) => Kind::Pong,
            Self::FindNode(_) => Kind::FindNode,
            Self::Neighbors(_) => Kind::Neighbors,
            Self::EnrRequest(_) => Kind::EnrRequest,
            Self::EnrResponse(_) => Kind::EnrResponse,
        }
    }

    /// When the packet is void, seconds since 1970; `None` for EnrResponse.
    pub fn expiration(&self) -> Option<u64> {
        match self {
            Self::Ping(Ping { expiration, .. })
            | Self::Pong(Pong { expiration, .. })
            | Self::FindNode(FindNode { expiration, .. })
            | Self::Neighbors(Neighbors { expiration, .. })
            | Self::EnrRequest(EnrRequest { expiration }) => Some(*expiration),
            Self::EnrResponse(_) => None,
        }
    }

    /// The datagram hash of the request that a Pong or an EnrResponse answers. Neighbors names none.
    pub fn reply_to(&self) -> Option<[u8; 32]> {
        match self {
            Self::Pong(pong) => Some(pong.ping_hash),
            Self::EnrResponse(response) => Some(response.request_hash),
            _ => None,
        }
    }
}
