//! NodeInfo: what each side says of itself right after the SecretConnection (CometBFT `p2p/node_info.go`, DefaultNodeInfo).
//!
//! [`NodeInfo::decode`] yields only values that keep the rules; [`NodeInfo::compatible_with`] then says whether two fit.

use std::net::IpAddr;

use data_encoding::HEXLOWER;
use prost::Message;

use crate::{
    Blame, Host, PeerAddress, PeerId,
    address::{AddressError, parse_host_port},
};

/// The largest encoded NodeInfo, in bytes (CometBFT `p2p.MaxNodeInfoSize`).
pub const MAX_NODE_INFO_SIZE: usize = 10_240;

/// The most channels a NodeInfo may list (CometBFT `p2p.maxNumChannels`).
pub const MAX_CHANNELS: usize = 16;

/// The P2P protocol spoken here (CometBFT `version.P2PProtocol`).
pub const P2P_PROTOCOL: u64 = 8;

/// The block protocol announced by default (CometBFT `version.BlockProtocol`); peers must agree on it.
pub const BLOCK_PROTOCOL: u64 = 11;

/// What a node says of itself. Checked by [`NodeInfo::validate`], which every transport applies to both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Protocol numbers; the block protocol must be equal on both sides.
    pub protocol_version: ProtocolVersion,
    /// The node id; must be the one that the handshake proved.
    pub id: [u8; 20],
    /// Where it listens, `host:port`, perhaps with `tcp://` in front; may be an unspecified address.
    pub listen_addr: String,
    /// The chain id; must be equal on both sides.
    pub network: String,
    /// The software's version: printable ASCII, may be empty.
    pub version: String,
    /// Channel ids, at most 16, no duplicates.
    pub channels: Vec<u8>,
    /// The operator's name for the node: printable ASCII, not empty.
    pub moniker: String,
    /// `""`, `"on"` or `"off"`.
    pub tx_index: String,
    /// Printable ASCII, may be empty.
    pub rpc_address: String,
}

/// The three protocol numbers of a [`NodeInfo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolVersion {
    /// Peer-to-peer protocol.
    pub p2p: u64,
    /// Block protocol.
    pub block: u64,
    /// Application protocol; not compared.
    pub app: u64,
}

impl NodeInfo {
    /// A NodeInfo with this crate's defaults: no channels, `tcp://0.0.0.0:26656`, current protocol numbers.
    pub fn new(id: [u8; 20], network: impl Into<String>, moniker: impl Into<String>) -> Self {
        NodeInfo {
            protocol_version: ProtocolVersion { p2p: P2P_PROTOCOL, block: BLOCK_PROTOCOL, app: 0 },
            id,
            listen_addr: "tcp://0.0.0.0:26656".to_owned(),
            network: network.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            channels: Vec::new(),
            moniker: moniker.into(),
            tx_index: "off".to_owned(),
            rpc_address: String::new(),
        }
    }

    /// Reads the protobuf bytes (without length prefix, at most 10,240) and applies [`NodeInfo::validate`].
    pub fn decode(bytes: &[u8]) -> Result<Self, NodeInfoError> {
        if bytes.len() > MAX_NODE_INFO_SIZE {
            return Err(NodeInfoError::TooLarge);
        }
        let proto = DefaultNodeInfo::decode(bytes).map_err(|_| NodeInfoError::Undecodable)?;
        let PeerId::Tendermint(id) = proto.default_node_id.parse().map_err(|_| NodeInfoError::Id)? else {
            return Err(NodeInfoError::Id);
        };
        let versions = proto.protocol_version.unwrap_or_default();
        let other = proto.other.unwrap_or_default();
        let info = NodeInfo {
            protocol_version: ProtocolVersion { p2p: versions.p2p, block: versions.block, app: versions.app },
            id,
            listen_addr: proto.listen_addr,
            network: proto.network,
            version: proto.version,
            channels: proto.channels,
            moniker: proto.moniker,
            tx_index: other.tx_index,
            rpc_address: other.rpc_address,
        };
        info.validate()?;
        Ok(info)
    }

    /// The protobuf bytes, without length prefix.
    pub fn encode(&self) -> Vec<u8> {
        let ProtocolVersion { p2p, block, app } = self.protocol_version;
        let proto = DefaultNodeInfo {
            protocol_version: Some(ProtoVersion { p2p, block, app }),
            default_node_id: HEXLOWER.encode(&self.id),
            listen_addr: self.listen_addr.clone(),
            network: self.network.clone(),
            version: self.version.clone(),
            channels: self.channels.clone(),
            moniker: self.moniker.clone(),
            other: Some(ProtoOther { tx_index: self.tx_index.clone(), rpc_address: self.rpc_address.clone() }),
        };
        proto.encode_to_vec()
    }

    /// The rules of CometBFT's `DefaultNodeInfo.Validate`, for a peer's value and for our own. Names are not resolved.
    pub fn validate(&self) -> Result<(), NodeInfoError> {
        self.listen_host_port().map_err(NodeInfoError::ListenAddr)?;
        if !self.version.is_empty() && !is_ascii_text(&self.version) {
            return Err(NodeInfoError::Version);
        }
        if self.channels.len() > MAX_CHANNELS {
            return Err(NodeInfoError::TooManyChannels(self.channels.len()));
        }
        let mut seen = self.channels.clone();
        seen.sort_unstable();
        if let Some(twice) =
            seen.windows(2).find_map(|pair| (pair.first() == pair.last()).then(|| pair.first().copied())?)
        {
            return Err(NodeInfoError::DuplicateChannel(twice));
        }
        if !is_ascii_text(&self.moniker) {
            return Err(NodeInfoError::Moniker);
        }
        if !matches!(self.tx_index.as_str(), "" | "on" | "off") {
            return Err(NodeInfoError::TxIndex);
        }
        if !self.rpc_address.is_empty() && !is_ascii_text(&self.rpc_address) {
            return Err(NodeInfoError::RpcAddress);
        }
        if self.encode().len() > MAX_NODE_INFO_SIZE {
            return Err(NodeInfoError::TooLarge);
        }
        Ok(())
    }

    /// Whether a node that says this and one that says `other` can talk: the same block protocol and network, and a common
    /// channel (not asked for when our own list is empty).
    pub fn compatible_with(&self, other: &NodeInfo) -> Result<(), Incompatibility> {
        let (ours, theirs) = (self.protocol_version.block, other.protocol_version.block);
        if ours != theirs {
            return Err(Incompatibility::Block { ours, theirs });
        }
        if self.network != other.network {
            return Err(Incompatibility::Network { ours: self.network.clone(), theirs: other.network.clone() });
        }
        if !self.channels.is_empty() && !self.channels.iter().any(|id| other.channels.contains(id)) {
            return Err(Incompatibility::NoCommonChannel);
        }
        Ok(())
    }

    /// The address the node claims to listen on, if it can be dialed as it stands (not unspecified, not port 0).
    pub fn listen_address(&self) -> Option<PeerAddress> {
        let (host, port) = self.listen_host_port().ok()?;
        PeerAddress::new(PeerId::Tendermint(self.id), host.parse().ok()?, port).ok()
    }

    fn listen_host_port(&self) -> Result<(&str, u16), AddressError> {
        let text = self.listen_addr.split_once("://").map_or(self.listen_addr.as_str(), |(_, rest)| rest);
        let (host, port) = parse_host_port(text)?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        // Any IP may be listened on, also those that cannot be dialed.
        if bare.parse::<IpAddr>().is_err() {
            Host::from_name(host)?;
        }
        Ok((host, port))
    }
}

/// CometBFT `strings.ASCIITrim` and `IsASCIIText`: only 0x20–0x7e, and something besides spaces.
fn is_ascii_text(text: &str) -> bool {
    text.bytes().all(|b| (0x20..=0x7e).contains(&b)) && text.bytes().any(|b| b != b' ')
}

/// Why a NodeInfo is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeInfoError {
    /// More than 10,240 bytes.
    #[error("node info is larger than {MAX_NODE_INFO_SIZE} bytes")]
    TooLarge,
    /// Not the protobuf message.
    #[error("node info cannot be decoded")]
    Undecodable,
    /// The id is not 40 hex characters.
    #[error("node info: invalid id")]
    Id,
    /// The listen address is not `host:port`.
    #[error("node info: invalid listen address: {0}")]
    ListenAddr(AddressError),
    /// The version is not printable ASCII, or only spaces.
    #[error("node info: version must be printable ASCII")]
    Version,
    /// More than 16 channels.
    #[error("node info: {0} channels, at most {MAX_CHANNELS} are allowed")]
    TooManyChannels(usize),
    /// A channel is listed twice.
    #[error("node info: channel {0:#04x} is listed twice")]
    DuplicateChannel(u8),
    /// The moniker is empty or not printable ASCII.
    #[error("node info: moniker must be printable ASCII and not empty")]
    Moniker,
    /// `tx_index` is not empty, `on` or `off`.
    #[error("node info: tx_index must be empty, on or off")]
    TxIndex,
    /// The RPC address is not printable ASCII.
    #[error("node info: rpc_address must be printable ASCII")]
    RpcAddress,
}

impl NodeInfoError {
    /// Always the side that says this of itself.
    pub fn blame(&self) -> Blame {
        match self {
            NodeInfoError::Undecodable | NodeInfoError::TooLarge => Blame::Malformed,
            _ => Blame::Misbehaved,
        }
    }
}

/// Why two honest nodes cannot talk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incompatibility {
    /// Different block protocols.
    #[error("block protocol {theirs}, ours is {ours}")]
    Block {
        /// Our number.
        ours: u64,
        /// The peer's number.
        theirs: u64,
    },
    /// Different chain ids.
    #[error("network {theirs:?}, ours is {ours:?}")]
    Network {
        /// Our chain id.
        ours: String,
        /// The peer's chain id.
        theirs: String,
    },
    /// No channel that both list.
    #[error("no common channel")]
    NoCommonChannel,
}

#[derive(Clone, PartialEq, Message)]
struct DefaultNodeInfo {
    #[prost(message, optional, tag = "1")]
    protocol_version: Option<ProtoVersion>,
    #[prost(string, tag = "2")]
    default_node_id: String,
    #[prost(string, tag = "3")]
    listen_addr: String,
    #[prost(string, tag = "4")]
    network: String,
    #[prost(string, tag = "5")]
    version: String,
    #[prost(bytes = "vec", tag = "6")]
    channels: Vec<u8>,
    #[prost(string, tag = "7")]
    moniker: String,
    #[prost(message, optional, tag = "8")]
    other: Option<ProtoOther>,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoVersion {
    #[prost(uint64, tag = "1")]
    p2p: u64,
    #[prost(uint64, tag = "2")]
    block: u64,
    #[prost(uint64, tag = "3")]
    app: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoOther {
    #[prost(string, tag = "1")]
    tx_index: String,
    #[prost(string, tag = "2")]
    rpc_address: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info() -> NodeInfo {
        NodeInfo { channels: vec![0x00, 0x30], ..NodeInfo::new([7; 20], "test-net", "node seven") }
    }

    #[test]
    fn encoding_is_read_back_and_a_field_is_where_cometbft_puts_it() {
        let info = info();
        let bytes = info.encode();
        assert_eq!(NodeInfo::decode(&bytes).unwrap(), info);
        // protocol_version {1: 8, 2: 11}, then the id as 40 hex characters in field 2.
        assert_eq!(&bytes[..6], &[0x0a, 4, 0x08, 8, 0x10, 11]);
        assert_eq!(&bytes[6..8], &[0x12, 40]);
        assert!(bytes.windows(4).any(|w| w == [0x32, 2, 0x00, 0x30]));
    }

    #[test]
    fn each_rule_has_its_error() {
        use NodeInfoError::*;
        type Change = fn(&mut NodeInfo);
        let cases: [(Change, NodeInfoError); 14] = [
            (|i| i.listen_addr = "nowhere".into(), ListenAddr(AddressError::BadPort)),
            (|i| i.listen_addr = ":26656".into(), ListenAddr(AddressError::BadHost)),
            (|i| i.listen_addr = "a b:1".into(), ListenAddr(AddressError::BadHost)),
            (|i| i.version = "caf\u{e9}".into(), Version),
            (|i| i.version = "  ".into(), Version),
            (|i| i.channels = (0..17).collect(), TooManyChannels(17)),
            (|i| i.channels = vec![1, 2, 1], DuplicateChannel(1)),
            (|i| i.moniker = String::new(), Moniker),
            (|i| i.moniker = " ".into(), Moniker),
            (|i| i.moniker = "\u{7f}".into(), Moniker),
            (|i| i.tx_index = "yes".into(), TxIndex),
            (|i| i.rpc_address = "\n".into(), RpcAddress),
            (|i| i.network = "x".repeat(MAX_NODE_INFO_SIZE), TooLarge),
            (|i| i.moniker = "x".repeat(MAX_NODE_INFO_SIZE), TooLarge),
        ];
        for (change, error) in cases {
            let mut info = info();
            change(&mut info);
            assert_eq!(info.validate(), Err(error.clone()));
            assert_eq!(NodeInfo::decode(&info.encode()), Err(error));
        }
        let mut proto = DefaultNodeInfo::decode(info().encode().as_slice()).unwrap();
        proto.default_node_id = "ab".into();
        assert_eq!(NodeInfo::decode(&proto.encode_to_vec()), Err(Id));
        assert_eq!(NodeInfo::decode(&[0xff; 9]), Err(Undecodable));
        assert_eq!(NodeInfo::decode(&[]), Err(Id));
    }

    #[test]
    fn what_may_differ_and_what_may_not() {
        let ours = info();
        let mut theirs = NodeInfo { version: String::new(), ..info() };
        theirs.protocol_version.app = 9;
        assert_eq!(ours.compatible_with(&theirs), Ok(()));
        theirs.channels = vec![0x31];
        assert_eq!(ours.compatible_with(&theirs), Err(Incompatibility::NoCommonChannel));
        // A node without channels of its own talks to anybody.
        assert_eq!(NodeInfo { channels: vec![], ..info() }.compatible_with(&theirs), Ok(()));
        theirs.network = "main".into();
        assert!(matches!(ours.compatible_with(&theirs), Err(Incompatibility::Network { .. })));
        theirs.protocol_version.block = 10;
        assert_eq!(ours.compatible_with(&theirs), Err(Incompatibility::Block { ours: 11, theirs: 10 }));
    }

    #[test]
    fn an_unspecified_listen_address_is_valid_but_not_dialable() {
        let mut info = info();
        assert_eq!((info.validate(), info.listen_address()), (Ok(()), None));
        info.listen_addr = "tcp://[::]:0".into();
        assert_eq!((info.validate(), info.listen_address()), (Ok(()), None));
        info.listen_addr = "1.2.3.4:26656".into();
        assert_eq!(info.listen_address().unwrap().to_string(), format!("{}@1.2.3.4:26656", "07".repeat(20)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..200, bit in 0u8..8) {
            let _ = NodeInfo::decode(&bytes);
            let mut flipped = info().encode();
            let at = at % flipped.len();
            flipped[at] ^= 1 << bit;
            let _ = NodeInfo::decode(&flipped);
        }

        /// A field that claims more than there is is refused, whichever it is and whatever it claims.
        #[test]
        fn a_claim_is_held_against_what_is_there(
            field in 1u32..9, rest in proptest::collection::vec(any::<u8>(), 0..100), more in 1u64..,
        ) {
            let mut bytes = info().encode();
            prost::encoding::encode_key(field, prost::encoding::WireType::LengthDelimited, &mut bytes);
            prost::encoding::encode_varint(more.saturating_add(rest.len() as u64), &mut bytes);
            bytes.extend(rest);
            prop_assert_eq!(NodeInfo::decode(&bytes), Err(NodeInfoError::Undecodable));
        }
    }
}
