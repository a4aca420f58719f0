//! The ephemeral X25519 key of a handshake (RFC 7748), by aws-lc-rs: its assembler takes half of what the curve in Rust does.

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use rand::CryptoRng;
use zeroize::Zeroizing;

/// A key for one handshake. The library wipes it when it is dropped.
pub(super) struct Ephemeral {
    secret: PrivateKey,
    public: [u8; 32],
}

/// The peer's key has small order: the shared secret would be known to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SmallOrder;

impl Ephemeral {
    pub(super) fn new(rng: &mut impl CryptoRng) -> Self {
        let mut scalar = Zeroizing::new([0; 32]);
        rng.fill_bytes(scalar.as_mut_slice());
        Self::from_scalar(&scalar)
    }

    #[expect(clippy::unwrap_used, reason = "any 32 bytes are a scalar, and every scalar has a public key of 32 bytes")]
    fn from_scalar(scalar: &[u8; 32]) -> Self {
        let secret = PrivateKey::from_private_key(&X25519, scalar).unwrap();
        let public = secret.compute_public_key().unwrap().as_ref().try_into().unwrap();
        Ephemeral { secret, public }
    }

    /// The u-coordinate, little-endian.
    pub(super) fn public(&self) -> [u8; 32] {
        self.public
    }

    /// The shared secret, 32 bytes. The high bit of `theirs` is ignored and values not below the prime are reduced (RFC 7748, section 5).
    pub(super) fn agree(&self, theirs: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, SmallOrder> {
        agree(&self.secret, UnparsedPublicKey::new(&X25519, theirs), SmallOrder, |shared| {
            shared.try_into().map(Zeroizing::new).map_err(|_| SmallOrder)
        })
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn hex(text: &str) -> [u8; 32] {
        HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    /// RFC 7748, section 6.1.
    #[test]
    fn two_keys_agree_as_in_the_rfc() {
        let ours = Ephemeral::from_scalar(&hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
        assert_eq!(ours.public(), hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
        let shared = ours.agree(&hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")).unwrap();
        assert_eq!(*shared, hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"));
    }
}
