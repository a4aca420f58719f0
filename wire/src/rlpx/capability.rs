//! Capabilities: which protocols the two sides share, and which message codes are whose (`rlpx.md`, "Capability Messaging").
//!
//! Each side lists name and version of what it speaks. Of a name the highest version that both list is shared. Codes below 16 are the base
//! protocol's; from there the shared protocols follow each other in the order of their names, each with as many codes as it has messages.

use std::{cmp::Reverse, fmt, str::FromStr};

use super::message::MAX_MESSAGE_SIZE;
use crate::Blame;

/// Codes of the base protocol; the first shared protocol begins here (`rlpx.md`, "Capability Messaging").
pub const BASE_LENGTH: u64 = 16;

/// The most protocols one node offers. Far more than any node has, and their list fits into a Hello.
pub const MAX_PROTOCOLS: usize = 64;

/// The name of a capability: 1 to 8 visible ASCII characters (`rlpx.md`, "Capability Messaging").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CapabilityName(
    /// Filled up with zeros, so that the order is that of the names.
    [u8; CapabilityName::MAX],
);

impl CapabilityName {
    /// The longest name, in characters.
    pub const MAX: usize = 8;

    /// The name, if it is one.
    pub fn new(name: &str) -> Result<Self, BadCapabilityName> {
        Self::from_bytes(name.as_bytes())
    }

    pub(super) fn from_bytes(name: &[u8]) -> Result<Self, BadCapabilityName> {
        let mut filled = [0; Self::MAX];
        let room = filled.get_mut(..name.len()).ok_or(BadCapabilityName)?;
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return Err(BadCapabilityName);
        }
        room.copy_from_slice(name);
        Ok(CapabilityName(filled))
    }

    /// The characters.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(Self::MAX);
        // All are ASCII.
        self.0.get(..len).and_then(|name| str::from_utf8(name).ok()).unwrap_or_default()
    }
}

impl fmt::Display for CapabilityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CapabilityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CapabilityName {
    type Err = BadCapabilityName;

    fn from_str(name: &str) -> Result<Self, BadCapabilityName> {
        Self::new(name)
    }
}

/// Not the name of a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a capability's name has 1 to 8 visible ASCII characters")]
pub struct BadCapabilityName;

/// A protocol in one version, as Hello lists it. Printed as `name/version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability {
    /// The protocol.
    pub name: CapabilityName,
    /// Its version.
    pub version: u64,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

/// A protocol that this side speaks, as far as the wire must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Its name.
    pub name: CapabilityName,
    /// Its version; another version of the same name is another protocol here.
    pub version: u64,
    /// Its message codes: 0 up to and without this. Both sides must know the same number, or all codes after it are misread.
    pub length: u16,
    /// Messages that may wait to be sent, at least 1; more senders wait. One of more than 1 MiB counts once for each MiB that it begins, but
    /// not more than all.
    pub send_queue: usize,
    /// The largest payload, sent or received, in bytes before compression; at most [`MAX_MESSAGE_SIZE`].
    pub max_message_size: usize,
}

impl Protocol {
    /// Messages that may wait by default. In go-ethereum none does, as its writers wait for the stream; a few keep the line busy.
    pub const DEFAULT_SEND_QUEUE: usize = 16;

    /// A protocol with [`DEFAULT_SEND_QUEUE`](Self::DEFAULT_SEND_QUEUE) and messages of any size.
    pub fn new(name: &str, version: u64, length: u16) -> Result<Self, BadCapabilityName> {
        Ok(Protocol {
            name: CapabilityName::new(name)?,
            version,
            length,
            send_queue: Self::DEFAULT_SEND_QUEUE,
            max_message_size: MAX_MESSAGE_SIZE,
        })
    }

    /// What Hello says of it.
    pub fn capability(&self) -> Capability {
        Capability { name: self.name, version: self.version }
    }
}

/// Checks what one side offers.
pub fn check_protocols(protocols: &[Protocol]) -> Result<(), ProtocolError> {
    if protocols.len() > MAX_PROTOCOLS {
        return Err(ProtocolError::TooMany(protocols.len()));
    }
    for (index, protocol) in protocols.iter().enumerate() {
        let capability = protocol.capability();
        if protocol.send_queue == 0 {
            return Err(ProtocolError::SendQueue(capability));
        }
        if protocol.max_message_size > MAX_MESSAGE_SIZE {
            return Err(ProtocolError::MaxMessageSize(capability));
        }
        if protocols.iter().take(index).any(|other| other.capability() == capability) {
            return Err(ProtocolError::Duplicate(capability));
        }
    }
    Ok(())
}

/// Why a list of protocols is refused. Always this side's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// More than [`MAX_PROTOCOLS`].
    #[error("{0} protocols, at most {MAX_PROTOCOLS} are allowed")]
    TooMany(usize),
    /// Twice the same name and version.
    #[error("{0} is declared twice")]
    Duplicate(Capability),
    /// A protocol whose queue has no room.
    #[error("{0} has a send queue of 0")]
    SendQueue(Capability),
    /// Messages that no frame has room for.
    #[error("{0} has messages of more than {MAX_MESSAGE_SIZE} bytes")]
    MaxMessageSize(Capability),
}

/// A protocol that both sides speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedProtocol {
    /// As this side declared it.
    pub protocol: Protocol,
    /// Its first message code on this connection.
    pub offset: u64,
}

impl SharedProtocol {
    /// The protocol's own code of a code on the wire, if it is this protocol's.
    pub fn own_code(&self, code: u64) -> Option<u64> {
        code.checked_sub(self.offset).filter(|own| *own < self.protocol.length.into())
    }

    /// The code on the wire of one of the protocol's own, if it has it.
    pub fn wire_code(&self, own: u64) -> Option<u64> {
        if own < self.protocol.length.into() { self.offset.checked_add(own) } else { None }
    }
}

/// The protocols that both sides speak, by name, with their codes; at least one, and never two of a name.
pub fn match_protocols(local: &[Protocol], remote: &[Capability]) -> Result<Vec<SharedProtocol>, UselessPeer> {
    let mut common: Vec<Protocol> =
        local.iter().copied().filter(|protocol| remote.contains(&protocol.capability())).collect();
    common.sort_by_key(|protocol| (protocol.name, Reverse(protocol.version)));
    common.dedup_by_key(|protocol| protocol.name);
    if common.is_empty() {
        return Err(UselessPeer);
    }
    let mut next = BASE_LENGTH;
    let with_codes = |protocol: Protocol| {
        let offset = next;
        next = next.saturating_add(protocol.length.into());
        SharedProtocol { protocol, offset }
    };
    Ok(common.into_iter().map(with_codes).collect())
}

/// The two sides share no protocol: disconnect with [`DisconnectReason::UselessPeer`](super::disconnect::DisconnectReason::UselessPeer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no protocol in common")]
pub struct UselessPeer;

impl UselessPeer {
    /// Nobody's fault.
    pub fn blame(&self) -> Blame {
        Blame::Incompatible
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol((name, version, length): (&str, u64, u16)) -> Protocol {
        Protocol::new(name, version, length).unwrap()
    }

    /// go-ethereum `p2p/peer_test.go`, `TestMatchProtocols`, whose empty name is `p` here: remote, local, shared with offset above 16.
    #[test]
    fn the_highest_common_version_of_each_name_is_shared() {
        type Remote = &'static [(&'static str, u64)];
        type Local = &'static [(&'static str, u64, u16)];
        type Shared = &'static [(&'static str, u64, u64)];
        let table: [(&str, Remote, Local, Shared); 10] = [
            ("no remote capabilities", &[], &[("a", 0, 0)], &[]),
            ("no local protocols", &[("a", 0)], &[], &[]),
            ("no mutual protocols", &[("a", 0)], &[("b", 0, 0)], &[]),
            (
                "some matches, some differences",
                &[("local", 0), ("match1", 0), ("match2", 0)],
                &[("match1", 0, 0), ("match2", 0, 0), ("remote", 0, 0)],
                &[("match1", 0, 0), ("match2", 0, 0)],
            ),
            (
                "various alphabetical ordering",
                &[("aa", 0), ("ab", 0), ("bb", 0), ("ba", 0)],
                &[("ba", 0, 0), ("bb", 0, 0), ("ab", 0, 0), ("aa", 0, 0)],
                &[("aa", 0, 0), ("ab", 0, 0), ("ba", 0, 0), ("bb", 0, 0)],
            ),
            ("no mutual versions", &[("p", 1)], &[("p", 2, 0)], &[]),
            ("multiple versions, single common", &[("p", 1), ("p", 2)], &[("p", 2, 0), ("p", 3, 0)], &[("p", 2, 0)]),
            (
                "multiple versions, multiple common",
                &[("p", 1), ("p", 2), ("p", 3), ("p", 4)],
                &[("p", 2, 0), ("p", 3, 0)],
                &[("p", 3, 0)],
            ),
            (
                "various version orderings",
                &[("p", 4), ("p", 1), ("p", 3), ("p", 2)],
                &[("p", 2, 0), ("p", 3, 0), ("p", 1, 0)],
                &[("p", 3, 0)],
            ),
            (
                "versions overriding lengths; a name with the first as prefix comes after it",
                &[("p", 1), ("p", 2), ("p", 3), ("pa", 0)],
                &[("p", 1, 1), ("p", 2, 2), ("p", 3, 3), ("pa", 0, 0)],
                &[("p", 3, 0), ("pa", 0, 3)],
            ),
        ];
        for (what, remote, local, expected) in table {
            let remote: Vec<_> =
                remote.iter().map(|&(name, version)| protocol((name, version, 0)).capability()).collect();
            let local: Vec<_> = local.iter().copied().map(protocol).collect();
            let shared = match_protocols(&local, &remote).unwrap_or_default();
            let shared: Vec<_> = shared
                .iter()
                .map(|SharedProtocol { protocol, offset }| (protocol.name.as_str(), protocol.version, offset - 16))
                .collect();
            assert_eq!(shared, expected, "{what}");
        }
    }

    /// The codes of a node with eth/68 (17 messages), snap/1 (8) and an older eth.
    #[test]
    fn each_protocol_has_its_codes_after_the_ones_before() {
        let local = [("snap", 1, 8), ("eth", 67, 17), ("eth", 68, 17), ("zz", 1, 1)].map(protocol);
        let remote = [("zz", 1, 0), ("snap", 1, 0), ("eth", 68, 0), ("eth", 67, 0)].map(|p| protocol(p).capability());
        let shared = match_protocols(&local, &remote).unwrap();
        let [eth, snap, zz] = [&shared[0], &shared[1], &shared[2]];
        assert_eq!((eth.offset, snap.offset, zz.offset), (16, 33, 41));
        assert_eq!(eth.protocol.capability().to_string(), "eth/68");
        assert_eq!([15, 16, 32, 33].map(|code| eth.own_code(code)), [None, Some(0), Some(16), None]);
        assert_eq!([32, 33, 40, 41].map(|code| snap.own_code(code)), [None, Some(0), Some(7), None]);
        assert_eq!([0, 7, 8, u64::MAX].map(|code| snap.wire_code(code)), [Some(33), Some(40), None, None]);
        assert_eq!(zz.own_code(u64::MAX), None);
        assert_eq!(match_protocols(&local, &remote[..0]), Err(UselessPeer));
    }

    #[test]
    fn a_name_has_one_to_eight_visible_characters() {
        for name in ["a", "eth", "istanbul", "a/b"] {
            assert_eq!(CapabilityName::new(name).unwrap().as_str(), name);
        }
        for name in ["", "ninechars", "a b", "a\0", "é", "tab\t"] {
            assert_eq!(CapabilityName::new(name), Err(BadCapabilityName), "{name:?}");
        }
        let mut names = ["b", "ab", "a", "istanbul", "aa"].map(|name| CapabilityName::new(name).unwrap());
        names.sort();
        assert_eq!(names.map(|name| name.to_string()), ["a", "aa", "ab", "b", "istanbul"]);
    }

    #[test]
    fn what_one_side_offers_is_checked() {
        let (a, b) = (protocol(("a", 1, 1)), protocol(("a", 2, 1)));
        assert_eq!(check_protocols(&[a, b]), Ok(()));
        assert_eq!(check_protocols(&[a, b, a]), Err(ProtocolError::Duplicate(a.capability())));
        assert_eq!(check_protocols(&[Protocol { send_queue: 0, ..a }]), Err(ProtocolError::SendQueue(a.capability())));
        let large = Protocol { max_message_size: MAX_MESSAGE_SIZE + 1, ..a };
        assert_eq!(check_protocols(&[large]), Err(ProtocolError::MaxMessageSize(a.capability())));
        let many: Vec<_> = (0..=MAX_PROTOCOLS as u64).map(|version| Protocol { version, ..a }).collect();
        assert_eq!(check_protocols(&many), Err(ProtocolError::TooMany(65)));
    }
}
