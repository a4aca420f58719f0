//! The operations over `k256`: Rust alone.
//!
//! Signing is the library's. Recovery is SEC 1's formula over the library's points and scalars: what goes into it is public,
//! so it may take the ways whose time depends on the values, and multiply the generator by table.

use std::sync::LazyLock;

use k256::{
    AffinePoint, FieldBytes, ProjectivePoint, Scalar, Sec1Point,
    ecdsa::{Signature, SigningKey, VerifyingKey, signature::hazmat::PrehashVerifier},
    elliptic_curve::{
        BatchNormalize,
        ops::{MulVartime, Reduce},
        point::{AffineCoordinates, DecompressPoint},
        sec1::ToSec1Point,
    },
};

use super::{Claim, POINT_LENGTH, parity};

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
        to_bytes(self.0.verifying_key().as_affine())
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

/// The points whose signatures these are, as far as there are any, in the same order.
///
/// Each needs an inverse of a scalar and one of a coordinate, which takes as long as a tenth of the whole; all of them
/// together need one of each.
pub(crate) fn signers(claims: &[Claim]) -> Vec<Option<[u8; POINT_LENGTH]>> {
    let sums: Vec<_> = claims.iter().map(Sum::new).collect();
    let mut divisors: Vec<_> = sums.iter().flatten().map(|sum| sum.divisor).collect();
    invert_all(&mut divisors);
    let points: Vec<_> = sums.iter().flatten().zip(&divisors).map(|(sum, inverse)| sum.point(inverse)).collect();
    let mut points = ProjectivePoint::batch_normalize_vartime(points.as_slice()).into_iter();
    let signer = |(sum, claim): (Option<Sum>, &Claim)| {
        let (sum, point) = (sum?, points.next()?);
        match sum.likely {
            None => to_bytes(&point),
            // The point at infinity has x = 0 here, and r is not 0.
            Some(likely) if Scalar::reduce(&point.x()) == sum.r => Some(likely),
            Some(_) => signers(&[Claim { likely: None, ..*claim }]).pop()?,
        }
    };
    sums.into_iter().zip(claims).map(signer).collect()
}

/// `(of_point · point + of_generator · G) / divisor`.
struct Sum {
    point: ProjectivePoint,
    of_point: Scalar,
    of_generator: Scalar,
    divisor: Scalar,
    r: Scalar,
    /// Whose point it is; `None` if the sum is the signer's, and otherwise it is R.
    likely: Option<[u8; POINT_LENGTH]>,
}

#[expect(clippy::arithmetic_side_effects, reason = "modulo the order of the group")]
impl Sum {
    /// `None` if nobody can have made this signature.
    fn new(claim: &Claim) -> Option<Self> {
        let (r_s, v) = claim.signature.split_first_chunk::<64>()?;
        let (r, s) = Signature::from_slice(r_s).ok()?.split_scalars();
        let z = Scalar::reduce(&FieldBytes::from(claim.digest));
        Some(match claim.likely.as_ref().and_then(checked) {
            // R = (r Q + z G) / s (SEC 1, 4.1.4)
            Some(key) => Self {
                point: ProjectivePoint::from(*key.as_affine()),
                of_point: *r,
                of_generator: z,
                divisor: *s,
                r: *r,
                likely: claim.likely,
            },
            // Q = (s R - z G) / r (SEC 1, 4.1.6)
            None => {
                let is_y_odd = u8::from(parity(v)?);
                let point = AffinePoint::decompress(&r.to_bytes(), is_y_odd.into()).into_option()?;
                Self { point: point.into(), of_point: *s, of_generator: -z, divisor: *r, r: *r, likely: None }
            }
        })
    }

    fn point(&self, inverse: &Scalar) -> ProjectivePoint {
        let of_point = self.point.mul_vartime(&(self.of_point * inverse));
        MULTIPLES.add(of_point, &(self.of_generator * inverse))
    }
}

/// Inverts scalars, none of them 0, with one inversion (Montgomery's trick): from the inverse of the product of all, the last factor's is had
/// by multiplying with the product of those before it, and so on down.
#[expect(clippy::arithmetic_side_effects, reason = "modulo the order of the group")]
fn invert_all(scalars: &mut [Scalar]) {
    let mut product = Scalar::ONE;
    let mut before = Vec::with_capacity(scalars.len());
    for scalar in &*scalars {
        before.push(product);
        product *= scalar;
    }
    let mut inverse = product.invert_vartime().unwrap_or(Scalar::ZERO);
    for (scalar, before) in scalars.iter_mut().zip(before).rev() {
        let of_those_before = inverse * *scalar;
        *scalar = inverse * before;
        inverse = of_those_before;
    }
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
    to_bytes(VerifyingKey::from_sec1_bytes(compressed).ok()?.as_affine())
}

fn checked(point: &[u8; POINT_LENGTH]) -> Option<VerifyingKey> {
    VerifyingKey::from_sec1_point(&Sec1Point::from_untagged_bytes(point.into())).ok()
}

/// `None` for the point at infinity, which has no coordinates.
fn to_bytes(point: &AffinePoint) -> Option<[u8; POINT_LENGTH]> {
    // 0x04, X, Y
    point.to_sec1_point(false).as_bytes().get(1..)?.try_into().ok()
}

/// Multiples of the generator for every byte of a scalar: `d · 256^i · G` for d from 1 to 255 and i from 0 to 31. 0.7 MB, made
/// in 5 ms at the first recovery. Never for secrets: which of them are read shows in the cache.
static MULTIPLES: LazyLock<Multiples> = LazyLock::new(Multiples::new);

/// Digits of a byte that have a point: 0 adds nothing.
const DIGITS: usize = 255;

struct Multiples(Vec<AffinePoint>);

#[expect(clippy::arithmetic_side_effects, reason = "sums of points")]
impl Multiples {
    fn new() -> Self {
        let mut points = Vec::with_capacity(32_usize.saturating_mul(DIGITS));
        let mut unit = ProjectivePoint::GENERATOR;
        for _ in 0..32 {
            let unit_of_byte = unit;
            for _ in 0..DIGITS {
                points.push(unit);
                unit += unit_of_byte;
            }
        }
        Self(ProjectivePoint::batch_normalize_vartime(points.as_slice()))
    }

    /// `sum + scalar · G`.
    fn add(&self, mut sum: ProjectivePoint, scalar: &Scalar) -> ProjectivePoint {
        for (multiples, digit) in self.0.chunks(DIGITS).zip(scalar.to_bytes().iter().rev()) {
            if let Some(multiple) = usize::from(*digit).checked_sub(1).and_then(|place| multiples.get(place)) {
                sum += multiple;
            }
        }
        sum
    }
}
