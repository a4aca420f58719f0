//! Disconnect: why a side hangs up (`rlpx.md`, "Disconnect (0x01)").
//!
//! The payload is a list of one code. Older go-ethereum sent the bare code, which is read too.

use std::fmt;

use super::rlp_list::{Item, RlpError};
use crate::Blame;

/// Why a side hangs up. What the reasons mean is the protocol's; see [`blame`](Self::blame) for what they say of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DisconnectReason {
    /// 0x00: somebody asked for it.
    Requested,
    /// 0x01: the stream failed.
    Network,
    /// 0x02: a message that breaks the protocol, bad RLP for instance.
    Protocol,
    /// 0x03: no capability in common.
    UselessPeer,
    /// 0x04: no place is free.
    TooManyPeers,
    /// 0x05: there is a connection with this node already.
    AlreadyConnected,
    /// 0x06: another version of the base protocol.
    IncompatibleVersion,
    /// 0x07: the node id in Hello is no id.
    InvalidIdentity,
    /// 0x08: the node stops, or a protocol has nothing more to say.
    Quitting,
    /// 0x09: the node id in Hello is not the one that was expected.
    UnexpectedIdentity,
    /// 0x0a: the peer is the node itself.
    ToSelf,
    /// 0x0b: nothing came for too long.
    ReadTimeout,
    /// 0x10: something of a protocol above the base protocol.
    Subprotocol,
    /// A code without a meaning, from a peer.
    Unknown(u8),
    /// A payload that names no code (go-ethereum `DiscInvalid`; its number, 0xff, is not sent).
    Undecodable,
}

impl DisconnectReason {
    /// All that have a meaning, by code.
    pub const ALL: [DisconnectReason; 13] = [
        DisconnectReason::Requested,
        DisconnectReason::Network,
        DisconnectReason::Protocol,
        DisconnectReason::UselessPeer,
        DisconnectReason::TooManyPeers,
        DisconnectReason::AlreadyConnected,
        DisconnectReason::IncompatibleVersion,
        DisconnectReason::InvalidIdentity,
        DisconnectReason::Quitting,
        DisconnectReason::UnexpectedIdentity,
        DisconnectReason::ToSelf,
        DisconnectReason::ReadTimeout,
        DisconnectReason::Subprotocol,
    ];

    /// The code on the wire.
    pub fn code(self) -> u8 {
        match self {
            DisconnectReason::Requested => 0x00,
            DisconnectReason::Network => 0x01,
            DisconnectReason::Protocol => 0x02,
            DisconnectReason::UselessPeer => 0x03,
            DisconnectReason::TooManyPeers => 0x04,
            DisconnectReason::AlreadyConnected => 0x05,
            DisconnectReason::IncompatibleVersion => 0x06,
            DisconnectReason::InvalidIdentity => 0x07,
            DisconnectReason::Quitting => 0x08,
            DisconnectReason::UnexpectedIdentity => 0x09,
            DisconnectReason::ToSelf => 0x0a,
            DisconnectReason::ReadTimeout => 0x0b,
            DisconnectReason::Subprotocol => 0x10,
            DisconnectReason::Unknown(code) => code,
            DisconnectReason::Undecodable => 0xff,
        }
    }

    /// The reason with this code; [`Unknown`](Self::Unknown) if it has no meaning.
    pub fn from_code(code: u8) -> Self {
        let known = Self::ALL.into_iter().find(|reason| reason.code() == code);
        known.unwrap_or(if code == 0xff { DisconnectReason::Undecodable } else { DisconnectReason::Unknown(code) })
    }

    /// A short name for counters, in words with `_`.
    pub fn name(self) -> &'static str {
        match self {
            DisconnectReason::Requested => "requested",
            DisconnectReason::Network => "network",
            DisconnectReason::Protocol => "protocol",
            DisconnectReason::UselessPeer => "useless_peer",
            DisconnectReason::TooManyPeers => "too_many_peers",
            DisconnectReason::AlreadyConnected => "already_connected",
            DisconnectReason::IncompatibleVersion => "incompatible_version",
            DisconnectReason::InvalidIdentity => "invalid_identity",
            DisconnectReason::Quitting => "quitting",
            DisconnectReason::UnexpectedIdentity => "unexpected_identity",
            DisconnectReason::ToSelf => "to_self",
            DisconnectReason::ReadTimeout => "read_timeout",
            DisconnectReason::Subprotocol => "subprotocol",
            DisconnectReason::Unknown(_) => "unknown",
            DisconnectReason::Undecodable => "undecodable",
        }
    }

    /// The payload of a Disconnect: a list of the code, 2 or 3 bytes.
    pub fn encode(self) -> Vec<u8> {
        match self.code() {
            0 => vec![0xc1, 0x80],
            code @ 1..0x80 => vec![0xc1, code],
            code => vec![0xc2, 0x81, code],
        }
    }

    /// Reads the payload of a Disconnect, not compressed: a list whose first element is the code (what follows is ignored), or the
    /// code alone as integer or byte.
    pub fn decode(payload: &[u8]) -> Self {
        let code = || {
            let (item, _) = Item::split(payload)?;
            let code = match item.list() {
                Ok(mut items) => items.required()?,
                Err(_) => item,
            };
            match code.bytes()? {
                // Zero as a byte, which as an integer would have none.
                [] | [0] => Ok(0),
                [code] => Ok(*code),
                _ => Err(RlpError::IntegerTooLarge),
            }
        };
        code().map_or(DisconnectReason::Undecodable, Self::from_code)
    }

    /// What a Disconnect with this reason says of the peer that sent it: most of them nothing.
    pub fn blame(self) -> Blame {
        match self {
            DisconnectReason::UselessPeer
            | DisconnectReason::IncompatibleVersion
            | DisconnectReason::UnexpectedIdentity => Blame::Incompatible,
            DisconnectReason::Undecodable => Blame::Malformed,
            _ => Blame::Local,
        }
    }
}

/// The words of go-ethereum's log (`p2p/peer_error.go`).
impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DisconnectReason::Requested => "disconnect requested",
            DisconnectReason::Network => "network error",
            DisconnectReason::Protocol => "breach of protocol",
            DisconnectReason::UselessPeer => "useless peer",
            DisconnectReason::TooManyPeers => "too many peers",
            DisconnectReason::AlreadyConnected => "already connected",
            DisconnectReason::IncompatibleVersion => "incompatible p2p protocol version",
            DisconnectReason::InvalidIdentity => "invalid node identity",
            DisconnectReason::Quitting => "client quitting",
            DisconnectReason::UnexpectedIdentity => "unexpected identity",
            DisconnectReason::ToSelf => "connected to self",
            DisconnectReason::ReadTimeout => "read timeout",
            DisconnectReason::Subprotocol => "subprotocol error",
            DisconnectReason::Unknown(code) => return write!(f, "unknown disconnect reason {code}"),
            DisconnectReason::Undecodable => "invalid disconnect reason",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers and words of go-ethereum `p2p/peer_error.go`.
    #[test]
    fn the_reasons_have_their_codes_and_words() {
        let table = [
            (0x00, "disconnect requested"),
            (0x01, "network error"),
            (0x02, "breach of protocol"),
            (0x03, "useless peer"),
            (0x04, "too many peers"),
            (0x05, "already connected"),
            (0x06, "incompatible p2p protocol version"),
            (0x07, "invalid node identity"),
            (0x08, "client quitting"),
            (0x09, "unexpected identity"),
            (0x0a, "connected to self"),
            (0x0b, "read timeout"),
            (0x0c, "unknown disconnect reason 12"),
            (0x0f, "unknown disconnect reason 15"),
            (0x10, "subprotocol error"),
            (0x11, "unknown disconnect reason 17"),
            (0xfe, "unknown disconnect reason 254"),
            (0xff, "invalid disconnect reason"),
        ];
        for (code, words) in table {
            let reason = DisconnectReason::from_code(code);
            assert_eq!((reason.code(), reason.to_string()), (code, words.to_owned()));
        }
        let mut names: Vec<_> = DisconnectReason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DisconnectReason::ALL.len());
    }

    #[test]
    fn a_reason_is_read_in_a_list_and_bare() {
        for code in 0..=u8::MAX {
            let reason = DisconnectReason::from_code(code);
            let encoded = reason.encode();
            assert_eq!(DisconnectReason::decode(&encoded), reason);
            // The list's content is the bare integer.
            assert_eq!(DisconnectReason::decode(&encoded[1..]), reason);
        }
        let decoded = [&[0xc1, 0x04][..], &[0x04], &[0xc3, 0x04, 0xc0, 0x80], &[0xc1, 0x00], &[0x00]];
        let reasons = decoded.map(|payload| DisconnectReason::decode(payload).code());
        assert_eq!(reasons, [4, 4, 4, 0, 0], "list, bare, with more elements, and zero as a byte, in a list and bare");
    }

    #[test]
    fn what_names_no_code_is_undecodable() {
        let payloads = [
            &[][..],
            &[0xc0],
            &[0xc1],
            &[0xc1, 0xc0],
            &[0xc3, 0x82, 0x01, 0x00],
            &[0x82, 0x01, 0x00],
            &[0xc2, 0x81, 0x04],
            &[0xff; 12],
        ];
        for payload in payloads {
            let reason = DisconnectReason::decode(payload);
            assert_eq!((reason, reason.blame()), (DisconnectReason::Undecodable, Blame::Malformed), "{payload:02x?}");
        }
    }
}
