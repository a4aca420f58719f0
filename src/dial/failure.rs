//! Why a dial brought no peer.

use std::io::ErrorKind;

use kadwire_wire::{
    Blame,
    transport::{DialError, HandshakeError},
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
            HandshakeError::SelfConnection => WhyFailed::OurOwn,
            HandshakeError::Incompatible(_) => WhyFailed::Incompatible,
            _ => WhyFailed::HandshakeFailed,
        }
    }
}
