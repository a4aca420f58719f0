//! What is in the two packets: `auth` of the initiator, `ack` of the recipient.

use rlp::RlpStream;

use super::{
    super::{
        HandshakeError, RlpError,
        curve::{POINT_LENGTH, SIGNATURE_LENGTH},
        rlp_list::{Item, Items},
    },
    packet::Form,
};

/// Length of a nonce, in bytes.
pub(super) const NONCE_LENGTH: usize = 32;

/// The version that we say; what others say is ignored (EIP-8).
const VERSION: u8 = 4;

/// The hash of the ephemeral key in a plain auth, in bytes. It is not looked at: the key is recovered from the signature.
const HASH_LENGTH: usize = 32;

/// The flag at the end of plain messages, in bytes: whether an old session goes on, which no implementation has.
const FLAG_LENGTH: usize = 1;

/// The initiator's message.
pub(super) struct Auth {
    /// Of `static-shared-secret ^ nonce`, by the ephemeral key.
    pub(super) signature: [u8; SIGNATURE_LENGTH],
    pub(super) static_key: [u8; POINT_LENGTH],
    pub(super) nonce: [u8; NONCE_LENGTH],
}

impl Auth {
    /// Length in a plain packet, in bytes.
    pub(super) const PLAIN: usize = SIGNATURE_LENGTH + HASH_LENGTH + POINT_LENGTH + NONCE_LENGTH + FLAG_LENGTH;

    pub(super) fn decode(form: Form, message: &[u8]) -> Result<Self, HandshakeError> {
        Ok(match form {
            Form::Plain => Self::decode_plain(message).ok_or(HandshakeError::TooShort(message.len()))?,
            Form::Eip8 => {
                let mut items = items(message)?;
                let [signature, static_key] = [items.required()?, items.required()?];
                let auth = Auth {
                    signature: signature.array()?,
                    static_key: static_key.array()?,
                    nonce: items.required()?.array()?,
                };
                items.required()?;
                auth
            }
        })
    }

    fn decode_plain(message: &[u8]) -> Option<Self> {
        let (&signature, rest) = message.split_first_chunk()?;
        let (_, rest) = rest.split_first_chunk::<HASH_LENGTH>()?;
        let (&static_key, rest) = rest.split_first_chunk()?;
        let (&nonce, _) = rest.split_first_chunk()?;
        Some(Auth { signature, static_key, nonce })
    }

    /// In EIP-8's form: we never begin with another.
    pub(super) fn encode(&self, padding: usize) -> Vec<u8> {
        let mut list = RlpStream::new_list(4);
        list.append(&self.signature.as_slice()).append(&self.static_key.as_slice());
        list.append(&self.nonce.as_slice()).append(&VERSION);
        padded(list, padding)
    }
}

/// The recipient's message.
pub(super) struct Ack {
    pub(super) ephemeral_key: [u8; POINT_LENGTH],
    pub(super) nonce: [u8; NONCE_LENGTH],
}

impl Ack {
    /// Length in a plain packet, in bytes.
    pub(super) const PLAIN: usize = POINT_LENGTH + NONCE_LENGTH + FLAG_LENGTH;

    pub(super) fn decode(form: Form, message: &[u8]) -> Result<Self, HandshakeError> {
        Ok(match form {
            Form::Plain => Self::decode_plain(message).ok_or(HandshakeError::TooShort(message.len()))?,
            Form::Eip8 => {
                let mut items = items(message)?;
                let ack = Ack { ephemeral_key: items.required()?.array()?, nonce: items.required()?.array()? };
                items.required()?;
                ack
            }
        })
    }

    fn decode_plain(message: &[u8]) -> Option<Self> {
        let (&ephemeral_key, rest) = message.split_first_chunk()?;
        let (&nonce, _) = rest.split_first_chunk()?;
        Some(Ack { ephemeral_key, nonce })
    }

    /// In the form that the initiator chose.
    pub(super) fn encode(&self, form: Form, padding: usize) -> Vec<u8> {
        match form {
            Form::Plain => [self.ephemeral_key.as_slice(), &self.nonce, &[0; FLAG_LENGTH]].concat(),
            Form::Eip8 => {
                let mut list = RlpStream::new_list(3);
                list.append(&self.ephemeral_key.as_slice()).append(&self.nonce.as_slice()).append(&VERSION);
                padded(list, padding)
            }
        }
    }
}

/// The elements of the list at the beginning; what follows the list is padding, and what follows the known elements is the future's.
fn items(message: &[u8]) -> Result<Items<'_>, RlpError> {
    let (list, _) = Item::split(message)?;
    list.list()
}

fn padded(list: RlpStream, padding: usize) -> Vec<u8> {
    let mut message = list.out().to_vec();
    message.resize(message.len().saturating_add(padding), 0);
    message
}
