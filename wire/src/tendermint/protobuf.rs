//! Protobuf's encoding, as far as it is read by hand: where the generated decoders would be slow, or would allocate for what
//! a limit then refuses.

/// The longest varint of 64 bits, in bytes.
pub(crate) const MAX_VARINT: usize = 10;

/// Not protobuf, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undecodable(pub(crate) &'static str);

/// Walks over the fields of one message.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// One field's value.
pub(crate) enum Value<'a> {
    Varint(u64),
    /// A string, bytes or an embedded message.
    Bytes(&'a [u8]),
    /// Four or eight bytes, which no message here has.
    Fixed,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    /// The next field's number and value.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Undecodable> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 || key > u64::from(u32::MAX) {
            return Err(Undecodable("bad field number"));
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.bytes(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.bytes(len)?)
            }
            5 => self.bytes(4).map(|_| Value::Fixed)?,
            _ => return Err(Undecodable("wrong wire type")),
        };
        Ok(Some((number, value)))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Undecodable> {
        // Nearly all are one byte.
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(byte.into());
        }
        let Ok(Some((value, len))) = read_varint(self.rest) else {
            return Err(Undecodable("bad varint"));
        };
        self.rest = self.rest.get(len..).unwrap_or_default();
        Ok(value)
    }

    #[inline]
    fn bytes(&mut self, len: u64) -> Result<&'a [u8], Undecodable> {
        let split = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        let (bytes, rest) = split.ok_or(Undecodable("field exceeds its packet"))?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// Reads a varint: its value and length in bytes. `None` if it is not complete, an error if it exceeds 64 bits.
#[inline]
pub(crate) fn read_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, ()> {
    match bytes {
        // Nearly all have one or two bytes.
        [byte @ ..0x80, ..] => Ok(Some(((*byte).into(), 1))),
        [low, high @ ..0x80, ..] => Ok(Some((u64::from(low & 0x7f) | u64::from(*high) << 7, 2))),
        _ => read_long_varint(bytes),
    }
}

fn read_long_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, ()> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().enumerate().take(MAX_VARINT) {
        // The tenth byte has room for one bit.
        if index == MAX_VARINT.saturating_sub(1) && byte > 1 {
            return Err(());
        }
        let shift = u32::try_from(index).unwrap_or(0).saturating_mul(7);
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(Some((value, index.saturating_add(1))));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_are_prosts(value: u64, bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut out = Vec::new();
            prost::encoding::encode_varint(value, &mut out);
            prop_assert_eq!(read_varint(&out), Ok(Some((value, out.len()))));
            let theirs = prost::encoding::decode_varint(&mut bytes.as_slice()).ok();
            prop_assert_eq!(read_varint(&bytes).ok().flatten().map(|(value, _)| value), theirs);
        }
    }
}
