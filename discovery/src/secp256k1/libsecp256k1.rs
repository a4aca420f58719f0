//! The operations over libsecp256k1, through the crate `secp256k1`: C.
//!
//! The crate's global context is not used: from 0.33 on it draws new randomness for each signature, which costs as much as
//! the signature.

use std::sync::LazyLock;

use secp256k1::{
    Message, PublicKey, Secp256k1, SecretKey, SignOnly, VerifyOnly,
    ecdsa::{RecoverableSignature, RecoveryId, Signature},
};
use zeroize::Zeroizing;

use super::{Claim, POINT_LENGTH, parity};
use crate::keccak256::keccak256;

/// For what is public. Its tables are constants of the library: it costs nothing to make, and nothing in it changes.
static CONTEXT: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// A secret scalar, ready to sign. Wiped when dropped, as far as the crate can: it keeps no other copy, but the compiler may
/// have put some on the stack.
#[derive(Clone)]
pub(crate) struct Signer {
    key: SecretKey,
    context: Secp256k1<SignOnly>,
}

impl Signer {
    /// `None` if the scalar is zero or not below the order of the group.
    pub(crate) fn new(scalar: &[u8; 32]) -> Option<Self> {
        let key = SecretKey::from_byte_array(*scalar).ok()?;
        // Signing is done in constant time; blinding hides it from those who measure the current too. All they must not
        // know is the seed.
        let seed = Zeroizing::new(keccak256(&[b"kadwire: blinding", scalar]));
        let mut context = Secp256k1::signing_only();
        context.seeded_randomize(&seed);
        Some(Self { key, context })
    }

    /// The point of this scalar.
    pub(crate) fn point(&self) -> Option<[u8; POINT_LENGTH]> {
        to_bytes(&PublicKey::from_secret_key(&self.context, &self.key))
    }

    /// Deterministic (RFC 6979), low `s`.
    pub(crate) fn sign(&self, digest: &[u8; 32]) -> [u8; 65] {
        let message = Message::from_digest(*digest);
        let (recovery, signature) = self.context.sign_ecdsa_recoverable(message, &self.key).serialize_compact();
        let mut bytes = [0; 65];
        let (r_s, v) = bytes.split_at_mut(64);
        r_s.copy_from_slice(&signature);
        v.fill(match recovery {
            RecoveryId::Zero => 0,
            RecoveryId::One => 1,
            RecoveryId::Two => 2,
            RecoveryId::Three => 3,
        });
        bytes
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.key.non_secure_erase();
    }
}

/// The points whose signatures these are, as far as there are any, in the same order.
pub(crate) fn signers(claims: &[Claim]) -> Vec<Option<[u8; POINT_LENGTH]>> {
    let signer = |claim: &Claim| claim.likely.filter(|point| has_signed(point, claim)).or_else(|| recover(claim));
    claims.iter().map(signer).collect()
}

fn recover(claim: &Claim) -> Option<[u8; POINT_LENGTH]> {
    let (r_s, v) = claim.signature.split_first_chunk::<64>()?;
    let recovery = if parity(v)? { RecoveryId::One } else { RecoveryId::Zero };
    let signature = RecoverableSignature::from_compact(r_s, recovery).ok()?;
    to_bytes(&CONTEXT.recover_ecdsa(Message::from_digest(claim.digest), &signature).ok()?)
}

fn has_signed(point: &[u8; POINT_LENGTH], claim: &Claim) -> bool {
    let signature = claim.signature.first_chunk::<64>().map(|r_s| Signature::from_compact(r_s));
    let (Some(key), Some(Ok(mut signature))) = (checked(point), signature) else { return false };
    signature.normalize_s();
    CONTEXT.verify_ecdsa(Message::from_digest(claim.digest), &signature, &key).is_ok()
}

/// Whether `signature` is of this point over `digest`. High `s` is refused: it is a second form of the same signature.
pub(crate) fn verify(point: &[u8; POINT_LENGTH], digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    let (Some(key), Ok(signature)) = (checked(point), Signature::from_compact(signature)) else { return false };
    CONTEXT.verify_ecdsa(Message::from_digest(*digest), &signature, &key).is_ok()
}

/// Whether both coordinates are below the field's prime and on the curve.
pub(crate) fn is_on_curve(point: &[u8; POINT_LENGTH]) -> bool {
    checked(point).is_some()
}

/// The point behind its 33-byte form.
pub(crate) fn decompress(compressed: &[u8; 33]) -> Option<[u8; POINT_LENGTH]> {
    to_bytes(&PublicKey::from_byte_array_compressed(*compressed).ok()?)
}

fn checked(point: &[u8; POINT_LENGTH]) -> Option<PublicKey> {
    let mut bytes = [4; 65];
    bytes.split_at_mut(1).1.copy_from_slice(point);
    PublicKey::from_byte_array_uncompressed(bytes).ok()
}

fn to_bytes(key: &PublicKey) -> Option<[u8; POINT_LENGTH]> {
    // 0x04, X, Y
    key.serialize_uncompressed().get(1..)?.try_into().ok()
}
