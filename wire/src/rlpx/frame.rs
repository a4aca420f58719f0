//! Frames (devp2p `rlpx.md`, "Framing"): each direction is one AES-256-CTR stream and one running keccak, from which every header and
//! every frame takes its authenticator.
//!
//! ```text
//! header (16) ‖ header-mac (16) ‖ frame-data, padded with zeros to 16 (n) ‖ frame-mac (16)
//! header = size of frame-data (u24, big-endian) ‖ C2 80 80 ‖ zeros
//! ```
//!
//! Frame data is `message code ‖ payload`; what it means is not known here. Data is sealed and opened where it lies, and buffers
//! are used again: after the first frames nothing is allocated.

use aes::{Aes256Enc, cipher::BlockCipherEncrypt};
use ctr::{
    Ctr128BE,
    cipher::{KeyInit, KeyIvInit, StreamCipher},
};
use sha3::{Digest, Keccak256};
use subtle::ConstantTimeEq;
use zeroize::ZeroizeOnDrop;

use super::{FrameError, handshake::Secrets};

/// The most data in one frame, in bytes: its size is a u24.
pub const MAX_FRAME: usize = (1 << 24) - 1;

/// A header, an authenticator, and what the data is padded to a multiple of, in bytes.
const BLOCK: usize = 16;

/// What comes before the data, in bytes.
const HEADER: usize = 2 * BLOCK;

/// What follows the size in a header: the list [0, 0] of a capability and a context that nobody uses. It is not looked at when read.
const HEADER_DATA: [u8; 3] = [0xc2, 0x80, 0x80];

/// Seals the frames of one direction.
pub struct FrameWriter {
    cipher: Ctr128BE<Aes256Enc>,
    mac: Mac,
}

impl FrameWriter {
    pub(super) fn new(secrets: &Secrets) -> Self {
        FrameWriter { cipher: cipher(secrets), mac: Mac::new(secrets, &secrets.egress) }
    }

    /// Appends `data` (1 to [`MAX_FRAME`] bytes: message code ‖ payload) to `out` as one sealed frame.
    ///
    /// After an error nothing was appended and the stream goes on.
    pub fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        self.seal_with(out, |out| out.extend_from_slice(data))
    }

    /// As [`seal`](Self::seal), of what `write` appends: a message can be encoded or compressed right to where it is sealed.
    pub fn seal_with(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), FrameError> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        let data_at = out.len();
        write(out);
        let size = out.len().saturating_sub(data_at);
        let padded = padded(size);
        out.resize(data_at.saturating_add(padded), 0);
        let frame = out.get_mut(start..).and_then(|frame| frame.split_first_chunk_mut::<BLOCK>());
        let Some((header, rest)) = frame.filter(|_| (1..=MAX_FRAME).contains(&size)) else {
            out.truncate(start);
            return Err(FrameError::CannotSend(size));
        };

        // Header and data are one stretch of the cipher's stream: sealed side by side, then the header makes room for its authenticator.
        if let Some(plain) = rest.first_chunk_mut::<BLOCK>() {
            let ([_, s2, s1, s0], [d2, d1, d0]) = ((size as u32).to_be_bytes(), HEADER_DATA); // at most 24 bits
            *plain = [s2, s1, s0, d2, d1, d0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        }
        self.cipher.apply_keystream(rest);
        if let Some((sealed, data)) = rest.split_first_chunk_mut::<BLOCK>() {
            *header = *sealed;
            *sealed = self.mac.header(header);
            self.mac.update(data);
        }
        let frame_mac = self.mac.frame();
        out.extend_from_slice(&frame_mac);
        Ok(())
    }
}

/// Opens the frames of one direction.
pub struct FrameReader {
    cipher: Ctr128BE<Aes256Enc>,
    mac: Mac,
    /// Of the frame whose header was read.
    current: Option<Current>,
    max_frame: usize,
}

struct Current {
    /// Length of the data.
    size: usize,
    /// How much of the padded data went into the authenticator already.
    absorbed: usize,
}

impl FrameReader {
    pub(super) fn new(secrets: &Secrets) -> Self {
        FrameReader {
            cipher: cipher(secrets),
            mac: Mac::new(secrets, &secrets.ingress),
            current: None,
            max_frame: MAX_FRAME,
        }
    }

    /// Frames whose header says more than this many bytes of data are refused from now on; [`MAX_FRAME`] at first.
    pub fn set_max_frame(&mut self, max: usize) {
        self.max_frame = max.min(MAX_FRAME);
    }

    /// Opens the next frame of `input`, in place, and takes it off; gives its data, or `None` if it is not all there yet.
    ///
    /// Size and data are used only after their authenticators were compared. After an error the connection is dead.
    pub fn open<'b>(&mut self, input: &'b mut FrameBuffer) -> Result<Option<&'b mut [u8]>, FrameError> {
        let current = match &mut self.current {
            Some(current) => current,
            None => {
                let Some(header) = input.sealed().first_chunk_mut::<HEADER>() else { return Ok(None) };
                let size = open_header(&mut self.cipher, &mut self.mac, header)?;
                if size > self.max_frame {
                    return Err(FrameError::TooLong { size, max: self.max_frame });
                }
                if size == 0 {
                    return Err(FrameError::Empty);
                }
                input.take(HEADER);
                self.current.insert(Current { size, absorbed: 0 })
            }
        };
        // Authenticated as it comes: when the last byte is there, little is left to do.
        let (size, padded) = (current.size, padded(current.size));
        let here = input.sealed();
        let fresh = here.get(current.absorbed..here.len().min(padded)).unwrap_or_default();
        self.mac.update(fresh);
        current.absorbed = current.absorbed.saturating_add(fresh.len());

        let Some((data, mac)) = here.split_at_mut_checked(padded) else { return Ok(None) };
        let Some(mac) = mac.first_chunk::<BLOCK>() else { return Ok(None) };
        if !bool::from(self.mac.frame().ct_eq(mac)) {
            return Err(FrameError::FrameMac);
        }
        self.cipher.apply_keystream(data);
        self.current = None;
        let taken = input.take(padded.saturating_add(BLOCK));
        Ok(taken.get_mut(..size))
    }

    /// How many bytes are certainly missing, after [`open`](Self::open) gave nothing: to the end of the header, or of the frame.
    pub fn missing(&self, input: &FrameBuffer) -> usize {
        let whole = self.current.as_ref().map_or(HEADER, |current| padded(current.size).saturating_add(BLOCK));
        whole.saturating_sub(input.len())
    }

    /// Whether a frame has begun and not ended: the stream must not end here.
    pub fn is_mid_frame(&self, input: &FrameBuffer) -> bool {
        self.current.is_some() || !input.is_empty()
    }
}

/// The size of the frame's data, from a header that is authentic.
fn open_header(
    cipher: &mut Ctr128BE<Aes256Enc>,
    mac: &mut Mac,
    header: &mut [u8; HEADER],
) -> Result<usize, FrameError> {
    let (sealed, found) = header.split_at_mut(BLOCK);
    let Some(sealed) = sealed.first_chunk_mut::<BLOCK>() else { return Err(FrameError::HeaderMac) };
    if !bool::from(mac.header(sealed).as_slice().ct_eq(found)) {
        return Err(FrameError::HeaderMac);
    }
    cipher.apply_keystream(sealed);
    let [s2, s1, s0, ..] = *sealed;
    Ok(usize::from(s2) << 16 | usize::from(s1) << 8 | usize::from(s0))
}

/// Length of the data with its padding: less than [`BLOCK`] more. For lengths that no frame has, it does not matter.
fn padded(size: usize) -> usize {
    size.saturating_add(BLOCK - 1) & !(BLOCK - 1)
}

/// One key for both directions, and zeros for the start of both: the spec says so. It is of this connection only.
fn cipher(secrets: &Secrets) -> Ctr128BE<Aes256Enc> {
    Ctr128BE::new((&*secrets.aes).into(), (&[0; BLOCK]).into())
}

/// The authenticators of one direction. Their construction is RLPx's own: a keccak that is never finished, and AES to mix its
/// intermediate digests with what they authenticate.
struct Mac {
    cipher: Aes256Enc,
    hash: Keccak256,
    /// Of `hash` as it is now (the first half). What a frame ends with is what the next header begins with: kept, it saves one of
    /// five permutations of a small frame.
    digest: [u8; BLOCK],
}

/// Only with the `zeroize` features of their crates: without one of them this does not compile.
const _: () = {
    const fn is_wiped<T: ZeroizeOnDrop>() {}
    is_wiped::<Keccak256>();
    is_wiped::<Aes256Enc>();
    is_wiped::<Ctr128BE<Aes256Enc>>();
};

impl Mac {
    fn new(secrets: &Secrets, hash: &Keccak256) -> Self {
        Mac { cipher: Aes256Enc::new((&*secrets.mac).into()), digest: digest(hash), hash: hash.clone() }
    }

    /// The authenticator of a sealed header.
    fn header(&mut self, sealed: &[u8; BLOCK]) -> [u8; BLOCK] {
        self.mix(*sealed)
    }

    /// Adds sealed data.
    fn update(&mut self, sealed: &[u8]) {
        self.hash.update(sealed);
    }

    /// The authenticator of all data since the header.
    fn frame(&mut self) -> [u8; BLOCK] {
        self.digest = digest(&self.hash);
        self.mix(self.digest)
    }

    fn mix(&mut self, with: [u8; BLOCK]) -> [u8; BLOCK] {
        let mut block = self.digest.into();
        self.cipher.encrypt_block(&mut block);
        for (byte, with) in block.iter_mut().zip(with) {
            *byte ^= with;
        }
        self.hash.update(block);
        self.digest = digest(&self.hash);
        self.digest
    }
}

fn digest(hash: &Keccak256) -> [u8; BLOCK] {
    let digest: [u8; 32] = hash.clone().finalize().into();
    digest.first_chunk().copied().unwrap_or_default()
}

impl std::fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameWriter")
    }
}

impl std::fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameReader")
    }
}

/// An empty buffer of more than this many bytes is given back by [`FrameBuffer::release`].
const KEPT_CAPACITY: usize = 4096;

/// Incoming bytes: read into [`spare`](Self::spare), then [`FrameReader::open`] until it gives nothing more. It holds what was read,
/// never what a header claims.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    /// What was taken off, then what was not.
    bytes: Vec<u8>,
    start: usize,
}

impl FrameBuffer {
    /// The buffer, to append bytes from the stream to, with room for at least `room` more.
    pub fn spare(&mut self, room: usize) -> &mut Vec<u8> {
        self.compact();
        self.bytes.reserve(room);
        &mut self.bytes
    }

    /// Bytes that were not taken off.
    pub fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.start)
    }

    /// Whether all was taken off.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives back the memory that what is in it does not need.
    pub fn release(&mut self) {
        self.compact();
        if self.bytes.capacity() > KEPT_CAPACITY {
            self.bytes.shrink_to_fit();
        }
    }

    fn sealed(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    /// Takes bytes off the front.
    fn take(&mut self, len: usize) -> &mut [u8] {
        let start = self.start;
        self.start = start.saturating_add(len).min(self.bytes.len());
        self.bytes.get_mut(start..self.start).unwrap_or_default()
    }

    /// Moves what is left to the front.
    fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start.., 0);
            self.bytes.truncate(self.len());
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests;
