//! ECIES as RLPx has it (devp2p `rlpx.md`, "ECIES Encryption"; go-ethereum `crypto/ecies`): a box that only the owner of a static
//! key opens.
//!
//! ```text
//! box = R (0x04 ‖ X ‖ Y) ‖ iv (16) ‖ c ‖ d (32)      z = X of r·K = X of k·R      k = SHA-256(00000001 ‖ z)
//! c = AES-128-CTR(k[..16], iv, message)              d = HMAC-SHA-256(SHA-256(k[16..]), iv ‖ c ‖ associated data)
//! ```

use aes::Aes128Enc;
use ctr::{
    Ctr128BE,
    cipher::{KeyIvInit, StreamCipher},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::{
    HandshakeError,
    curve::{Agreed, POINT_LENGTH, Scalar},
};

/// What a box is longer than its message, in bytes.
pub(super) const OVERHEAD: usize = 1 + POINT_LENGTH + IV + TAG;

const IV: usize = 16;
const TAG: usize = 32;

/// The prefix of a point in its uncompressed form (SEC 1, 2.3.3).
pub(super) const UNCOMPRESSED: u8 = 4;

/// What one box is sealed with: multiples of the receiver's key and of the generator by a scalar that is drawn for it.
pub(super) struct Seal {
    pub(super) agreed: Agreed,
    pub(super) point: [u8; POINT_LENGTH],
    pub(super) iv: [u8; IV],
}

/// Appends the box of `message`.
pub(super) fn seal(seal: &Seal, message: &[u8], associated: &[u8], out: &mut Vec<u8>) {
    let mut keys = Keys::new(&seal.agreed);
    out.push(UNCOMPRESSED);
    out.extend_from_slice(&seal.point);
    let sealed_at = out.len();
    out.extend_from_slice(&seal.iv);
    let text_at = out.len();
    out.extend_from_slice(message);
    keys.cipher(&seal.iv).apply_keystream(out.get_mut(text_at..).unwrap_or_default());
    keys.mac.update(out.get(sealed_at..).unwrap_or_default());
    keys.mac.update(associated);
    let tag: [u8; TAG] = keys.mac.finalize().into_bytes().into();
    out.extend_from_slice(&tag);
}

/// The message in a box that was sealed for `key`. Nothing is decrypted before its authenticator was compared, in constant time.
pub(super) fn open(key: &Scalar, sealed: &[u8], associated: &[u8]) -> Result<Zeroizing<Vec<u8>>, HandshakeError> {
    let too_short = HandshakeError::TooShort(sealed.len());
    let (point, rest) = sealed.split_first_chunk::<{ 1 + POINT_LENGTH }>().ok_or(too_short)?;
    let (rest, tag) = rest.split_last_chunk::<TAG>().ok_or(too_short)?;
    let (iv, text) = rest.split_first_chunk::<IV>().ok_or(too_short)?;
    let [UNCOMPRESSED, point @ ..] = point else { return Err(HandshakeError::NotAPoint) };

    let agreed = key.agree(point).ok_or(HandshakeError::NotAPoint)?;
    let mut keys = Keys::new(&agreed);
    keys.mac.update(rest);
    keys.mac.update(associated);
    let mut cipher = keys.cipher(iv);
    keys.mac.verify_slice(tag).map_err(|_| HandshakeError::WrongMac)?;
    let mut message = Zeroizing::new(text.to_vec());
    cipher.apply_keystream(&mut message);
    Ok(message)
}

struct Keys {
    encryption: Zeroizing<[u8; 16]>,
    mac: Hmac<Sha256>,
}

/// As in `frame`; an HMAC is two such hashes.
const _: () = {
    const fn is_wiped<T: ZeroizeOnDrop>() {}
    is_wiped::<Sha256>();
    is_wiped::<Ctr128BE<Aes128Enc>>();
};

impl Keys {
    /// The concatenation KDF of NIST SP 800-56 with SHA-256; one round gives all 32 bytes.
    fn new(agreed: &[u8; 32]) -> Self {
        let mut derived = Zeroizing::new([0; 32]);
        derived.copy_from_slice(&Sha256::new().chain_update([0, 0, 0, 1]).chain_update(agreed).finalize());
        let (encryption, mac) = derived.split_at(16);
        let mac = Zeroizing::new(Sha256::digest(mac).into());
        let mut keys = Keys { encryption: Zeroizing::new([0; 16]), mac: hmac(&mac) };
        keys.encryption.copy_from_slice(encryption);
        keys
    }

    fn cipher(&self, iv: &[u8; IV]) -> Ctr128BE<Aes128Enc> {
        Ctr128BE::new((&*self.encryption).into(), iv.into())
    }
}

/// HMAC fills its key with zeros to the hash's block.
fn hmac(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    let (start, _) = block.split_at_mut(key.len());
    start.copy_from_slice(key);
    Hmac::new((&*block).into())
}
