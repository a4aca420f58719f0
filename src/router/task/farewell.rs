//! What an Ethereum peer is told when we hang up (devp2p `rlpx.md`, "Disconnect"; go-ethereum `p2p/server.go`).

use kadwire_wire::rlpx::disconnect::DisconnectReason;

use crate::peers::{Because, WhyNot};

/// Why the policy ends a peer's connection.
pub(super) fn of_peer(because: Because, stopping: bool) -> DisconnectReason {
    match because {
        Because::Evicted | Because::Crowded => DisconnectReason::TooManyPeers,
        Because::Replaced => DisconnectReason::AlreadyConnected,
        Because::Misbehaved => DisconnectReason::Protocol,
        Because::Requested if stopping => DisconnectReason::Quitting,
        Because::Requested => DisconnectReason::Requested,
    }
}

/// Why it does not take one up.
pub(super) fn of_refused(why: WhyNot) -> DisconnectReason {
    match why {
        WhyNot::SelfId => DisconnectReason::ToSelf,
        WhyNot::AlreadyConnected | WhyNot::LostCrossing => DisconnectReason::AlreadyConnected,
        WhyNot::Banned | WhyNot::Filtered | WhyNot::FilterTimeout => DisconnectReason::UselessPeer,
        WhyNot::Stale => DisconnectReason::Requested,
        _ => DisconnectReason::TooManyPeers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_told_what_go_ethereum_would_tell_them() {
        assert_eq!(of_peer(Because::Requested, false), DisconnectReason::Requested);
        assert_eq!(of_peer(Because::Requested, true), DisconnectReason::Quitting);
        for (why, reason) in [
            (WhyNot::SelfId, DisconnectReason::ToSelf),
            (WhyNot::AlreadyConnected, DisconnectReason::AlreadyConnected),
            (WhyNot::NoSlots, DisconnectReason::TooManyPeers),
        ] {
            assert_eq!(of_refused(why), reason);
        }
    }
}
