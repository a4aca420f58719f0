//! Whose fault an error is: the only thing the peer manager looks at. Each layer has its own small error enum with a `blame()`.

/// Whose fault an error is, and so what may be done about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The peer sent bytes that are not the protocol: wrong lengths, bad encodings, failed decryption.
    Malformed,
    /// The peer's bytes are well-formed but break a rule: a false signature, an unknown channel, too much data.
    Misbehaved,
    /// Nobody is wrong, but the two do not fit: another network, another block protocol, another identity at the address.
    Incompatible,
    /// This side, or the network between: no socket, no name, a reset or silent connection, a request to close.
    Local,
}

impl Blame {
    /// Whether the peer proved itself harmful ([`Blame::Malformed`] or [`Blame::Misbehaved`]).
    pub fn is_peer(self) -> bool {
        matches!(self, Blame::Malformed | Blame::Misbehaved)
    }
}
