//! A strict, non-recursive reader of RLP lists that come from the network (the handshake, Hello, Disconnect).
//!
//! Headers are read with the `rlp` crate's `PayloadInfo`; its list iterator stops silently at a damaged item, so the walk
//! over a list is ours. Nothing is allocated, every length is checked against what is left before use, and only as many
//! levels are entered as the caller asks for, so depth is bounded by the protocol and not by the sender.

use rlp::PayloadInfo;

/// Why a piece of RLP could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RlpError {
    /// A length points past the end of the input.
    #[error("RLP item is longer than the input")]
    Truncated,
    /// A length or a single byte is not in its shortest form.
    #[error("RLP is not canonical")]
    NotCanonical,
    /// A byte string stands where a list must be.
    #[error("expected an RLP list")]
    ExpectedList,
    /// A list stands where a byte string must be.
    #[error("expected an RLP byte string")]
    ExpectedBytes,
    /// The list ends before its last required element.
    #[error("RLP list has too few elements")]
    TooFewElements,
    /// An integer has a leading zero byte.
    #[error("RLP integer has a leading zero")]
    LeadingZero,
    /// An integer does not fit its type.
    #[error("RLP integer is too large")]
    IntegerTooLarge,
    /// A byte string does not have the one length it must have (in bytes).
    #[error("expected {expected} bytes, found {found}")]
    WrongLength {
        /// Length the field has by its definition.
        expected: usize,
        /// Length it came with.
        found: usize,
    },
}

/// One RLP item: a byte string, or a list not yet entered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    payload: &'a [u8],
    is_list: bool,
}

impl<'a> Item<'a> {
    /// Reads the first item of `input` and returns it with what follows it.
    pub(crate) fn split(input: &'a [u8]) -> Result<(Self, &'a [u8]), RlpError> {
        let first = *input.first().ok_or(RlpError::Truncated)?;
        let info = PayloadInfo::from(input).map_err(|error| match error {
            rlp::DecoderError::RlpIsTooShort => RlpError::Truncated,
            rlp::DecoderError::RlpIsTooBig => RlpError::IntegerTooLarge,
            _ => RlpError::NotCanonical,
        })?;
        let total = info.header_len.checked_add(info.value_len).ok_or(RlpError::Truncated)?;
        let (raw, rest) = input.split_at_checked(total).ok_or(RlpError::Truncated)?;
        let payload = raw.get(info.header_len..).ok_or(RlpError::Truncated)?;
        if let (0x81, [byte]) = (first, payload)
            && *byte < 0x80
        {
            return Err(RlpError::NotCanonical);
        }
        Ok((Self { payload, is_list: first >= 0xc0 }, rest))
    }

    /// The elements of a list.
    pub(crate) fn list(&self) -> Result<Items<'a>, RlpError> {
        if self.is_list { Ok(Items { rest: self.payload }) } else { Err(RlpError::ExpectedList) }
    }

    /// The content of a byte string.
    pub(crate) fn bytes(&self) -> Result<&'a [u8], RlpError> {
        if self.is_list { Err(RlpError::ExpectedBytes) } else { Ok(self.payload) }
    }

    /// A byte string of exactly `N` bytes.
    pub(crate) fn array<const N: usize>(&self) -> Result<[u8; N], RlpError> {
        let bytes = self.bytes()?;
        bytes.try_into().map_err(|_| RlpError::WrongLength { expected: N, found: bytes.len() })
    }

    /// A big-endian integer without leading zeros.
    pub(crate) fn u64(&self) -> Result<u64, RlpError> {
        let bytes = self.bytes()?;
        if bytes.first() == Some(&0) {
            return Err(RlpError::LeadingZero);
        }
        let mut padded = [0; 8];
        let start = padded.len().checked_sub(bytes.len()).ok_or(RlpError::IntegerTooLarge)?;
        padded.get_mut(start..).ok_or(RlpError::IntegerTooLarge)?.copy_from_slice(bytes);
        Ok(u64::from_be_bytes(padded))
    }
}

/// What is left of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    /// The next element; `None` at the end of the list.
    pub(crate) fn next(&mut self) -> Result<Option<Item<'a>>, RlpError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (item, rest) = Item::split(self.rest)?;
        self.rest = rest;
        Ok(Some(item))
    }

    /// The next element, which must be there.
    pub(crate) fn required(&mut self) -> Result<Item<'a>, RlpError> {
        self.next()?.ok_or(RlpError::TooFewElements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_shortest_form_of_anything_is_read() {
        let refused = |bytes: &[u8]| Item::split(bytes).and_then(|(item, _)| item.u64()).unwrap_err();
        assert_eq!(refused(&[0x81, 0x05]), RlpError::NotCanonical); // 5 is its own encoding
        assert_eq!(refused(&[0xb8, 0x01, 0x80]), RlpError::NotCanonical); // long form for a short string
        assert_eq!(refused(&[0xb9, 0x00, 0x38]), RlpError::NotCanonical); // zero in front of a length
        assert_eq!(refused(&[0x82, 0x00, 0x05]), RlpError::LeadingZero);
        assert_eq!(refused(&[0x00]), RlpError::LeadingZero); // zero is the empty string
        assert_eq!(refused(&[0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0]), RlpError::IntegerTooLarge);
        assert_eq!(refused(&[0x83, 1]), RlpError::Truncated);
        assert_eq!(refused(&[0xc0]), RlpError::ExpectedBytes);
        assert_eq!(Item::split(&[0x80]).unwrap().0.u64(), Ok(0));
        assert_eq!(
            Item::split(&[0x83, 1, 0, 0]).unwrap().0.array::<2>(),
            Err(RlpError::WrongLength { expected: 2, found: 3 })
        );
    }

    #[test]
    fn a_claimed_length_is_never_believed() {
        for header in (0xb8..=0xbf_u8).chain(0xf8..=0xff) {
            let input = [[header].as_slice(), &[0xff; 9]].concat();
            assert!(Item::split(&input).is_err());
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_an_item_or_an_error(input: Vec<u8>) {
            if let Ok((item, rest)) = Item::split(&input) {
                prop_assert!(input.ends_with(rest) && rest.len() < input.len());
                if let Ok(mut items) = item.list() {
                    let mut count = 0;
                    while let Ok(Some(_)) = items.next() {
                        count += 1;
                    }
                    prop_assert!(count < input.len());
                }
            }
        }
    }
}
