//! The curve operations this crate needs, over `k256`: the one place to put another implementation in.
//!
//! Digests are 32 bytes, signatures `r ‖ s` (64 bytes) or `r ‖ s ‖ v` (65 bytes, `v` = 0 or 1), points `X ‖ Y` (64 bytes)
//! or compressed (33 bytes). Nothing here panics on input.

use k256::{
    Sec1Point,
    ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey, signature::hazmat::PrehashVerifier},
};

/// Length of an uncompressed point without its prefix byte.
pub(crate) const POINT_LENGTH: usize = 64;

/// A secret scalar, ready to sign. Wiped when dropped.
#[derive(Clone)]
pub(crate) struct Signer(SigningKey);

impl Signer {
    /// `None` if the scalar is zero or not below the order of the group.
    pub(crate) fn new(scalar: &[u8; 32]) -> Option<Self> {
        SigningKey::from_slice(scalar).ok().map(Self)
    }

    /// The point of this scalar.
    pub(crate) fn point(&self) -> Option<[u8; POINT_LENGTH]> {
        to_bytes(self.0.verifying_key())
    }

    /// Deterministic (RFC 6979), low `s`.
    pub(crate) fn sign(&self, digest: &[u8; 32]) -> [u8; 65] {
        let (signature, recovery) = self.0.sign_prehash_recoverable(digest);
        let mut bytes = [0; 65];
        let (r_s, v) = bytes.split_at_mut(64);
        r_s.copy_from_slice(&signature.to_bytes());
        v.fill(recovery.to_byte());
        bytes
    }
}

/// The point whose signature this is, if there is one. High `s` is accepted, as go-ethereum does in packets.
pub(crate) fn recover(digest: &[u8; 32], signature: &[u8; 65]) -> Option<[u8; POINT_LENGTH]> {
    let (r_s, v) = signature.split_first_chunk::<64>()?;
    // Ids 2 and 3 exist on paper (r beyond the order, chance 2^-127); Ethereum defines 0 and 1 only.
    let recovery = RecoveryId::from_byte(*v.first()?).filter(|id| !id.is_x_reduced())?;
    let signature = Signature::from_slice(r_s).ok()?;
    to_bytes(&VerifyingKey::recover_from_prehash(digest, &signature, recovery).ok()?)
}

/// Whether `signature` is of this point over `digest`. High `s` is refused: it is a second form of the same signature.
pub(crate) fn verify(point: &[u8; POINT_LENGTH], digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    let (Some(key), Ok(signature)) = (checked(point), Signature::from_slice(signature)) else { return false };
    key.verify_prehash(digest, &signature).is_ok()
}

/// Whether both coordinates are below the field's prime and on the curve.
pub(crate) fn is_on_curve(point: &[u8; POINT_LENGTH]) -> bool {
    checked(point).is_some()
}

/// The point behind its 33-byte form.
pub(crate) fn decompress(compressed: &[u8; 33]) -> Option<[u8; POINT_LENGTH]> {
    // SEC 1 also has the prefixes 4 to 7; a record has 2 and 3.
    if !matches!(compressed.first(), Some(2 | 3)) {
        return None;
    }
    to_bytes(&VerifyingKey::from_sec1_bytes(compressed).ok()?)
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

fn checked(point: &[u8; POINT_LENGTH]) -> Option<VerifyingKey> {
    VerifyingKey::from_sec1_point(&Sec1Point::from_untagged_bytes(point.into())).ok()
}

fn to_bytes(key: &VerifyingKey) -> Option<[u8; POINT_LENGTH]> {
    // 0x04, X, Y; a verifying key is never the point at infinity.
    key.to_sec1_point(false).as_bytes().get(1..)?.try_into().ok()
}
