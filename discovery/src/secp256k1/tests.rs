//! Every implementation gives what is published, and all of them the same for any input.
//!
//! With the feature `libsecp256k1` there are two to compare. Without it there is `k256` and its own recovery, which is an
//! implementation of its own.

use ::k256::ecdsa::{RecoveryId, Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::{Claim, compress, k256};

/// The same functions, of one implementation.
struct Curve {
    name: &'static str,
    point: fn(&[u8; 32]) -> Option<[u8; 64]>,
    sign: fn(&[u8; 32], &[u8; 32]) -> Option<[u8; 65]>,
    signers: fn(&[Claim]) -> Vec<Option<[u8; 64]>>,
    verify: fn(&[u8; 64], &[u8; 32], &[u8; 64]) -> bool,
    is_on_curve: fn(&[u8; 64]) -> bool,
    decompress: fn(&[u8; 33]) -> Option<[u8; 64]>,
}

const CURVES: &[Curve] = &[
    K256,
    #[cfg(feature = "libsecp256k1")]
    Curve {
        name: "libsecp256k1",
        point: |key| super::libsecp256k1::Signer::new(key)?.point(),
        sign: |key, digest| Some(super::libsecp256k1::Signer::new(key)?.sign(digest)),
        signers: super::libsecp256k1::signers,
        verify: super::libsecp256k1::verify,
        is_on_curve: super::libsecp256k1::is_on_curve,
        decompress: super::libsecp256k1::decompress,
    },
    Curve { name: "k256's own recovery", signers: recovered_by_library, ..K256 },
];

const K256: Curve = Curve {
    name: "k256",
    point: |key| k256::Signer::new(key)?.point(),
    sign: |key, digest| Some(k256::Signer::new(key)?.sign(digest)),
    signers: k256::signers,
    verify: k256::verify,
    is_on_curve: k256::is_on_curve,
    decompress: k256::decompress,
};

impl Curve {
    fn recover(&self, digest: &[u8; 32], signature: &[u8; 65]) -> Option<[u8; 64]> {
        (self.signers)(&[Claim { digest: *digest, signature: *signature, likely: None }]).pop().unwrap()
    }

    /// Whether a guess is found right, for a `v` by which nothing could be recovered.
    fn has_signed(&self, point: &[u8; 64], digest: &[u8; 32], r_s: &[u8; 64]) -> bool {
        let signature = [&r_s[..], &[9]].concat().try_into().unwrap();
        (self.signers)(&[Claim { digest: *digest, signature, likely: Some(*point) }]).pop().unwrap().is_some()
    }
}

fn recovered_by_library(claims: &[Claim]) -> Vec<Option<[u8; 64]>> {
    let recovered = |claim: &Claim| {
        let recovery = RecoveryId::from_byte(claim.signature[64]).filter(|id| !id.is_x_reduced())?;
        let signature = Signature::from_slice(&claim.signature[..64]).ok()?;
        let key = VerifyingKey::recover_from_prehash(&claim.digest, &signature, recovery).ok()?;
        key.to_sec1_point(false).as_bytes()[1..].try_into().ok()
    };
    let is_likely = |claim: &Claim, point: &[u8; 64]| {
        let key = VerifyingKey::from_sec1_bytes(&[&[4], &point[..]].concat());
        let signature = Signature::from_slice(&claim.signature[..64]).map(|signature| signature.normalize_s());
        key.is_ok_and(|key| signature.is_ok_and(|signature| key.verify_prehash(&claim.digest, &signature).is_ok()))
    };
    let signer = |claim: &Claim| claim.likely.filter(|point| is_likely(claim, point)).or_else(|| recovered(claim));
    claims.iter().map(signer).collect()
}

fn hex<const N: usize>(text: &str) -> [u8; N] {
    HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
}

/// What every implementation gives; fails if one gives another thing.
fn agreed<T: PartialEq + std::fmt::Debug>(of: impl Fn(&Curve) -> T) -> T {
    let mut all = CURVES.iter().map(|curve| (curve.name, of(curve)));
    let (_, first) = all.next().unwrap();
    for (name, other) in all {
        assert_eq!(first, other, "k256 and {name}");
    }
    first
}

/// n, the order of the group, less one, and p, the field's prime.
const ORDER_LESS_ONE: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140";
const PRIME: &str = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f";
const GENERATOR: &str = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798\
                         483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";

/// n − s: the other form of a signature, which is of the other R.
fn other_s(signature: &[u8; 65]) -> [u8; 65] {
    let parsed = Signature::from_slice(&signature[..64]).unwrap();
    let (r, s) = parsed.split_scalars();
    let mut other = *signature;
    other[..64].copy_from_slice(&Signature::from_scalars(r, -*s).unwrap().to_bytes());
    other[64] ^= 1;
    other
}

/// RFC 6979 on secp256k1, the vector that Bitcoin's libraries share: key 1, SHA-256 of "Satoshi Nakamoto".
#[test]
fn the_published_signature() {
    let mut key = [0; 32];
    key[31] = 1;
    let digest = hex("a0dc65ffca799873cbea0ac274015b9526505daaaed385155425f7337704883e");
    let signature = agreed(|curve| (curve.sign)(&key, &digest)).unwrap();
    let r_s = "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8\
               2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5";
    assert_eq!(signature[..64], hex::<64>(r_s));
    assert_eq!(agreed(|curve| (curve.point)(&key)), Some(hex(GENERATOR)));
    assert_eq!(agreed(|curve| curve.recover(&digest, &signature)), Some(hex(GENERATOR)));
}

#[test]
fn scalars_beyond_the_order_are_no_keys() {
    let last = hex(ORDER_LESS_ONE);
    let mut beyond = last;
    beyond[31] += 1;
    assert!(agreed(|curve| (curve.point)(&last)).is_some());
    for key in [[0; 32], beyond, [0xff; 32]] {
        assert_eq!(agreed(|curve| (curve.point)(&key)), None);
        assert_eq!(agreed(|curve| (curve.sign)(&key, &[1; 32])), None);
    }
}

#[test]
fn points_off_the_curve_or_beyond_the_prime_are_refused() {
    let good: [u8; 64] = hex(GENERATOR);
    assert!(agreed(|curve| (curve.is_on_curve)(&good)));
    let mut off = good;
    off[63] ^= 1;
    // x = 1 written as p + 1.
    let mut one = [0; 33];
    (one[0], one[32]) = (2, 1);
    let mut beyond = agreed(|curve| (curve.decompress)(&one)).unwrap();
    beyond[..32].copy_from_slice(&hex::<32>(PRIME));
    beyond[31] += 1;
    for point in [off, beyond, [0; 64], [0xff; 64]] {
        assert!(!agreed(|curve| (curve.is_on_curve)(&point)), "{point:?}");
        assert!(!agreed(|curve| (curve.verify)(&point, &[1; 32], &[1; 64])));
        assert_eq!(
            agreed(|curve| (curve.decompress)(&compress(&point))),
            if point == off { Some(with_other_y(&good)) } else { None }
        );
    }
    for prefix in (0..=255).filter(|prefix| !matches!(prefix, 2 | 3)) {
        let mut compressed = compress(&good);
        compressed[0] = prefix;
        assert_eq!(agreed(|curve| (curve.decompress)(&compressed)), None, "prefix {prefix}");
    }
}

/// A signature by one of three keys or by nobody, with a guess that is right, wrong or not made.
fn claim() -> impl Strategy<Value = Claim> {
    (1..4_u8, 0..8_u8, 0..4_u8, any::<[u8; 32]>()).prop_map(|(key, damage, guess, mut digest)| {
        let signer = |key| k256::Signer::new(&[key; 32]).unwrap();
        let mut signature = signer(key).sign(&digest);
        match damage {
            0 => signature[..32].fill(0),
            1 => signature[32..64].fill(0xff),
            2 => signature[64] = 2,
            3 => signature[64] ^= 1,
            4 => signature[5] ^= 1,
            5 => (signature, digest) = of_infinity(),
            _ => {}
        }
        let likely = (guess > 0).then(|| signer(guess).point().unwrap());
        Claim { digest, signature, likely }
    })
}

/// R = G, s = z: the key would be the point at infinity.
fn of_infinity() -> ([u8; 65], [u8; 32]) {
    let (mut signature, mut digest) = ([0; 65], [0; 32]);
    signature[..32].copy_from_slice(&hex::<64>(GENERATOR)[..32]);
    (signature[63], digest[31]) = (5, 5);
    (signature, digest)
}

/// The point with the same X.
fn with_other_y(point: &[u8; 64]) -> [u8; 64] {
    let mut compressed = compress(point);
    compressed[0] ^= 1;
    agreed(|curve| (curve.decompress)(&compressed)).unwrap()
}

#[test]
fn what_nobody_signed() {
    let generator: [u8; 64] = hex(GENERATOR);
    let (mut signature, mut digest) = of_infinity();
    assert_eq!(agreed(|curve| curve.recover(&digest, &signature)), None);
    // The sum is the point at infinity: z G + r Q with Q = -G and r = z.
    let mut z = [0; 32];
    z.copy_from_slice(&generator[..32]);
    assert!(!agreed(|curve| curve.has_signed(&with_other_y(&generator), &z, signature.first_chunk().unwrap())));
    digest[31] = 6;
    assert!(agreed(|curve| curve.recover(&digest, &signature)).is_some());
    // z = 0 is as good a digest as any; so is one beyond the order.
    assert!(agreed(|curve| curve.recover(&[0; 32], &signature)).is_some());
    assert!(agreed(|curve| curve.recover(&[0xff; 32], &signature)).is_some());
    for (r, s) in [(0, 1), (1, 0), (0, 0), (0xff, 1), (1, 0xff)] {
        let mut bad = [r; 65];
        bad[32..64].fill(s);
        bad[64] = 0;
        assert_eq!(agreed(|curve| curve.recover(&digest, &bad)), None, "r {r}, s {s}");
    }
    for v in 2..=255 {
        signature[64] = v;
        assert_eq!(agreed(|curve| curve.recover(&digest, &signature)), None, "v {v}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn all_sign_and_recover_alike(key: [u8; 32], digest: [u8; 32]) {
        let Some(point) = agreed(|curve| (curve.point)(&key)) else { return Ok(()) };
        let signature = agreed(|curve| (curve.sign)(&key, &digest)).unwrap();
        let r_s = |signature: &[u8; 65]| *signature.first_chunk::<64>().unwrap();
        prop_assert_eq!(agreed(|curve| curve.recover(&digest, &signature)), Some(point));
        prop_assert!(agreed(|curve| (curve.verify)(&point, &digest, &r_s(&signature))));
        prop_assert!(!agreed(|curve| (curve.verify)(&point, &[7; 32], &r_s(&signature))));
        prop_assert_eq!(agreed(|curve| (curve.decompress)(&compress(&point))), Some(point));
        // High s names the same signer, and is not valid in a record.
        let high = other_s(&signature);
        prop_assert_eq!(agreed(|curve| curve.recover(&digest, &high)), Some(point));
        prop_assert!(!agreed(|curve| (curve.verify)(&point, &digest, &r_s(&high))));
        for form in [signature, high].each_ref().map(r_s) {
            prop_assert!(agreed(|curve| curve.has_signed(&point, &digest, &form)));
            prop_assert!(!agreed(|curve| curve.has_signed(&point, &[7; 32], &form)));
            prop_assert!(!agreed(|curve| curve.has_signed(&with_other_y(&point), &digest, &form)));
        }
        let mut other_v = signature;
        other_v[64] ^= 1;
        prop_assert_ne!(agreed(|curve| curve.recover(&digest, &other_v)), Some(point));
    }

    /// Good and bad ones, right guesses and wrong ones together: each as if it were alone.
    #[test]
    fn several_at_once_are_judged_one_by_one(claims in prop::collection::vec(claim(), 0..9)) {
        let alone = |curve: &Curve| claims.iter().map(|claim| (curve.signers)(&[*claim]).pop().unwrap()).collect::<Vec<_>>();
        prop_assert_eq!(agreed(|curve| (curve.signers)(&claims)), agreed(alone));
    }

    #[test]
    fn all_judge_any_bytes_alike(digest: [u8; 32], r: [u8; 32], s: [u8; 32], v in 0..4_u8, point: [[u8; 32]; 2]) {
        let mut signature = [v; 65];
        signature[..32].copy_from_slice(&r);
        signature[32..64].copy_from_slice(&s);
        let recovered = agreed(|curve| curve.recover(&digest, &signature));
        let mut compressed = [2 | (v & 1); 33];
        compressed[1..].copy_from_slice(&r);
        let decompressed = agreed(|curve| (curve.decompress)(&compressed));
        // Half of all X are of a point, and the other half of none.
        for point in recovered.into_iter().chain(decompressed).chain(point.as_flattened().try_into()) {
            agreed(|curve| (curve.is_on_curve)(&point));
            agreed(|curve| (curve.verify)(&point, &digest, signature.first_chunk().unwrap()));
            let is_signer = agreed(|curve| curve.has_signed(&point, &digest, signature.first_chunk().unwrap()));
            assert!(is_signer || recovered != Some(point));
        }
    }
}
