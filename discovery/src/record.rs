//! What discovery knows of a node: its key and one endpoint, perhaps with the signed record that says so.
//!
//! A [`NodeRecord`] always has a usable endpoint: a unicast address that is not unspecified, and a UDP port. Text forms:
//! `enode://<128 hex>@ip:tcp[?discport=udp]` (unsigned, seq 0) and `enr:…` (EIP-778).

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use crate::{Blame, Enr, EnrError, KeyError, NodeId, PublicKey, TendermintEntry};

const ENODE_PREFIX: &str = "enode://";

/// Why there is no node record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// 0.0.0.0 or ::.
    #[error("node address is unspecified")]
    UnspecifiedAddress,
    /// One address for many hosts.
    #[error("node address is multicast")]
    MulticastAddress,
    /// UDP port 0: a node that does not take part in discovery.
    #[error("node has no UDP port")]
    NoUdpPort,
    /// The ENR has no pair of address and UDP port.
    #[error("node record has no address with a UDP port")]
    NoEndpoint,
    /// The text is neither `enode://…` nor `enr:…`.
    #[error("invalid URL scheme, want \"enode\" or \"enr\"")]
    Scheme,
    /// An enode URL without anything before the '@', or an incomplete one without an '@'.
    #[error("enode URL does not contain node ID and address")]
    Incomplete,
    /// The key in an enode URL.
    #[error("enode URL: {0}")]
    Key(#[from] KeyError),
    /// The text between brackets is not an IPv6 address, or there is no host.
    #[error("enode URL: invalid address")]
    Address,
    /// A DNS name stands where the address must be.
    #[error("enode URL has the host name {0:?}: resolve the name first")]
    HostName(String),
    /// The TCP port of an enode URL is missing or not a number of 16 bits.
    #[error("enode URL: invalid port")]
    Port,
    /// The `discport` of an enode URL is not a number of 16 bits.
    #[error("enode URL: invalid discport in query")]
    DiscoveryPort,
    /// The text of an ENR.
    #[error(transparent)]
    Enr(#[from] EnrError),
}

impl RecordError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::HostName(_) => Blame::Local,
            Self::NoUdpPort | Self::NoEndpoint => Blame::Incompatible,
            Self::Enr(error) => error.blame(),
            _ => Blame::Malformed,
        }
    }
}

/// A node that discovery found, with a usable UDP endpoint. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Not behind the pointer: a search through a bucket compares ids, and would miss the cache at each.
    id: NodeId,
    fields: Arc<Fields>,
}

#[derive(PartialEq, Eq)]
struct Fields {
    key: PublicKey,
    ip: IpAddr,
    udp: u16,
    tcp: u16,
    enr: Option<Enr>,
}

impl NodeRecord {
    /// An unsigned record. `tcp` is 0 for a node that takes no TCP connections. An IPv4-mapped address becomes IPv4.
    pub fn new(key: PublicKey, ip: IpAddr, udp: u16, tcp: u16) -> Result<Self, RecordError> {
        Self::with(key, key.node_id(), ip, udp, tcp, None)
    }

    /// The endpoint of widest reach in a signed record; IPv4 where both reach equally far (as go-ethereum chooses).
    pub fn from_enr(enr: Enr) -> Result<Self, RecordError> {
        Self::from_enr_where(enr, |_| true)
    }

    /// The same among the addresses that `allows` allows.
    pub(crate) fn from_enr_where(enr: Enr, allows: impl Fn(IpAddr) -> bool) -> Result<Self, RecordError> {
        let v4 = enr.ip().map(IpAddr::from);
        let v6 = enr.ip6().map(|ip| IpAddr::from(ip).to_canonical());
        let (ip, udp) = [v6, v4]
            .into_iter()
            .flatten()
            .filter(|ip| allows(*ip))
            .filter_map(|ip| Some((ip, enr.udp_for(&ip)?)))
            .max_by_key(|(ip, _)| reach(ip)) // the last of equals: IPv4
            .ok_or(RecordError::NoEndpoint)?;
        let tcp = enr.tcp_for(&ip).unwrap_or(0);
        Self::with(*enr.key(), enr.node_id(), ip, udp, tcp, Some(enr))
    }

    /// As [`NodeRecord::new`], for a key whose id was needed before.
    pub(crate) fn with_id(key: PublicKey, id: NodeId, ip: IpAddr, udp: u16, tcp: u16) -> Result<Self, RecordError> {
        Self::with(key, id, ip, udp, tcp, None)
    }

    fn with(key: PublicKey, id: NodeId, ip: IpAddr, udp: u16, tcp: u16, enr: Option<Enr>) -> Result<Self, RecordError> {
        let ip = ip.to_canonical();
        if ip.is_unspecified() {
            return Err(RecordError::UnspecifiedAddress);
        }
        if ip.is_multicast() {
            return Err(RecordError::MulticastAddress);
        }
        if udp == 0 {
            return Err(RecordError::NoUdpPort);
        }
        Ok(Self { id, fields: Arc::new(Fields { key, ip, udp, tcp, enr }) })
    }

    /// keccak256 of the key.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The node's public key.
    pub fn key(&self) -> &PublicKey {
        &self.fields.key
    }

    /// Never unspecified, multicast or IPv4-mapped.
    pub fn ip(&self) -> IpAddr {
        self.fields.ip
    }

    /// UDP port, never 0.
    pub fn udp(&self) -> u16 {
        self.fields.udp
    }

    /// TCP port; 0 for none.
    pub fn tcp(&self) -> u16 {
        self.fields.tcp
    }

    /// Where discovery packets go.
    pub fn endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.fields.ip, self.fields.udp)
    }

    /// The signed record, if there is one.
    pub fn enr(&self) -> Option<&Enr> {
        self.fields.enr.as_ref()
    }

    /// The sequence number of the signed record, or 0.
    pub fn seq(&self) -> u64 {
        self.enr().map_or(0, Enr::seq)
    }

    /// The Tendermint node that the signed record claims.
    pub fn tendermint(&self) -> Option<TendermintEntry> {
        self.enr()?.tendermint()
    }

    fn from_enode(url: &str) -> Result<Self, RecordError> {
        let (node, query) = url.split_once('?').unwrap_or((url, ""));
        let (key, address) = node.split_once('@').ok_or(RecordError::Incomplete)?;
        if key.is_empty() {
            return Err(RecordError::Incomplete);
        }
        let key = key.parse()?;
        let (host, tcp) = address.rsplit_once(':').ok_or(RecordError::Port)?;
        let tcp = port(tcp).ok_or(RecordError::Port)?;
        let discovery_port = query.split('&').find_map(|pair| pair.strip_prefix("discport="));
        let udp = discovery_port.map_or(Some(tcp), port).ok_or(RecordError::DiscoveryPort)?;
        let ip = match host.strip_prefix('[').map(|host| host.strip_suffix(']').unwrap_or("")) {
            Some(v6) => IpAddr::V6(v6.parse().map_err(|_| RecordError::Address)?),
            None if host.is_empty() || host.contains(':') => return Err(RecordError::Address),
            None => IpAddr::V4(host.parse().map_err(|_| RecordError::HostName(host.to_owned()))?),
        };
        Self::new(key, ip, udp, tcp)
    }
}

/// A decimal port. `u16::from_str` would also take a plus sign.
fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| text.starts_with(|first: char| first.is_ascii_digit()))
}

/// How far an address reaches (go-ethereum `enode.localityScore`).
fn reach(ip: &IpAddr) -> u8 {
    let (link_local, private) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.is_private()),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.is_unique_local()),
    };
    match () {
        () if ip.is_unspecified() => 0,
        () if ip.is_loopback() => 1,
        () if link_local => 2,
        () if private => 3,
        () => 4,
    }
}

impl fmt::Display for NodeRecord {
    /// The enode URL, also of a signed record; `discport` only where it differs (go-ethereum's printing rules).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fields { key, ip, udp, tcp, .. } = &*self.fields;
        write!(f, "{ENODE_PREFIX}{key}@{}", SocketAddr::new(*ip, *tcp))?;
        if udp != tcp { write!(f, "?discport={udp}") } else { Ok(()) }
    }
}

impl fmt::Debug for NodeRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeRecord({:.8} {} tcp {} seq {})", self.id(), self.endpoint(), self.tcp(), self.seq())
    }
}

impl FromStr for NodeRecord {
    type Err = RecordError;

    /// `enode://…` or `enr:…`.
    fn from_str(text: &str) -> Result<Self, RecordError> {
        match text.strip_prefix(ENODE_PREFIX) {
            Some(url) => Self::from_enode(url),
            None if text.starts_with("enr:") => Self::from_enr(text.parse()?),
            None => Err(RecordError::Scheme),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// The key of go-ethereum's `p2p/enode/urlv4_test.go`.
    const H: &str = "1dd9d65c4552b5eb43d5ad55a2ee3f56c6cbc1c64a5c8d659f51fcd51bace243\
                     51232b8d7821617d2b29b54b81cdefb9b3e9c37d7fd5f63270bcc9e1a6f6a439";

    fn enode(rest: &str) -> Result<NodeRecord, RecordError> {
        format!("enode://{H}{rest}").parse()
    }

    #[test]
    fn the_enode_urls_of_go_ethereum() {
        let node = enode("@127.0.0.1:52150").unwrap();
        assert_eq!((node.ip(), node.tcp(), node.udp()), (Ipv4Addr::LOCALHOST.into(), 52150, 52150));
        assert_eq!((node.key().to_string().as_str(), node.seq(), node.enr()), (H, 0, None));
        let node = enode("@127.0.0.1:52150?discport=22334").unwrap();
        assert_eq!((node.tcp(), node.endpoint()), (52150, "127.0.0.1:22334".parse().unwrap()));
        let node = enode("@[2001:db8:3c4d:15::abcd:ef12]:52150").unwrap();
        assert_eq!(node.endpoint(), "[2001:db8:3c4d:15::abcd:ef12]:52150".parse().unwrap());
        let host = enode("@valid.:3").unwrap_err();
        assert_eq!(host, RecordError::HostName("valid.".into()));
        assert!(host.to_string().contains("resolve the name first"));
        assert_eq!(enode("@127.0.0.1:foo"), Err(RecordError::Port));
        assert_eq!(enode("@127.0.0.1:3?discport=foo"), Err(RecordError::DiscoveryPort));
    }

    #[test]
    fn what_is_printed_is_what_was_read() {
        for rest in ["@127.0.0.1:52150", "@127.0.0.1:52150?discport=22334", "@[2001:db8::1]:5", "@1.2.3.4:0?discport=9"]
        {
            assert_eq!(enode(rest).unwrap().to_string(), format!("enode://{H}{rest}"));
        }
        assert_eq!(enode("@1.2.3.4:5?x=1&discport=5").unwrap().to_string(), format!("enode://{H}@1.2.3.4:5"));
        assert_eq!(enode("@[::ffff:1.2.3.4]:5").unwrap().to_string(), format!("enode://{H}@1.2.3.4:5"));
    }

    #[test]
    fn texts_that_name_no_node() {
        let refused = |text: &str| text.parse::<NodeRecord>().unwrap_err();
        assert_eq!(refused("http://foobar"), RecordError::Scheme);
        assert_eq!(refused(""), RecordError::Scheme);
        assert_eq!(refused("enode://@127.0.0.1:3"), RecordError::Incomplete);
        assert_eq!(refused(&format!("enode://{H}")), RecordError::Incomplete);
        assert!(matches!(refused("enode://01010101@123.124.125.126:3"), RecordError::Key(_)));
        assert_eq!(enode("@127.0.0.1"), Err(RecordError::Port));
        assert_eq!(enode("@127.0.0.1:65536"), Err(RecordError::Port));
        assert_eq!(enode("@127.0.0.1:+3"), Err(RecordError::Port));
        assert_eq!(enode("@:3"), Err(RecordError::Address));
        assert_eq!(enode("@[::1:3"), Err(RecordError::Address));
        assert_eq!(enode("@[fe80::1%eth0]:3"), Err(RecordError::Address));
        assert_eq!(enode("@::1:3"), Err(RecordError::Address));
        assert_eq!(enode("@0.0.0.0:3"), Err(RecordError::UnspecifiedAddress));
        assert_eq!(enode("@224.0.0.1:3"), Err(RecordError::MulticastAddress));
        assert_eq!(enode("@1.2.3.4:0"), Err(RecordError::NoUdpPort));
        assert!(matches!(refused("enr:x"), RecordError::Enr(EnrError::Base64)));
    }

    #[test]
    fn of_two_families_the_one_that_reaches_farther() {
        let key = SecretKey::from_bytes(&[1; 32]).unwrap();
        let chosen = |v4: [u8; 4], v6: &str| {
            let builder = Enr::builder(1).ip(v4.into()).ip6(v6.parse().unwrap()).udp(1).tcp(2).udp6(3).tcp6(4);
            let node = NodeRecord::from_enr(builder.sign(&key).unwrap()).unwrap();
            (node.ip().is_ipv4(), node.udp(), node.tcp())
        };
        assert_eq!(chosen([1, 2, 3, 4], "2001:db8::1"), (true, 1, 2)); // equal: IPv4
        assert_eq!(chosen([192, 168, 0, 1], "2001:db8::1"), (false, 3, 4));
        assert_eq!(chosen([127, 0, 0, 1], "fe80::1"), (false, 3, 4));
        assert_eq!(chosen([169, 254, 0, 1], "fd00::1"), (false, 3, 4));
        assert_eq!(chosen([127, 0, 0, 1], "::1"), (true, 1, 2));
        assert_eq!(chosen([0, 0, 0, 0], "::1"), (false, 3, 4));
    }

    #[test]
    fn a_record_without_an_endpoint_is_no_node() {
        let key = SecretKey::from_bytes(&[1; 32]).unwrap();
        let from = |builder: crate::EnrBuilder| NodeRecord::from_enr(builder.sign(&key).unwrap());
        assert_eq!(from(Enr::builder(1)), Err(RecordError::NoEndpoint));
        assert_eq!(from(Enr::builder(1).ip(Ipv4Addr::LOCALHOST).tcp(5)), Err(RecordError::NoEndpoint));
        assert_eq!(from(Enr::builder(1).ip(Ipv4Addr::UNSPECIFIED).udp(5)), Err(RecordError::UnspecifiedAddress));
        // An IPv6 record may give its port in "udp" only, and a port for the other family does not count.
        let node = from(Enr::builder(7).ip6(Ipv6Addr::LOCALHOST).udp(5)).unwrap();
        assert_eq!((node.endpoint(), node.tcp(), node.seq()), ("[::1]:5".parse().unwrap(), 0, 7));
        let node = from(Enr::builder(1).ip(Ipv4Addr::LOCALHOST).ip6("2001:db8::1".parse().unwrap()).udp6(5)).unwrap();
        assert!(node.ip().is_ipv6());
    }

    #[test]
    fn an_enr_is_a_node_too() {
        let node: NodeRecord = include_str!("../../fixtures/enr/eip778.txt").trim().parse().unwrap();
        assert_eq!(node.endpoint(), "127.0.0.1:30303".parse().unwrap());
        assert!(node.to_string().ends_with("@127.0.0.1:0?discport=30303"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _ = text.parse::<NodeRecord>();
            let _ = format!("enode://{text}").parse::<NodeRecord>();
            let _ = enode(&text);
            let _ = enode(&format!("@{text}"));
        }

        #[test]
        fn every_endpoint_survives_its_text(ip: IpAddr, udp: u16, tcp: u16) {
            if let Ok(node) = NodeRecord::new(H.parse().unwrap(), ip, udp, tcp) {
                prop_assert_eq!(node.to_string().parse::<NodeRecord>().unwrap(), node);
            }
        }
    }
}
