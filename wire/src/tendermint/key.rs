//! A node's ed25519 key, in CometBFT's `node_key.json`, and the id that follows from it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use rand::CryptoRng;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The key of a Tendermint node. Wiped when dropped; never printed.
#[derive(Clone)]
pub struct NodeKey {
    // SigningKey wipes itself (feature `zeroize`).
    signing: SigningKey,
}

/// The type tag of the file (CometBFT `crypto/ed25519.PrivKeyName`).
const KEY_TYPE: &str = "tendermint/PrivKeyEd25519";

/// A key file has about 150 bytes; nothing larger is read. There is room for so much from the start: a text that grows leaves copies behind,
/// which nobody wipes.
const MAX_FILE: usize = 4096;

impl NodeKey {
    /// A new key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self::from_seed(&seed)
    }

    /// The key of an RFC 8032 seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        NodeKey { signing: SigningKey::from_bytes(seed) }
    }

    /// Reads `node_key.json` as CometBFT and Tendermint v0.35 write it. Refuses a file that others may read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let file = File::open(path)?;
        refuse_exposed(&file)?;
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE));
        file.take(MAX_FILE as u64).read_to_string(&mut text)?;
        Self::from_json(&text)
    }

    /// Writes a new `node_key.json`, readable by its owner only. Never overwrites a file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), KeyFileError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path)?;
        let written = file.write_all(self.to_json().as_bytes()).and_then(|()| file.sync_all());
        // Half a key, left by a full disk, would be in the way of every later start.
        written.inspect_err(|_| drop(fs::remove_file(&path)))?;
        Ok(())
    }

    /// Reads the file, or makes a key and writes it if there is none.
    pub fn load_or_generate(path: impl AsRef<Path>, rng: &mut impl CryptoRng) -> Result<Self, KeyFileError> {
        match Self::load(&path) {
            Err(KeyFileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate(rng);
                key.save(&path)?;
                Ok(key)
            }
            loaded => loaded,
        }
    }

    /// The JSON of `node_key.json`.
    pub fn from_json(text: &str) -> Result<Self, KeyFileError> {
        let file: KeyFile = serde_json::from_str(text).map_err(|error| KeyFileError::Json(error.to_string()))?;
        let PrivKey { key_type, value } = file.priv_key;
        let value = Zeroizing::new(value);
        if key_type != KEY_TYPE {
            return Err(KeyFileError::Type(key_type));
        }
        let bytes = Zeroizing::new(BASE64.decode(value.as_bytes()).map_err(|_| KeyFileError::Base64)?);
        let bytes: &[u8; 64] = bytes.as_slice().try_into().map_err(|_| KeyFileError::Length(bytes.len()))?;
        let signing = SigningKey::from_keypair_bytes(bytes).map_err(|_| KeyFileError::Mismatch)?;
        Ok(NodeKey { signing })
    }

    /// What [`from_json`](Self::from_json) reads.
    pub fn to_json(&self) -> Zeroizing<String> {
        let pair = Zeroizing::new(self.signing.to_keypair_bytes());
        let value = Zeroizing::new(BASE64.encode(pair.as_slice()));
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE));
        for part in [r#"{"priv_key":{"type":""#, KEY_TYPE, r#"","value":""#, value.as_str(), r#""}}"#] {
            text.push_str(part);
        }
        text
    }

    /// The public key, 32 bytes.
    pub fn public(&self) -> [u8; 32] {
        self.signing.verifying_key().to_bytes()
    }

    /// The node id.
    pub fn id(&self) -> [u8; 20] {
        node_id(&self.public())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeKey({})", crate::PeerId::Tendermint(self.id()))
    }
}

/// The id of an ed25519 public key: the first 20 bytes of its SHA-256 (CometBFT `crypto.AddressHash`).
pub fn node_id(public: &[u8; 32]) -> [u8; 20] {
    let hash: [u8; 32] = Sha256::digest(public).into();
    let (id, _) = hash.split_first_chunk().unwrap_or((&[0; 20], &[]));
    *id
}

/// Checks a signature strictly (no small-order keys, no malleability), which CometBFT's ZIP-215 rules do not.
pub(crate) fn verify(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result<(), VerifyError> {
    let key = VerifyingKey::from_bytes(public).map_err(|_| VerifyError::Key)?;
    if key.is_weak() {
        return Err(VerifyError::Key);
    }
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).map_err(|_| VerifyError::Signature)
}

/// Why a signature does not prove a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VerifyError {
    /// Not a point, or one of small order, for which anybody can sign.
    Key,
    /// The signature is not of this key and message.
    Signature,
}

#[cfg(unix)]
fn refuse_exposed(file: &File) -> Result<(), KeyFileError> {
    let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata()?) & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed(mode));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_exposed(_: &File) -> Result<(), KeyFileError> {
    Ok(())
}

#[derive(Deserialize)]
struct KeyFile {
    // Tendermint v0.35 adds an "id", which follows from the key.
    priv_key: PrivKey,
}

#[derive(Deserialize)]
struct PrivKey {
    #[serde(rename = "type")]
    key_type: String,
    value: String,
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file system refused.
    #[error("node key file: {0}")]
    Io(#[from] io::Error),
    /// Others than the owner may use the file.
    #[error("node key file has mode {0:04o}: others may read it; make it 0600")]
    Exposed(u32),
    /// Not the JSON of a node key.
    #[error("node key file is not valid JSON: {0}")]
    Json(String),
    /// A key type other than ed25519.
    #[error("node key has type {0:?}, expected {KEY_TYPE:?}")]
    Type(String),
    /// The value is not base64.
    #[error("node key value is not base64")]
    Base64,
    /// The value does not have 64 bytes.
    #[error("node key value has {0} bytes, expected 64")]
    Length(usize),
    /// The second half of the value is not the public key of the first.
    #[error("node key's public half does not belong to its private half")]
    Mismatch,
}

impl KeyFileError {
    /// Always this side.
    pub fn blame(&self) -> crate::Blame {
        crate::Blame::Local
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn key() -> NodeKey {
        NodeKey::generate(&mut rand::rngs::StdRng::seed_from_u64(1))
    }

    #[test]
    fn a_saved_key_is_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node_key.json");
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let made = NodeKey::load_or_generate(&path, &mut rng).unwrap();
        let read = NodeKey::load_or_generate(&path, &mut rng).unwrap();
        assert_eq!((made.id(), made.public()), (read.id(), read.public()));
        assert!(matches!(key().save(&path), Err(KeyFileError::Io(e)) if e.kind() == io::ErrorKind::AlreadyExists));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
            assert!(matches!(NodeKey::load(&path), Err(KeyFileError::Exposed(0o640))));
        }
    }

    #[test]
    fn the_id_of_v035_and_further_fields_are_ignored() {
        let json = key().to_json();
        let with_id = json.replacen('{', "{\"id\":\"ab\",", 1);
        assert_eq!(NodeKey::from_json(&with_id).unwrap().id(), key().id());
    }

    #[test]
    fn each_corruption_has_its_error() {
        use KeyFileError::*;
        let json = key().to_json();
        let with_value =
            |bytes: &[u8]| format!(r#"{{"priv_key":{{"type":"{KEY_TYPE}","value":"{}"}}}}"#, BASE64.encode(bytes));
        let pair = key().signing.to_keypair_bytes();
        assert!(NodeKey::from_json(&with_value(&pair)).is_ok());
        let mut wrong_half = pair;
        wrong_half[63] ^= 1;
        assert!(matches!(NodeKey::from_json(""), Err(Json(_))));
        assert!(matches!(NodeKey::from_json(&json[..json.len() - 1]), Err(Json(_))));
        assert!(matches!(NodeKey::from_json(&json.replace("Ed25519", "Secp256k1")), Err(Type(_))));
        assert!(matches!(NodeKey::from_json(&json.replace("==", "=!")), Err(Base64)));
        assert!(matches!(NodeKey::from_json(&with_value(&pair[..63])), Err(Length(63))));
        assert!(matches!(NodeKey::from_json(&with_value(&wrong_half)), Err(Mismatch)));
        assert_eq!(format!("{:?}", key()), format!("NodeKey({})", crate::PeerId::Tendermint(key().id())));
    }

    #[test]
    fn a_small_order_key_signs_nothing() {
        // The identity point: under ZIP-215 (R = identity, s = 0) verifies for every message.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert_eq!(verify(&identity, b"anything", &signature), Err(VerifyError::Key));
    }

    /// The owner of a key can sign with R = identity and s = H(R ‖ A ‖ M)·a. Other libraries disagree about whether that is a signature, so it is
    /// none.
    #[test]
    fn a_signature_with_a_small_order_point_is_none() {
        let key = NodeKey::from_seed(&[7; 32]);
        let mut signature = [0; 64];
        signature[0] = 1;
        signature[32..].copy_from_slice(&data_encoding::HEXLOWER.decode(S.as_bytes()).unwrap());
        const S: &str = "6f1294dc6d74201ab1354a4a768e130645dd62847301c056f04dd2996c77780b";
        let by_equation = ed25519_dalek::Signature::from_bytes(&signature);
        assert!(ed25519_dalek::Verifier::verify(&key.signing.verifying_key(), b"challenge", &by_equation).is_ok());
        assert_eq!(verify(&key.public(), b"challenge", &signature), Err(VerifyError::Signature));
    }
}
