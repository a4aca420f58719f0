//! Why a dial brought no peer.

use std::io::ErrorKind;

use kadwire_wire::{
    Blame,
    rlpx::disconnect::DisconnectReason,
    transport::{CloseReason, DialError, HandshakeError},
};

use crate::count::reasons;

reasons! {
    /// Why a dial that was tried brought no peer, or one that left at once.
    WhyFailed, counted by
    /// How often dials failed, by why.
    Failures,
    {
        /// Nothing listens there: the connection was refused.
        ConnectionRefused = "connection_refused",
        /// Nobody answered in time.
        TimedOut = "timed_out",
        /// There is no way to that network or host.
        Unreachable = "unreachable",
        /// The stream could not be opened for another reason, for instance too many open files.
        ConnectFailed = "connect_failed",
        /// The host name has no usable address.
        NotResolved = "not_resolved",
        /// This transport cannot dial such an address, or was told not to.
        NotDialable = "not_dialable",
        /// The peer did not finish the handshake in time.
        HandshakeTimedOut = "handshake_timed_out",
        /// The peer closed the stream during the handshake, without a reason.
        HandshakeCut = "handshake_cut",
        /// The handshake broke a rule, or is of another protocol.
        HandshakeFailed = "handshake_failed",
        /// Somebody else is there than the address says.
        WrongIdentity = "wrong_identity",
        /// This node itself is there.
        OurOwn = "our_own",
        /// The peer is of another network, or of a version that does not fit.
        Incompatible = "incompatible",
        /// There is no protocol that both speak (either side says so).
        UselessPeer = "useless_peer",
        /// The peer says that it has too many peers.
        TooManyPeers = "too_many_peers",
        /// The peer says that it has a connection with us.
        AlreadyConnected = "already_connected",
        /// The peer refused us for another reason, or was about to stop.
        RefusedByPeer = "refused_by_peer",
        /// A filter of the library's user keeps the peer out.
        Filtered = "filtered",
        /// A filter of the library's user gave no answer in time.
        FilterTimeout = "filter_timeout",
        /// There was no place for it any more, or another reason of ours against it, when it was reached.
        RefusedByUs = "refused_by_us",
        /// The connection stood, and was over within ten seconds.
        EndedAtOnce = "ended_at_once",
    }
}

impl WhyFailed {
    /// Whose fault it is. [`Blame::Local`] is nobody's: the same address may well work later.
    pub fn blame(self) -> Blame {
        match self {
            WhyFailed::HandshakeFailed => Blame::Malformed,
            WhyFailed::WrongIdentity | WhyFailed::Incompatible | WhyFailed::UselessPeer | WhyFailed::Filtered => {
                Blame::Incompatible
            }
            _ => Blame::Local,
        }
    }

    /// Whether nobody was reached, so that the peer may be elsewhere by now.
    pub fn is_unreached(self) -> bool {
        matches!(
            self,
            WhyFailed::ConnectionRefused
                | WhyFailed::TimedOut
                | WhyFailed::Unreachable
                | WhyFailed::ConnectFailed
                | WhyFailed::NotResolved
                | WhyFailed::WrongIdentity
        )
    }
}

impl From<&DialError> for WhyFailed {
    fn from(error: &DialError) -> Self {
        match error {
            DialError::Unsupported | DialError::NotAllowed => WhyFailed::NotDialable,
            DialError::Resolve(_) => WhyFailed::NotResolved,
            DialError::Connect(ErrorKind::ConnectionRefused) => WhyFailed::ConnectionRefused,
            DialError::Connect(ErrorKind::TimedOut) | DialError::Timeout(_) => WhyFailed::TimedOut,
            DialError::Connect(
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable,
            ) => WhyFailed::Unreachable,
            DialError::Connect(_) => WhyFailed::ConnectFailed,
            DialError::Handshake(error) => WhyFailed::from(error),
        }
    }
}

impl From<&HandshakeError> for WhyFailed {
    fn from(error: &HandshakeError) -> Self {
        match error {
            HandshakeError::Timeout(_) => WhyFailed::HandshakeTimedOut,
            HandshakeError::Closed | HandshakeError::Io(_) => WhyFailed::HandshakeCut,
            HandshakeError::IdMismatch { .. } | HandshakeError::NodeInfoId { .. } => WhyFailed::WrongIdentity,
            HandshakeError::Key(_) | HandshakeError::HelloId => WhyFailed::WrongIdentity,
            HandshakeError::SelfConnection => WhyFailed::OurOwn,
            HandshakeError::Incompatible(_) => WhyFailed::Incompatible,
            HandshakeError::UselessPeer(_) => WhyFailed::UselessPeer,
            HandshakeError::Disconnected(reason) => WhyFailed::from(*reason),
            _ => WhyFailed::HandshakeFailed,
        }
    }
}

/// What the peer says when it hangs up.
impl From<DisconnectReason> for WhyFailed {
    fn from(reason: DisconnectReason) -> Self {
        match reason {
            DisconnectReason::UselessPeer => WhyFailed::UselessPeer,
            DisconnectReason::TooManyPeers => WhyFailed::TooManyPeers,
            DisconnectReason::AlreadyConnected => WhyFailed::AlreadyConnected,
            DisconnectReason::IncompatibleVersion => WhyFailed::Incompatible,
            DisconnectReason::InvalidIdentity | DisconnectReason::UnexpectedIdentity => WhyFailed::WrongIdentity,
            DisconnectReason::ToSelf => WhyFailed::OurOwn,
            _ => WhyFailed::RefusedByPeer,
        }
    }
}

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whose fault it was.
    pub blame: Blame,
    /// Why we have not got the peer, if it ended at once.
    pub why: WhyFailed,
}

/// Nothing more is known.
impl From<Blame> for Ended {
    fn from(blame: Blame) -> Self {
        Ended { blame, why: WhyFailed::EndedAtOnce }
    }
}

impl From<&CloseReason> for Ended {
    fn from(reason: &CloseReason) -> Self {
        let why = match reason {
            CloseReason::RemoteDisconnected(reason) => WhyFailed::from(*reason),
            _ => WhyFailed::EndedAtOnce,
        };
        Ended { blame: reason.blame(), why }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_way_in_which_a_dial_fails_has_its_name() {
        let connect = |kind| DialError::Connect(kind);
        let refused = |reason| DialError::Handshake(HandshakeError::Disconnected(reason));
        for (error, why) in [
            (DialError::Unsupported, WhyFailed::NotDialable),
            (DialError::Resolve(ErrorKind::NotFound), WhyFailed::NotResolved),
            (connect(ErrorKind::ConnectionRefused), WhyFailed::ConnectionRefused),
            (connect(ErrorKind::HostUnreachable), WhyFailed::Unreachable),
            (connect(ErrorKind::PermissionDenied), WhyFailed::ConnectFailed),
            (DialError::Timeout(Duration::from_secs(3)), WhyFailed::TimedOut),
            (HandshakeError::Closed.into(), WhyFailed::HandshakeCut),
            (HandshakeError::Timeout(Duration::from_secs(5)).into(), WhyFailed::HandshakeTimedOut),
            (HandshakeError::IdMismatch { expected: [1; 20], proven: [2; 20] }.into(), WhyFailed::WrongIdentity),
            (HandshakeError::HelloId.into(), WhyFailed::WrongIdentity),
            (refused(DisconnectReason::TooManyPeers), WhyFailed::TooManyPeers),
            (refused(DisconnectReason::UselessPeer), WhyFailed::UselessPeer),
            (refused(DisconnectReason::AlreadyConnected), WhyFailed::AlreadyConnected),
            (refused(DisconnectReason::Quitting), WhyFailed::RefusedByPeer),
        ] {
            assert_eq!(WhyFailed::from(&error), why, "{error}");
        }
    }

    #[test]
    fn a_full_peer_is_nobodys_fault_and_a_useless_one_is_not_tried_again_soon() {
        let said = |reason| Ended::from(&CloseReason::RemoteDisconnected(reason));
        assert_eq!(
            [DisconnectReason::TooManyPeers, DisconnectReason::UselessPeer].map(|reason| said(reason).why),
            [WhyFailed::TooManyPeers, WhyFailed::UselessPeer]
        );
        assert_eq!(
            (WhyFailed::TooManyPeers.blame(), WhyFailed::UselessPeer.blame()),
            (Blame::Local, Blame::Incompatible)
        );
        assert_eq!(Ended::from(&CloseReason::Remote), Ended::from(Blame::Local));
    }
}
