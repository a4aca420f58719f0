//! Hello: what each side says of itself in its first frame (`rlpx.md`, "Hello (0x00)"), before anything is compressed.
//!
//! Both sides send it at once. What may come instead is a Disconnect. The payload is a list of version, client, capabilities, port and
//! node id; what follows in the list, or after it, is for later versions and ignored (EIP-8).

use rlp::RlpStream;

use super::{
    capability::{Capability, CapabilityName, Protocol},
    disconnect::DisconnectReason,
    message::{MAX_CODE_LENGTH, MessageError, put_code, read_code},
    rlp_list::{Item, RlpError},
};
use crate::Blame;

/// The version of the base protocol spoken here (EIP-706): 5, with compression.
pub const BASE_VERSION: u64 = 5;

/// The largest payload of a message of the base protocol, in bytes (go-ethereum `baseProtocolMaxMsgSize`).
pub const MAX_BASE_MESSAGE_SIZE: usize = 2048;

/// The largest frame data before both Hellos are exchanged, in bytes: a payload of 2048 and the longest code. A frame that says it is larger
/// is refused before there is room for it.
pub const MAX_HELLO_FRAME: usize = MAX_BASE_MESSAGE_SIZE + MAX_CODE_LENGTH;

/// The most capabilities of a peer that are looked at; real nodes list about ten.
pub const MAX_CAPABILITIES: usize = 128;

/// The message codes of the base protocol that have a meaning.
pub(crate) mod code {
    pub(crate) const HELLO: u64 = 0x00;
    pub(crate) const DISCONNECT: u64 = 0x01;
    pub(crate) const PING: u64 = 0x02;
    pub(crate) const PONG: u64 = 0x03;
}

/// What a node says of itself. Only the id can be held against something: the key that the handshake proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version of the base protocol; any is accepted, from 5 on messages are compressed.
    pub version: u64,
    /// Name, version and system of the program, such as `Geth/v1.17.10/linux-amd64/go1.25`. As received, without control characters.
    pub client: String,
    /// What it speaks. As received: those whose name can be one, in the peer's order.
    pub capabilities: Vec<Capability>,
    /// Where it says it listens. Legacy: go-ethereum sends 0.
    pub listen_port: u64,
    /// The node id: X‖Y of its secp256k1 public key. Not yet held against the one that the handshake proved.
    pub id: [u8; 64],
}

impl Hello {
    /// This side's: version 5, no port, capabilities sorted as go-ethereum does.
    pub fn new(id: [u8; 64], client: impl Into<String>, protocols: &[Protocol]) -> Self {
        let mut capabilities: Vec<_> = protocols.iter().map(Protocol::capability).collect();
        capabilities.sort();
        Hello { version: BASE_VERSION, client: client.into(), capabilities, listen_port: 0, id }
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut list = RlpStream::new_list(5);
        list.append(&self.version).append(&self.client);
        list.begin_list(self.capabilities.len());
        for Capability { name, version } in &self.capabilities {
            list.begin_list(2).append(&name.as_str()).append(version);
        }
        list.append(&self.listen_port).append(&self.id.as_slice());
        list.out().into()
    }

    /// The first frame's data: code and payload.
    pub fn to_frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        put_code(&mut frame, code::HELLO);
        frame.extend(self.encode());
        frame
    }

    /// Whether a peer would take it: at most 2048 bytes and 128 capabilities, an id that is not zero. For this side's own.
    pub fn check(&self) -> Result<(), HelloError> {
        Self::decode(&self.encode()).map(drop)
    }

    /// Reads the payload. Capabilities whose name cannot be one (empty, longer than 8, not visible ASCII) can be shared with nobody and are
    /// left out: go-ethereum lets them pass, and so they are about.
    pub fn decode(payload: &[u8]) -> Result<Self, HelloError> {
        if payload.len() > MAX_BASE_MESSAGE_SIZE {
            return Err(HelloError::TooLarge(payload.len()));
        }
        let (list, _) = Item::split(payload)?;
        let mut list = list.list()?;
        let version = list.required()?.u64()?;
        let client = list.required()?.bytes()?;
        let mut listed = list.required()?.list()?;
        let mut capabilities = Vec::new();
        let mut count = 0usize;
        while let Some(item) = listed.next()? {
            count = count.saturating_add(1);
            if count > MAX_CAPABILITIES {
                return Err(HelloError::TooManyCapabilities);
            }
            let mut pair = item.list()?;
            let (name, version) = (pair.required()?.bytes()?, pair.required()?.u64()?);
            if let Ok(name) = CapabilityName::from_bytes(name) {
                capabilities.push(Capability { name, version });
            }
        }
        let listen_port = list.required()?.u64()?;
        let id = list.required()?.bytes()?;
        let id: [u8; 64] = id.try_into().map_err(|_| HelloError::Identity)?;
        if id == [0; 64] {
            return Err(HelloError::Identity);
        }
        let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let client = String::from_utf8_lossy(client).chars().map(visible).collect();
        Ok(Hello { version, client, capabilities, listen_port, id })
    }

    /// Reads the data of the peer's first frame. A Disconnect in its place is [`HelloError::Disconnected`].
    pub fn from_frame(data: &[u8]) -> Result<Self, HelloError> {
        let (code, len) = read_code(data)?;
        let payload = data.get(len..).unwrap_or_default();
        if payload.len() > MAX_BASE_MESSAGE_SIZE {
            return Err(HelloError::TooLarge(payload.len()));
        }
        match code {
            code::HELLO => Self::decode(payload),
            code::DISCONNECT => Err(HelloError::Disconnected(DisconnectReason::decode(payload))),
            _ => Err(HelloError::Unexpected(code)),
        }
    }
}

/// Why there is no Hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// The peer hung up instead, and says why.
    #[error("peer refused: {0}")]
    Disconnected(DisconnectReason),
    /// The first message has another code than Hello and Disconnect.
    #[error("expected hello, got message {0:#x}")]
    Unexpected(u64),
    /// The frame has no message code.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// More than [`MAX_BASE_MESSAGE_SIZE`]; the bytes of the payload.
    #[error("hello of {0} bytes, at most {MAX_BASE_MESSAGE_SIZE} are allowed")]
    TooLarge(usize),
    /// The payload is not the list that it should be.
    #[error("hello cannot be decoded: {0}")]
    Undecodable(#[from] RlpError),
    /// More than [`MAX_CAPABILITIES`].
    #[error("hello lists more than {MAX_CAPABILITIES} capabilities")]
    TooManyCapabilities,
    /// The node id does not have 64 bytes, or all are zero.
    #[error("hello has no valid node id")]
    Identity,
}

impl HelloError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            HelloError::Disconnected(reason) => reason.blame(),
            HelloError::Message(error) => error.blame(),
            HelloError::Undecodable(_) | HelloError::Identity => Blame::Malformed,
            HelloError::Unexpected(_) | HelloError::TooLarge(_) | HelloError::TooManyCapabilities => Blame::Misbehaved,
        }
    }

    /// What the peer is told before we hang up; nothing if it hung up itself.
    pub fn reason(&self) -> Option<DisconnectReason> {
        match self {
            HelloError::Disconnected(_) => None,
            HelloError::Identity => Some(DisconnectReason::InvalidIdentity),
            _ => Some(DisconnectReason::Protocol),
        }
    }
}

#[cfg(test)]
mod tests;
