//! Peer exchange messages of CometBFT 0.34–1.0 (`proto/tendermint/p2p/pex.proto`; the same bytes as Tendermint v0.35's first
//! version) and v0.35's second version, which has URLs in place of IPs. A malformed message is an error; a single address that cannot be a
//! peer's is skipped and counted.

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

/// The most addresses in a message of the second version, and what v0.35 takes of the first (Tendermint v0.35 `maxAddresses`).
pub const MAX_PEX_ADDRESSES_V2: usize = 100;

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
    /// The same request, for URLs.
    RequestV2,
    /// The answer in URLs, `mconn://<40 hex>@host:port`.
    AddressesV2 {
        /// Tendermint peers, in the order of the message. A host may be a name here.
        addresses: Vec<PeerAddress>,
        /// Entries that were no such URL: another scheme, no port, a path, an unusable IP. Not written.
        skipped: usize,
    },
}

impl PexMessage {
    /// An answer with these addresses.
    pub fn addresses(addresses: Vec<PeerAddress>) -> Self {
        PexMessage::Addresses { addresses, skipped: 0 }
    }

    /// An answer with these addresses, in URLs.
    pub fn addresses_v2(addresses: Vec<PeerAddress>) -> Self {
        PexMessage::AddressesV2 { addresses, skipped: 0 }
    }

    /// Reads a message of at most 64,000 bytes and 250 entries, 100 of the second version; both limits are checked before anything is allocated.
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
                (2, Value::Bytes(list)) => {
                    let read = |entry: &[u8]| NetAddress::decode(entry).map(|entry| entry.to_peer());
                    let (addresses, skipped) = decode_list(list, MAX_PEX_ADDRESSES, read)?;
                    Some(PexMessage::Addresses { addresses, skipped })
                }
                (3, Value::Bytes(request)) => {
                    check(request)?;
                    Some(PexMessage::RequestV2)
                }
                (4, Value::Bytes(list)) => {
                    let read = |entry: &[u8]| PexAddressV2::decode(entry).map(|entry| entry.to_peer());
                    let (addresses, skipped) = decode_list(list, MAX_PEX_ADDRESSES_V2, read)?;
                    Some(PexMessage::AddressesV2 { addresses, skipped })
                }
                (1..=4, _) => return Err(PexError::Undecodable("wrong wire type")),
                _ => message,
            };
        }
        message.ok_or(PexError::UnknownMessage)
    }

    /// The bytes of the message. Of the addresses, those that are not Tendermint peers at an IP (or, in the second version, a name), and
    /// those beyond 250 (100), are left out.
    pub fn encode(&self) -> Vec<u8> {
        let sum = match self {
            PexMessage::Request => Sum::Request(PexRequest {}),
            PexMessage::Addresses { addresses, .. } => {
                let addrs = addresses.iter().filter_map(NetAddress::from_peer).take(MAX_PEX_ADDRESSES).collect();
                Sum::Addrs(PexAddrs { addrs })
            }
            PexMessage::RequestV2 => Sum::RequestV2(PexRequest {}),
            PexMessage::AddressesV2 { addresses, .. } => {
                let addresses =
                    addresses.iter().filter_map(PexAddressV2::from_peer).take(MAX_PEX_ADDRESSES_V2).collect();
                Sum::ResponseV2(PexResponseV2 { addresses })
            }
        };
        ProtoMessage { sum: Some(sum) }.encode_to_vec()
    }
}

/// The peers of a list, and how many entries were none. The limit is checked before an entry is decoded.
fn decode_list(
    list: &[u8],
    most: usize,
    read: impl Fn(&[u8]) -> Result<Option<PeerAddress>, prost::DecodeError>,
) -> Result<(Vec<PeerAddress>, usize), PexError> {
    let (mut addresses, mut entries) = (Vec::new(), 0usize);
    let mut fields = Fields::new(list);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(entry)) => {
                entries = entries.saturating_add(1);
                if entries > most {
                    return Err(PexError::TooManyAddresses(most));
                }
                addresses.extend(read(entry).map_err(|_| PexError::Undecodable("bad address entry"))?);
            }
            (1, _) => return Err(PexError::Undecodable("wrong wire type")),
            _ => {}
        }
    }
    let skipped = entries.saturating_sub(addresses.len());
    Ok((addresses, skipped))
}

fn check(message: &[u8]) -> Result<(), PexError> {
    let mut fields = Fields::new(message);
    while fields.next()?.is_some() {}
    Ok(())
}

#[derive(Clone, PartialEq, Message)]
struct ProtoMessage {
    #[prost(oneof = "Sum", tags = "1, 2, 3, 4")]
    sum: Option<Sum>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Sum {
    #[prost(message, tag = "1")]
    Request(PexRequest),
    #[prost(message, tag = "2")]
    Addrs(PexAddrs),
    #[prost(message, tag = "3")]
    RequestV2(PexRequest),
    #[prost(message, tag = "4")]
    ResponseV2(PexResponseV2),
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

#[derive(Clone, PartialEq, Message)]
struct PexResponseV2 {
    #[prost(message, repeated, tag = "1")]
    addresses: Vec<PexAddressV2>,
}

#[derive(Clone, PartialEq, Message)]
struct PexAddressV2 {
    #[prost(string, tag = "1")]
    url: String,
}

impl PexAddressV2 {
    fn from_peer(address: &PeerAddress) -> Option<Self> {
        address.id().tendermint().filter(|_| *address.host() != Host::Memory)?;
        Some(PexAddressV2 { url: format!("mconn://{address}") })
    }

    fn to_peer(&self) -> Option<PeerAddress> {
        let address: PeerAddress = self.url.parse().ok()?;
        address.id().tendermint().filter(|_| *address.host() != Host::Memory)?;
        Some(address)
    }
}

/// Why bytes are not a PEX message. Always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PexError {
    /// More than 64,000 bytes.
    #[error("PEX message of {0} bytes, at most {MAX_PEX_MESSAGE_SIZE} are allowed")]
    TooLarge(usize),
    /// More than 250 entries, or 100 of the second version.
    #[error("PEX message with more than {0} addresses")]
    TooManyAddresses(usize),
    /// Not the protobuf message.
    #[error("PEX message cannot be decoded: {0}")]
    Undecodable(&'static str),
    /// Neither a request nor addresses, of either version.
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
            PexError::TooLarge(_) | PexError::TooManyAddresses(_) => Blame::Misbehaved,
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
        assert_eq!(PexMessage::decode(&many(251)), Err(TooManyAddresses(250)));
        // Entries of nothing count too: they are what fits best into 64,000 bytes.
        assert_eq!(PexMessage::decode(&message(vec![NetAddress::default(); 20_000])), Err(TooManyAddresses(250)));
        assert_eq!(PexMessage::decode(&[0; 64_001]), Err(TooLarge(64_001)));
        assert_eq!(PexMessage::decode(&[]), Err(UnknownMessage));
        assert_eq!(PexMessage::decode(&[0x2a, 0]), Err(UnknownMessage));
        assert_eq!(PexMessage::decode(&[0x08, 0]), Err(Undecodable("wrong wire type")));
        assert_eq!(PexMessage::decode(&[0x12, 3, 0x0a, 1, 0xff]), Err(Undecodable("bad address entry")));
        let PexMessage::Addresses { addresses, .. } = PexMessage::decode(&many(250)).unwrap() else { unreachable!() };
        let too_many = PexMessage::addresses([addresses.clone(), addresses].concat());
        assert_eq!(too_many.encode(), many(250));
    }

    fn message_v2(urls: &[String]) -> Vec<u8> {
        let addresses = urls.iter().map(|url| PexAddressV2 { url: url.clone() }).collect();
        ProtoMessage { sum: Some(Sum::ResponseV2(PexResponseV2 { addresses })) }.encode_to_vec()
    }

    /// Made by hand from `pex.proto` of Tendermint v0.35: pex_request_v2 = 3, pex_response_v2 = 4, addresses = 1, url = 1.
    #[test]
    fn the_second_version_has_urls() {
        assert_eq!(PexMessage::RequestV2.encode(), [0x1a, 0]);
        assert_eq!(PexMessage::decode(&[0x1a, 0]), Ok(PexMessage::RequestV2));
        let id = "ab".repeat(20);
        let url = format!("mconn://{id}@1.2.3.4:26656");
        let bytes = [&[0x22, 66, 0x0a, 64, 0x0a, 62], url.as_bytes()].concat();
        let address: PeerAddress = url.parse().unwrap();
        let message = PexMessage::addresses_v2(vec![address]);
        assert_eq!((url.len(), message.encode()), (62, bytes.clone()));
        assert_eq!(PexMessage::decode(&bytes), Ok(message));
    }

    #[test]
    fn urls_that_are_no_tendermint_peers_are_skipped() {
        let id = "ab".repeat(20);
        let good = [
            "mconn://ID@1.2.3.4:1",
            "MConn://ID@[2001:db8::1]:65535",
            "ID@seed.example.org:26656",
            "tcp://ID@1.2.3.4:1",
            "mconn://ID@1.2.3.4:1/path",
        ];
        let bad = [
            "",
            "memory:ID",
            "quic://ID@1.2.3.4:1",
            "mconn://1.2.3.4:1",
            "mconn://ID@1.2.3.4",
            "mconn://ID@1.2.3.4:0",
            "mconn://ID@224.0.0.1:1",
            "mconn://ID00@1.2.3.4:1",
            "http://x",
        ];
        let urls: Vec<String> = good.iter().chain(&bad).map(|url| url.replace("ID", &id)).collect();
        let enode = format!("enode://{}@1.2.3.4:1", "ab".repeat(64));
        let Ok(PexMessage::AddressesV2 { addresses, skipped }) =
            PexMessage::decode(&message_v2(&[urls, vec![enode]].concat()))
        else {
            panic!("not an answer")
        };
        assert_eq!((addresses.len(), skipped), (good.len(), bad.len() + 1));
        assert_eq!(addresses[2], format!("{id}@seed.example.org:26656").parse().unwrap());
    }

    #[test]
    fn an_answer_in_urls_has_a_hundred_at_most() {
        let url = format!("mconn://{}@1.2.3.4:1", "ab".repeat(20));
        assert!(PexMessage::decode(&message_v2(&vec![url.clone(); 100])).is_ok());
        assert_eq!(PexMessage::decode(&message_v2(&vec![url.clone(); 101])), Err(PexError::TooManyAddresses(100)));
        assert_eq!(PexMessage::decode(&[0x22, 3, 0x0a, 1, 0xff]), Err(PexError::Undecodable("bad address entry")));
        assert_eq!(PexMessage::decode(&[0x18, 0]), Err(PexError::Undecodable("wrong wire type")));
        let too_many = PexMessage::addresses_v2(vec![url.parse().unwrap(); 250]);
        assert_eq!(too_many.encode(), message_v2(&vec![url; 100]));
        // Nobody outside this process can dial what is in its memory.
        assert_eq!(PexMessage::addresses_v2(vec![PeerAddress::memory([1; 20])]).encode(), [0x22, 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PexMessage::decode(&bytes);
            for list in [0x12, 0x22] {
                let wrapped = [&[list, bytes.len().min(127) as u8], &bytes[..bytes.len().min(127)]].concat();
                let _ = PexMessage::decode(&wrapped);
            }
        }

        #[test]
        fn addresses_are_read_back(peers in proptest::collection::vec((any::<[u8; 20]>(), any::<[u8; 4]>(), 1u16..), 0..250)) {
            let peers = peers.into_iter().filter_map(|(id, ip, port)| {
                PeerAddress::new(PeerId::Tendermint(id), Host::Ip(ip.into()), port).ok()
            });
            let peers: Vec<_> = peers.collect();
            let message = PexMessage::addresses(peers.clone());
            prop_assert_eq!(PexMessage::decode(&message.encode()), Ok(message));
            let message = PexMessage::addresses_v2(peers.into_iter().take(MAX_PEX_ADDRESSES_V2).collect());
            prop_assert_eq!(PexMessage::decode(&message.encode()), Ok(message));
        }
    }
}
