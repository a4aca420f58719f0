//! The curve secp256k1 as RLPx needs it: keys, key agreement, signatures; and the one place to put another implementation in:
//! `k256`, or libsecp256k1 behind the feature of that name. Their functions are the same ones, and the tests hold them to the
//! same results. `kadwire-discovery` has a seam of its own: the two crates do not know each other.
//!
//! Points are 64 bytes `X ‖ Y`, digests 32 bytes, signatures 65 bytes `r ‖ s ‖ v` (`v` = 0 or 1). Nothing here panics on input,
//! and what depends on a secret takes the same time whatever the secret is.

#[cfg(any(test, not(feature = "libsecp256k1")))]
mod k256;
#[cfg(feature = "libsecp256k1")]
mod libsecp256k1;

use std::fmt;

use rand::CryptoRng;
use zeroize::Zeroizing;

#[cfg(not(feature = "libsecp256k1"))]
use self::k256 as implementation;
#[cfg(feature = "libsecp256k1")]
use self::libsecp256k1 as implementation;
use crate::{Blame, PeerId};

pub(super) use implementation::{Scalar, multiply, recover};

/// Length of a point without its prefix byte, in bytes.
pub(super) const POINT_LENGTH: usize = 64;

/// Length of `r ‖ s ‖ v`, in bytes.
pub(super) const SIGNATURE_LENGTH: usize = 65;

/// The X coordinate of a product: known to the owners of both keys, and to nobody else.
pub(super) type Agreed = Zeroizing<[u8; 32]>;

/// A point that only the owners of both keys know, or that of a key: `X ‖ Y`.
pub(super) struct Product(Zeroizing<[u8; POINT_LENGTH]>);

impl Product {
    pub(super) fn as_bytes(&self) -> &[u8; POINT_LENGTH] {
        &self.0
    }

    /// What the two agree on.
    pub(super) fn x(&self) -> Agreed {
        Zeroizing::new(self.0.first_chunk().copied().unwrap_or_default())
    }
}

/// A node's static key. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct SecretKey {
    scalar: Scalar,
    public: PublicKey,
}

impl SecretKey {
    /// The key of a scalar: 32 bytes, big-endian, neither zero nor beyond the order of the group.
    pub fn from_bytes(scalar: &[u8; 32]) -> Result<Self, KeyError> {
        Scalar::new(scalar).map(Self::new).ok_or(KeyError::InvalidScalar)
    }

    /// A new key.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self::new(Scalar::random(rng))
    }

    fn new(scalar: Scalar) -> Self {
        SecretKey { public: PublicKey(scalar.point()), scalar }
    }

    /// The public half, by which peers know this node.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn scalar(&self) -> &Scalar {
        &self.scalar
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {:?})", self.public)
    }
}

/// A node's public key: `X ‖ Y`, always a point of the curve.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; POINT_LENGTH]);

impl PublicKey {
    /// Checks that `X ‖ Y` are below the field's prime and on the curve.
    pub fn from_bytes(point: &[u8; POINT_LENGTH]) -> Result<Self, KeyError> {
        if implementation::is_on_curve(point) { Ok(PublicKey(*point)) } else { Err(KeyError::NotOnCurve) }
    }

    /// `X ‖ Y`.
    pub fn as_bytes(&self) -> &[u8; POINT_LENGTH] {
        &self.0
    }
}

impl From<PublicKey> for PeerId {
    fn from(key: PublicKey) -> Self {
        PeerId::Ethereum(key.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", PeerId::from(*self))
    }
}

/// Why bytes are not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The scalar is zero or not below the order of the group.
    #[error("invalid secret key: zero or beyond the order of secp256k1")]
    InvalidScalar,
    /// A coordinate is not below the field's prime, or the point is not on the curve.
    #[error("invalid public key: not a point of secp256k1")]
    NotOnCurve,
}

impl KeyError {
    /// A secret key is always our own; a public one is somebody's claim.
    pub fn blame(&self) -> Blame {
        match self {
            KeyError::InvalidScalar => Blame::Local,
            KeyError::NotOnCurve => Blame::Malformed,
        }
    }
}

impl Scalar {
    /// Uniform among the secret keys.
    pub(super) fn random(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            rng.fill_bytes(bytes.as_mut());
            if let Some(scalar) = Self::new(&bytes) {
                return scalar; // all but one in 2^127 draws
            }
        }
    }
}

/// `v` as the parity of R's Y. Ids 2 and 3 exist on paper (r beyond the order, chance 2^-127); Ethereum defines 0 and 1 only.
fn parity(v: &[u8]) -> Option<bool> {
    match v {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
