//! The operations over `k256`: Rust alone.

use ecdsa::hazmat::sign_prehashed_rfc6979;
use k256::{
    AffinePoint, FieldBytes, NonZeroScalar, ProjectivePoint, Secp256k1,
    ecdsa::Signature,
    elliptic_curve::{
        BatchNormalize,
        ops::{MulVartime, Reduce},
        point::{AffineCoordinates, DecompressPoint},
    },
};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::{Agreed, POINT_LENGTH, Product, PublicKey, SIGNATURE_LENGTH, parity};

/// A secret scalar, static or of one handshake. Wiped when dropped.
#[derive(Clone)]
pub(in crate::rlpx) struct Scalar(NonZeroScalar);

impl Scalar {
    /// `None` if the scalar is zero or not below the order of the group.
    pub(in crate::rlpx) fn new(scalar: &[u8; 32]) -> Option<Self> {
        NonZeroScalar::from_repr(FieldBytes::from(*scalar)).into_option().map(Self)
    }

    /// The public half: the generator, multiplied.
    pub(in crate::rlpx) fn point(&self) -> [u8; POINT_LENGTH] {
        to_bytes(&ProjectivePoint::mul_by_generator(&self.0).to_affine())
    }

    /// X of `point`, multiplied. `None` if it is not a point of the curve.
    #[expect(clippy::arithmetic_side_effects, reason = "a multiple of a point")]
    pub(in crate::rlpx) fn agree(&self, point: &[u8; POINT_LENGTH]) -> Option<Agreed> {
        let product = ProjectivePoint::from(checked(point)?) * *self.0;
        Some(Zeroizing::new(product.to_affine().x().into()))
    }

    /// Deterministic (RFC 6979), low `s`. Unlike `SigningKey`, it does not compute the public key first.
    pub(in crate::rlpx) fn sign(&self, digest: &[u8; 32]) -> [u8; SIGNATURE_LENGTH] {
        let (signature, recovery) = sign_prehashed_rfc6979::<Secp256k1, Sha256>(&self.0, digest, &[]);
        let mut bytes = [0; SIGNATURE_LENGTH];
        let (r_s, v) = bytes.split_at_mut(64);
        r_s.copy_from_slice(&signature.to_bytes());
        v.fill(recovery.to_byte());
        bytes
    }
}

/// Multiples of keys, or of the generator where there is none. All at once: so one inversion, a tenth of a multiplication, does for all.
#[expect(clippy::arithmetic_side_effects, reason = "multiples of points")]
#[expect(clippy::unwrap_used, reason = "a PublicKey is a point of the curve")]
pub(in crate::rlpx) fn multiply<const N: usize>(terms: [(&Scalar, Option<&PublicKey>); N]) -> [Product; N] {
    let products = terms.map(|(scalar, key)| match key {
        Some(key) => ProjectivePoint::from(checked(key.as_bytes()).unwrap()) * *scalar.0,
        None => ProjectivePoint::mul_by_generator(&scalar.0),
    });
    ProjectivePoint::batch_normalize(&products).map(|point| Product(Zeroizing::new(to_bytes(&point))))
}

impl Drop for Scalar {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The point whose signature this is, if there is one. High `s` is accepted, as go-ethereum does.
///
/// All of it is public once the handshake is over, and to the peer before; the time it takes may show it.
#[expect(clippy::arithmetic_side_effects, reason = "modulo the order of the group")]
pub(in crate::rlpx) fn recover(digest: &[u8; 32], signature: &[u8; SIGNATURE_LENGTH]) -> Option<PublicKey> {
    let (r_s, v) = signature.split_first_chunk::<64>()?;
    let is_y_odd = u8::from(parity(v)?);
    let (r, s) = Signature::from_slice(r_s).ok()?.split_scalars();
    // Q = r^-1 (s R - z G) (SEC 1, 4.1.6)
    let point = ProjectivePoint::from(AffinePoint::decompress(&r.to_bytes(), is_y_odd.into()).into_option()?);
    let inverse = r.invert_vartime().into_option()?;
    let z = k256::Scalar::reduce(&FieldBytes::from(*digest));
    let key = point.mul_vartime(&(inverse * *s)) + ProjectivePoint::mul_by_generator_vartime(&-(inverse * z));
    let [key] = ProjectivePoint::batch_normalize_vartime(&[key]);
    (key != AffinePoint::IDENTITY).then(|| PublicKey(to_bytes(&key)))
}

/// Whether both coordinates are below the field's prime and on the curve.
pub(super) fn is_on_curve(point: &[u8; POINT_LENGTH]) -> bool {
    checked(point).is_some()
}

fn checked(point: &[u8; POINT_LENGTH]) -> Option<AffinePoint> {
    let (x, y) = point.split_first_chunk::<32>()?;
    let y: [u8; 32] = y.try_into().ok()?;
    AffinePoint::from_coordinates(&FieldBytes::from(*x), &FieldBytes::from(y)).into_option()
}

/// Not for the point at infinity, which has no coordinates.
fn to_bytes(point: &AffinePoint) -> [u8; POINT_LENGTH] {
    let mut bytes = [0; POINT_LENGTH];
    let (x, y) = bytes.split_at_mut(32);
    x.copy_from_slice(&point.x());
    y.copy_from_slice(&point.y());
    bytes
}
