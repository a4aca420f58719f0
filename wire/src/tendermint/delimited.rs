//! Length-delimited messages: an unsigned varint, then that many bytes (CometBFT `libs/protoio`).

use super::protobuf::{MAX_VARINT, read_varint};

/// Why a stream holds no delimited message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DelimitedError {
    /// The length is not a varint of at most 64 bits.
    BadLength,
    /// The length exceeds the reader's limit.
    TooLarge(u64),
}

/// Splits the first message off `bytes`: its content, and its whole length with the prefix. `None` if it is not complete.
/// The length is checked as soon as it can be read.
pub(crate) fn split_delimited(bytes: &[u8], max: usize) -> Result<Option<(&[u8], usize)>, DelimitedError> {
    let Some((len, prefix)) = read_varint(bytes).map_err(|()| DelimitedError::BadLength)? else {
        return Ok(None);
    };
    let size = usize::try_from(len).ok().filter(|size| *size <= max).ok_or(DelimitedError::TooLarge(len))?;
    // Both are small: `max` is a few kilobytes.
    let total = prefix.saturating_add(size);
    Ok(bytes.get(prefix..total).map(|message| (message, total)))
}

/// Puts the length in front of a message.
pub(crate) fn delimit(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len().saturating_add(MAX_VARINT));
    prost::encoding::encode_varint(u64::try_from(message.len()).unwrap_or(u64::MAX), &mut out);
    out.extend_from_slice(message);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_judged_before_its_bytes_come() {
        assert_eq!(split_delimited(&[], 10), Ok(None));
        assert_eq!(split_delimited(&[3, 1, 2], 10), Ok(None));
        assert_eq!(split_delimited(&[3, 1, 2, 3, 4], 10), Ok(Some((&[1, 2, 3][..], 4))));
        assert_eq!(split_delimited(&[0], 10), Ok(Some((&[][..], 1))));
        assert_eq!(split_delimited(&[11], 10), Err(DelimitedError::TooLarge(11)));
        assert_eq!(split_delimited(&[0xff; 9], 10), Ok(None));
        assert_eq!(split_delimited(&[0xff; 10], 10), Err(DelimitedError::BadLength));
    }
}
