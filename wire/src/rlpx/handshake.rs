//! The handshake as a machine: bytes in, bytes out, and in the end the peer's proven key and the two directions of frames.
//!
//! ```text
//! initiator ── auth: its static key, a nonce, and a signature by its ephemeral key over static-shared-secret ^ nonce ──▶ recipient
//! initiator ◀── ack: ephemeral key, nonce ── recipient                        each in a box for the other's static key
//! ```
//!
//! We begin as EIP-8 says. A peer that begins in the form from before EIP-8 is answered in it. The initiator must know the recipient's
//! static key; the recipient learns the initiator's, which the shared secret under the signature proves.

mod message;
mod packet;

use rand::{CryptoRng, RngExt};
use sha3::{Digest, Keccak256};
use zeroize::Zeroizing;

use self::{
    message::{Ack, Auth, NONCE_LENGTH},
    packet::{Opened, PacketReader},
};
use super::{
    FrameReader, FrameWriter, HandshakeError,
    curve::{Agreed, PublicKey, Scalar, SecretKey, multiply, recover},
    ecies::Seal,
};

pub(super) use packet::{Form, MAX_PACKET, MIN_PACKET};

/// One side of the handshake.
///
/// ```text
/// initiator:  AwaitingAck ── ack ──▶ Done
/// recipient:  AwaitingAuth ── auth ──▶ Done
/// ```
///
/// Drive it with [`poll_transmit`](Self::poll_transmit), [`handle_bytes`](Self::handle_bytes) and [`poll_secured`](Self::poll_secured). After an
/// error it is dead. It holds less than 4 KB. What comes from `rng` is all that differs between two runs.
pub struct Handshake<'k> {
    key: &'k SecretKey,
    draw: Draw,
    state: State,
    reader: PacketReader,
    transmit: Option<Vec<u8>>,
    secured: Option<Secured>,
}

enum State {
    AwaitingAck { recipient: PublicKey, auth: Vec<u8> },
    AwaitingAuth,
    Done,
}

/// What a finished handshake yields. Nothing after the packet was read from the stream.
#[derive(Debug)]
pub struct Secured {
    /// The peer's static key, proven: its identity.
    pub peer: PublicKey,
    /// For our frames.
    pub writer: FrameWriter,
    /// For the peer's frames.
    pub reader: FrameReader,
}

impl<'k> Handshake<'k> {
    /// Begins as the side that dialed, with a node whose key is `recipient`.
    pub fn initiator(key: &'k SecretKey, recipient: &PublicKey, rng: &mut impl CryptoRng) -> Self {
        Self::initiate(key, recipient, Draw::new(rng))
    }

    /// Begins as the side that was dialed.
    pub fn recipient(key: &'k SecretKey, rng: &mut impl CryptoRng) -> Self {
        Self::receive(key, Draw::new(rng))
    }

    fn initiate(key: &'k SecretKey, recipient: &PublicKey, draw: Draw) -> Self {
        let Draw { nonce, ephemeral, box_scalar, iv, padding } = &draw;
        let [token, agreed, point] =
            multiply([(key.scalar(), Some(recipient)), (box_scalar, Some(recipient)), (box_scalar, None)]);
        let signature = ephemeral.sign(&xor(&token.x(), nonce));
        let auth = Auth { signature, static_key: *key.public().as_bytes(), nonce: *nonce };
        let seal = Seal { agreed: agreed.x(), point: *point.as_bytes(), iv: *iv };
        let auth = packet::seal(Form::Eip8, &seal, &auth.encode(*padding));
        Handshake {
            key,
            draw,
            reader: PacketReader::new(Ack::PLAIN),
            transmit: Some(auth.clone()),
            state: State::AwaitingAck { recipient: *recipient, auth },
            secured: None,
        }
    }

    fn receive(key: &'k SecretKey, draw: Draw) -> Self {
        let reader = PacketReader::new(Auth::PLAIN);
        Handshake { key, draw, reader, transmit: None, state: State::AwaitingAuth, secured: None }
    }

    /// Bytes to write to the stream.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.take()
    }

    /// How many bytes to read at most before the next [`handle_bytes`](Self::handle_bytes): what comes after them may be a frame. 0 when
    /// the handshake is done.
    pub fn missing(&self) -> usize {
        match self.state {
            State::Done => 0,
            _ => self.reader.missing(),
        }
    }

    /// Takes bytes from the stream and says how many; the rest belongs to [`Secured::reader`].
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<usize, HandshakeError> {
        let mut rest = bytes;
        while !rest.is_empty() && !matches!(self.state, State::Done) {
            let taken = self.reader.take(rest);
            rest = rest.get(taken..).unwrap_or_default();
            if let Some(opened) = self.reader.open(self.key.scalar())? {
                let secured = match std::mem::replace(&mut self.state, State::Done) {
                    State::AwaitingAck { recipient, auth } => self.handle_ack(&opened, recipient, &auth)?,
                    _ => self.handle_auth(&opened)?,
                };
                self.secured = Some(secured);
            }
        }
        Ok(bytes.len().saturating_sub(rest.len()))
    }

    /// The stream has ended: why that is too early, if it is.
    pub fn handle_end(&mut self) -> Result<(), HandshakeError> {
        match self.missing() {
            0 => Ok(()),
            missing => Err(HandshakeError::Cut { missing }),
        }
    }

    /// The result, once; write what [`poll_transmit`](Self::poll_transmit) gives before any frame.
    pub fn poll_secured(&mut self) -> Option<Secured> {
        self.secured.take()
    }

    fn handle_auth(&mut self, opened: &Opened) -> Result<Secured, HandshakeError> {
        let auth = Auth::decode(opened.form, &opened.message)?;
        let peer = PublicKey::from_bytes(&auth.static_key).map_err(|_| HandshakeError::StaticKey)?;
        let [token] = multiply([(self.key.scalar(), Some(&peer))]);
        let ephemeral_key = recover(&xor(&token.x(), &auth.nonce), &auth.signature);
        let ephemeral_key = ephemeral_key.ok_or(HandshakeError::Signature)?;

        let Draw { nonce, ephemeral, box_scalar, iv, padding } = &self.draw;
        let [agreed, ours, box_agreed, box_point] = multiply([
            (ephemeral, Some(&ephemeral_key)),
            (ephemeral, None),
            (box_scalar, Some(&peer)),
            (box_scalar, None),
        ]);
        let ack = Ack { ephemeral_key: *ours.as_bytes(), nonce: *nonce };
        let seal = Seal { agreed: box_agreed.x(), point: *box_point.as_bytes(), iv: *iv };
        let ack = packet::seal(opened.form, &seal, &ack.encode(opened.form, *padding));
        let secrets = Secrets::of_initiator(&agreed.x(), [&auth.nonce, nonce], [&opened.packet, &ack]).swapped();
        self.transmit = Some(ack);
        Ok(Secured { peer, writer: FrameWriter::new(&secrets), reader: FrameReader::new(&secrets) })
    }

    fn handle_ack(&mut self, opened: &Opened, recipient: PublicKey, auth: &[u8]) -> Result<Secured, HandshakeError> {
        let ack = Ack::decode(opened.form, &opened.message)?;
        let Draw { nonce, ephemeral, .. } = &self.draw;
        let agreed = ephemeral.agree(&ack.ephemeral_key).ok_or(HandshakeError::EphemeralKey)?;
        let secrets = Secrets::of_initiator(&agreed, [nonce, &ack.nonce], [auth, &opened.packet]);
        Ok(Secured { peer: recipient, writer: FrameWriter::new(&secrets), reader: FrameReader::new(&secrets) })
    }
}

impl std::fmt::Debug for Handshake<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.state {
            State::AwaitingAck { .. } => "Handshake::AwaitingAck",
            State::AwaitingAuth => "Handshake::AwaitingAuth",
            State::Done => "Handshake::Done",
        })
    }
}

/// The least that an EIP-8 message is padded by, in bytes: so it is told from a plain one by its length (go-ethereum `sealEIP8`).
const MIN_PADDING: usize = 100;

/// The most, in bytes (go-ethereum: 199).
const MAX_PADDING: usize = 199;

/// All that one side leaves to chance.
struct Draw {
    nonce: [u8; NONCE_LENGTH],
    ephemeral: Scalar,
    box_scalar: Scalar,
    iv: [u8; 16],
    padding: usize,
}

impl Draw {
    fn new(rng: &mut impl CryptoRng) -> Self {
        let (mut nonce, mut iv) = ([0; NONCE_LENGTH], [0; 16]);
        rng.fill_bytes(&mut nonce);
        rng.fill_bytes(&mut iv);
        let (ephemeral, box_scalar) = (Scalar::random(rng), Scalar::random(rng));
        Draw { nonce, ephemeral, box_scalar, iv, padding: rng.random_range(MIN_PADDING..=MAX_PADDING) }
    }
}

/// What frames are sealed and opened with, as one side sees it.
pub(super) struct Secrets {
    pub(super) aes: Zeroizing<[u8; 32]>,
    pub(super) mac: Zeroizing<[u8; 32]>,
    pub(super) egress: Keccak256,
    pub(super) ingress: Keccak256,
}

impl Secrets {
    /// From what the two ephemeral keys agree on, the nonces and the packets, in both cases the initiator's first.
    fn of_initiator(agreed: &Agreed, nonces: [&[u8; NONCE_LENGTH]; 2], packets: [&[u8]; 2]) -> Self {
        let [initiator, recipient] = nonces;
        let [auth, ack] = packets;
        let shared = keccak256(&**agreed, &*keccak256(recipient, initiator));
        let aes = keccak256(&**agreed, &*shared);
        let mac = keccak256(&**agreed, &*aes);
        let stream = |nonce, packet| Keccak256::new().chain_update(xor(&mac, nonce).as_slice()).chain_update(packet);
        let (egress, ingress) = (stream(recipient, auth), stream(initiator, ack));
        Secrets { aes, mac, egress, ingress }
    }

    /// As the other side sees them.
    fn swapped(self) -> Self {
        Secrets { egress: self.ingress, ingress: self.egress, ..self }
    }
}

fn keccak256(first: &[u8], second: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(Keccak256::new().chain_update(first).chain_update(second).finalize().into())
}

fn xor(one: &[u8; 32], other: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut result = Zeroizing::new(*one);
    for (byte, other) in result.iter_mut().zip(other) {
        *byte ^= other;
    }
    result
}

#[cfg(test)]
mod tests;
