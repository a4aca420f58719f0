//! The one hash of Ethereum's discovery: of packets, of records, and of keys.

use sha3::{Digest, Keccak256};

/// keccak256 of the concatenation of `parts`.
pub(crate) fn keccak256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Keccak256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}
