//! The operations over libsecp256k1, through the crate `secp256k1`: C.
//!
//! The crate's global context is not used: from 0.33 on it draws new randomness for each signature, which costs as much as
//! the signature.

use std::sync::LazyLock;

use secp256k1::{
    All, Message, PublicKey, Secp256k1, SecretKey,
    ecdh::shared_secret_point,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use zeroize::Zeroizing;

use super::{Agreed, POINT_LENGTH, Product, SIGNATURE_LENGTH, parity};

/// Its tables are constants of the library: it costs nothing to make, and nothing in it changes. It is not blinded, as
/// go-ethereum's is not: most scalars here live for one handshake, and to blind a context costs as much as to use it.
/// What depends on a secret is done in constant time without that.
static CONTEXT: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// A secret scalar, static or of one handshake. Wiped when dropped, as far as the crate can: it keeps no other copy, but the
/// compiler may have put some on the stack.
#[derive(Clone)]
pub(in crate::rlpx) struct Scalar(SecretKey);

impl Scalar {
    /// `None` if the scalar is zero or not below the order of the group.
    pub(in crate::rlpx) fn new(scalar: &[u8; 32]) -> Option<Self> {
        SecretKey::from_byte_array(*scalar).ok().map(Self)
    }

    /// The public half: the generator, multiplied.
    pub(in crate::rlpx) fn point(&self) -> [u8; POINT_LENGTH] {
        to_bytes(&PublicKey::from_secret_key(&CONTEXT, &self.0))
    }

    /// X of `point`, multiplied. `None` if it is not a point of the curve.
    pub(in crate::rlpx) fn agree(&self, point: &[u8; POINT_LENGTH]) -> Option<Agreed> {
        let product = Zeroizing::new(shared_secret_point(&checked(point)?, &self.0));
        let (x, _) = product.split_first_chunk::<32>()?;
        Some(Zeroizing::new(*x))
    }

    /// Deterministic (RFC 6979), low `s`.
    pub(in crate::rlpx) fn sign(&self, digest: &[u8; 32]) -> [u8; SIGNATURE_LENGTH] {
        let message = Message::from_digest(*digest);
        let (recovery, signature) = CONTEXT.sign_ecdsa_recoverable(message, &self.0).serialize_compact();
        let mut bytes = [0; SIGNATURE_LENGTH];
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

/// Multiples of keys, or of the generator where there is none.
#[expect(clippy::unwrap_used, reason = "a PublicKey is a point of the curve")]
pub(in crate::rlpx) fn multiply<const N: usize>(terms: [(&Scalar, Option<&super::PublicKey>); N]) -> [Product; N] {
    terms.map(|(scalar, key)| {
        let product = key.map(|key| shared_secret_point(&checked(key.as_bytes()).unwrap(), &scalar.0));
        Product(Zeroizing::new(product.unwrap_or_else(|| scalar.point())))
    })
}

impl Drop for Scalar {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

/// The point whose signature this is, if there is one. High `s` is accepted, as go-ethereum does.
pub(in crate::rlpx) fn recover(digest: &[u8; 32], signature: &[u8; SIGNATURE_LENGTH]) -> Option<super::PublicKey> {
    let (r_s, v) = signature.split_first_chunk::<64>()?;
    let recovery = if parity(v)? { RecoveryId::One } else { RecoveryId::Zero };
    let signature = RecoverableSignature::from_compact(r_s, recovery).ok()?;
    let key = CONTEXT.recover_ecdsa(Message::from_digest(*digest), &signature).ok()?;
    Some(super::PublicKey(to_bytes(&key)))
}

/// Whether both coordinates are below the field's prime and on the curve.
pub(super) fn is_on_curve(point: &[u8; POINT_LENGTH]) -> bool {
    checked(point).is_some()
}

fn checked(point: &[u8; POINT_LENGTH]) -> Option<PublicKey> {
    let mut bytes = [4; 65];
    bytes.split_at_mut(1).1.copy_from_slice(point);
    PublicKey::from_byte_array_uncompressed(bytes).ok()
}

fn to_bytes(key: &PublicKey) -> [u8; POINT_LENGTH] {
    let [_, point @ ..] = key.serialize_uncompressed();
    point
}
