//! The datagram around a message: hash, signature, type byte, body (Node Discovery v4, "Wire Protocol").
//!
//! ```text
//! hash (32) = keccak256(all that follows) | signature (65) = r ‖ s ‖ v over keccak256(type ‖ body …) | type (1) | body …
//! ```
//!
//! Reading has two stages, because the second costs thirty times the first: [`Unverified::parse`] checks length, hash, type
//! and RLP; [`Unverified::recover`] finds the signer. In between the machine refuses what it need not look at. These are pure
//! functions for the driver's workers; the machine only ever sees a [`Packet`].

use bytes::{BufMut, Bytes, BytesMut};
use subtle::ConstantTimeEq;

use super::{
    body::{Reader, read_enr_response},
    message::{EnrResponse, Kind, Message, MessageError},
};
use crate::{Blame, Enr, NodeId, PublicKey, SecretKey, keccak256::keccak256};

/// Longest datagram, bytes (Node Discovery v4, "Wire Protocol").
pub const MAX_DATAGRAM: usize = 1280;

const HASH_LENGTH: usize = 32;
const SIGNATURE_LENGTH: usize = 65;
/// Where the signed part begins.
const HEAD_LENGTH: usize = HASH_LENGTH + SIGNATURE_LENGTH;

/// Why a datagram is not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Too short to hold hash, signature and type.
    #[error("datagram of {0} bytes is too small")]
    TooSmall(usize),
    /// Longer than any node may send.
    #[error("datagram of {0} bytes is too big")]
    TooBig(usize),
    /// The hash is not that of the datagram: damaged, or another protocol.
    #[error("bad hash")]
    BadHash,
    /// The recovery id is neither 0 nor 1.
    #[error("recovery id {0} in signature")]
    BadRecoveryId(u8),
    /// No such message.
    #[error("unknown packet type {0}")]
    UnknownKind(u8),
    /// The body, or the record in it.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// No key has made this signature.
    #[error("no key recovers from the signature")]
    BadSignature,
}

impl PacketError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Message(error) => error.blame(),
            Self::UnknownKind(_) => Blame::Incompatible,
            Self::BadSignature => Blame::Misbehaved,
            _ => Blame::Malformed,
        }
    }
}

/// What a datagram says of itself before anybody has looked at its signature. All of it may be forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The datagram's first 32 bytes, found right.
    pub hash: [u8; 32],
    /// Type byte.
    pub kind: Kind,
    /// When the packet is void, seconds since 1970; `None` for ENRResponse.
    pub expiration: Option<u64>,
    /// The hash of our request that Pong and ENRResponse claim to answer.
    pub reply_to: Option<[u8; 32]>,
}

/// A well-formed datagram whose signer is not known yet.
#[derive(Clone, Debug)]
pub struct Unverified {
    header: Header,
    signature: [u8; SIGNATURE_LENGTH],
    /// Type byte, body and whatever follows it.
    signed: Box<[u8]>,
    /// `None` for ENRResponse: its record has a signature of its own, which is not cheap to verify.
    message: Option<Message>,
    padded_ports: u16,
}

impl Unverified {
    /// Checks all that costs little: about 2 µs for a ping, less for what fails.
    pub fn parse(datagram: &[u8]) -> Result<Self, PacketError> {
        let too_small = PacketError::TooSmall(datagram.len());
        if datagram.len() > MAX_DATAGRAM {
            return Err(PacketError::TooBig(datagram.len()));
        }
        let (hash, hashed) = datagram.split_first_chunk::<HASH_LENGTH>().ok_or(too_small)?;
        let (signature, signed) = hashed.split_first_chunk::<SIGNATURE_LENGTH>().ok_or(too_small)?;
        let (kind, body) = signed.split_first().ok_or(too_small)?;
        if !bool::from(keccak256(&[hashed]).ct_eq(hash)) {
            return Err(PacketError::BadHash);
        }
        let kind = Kind::from_byte(*kind).ok_or(PacketError::UnknownKind(*kind))?;
        if let [.., v @ 2..=u8::MAX] = signature {
            return Err(PacketError::BadRecoveryId(*v));
        }
        let mut reader = Reader { padded_ports: 0 };
        let (message, reply_to) = match kind {
            Kind::EnrResponse => (None, Some(read_enr_response(body)?.0)),
            _ => {
                let message = reader.read(kind, body)?;
                let reply_to = message.reply_to();
                (Some(message), reply_to)
            }
        };
        let expiration = message.as_ref().and_then(Message::expiration);
        Ok(Self {
            header: Header { hash: *hash, kind, expiration, reply_to },
            signature: *signature,
            signed: signed.into(),
            message,
            padded_ports: reader.padded_ports,
        })
    }

    /// What the datagram says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The message; `None` for ENRResponse, whose record is not verified yet.
    pub fn message(&self) -> Option<&Message> {
        self.message.as_ref()
    }

    /// Ports that were padded to two bytes: not canonical, tolerated, worth counting.
    pub fn padded_ports(&self) -> u16 {
        self.padded_ports
    }

    /// Finds the signer (about 60 µs), and verifies the record of an ENRResponse (70 µs more).
    pub fn recover(self) -> Result<Packet, PacketError> {
        let digest = keccak256(&[&self.signed]);
        let signer = PublicKey::recover(&digest, &self.signature).map(Signer::from);
        self.signed_by(signer)
    }

    /// The same for several, in their order, each with whoever is likely to have signed it: several at once are a twentieth cheaper, and those
    /// whose signer is the likely one a tenth to a fifth. Where it is not, half as dear again.
    pub fn recover_all(packets: Vec<(Self, Option<Signer>)>) -> Vec<Result<Packet, PacketError>> {
        let claim = |(packet, likely): &(Self, Option<Signer>)| {
            (keccak256(&[&packet.signed]), packet.signature, likely.map(|signer| signer.key))
        };
        let keys = PublicKey::signers(packets.iter().map(claim));
        let packets = packets.into_iter().zip(keys);
        let recovered = packets.map(|((packet, likely), key)| {
            let signer = key.map(|key| likely.filter(|likely| likely.key == key).unwrap_or_else(|| key.into()));
            packet.signed_by(signer)
        });
        recovered.collect()
    }

    fn signed_by(self, signer: Option<Signer>) -> Result<Packet, PacketError> {
        let Signer { key: from, id } = signer.ok_or(PacketError::BadSignature)?;
        let message = match self.message {
            Some(message) => message,
            None => {
                let (request_hash, record) = read_enr_response(self.signed.get(1..).unwrap_or_default())?;
                let record = Enr::decode(record).map_err(MessageError::Record)?;
                Message::EnrResponse(EnrResponse { request_hash, record })
            }
        };
        Ok(Packet { from, id, hash: self.header.hash, message })
    }
}

/// A key and its hash, which costs as much as a hundred comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer {
    key: PublicKey,
    id: NodeId,
}

impl From<PublicKey> for Signer {
    fn from(key: PublicKey) -> Self {
        Self { key, id: key.node_id() }
    }
}

/// A message with its proven sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who signed it.
    pub from: PublicKey,
    /// The signer's node id: hashed by the workers, not by the one machine.
    pub id: NodeId,
    /// The datagram's first 32 bytes: what an answer refers to.
    pub hash: [u8; 32],
    /// What it says.
    pub message: Message,
}

impl Packet {
    /// Whose it is.
    pub fn signer(&self) -> Signer {
        Signer { key: self.from, id: self.id }
    }

    /// What the datagram said of itself.
    pub fn header(&self) -> Header {
        let (kind, expiration) = (self.message.kind(), self.message.expiration());
        Header { hash: self.hash, kind, expiration, reply_to: self.message.reply_to() }
    }
}

/// A datagram ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its first 32 bytes: what the answer will refer to.
    pub hash: [u8; 32],
    /// At most [`MAX_DATAGRAM`] bytes.
    pub datagram: Bytes,
}

/// Signs a message (about 40 µs). Deterministic: the same message gives the same datagram.
pub fn encode(key: &SecretKey, message: &Message) -> Sealed {
    let mut datagram = BytesMut::with_capacity(match message.kind() {
        Kind::Neighbors => MAX_DATAGRAM,
        Kind::EnrResponse => 512,
        _ => 256,
    });
    datagram.put_bytes(0, HEAD_LENGTH);
    datagram.put_u8(message.kind() as u8);
    let mut datagram = message.encode(datagram);
    let mut hash = [0; HASH_LENGTH];
    if let Some((hash_place, hashed)) = datagram.split_first_chunk_mut::<HASH_LENGTH>() {
        if let Some((signature, signed)) = hashed.split_first_chunk_mut::<SIGNATURE_LENGTH>() {
            *signature = key.sign_recoverable(&keccak256(&[signed]));
        }
        hash = keccak256(&[hashed]);
        *hash_place = hash;
    }
    Sealed { hash, datagram: datagram.freeze() }
}
