//! Messages as frame data: the message code in RLP, then the payload, compressed with snappy if the peer speaks devp2p 5 (`rlpx.md`,
//! "Framing" and "Initial Handshake").
//!
//! Inside a process a message is one [`Bytes`], code in front: [`join`] makes it, [`split`] takes it apart. There the code counts from the
//! protocol's first one and nothing is compressed. [`Codec`] turns the one into the other.
//!
//! Nothing is allocated because a peer says so: the length in front of compressed data must be one that the data could have, and within the
//! limit, before there is room for it.

use bytes::Bytes;

use super::rlp_list::Item;
use crate::Blame;

/// The most bytes of frame data, and of a payload before compression: 2²⁴ − 1, as a frame's length has three bytes (`rlpx.md`,
/// "Framing"; for the payload the same document's section on snappy).
pub const MAX_MESSAGE_SIZE: usize = (1 << 24) - 1;

/// The longest code in RLP, in bytes: a length and eight bytes.
pub const MAX_CODE_LENGTH: usize = 9;

/// One message in its form inside the process: `code` (counted from the protocol's first), then `payload`, which is the RLP of the
/// protocol's message. Copies the payload.
pub fn join(code: u64, payload: &[u8]) -> Bytes {
    let mut message = Vec::with_capacity(code_len(code).saturating_add(payload.len()));
    put_code(&mut message, code);
    message.extend_from_slice(payload);
    Bytes::from(message)
}

/// Code and payload of a message that [`join`] made or that was received; copies nothing. What was received always has a code.
pub fn split(mut message: Bytes) -> Result<(u64, Bytes), MessageError> {
    let (code, len) = read_code(&message)?;
    Ok((code, message.split_off(len)))
}

/// The code in front of frame data or of a message, and its length in bytes.
pub(crate) fn read_code(data: &[u8]) -> Result<(u64, usize), MessageError> {
    let (item, rest) = Item::split(data).map_err(|_| MessageError::Code)?;
    let code = item.u64().map_err(|_| MessageError::Code)?;
    Ok((code, data.len().saturating_sub(rest.len())))
}

/// Appends a code in RLP: 1 to 9 bytes.
pub(crate) fn put_code(out: &mut Vec<u8>, code: u64) {
    let bytes = code.to_be_bytes();
    let significant = bytes.get(code.leading_zeros() as usize / 8..).unwrap_or_default();
    match significant {
        [byte] if *byte < 0x80 => out.push(*byte),
        _ => {
            // At most eight bytes.
            out.push(0x80 | significant.len() as u8);
            out.extend_from_slice(significant);
        }
    }
}

/// The bytes that [`put_code`] appends.
pub(crate) fn code_len(code: u64) -> usize {
    let significant = 8usize.saturating_sub(code.leading_zeros() as usize / 8);
    if code < 0x80 { 1 } else { significant.saturating_add(1) }
}

/// How the payloads of one connection are written and read.
#[derive(Debug)]
pub struct Codec {
    snappy: bool,
    /// Made for the first message that is worth compressing: its tables have 2 to 34 KB.
    encoder: Option<Box<snap::raw::Encoder>>,
}

impl Codec {
    /// The first version of the base protocol whose messages are compressed, all after Hello.
    pub const SNAPPY_VERSION: u64 = 5;

    /// Payloads as they are: before Hello, and for peers of version 4 and below.
    pub fn plain() -> Self {
        Codec { snappy: false, encoder: None }
    }

    /// For a peer whose Hello says `version`, and this side, which says 5.
    pub fn for_version(version: u64) -> Self {
        Codec { snappy: version >= Self::SNAPPY_VERSION, encoder: None }
    }

    /// Whether payloads are compressed.
    pub fn is_snappy(&self) -> bool {
        self.snappy
    }

    /// Gives back the compressor's tables until it is used again.
    pub fn release(&mut self) {
        self.encoder = None;
    }

    /// The most bytes that a payload of this length has in a frame, as any sensible compressor makes it: a sixth more.
    pub(crate) fn max_body(&self, payload: usize) -> usize {
        if self.snappy { snap::raw::max_compress_len(payload) } else { payload }
    }

    /// Whether frame data of this payload could exceed [`MAX_MESSAGE_SIZE`]; to be sure, one has to [`encode`](Self::encode) it.
    pub fn may_exceed(&self, code: u64, payload: usize) -> bool {
        self.max_body(payload).saturating_add(code_len(code)) > MAX_MESSAGE_SIZE
    }

    /// Appends frame data. Fails, having appended nothing, if payload or frame data exceed [`MAX_MESSAGE_SIZE`]: data that does not
    /// compress grows a little, so that of the largest payloads some fit in no frame.
    pub fn encode(&mut self, code: u64, payload: &[u8], out: &mut Vec<u8>) -> Result<(), MessageError> {
        if payload.len() > MAX_MESSAGE_SIZE {
            return Err(MessageError::TooLarge { len: payload.len(), max: MAX_MESSAGE_SIZE });
        }
        let start = out.len();
        put_code(out, code);
        if !self.snappy {
            out.extend_from_slice(payload);
        } else if let Err(error) = self.compress(payload, out) {
            out.truncate(start);
            return Err(error);
        }
        let len = out.len().saturating_sub(start);
        if len > MAX_MESSAGE_SIZE {
            out.truncate(start);
            return Err(MessageError::TooLarge { len, max: MAX_MESSAGE_SIZE });
        }
        Ok(())
    }

    fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), MessageError> {
        let start = out.len();
        out.resize(start.saturating_add(snap::raw::max_compress_len(payload.len())), 0);
        let encoder = self.encoder.get_or_insert_with(|| Box::new(snap::raw::Encoder::new()));
        let room = out.get_mut(start..).unwrap_or_default();
        // It fails only for lack of room.
        let len = encoder.compress(payload, room).map_err(|_| MessageError::Snappy)?;
        out.truncate(start.saturating_add(len));
        Ok(())
    }

    /// The message inside the process with this `code`, of a payload as it came in a frame. `max` bounds the payload, in bytes, after
    /// decompression. What is returned holds no more memory than it has bytes.
    pub fn decode(&self, code: u64, body: &[u8], max: usize) -> Result<Bytes, MessageError> {
        let max = max.min(MAX_MESSAGE_SIZE);
        if !self.snappy {
            return if body.len() > max {
                Err(MessageError::TooLarge { len: body.len(), max })
            } else {
                Ok(join(code, body))
            };
        }
        let len = decompressed_len(body, max)?;
        let mut message = Vec::with_capacity(code_len(code).saturating_add(len));
        put_code(&mut message, code);
        let start = message.len();
        message.resize(start.saturating_add(len), 0);
        let room = message.get_mut(start..).unwrap_or_default();
        snap::raw::Decoder::new().decompress(body, room).map_err(|_| MessageError::Snappy)?;
        Ok(Bytes::from(message))
    }
}

/// The most bytes that a byte of compressed data can stand for, as a fraction: a copy of up to 64 bytes has three (snappy
/// `format_description.txt`, section 2.2).
const MAX_EXPANSION: (usize, usize) = (64, 3);

/// The length that snappy data claims, if it may have it.
fn decompressed_len(body: &[u8], max: usize) -> Result<usize, MessageError> {
    let len = snap::raw::decompress_len(body).map_err(|_| MessageError::Snappy)?;
    if len > max {
        return Err(MessageError::TooLarge { len, max });
    }
    if len.saturating_mul(MAX_EXPANSION.1) > body.len().saturating_mul(MAX_EXPANSION.0) {
        return Err(MessageError::Bomb { claimed: len, compressed: body.len() });
    }
    Ok(len)
}

/// Why frame data is no message, or a message no frame data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The data does not begin with an integer in RLP.
    #[error("no message code in front")]
    Code,
    /// The payload, or the frame data made of it, exceeds a limit.
    #[error("message of {len} bytes, at most {max} are allowed")]
    TooLarge {
        /// The length as claimed, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// Compressed data that claims more than any data of its length stands for.
    #[error("{compressed} bytes claim to be {claimed} compressed")]
    Bomb {
        /// The length claimed, in bytes.
        claimed: usize,
        /// The data, in bytes.
        compressed: usize,
    },
    /// The compressed data is damaged.
    #[error("payload cannot be decompressed")]
    Snappy,
}

impl MessageError {
    /// Whose fault it is if the data came from a peer.
    pub fn blame(&self) -> Blame {
        match self {
            MessageError::Code | MessageError::Snappy => Blame::Malformed,
            MessageError::TooLarge { .. } | MessageError::Bomb { .. } => Blame::Misbehaved,
        }
    }
}

#[cfg(test)]
mod tests;
