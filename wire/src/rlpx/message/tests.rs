use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

const SNAPPY_GETH: &str = include_str!("../../../../fixtures/rlpx/snappy_geth.csv");

fn snappy() -> Codec {
    Codec::for_version(5)
}

/// Reads frame data as a connection does that knows no offsets.
fn read(codec: &Codec, frame: &[u8], max: usize) -> Result<(u64, Bytes), MessageError> {
    let (code, len) = read_code(frame)?;
    split(codec.decode(code, &frame[len..], max)?)
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn what_go_ethereum_compressed_is_read() {
    let mut lines = 0;
    for line in SNAPPY_GETH.lines() {
        let [code, payload, frame] = line.split(',').collect::<Vec<_>>().try_into().unwrap();
        let [payload, frame] = [payload, frame].map(|hex| HEXLOWER.decode(hex.as_bytes()).unwrap());
        let code: u64 = code.parse().unwrap();
        assert_eq!(read(&snappy(), &frame, MAX_MESSAGE_SIZE), Ok((code, payload.clone().into())));
        // Ours need not be the same bytes, but mean the same.
        let mut ours = Vec::new();
        snappy().encode(code, &payload, &mut ours).unwrap();
        assert_eq!(read(&snappy(), &ours, MAX_MESSAGE_SIZE), Ok((code, payload.into())));
        assert!(ours.len() <= frame.len() + 8, "{} instead of {}", ours.len(), frame.len());
        lines += 1;
    }
    assert_eq!(lines, 7);
}

/// `rlpx.md`: a code is an RLP integer. Cleartext of go-ethereum's `TestFrameReadWrite`: `08c401020304`.
#[test]
fn codes_are_in_their_shortest_form() {
    let table: [(u64, &[u8]); 7] = [
        (0, &[0x80]),
        (1, &[1]),
        (0x7f, &[0x7f]),
        (0x80, &[0x81, 0x80]),
        (0xffff, &[0x82, 0xff, 0xff]),
        (0x1_0000, &[0x83, 1, 0, 0]),
        (u64::MAX, &[0x88, 255, 255, 255, 255, 255, 255, 255, 255]),
    ];
    for (code, bytes) in table {
        assert_eq!(join(code, b"x"), [bytes, b"x"].concat());
        assert_eq!(split(join(code, b"x")), Ok((code, "x".into())));
        assert_eq!(code_len(code), bytes.len());
    }
    let mut frame = Vec::new();
    Codec::plain().encode(8, &[0xc4, 1, 2, 3, 4], &mut frame).unwrap();
    assert_eq!(frame, [8, 0xc4, 1, 2, 3, 4]);
    for bad in [&[][..], &[0x00], &[0x81, 0x05], &[0x82, 0, 1], &[0xc0], &[0x89; 10], &[0x84, 1, 2], &[0xff; 20]] {
        assert_eq!(split(Bytes::copy_from_slice(bad)), Err(MessageError::Code), "{bad:02x?}");
    }
}

#[test]
fn a_peer_of_version_4_gets_and_sends_plain_payloads() {
    let mut codec = Codec::for_version(4);
    assert!(!codec.is_snappy() && snappy().is_snappy() && Codec::for_version(u64::MAX).is_snappy());
    let mut frame = Vec::new();
    codec.encode(16, &[7; 100], &mut frame).unwrap();
    assert_eq!(frame.len(), 101);
    assert_eq!(read(&codec, &frame, 100), Ok((16, vec![7; 100].into())));
    assert_eq!(read(&codec, &frame, 99), Err(MessageError::TooLarge { len: 100, max: 99 }));
}

/// What a frame can carry is not what a payload may have: what does not compress grows.
#[test]
fn frame_data_and_payload_have_the_same_limit() {
    let (mut out, max) = (vec![1], MAX_MESSAGE_SIZE);
    let zeros = vec![0; max + 1];
    assert_eq!(snappy().encode(1, &zeros, &mut out), Err(MessageError::TooLarge { len: max + 1, max }));
    assert_eq!(Codec::plain().encode(1, &zeros[1..], &mut out), Err(MessageError::TooLarge { len: max + 1, max }));
    assert_eq!(out, [1], "nothing is left of what was refused");

    let noise = noise(max);
    let error = snappy().encode(1, &noise, &mut out).unwrap_err();
    assert!(matches!(error, MessageError::TooLarge { len, .. } if (max + 2..max + 2000).contains(&len)), "{error}");
    assert_eq!(out, [1]);
    // A thousandth less fits, and so does anything that compresses.
    for payload in [&noise[..max - max / 1000], &zeros[1..]] {
        assert!(snappy().may_exceed(1, payload.len()));
        out.clear();
        snappy().encode(1, payload, &mut out).unwrap();
        assert!(out.len() <= max);
        assert_eq!(read(&snappy(), &out, max).unwrap().1, payload);
    }
    assert!(!snappy().may_exceed(1, 14_000_000) && !Codec::plain().may_exceed(1, max - 1));
}

#[test]
fn snappy_bombs_are_refused_before_they_have_room() {
    let body = |len: u32, data: &[u8]| {
        let mut body = Vec::new();
        prost::encoding::encode_varint(len.into(), &mut body);
        body.extend_from_slice(data);
        body
    };
    let max = MAX_MESSAGE_SIZE;
    let limit = 1 << 16;
    // A zero, then copies of 64 bytes one byte back: the most that snappy expands.
    let most = |copies: usize| [&[0x00, 0x00][..], &[0xfe, 0x01, 0x00].repeat(copies)].concat();
    let table: [(&str, Vec<u8>, usize, MessageError); 9] = [
        ("4 GiB", body(u32::MAX, &[0; 100]), max, MessageError::TooLarge { len: u32::MAX as usize, max }),
        ("16 MiB", body(1 << 24, &[0; 100]), max, MessageError::TooLarge { len: 1 << 24, max }),
        (
            "more than the protocol's messages have",
            body(limit as u32 + 1, &most(1024)),
            limit,
            MessageError::TooLarge { len: limit + 1, max: limit },
        ),
        (
            "more than so few bytes can be",
            body(max as u32, &[0; 100]),
            max,
            MessageError::Bomb { claimed: max, compressed: 104 },
        ),
        ("three times what it is", body(193, &most(1)), max, MessageError::Bomb { claimed: 193, compressed: 7 }),
        ("more than it is", body(66, &most(1)), max, MessageError::Snappy),
        ("less than it is", body(64, &most(1)), max, MessageError::Snappy),
        ("a length without end", vec![0xff; 20], max, MessageError::Snappy),
        ("nothing", vec![], max, MessageError::Snappy),
    ];
    for (what, body, max, error) in table {
        assert_eq!(snappy().decode(1, &body, max), Err(error), "{what}");
        assert!(error.blame().is_peer());
    }
    // The most that is possible is not taken for a bomb.
    for copies in [1, 2, 1000, 262_143] {
        let len = 1 + 64 * copies;
        let message = snappy().decode(1, &body(len as u32, &most(copies)), max).unwrap();
        assert_eq!(message.len(), 1 + len);
    }
}

#[test]
fn what_was_received_holds_no_more_than_its_bytes() {
    for payload in [vec![], vec![1], vec![7; 100_000], noise(100_000)] {
        let mut frame = Vec::new();
        snappy().encode(33, &payload, &mut frame).unwrap();
        for (codec, body) in [(snappy(), &frame[1..]), (Codec::plain(), &payload)] {
            let message = codec.decode(0, body, MAX_MESSAGE_SIZE).unwrap();
            assert_eq!(bytes::BytesMut::from(message).capacity(), 1 + payload.len());
        }
    }
}

/// The compressor's tables are as large as several idle connections.
#[test]
fn an_idle_codec_holds_no_tables() {
    let mut codec = snappy();
    let (mut first, mut again) = (Vec::new(), Vec::new());
    codec.encode(1, &[5; 1000], &mut first).unwrap();
    assert!(codec.encoder.is_some());
    codec.release();
    assert!(codec.encoder.is_none());
    codec.encode(1, &[5; 1000], &mut again).unwrap();
    assert_eq!(first, again);
}

proptest! {
    #[test]
    fn any_body_is_a_message_or_an_error(body: Vec<u8>, code: u64, max in 0usize..100_000, version in 4u64..6) {
        if let Ok(message) = Codec::for_version(version).decode(code, &body, max) {
            let (same, payload) = split(message).unwrap();
            prop_assert!(same == code && payload.len() <= max);
        }
    }

    #[test]
    fn what_is_written_is_read(code: u64, pieces in proptest::collection::vec((any::<u8>(), 0usize..5000), 0..20), version in 4u64..6) {
        let payload: Vec<u8> = pieces.iter().flat_map(|&(byte, len)| std::iter::repeat_n(byte, len)).collect();
        let (mut codec, mut frame) = (Codec::for_version(version), Vec::new());
        codec.encode(code, &payload, &mut frame).unwrap();
        prop_assert!(!codec.may_exceed(code, payload.len()));
        prop_assert_eq!(read(&codec, &frame, payload.len()), Ok((code, payload.clone().into())));
        prop_assert_eq!(split(join(code, &payload)), Ok((code, payload.into())));
    }
}
