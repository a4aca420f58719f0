//! The RLP bodies of the messages: reading with EIP-8's tolerance, writing in canonical form.
//!
//! What follows the elements that we know, inside the list or after it, is not looked at (EIP-8, "Node Discovery").

use std::net::IpAddr;

use bytes::BytesMut;
use rlp::RlpStream;

use super::message::{
    Endpoint, EnrRequest, EnrResponse, FindNode, Kind, MAX_NEIGHBORS, Message, MessageError, Neighbor, Neighbors, Ping,
    Pong,
};
use crate::{
    Enr, RlpError,
    rlp_list::{Item, Items},
};

/// Reads one body, and counts the ports that were padded to two bytes.
pub(super) struct Reader {
    pub(super) padded_ports: u16,
}

impl Message {
    /// Reads the body of a message of this kind: one RLP list; what follows it is ignored.
    pub fn decode(kind: Kind, body: &[u8]) -> Result<Self, MessageError> {
        match kind {
            Kind::EnrResponse => read_enr_response(body).and_then(|(request_hash, record)| {
                Ok(Self::EnrResponse(EnrResponse { request_hash, record: Enr::decode(record)? }))
            }),
            _ => Reader { padded_ports: 0 }.read(kind, body),
        }
    }

    /// Appends the canonical RLP of the body to `buffer`. Of Neighbors, the first [`MAX_NEIGHBORS`] entries.
    pub fn encode(&self, buffer: BytesMut) -> BytesMut {
        let mut body = RlpStream::new_with_buffer(buffer);
        match self {
            Self::Ping(Ping { version, from, to, expiration, enr_seq }) => {
                body.begin_list(if enr_seq.is_some() { 5 } else { 4 }).append(version);
                write_endpoint(&mut body, from);
                write_endpoint(&mut body, to);
                body.append(expiration);
                write_enr_seq(&mut body, *enr_seq);
            }
            Self::Pong(Pong { to, ping_hash, expiration, enr_seq }) => {
                body.begin_list(if enr_seq.is_some() { 4 } else { 3 });
                write_endpoint(&mut body, to);
                body.append(&ping_hash.as_slice()).append(expiration);
                write_enr_seq(&mut body, *enr_seq);
            }
            Self::FindNode(FindNode { target, expiration }) => {
                body.begin_list(2).append(&target.as_slice()).append(expiration);
            }
            Self::Neighbors(Neighbors { nodes, expiration, .. }) => {
                body.begin_list(2).begin_list(nodes.len().min(MAX_NEIGHBORS));
                for node in nodes.iter().take(MAX_NEIGHBORS) {
                    body.begin_list(4);
                    write_ip(&mut body, Some(node.ip));
                    body.append(&node.udp).append(&node.tcp).append(&node.key.as_slice());
                }
                body.append(expiration);
            }
            Self::EnrRequest(EnrRequest { expiration }) => {
                body.begin_list(1).append(expiration);
            }
            Self::EnrResponse(EnrResponse { request_hash, record }) => {
                body.begin_list(2).append(&request_hash.as_slice()).append_raw(record.encode(), 1);
            }
        }
        body.out()
    }
}

fn write_enr_seq(body: &mut RlpStream, seq: Option<u64>) {
    if let Some(seq) = seq {
        body.append(&seq);
    }
}

fn write_endpoint(body: &mut RlpStream, endpoint: &Endpoint) {
    body.begin_list(3);
    write_ip(body, endpoint.ip);
    body.append(&endpoint.udp).append(&endpoint.tcp);
}

fn write_ip(body: &mut RlpStream, ip: Option<IpAddr>) {
    match ip.map(|ip| ip.to_canonical()) {
        None => body.append_empty_data(),
        Some(IpAddr::V4(ip)) => body.append(&ip.octets().as_slice()),
        Some(IpAddr::V6(ip)) => body.append(&ip.octets().as_slice()),
    };
}

/// The request's hash and the raw record: verifying it costs as much as a signature, so that is left for later.
pub(super) fn read_enr_response(body: &[u8]) -> Result<([u8; 32], &[u8]), MessageError> {
    let read = || {
        let mut items = Item::split(body)?.0.list()?;
        let request_hash = items.required()?.array()?;
        let record = items.required()?;
        record.list()?;
        Ok((request_hash, record.raw()))
    };
    read().map_err(|source| MessageError::Rlp { kind: Kind::EnrResponse, source })
}

impl Reader {
    /// Reads any message but ENRResponse.
    pub(super) fn read(&mut self, kind: Kind, body: &[u8]) -> Result<Message, MessageError> {
        self.read_list(kind, body).map_err(|source| MessageError::Rlp { kind, source })
    }

    fn read_list(&mut self, kind: Kind, body: &[u8]) -> Result<Message, RlpError> {
        let mut items = Item::split(body)?.0.list()?;
        Ok(match kind {
            Kind::Ping => Message::Ping(Ping {
                version: items.required()?.u64()?,
                from: self.endpoint(&mut items)?,
                to: self.endpoint(&mut items)?,
                expiration: items.required()?.u64()?,
                enr_seq: enr_seq(&mut items)?,
            }),
            Kind::Pong => Message::Pong(Pong {
                to: self.endpoint(&mut items)?,
                ping_hash: items.required()?.array()?,
                expiration: items.required()?.u64()?,
                enr_seq: enr_seq(&mut items)?,
            }),
            Kind::FindNode => {
                Message::FindNode(FindNode { target: items.required()?.array()?, expiration: items.required()?.u64()? })
            }
            Kind::Neighbors => {
                let mut entries = items.required()?.list()?;
                let mut neighbors = Neighbors { nodes: Vec::with_capacity(MAX_NEIGHBORS), skipped: 0, expiration: 0 };
                while let Some(entry) = entries.next()? {
                    match self.neighbor(entry) {
                        Ok(node) => neighbors.nodes.push(node), // bounded by the datagram: 75 bytes or more each
                        Err(_) => neighbors.skipped = neighbors.skipped.saturating_add(1),
                    }
                }
                Message::Neighbors(Neighbors { expiration: items.required()?.u64()?, ..neighbors })
            }
            Kind::EnrRequest => Message::EnrRequest(EnrRequest { expiration: items.required()?.u64()? }),
            Kind::EnrResponse => return Err(RlpError::ExpectedBytes), // has a reader of its own
        })
    }

    fn endpoint(&mut self, items: &mut Items<'_>) -> Result<Endpoint, RlpError> {
        let mut items = items.required()?.list()?;
        let ip = ip(items.required()?)?;
        Ok(Endpoint { ip, udp: self.port(items.required()?)?, tcp: self.port(items.required()?)? })
    }

    fn neighbor(&mut self, entry: Item<'_>) -> Result<Neighbor, RlpError> {
        let mut items = entry.list()?;
        let ip = ip(items.required()?)?.ok_or(RlpError::WrongLength { expected: 4, found: 0 })?;
        let (udp, tcp) = (self.port(items.required()?)?, self.port(items.required()?)?);
        Ok(Neighbor { ip, udp, tcp, key: items.required()?.array()? })
    }

    /// ethereumjs writes ports as two bytes, whatever their value.
    fn port(&mut self, item: Item<'_>) -> Result<u16, RlpError> {
        match item.array::<2>() {
            Ok(bytes @ [0, _]) => {
                self.padded_ports = self.padded_ports.saturating_add(1);
                Ok(u16::from_be_bytes(bytes))
            }
            _ => item.u16(),
        }
    }
}

/// Any length but 4 and 16 is no address (go-ethereum leaves it empty when it does not know its own).
fn ip(item: Item<'_>) -> Result<Option<IpAddr>, RlpError> {
    let bytes = item.bytes()?;
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::from(bytes).to_canonical());
    Ok(v4.or(v6).ok())
}

fn enr_seq(items: &mut Items<'_>) -> Result<Option<u64>, RlpError> {
    Ok(items.next()?.and_then(|item| item.u64().ok()))
}
