//! Addresses by number, for the tests of the whole peer policy, and the scheduler's own rules.

use std::net::Ipv4Addr;

use super::*;

/// A Tendermint id that starts with the number, so that ids sort like their numbers.
pub(crate) fn id(n: u32) -> PeerId {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    PeerId::Tendermint(bytes)
}

/// A peer of that id at an address of its own, in a /24 of its own up to 65,536 of them, all in 44/8 to 45/8.
pub(crate) fn address(n: u32) -> PeerAddress {
    let ip = Ipv4Addr::from(0x2c00_0001 + ((n & 0xffff) << 8) + (n >> 16));
    PeerAddress::from_socket(id(n), (ip, 26_656).into()).unwrap()
}

/// A peer of that id at a certain address.
pub(crate) fn peer_at(n: u32, at: &str) -> PeerAddress {
    PeerAddress::from_socket(id(n), at.parse().unwrap()).unwrap()
}
