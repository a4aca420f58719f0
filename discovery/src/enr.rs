//! Ethereum node records (EIP-778), identity scheme "v4".
//!
//! An [`Enr`] is `[signature, seq, k1, v1, k2, v2, …]` in RLP, at most 300 bytes, keys ascending and unique, and its signature
//! has been verified: an invalid one cannot exist. Values that we do not know are kept as they came.
//!
//! The pair `tm` is ours: `rlp([node_id (20 bytes), tcp_port])` says which Tendermint node speaks MConnection at this address.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use rlp::RlpStream;

use crate::{
    Blame, NodeId, PublicKey, RlpError, SecretKey,
    keccak256::keccak256,
    rlp_list::{Item, Items},
};

/// Longest record, bytes of RLP (EIP-778, "RLP Encoding").
pub const MAX_RECORD_SIZE: usize = 300;

/// Longest text form without its prefix: 300 bytes in base64.
const MAX_TEXT_LENGTH: usize = 400;

const PREFIX: &str = "enr:";

/// The only identity scheme defined so far.
const SCHEME: &[u8] = b"v4";

/// Why bytes or a text are not a valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrError {
    /// The text does not begin with `enr:`.
    #[error("node record: text does not begin with \"enr:\"")]
    NoPrefix,
    /// The text is not base64url without padding.
    #[error("node record: not unpadded base64url")]
    Base64,
    /// Longer than 300 bytes.
    #[error("node record: {0} bytes, more than {MAX_RECORD_SIZE}")]
    TooBig(usize),
    /// Not the RLP of a record.
    #[error("node record: {0}")]
    Rlp(#[from] RlpError),
    /// A key without a value.
    #[error("node record: a key without a value")]
    IncompletePair,
    /// A key that is not greater than the one before it.
    #[error("node record: keys are not in ascending order")]
    NotSorted,
    /// The same key twice.
    #[error("node record: duplicate key")]
    DuplicateKey,
    /// `id` is missing or names another scheme than "v4".
    #[error("node record: unknown identity scheme")]
    UnknownScheme,
    /// `secp256k1` is missing or not a compressed point.
    #[error("node record: no valid secp256k1 key")]
    InvalidKey,
    /// The signature is not of this key over this content.
    #[error("node record: invalid signature")]
    InvalidSignature,
    /// The pair is one that the record has by itself.
    #[error("node record: the pair {0:?} is not to be given")]
    OwnKey(&'static str),
}

impl EnrError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::UnknownScheme => Blame::Incompatible,
            Self::InvalidSignature => Blame::Misbehaved,
            Self::OwnKey(_) => Blame::Local,
            _ => Blame::Malformed,
        }
    }
}

/// What the pair `tm` says: the Tendermint node at this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TendermintEntry {
    /// First 20 bytes of SHA-256 of the node's ed25519 key. A claim: the handshake proves it.
    pub node_id: [u8; 20],
    /// Where MConnection is spoken, at the record's IP address. Never 0 in a record read from the network.
    pub tcp_port: u16,
}

/// A verified node record. Cheap to clone.
#[derive(Clone)]
pub struct Enr(Arc<Content>);

struct Content {
    rlp: Bytes,
    seq: u64,
    key: PublicKey,
    id: NodeId,
}

impl Enr {
    /// A record to fill and sign. `seq` must grow whenever the content changes.
    pub fn builder(seq: u64) -> EnrBuilder {
        EnrBuilder { seq, pairs: BTreeMap::new() }
    }

    /// Reads exactly one record and verifies its signature (about 70 µs).
    pub fn decode(record: &[u8]) -> Result<Self, EnrError> {
        if record.len() > MAX_RECORD_SIZE {
            return Err(EnrError::TooBig(record.len()));
        }
        let mut items = Item::only(record)?.list()?;
        let signature = items.required()?.array::<64>();
        let content = items.rest();
        let seq = items.required()?.u64()?;
        let (mut scheme, mut key) = (None, None);
        let mut previous: Option<&[u8]> = None;
        while let Some((name, value)) = next_pair(&mut items)? {
            match previous.map(|previous| previous.cmp(name)) {
                Some(std::cmp::Ordering::Equal) => return Err(EnrError::DuplicateKey),
                Some(std::cmp::Ordering::Greater) => return Err(EnrError::NotSorted),
                _ => previous = Some(name),
            }
            match name {
                b"id" => scheme = value.bytes().ok(),
                b"secp256k1" => key = value.array::<33>().ok(),
                _ => (),
            }
        }
        if scheme != Some(SCHEME) {
            return Err(EnrError::UnknownScheme);
        }
        let key = key.and_then(|key| PublicKey::from_compressed(&key).ok()).ok_or(EnrError::InvalidKey)?;
        let signature = signature.map_err(|_| EnrError::InvalidSignature)?;
        if !key.verify(&content_digest(content), &signature) {
            return Err(EnrError::InvalidSignature);
        }
        Ok(Self(Arc::new(Content { rlp: Bytes::copy_from_slice(record), seq, key, id: key.node_id() })))
    }

    /// The record's RLP, at most 300 bytes.
    pub fn encode(&self) -> &[u8] {
        &self.0.rlp
    }

    /// The sequence number: of two records of one node, the greater is the newer.
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    /// Whose record this is.
    pub fn key(&self) -> &PublicKey {
        &self.0.key
    }

    /// keccak256 of the key.
    pub fn node_id(&self) -> NodeId {
        self.0.id
    }

    /// The raw RLP of the value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.value(key).map(|value| value.raw())
    }

    /// `ip`: IPv4 address. `None` if absent or not 4 bytes; likewise for the getters below.
    pub fn ip(&self) -> Option<Ipv4Addr> {
        self.value(b"ip")?.array::<4>().ok().map(Ipv4Addr::from)
    }

    /// `ip6`: IPv6 address, 16 bytes.
    pub fn ip6(&self) -> Option<Ipv6Addr> {
        self.value(b"ip6")?.array::<16>().ok().map(Ipv6Addr::from)
    }

    /// `udp`: UDP port, never 0.
    pub fn udp(&self) -> Option<u16> {
        self.port(b"udp")
    }

    /// `tcp`: TCP port, never 0.
    pub fn tcp(&self) -> Option<u16> {
        self.port(b"tcp")
    }

    /// `udp6`: UDP port for IPv6 only. See [`udp_for`](Self::udp_for).
    pub fn udp6(&self) -> Option<u16> {
        self.port(b"udp6")
    }

    /// `tcp6`: TCP port for IPv6 only. See [`tcp_for`](Self::tcp_for).
    pub fn tcp6(&self) -> Option<u16> {
        self.port(b"tcp6")
    }

    /// The UDP port at an address of this family: `udp6` falls back to `udp` (EIP-778, "Key/Value Pairs").
    pub fn udp_for(&self, ip: &IpAddr) -> Option<u16> {
        self.udp6().filter(|_| ip.is_ipv6()).or_else(|| self.udp())
    }

    /// The TCP port at an address of this family: `tcp6` falls back to `tcp`.
    pub fn tcp_for(&self, ip: &IpAddr) -> Option<u16> {
        self.tcp6().filter(|_| ip.is_ipv6()).or_else(|| self.tcp())
    }

    /// The pair `tm`. `None` if absent, malformed, or with port 0.
    pub fn tendermint(&self) -> Option<TendermintEntry> {
        let mut items = self.value(b"tm")?.list().ok()?;
        let node_id = items.required().ok()?.array().ok()?;
        let tcp_port = items.required().ok()?.u16().ok()?;
        (tcp_port != 0).then_some(TendermintEntry { node_id, tcp_port })
    }

    /// All pairs in ascending order of keys: key, raw RLP of the value.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut items = self.pair_items();
        // A record that exists has been walked to its end once.
        std::iter::from_fn(move || next_pair(items.as_mut()?).ok().flatten()).map(|(key, value)| (key, value.raw()))
    }

    fn pair_items(&self) -> Option<Items<'_>> {
        let mut items = Item::only(&self.0.rlp).ok()?.list().ok()?;
        let (_signature, _seq) = (items.required().ok()?, items.required().ok()?);
        Some(items)
    }

    fn value(&self, key: &[u8]) -> Option<Item<'_>> {
        let mut items = self.pair_items()?;
        while let Ok(Some((name, value))) = next_pair(&mut items) {
            if name == key {
                return Some(value);
            }
        }
        None
    }

    fn port(&self, key: &[u8]) -> Option<u16> {
        self.value(key)?.u16().ok().filter(|port| *port != 0)
    }
}

fn next_pair<'a>(items: &mut Items<'a>) -> Result<Option<(&'a [u8], Item<'a>)>, EnrError> {
    let Some(key) = items.next()? else { return Ok(None) };
    let value = items.next()?.ok_or(EnrError::IncompletePair)?;
    Ok(Some((key.bytes()?, value)))
}

/// What is signed: keccak256 of the RLP list of `content` (the record's elements less the signature).
fn content_digest(content: &[u8]) -> [u8; 32] {
    let mut header = RlpStream::new_list_with_buffer(Default::default(), 1);
    header.append_raw(content, 1);
    keccak256(&[header.as_raw()])
}

impl PartialEq for Enr {
    fn eq(&self, other: &Self) -> bool {
        self.0.rlp == other.0.rlp
    }
}

impl Eq for Enr {}

impl fmt::Display for Enr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&self.0.rlp))
    }
}

impl fmt::Debug for Enr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Enr({self})")
    }
}

impl FromStr for Enr {
    type Err = EnrError;

    /// `enr:` and unpadded base64url.
    fn from_str(text: &str) -> Result<Self, EnrError> {
        let text = text.strip_prefix(PREFIX).ok_or(EnrError::NoPrefix)?;
        if text.len() > MAX_TEXT_LENGTH {
            return Err(EnrError::TooBig(text.len().saturating_mul(3) / 4));
        }
        Self::decode(&BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| EnrError::Base64)?)
    }
}

/// A record under construction. Setting a pair twice keeps the last value; a port of 0 leaves the pair out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a builder is used up by each step, and makes a record when it signs"]
pub struct EnrBuilder {
    seq: u64,
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl EnrBuilder {
    /// Sets `ip` or `ip6`, according to the address; an IPv4-mapped address is IPv4.
    pub fn address(self, ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.ip(ip),
            IpAddr::V6(ip) => self.ip6(ip),
        }
    }

    /// Sets `ip`.
    pub fn ip(self, ip: Ipv4Addr) -> Self {
        self.bytes("ip", &ip.octets())
    }

    /// Sets `ip6`.
    pub fn ip6(self, ip: Ipv6Addr) -> Self {
        self.bytes("ip6", &ip.octets())
    }

    /// Sets `udp`.
    pub fn udp(self, port: u16) -> Self {
        self.port("udp", port)
    }

    /// Sets `tcp`.
    pub fn tcp(self, port: u16) -> Self {
        self.port("tcp", port)
    }

    /// Sets `udp6`.
    pub fn udp6(self, port: u16) -> Self {
        self.port("udp6", port)
    }

    /// Sets `tcp6`.
    pub fn tcp6(self, port: u16) -> Self {
        self.port("tcp6", port)
    }

    /// Sets `tm`.
    pub fn tendermint(self, entry: TendermintEntry) -> Self {
        let mut value = RlpStream::new_list(2);
        value.append(&entry.node_id.as_slice()).append(&entry.tcp_port);
        self.set("tm", value.as_raw())
    }

    /// Sets any pair to the raw RLP of a value, which must be exactly one item.
    pub fn pair(self, key: impl AsRef<[u8]>, value: &[u8]) -> Result<Self, EnrError> {
        Item::only(value)?;
        Ok(self.set(key, value))
    }

    /// Sets a pair.
    pub fn with(self, pair: &EnrPair) -> Self {
        self.set(&pair.key, &pair.value)
    }

    /// Whether `record` has the pairs that this would have if `key` signed it: then there is nothing to publish.
    pub fn same_content(&self, record: &Enr) -> bool {
        let mut ours = self.clone().identity(record.key()).pairs.into_iter();
        record.pairs().all(|(key, value)| ours.next().is_some_and(|pair| pair.0 == key && pair.1 == value))
            && ours.next().is_none()
    }

    /// Sets `id` and `secp256k1`, and signs. Fails only if the record would be too big.
    pub fn sign(self, key: &SecretKey) -> Result<Enr, EnrError> {
        let Self { seq, pairs } = self.identity(key.public());
        let mut content = RlpStream::new();
        content.begin_unbounded_list().append(&seq);
        for (key, value) in &pairs {
            content.append(&key.as_slice()).append_raw(value, 1);
        }
        content.finalize_unbounded_list();
        let signature = key.sign_recoverable(&keccak256(&[content.as_raw()]));

        let mut record = RlpStream::new();
        record.begin_unbounded_list().append(&signature.get(..64).unwrap_or_default());
        record.append_raw(Item::only(content.as_raw())?.list()?.rest(), 1);
        record.finalize_unbounded_list();
        let rlp = record.out().freeze();
        if rlp.len() > MAX_RECORD_SIZE {
            return Err(EnrError::TooBig(rlp.len()));
        }
        Ok(Enr(Arc::new(Content { rlp, seq, key: *key.public(), id: key.public().node_id() })))
    }

    fn identity(self, key: &PublicKey) -> Self {
        self.bytes("id", SCHEME).bytes("secp256k1", &key.to_compressed())
    }

    fn port(mut self, key: &str, port: u16) -> Self {
        if port == 0 {
            self.pairs.remove(key.as_bytes());
            return self;
        }
        self.set(key, &rlp::encode(&port))
    }

    fn bytes(self, key: &str, value: &[u8]) -> Self {
        self.set(key, &rlp::encode(&value))
    }

    fn set(mut self, key: impl AsRef<[u8]>, value: &[u8]) -> Self {
        self.pairs.insert(key.as_ref().to_vec(), value.to_vec());
        self
    }
}

/// A pair for a record that is made by others: not one of those that say who and where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrPair {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl EnrPair {
    /// The pair `key` with the raw RLP of a value, which must be exactly one item.
    pub fn new(key: impl AsRef<[u8]>, value: &[u8]) -> Result<Self, EnrError> {
        const OWN: [&str; 9] = ["id", "ip", "ip6", "secp256k1", "tcp", "tcp6", "tm", "udp", "udp6"];
        let key = key.as_ref();
        if let Some(own) = OWN.into_iter().find(|own| own.as_bytes() == key) {
            return Err(EnrError::OwnKey(own));
        }
        Item::only(value)?;
        Ok(EnrPair { key: key.to_vec(), value: value.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RLP: &str = include_str!("../../fixtures/enr/eip778.rlp.hex");
    const TEXT: &str = include_str!("../../fixtures/enr/eip778.txt");
    const SEQ_99: &str = include_str!("../../fixtures/enr/geth_seq99.txt");
    const BAD_SIGNATURE: &str = include_str!("../../fixtures/enr/geth_bad_signature.txt");

    fn secret() -> SecretKey {
        SecretKey::from_hex("b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291").unwrap()
    }

    fn example() -> Enr {
        Enr::builder(1).ip(Ipv4Addr::LOCALHOST).udp(30303).sign(&secret()).unwrap()
    }

    /// A record with any elements, signed by the published key: for content that the builder refuses to make.
    fn forge(elements: &[&[u8]]) -> Result<Enr, EnrError> {
        let list = |raw: &[u8]| {
            let mut stream = RlpStream::new_list(1);
            stream.append_raw(raw, 1);
            stream.out().to_vec()
        };
        let content: Vec<u8> = elements.iter().flat_map(|element| rlp::encode(element).to_vec()).collect();
        let signature = secret().sign_recoverable(&keccak256(&[&list(&content)]));
        Enr::decode(&list(&[rlp::encode(&&signature[..64]).to_vec(), content].concat()))
    }

    #[test]
    fn the_record_of_eip_778_is_read() {
        let record: Enr = TEXT.trim().parse().unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(record.encode()), RLP.trim());
        assert_eq!(record.seq(), 1);
        assert_eq!(record.ip(), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(record.udp(), Some(30303));
        assert_eq!((record.tcp(), record.ip6(), record.tendermint()), (None, None, None));
        assert_eq!(record.key(), secret().public());
        let id = "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7";
        assert_eq!(record.node_id().to_string(), id);
        assert_eq!(record.get(b"id"), Some(&b"\x82v4"[..]));
    }

    #[test]
    fn signing_reproduces_it_byte_for_byte() {
        assert_eq!(example().to_string(), TEXT.trim());
    }

    #[test]
    fn the_second_record_of_go_ethereum() {
        let record: Enr = SEQ_99.trim().parse().unwrap();
        let key = SecretKey::from_hex("45a915e4d060149eb4365960e6a7a45f334393093061116b197e3240065ff2d8").unwrap();
        assert_eq!((record.seq(), record.key()), (99, key.public()));
        assert_eq!(Enr::builder(99).ip(Ipv4Addr::LOCALHOST).udp(30303).sign(&key).unwrap(), record);
    }

    #[test]
    fn texts_that_are_no_record() {
        let refused = |text: &str| text.parse::<Enr>().unwrap_err();
        assert_eq!(refused("enode:"), EnrError::NoPrefix);
        assert_eq!(refused("enr:"), EnrError::Rlp(RlpError::Truncated));
        assert_eq!(refused("enr:x"), EnrError::Base64);
        assert_eq!(refused(&format!("{}=", TEXT.trim())), EnrError::Base64); // padding
        assert_eq!(refused(BAD_SIGNATURE.trim()), EnrError::InvalidSignature);
        assert!(matches!(refused(&format!("enr:{}", "A".repeat(500_000))), EnrError::TooBig(_)));
        let trailing = [example().encode(), &[0]].concat();
        assert_eq!(Enr::decode(&trailing), Err(EnrError::Rlp(RlpError::TrailingData)));
    }

    #[test]
    fn records_well_signed_but_badly_made() {
        let key = &secret().public().to_compressed()[..];
        assert!(forge(&[&[1], b"id", b"v4", b"secp256k1", key]).is_ok());
        assert_eq!(forge(&[]), Err(EnrError::Rlp(RlpError::TooFewElements)));
        assert_eq!(forge(&[&[1], b"id", b"v4", b"secp256k1"]), Err(EnrError::IncompletePair));
        assert_eq!(forge(&[&[1], b"secp256k1", key, b"id", b"v4"]), Err(EnrError::NotSorted));
        assert_eq!(forge(&[&[1], b"id", b"v4", b"id", b"v4", b"secp256k1", key]), Err(EnrError::DuplicateKey));
        assert_eq!(forge(&[&[1], b"id", b"v5", b"secp256k1", key]), Err(EnrError::UnknownScheme));
        assert_eq!(forge(&[&[1], b"secp256k1", key]), Err(EnrError::UnknownScheme));
        assert_eq!(forge(&[&[1], b"id", b"v4", b"secp256k1", &[2; 32]]), Err(EnrError::InvalidKey));
        assert_eq!(forge(&[&[1], b"id", b"v4"]), Err(EnrError::InvalidKey));
        assert_eq!(forge(&[&[0, 1], b"id", b"v4"]), Err(EnrError::Rlp(RlpError::LeadingZero)));
        assert_eq!(forge(&[&[1], b"id", b"v4", b"secp256k1", key, b"zz", &[7; 200]]), Err(EnrError::TooBig(325)));
        let text = EnrError::UnknownScheme;
        assert_eq!((text.blame(), EnrError::NotSorted.blame()), (Blame::Incompatible, Blame::Malformed));
    }

    #[test]
    fn a_value_of_the_wrong_shape_is_absent_and_the_record_stays() {
        let key = &secret().public().to_compressed()[..];
        let record =
            forge(&[&[1], b"id", b"v4", b"ip", &[1; 5], b"secp256k1", key, b"tm", b"x", b"udp", &[1; 3]]).unwrap();
        assert_eq!((record.ip(), record.udp(), record.tendermint()), (None, None, None));
    }

    #[test]
    fn ports_for_ipv6_fall_back() {
        let (v4, v6) = (IpAddr::from([1, 2, 3, 4]), IpAddr::from([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
        let record = Enr::builder(1).address(v4).address(v6).udp(1).tcp(2).udp6(3).sign(&secret()).unwrap();
        assert_eq!((record.udp_for(&v4), record.udp_for(&v6)), (Some(1), Some(3)));
        assert_eq!((record.tcp_for(&v4), record.tcp_for(&v6)), (Some(2), Some(2)));
    }

    #[test]
    fn the_tendermint_pair_travels() {
        let entry = TendermintEntry { node_id: [9; 20], tcp_port: 26656 };
        let builder = Enr::builder(5).ip(Ipv4Addr::LOCALHOST).udp(30303).tendermint(entry);
        let record = builder.clone().sign(&secret()).unwrap();
        let read = Enr::decode(record.encode()).unwrap();
        assert_eq!(read.tendermint(), Some(entry));
        assert!(builder.same_content(&read));
        assert!(!builder.clone().tcp(1).same_content(&read));
        assert!(!Enr::builder(5).same_content(&read));
        // A port of 0 cannot be dialed.
        let zero = builder.tendermint(TendermintEntry { tcp_port: 0, ..entry }).sign(&secret()).unwrap();
        assert_eq!(zero.tendermint(), None);
    }

    #[test]
    fn unknown_pairs_are_kept_raw() {
        let eth = [0xc6, 0x84, 0, 0, 0, 0, 0x80];
        let record = Enr::builder(1).pair("eth", &eth).unwrap().sign(&secret()).unwrap();
        assert_eq!(Enr::decode(record.encode()).unwrap().get(b"eth"), Some(&eth[..]));
        assert_eq!(Enr::builder(1).pair("eth", &[1, 2]), Err(EnrError::Rlp(RlpError::TrailingData)));
        let large = rlp::encode(&&[7_u8; 200][..]);
        assert!(matches!(Enr::builder(1).pair("x", &large).unwrap().sign(&secret()), Err(EnrError::TooBig(_))));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let record = example();
        for at in 0..record.encode().len() {
            let mut bytes = record.encode().to_vec();
            assert!(Enr::decode(&bytes[..at]).is_err(), "cut at {at}");
            bytes[at] ^= 1 << (at % 8);
            assert!(Enr::decode(&bytes).is_err(), "flipped at {at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, text: String) {
            let _ = Enr::decode(&bytes);
            let _ = format!("enr:{text}").parse::<Enr>();
        }
    }

    #[test]
    fn a_pair_given_to_others_is_whole_and_not_one_of_theirs() {
        assert_eq!(EnrPair::new("udp", &[0x05]), Err(EnrError::OwnKey("udp")));
        assert_eq!(EnrPair::new("eth", &[0xc2, 0x05]), Err(EnrError::Rlp(RlpError::Truncated)));
        assert_eq!(EnrPair::new("eth", &[0x05, 0x05]), Err(EnrError::Rlp(RlpError::TrailingData)));
        let record = Enr::builder(1).with(&EnrPair::new("eth", &[0xc0]).unwrap()).sign(&secret()).unwrap();
        assert_eq!(record.get(b"eth"), Some(&[0xc0][..]));
    }
}
