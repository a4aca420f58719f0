use proptest::prelude::*;

use super::*;

fn pair() -> (Sealer, Opener) {
    (Sealer::new(&[9; 32]), Opener::new(&[9; 32]))
}

fn seal(sealer: &mut Sealer, parts: &[&[u8]]) -> Vec<u8> {
    let mut buffer = SealBuffer::default();
    parts.iter().for_each(|part| buffer.put(part));
    buffer.seal(sealer).unwrap();
    buffer.sealed().to_vec()
}

#[test]
fn small_pieces_share_a_frame_and_large_ones_span_several() {
    let (mut sealer, _) = pair();
    assert_eq!(seal(&mut sealer, &[]).len(), 0);
    assert_eq!(seal(&mut sealer, &[&[1; 500], &[2; 524]]).len(), SEALED_SIZE);
    assert_eq!(seal(&mut sealer, &[&[1; 500], &[2; 525]]).len(), 2 * SEALED_SIZE);
    assert_eq!(seal(&mut sealer, &[&[1; 10 * DATA_SIZE]]).len(), 10 * SEALED_SIZE);
}

#[test]
fn what_is_put_after_sealing_begins_a_frame() {
    let (mut sealer, mut opener) = pair();
    let mut buffer = SealBuffer::default();
    buffer.put(b"one");
    buffer.seal(&mut sealer).unwrap();
    buffer.put(b"two");
    assert_eq!(buffer.sealed().len(), SEALED_SIZE);
    buffer.seal(&mut sealer).unwrap();
    let mut open = OpenBuffer::default();
    open.spare(0).extend_from_slice(buffer.sealed());
    open.open(&mut opener).unwrap();
    assert_eq!(open.plaintext(), b"onetwo");
}

/// The memory of a cleared buffer is used again: nothing of what it held may show.
#[test]
fn the_rest_of_a_frame_is_zero_whatever_was_there_before() {
    let (mut sealer, mut opener) = pair();
    let mut buffer = SealBuffer::default();
    buffer.put(&[0xee; 3000]);
    buffer.seal(&mut sealer).unwrap();
    buffer.clear();
    assert!(buffer.is_empty() && buffer.sealed().is_empty());
    let mut frame = [0xee; PLAIN_SIZE];
    buffer.put(b"small");
    buffer.seal(&mut sealer).unwrap();
    assert_eq!((buffer.len(), buffer.sealed().len()), (SEALED_SIZE, SEALED_SIZE));
    for n in 0..4u8 {
        let nonce = opener.cipher.next_nonce().unwrap();
        if n == 3 {
            let mut sealed = buffer.sealed().to_vec();
            frame.copy_from_slice(opener.cipher.key.open_in_place(nonce, Aad::empty(), &mut sealed).unwrap());
        }
    }
    assert_eq!(frame[..9], *b"\x05\0\0\0small");
    assert_eq!(frame[9..], [0; PLAIN_SIZE - 9]);
}

#[test]
fn a_changed_or_repeated_frame_is_refused_and_the_ones_before_stay() {
    let (mut sealer, mut opener) = pair();
    let mut sealed = seal(&mut sealer, &[&[7; 2 * DATA_SIZE]]);
    sealed[SEALED_SIZE + 600] ^= 1;
    let mut open = OpenBuffer::default();
    open.spare(0).extend_from_slice(&sealed);
    assert_eq!(open.open(&mut opener), Err(FrameError::Decrypt));
    assert_eq!(open.plaintext(), [7; DATA_SIZE]);

    let (mut sealer, mut opener) = pair();
    let sealed = seal(&mut sealer, &[b"once"]);
    let mut open = OpenBuffer::default();
    open.spare(0).extend_from_slice(&[sealed.as_slice(), &sealed].concat());
    assert_eq!(open.open(&mut opener), Err(FrameError::Decrypt));
    assert_eq!(open.plaintext(), b"once");
}

#[test]
fn a_frame_that_claims_too_much_is_refused() {
    let (sealer, mut opener) = pair();
    let mut frame = [0u8; PLAIN_SIZE];
    frame[..4].copy_from_slice(&1025u32.to_le_bytes());
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let tag = sealer.cipher.key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut frame).unwrap();
    let mut open = OpenBuffer::default();
    open.spare(0).extend_from_slice(&[&frame, tag.as_ref()].concat());
    assert_eq!(open.open(&mut opener), Err(FrameError::ChunkTooLong(1025)));
}

/// Tendermint #3531: a counter that wraps would use nonces again.
#[test]
fn the_last_nonce_is_an_error_not_a_panic() {
    let (mut sealer, mut opener) = pair();
    sealer.cipher.counter = u64::MAX - 1;
    opener.cipher.counter = u64::MAX - 1;
    let sealed = seal(&mut sealer, &[b"last"]);
    let mut buffer = SealBuffer::default();
    buffer.put(b"one too many");
    assert_eq!(buffer.seal(&mut sealer), Err(FrameError::NonceExhausted));
    let mut open = OpenBuffer::default();
    open.spare(0).extend_from_slice(&[sealed.as_slice(), &sealed].concat());
    assert_eq!(open.open(&mut opener), Err(FrameError::NonceExhausted));
    assert_eq!(open.plaintext(), b"last");
}

#[test]
fn an_empty_frame_is_refused() {
    let (sealer, mut opener) = pair();
    let mut frame = [0u8; PLAIN_SIZE];
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let tag = sealer.cipher.key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut frame).unwrap();
    let mut open = OpenBuffer::default();
    open.spare(0).extend_from_slice(&[&frame, tag.as_ref()].concat());
    assert_eq!(open.open(&mut opener), Err(FrameError::Empty));
}

#[test]
fn a_part_of_a_frame_keeps_no_more_memory_than_it_needs() {
    let (mut sealer, mut opener) = pair();
    let mut open = OpenBuffer::default();
    open.spare(64 * 1024).extend_from_slice(&seal(&mut sealer, &[&[7; 3000]]));
    let last = seal(&mut sealer, &[b"last"]);
    let (part, rest) = last.split_at(10);
    open.spare(0).extend_from_slice(part);
    open.open(&mut opener).unwrap();
    open.consume(3000);
    open.release();
    assert!(open.bytes.capacity() < 2 * SEALED_SIZE, "{}", open.bytes.capacity());
    open.spare(0).extend_from_slice(rest);
    open.open(&mut opener).unwrap();
    assert_eq!(open.plaintext(), b"last");
    open.consume(4);
    open.release();
    assert_eq!(open.bytes.capacity(), 0);
}

proptest! {
    /// Whatever the pieces written, read and consumed, the same bytes come out.
    #[test]
    fn the_stream_survives_any_fragmentation(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..6),
        reads in proptest::collection::vec(1usize..5000, 1..8),
        consumes in proptest::collection::vec(0usize..4000, 1..8),
    ) {
        let (mut sealer, mut opener) = pair();
        let mut sealed = Vec::new();
        for part in &parts {
            sealed.extend(seal(&mut sealer, &[part]));
        }
        let (mut open, mut got, mut rest) = (OpenBuffer::default(), Vec::new(), sealed.as_slice());
        let (mut reads, mut consumes) = (reads.iter().cycle(), consumes.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(*reads.next().unwrap()));
            open.spare(now.len()).extend_from_slice(now);
            open.open(&mut opener).unwrap();
            let take = open.plaintext().len().min(*consumes.next().unwrap());
            got.extend_from_slice(&open.plaintext()[..take]);
            open.consume(take);
            rest = later;
        }
        got.extend_from_slice(open.plaintext());
        prop_assert_eq!(got, parts.concat());
        prop_assert!(!open.is_mid_frame());
    }

    /// Read in any pieces; memory follows what was read.
    #[test]
    fn any_bytes_in_any_pieces_are_answered_and_never_hoarded(
        honest in 0usize..3000,
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1500), 0..6),
    ) {
        let (mut sealer, mut opener) = pair();
        let (mut open, mut read) = (OpenBuffer::default(), 0);
        let good = seal(&mut sealer, &[&vec![7; honest]]);
        let pieces = good.chunks(700).map(<[u8]>::to_vec).chain(pieces);
        for piece in pieces {
            read += piece.len();
            open.spare(piece.len()).extend_from_slice(&piece);
            let whole = read.saturating_sub(good.len()) >= SEALED_SIZE;
            prop_assert_eq!(open.open(&mut opener), if whole { Err(FrameError::Decrypt) } else { Ok(()) });
            prop_assert!(open.capacity() <= 2 * read + SEALED_SIZE);
            if whole {
                break;
            }
        }
        prop_assert_eq!(open.plaintext(), vec![7; honest]);
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let (_, mut opener) = pair();
        let mut open = OpenBuffer::default();
        open.spare(0).extend_from_slice(&bytes);
        let whole = bytes.len() >= SEALED_SIZE;
        prop_assert_eq!(open.open(&mut opener), if whole { Err(FrameError::Decrypt) } else { Ok(()) });
    }
}
