//! What every visit to a Tendermint peer is made of: dial, have its identity and network proven, ask for addresses (PEX), hang up.
//! [`Trouble`] names what can go wrong. The crawler and the seed decide whom to visit, how often to ask and what to make of it.

use std::{io::ErrorKind, time::Duration};

use bytes::Bytes;
use kadwire_wire::{
    PeerAddress,
    tendermint::{
        node_info::{Incompatibility, NodeInfo},
        pex_message::{MAX_PEX_ADDRESSES, MAX_PEX_ADDRESSES_V2, MAX_PEX_MESSAGE_SIZE, PEX_CHANNEL, PexMessage},
    },
    transport::{ChannelSpec, Connection, DialError, HandshakeError, SendError},
};
use tokio::time::timeout;

use crate::count::reasons;

/// The channel of peer exchange, the only one that a visitor's transport needs: priority 1, 10 messages waiting, 64,000 bytes (CometBFT
/// `pex_reactor.go`, `GetChannels`).
pub fn channel() -> ChannelSpec {
    ChannelSpec { send_queue: 10, max_message_size: MAX_PEX_MESSAGE_SIZE, ..ChannelSpec::new(PEX_CHANNEL) }
}

/// The most addresses that a node takes in one answer: Tendermint v0.35 hangs up on whoever sends it more than 100 (`maxAddresses`), in either
/// version of the messages, and does not say which it is but in its own version.
pub(crate) fn most_addresses(node_info: &NodeInfo) -> usize {
    if node_info.version.starts_with("0.35.") { MAX_PEX_ADDRESSES_V2 } else { MAX_PEX_ADDRESSES }
}

reasons! {
    /// What went wrong on a visit.
    Trouble, counted by
    /// How often each trouble was met.
    Troubles,
    {
        /// No transport of ours reaches such an address.
        Unsupported = "unsupported",
        /// We were told not to dial there.
        NotAllowed = "not_allowed",
        /// The host name has no address.
        Resolve = "resolve",
        /// No stream in time.
        Timeout = "timeout",
        /// Nobody listens there.
        Refused = "refused",
        /// No way there.
        Unreachable = "unreachable",
        /// No stream, for another reason.
        Connect = "connect",
        /// A stream, but no handshake in time.
        HandshakeTimeout = "handshake_timeout",
        /// Hung up on during the handshake: no room for us, as a rule.
        HandshakeClosed = "handshake_closed",
        /// Whoever is there proves another identity.
        WrongId = "wrong_id",
        /// It says of itself what no node may say.
        BadNodeInfo = "bad_node_info",
        /// It is ourselves.
        OurselvesThere = "self",
        /// It belongs to another chain.
        WrongNetwork = "wrong_network",
        /// It does no peer exchange.
        NoPex = "no_pex",
        /// It speaks another version of the protocol.
        Incompatible = "incompatible",
        /// The secret connection failed: what is there does not speak the protocol, or cheats.
        Authentication = "handshake",
        /// Hung up on before it answered.
        Closed = "closed",
        /// Connected, but no answer in time.
        Unanswered = "answer_timeout",
        /// Its answer cannot be read.
        BadPex = "bad_pex",
    }
}

impl Trouble {
    /// Whether dialing the same address again soon is of no use.
    pub fn is_hopeless(self) -> bool {
        use Trouble::{
            Authentication, BadPex, Closed, Connect, HandshakeClosed, HandshakeTimeout, Timeout, Unanswered,
        };
        !matches!(
            self,
            Timeout | Connect | HandshakeTimeout | HandshakeClosed | Authentication | Closed | Unanswered | BadPex
        )
    }
}

impl From<&DialError> for Trouble {
    fn from(error: &DialError) -> Self {
        match error {
            DialError::Unsupported => Trouble::Unsupported,
            DialError::NotAllowed => Trouble::NotAllowed,
            DialError::Resolve(_) => Trouble::Resolve,
            DialError::Timeout(_) => Trouble::Timeout,
            DialError::Connect(ErrorKind::ConnectionRefused) => Trouble::Refused,
            DialError::Connect(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => Trouble::Unreachable,
            DialError::Connect(_) => Trouble::Connect,
            DialError::Handshake(error) => error.into(),
        }
    }
}

impl From<&HandshakeError> for Trouble {
    fn from(error: &HandshakeError) -> Self {
        match error {
            HandshakeError::Timeout(_) => Trouble::HandshakeTimeout,
            HandshakeError::Closed | HandshakeError::Io(_) => Trouble::HandshakeClosed,
            HandshakeError::IdMismatch { .. } | HandshakeError::NodeInfoId { .. } => Trouble::WrongId,
            HandshakeError::NodeInfo(_) => Trouble::BadNodeInfo,
            HandshakeError::SelfConnection => Trouble::OurselvesThere,
            HandshakeError::Incompatible(Incompatibility::Network { .. }) => Trouble::WrongNetwork,
            HandshakeError::Incompatible(Incompatibility::NoCommonChannel) => Trouble::NoPex,
            HandshakeError::Incompatible(_) => Trouble::Incompatible,
            _ => Trouble::Authentication,
        }
    }
}

/// What a peer answered to one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Addresses, as many as it sent.
    pub addresses: Vec<PeerAddress>,
    /// Entries that were no addresses.
    pub skipped: usize,
}

/// Sends one PexRequest and waits for the addresses; whatever else the peer says meanwhile is passed over.
pub async fn ask(connection: &mut Connection, patience: Duration) -> Result<Answer, Trouble> {
    let request = Bytes::from(PexMessage::Request.encode());
    connection.send(PEX_CHANNEL, request).await.map_err(|error| match error {
        SendError::NotSharedByPeer(_) => Trouble::NoPex,
        _ => Trouble::Closed,
    })?;
    timeout(patience, answer(connection)).await.unwrap_or(Err(Trouble::Unanswered))
}

async fn answer(connection: &mut Connection) -> Result<Answer, Trouble> {
    loop {
        let (channel, message) = connection.recv().await.ok_or(Trouble::Closed)?;
        if channel != PEX_CHANNEL {
            continue;
        }
        match PexMessage::decode(&message) {
            Ok(PexMessage::Addresses { addresses, skipped } | PexMessage::AddressesV2 { addresses, skipped }) => {
                return Ok(Answer { addresses, skipped });
            }
            Ok(PexMessage::Request | PexMessage::RequestV2) => {}
            Err(_) => return Err(Trouble::BadPex),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Trouble::ALL.iter().map(|trouble| trouble.name()).collect();
        assert_eq!(names.len(), Trouble::ALL.len());
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_stays_is_not() {
        let refused = DialError::Connect(ErrorKind::ConnectionRefused);
        let other_chain =
            HandshakeError::Incompatible(Incompatibility::Network { ours: "a".into(), theirs: "b".into() });
        let wrong_id = HandshakeError::IdMismatch { expected: [1; 20], proven: [2; 20] };
        for (error, name, hopeless) in [
            (refused, "refused", true),
            (DialError::Timeout(Duration::ZERO), "timeout", false),
            (other_chain.into(), "wrong_network", true),
            (wrong_id.into(), "wrong_id", true),
            (HandshakeError::Closed.into(), "handshake_closed", false),
            (HandshakeError::SelfConnection.into(), "self", true),
        ] {
            let trouble = Trouble::from(&error);
            assert_eq!((trouble.name(), trouble.is_hopeless()), (name, hopeless), "{error}");
        }
    }
}
