//! Who a peer is. Its text and its bytes say of which wire.

use std::{fmt, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::AddressError;

/// The identity of a peer, as its handshake proves it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerId {
    /// An Ethereum node: the 64 bytes X‖Y of its secp256k1 public key.
    Ethereum([u8; 64]),
    /// A Tendermint node: the first 20 bytes of SHA-256 of its ed25519 public key.
    Tendermint([u8; 20]),
}

impl PeerId {
    /// The 20-byte node id, if this is a Tendermint peer.
    pub fn tendermint(&self) -> Option<[u8; 20]> {
        match self {
            PeerId::Tendermint(id) => Some(*id),
            PeerId::Ethereum(_) => None,
        }
    }

    /// The 64 bytes of the public key, if this is an Ethereum peer.
    pub fn ethereum(&self) -> Option<[u8; 64]> {
        match self {
            PeerId::Ethereum(key) => Some(*key),
            PeerId::Tendermint(_) => None,
        }
    }

    /// The identity's bytes: 20 for Tendermint, 64 for Ethereum.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            PeerId::Ethereum(key) => key,
            PeerId::Tendermint(id) => id,
        }
    }
}

impl From<[u8; 20]> for PeerId {
    fn from(id: [u8; 20]) -> Self {
        PeerId::Tendermint(id)
    }
}

impl From<[u8; 64]> for PeerId {
    fn from(key: [u8; 64]) -> Self {
        PeerId::Ethereum(key)
    }
}

/// Lower-case hex: 40 characters for Tendermint, 128 for Ethereum.
impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(self.as_bytes()))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The length tells which: 40 hex characters are a Tendermint id, 128 an Ethereum key. Upper case is accepted.
impl FromStr for PeerId {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.len() {
            40 => parse_hex(text).map(PeerId::Tendermint),
            128 => parse_hex(text).map(PeerId::Ethereum),
            _ => Err(AddressError::BadId),
        }
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

pub(super) fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], AddressError> {
    // The length first: nothing is allocated for what cannot be an id.
    if text.len() != N.saturating_mul(2) {
        return Err(AddressError::BadId);
    }
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| AddressError::BadId)?;
    bytes.try_into().map_err(|_| AddressError::BadId)
}
