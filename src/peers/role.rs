//! What a peer is to the operator.

use kadwire_wire::address::PeerId;

use super::PeerManager;

/// Whether the operator named a peer, and as what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// It is to stay connected (CometBFT: persistent; go-ethereum: static).
    pub persistent: bool,
    /// It is let in whatever the limits (CometBFT: unconditional; go-ethereum: trusted).
    pub unconditional: bool,
}

impl PeerManager {
    /// What a peer is to the operator now.
    pub fn role(&self, id: &PeerId) -> Role {
        Role { persistent: self.dialer.is_persistent(id), unconditional: self.unconditional.contains(id) }
    }
}
