//! Who and where: [`PeerId`] (what a handshake proves), [`Host`], and [`PeerAddress`] (what can be dialed).
//!
//! The protocol follows from the id, so that no second field can disagree with it (ADR-062 calls this a NodeAddress).
//! An address that exists is valid; names are not resolved here, that is the dialing driver's work.

mod peer_id;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use peer_id::PeerId;
use peer_id::parse_hex;

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An IP address; never IPv4-mapped IPv6, unspecified, multicast or broadcast.
    Ip(IpAddr),
    /// A lower-case DNS name of at most 253 characters.
    Name(String),
    /// A node in this process, found by its id ([`MemoryNetwork`](crate::transport::MemoryNetwork)).
    Memory,
}

/// IPv6 addresses are in brackets, as in a URL.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Host::Name(name) => f.write_str(name),
            Host::Memory => f.write_str("memory"),
        }
    }
}

/// The longest DNS name (RFC 1035, section 2.3.4), in characters.
const MAX_NAME: usize = 253;

/// The longest label of a DNS name (RFC 1035, section 2.3.4), in characters.
const MAX_LABEL: usize = 63;

/// An IP in or out of brackets, or a name.
impl FromStr for Host {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(AddressError::BadHost)?;
            return Host::from_ip(IpAddr::V6(inner.parse().map_err(|_| AddressError::BadHost)?));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Host::from_ip(ip);
        }
        Host::from_name(text)
    }
}

impl Host {
    /// An IP that can be dialed, with IPv4-mapped IPv6 unwrapped; [`AddressError::UnusableIp`] otherwise.
    pub fn from_ip(ip: IpAddr) -> Result<Self, AddressError> {
        let ip = ip.to_canonical();
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(AddressError::UnusableIp(ip));
        }
        Ok(Host::Ip(ip))
    }

    /// A DNS name: letters, digits, `-` and `_`, labels of 1–63 characters; not one that reads like a wrong IPv4 address.
    pub fn from_name(name: &str) -> Result<Self, AddressError> {
        let label_ok = |label: &str| {
            (1..=MAX_LABEL).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let numeric_end = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if name.len() > MAX_NAME || numeric_end || !name.split('.').all(label_ok) {
            return Err(AddressError::BadHost);
        }
        Ok(Host::Name(name.to_ascii_lowercase()))
    }
}

/// A peer that can be dialed: its identity, and where it says it listens.
///
/// Text forms read: `mconn://<40 hex>@host:port` (also `tcp://`; ADR-062 allows a path, which means nothing to MConn and is
/// dropped), `<40 hex>@host:port`, `enode://<128 hex>@host:port` (a `?discport=` is dropped), `memory:<40 or
/// 128 hex>`. Ids in upper case are lowered. Printed: `<40 hex>@host:port`, which every Tendermint release reads, `enode://…`, `memory:…`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    id: PeerId,
    host: Host,
    port: u16,
}

/// The longest text form looked at, in bytes: 128 hex, a 253-character name, and room for scheme and port.
const MAX_TEXT: usize = 512;

impl PeerAddress {
    /// An address from its parts; the port must not be 0, and names and IPs are checked again.
    pub fn new(id: PeerId, host: Host, port: u16) -> Result<Self, AddressError> {
        let host = match host {
            Host::Ip(ip) => Host::from_ip(ip)?,
            Host::Name(name) => Host::from_name(&name)?,
            Host::Memory => return Ok(PeerAddress::memory(id)),
        };
        if port == 0 {
            return Err(AddressError::BadPort);
        }
        Ok(PeerAddress { id, host, port })
    }

    /// An address from an IP and TCP port.
    pub fn from_socket(id: PeerId, socket: SocketAddr) -> Result<Self, AddressError> {
        PeerAddress::new(id, Host::Ip(socket.ip()), socket.port())
    }

    /// A node of this process: `memory:<40 hex>` or `memory:<128 hex>`.
    pub fn memory(id: impl Into<PeerId>) -> Self {
        PeerAddress { id: id.into(), host: Host::Memory, port: 0 }
    }

    /// Who is expected there.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Where.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The TCP port; 0 only for `memory:` addresses.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The IP, if the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Ip(ip) => Some(*ip),
            Host::Name(_) | Host::Memory => None,
        }
    }

    /// IP and port, if the host is an IP.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.ip()?, self.port))
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PeerAddress { id, host, port } = self;
        match (id, host) {
            (_, Host::Memory) => write!(f, "memory:{id}"),
            (PeerId::Tendermint(_), _) => write!(f, "{id}@{host}:{port}"),
            (PeerId::Ethereum(_), _) => write!(f, "enode://{id}@{host}:{port}"),
        }
    }
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_TEXT {
            return Err(AddressError::TooLong);
        }
        if let Some(id) = text.strip_prefix("memory:") {
            return Ok(PeerAddress::memory(id.parse::<PeerId>()?));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => ("mconn".to_owned(), text),
        };
        let (id, place) = rest.split_once('@').ok_or(AddressError::MissingId)?;
        let (id, place) = match scheme.as_str() {
            "mconn" | "tcp" => (PeerId::Tendermint(parse_hex(id)?), without_path(place)),
            "enode" => (PeerId::Ethereum(parse_hex(id)?), without_discport(place)?),
            _ => return Err(AddressError::UnknownScheme),
        };
        let (host, port) = parse_host_port(place)?;
        PeerAddress::new(id, host.parse()?, port)
    }
}

impl Serialize for PeerAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Splits `host:port`, with the host of an IPv6 address still in its brackets; the port may be 0.
pub(crate) fn parse_host_port(text: &str) -> Result<(&str, u16), AddressError> {
    let (host, port) = text.rsplit_once(':').ok_or(AddressError::BadPort)?;
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(AddressError::BadHost);
    }
    // `u16::from_str` would also take a sign.
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AddressError::BadPort);
    }
    Ok((host, port.parse().map_err(|_| AddressError::BadPort)?))
}

/// Drops the path of a URL, with its query and fragment.
fn without_path(place: &str) -> &str {
    place.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Drops the UDP port of an enode URL, which no TCP dialer needs.
fn without_discport(place: &str) -> Result<&str, AddressError> {
    match place.split_once('?') {
        None => Ok(place),
        Some((place, query)) => {
            let port = query.strip_prefix("discport=").ok_or(AddressError::BadPort)?;
            port.parse::<u16>().map_err(|_| AddressError::BadPort)?;
            Ok(place)
        }
    }
}

/// Why a text is not a peer's address. The blame lies with whoever wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Longer than 512 bytes.
    #[error("address is longer than {MAX_TEXT} bytes")]
    TooLong,
    /// No `<id>@` in front of the host.
    #[error("address has no id: expected <id>@<host>:<port>")]
    MissingId,
    /// The id is not 40 (Tendermint) or 128 (Ethereum) hex characters.
    #[error("id is not 40 hex characters (Tendermint) or 128 (enode)")]
    BadId,
    /// A scheme other than `mconn`, `tcp`, `enode` or `memory`.
    #[error("unknown scheme: expected mconn, tcp, enode or memory")]
    UnknownScheme,
    /// Neither an IP address nor a DNS name; IPv6 needs brackets.
    #[error("host is neither an IP address nor a DNS name (IPv6 needs brackets)")]
    BadHost,
    /// An IP that cannot be a peer's: unspecified, multicast or broadcast.
    #[error("no peer can be at {0}")]
    UnusableIp(IpAddr),
    /// The port is missing, 0, or not a number up to 65535.
    #[error("port is missing or not 1 to 65535")]
    BadPort,
}

impl AddressError {
    /// Always the writer of the address.
    pub fn blame(&self) -> crate::Blame {
        crate::Blame::Malformed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "abcdef0123456789abcdef0123456789abcdef01";

    fn parse(text: &str) -> Result<PeerAddress, AddressError> {
        text.parse()
    }

    #[test]
    fn every_text_form_is_read_and_printed_canonically() {
        let key = "ab".repeat(64);
        for (text, printed) in [
            (format!("mconn://{ID}@1.2.3.4:26656"), format!("{ID}@1.2.3.4:26656")),
            (format!("tcp://{ID}@1.2.3.4:26656"), format!("{ID}@1.2.3.4:26656")),
            (format!("{ID}@1.2.3.4:26656"), format!("{ID}@1.2.3.4:26656")),
            (format!("{}@Seed.Example.ORG:1", ID.to_uppercase()), format!("{ID}@seed.example.org:1")),
            (format!("{ID}@[2001:DB8::1]:65535"), format!("{ID}@[2001:db8::1]:65535")),
            // An IPv4-mapped address is the same peer as the IPv4 one.
            (format!("{ID}@[::ffff:1.2.3.4]:5"), format!("{ID}@1.2.3.4:5")),
            (format!("enode://{key}@127.0.0.1:30303?discport=30301"), format!("enode://{key}@127.0.0.1:30303")),
            (format!("memory:{}", ID.to_uppercase()), format!("memory:{ID}")),
            (format!("memory:{key}"), format!("memory:{key}")),
        ] {
            let address = parse(&text).unwrap();
            assert_eq!(address.to_string(), printed);
            assert_eq!(parse(&printed).unwrap(), address);
            let json = serde_json::to_string(&address).unwrap();
            assert_eq!(serde_json::from_str::<PeerAddress>(&json).unwrap(), address);
        }
    }

    #[test]
    fn each_fault_has_its_own_error() {
        use AddressError::*;
        let name = |n: usize| vec!["a"; n].join(".");
        for (text, error) in [
            (String::new(), MissingId),
            ("1.2.3.4:26656".into(), MissingId),
            ("abc@1.2.3.4:26656".into(), BadId),
            (format!("{}g@1.2.3.4:1", &ID[1..]), BadId),
            (format!("enode://{ID}@1.2.3.4:1"), BadId),
            ("memory:".into(), BadId),
            (format!("memory:{ID}@1.2.3.4:1"), BadId),
            (format!("http://{ID}@1.2.3.4:1"), UnknownScheme),
            (format!("{ID}@1.2.3.4"), BadPort),
            (format!("{ID}@1.2.3.4:"), BadPort),
            (format!("{ID}@1.2.3.4:0"), BadPort),
            (format!("{ID}@1.2.3.4:+1"), BadPort),
            (format!("{ID}@1.2.3.4:65536"), BadPort),
            (format!("{ID}@1.2.3.4/path:1"), BadPort),
            (format!("{ID}@::1:26656"), BadHost),
            (format!("{ID}@[1.2.3.4]:26656"), BadHost),
            (format!("{ID}@[::1:26656"), BadHost),
            (format!("{ID}@:26656"), BadHost),
            (format!("{ID}@1.2.3:26656"), BadHost),
            (format!("{ID}@256.1.1.1:26656"), BadHost),
            (format!("{ID}@a..b:1"), BadHost),
            (format!("{ID}@-a:1"), BadHost),
            (format!("{ID}@a b:1"), BadHost),
            (format!("{ID}@{}:1", name(128)), BadHost),
            (format!("{ID}@{}:1", "a".repeat(64)), BadHost),
            (format!("{ID}@0.0.0.0:1"), UnusableIp("0.0.0.0".parse().unwrap())),
            (format!("{ID}@[ff02::1]:1"), UnusableIp("ff02::1".parse().unwrap())),
            (format!("{ID}@255.255.255.255:1"), UnusableIp("255.255.255.255".parse().unwrap())),
            (format!("{ID}@a:{}1", "0".repeat(600)), TooLong),
        ] {
            assert_eq!(parse(&text), Err(error), "{text}");
        }
        assert!(parse(&format!("{ID}@{}:1", name(127))).is_ok());
    }

    /// The table of Tendermint v0.35.9 (`internal/p2p/address_test.go`, TestParseNodeAddress). Where this differs: a port is needed, as in
    /// CometBFT (v0.35 dials 26657 without one, its RPC's); names are ASCII; an IP must be one that can be dialed; there is one text
    /// for an address, so that one without a path is equal to one with it.
    #[test]
    fn node_addresses_of_adr_062() {
        const USER: &str = "00112233445566778899aabbccddeeff00112233";
        for (text, expected) in [
            ("mconn://USER@127.0.0.1:26657/some/path?foo=bar", Ok("USER@127.0.0.1:26657")),
            ("TCP://USER@hostname.DOMAIN:8080/Path/%f0%9f%91%8B#Anchor", Ok("USER@hostname.domain:8080")),
            ("USER@127.0.0.1", Err(AddressError::BadPort)),
            ("USER@hostname.domain", Err(AddressError::BadPort)),
            ("USER@hostname.domain:80", Ok("USER@hostname.domain:80")),
            ("USER@%F0%9F%91%8B", Err(AddressError::BadPort)),
            ("USER@%F0%9F%91%8B:80/path", Err(AddressError::BadHost)),
            ("USER@127.0.0.1:26657", Ok("USER@127.0.0.1:26657")),
            ("USER@127.0.0.1:26657/path", Ok("USER@127.0.0.1:26657")),
            ("USER@0.0.0.0:0", Err(AddressError::UnusableIp([0, 0, 0, 0].into()))),
            ("memory:USER", Ok("memory:USER")),
            ("USER@[1::]", Err(AddressError::BadHost)),
            ("mconn://USER@[fd80:b10c::2]:26657", Ok("USER@[fd80:b10c::2]:26657")),
            ("", Err(AddressError::MissingId)),
            ("127.0.0.1", Err(AddressError::MissingId)),
            ("hostname", Err(AddressError::MissingId)),
            ("scheme:", Err(AddressError::MissingId)),
            ("memory:foo", Err(AddressError::BadId)),
            ("USER@%F%F0", Err(AddressError::BadPort)),
            ("//USER@127.0.0.1", Err(AddressError::BadId)),
            ("://USER@127.0.0.1", Err(AddressError::UnknownScheme)),
            ("mconn://foo@127.0.0.1", Err(AddressError::BadId)),
            ("mconn://USER@127.0.0.1:65536", Err(AddressError::BadPort)),
            ("mconn://USER@:80", Err(AddressError::BadHost)),
        ] {
            for user in [USER.to_owned(), USER.to_uppercase()] {
                let found = parse(&text.replace("USER", &user)).map(|address| address.to_string());
                assert_eq!(found, expected.map(|text| text.replace("USER", USER)), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(id: [u8; 20], key: [u8; 64], v4: [u8; 4], v6: [u8; 16], port in 1u16.., which in 0..5) {
            let tendermint = PeerId::Tendermint(id);
            let address = match which {
                0 => PeerAddress::new(tendermint, Host::Ip(v4.into()), port),
                1 => PeerAddress::new(tendermint, Host::Ip(v6.into()), port),
                2 => PeerAddress::new(PeerId::Ethereum(key), Host::Ip(v6.into()), port),
                3 => Ok(PeerAddress::memory(key)),
                _ => Ok(PeerAddress::memory(id)),
            };
            if let Ok(address) = address {
                prop_assert_eq!(address.to_string().parse::<PeerAddress>(), Ok(address));
            }
        }

        #[test]
        fn any_text_is_answered(text in ".{0,80}", id in "[0-9a-f]{40}") {
            let _ = text.parse::<PeerAddress>();
            if let Ok(address) = format!("{id}@{text}").parse::<PeerAddress>() {
                prop_assert_eq!(address.to_string().parse::<PeerAddress>(), Ok(address));
            }
        }
    }
}
