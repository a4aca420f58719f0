//! What Ethereum peers say to each other: a [`Protocol`] has a name, a version, a number of message codes, and a handler that is run
//! once for each peer that has it too (devp2p "capabilities"; go-ethereum `p2p.Protocol`).
//!
//! The handler gets a [`PeerStream`] and lives as long as it wants the peer: **when it returns, the peer is hung up on**, for the reason that
//! [`ProtocolError::reason`] gives; when the peer is gone, [`PeerStream::recv`] says `None`, and a handler that does not end then is
//! ended. Several protocols share one connection. One whose handler does not take its messages holds up itself only, until
//! 64 messages or 4 MiB wait for it and another mebibyte in the connection; then the peer's stream stands still, for the other protocols too.
//!
//! ```
//! use kadwire::protocol::{PeerStream, Protocol, ProtocolError};
//!
//! /// Answers every message of code 0 with the same payload under code 1.
//! async fn echo(mut stream: PeerStream) -> Result<(), ProtocolError> {
//!     while let Some(message) = stream.recv().await {
//!         if message.code == 0 {
//!             stream.send(1, message.payload).await?;
//!         }
//!     }
//!     Ok(())
//! }
//!
//! let protocol = Protocol::new("kad", 1, 2, echo)?;
//! assert_eq!(protocol.to_string(), "kad/1");
//! # Ok::<(), kadwire_wire::rlpx::capability::BadCapabilityName>(())
//! ```
//!
//! What it is not: it knows no frames, offsets and snappy (that is [`wire::rlpx`](kadwire_wire::rlpx)), and says nothing of what the
//! messages mean.

mod info;
mod serve;
mod stream;

use std::{fmt, pin::Pin, sync::Arc};

use kadwire_discovery::EnrPair;
use kadwire_wire::{
    address::PeerId,
    rlpx::{
        capability::{self, BadCapabilityName},
        disconnect::DisconnectReason,
    },
};
use serde_json::Value;

pub use info::{NetworkJson, NodeJson, PeerJson, PortsJson};
pub use stream::{Message, PeerSender, PeerStream};

pub(crate) use serve::serve;

/// A capability of this node, and who deals with it.
pub struct Protocol {
    spec: capability::Protocol,
    name: Arc<str>,
    handler: Handler,
    attributes: Vec<EnrPair>,
    node_info: Option<NodeInfo>,
    peer_info: Option<PeerInfo>,
}

type Handler = Box<dyn Fn(PeerStream) -> Handling + Send + Sync>;
type Handling = Pin<Box<dyn Future<Output = Result<(), ProtocolError>> + Send>>;
type NodeInfo = Box<dyn Fn() -> Value + Send + Sync>;
type PeerInfo = Box<dyn Fn(PeerId) -> Option<Value> + Send + Sync>;

impl Protocol {
    /// `name` has 1 to 8 visible ASCII characters; `length` is how many message codes there are, from 0. Both ends must agree about it.
    /// `handler` is run for each peer that has the same name and version, in a task of its own; of a name, only the highest version
    /// that both have is spoken.
    pub fn new<F>(
        name: &str,
        version: u64,
        length: u16,
        handler: impl Fn(PeerStream) -> F + Send + Sync + 'static,
    ) -> Result<Self, BadCapabilityName>
    where
        F: Future<Output = Result<(), ProtocolError>> + Send + 'static,
    {
        Ok(Protocol {
            spec: capability::Protocol::new(name, version, length)?,
            name: name.into(),
            handler: Box::new(move |stream| Box::pin(handler(stream))),
            attributes: Vec::new(),
            node_info: None,
            peer_info: None,
        })
    }

    /// Puts a pair into our own record, for others to see before they dial (go-ethereum, `Attributes`).
    #[must_use]
    pub fn with_attribute(mut self, pair: EnrPair) -> Self {
        self.attributes.push(pair);
        self
    }

    /// What [`NodeJson`] says of this protocol (go-ethereum, `NodeInfo`); without, "unknown".
    #[must_use]
    pub fn with_node_info(mut self, info: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        self.node_info = Some(Box::new(info));
        self
    }

    /// What [`PeerJson`] says of this protocol and a peer (go-ethereum, `PeerInfo`); `None` is "handshake", without it "unknown".
    #[must_use]
    pub fn with_peer_info(mut self, info: impl Fn(PeerId) -> Option<Value> + Send + Sync + 'static) -> Self {
        self.peer_info = Some(Box::new(info));
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version.
    pub fn version(&self) -> u64 {
        self.spec.version
    }

    /// How many message codes there are, from 0.
    pub fn length(&self) -> u64 {
        self.spec.length.into()
    }

    /// What the wire must know of it.
    pub(crate) fn spec(&self) -> capability::Protocol {
        self.spec
    }

    /// The pairs for our record.
    pub fn attributes(&self) -> &[EnrPair] {
        &self.attributes
    }
}

/// `name/version`, as go-ethereum writes it.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.spec.capability())
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protocol").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// Why a handler ends, or cannot send.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The connection is over.
    #[error("the connection is over")]
    Closed,
    /// The protocol has no such message. From a handler: the peer sent one.
    #[error("message code {code} of a protocol with {length}")]
    InvalidCode {
        /// The code.
        code: u64,
        /// How many codes there are.
        length: u64,
    },
    /// Longer than any message may be, itself or as compression makes it: of what does not compress, the last kilobytes below 16 MiB are
    /// too many.
    #[error("message of {len} bytes, at most {max} are allowed")]
    TooLarge {
        /// The payload, or the frame data made of it, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The peer is to be hung up on for this reason.
    #[error("{0}")]
    Disconnect(DisconnectReason),
    /// Something else, of the protocol itself.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl ProtocolError {
    /// An error of the protocol's own, or a text.
    pub fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        ProtocolError::Failed(error.into())
    }

    /// What the peer is told when a handler returns this (go-ethereum `p2p/peer_error.go`, `discReasonForError`); one that returns `Ok`
    /// has it told [`DisconnectReason::Quitting`].
    pub fn reason(&self) -> DisconnectReason {
        match self {
            ProtocolError::Disconnect(reason) => *reason,
            ProtocolError::InvalidCode { .. } => DisconnectReason::Protocol,
            ProtocolError::Closed | ProtocolError::TooLarge { .. } | ProtocolError::Failed(_) => {
                DisconnectReason::Subprotocol
            }
        }
    }
}

impl From<DisconnectReason> for ProtocolError {
    fn from(reason: DisconnectReason) -> Self {
        ProtocolError::Disconnect(reason)
    }
}

/// The peer's RLP is not what it should be.
impl From<rlp::DecoderError> for ProtocolError {
    fn from(error: rlp::DecoderError) -> Self {
        ProtocolError::failed(error)
    }
}

#[cfg(test)]
mod tests;
