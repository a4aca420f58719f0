//! A packet of the handshake: how it is told from the stream which form it has and where it ends, and its sealing.
//!
//! ```text
//! plain (before EIP-8):  box                  of one length: 307 bytes auth, 210 bytes ack
//! EIP-8:                 size (u16) ‖ box     size is that of the box, and authenticated by it
//! ```
//!
//! A box begins with 0x04. So does the size of an EIP-8 packet of 1,024 to 1,279 bytes, whose third byte is then 0x04: only if a plain
//! packet has that by chance too (one of 256) must it be opened to know.

use zeroize::Zeroizing;

use super::super::{
    HandshakeError,
    curve::Scalar,
    ecies::{self, OVERHEAD, Seal, UNCOMPRESSED},
};

/// The largest packet, in bytes without its size (go-ethereum `readMsg`, `baseProtocolMaxMsgSize`).
pub(in crate::rlpx) const MAX_PACKET: usize = 2048;

/// A box with one byte in it.
pub(in crate::rlpx) const MIN_PACKET: usize = OVERHEAD + 1;

/// The size in front of an EIP-8 packet, in bytes.
const PREFIX: usize = 2;

/// Bytes that tell the form: in every packet there are more.
const FIRST_LOOK: usize = PREFIX + 1;

/// How a packet is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rlpx) enum Form {
    /// As in 2015: fixed lengths, no RLP.
    Plain,
    /// As since EIP-8: an RLP list that may grow, and padding.
    Eip8,
}

/// A packet that was opened.
pub(super) struct Opened {
    pub(super) form: Form,
    pub(super) message: Zeroizing<Vec<u8>>,
    /// All of it as it came: frames are authenticated with it.
    pub(super) packet: Vec<u8>,
}

/// Collects one packet, and not a byte more.
pub(super) struct PacketReader {
    bytes: Vec<u8>,
    /// How many bytes there must be to go on.
    needed: usize,
    /// Length of the message in a plain packet.
    plain_message: usize,
    looking_for: LookingFor,
}

/// ```text
/// FirstLook ─┬─▶ Plain
///            ├─▶ PlainOrNot ─▶ Eip8
///            └─▶ Eip8
/// ```
#[derive(Clone, Copy)]
enum LookingFor {
    FirstLook,
    Plain,
    PlainOrNot,
    Eip8,
}

impl PacketReader {
    pub(super) fn new(plain_message: usize) -> Self {
        PacketReader { bytes: Vec::new(), needed: FIRST_LOOK, plain_message, looking_for: LookingFor::FirstLook }
    }

    /// Bytes to the next decision; never beyond the packet.
    pub(super) fn missing(&self) -> usize {
        self.needed.saturating_sub(self.bytes.len())
    }

    /// Takes at most [`missing`](Self::missing) bytes and says how many.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let now = bytes.get(..self.missing()).unwrap_or(bytes);
        self.bytes.extend_from_slice(now);
        now.len()
    }

    /// Goes on if what was missing is there; gives the packet at its end.
    pub(super) fn open(&mut self, key: &Scalar) -> Result<Option<Opened>, HandshakeError> {
        if self.missing() > 0 {
            return Ok(None);
        }
        let form = match self.looking_for {
            LookingFor::FirstLook => {
                self.look()?;
                return Ok(None);
            }
            LookingFor::PlainOrNot if ecies::open(key, &self.bytes, &[]).is_err() => {
                self.expect_eip8()?;
                return Ok(None);
            }
            LookingFor::Plain | LookingFor::PlainOrNot => Form::Plain,
            LookingFor::Eip8 => Form::Eip8,
        };
        let prefix = if form == Form::Eip8 { PREFIX } else { 0 };
        let (prefix, sealed) = self.bytes.split_at_checked(prefix).unwrap_or_default();
        let message = ecies::open(key, sealed, prefix)?;
        Ok(Some(Opened { form, message, packet: std::mem::take(&mut self.bytes) }))
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }

    fn look(&mut self) -> Result<(), HandshakeError> {
        let plain = self.plain_message.saturating_add(OVERHEAD);
        match *self.bytes {
            [UNCOMPRESSED, _, UNCOMPRESSED] => (self.needed, self.looking_for) = (plain, LookingFor::PlainOrNot),
            [UNCOMPRESSED, ..] => (self.needed, self.looking_for) = (plain, LookingFor::Plain),
            _ => self.expect_eip8()?,
        }
        Ok(())
    }

    fn expect_eip8(&mut self) -> Result<(), HandshakeError> {
        let [s1, s0, first, ..] = *self.bytes else { return Ok(()) };
        let size = usize::from(u16::from_be_bytes([s1, s0]));
        if size > MAX_PACKET {
            return Err(HandshakeError::TooLong(size));
        }
        if size < MIN_PACKET {
            return Err(HandshakeError::TooShort(size));
        }
        if first != UNCOMPRESSED {
            return Err(HandshakeError::NotAPoint);
        }
        (self.needed, self.looking_for) = (size.saturating_add(PREFIX), LookingFor::Eip8);
        Ok(())
    }
}

/// The packet of a message.
pub(super) fn seal(form: Form, seal: &Seal, message: &[u8]) -> Vec<u8> {
    let size = message.len().saturating_add(OVERHEAD);
    let mut packet = Vec::with_capacity(size.saturating_add(PREFIX));
    match form {
        Form::Plain => ecies::seal(seal, message, &[], &mut packet),
        Form::Eip8 => {
            let prefix = (size as u16).to_be_bytes(); // ours are below 1,000
            packet.extend_from_slice(&prefix);
            ecies::seal(seal, message, &prefix, &mut packet);
        }
    }
    packet
}
