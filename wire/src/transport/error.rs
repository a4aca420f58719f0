//! Why a dial, a handshake or a connection ended, and whose fault it was.

use std::{borrow::Cow, io, time::Duration};

use data_encoding::HEXLOWER;

use crate::{
    Blame,
    rlpx::{capability::UselessPeer, disconnect::DisconnectReason},
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
    #[error("cannot listen on {0}: {1}")]
    Listen(std::net::SocketAddr, io::Error),
    /// Our own NodeInfo breaks a rule.
    #[error("our own {0}")]
    NodeInfo(NodeInfoError),
    /// The connection's settings or channels make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
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
    /// The two sides share no protocol (Ethereum).
    #[error(transparent)]
    UselessPeer(#[from] UselessPeer),
}

impl HandshakeError {
    /// Whose fault it is. A time-out or a closed stream may be the network's and blames nobody.
    pub fn blame(&self) -> Blame {
        match self {
            HandshakeError::Timeout(_) | HandshakeError::Closed | HandshakeError::Io(_) => Blame::Local,
            HandshakeError::SelfConnection => Blame::Local,
            HandshakeError::IdMismatch { .. } | HandshakeError::Incompatible(_) => Blame::Incompatible,
            HandshakeError::UselessPeer(error) => error.blame(),
            HandshakeError::SecretConnection(error) => error.blame(),
            HandshakeError::Frame(error) => error.blame(),
            HandshakeError::NodeInfo(error) => error.blame(),
            HandshakeError::NodeInfoId { .. } => Blame::Misbehaved,
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
    /// No pong was seen in time because our own user did not take messages, so that nothing more was read.
    #[error("our receiver stalled")]
    ReceiverStalled,
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
            _ => Blame::Local,
        }
    }

    /// Whether this side asked for the end.
    pub fn is_ours(&self) -> bool {
        matches!(self, CloseReason::Requested(_) | CloseReason::Disconnected(_) | CloseReason::Dropped)
    }
}
