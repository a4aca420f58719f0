//! Every implementation gives what is published, and all of them the same for any input.
//!
//! With the feature `libsecp256k1` there are two to compare. Without it, `k256` is compared with what its high-level types give.

use ::k256::{
    ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey},
    elliptic_curve::{ops::MulVartime, point::AffineCoordinates, sec1::ToSec1Point},
};
use data_encoding::HEXLOWER;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::*;

/// A point and the generator, each multiplied.
type Products = [[u8; 64]; 2];

/// The same functions, of one implementation.
struct Curve {
    name: &'static str,
    point: fn(&[u8; 32]) -> Option<[u8; 64]>,
    agree: fn(&[u8; 32], &[u8; 64]) -> Option<[u8; 32]>,
    multiply: fn(&[u8; 32], &[u8; 64]) -> Option<Products>,
    sign: fn(&[u8; 32], &[u8; 32]) -> Option<[u8; 65]>,
    recover: fn(&[u8; 32], &[u8; 65]) -> Option<[u8; 64]>,
    is_on_curve: fn(&[u8; 64]) -> bool,
}

const CURVES: &[Curve] = &[
    Curve {
        name: "k256",
        point: |key| Some(super::k256::Scalar::new(key)?.point()),
        agree: |key, point| super::k256::Scalar::new(key)?.agree(point).map(|agreed| *agreed),
        multiply: |key, point| {
            let (scalar, point) = (super::k256::Scalar::new(key)?, PublicKey::from_bytes(point).ok()?);
            let products = super::k256::multiply([(&scalar, Some(&point)), (&scalar, None)]);
            Some(products.map(|product| *product.as_bytes()))
        },
        sign: |key, digest| Some(super::k256::Scalar::new(key)?.sign(digest)),
        recover: |digest, signature| super::k256::recover(digest, signature).map(|key| key.0),
        is_on_curve: super::k256::is_on_curve,
    },
    #[cfg(feature = "libsecp256k1")]
    Curve {
        name: "libsecp256k1",
        point: |key| Some(super::libsecp256k1::Scalar::new(key)?.point()),
        agree: |key, point| super::libsecp256k1::Scalar::new(key)?.agree(point).map(|agreed| *agreed),
        multiply: |key, point| {
            let (scalar, point) = (super::libsecp256k1::Scalar::new(key)?, PublicKey::from_bytes(point).ok()?);
            let products = super::libsecp256k1::multiply([(&scalar, Some(&point)), (&scalar, None)]);
            Some(products.map(|product| *product.as_bytes()))
        },
        sign: |key, digest| Some(super::libsecp256k1::Scalar::new(key)?.sign(digest)),
        recover: |digest, signature| super::libsecp256k1::recover(digest, signature).map(|key| key.0),
        is_on_curve: super::libsecp256k1::is_on_curve,
    },
    Curve {
        name: "k256's high-level types",
        point: |key| {
            let key = SigningKey::from_slice(key).ok()?;
            key.verifying_key().to_sec1_point(false).as_bytes()[1..].try_into().ok()
        },
        agree: |key, point| {
            let key = ::k256::SecretKey::from_slice(key).ok()?;
            let point = ::k256::PublicKey::from_sec1_bytes(&[&[4], point.as_slice()].concat()).ok()?;
            // Another algorithm than the one in constant time.
            let product = point.to_projective().mul_vartime(&*key.to_nonzero_scalar());
            Some(product.to_affine().x().into())
        },
        multiply: |key, point| {
            let key = ::k256::SecretKey::from_slice(key).ok()?;
            let point = ::k256::PublicKey::from_sec1_bytes(&[&[4], point.as_slice()].concat()).ok()?;
            let products = [point.to_projective(), ::k256::ProjectivePoint::GENERATOR];
            Some(products.map(|point| {
                let product = point.mul_vartime(&*key.to_nonzero_scalar()).to_affine().to_sec1_point(false);
                product.as_bytes()[1..].try_into().unwrap()
            }))
        },
        sign: |key, digest| {
            let (signature, recovery) = SigningKey::from_slice(key).ok()?.sign_prehash_recoverable(digest);
            [&*signature.to_bytes(), &[recovery.to_byte()]].concat().try_into().ok()
        },
        recover: |digest, signature| {
            let recovery = RecoveryId::from_byte(signature[64]).filter(|id| !id.is_x_reduced())?;
            let signature = Signature::from_slice(&signature[..64]).ok()?;
            let key = VerifyingKey::recover_from_prehash(digest, &signature, recovery).ok()?;
            key.to_sec1_point(false).as_bytes()[1..].try_into().ok()
        },
        is_on_curve: |point| ::k256::PublicKey::from_sec1_bytes(&[&[4], point.as_slice()].concat()).is_ok(),
    },
];

/// What every implementation gives; fails if one gives another thing.
fn agreed<T: PartialEq + std::fmt::Debug>(of: impl Fn(&Curve) -> T) -> T {
    let mut all = CURVES.iter().map(|curve| (curve.name, of(curve)));
    let (first_name, first) = all.next().unwrap();
    for (name, other) in all {
        assert_eq!(first, other, "{first_name} and {name}");
    }
    first
}

fn hex<const N: usize>(text: &str) -> [u8; N] {
    HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
}

/// n, the order of the group, less one, and p, the field's prime.
const ORDER_LESS_ONE: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140";
const PRIME: &str = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f";
const GENERATOR: &str = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798\
                         483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";

/// The keys and what follows from them in go-ethereum's `p2p/rlpx/rlpx_test.go` and EIP-8.
#[test]
fn the_published_values() {
    let a = hex("49a7b37aa6f6645917e7b807e9d1c00d4fa71f18343b0d4122a4d2df64dd6fee");
    let b = hex("b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291");
    let ephemeral = hex("869d6ecf5211f1cc60418a13b9d870b22959d0c16f02bec714c960dd2298a32d");
    let point = |key| agreed(|curve| (curve.point)(key)).unwrap();
    assert_eq!(
        HEXLOWER.encode(&point(&a)),
        "fda1cff674c90c9a197539fe3dfb53086ace64f83ed7c6eabec741f7f381cc80\
         3e52ab2cd55d5569bce4347107a310dfd5f88a010cd2ffd1005ca406f1842877"
    );
    let shared = hex("2d21423c1dc3355da36e7f2c2b530eeffcf0680f93201a958b2ec3a7d04958e6");
    assert_eq!(agreed(|curve| (curve.agree)(&a, &point(&b))), Some(shared));
    assert_eq!(agreed(|curve| (curve.agree)(&b, &point(&a))), Some(shared));

    let nonce: [u8; 32] = hex("7e968bba13b6c50e2c4cd7f241cc0d64d1ac25c7f5952df231ac6a2bda8ee5d6");
    let mut token = shared;
    token.iter_mut().zip(nonce).for_each(|(byte, nonce)| *byte ^= nonce);
    // Published, and ours: they differ, for the published one was not made with RFC 6979's nonce.
    let published = hex("299ca6acfd35e3d72d8ba3d1e2b60b5561d5af5218eb5bc182045769eb422691\
         0a301acae3b369fffc4a4899d6b02531e89fd4fe36a2cf0d93607ba470b50f7800");
    for signature in [published, agreed(|curve| (curve.sign)(&ephemeral, &token)).unwrap()] {
        assert_eq!(agreed(|curve| (curve.recover)(&token, &signature)), Some(point(&ephemeral)));
    }
}

#[test]
fn the_edges_of_the_field_and_the_group() {
    let less_one = hex(ORDER_LESS_ONE);
    let generator = hex(GENERATOR);
    let one = {
        let mut one = [0; 32];
        one[31] = 1;
        one
    };
    assert_eq!(agreed(|curve| (curve.point)(&one)), Some(generator));
    // n - 1 times the generator is its mirror image: the same X.
    assert_eq!(agreed(|curve| (curve.agree)(&less_one, &generator)), Some(*generator.first_chunk().unwrap()));
    let mut order = less_one;
    order[31] += 1;
    for no_scalar in [[0; 32], order, [0xff; 32]] {
        assert_eq!(agreed(|curve| (curve.point)(&no_scalar)), None);
    }

    // X or Y at the prime and beyond, a Y that is another point's, the "point" that stands for infinity elsewhere.
    let mut others = vec![[0; 64], [0xff; 64]];
    for at in [0, 32] {
        let mut beyond = generator;
        beyond[at..at + 32].copy_from_slice(&hex::<32>(PRIME));
        others.push(beyond);
    }
    for byte in 0..64 {
        let mut off = generator;
        off[byte] ^= 1;
        others.push(off);
    }
    for point in others {
        assert!(!agreed(|curve| (curve.is_on_curve)(&point)));
        assert_eq!(agreed(|curve| (curve.agree)(&one, &point)), None);
        assert_eq!(PublicKey::from_bytes(&point), Err(KeyError::NotOnCurve));
    }
    assert_eq!(PublicKey::from_bytes(&generator).unwrap().as_bytes(), &generator);
}

#[test]
fn a_signature_without_a_key_recovers_nothing() {
    let digest = [7; 32];
    let signature = agreed(|curve| (curve.sign)(&[1; 32], &digest)).unwrap();
    for v in 2..=255 {
        let mut other = signature;
        other[64] = v;
        assert_eq!(agreed(|curve| (curve.recover)(&digest, &other)), None, "recovery id {v}");
    }
    assert_eq!(agreed(|curve| (curve.recover)(&digest, &[0; 65])), None);
    assert_eq!(agreed(|curve| (curve.recover)(&digest, &[0xff; 65])), None);
    // s R = z G, so that the key would be the point at infinity: R = G, s = z = r.
    let r: [u8; 32] = *hex::<64>(GENERATOR).first_chunk().unwrap();
    let infinity = [&r[..], &r, &[0]].concat().try_into().unwrap();
    assert_eq!(agreed(|curve| (curve.recover)(&r, &infinity)), None);
    assert!(agreed(|curve| (curve.recover)(&[9; 32], &infinity)).is_some());
}

#[test]
fn keys_are_drawn_and_never_printed() {
    let mut rng = StdRng::seed_from_u64(1);
    let [one, other] = [SecretKey::random(&mut rng), SecretKey::random(&mut rng)];
    assert_ne!(one.public(), other.public());
    let again = SecretKey::from_bytes(&[5; 32]).unwrap();
    assert!(!format!("{again:?}").contains("0505"));
    assert_eq!(SecretKey::from_bytes(&[0; 32]).unwrap_err(), KeyError::InvalidScalar);
    assert_eq!(KeyError::InvalidScalar.blame(), Blame::Local);
    assert_eq!(PeerId::from(*again.public()), PeerId::Ethereum(*again.public().as_bytes()));
}

#[test]
fn several_products_are_the_same_as_one_after_the_other() {
    let [one, other] = [[1; 32], [2; 32]].map(|key| SecretKey::from_bytes(&key).unwrap());
    let (scalar, key) = (one.scalar(), other.public());
    let [by_key, by_generator] = multiply([(scalar, Some(key)), (scalar, None)]);
    assert_eq!((Some(by_key.x()), by_generator.as_bytes()), (scalar.agree(key.as_bytes()), one.public().as_bytes()));
    let [back] = multiply([(other.scalar(), Some(one.public()))]);
    assert_eq!(by_key.as_bytes(), back.as_bytes());
}

proptest! {
    #[test]
    fn all_give_the_same(key: [u8; 32], other: [u8; 32], digest: [u8; 32], noise: [u8; 32], v in 0..3_u8) {
        if let Some(point) = agreed(|curve| (curve.point)(&other)) {
            agreed(|curve| (curve.agree)(&key, &point));
            agreed(|curve| (curve.multiply)(&key, &point));
        }
        if let Some(signature) = agreed(|curve| (curve.sign)(&key, &digest)) {
            assert_eq!(agreed(|curve| (curve.recover)(&digest, &signature)), agreed(|curve| (curve.point)(&key)));
        }
        let forged = [&noise[..], &other, &[v]].concat().try_into().unwrap();
        agreed(|curve| (curve.recover)(&digest, &forged));
        let point = [&noise[..], &other].concat().try_into().unwrap();
        agreed(|curve| ((curve.is_on_curve)(&point), (curve.agree)(&key, &point)));
    }
}
