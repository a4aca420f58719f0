//! Who a node is: its secp256k1 key pair, and the node id that the table measures distances between.
//!
//! Node Discovery v4, "Node Identities": a public key is 64 bytes `X ‖ Y`, the node id is its keccak256.

use std::{fmt, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    Blame,
    keccak256::keccak256,
    secp256k1::{self, Claim},
};

/// Why bytes or a text are not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The hex text has another length (in characters) than it must have.
    #[error("invalid key: want {expected} hex characters, found {found}")]
    WrongLength {
        /// 64 for a secret key, 128 for a public key.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// Not a hex digit.
    #[error("invalid key: not hexadecimal")]
    NotHex,
    /// The scalar is zero or not below the order of the group.
    #[error("invalid secret key: zero or beyond the order of secp256k1")]
    InvalidScalar,
    /// A coordinate is not below the field's prime, or the point is not on the curve.
    #[error("invalid public key: not a point of secp256k1")]
    NotOnCurve,
}

impl KeyError {
    /// Always [`Blame::Malformed`].
    pub fn blame(&self) -> Blame {
        Blame::Malformed
    }
}

fn from_hex<const N: usize>(text: &str) -> Result<Zeroizing<[u8; N]>, KeyError> {
    let wrong_length = KeyError::WrongLength { expected: N.saturating_mul(2), found: text.len() };
    if HEXLOWER_PERMISSIVE.decode_len(text.len()) != Ok(N) {
        return Err(wrong_length);
    }
    let mut bytes = Zeroizing::new([0; N]);
    HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), bytes.as_mut()).map_err(|_| KeyError::NotHex)?;
    Ok(bytes)
}

/// A node's secret key. Wiped when dropped; never printed by `Debug`.
#[derive(Clone)]
pub struct SecretKey {
    scalar: Zeroizing<[u8; 32]>,
    signer: secp256k1::Signer,
    public: PublicKey,
}

impl SecretKey {
    /// A new key from `rng`.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut scalar = Zeroizing::new([0; 32]);
        loop {
            rng.fill_bytes(scalar.as_mut());
            if let Ok(key) = Self::from_bytes(&scalar) {
                return key; // all but one in 2^127 draws
            }
        }
    }

    /// The scalar, 32 bytes big-endian.
    pub fn from_bytes(scalar: &[u8; 32]) -> Result<Self, KeyError> {
        let signer = secp256k1::Signer::new(scalar).ok_or(KeyError::InvalidScalar)?;
        let public = PublicKey(signer.point().ok_or(KeyError::InvalidScalar)?);
        Ok(Self { scalar: Zeroizing::new(*scalar), signer, public })
    }

    /// 64 hex characters, upper or lower case, no prefix.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&*from_hex(text)?)
    }

    /// 64 lower-case hex characters.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(HEXLOWER.encode(self.scalar.as_ref()))
    }

    /// The scalar, 32 bytes big-endian, for others who prove that they have it.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.scalar.clone()
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a 32-byte digest: `r ‖ s ‖ v`, deterministic (RFC 6979), low `s`, `v` = 0 or 1.
    pub fn sign_recoverable(&self, digest: &[u8; 32]) -> [u8; 65] {
        self.signer.sign(digest)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public)
    }
}

/// A node's public key: `X ‖ Y`, always a point on the curve.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 64]);

impl PublicKey {
    /// Checks that `X ‖ Y` are coordinates below the field's prime and on the curve.
    pub fn from_bytes(point: &[u8; 64]) -> Result<Self, KeyError> {
        if secp256k1::is_on_curve(point) { Ok(Self(*point)) } else { Err(KeyError::NotOnCurve) }
    }

    /// From the 33-byte form used in records (prefix 2 or 3, then X).
    pub fn from_compressed(compressed: &[u8; 33]) -> Result<Self, KeyError> {
        secp256k1::decompress(compressed).map(Self).ok_or(KeyError::NotOnCurve)
    }

    /// The 33-byte form used in records.
    pub fn to_compressed(&self) -> [u8; 33] {
        secp256k1::compress(&self.0)
    }

    /// `X ‖ Y`.
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// Where this key stands in the table's address space. Costs one hash: keep the result.
    pub fn node_id(&self) -> NodeId {
        NodeId::of_target(&self.0)
    }

    /// The signer of `r ‖ s ‖ v` over a 32-byte digest, if there is one. About 60 µs.
    pub fn recover(digest: &[u8; 32], signature: &[u8; 65]) -> Option<Self> {
        let claim = Claim { digest: *digest, signature: *signature, likely: None };
        secp256k1::signers(&[claim]).pop().flatten().map(Self)
    }

    /// The signers of `(digest, r ‖ s ‖ v, who it is most likely)`, in the same order. Cheaper than to recover each by itself: several
    /// at once by a twentieth, and a guess that is right, for any `v`, by a tenth to a fifth. A wrong guess costs half as much again.
    pub(crate) fn signers(of: impl IntoIterator<Item = ([u8; 32], [u8; 65], Option<Self>)>) -> Vec<Option<Self>> {
        let claim = |(digest, signature, likely): (_, _, Option<Self>)| Claim {
            digest,
            signature,
            likely: likely.map(|key| key.0),
        };
        let claims: Vec<_> = of.into_iter().map(claim).collect();
        secp256k1::signers(&claims).into_iter().map(|point| point.map(Self)).collect()
    }

    /// Whether `r ‖ s` over a 32-byte digest is of this key. About 60 µs.
    pub fn verify(&self, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        secp256k1::verify(&self.0, digest, signature)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// 128 hex characters, upper or lower case, no prefix.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&*from_hex(text)?)
    }
}

/// A place in the table's 256-bit address space. Ordered by bytes, which is *not* the order by distance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 32]);

impl NodeId {
    /// keccak256 of a 64-byte lookup target, which need not be a point on the curve.
    pub fn of_target(target: &[u8; 64]) -> Self {
        Self(keccak256(&[target]))
    }

    /// Bitwise XOR: the Kademlia distance as a big-endian number.
    pub fn distance(&self, other: &Self) -> [u8; 32] {
        let mut distance = self.0;
        for (byte, other) in distance.iter_mut().zip(other.0) {
            *byte ^= other;
        }
        distance
    }

    /// The distance as two halves, the high one first: ordered the same way, and cheaper to compare.
    pub(crate) fn distance_words(&self, other: &Self) -> [u128; 2] {
        let (ours, theirs) = (self.words(), other.words());
        [ours[0] ^ theirs[0], ours[1] ^ theirs[1]]
    }

    fn words(&self) -> [u128; 2] {
        let [high, low] = self.0.as_chunks::<16>().0 else { return [0; 2] };
        [u128::from_be_bytes(*high), u128::from_be_bytes(*low)]
    }

    /// 256 less the number of equal leading bits: 0 for the same id, 256 when the first bit differs.
    pub fn log_distance(&self, other: &Self) -> u16 {
        let [high, low] = self.distance_words(other);
        let equal_bits = match high {
            0 => low.leading_zeros().saturating_add(u128::BITS),
            _ => high.leading_zeros(),
        };
        256_u16.saturating_sub(equal_bits as u16) // at most 256
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// Lower-case hex without a heap allocation; `{:.8}` cuts to eight characters.
fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let digits = f.precision().unwrap_or(usize::MAX);
    for byte in bytes.iter().take(digits.div_ceil(2)) {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    /// The key of the published discv4 vectors.
    const SECRET: &str = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291";
    const PUBLIC: &str = "ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd3138\
                          7574077f301b421bc84df7266c44e9e6d569fc56be00812904767bf5ccd1fc7f";

    #[test]
    fn the_published_key_pair() {
        let secret = SecretKey::from_hex(SECRET).unwrap();
        assert_eq!(secret.public().to_string(), PUBLIC);
        assert_eq!(*secret.to_hex(), SECRET);
        let id = "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7";
        assert_eq!(secret.public().node_id().to_string(), id);
        assert_eq!(format!("{:.8}", secret.public().node_id()), "a448f24c");
        assert_eq!(PublicKey::from_compressed(&secret.public().to_compressed()).unwrap(), *secret.public());
        assert_eq!(PUBLIC.to_uppercase().parse::<PublicKey>().unwrap(), *secret.public());
        assert!(!format!("{secret:?}").contains(SECRET));
    }

    #[test]
    fn what_is_not_a_key_is_refused_with_a_reason() {
        assert_eq!(SecretKey::from_hex(&"0".repeat(64)).unwrap_err(), KeyError::InvalidScalar);
        assert_eq!(SecretKey::from_hex(&"f".repeat(64)).unwrap_err(), KeyError::InvalidScalar);
        assert_eq!(SecretKey::from_hex(&"g".repeat(64)).unwrap_err(), KeyError::NotHex);
        assert_eq!(SecretKey::from_hex("b7").unwrap_err(), KeyError::WrongLength { expected: 64, found: 2 });
        assert_eq!(PublicKey::from_str("b7").unwrap_err(), KeyError::WrongLength { expected: 128, found: 2 });
        assert_eq!("é".repeat(64).parse::<PublicKey>().unwrap_err(), KeyError::NotHex);
    }

    #[test]
    fn points_off_the_curve_or_beyond_the_prime_are_refused() {
        let good = *SecretKey::from_hex(SECRET).unwrap().public();
        let mut off = *good.as_bytes();
        off[63] ^= 1;
        assert_eq!(PublicKey::from_bytes(&off), Err(KeyError::NotOnCurve));
        assert_eq!(PublicKey::from_bytes(&[0; 64]), Err(KeyError::NotOnCurve));
        assert_eq!(PublicKey::from_bytes(&[0xff; 64]), Err(KeyError::NotOnCurve));

        // x = 1 has the y below; x = p + 1 is the same field element written beyond the prime (GHSA-2gjw-fg97-vg3r).
        let mut one = [0; 33];
        (one[0], one[32]) = (2, 1);
        let one = *PublicKey::from_compressed(&one).unwrap().as_bytes();
        assert!(PublicKey::from_bytes(&one).is_ok());
        let mut beyond = one;
        beyond[..32].copy_from_slice(&P_PLUS_ONE);
        assert_eq!(PublicKey::from_bytes(&beyond), Err(KeyError::NotOnCurve));
        let mut compressed = [2; 33];
        compressed[1..].copy_from_slice(&P_PLUS_ONE);
        assert_eq!(PublicKey::from_compressed(&compressed), Err(KeyError::NotOnCurve));
        compressed[0] = 4;
        assert_eq!(PublicKey::from_compressed(&compressed), Err(KeyError::NotOnCurve));
    }

    /// p = 2^256 − 2^32 − 977.
    const P_PLUS_ONE: [u8; 32] = {
        let mut bytes = [0xff; 32];
        (bytes[27], bytes[30], bytes[31]) = (0xfe, 0xfc, 0x30);
        bytes
    };

    #[test]
    fn log_distance_counts_from_the_first_different_bit() {
        let zero = NodeId([0; 32]);
        assert_eq!(zero.log_distance(&zero), 0);
        for bit in 0..256_usize {
            let mut other = zero;
            other.0[bit / 8] = 0xff >> (bit % 8);
            assert_eq!(usize::from(zero.log_distance(&other)), 256 - bit);
            assert_eq!(zero.log_distance(&other), other.log_distance(&zero));
        }
    }

    #[test]
    fn a_signature_recovers_to_its_signer() {
        let mut rng = StdRng::seed_from_u64(1);
        let (secret, digest) = (SecretKey::random(&mut rng), [7; 32]);
        let signature = secret.sign_recoverable(&digest);
        assert_eq!(PublicKey::recover(&digest, &signature), Some(*secret.public()));
        assert!(secret.public().verify(&digest, signature[..64].try_into().unwrap()));
        assert!(!secret.public().verify(&[8; 32], signature[..64].try_into().unwrap()));
        for v in 2..=255 {
            let mut other = signature;
            other[64] = v;
            assert_eq!(PublicKey::recover(&digest, &other), None, "recovery id {v}");
        }
        assert_eq!(PublicKey::recover(&digest, &[0; 65]), None);
        assert_eq!(PublicKey::recover(&digest, &[0xff; 65]), None);
    }
}
