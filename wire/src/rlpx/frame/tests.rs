use data_encoding::HEXLOWER;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::Blame;

/// One direction: what the writer seals the reader opens.
fn pair() -> (FrameWriter, FrameReader) {
    let hash = Keccak256::new_with_prefix(b"one direction");
    let secrets =
        Secrets { aes: Zeroizing::new([1; 32]), mac: Zeroizing::new([2; 32]), egress: hash.clone(), ingress: hash };
    (FrameWriter::new(&secrets), FrameReader::new(&secrets))
}

fn seal(writer: &mut FrameWriter, frames: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    frames.iter().for_each(|data| writer.seal(data, &mut out).unwrap());
    out
}

fn put(input: &mut FrameBuffer, bytes: &[u8]) {
    input.spare(bytes.len()).extend_from_slice(bytes);
}

/// All frames that are there, and why there are no more: nothing, or an error.
fn open_all(reader: &mut FrameReader, input: &mut FrameBuffer) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut frames = Vec::new();
    loop {
        match reader.open(input) {
            Ok(Some(data)) => frames.push(data.to_vec()),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

fn opened(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut input = FrameBuffer::default();
    put(&mut input, bytes);
    open_all(&mut pair().1, &mut input)
}

/// The published frame has a hash that always gives the same, so only its ciphertext says something.
#[test]
fn the_published_frame_is_encrypted_so() {
    let published = include_str!("../../../../fixtures/rlpx/frame.hex").trim();
    let nothing: [u8; 32] = Keccak256::digest([]).into();
    let (aes, mac) = (Zeroizing::new(nothing), Zeroizing::new(nothing));
    let secrets = Secrets { aes, mac, egress: Keccak256::new(), ingress: Keccak256::new() };
    let frame = HEXLOWER.encode(&seal(&mut FrameWriter::new(&secrets), &[&[8, 0xc4, 1, 2, 3, 4]]));
    assert_eq!(frame.len(), published.len());
    assert_eq!((&frame[..32], &frame[64..96]), (&published[..32], &published[64..96]));
}

#[test]
fn a_frame_is_padded_to_blocks_of_16() {
    let (mut writer, _) = pair();
    for (size, sealed) in [(1, 64), (15, 64), (16, 64), (17, 80), (112, 160), (113, 176)] {
        assert_eq!(seal(&mut writer, &[&vec![5; size]]).len(), sealed, "{size} bytes");
    }
}

#[test]
fn what_cannot_be_sent_leaves_the_stream_as_it_was() {
    let (mut writer, _) = pair();
    let mut out = seal(&mut writer, &[b"first"]);
    let before = out.clone();
    for size in [0, MAX_FRAME + 1] {
        let error = writer.seal(&vec![1; size], &mut out).unwrap_err();
        assert_eq!((error, error.blame()), (FrameError::CannotSend(size), Blame::Local));
        assert_eq!(out, before);
    }
    writer.seal(b"second", &mut out).unwrap();
    assert_eq!(opened(&out), (vec![b"first".to_vec(), b"second".to_vec()], None));
}

#[test]
fn a_large_frame_needs_no_more_memory_than_came() {
    let (mut writer, mut reader) = pair();
    let data: Vec<u8> = (0..1_000_001).map(|at| at as u8).collect();
    let sealed = seal(&mut writer, &[&data, b"next"]);
    let mut input = FrameBuffer::default();
    let mut came = 0;
    for chunk in sealed.chunks(30_000) {
        put(&mut input, chunk);
        came += chunk.len();
        assert!(input.bytes.capacity() <= 2 * came.max(30_000));
        if came < sealed.len() {
            assert_eq!(reader.open(&mut input), Ok(None));
        }
    }
    assert!(*reader.open(&mut input).unwrap().unwrap() == data);
    assert_eq!(reader.open(&mut input).unwrap().unwrap(), b"next");
    assert!(input.is_empty() && !reader.is_mid_frame(&input));
    input.release();
    assert_eq!(input.bytes.capacity(), 0);
}

/// A header as its writer seals it, whatever size it names.
fn header(size: [u8; 3]) -> Vec<u8> {
    let mut writer = pair().0;
    let mut header = [0; BLOCK];
    header[..3].copy_from_slice(&size);
    header[3..6].copy_from_slice(&HEADER_DATA);
    writer.cipher.apply_keystream(&mut header);
    let mac = writer.mac.header(&header);
    [header, mac].concat()
}

/// A header of 16 MB costs its sender 32 bytes; it must not cost us 16 MB.
#[test]
fn a_claimed_size_is_not_allocated() {
    let (mut reader, mut input) = (pair().1, FrameBuffer::default());
    put(&mut input, &[header([0xff; 3]), vec![1]].concat());
    assert_eq!(reader.open(&mut input), Ok(None));
    assert_eq!(reader.missing(&input), (1 << 24) - 1 + BLOCK);
    assert!(input.bytes.capacity() < 100);
    assert!(reader.is_mid_frame(&input));
}

#[test]
fn a_frame_beyond_the_limit_of_the_moment_is_refused_by_its_header() {
    let (mut writer, mut reader) = pair();
    reader.set_max_frame(2048);
    let sealed = seal(&mut writer, &[&[1; 2048], &[2; 2049]]);
    let mut input = FrameBuffer::default();
    put(&mut input, &sealed[..HEADER + 2048 + BLOCK + HEADER]);
    let (frames, error) = open_all(&mut reader, &mut input);
    let error = error.unwrap();
    assert_eq!((frames.len(), error), (1, FrameError::TooLong { size: 2049, max: 2048 }));
    assert_eq!(error.blame(), Blame::Misbehaved);
}

#[test]
fn an_empty_frame_is_refused() {
    let error = opened(&header([0; 3])).1.unwrap();
    assert_eq!((error, error.blame()), (FrameError::Empty, Blame::Misbehaved));
}

#[test]
fn every_flipped_bit_is_a_wrong_authenticator() {
    let sealed = seal(&mut pair().0, &[b"one", &[2; 40], b"three"]);
    // 64 bytes, then 32 + 48 + 16, then 64.
    let frame_of = |at: usize| {
        if at < 64 {
            (0, at)
        } else if at < 160 {
            (1, at - 64)
        } else {
            (2, at - 160)
        }
    };
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1 << bit;
            let (frames, error) = opened(&flipped);
            let (number, place) = frame_of(at);
            let expected = if place < HEADER { FrameError::HeaderMac } else { FrameError::FrameMac };
            assert_eq!((frames.len(), error), (number, Some(expected)), "byte {at}, bit {bit}");
            assert_eq!(expected.blame(), Blame::Malformed);
        }
    }
}

#[test]
fn a_frame_repeated_left_out_or_swapped_is_refused() {
    let sealed = seal(&mut pair().0, &[b"one", b"two", b"three"]);
    let [one, two, three] = [0, 64, 128].map(|at| &sealed[at..at + 64]);
    for (order, good) in [([one, one], 1), ([one, three], 1), ([two, one], 0)] {
        let (frames, error) = opened(&order.concat());
        assert_eq!((frames.len(), error), (good, Some(FrameError::HeaderMac)));
    }
}

#[test]
fn a_stream_cut_anywhere_gives_the_frames_before_the_cut() {
    let sealed = seal(&mut pair().0, &[b"one", &[2; 40]]);
    for end in 0..sealed.len() {
        let (mut reader, mut input) = (pair().1, FrameBuffer::default());
        put(&mut input, &sealed[..end]);
        let (frames, error) = open_all(&mut reader, &mut input);
        assert_eq!((frames.len(), error), (usize::from(end >= 64), None));
        assert_eq!(reader.is_mid_frame(&input), end != 0 && end != 64);
        // What is said to be missing is: with it the reader gets further, and it is never beyond the frame.
        let missing = reader.missing(&input);
        assert!((1..=sealed.len() - end).contains(&missing) || end == 0 && missing == HEADER);
    }
}

proptest! {
    #[test]
    fn frames_come_through_however_the_stream_is_cut(
        sizes in prop::collection::vec(prop_oneof![1..40_usize, 1..5000_usize], 1..12),
        chunks in prop::collection::vec(1..3000_usize, 1..20),
    ) {
        let (mut writer, mut reader) = pair();
        let frames: Vec<Vec<u8>> = sizes.iter().zip(1..).map(|(size, byte)| vec![byte; *size]).collect();
        let mut sealed = Vec::new();
        for data in &frames {
            writer.seal_with(&mut sealed, |out| out.extend_from_slice(data)).unwrap();
        }
        let (mut input, mut received, mut rest) = (FrameBuffer::default(), Vec::new(), &sealed[..]);
        for chunk in chunks.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*chunk));
            put(&mut input, now);
            let (more, error) = open_all(&mut reader, &mut input);
            prop_assert_eq!(error, None);
            received.extend(more);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(received, frames);
        prop_assert!(!reader.is_mid_frame(&input));
    }

    #[test]
    fn arbitrary_bytes_never_panic_nor_take_memory(bytes: Vec<u8>, good in 0..3_usize, chunk in 1..200_usize) {
        let mut stream = seal(&mut pair().0, &[b"good".as_slice(); 3][..good]);
        stream.extend(bytes);
        let (mut reader, mut input) = (pair().1, FrameBuffer::default());
        let mut received = 0;
        for chunk in stream.chunks(chunk) {
            put(&mut input, chunk);
            prop_assert!(input.bytes.capacity() <= 2 * stream.len().max(8));
            let (frames, error) = open_all(&mut reader, &mut input);
            received += frames.len();
            if error.is_some() {
                prop_assert_eq!(error, Some(FrameError::HeaderMac));
                break;
            }
        }
        prop_assert_eq!(received, good);
    }
}
