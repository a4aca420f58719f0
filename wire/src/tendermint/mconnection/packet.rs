//! Packets: protobuf `tendermint.p2p.Packet`, length-delimited, read and written by hand on the hot path.
//!
//! What is written are exactly the bytes of the generated encoders; what is read may have its fields in any order and unknown
//! ones among them, as those readers allow.

use super::MConnectionError;
use crate::tendermint::{
    protobuf::{Fields, Value},
    secret_connection::SealBuffer,
};

/// Where plaintext goes: frames, or a plain vector in tests.
pub trait Plaintext {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Plaintext for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Plaintext for SealBuffer {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        SealBuffer::put(self, bytes);
    }
}

/// A ping with its length prefix.
pub(super) const PING: [u8; 3] = [2, 0x0a, 0];

/// A pong with its length prefix.
pub(super) const PONG: [u8; 3] = [2, 0x12, 0];

/// One packet, borrowed from where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Ping,
    Pong,
    Message { channel: i32, eof: bool, data: &'a [u8] },
}

/// The largest packet, without its length prefix, that a reader takes for a payload size: that of a full last packet on
/// channel 1 (CometBFT `maxPacketMsgSize`): 1034 bytes for 1024.
pub(super) const fn max_packet_size(payload: usize) -> usize {
    let inner = 2usize.saturating_add(2).saturating_add(1).saturating_add(varint_size(payload)).saturating_add(payload);
    1usize.saturating_add(varint_size(inner)).saturating_add(inner)
}

/// The same with its length prefix.
pub(super) const fn full_packet_size(payload: usize) -> usize {
    let size = max_packet_size(payload);
    varint_size(size).saturating_add(size)
}

/// The data that fits in one packet of a channel. Ids from 0x80 take one byte more than channel 1, for which readers leave
/// no room.
pub(super) const fn payload_on(channel: u8, payload: usize) -> usize {
    if channel < 0x80 { payload } else { payload.saturating_sub(1) }
}

/// Writes one message packet with its length prefix; returns the bytes written.
#[inline]
pub(super) fn put_message(out: &mut impl Plaintext, channel: u8, eof: bool, data: &[u8]) -> usize {
    // Inside out: proto3 leaves out zero, false and empty.
    let channel_size = match channel {
        0 => 0,
        1..0x80 => 2,
        _ => 3,
    };
    let eof_size = if eof { 2 } else { 0 };
    let data_size = match data.len() {
        0 => 0,
        len => 1usize.saturating_add(varint_size(len)).saturating_add(len),
    };
    let inner = data_size.saturating_add(channel_size).saturating_add(eof_size);
    let outer = 1usize.saturating_add(varint_size(inner)).saturating_add(inner);

    let mut header = Header::default();
    header.varint(outer);
    header.byte(TAG_MESSAGE);
    header.varint(inner);
    if channel != 0 {
        header.byte(TAG_CHANNEL);
        header.varint(usize::from(channel));
    }
    if eof {
        header.byte(TAG_EOF);
        header.byte(1);
    }
    if !data.is_empty() {
        header.byte(TAG_DATA);
        header.varint(data.len());
    }
    out.put(header.written());
    out.put(data);
    varint_size(outer).saturating_add(outer)
}

const TAG_MESSAGE: u8 = 0x1a;
const TAG_CHANNEL: u8 = 0x08;
const TAG_EOF: u8 = 0x10;
const TAG_DATA: u8 = 0x1a;

/// The bytes in front of the data: three varints of up to ten bytes, one of two, and six single bytes.
#[derive(Default)]
struct Header {
    bytes: [[u8; 10]; 4],
    len: usize,
}

impl Header {
    #[inline]
    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.as_flattened_mut().get_mut(self.len) {
            *place = byte;
            self.len = self.len.saturating_add(1);
        }
    }

    #[inline]
    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.byte((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    fn written(&self) -> &[u8] {
        self.bytes.as_flattened().get(..self.len).unwrap_or_default()
    }
}

const fn varint_size(value: usize) -> usize {
    let bits = usize::BITS.saturating_sub(value.leading_zeros());
    if bits == 0 { 1 } else { bits.div_ceil(7) as usize }
}

/// Reads one packet, without its length prefix. Of several in one message the last counts, as for the generated decoders.
#[inline]
pub(super) fn decode(bytes: &[u8]) -> Result<Packet<'_>, MConnectionError> {
    decode_usual(bytes).map_or_else(|| decode_any(bytes), Ok)
}

/// A message packet exactly as every encoder writes it: nearly all packets. `None` is for [`decode_any`] to judge.
#[inline]
fn decode_usual(bytes: &[u8]) -> Option<Packet<'_>> {
    let content = all_behind(bytes, TAG_MESSAGE)?;
    let (channel, rest) = match content {
        [TAG_CHANNEL, low @ ..0x80, rest @ ..] => (*low, rest),
        [TAG_CHANNEL, low, 1, rest @ ..] => (*low, rest),
        _ => (0, content),
    };
    let (eof, rest) = match rest {
        [TAG_EOF, 1, rest @ ..] => (true, rest),
        _ => (false, rest),
    };
    let data = if rest.is_empty() { rest } else { all_behind(rest, TAG_DATA)? };
    Some(Packet::Message { channel: channel.into(), eof, data })
}

/// The content of a field that fills all of `bytes`, if its length has one or two bytes.
#[inline]
fn all_behind(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (len, content) = match bytes {
        [first, len @ ..0x80, content @ ..] if *first == tag => (usize::from(*len), content),
        [first, low, high @ 1..0x80, content @ ..] if *first == tag => {
            (usize::from(low & 0x7f) | usize::from(*high) << 7, content)
        }
        _ => return None,
    };
    (content.len() == len).then_some(content)
}

fn decode_any(bytes: &[u8]) -> Result<Packet<'_>, MConnectionError> {
    let mut fields = Fields::new(bytes);
    let mut packet = None;
    while let Some((number, value)) = fields.next()? {
        let content = match (number, value) {
            (1..=3, Value::Bytes(content)) => content,
            (1..=3, _) => return Err(MConnectionError::Undecodable("wrong wire type")),
            _ => continue,
        };
        packet = Some(match number {
            1 => only_unknown_fields(content, Packet::Ping)?,
            2 => only_unknown_fields(content, Packet::Pong)?,
            _ => decode_message(content)?,
        });
    }
    packet.ok_or(MConnectionError::UnknownPacket)
}

fn only_unknown_fields<'a>(content: &'a [u8], packet: Packet<'a>) -> Result<Packet<'a>, MConnectionError> {
    let mut fields = Fields::new(content);
    while fields.next()?.is_some() {}
    Ok(packet)
}

fn decode_message(content: &[u8]) -> Result<Packet<'_>, MConnectionError> {
    let mut fields = Fields::new(content);
    let (mut channel, mut eof, mut data) = (0i32, false, &[][..]);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            // Protobuf's int32 is the low half of the varint.
            (1, Value::Varint(value)) => channel = value as i32,
            (2, Value::Varint(value)) => eof = value != 0,
            (3, Value::Bytes(bytes)) => data = bytes,
            (1..=3, _) => return Err(MConnectionError::Undecodable("wrong wire type")),
            _ => {}
        }
    }
    Ok(Packet::Message { channel, eof, data })
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::tendermint::protobuf::read_varint;

    /// The same messages as prost derives them.
    #[derive(Clone, PartialEq, prost::Message)]
    struct ProtoPacket {
        #[prost(oneof = "Sum", tags = "1, 2, 3")]
        sum: Option<Sum>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    enum Sum {
        #[prost(message, tag = "1")]
        Ping(Empty),
        #[prost(message, tag = "2")]
        Pong(Empty),
        #[prost(message, tag = "3")]
        Message(ProtoMessage),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Empty {}

    #[derive(Clone, PartialEq, prost::Message)]
    struct ProtoMessage {
        #[prost(int32, tag = "1")]
        channel_id: i32,
        #[prost(bool, tag = "2")]
        eof: bool,
        #[prost(bytes = "vec", tag = "3")]
        data: Vec<u8>,
    }

    fn prost(sum: Sum) -> Vec<u8> {
        ProtoPacket { sum: Some(sum) }.encode_length_delimited_to_vec()
    }

    /// CometBFT `p2p/conn/connection_test.go`, TestConnVectors.
    #[test]
    fn the_bytes_are_cometbfts() {
        assert_eq!(HEXLOWER.encode(&PING[1..]), "0a00");
        assert_eq!(HEXLOWER.encode(&PONG[1..]), "1200");
        let mut out = Vec::new();
        put_message(&mut out, 1, false, b"data transmitted over the wire");
        let vector = "1a2208011a1e64617461207472616e736d6974746564206f766572207468652077697265";
        assert_eq!(HEXLOWER.encode(&out[1..]), vector);
        assert_eq!((PING.to_vec(), PONG.to_vec()), (prost(Sum::Ping(Empty {})), prost(Sum::Pong(Empty {}))));
        assert_eq!((max_packet_size(1024), max_packet_size(1400)), (1034, 1410));
    }

    #[test]
    fn a_full_packet_of_any_channel_fits_the_readers_limit() {
        for channel in 0..=u8::MAX {
            for payload in [1, 100, 127, 128, 1024, 1400, 65_536] {
                let mut out = Vec::new();
                put_message(&mut out, channel, true, &vec![1; payload_on(channel, payload)]);
                let (len, _) = read_varint(&out).unwrap().unwrap();
                assert!(len <= max_packet_size(payload) as u64, "channel {channel} payload {payload}");
            }
        }
    }

    #[test]
    fn what_is_no_packet_says_why() {
        use MConnectionError::*;
        for (hex, error) in [
            ("", UnknownPacket),
            ("2200", UnknownPacket),
            ("0a", Undecodable("bad varint")),
            ("0a01", Undecodable("field exceeds its packet")),
            ("0800", Undecodable("wrong wire type")),
            ("0b", Undecodable("wrong wire type")),
            ("0200", Undecodable("bad field number")),
            ("1a020a00", Undecodable("wrong wire type")),
            ("1a021800", Undecodable("wrong wire type")),
            ("1a031a0261", Undecodable("field exceeds its packet")),
            ("1a0cffffffffffffffffffffffff", Undecodable("bad varint")),
            ("0a01ff", Undecodable("bad varint")),
        ] {
            assert_eq!(decode(&HEXLOWER.decode(hex.as_bytes()).unwrap()), Err(error), "{hex}");
        }
        // Unknown fields are skipped, order does not matter, a negative channel is read.
        let odd = HEXLOWER.decode(b"2201611a151a01617d00000000100108ffffffffffffffffff01").unwrap();
        assert_eq!(decode(&odd), Ok(Packet::Message { channel: -1, eof: true, data: b"a" }));
    }

    proptest! {
        #[test]
        fn messages_are_written_and_read_as_prost_does(
            channel: u8, eof: bool, data in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let mut ours = Vec::new();
            let written = put_message(&mut ours, channel, eof, &data);
            let message = ProtoMessage { channel_id: channel.into(), eof, data: data.clone() };
            prop_assert_eq!(&ours, &prost(Sum::Message(message)));
            prop_assert_eq!(written, ours.len());
            let (len, prefix) = read_varint(&ours).unwrap().unwrap();
            prop_assert_eq!(len as usize + prefix, ours.len());
            let packet = Packet::Message { channel: channel.into(), eof, data: &data };
            prop_assert_eq!((decode_any(&ours[prefix..]), decode_usual(&ours[prefix..])), (Ok(packet), Some(packet)));
        }

        /// The short way never says anything else than the long one, also of packets that were tampered with.
        #[test]
        fn the_usual_packet_is_read_as_any_other(
            channel: u8, eof: bool, data in proptest::collection::vec(any::<u8>(), 0..300),
            changes in proptest::collection::vec((0usize..12, any::<u8>()), 0..4), cut in 0usize..20,
        ) {
            let mut bytes = Vec::new();
            put_message(&mut bytes, channel, eof, &data);
            let (_, prefix) = read_varint(&bytes).unwrap().unwrap();
            bytes.drain(..prefix);
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(10)));
            if let Some(packet) = decode_usual(&bytes) {
                prop_assert_eq!(decode_any(&bytes), Ok(packet));
            }
        }

        #[test]
        fn any_bytes_are_answered_and_never_more_leniently_than_by_prost(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            if let Ok(packet) = decode(&bytes) {
                // Prost also checks inside the oneof members that ours skips over; what both read is the same.
                if let Ok(ProtoPacket { sum: Some(sum) }) = ProtoPacket::decode(bytes.as_slice()) {
                    match (packet, sum) {
                        (Packet::Ping, Sum::Ping(_)) | (Packet::Pong, Sum::Pong(_)) => {}
                        (Packet::Message { .. }, Sum::Message(_)) => {}
                        (ours, theirs) => prop_assert!(false, "{ours:?} {theirs:?}"),
                    }
                }
            }
        }
    }
}
