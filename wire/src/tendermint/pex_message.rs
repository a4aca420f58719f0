//! Peer exchange messages of CometBFT 0.34–1.0 (`proto/tendermint/p2p/pex.proto`; the same bytes as Tendermint v0.35's first
//! version). A malformed message is an error; a single address that cannot be a peer's is skipped and counted.

use std::net::IpAddr;

use data_encoding::HEXLOWER;
use prost::Message;

use super::protobuf::{Fields, Undecodable, Value};
use crate::{Blame, Host, PeerAddress, PeerId};

/// The channel of peer exchange.
pub const PEX_CHANNEL: u8 = 0x00;

/// The largest message, in bytes: 256 for each of 250 addresses (CometBFT `pex.maxMsgSize`).
pub const MAX_PEX_MESSAGE_SIZE: usize = 64_000;

/// The most addresses in a message (CometBFT `maxGetSelection`).
pub const MAX_PEX_ADDRESSES: usize = 250;

/// A message of the PEX channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PexMessage {
    /// "Tell me of peers."
    Request,
    /// The answer.
    Addresses {
        /// Tendermint peers at IP addresses, in the order of the message.
        addresses: Vec<PeerAddress>,
        /// Entries that were no such address: a bad id, a name, an unusable IP, port 0. Not written.
        skipped: usize,
    },
}

impl PexMessage {
    /// An answer with these addresses.
    pub fn addresses(addresses: Vec<PeerAddress>) -> Self {
        PexMessage::Addresses { addresses, skipped: 0 }
    }

    /// Reads a message of at most 64,000 bytes and 250 entries; both limits are checked before anything is allocated.
    pub fn decode(bytes: &[u8]) -> Result<Self, PexError> {
        if bytes.len() > MAX_PEX_MESSAGE_SIZE {
            return Err(PexError::TooLarge(bytes.len()));
        }
        let mut fields = Fields::new(bytes);
        let mut message = None;
        while let Some((number, value)) = fields.next()? {
            message = match (number, value) {
                (1, Value::Bytes(request)) => {
                    check(request)?;
                    Some(PexMessage::Request)
                }
                (2, Value::Bytes(list)) => Some(decode_addresses(list)?),
                (1 | 2, _) => return Err(PexError::Undecodable("wrong wire type")),
                // Also Tendermint v0.35's second version, whose messages have the numbers 3 and 4.
                _ => message,
            };
        }
        message.ok_or(PexError::UnknownMessage)
    }

    /// The bytes of the message. Of the addresses, those that are not Tendermint peers at an IP, and those beyond 250, are left
    /// out.
    pub fn encode(&self) -> Vec<u8> {
        let sum = match self {
            PexMessage::Request => Sum::Request(PexRequest {}),
            PexMessage::Addresses { addresses, .. } => {
                let addrs = addresses.iter().filter_map(NetAddress::from_peer).take(MAX_PEX_ADDRESSES).collect();
                Sum::Addrs(PexAddrs { addrs })
            }
        };
        ProtoMessage { sum: Some(sum) }.encode_to_vec()
    }
}

fn decode_addresses(list: &[u8]) -> Result<PexMessage, PexError> {
    let (mut addresses, mut entries) = (Vec::new(), 0usize);
    let mut fields = Fields::new(list);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(entry)) => {
                entries = entries.saturating_add(1);
                if entries > MAX_PEX_ADDRESSES {
                    return Err(PexError::TooManyAddresses);
                }
                let entry = NetAddress::decode(entry).map_err(|_| PexError::Undecodable("bad address entry"))?;
                addresses.extend(entry.to_peer());
            }
            (1, _) => return Err(PexError::Undecodable("wrong wire type")),
            _ => {}
        }
    }
    let skipped = entries.saturating_sub(addresses.len());
    Ok(PexMessage::Addresses { addresses, skipped })
}

fn check(message: &[u8]) -> Result<(), PexError> {
    let mut fields = Fields::new(message);
    while fields.next()?.is_some() {}
    Ok(())
}

#[derive(Clone, PartialEq, Message)]
struct ProtoMessage {
    #[prost(oneof = "Sum", tags = "1, 2")]
    sum: Option<Sum>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Sum {
    #[prost(message, tag = "1")]
    Request(PexRequest),
    #[prost(message, tag = "2")]
    Addrs(PexAddrs),
}

#[derive(Clone, PartialEq, Message)]
struct PexRequest {}

#[derive(Clone, PartialEq, Message)]
struct PexAddrs {
    #[prost(message, repeated, tag = "1")]
    addrs: Vec<NetAddress>,
}

#[derive(Clone, PartialEq, Message)]
struct NetAddress {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    ip: String,
    #[prost(uint32, tag = "3")]
    port: u32,
}

impl NetAddress {
    fn from_peer(address: &PeerAddress) -> Option<Self> {
        let id = HEXLOWER.encode(&address.id().tendermint()?);
        Some(NetAddress { id, ip: address.ip()?.to_string(), port: address.port().into() })
    }

    fn to_peer(&self) -> Option<PeerAddress> {
        let id: PeerId = self.id.parse().ok().filter(|id| matches!(id, PeerId::Tendermint(_)))?;
        let host = Host::from_ip(self.ip.parse::<IpAddr>().ok()?).ok()?;
        PeerAddress::new(id, host, u16::try_from(self.port).ok()?).ok()
    }
}

/// Why bytes are not a PEX message. Always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PexError {
    /// More than 64,000 bytes.
    #[error("PEX message of {0} bytes, at most {MAX_PEX_MESSAGE_SIZE} are allowed")]
    TooLarge(usize),
    /// More than 250 entries.
    #[error("PEX message with more than {MAX_PEX_ADDRESSES} addresses")]
    TooManyAddresses,
    /// Not the protobuf message.
    #[error("PEX message cannot be decoded: {0}")]
    Undecodable(&'static str),
    /// Neither a request nor addresses.
    #[error("unknown PEX message")]
    UnknownMessage,
}

impl From<Undecodable> for PexError {
    fn from(Undecodable(why): Undecodable) -> Self {
        PexError::Undecodable(why)
    }
}

impl PexError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            PexError::Undecodable(_) | PexError::UnknownMessage => Blame::Malformed,
            PexError::TooLarge(_) | PexError::TooManyAddresses => Blame::Misbehaved,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(id: &str, ip: &str, port: u32) -> NetAddress {
        NetAddress { id: id.into(), ip: ip.into(), port }
    }

    fn message(addrs: Vec<NetAddress>) -> Vec<u8> {
        ProtoMessage { sum: Some(Sum::Addrs(PexAddrs { addrs })) }.encode_to_vec()
    }

    /// CometBFT `p2p/pex/pex_reactor_test.go`, TestPexVectors. (Its address has the id "1", which no handshake could prove.)
    #[test]
    fn the_bytes_are_cometbfts() {
        assert_eq!(HEXLOWER.encode(&PexMessage::Request.encode()), "0a00");
        let vector = "12130a110a013112093132372e302e302e31188247";
        assert_eq!(HEXLOWER.encode(&message(vec![entry("1", "127.0.0.1", 9090)])), vector);
        let read = PexMessage::decode(&HEXLOWER.decode(vector.as_bytes()).unwrap());
        assert_eq!(read, Ok(PexMessage::Addresses { addresses: vec![], skipped: 1 }));
        assert_eq!(PexMessage::decode(&[0x0a, 0]), Ok(PexMessage::Request));
    }

    #[test]
    fn one_unusable_address_is_skipped_and_the_others_stay() {
        let id = "ab".repeat(20);
        let good = [entry(&id, "1.2.3.4", 1), entry(&id.to_uppercase(), "2001:db8::1", 65_535)];
        let bad = [
            entry(&id, "1.2.3.4", 0),
            entry(&id, "1.2.3.4", 65_536),
            entry(&id, "seed.example.org", 1),
            entry(&id, "224.0.0.1", 1),
            entry(&id, "0.0.0.0", 1),
            entry(&id, "", 1),
            entry(&id[1..], "1.2.3.4", 1),
            entry(&"ab".repeat(64), "1.2.3.4", 1),
            entry("", "", 0),
        ];
        let read = PexMessage::decode(&message([good.to_vec(), bad.to_vec()].concat())).unwrap();
        let expected =
            [format!("{id}@1.2.3.4:1"), format!("{id}@[2001:db8::1]:65535")].map(|text| text.parse().unwrap());
        assert_eq!(read, PexMessage::Addresses { addresses: expected.to_vec(), skipped: 9 });
    }

    #[test]
    fn limits_and_nonsense_are_errors() {
        use PexError::*;
        let id = "ab".repeat(20);
        let many = |n| message(vec![entry(&id, "1.2.3.4", 1); n]);
        assert!(PexMessage::decode(&many(250)).is_ok());
        assert_eq!(PexMessage::decode(&many(251)), Err(TooManyAddresses));
        // Entries of nothing count too: they are what fits best into 64,000 bytes.
        assert_eq!(PexMessage::decode(&message(vec![NetAddress::default(); 20_000])), Err(TooManyAddresses));
        assert_eq!(PexMessage::decode(&[0; 64_001]), Err(TooLarge(64_001)));
        assert_eq!(PexMessage::decode(&[]), Err(UnknownMessage));
        assert_eq!(PexMessage::decode(&[0x1a, 0]), Err(UnknownMessage));
        assert_eq!(PexMessage::decode(&[0x08, 0]), Err(Undecodable("wrong wire type")));
        assert_eq!(PexMessage::decode(&[0x12, 3, 0x0a, 1, 0xff]), Err(Undecodable("bad address entry")));
        let PexMessage::Addresses { addresses, .. } = PexMessage::decode(&many(250)).unwrap() else { unreachable!() };
        let too_many = PexMessage::addresses([addresses.clone(), addresses].concat());
        assert_eq!(too_many.encode(), many(250));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PexMessage::decode(&bytes);
            let wrapped = [&[0x12, bytes.len().min(127) as u8], &bytes[..bytes.len().min(127)]].concat();
            let _ = PexMessage::decode(&wrapped);
        }

        #[test]
        fn addresses_are_read_back(peers in proptest::collection::vec((any::<[u8; 20]>(), any::<[u8; 4]>(), 1u16..), 0..250)) {
            let peers = peers.into_iter().filter_map(|(id, ip, port)| {
                PeerAddress::new(PeerId::Tendermint(id), Host::Ip(ip.into()), port).ok()
            });
            let message = PexMessage::addresses(peers.collect());
            prop_assert_eq!(PexMessage::decode(&message.encode()), Ok(message));
        }
    }
}
