//! The curve operations this crate needs, and the one place to put another implementation in: `k256`, or libsecp256k1
//! behind the feature of that name. Their functions are the same ones, and the tests hold them to the same results.
//!
//! Digests are 32 bytes, signatures `r ‖ s` (64 bytes) or `r ‖ s ‖ v` (65 bytes, `v` = 0 or 1), points `X ‖ Y` (64 bytes)
//! or compressed (33 bytes). Nothing here panics on input.

#[cfg(any(test, not(feature = "libsecp256k1")))]
mod k256;
#[cfg(feature = "libsecp256k1")]
mod libsecp256k1;
#[cfg(test)]
mod tests;

#[cfg(not(feature = "libsecp256k1"))]
use self::k256 as curve;
#[cfg(feature = "libsecp256k1")]
use self::libsecp256k1 as curve;

pub(crate) use curve::{Signer, decompress, is_on_curve, signers, verify};

/// Length of an uncompressed point without its prefix byte.
pub(crate) const POINT_LENGTH: usize = 64;

/// A signature whose signer is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) digest: [u8; 32],
    /// `r ‖ s ‖ v`. High `s` is accepted, as go-ethereum does in packets.
    pub(crate) signature: [u8; 65],
    /// Whose it is, most likely: to check that, which takes no `v`, costs less than to find the signer.
    pub(crate) likely: Option<[u8; POINT_LENGTH]>,
}

/// The 33-byte form: the parity of Y, then X.
pub(crate) fn compress(point: &[u8; POINT_LENGTH]) -> [u8; 33] {
    let (x, y) = point.split_at(32);
    let mut compressed = [2; 33];
    if let ([prefix, rest @ ..], Some(last)) = (&mut compressed, y.last()) {
        *prefix |= last & 1;
        rest.copy_from_slice(x);
    }
    compressed
}

/// `v` as the parity of R's Y. Ids 2 and 3 exist on paper (r beyond the order, chance 2^-127); Ethereum defines 0 and 1 only.
fn parity(v: &[u8]) -> Option<bool> {
    match v {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}
