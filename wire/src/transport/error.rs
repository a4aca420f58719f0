//! Why a dial, a handshake or a connection ended, and whose fault it was.

use std::{borrow::Cow, io, time::Duration};

use data_encoding::HEXLOWER;

use crate::{
    Blame,
    rlpx::{
        self,
        capability::{ProtocolError, UselessPeer},
        disconnect::DisconnectReason,
        hello::HelloError,
        multiplex::{MultiplexConfigError, MultiplexError},
    },
    tendermint::{
        mconnection::{ConfigError, MConnectionError},
        node_info::{Incompatibility, NodeInfoError},
        secret_connection::{FrameError, SecretConnectionError},
    },
};

/// Why a transport could not be set up. Always this side's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on TCP {0}: {1}")]
    Listen(std::net::SocketAddr, io::Error),
    /// Our own NodeInfo breaks a rule.
    #[error("our own {0}")]
    NodeInfo(NodeInfoError),
    /// The connection's settings or channels make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The protocols make no sense.
    #[error(transparent)]
    Protocols(#[from] ProtocolError),
    /// The settings of a connection make no sense.
    #[error(transparent)]
    Multiplex(#[from] MultiplexConfigError),
    /// Our own Hello is none that a peer would take.
    #[error("our own {0}")]
    Hello(HelloError),
}

/// Why [`Transport::accept`](super::Transport::accept) gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The transport was closed; no more streams will come.
    #[error("transport is closed")]
    Closed,
    /// The operating system refused, for instance for lack of file descriptors; call again after a pause.
    #[error("accept failed: {0}")]
    Io(io::ErrorKind),
}

/// Why a dial did not become a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// This transport cannot dial such an address, for instance an enode.
    #[error("this transport cannot dial such an address")]
    Unsupported,
    /// The address is one that this side was told not to dial.
    #[error("address is not allowed")]
    NotAllowed,
    /// The host name has no usable address.
    #[error("host name did not resolve: {0}")]
    Resolve(io::ErrorKind),
    /// No stream could be opened.
    #[error("connect failed: {0}")]
    Connect(io::ErrorKind),
    /// No stream was opened in time.
    #[error("connect timed out after {0:?}")]
    Timeout(Duration),
    /// The stream opened, but the handshake failed.
    #[error("handshake failed: {0}")]
    Handshake(#[from] HandshakeError),
}

impl DialError {
    /// Whose fault it is. What fails before the handshake blames nobody.
    pub fn blame(&self) -> Blame {
        match self {
            DialError::Handshake(error) => error.blame(),
            _ => Blame::Local,
        }
    }
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Not done within the time-out.
    #[error("not done within {0:?}")]
    Timeout(Duration),
    /// The peer closed the stream; it may have refused us.
    #[error("the peer closed the stream")]
    Closed,
    /// The stream failed.
    #[error("stream failed: {0}")]
    Io(io::ErrorKind),
    /// The SecretConnection was not established.
    #[error("secret connection: {0}")]
    SecretConnection(#[from] SecretConnectionError),
    /// A frame of the NodeInfo exchange cannot be read or written.
    #[error("secret connection: {0}")]
    Frame(#[from] FrameError),
    /// The peer proved another identity than the dialed address names. The address is wrong, not the peer with that id.
    #[error("expected peer {}, found {}", HEXLOWER.encode(expected), HEXLOWER.encode(proven))]
    IdMismatch {
        /// The id of the dialed address.
        expected: [u8; 20],
        /// The id of the key that the peer proved.
        proven: [u8; 20],
    },
    /// The peer's NodeInfo breaks a rule.
    #[error(transparent)]
    NodeInfo(NodeInfoError),
    /// The NodeInfo names another id than the peer's key has.
    #[error("node info names {}, the key is of {}", HEXLOWER.encode(claimed), HEXLOWER.encode(proven))]
    NodeInfoId {
        /// The id in the NodeInfo.
        claimed: [u8; 20],
        /// The id of the key that the peer proved.
        proven: [u8; 20],
    },
    /// The peer is this node.
    #[error("connected to ourselves")]
    SelfConnection,
    /// The two nodes do not fit.
    #[error("incompatible: {0}")]
    Incompatible(Incompatibility),
    /// The dialed enode names a key that nobody can have.
    #[error(transparent)]
    Key(rlpx::KeyError),
    /// The RLPx handshake failed. A peer that does not have the dialed key cannot read our first packet, and closes the stream.
    #[error("rlpx: {0}")]
    Rlpx(#[from] rlpx::HandshakeError),
    /// The first RLPx frame cannot be read or written.
    #[error("rlpx: {0}")]
    RlpxFrame(#[from] rlpx::FrameError),
    /// What came first was no Hello.
    #[error(transparent)]
    Hello(HelloError),
    /// The Hello names another key than the one that the handshake proved.
    #[error("hello names another node than the key's")]
    HelloId,
    /// The two nodes share no protocol.
    #[error(transparent)]
    UselessPeer(#[from] UselessPeer),
    /// The peer hung up and said why.
    #[error("refused by the peer: {0}")]
    Disconnected(DisconnectReason),
    /// The peer proved who it is, and this side does not want it; it was told why.
    #[error("refused by us: {0}")]
    Refused(DisconnectReason),
}

impl From<HelloError> for HandshakeError {
    fn from(error: HelloError) -> Self {
        match error {
            HelloError::Disconnected(reason) => HandshakeError::Disconnected(reason),
            error => HandshakeError::Hello(error),
        }
    }
}

impl HandshakeError {
    /// Whose fault it is. A time-out or a closed stream may be the network's and blames nobody.
    pub fn blame(&self) -> Blame {
        match self {
            HandshakeError::Timeout(_) | HandshakeError::Closed | HandshakeError::Io(_) => Blame::Local,
            HandshakeError::SelfConnection | HandshakeError::Refused(_) => Blame::Local,
            HandshakeError::IdMismatch { .. } | HandshakeError::Incompatible(_) => Blame::Incompatible,
            HandshakeError::UselessPeer(error) => error.blame(),
            HandshakeError::SecretConnection(error) => error.blame(),
            HandshakeError::Frame(error) => error.blame(),
            HandshakeError::NodeInfo(error) => error.blame(),
            HandshakeError::NodeInfoId { .. } | HandshakeError::HelloId => Blame::Misbehaved,
            HandshakeError::Key(_) => Blame::Incompatible,
            HandshakeError::Rlpx(error) => error.blame(),
            HandshakeError::RlpxFrame(error) => error.blame(),
            HandshakeError::Hello(error) => error.blame(),
            HandshakeError::Disconnected(reason) => reason.blame(),
        }
    }

    /// What an Ethereum peer is told before we hang up; nothing where it hung up itself, or would not understand.
    pub(super) fn disconnect(&self) -> Option<DisconnectReason> {
        match self {
            HandshakeError::SelfConnection => Some(DisconnectReason::ToSelf),
            HandshakeError::Refused(reason) => Some(*reason),
            HandshakeError::HelloId => Some(DisconnectReason::UnexpectedIdentity),
            HandshakeError::UselessPeer(_) => Some(DisconnectReason::UselessPeer),
            HandshakeError::RlpxFrame(_) => Some(DisconnectReason::Protocol),
            HandshakeError::Hello(error) => error.reason(),
            _ => None,
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side asked for it, and why.
    #[error("closed by us: {0}")]
    Requested(Cow<'static, str>),
    /// This side hangs up and tells the peer why (Ethereum). Others only see the stream end.
    #[error("closed by us: {0}")]
    Disconnected(DisconnectReason),
    /// The peer has hung up and says why (Ethereum).
    #[error("closed by the peer: {0}")]
    RemoteDisconnected(DisconnectReason),
    /// This side dropped the connection's [`Receiver`](super::Receiver).
    #[error("dropped by us")]
    Dropped,
    /// The peer closed the stream between two frames.
    #[error("closed by the peer")]
    Remote,
    /// The stream failed.
    #[error("stream failed: {0}")]
    Io(io::ErrorKind),
    /// A frame cannot be read or written.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer broke a rule of the packet layer, or no pong came.
    #[error(transparent)]
    Protocol(#[from] MConnectionError),
    /// An RLPx frame cannot be read or written.
    #[error("rlpx: {0}")]
    RlpxFrame(#[from] rlpx::FrameError),
    /// The peer broke a rule of devp2p.
    #[error(transparent)]
    Rlpx(MultiplexError),
    /// No pong was seen in time because our own user did not take messages, so that nothing more was read.
    #[error("our receiver stalled")]
    ReceiverStalled,
}

impl From<MultiplexError> for CloseReason {
    fn from(error: MultiplexError) -> Self {
        match error {
            MultiplexError::Disconnected(reason) => CloseReason::RemoteDisconnected(reason),
            error => CloseReason::Rlpx(error),
        }
    }
}

impl CloseReason {
    /// A request of this side, with its reason for the log.
    pub fn requested(why: impl Into<Cow<'static, str>>) -> Self {
        CloseReason::Requested(why.into())
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            CloseReason::Frame(error) => error.blame(),
            CloseReason::Protocol(error) => error.blame(),
            CloseReason::Disconnected(DisconnectReason::Protocol) => Blame::Misbehaved,
            CloseReason::RemoteDisconnected(reason) => reason.blame(),
            CloseReason::RlpxFrame(error) => error.blame(),
            CloseReason::Rlpx(error) => error.blame(),
            _ => Blame::Local,
        }
    }

    /// Whether this side asked for the end.
    pub fn is_ours(&self) -> bool {
        matches!(self, CloseReason::Requested(_) | CloseReason::Disconnected(_) | CloseReason::Dropped)
    }

    /// What an Ethereum peer is told before we hang up; nothing where it hung up itself, or the stream is gone.
    pub(super) fn disconnect(&self) -> Option<DisconnectReason> {
        match self {
            CloseReason::Requested(_) | CloseReason::Dropped => Some(DisconnectReason::Requested),
            CloseReason::Disconnected(reason) => Some(*reason),
            CloseReason::RlpxFrame(_) => Some(DisconnectReason::Protocol),
            CloseReason::Rlpx(error) => error.reason(),
            _ => None,
        }
    }
}
