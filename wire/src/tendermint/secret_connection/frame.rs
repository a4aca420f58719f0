//! Frames: 1028 bytes of plaintext (a little-endian length, then 1024 bytes of data padded with zeros) sealed to 1044 by
//! ChaCha20-Poly1305, the nonce a counter per direction.
//!
//! Both buffers work in place on many frames per call: data is copied once into its frame and sealed there; opened frames
//! close up, without a copy, into one contiguous plaintext.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::Blame;

/// The most data in one frame, in bytes (CometBFT `dataMaxSize`).
pub const DATA_SIZE: usize = 1024;

/// The length in front of the data, in bytes (CometBFT `dataLenSize`).
const LEN_SIZE: usize = 4;

/// A frame before it is sealed, in bytes.
const PLAIN_SIZE: usize = LEN_SIZE + DATA_SIZE;

/// The authenticator, in bytes.
const TAG_SIZE: usize = 16;

/// A frame on the wire, in bytes.
pub const SEALED_SIZE: usize = PLAIN_SIZE + TAG_SIZE;

/// Seals the frames of one direction.
#[derive(Debug)]
pub struct Sealer {
    cipher: Cipher,
}

/// Opens the frames of one direction.
#[derive(Debug)]
pub struct Opener {
    cipher: Cipher,
}

impl Sealer {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Sealer { cipher: Cipher::new(key) }
    }
}

impl Opener {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Opener { cipher: Cipher::new(key) }
    }
}

#[derive(Debug)]
struct Cipher {
    key: LessSafeKey,
    /// The number of the next frame.
    counter: u64,
}

impl Cipher {
    #[expect(clippy::unwrap_used, reason = "the key has the length that the algorithm asks for")]
    fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).unwrap();
        Cipher { key: LessSafeKey::new(key), counter: 0 }
    }

    /// Four zero bytes, then the counter, little-endian. No nonce is ever used twice.
    fn next_nonce(&mut self) -> Result<Nonce, FrameError> {
        let counter = self.counter;
        self.counter = counter.checked_add(1).ok_or(FrameError::NonceExhausted)?;
        let [a, b, c, d, e, f, g, h] = counter.to_le_bytes();
        Ok(Nonce::assume_unique_for_key([0, 0, 0, 0, a, b, c, d, e, f, g, h]))
    }
}

/// Outgoing frames: put plaintext in, seal, write [`sealed`](Self::sealed) to the stream, clear.
#[derive(Debug, Default)]
pub struct SealBuffer {
    /// Whole frames in their place on the wire, then memory that was used before.
    bytes: Vec<u8>,
    /// Where the frames end.
    end: usize,
    /// Bytes at the front that are sealed.
    sealed: usize,
    /// Free data bytes in the last frame, if it is not sealed.
    free: usize,
}

impl SealBuffer {
    /// Appends plaintext, filling the last frame before a new one is begun.
    #[inline]
    pub fn put(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.free == 0 {
                self.end = self.end.saturating_add(SEALED_SIZE);
                if self.bytes.len() < self.end {
                    self.bytes.resize(self.end, 0);
                }
                self.free = DATA_SIZE;
            }
            let (now, later) = data.split_at(data.len().min(self.free));
            let Some((place, _)) = self.free_place().split_at_mut_checked(now.len()) else { return };
            place.copy_from_slice(now);
            self.free = self.free.saturating_sub(now.len());
            data = later;
        }
    }

    /// What is free in the last frame.
    fn free_place(&mut self) -> &mut [u8] {
        let end = self.end.saturating_sub(TAG_SIZE);
        self.bytes.get_mut(end.saturating_sub(self.free)..end).unwrap_or_default()
    }

    /// Seals all that was put since the last call; the last frame is closed even if it is not full.
    pub fn seal(&mut self, sealer: &mut Sealer) -> Result<(), FrameError> {
        if self.free > 0 {
            self.free_place().fill(0);
        }
        let frames = self.bytes.get_mut(self.sealed..self.end).unwrap_or_default();
        let mut left = frames.len();
        for frame in frames.chunks_exact_mut(SEALED_SIZE) {
            left = left.saturating_sub(SEALED_SIZE);
            let used = if left == 0 { DATA_SIZE.saturating_sub(self.free) } else { DATA_SIZE };
            let nonce = sealer.cipher.next_nonce()?;
            let Some((plain, tag_place)) = frame.split_at_mut_checked(PLAIN_SIZE) else { continue };
            if let Some(len) = plain.first_chunk_mut() {
                *len = u32::try_from(used).unwrap_or(0).to_le_bytes();
            }
            let sealed = sealer.cipher.key.seal_in_place_separate_tag(nonce, Aad::empty(), plain);
            // Fails only for messages of gigabytes.
            let tag = sealed.map_err(|_| FrameError::NonceExhausted)?;
            tag_place.copy_from_slice(tag.as_ref());
        }
        (self.sealed, self.free) = (self.end, 0);
        Ok(())
    }

    /// The sealed frames, in order.
    pub fn sealed(&self) -> &[u8] {
        self.bytes.get(..self.sealed).unwrap_or_default()
    }

    /// Whether nothing was put in since the last [`clear`](Self::clear).
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// The size on the wire of what was put in, in bytes.
    pub fn len(&self) -> usize {
        self.end
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        (self.end, self.sealed, self.free) = (0, 0, 0);
    }

    /// Forgets everything and gives the memory back.
    pub fn release(&mut self) {
        *self = Self::default();
    }
}

/// A buffer of up to two frames is kept while it holds anything, in bytes.
const KEPT_CAPACITY: usize = 2 * SEALED_SIZE;

/// Incoming frames: read into [`spare`](Self::spare), open, take [`plaintext`](Self::plaintext), consume.
#[derive(Debug, Default)]
pub struct OpenBuffer {
    /// Four bytes in reserve, then plaintext, then a gap, then frames that are not opened yet.
    bytes: Vec<u8>,
    plain_start: usize,
    plain_end: usize,
    sealed_start: usize,
}

impl OpenBuffer {
    /// The buffer, to append bytes from the stream to, with room for at least `room` more.
    pub fn spare(&mut self, room: usize) -> &mut Vec<u8> {
        self.compact();
        self.bytes.reserve(room);
        &mut self.bytes
    }

    /// Moves what is left (little, if plaintext is consumed) to the front.
    fn compact(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.resize(LEN_SIZE, 0);
            (self.plain_start, self.plain_end, self.sealed_start) = (LEN_SIZE, LEN_SIZE, LEN_SIZE);
        }
        let plain = self.plain_start..self.plain_end;
        self.bytes.copy_within(plain, LEN_SIZE);
        self.plain_end = LEN_SIZE.saturating_add(self.plain_end.saturating_sub(self.plain_start));
        self.plain_start = LEN_SIZE;
        let sealed = self.bytes.len().saturating_sub(self.sealed_start);
        self.bytes.copy_within(self.sealed_start.., self.plain_end);
        self.sealed_start = self.plain_end;
        self.bytes.truncate(self.plain_end.saturating_add(sealed));
    }

    /// Opens every whole frame. After an error the connection is dead; what was opened before it stays readable.
    pub fn open(&mut self, opener: &mut Opener) -> Result<(), FrameError> {
        while self.bytes.len().saturating_sub(self.sealed_start) >= SEALED_SIZE {
            // The frame's length falls on the last four bytes before its data; they are put back below. So data is decrypted
            // to where it belongs, right behind the plaintext before it.
            let target = self.plain_end.saturating_sub(LEN_SIZE);
            let end = self.sealed_start.saturating_add(SEALED_SIZE);
            let frame_at = self.sealed_start.saturating_sub(target);
            let Some(place) = self.bytes.get_mut(target..end) else { return Ok(()) };
            let Some(&before) = place.first_chunk::<LEN_SIZE>() else { return Ok(()) };
            let nonce = opener.cipher.next_nonce()?;
            let opened = opener.cipher.key.open_within(nonce, Aad::empty(), place, frame_at..);
            let len = match opened {
                Ok(plain) => plain.first_chunk::<LEN_SIZE>().map_or(0, |len| u32::from_le_bytes(*len)),
                Err(_) => {
                    restore(&mut self.bytes, target, before);
                    return Err(FrameError::Decrypt);
                }
            };
            restore(&mut self.bytes, target, before);
            self.sealed_start = end;
            let data = usize::try_from(len).ok().filter(|len| *len <= DATA_SIZE);
            let data = data.ok_or(FrameError::ChunkTooLong(len))?;
            if data == 0 {
                return Err(FrameError::Empty);
            }
            self.plain_end = self.plain_end.saturating_add(data);
        }
        Ok(())
    }

    /// What was opened and not consumed.
    pub fn plaintext(&self) -> &[u8] {
        self.bytes.get(self.plain_start..self.plain_end).unwrap_or_default()
    }

    /// Takes `len` bytes off the front of the plaintext.
    pub fn consume(&mut self, len: usize) {
        self.plain_start = self.plain_start.saturating_add(len).min(self.plain_end);
    }

    /// Whether there is neither plaintext nor a part of a frame.
    pub fn is_empty(&self) -> bool {
        self.plain_start == self.plain_end && self.sealed_start == self.bytes.len()
    }

    /// Whether a part of a frame waits for the rest.
    pub fn is_mid_frame(&self) -> bool {
        self.sealed_start < self.bytes.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back the memory that what is in it does not need: a part of a frame must not hold a large buffer.
    pub fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        } else if self.bytes.capacity() > KEPT_CAPACITY {
            self.compact();
            self.bytes.shrink_to(SEALED_SIZE.saturating_add(LEN_SIZE));
        }
    }
}

fn restore(bytes: &mut [u8], at: usize, before: [u8; LEN_SIZE]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = before;
    }
}

/// Why a frame cannot be read or written; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The authenticator is wrong: altered, reordered or replayed.
    #[error("frame cannot be decrypted")]
    Decrypt,
    /// The frame claims more data than it has room for.
    #[error("frame claims {0} bytes of data, at most {DATA_SIZE} fit")]
    ChunkTooLong(u32),
    /// The frame holds no data. No implementation writes such; they would cost work that no rate limit sees.
    #[error("frame holds no data")]
    Empty,
    /// 2^64 - 1 frames were carried in one direction.
    #[error("frame counter is exhausted")]
    NonceExhausted,
}

impl FrameError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            FrameError::Decrypt | FrameError::ChunkTooLong(_) => Blame::Malformed,
            FrameError::Empty => Blame::Misbehaved,
            FrameError::NonceExhausted => Blame::Local,
        }
    }
}

#[cfg(test)]
mod tests;
