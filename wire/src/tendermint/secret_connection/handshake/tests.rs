use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::tendermint::secret_connection::DATA_SIZE;

fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed(&[seed; 32])
}

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Runs an honest side against bytes made by `evil`, which is told our ephemeral message. `None`: it waits for more.
fn answer(evil: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<Option<Secured>, SecretConnectionError> {
    let key = key(1);
    let mut honest = Handshake::new(&key, &mut rng(1));
    let first = honest.poll_transmit().unwrap();
    honest.handle_bytes(&evil(&first))?;
    Ok(honest.poll_secured())
}

fn ephemeral(value: &[u8]) -> Vec<u8> {
    delimit(&BytesValue { value: value.to_vec() }.encode_to_vec())
}

/// A peer that does everything right up to its last message, which `make` chooses from the challenge.
fn with_last_message(make: impl FnOnce([u8; 32]) -> Vec<u8>) -> Result<Option<Secured>, SecretConnectionError> {
    answer(|first| {
        let theirs: [u8; 32] = first[3..].try_into().unwrap();
        let ours = Ephemeral::new(&mut rng(2));
        let (public, dh) = (ours.public(), ours.agree(&theirs).unwrap());
        let least = public < theirs;
        let (lower, upper) = if least { (public, theirs) } else { (theirs, public) };
        let mut frames = SealBuffer::default();
        frames.put(&make(challenge(&lower, &upper, &dh)));
        frames.seal(&mut Sealer::new(&frame_keys(&dh, least).send)).unwrap();
        [&ephemeral(&public), frames.sealed()].concat()
    })
}

fn auth(ed25519: Option<&[u8]>, secp256k1: Option<&[u8]>, sig: &[u8]) -> Vec<u8> {
    let pub_key = ProtoPublicKey { ed25519: ed25519.map(<[u8]>::to_vec), secp256k1: secp256k1.map(<[u8]>::to_vec) };
    delimit(&AuthSigMessage { pub_key: Some(pub_key), sig: sig.to_vec() }.encode_to_vec())
}

/// Carries bytes between two sides, `step` at a time, until both are done.
fn shake(step: usize) -> (Secured, Secured) {
    let (a_key, b_key) = (key(1), key(2));
    let (mut a, mut b) = (Handshake::new(&a_key, &mut rng(1)), Handshake::new(&b_key, &mut rng(2)));
    let (mut to_a, mut to_b) = (Vec::new(), Vec::new());
    loop {
        to_b.extend(a.poll_transmit().unwrap_or_default());
        to_a.extend(b.poll_transmit().unwrap_or_default());
        let (n, m) = (to_a.len().min(step), to_b.len().min(step));
        let taken = a.handle_bytes(&to_a[..n]).unwrap();
        to_a.drain(..taken);
        let taken = b.handle_bytes(&to_b[..m]).unwrap();
        to_b.drain(..taken);
        if let (State::Done, State::Done) = (&a.state, &b.state) {
            assert!(to_a.is_empty() && to_b.is_empty());
            return (a.poll_secured().unwrap(), b.poll_secured().unwrap());
        }
    }
}

#[test]
fn both_sides_learn_each_others_keys_however_the_bytes_come() {
    for step in [1, 2, 34, 35, 36, 1043, 1044, 1045, 5000] {
        let (mut a, mut b) = shake(step);
        assert_eq!((a.id, b.id), (key(2).id(), key(1).id()));
        for (sealer, opener, received) in
            [(&mut a.sealer, &mut b.opener, &mut b.received), (&mut b.sealer, &mut a.opener, &mut a.received)]
        {
            let mut frames = SealBuffer::default();
            frames.put(&[5; 3000]);
            frames.seal(sealer).unwrap();
            received.spare(0).extend_from_slice(frames.sealed());
            received.open(opener).unwrap();
            assert_eq!(received.plaintext(), [5; 3000]);
        }
    }
}

#[test]
fn the_wire_has_cometbfts_sizes() {
    let key = key(1);
    let mut handshake = Handshake::new(&key, &mut rng(1));
    let first = handshake.poll_transmit().unwrap();
    assert_eq!((first.len(), &first[..3]), (35, &[34, 0x0a, 32][..]));
    handshake.handle_bytes(&ephemeral(&[9; 32])).unwrap();
    assert_eq!(handshake.poll_transmit().unwrap().len(), SEALED_SIZE);
    // 102 bytes and their prefix.
    assert_eq!(auth(Some(&[0; 32]), None, &[0; 64]).len(), 103);
}

#[test]
fn bytes_after_the_signature_belong_to_the_next_message() {
    let peer = key(2);
    let secured = with_last_message(|challenge| {
        [auth(Some(&peer.public()), None, &peer.sign(&challenge)), b"node info".to_vec()].concat()
    });
    assert_eq!(secured.unwrap().unwrap().received.plaintext(), b"node info");
    // The message may lie across frames.
    let secured = with_last_message(|challenge| {
        let mut message = AuthSigMessage {
            pub_key: Some(ProtoPublicKey { ed25519: Some(peer.public().to_vec()), secp256k1: None }),
            sig: peer.sign(&challenge).to_vec(),
        }
        .encode_to_vec();
        // An unknown field of 300 bytes, then more data than a frame holds.
        message.extend([0x7a, 0xac, 0x02]);
        message.extend([0; 300]);
        [delimit(&message), vec![1; DATA_SIZE]].concat()
    });
    assert_eq!(secured.unwrap().unwrap().received.plaintext().len(), DATA_SIZE - 407);
}

fn hex32(text: &str) -> [u8; 32] {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
}

/// Every encoding of a point of small order on Curve25519 and its twist: the shared secret would be zero whatever our key is
/// (Tendermint #3040). X25519 ignores the top bit, so each comes twice.
#[test]
fn every_ephemeral_key_of_small_order_is_refused() {
    for text in [
        "0000000000000000000000000000000000000000000000000000000000000000", // 0, order 4
        "0100000000000000000000000000000000000000000000000000000000000000", // 1, order 1
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800", // order 8
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157", // order 8
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p - 1, order 2
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p = 0
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p + 1 = 1
    ] {
        let mut point = hex32(text);
        for top_bit in [0, 0x80] {
            point[31] = point[31] & 0x7f | top_bit;
            let error = answer(|_| ephemeral(&point)).unwrap_err();
            assert_eq!(
                (error, error.blame()),
                (SecretConnectionError::LowOrder, Blame::Misbehaved),
                "{text} {top_bit}"
            );
        }
    }
}

/// An identity for which a signature of anything can be made without a private key: CometBFT takes it (ZIP-215), we do not.
#[test]
fn every_identity_of_small_order_is_refused() {
    // R the neutral element and s zero fit every message under a key of order 1, and often under the others.
    let mut forged = [0; 64];
    forged[0] = 1;
    for text in [
        "0100000000000000000000000000000000000000000000000000000000000000", // order 1
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
        "0000000000000000000000000000000000000000000000000000000000000000", // order 4
        "0000000000000000000000000000000000000000000000000000000000000080", // order 4
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85", // order 8
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa", // order 8
        // The same points, not reduced or with the sign of zero.
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ] {
        let refused = with_last_message(|_| auth(Some(&hex32(text)), None, &forged)).unwrap_err();
        assert_eq!((refused, refused.blame()), (SecretConnectionError::WeakKey, Blame::Misbehaved), "{text}");
    }
}

/// The key is judged before its signature, and its type before its length, so that the log says what is really wrong.
#[test]
fn a_key_is_judged_before_its_signature() {
    use SecretConnectionError::*;
    for (message, error) in [
        (auth(None, None, &[]), MissingKey),
        (auth(None, Some(&[2; 33]), &[]), UnsupportedKey),
        (auth(Some(&[1; 31]), Some(&[2; 33]), &[]), UnsupportedKey),
        (auth(Some(&[1; 31]), None, &[]), KeyLength(31)),
        (auth(Some(&[1; 33]), None, &[]), KeyLength(33)),
    ] {
        assert_eq!(with_last_message(|_| message).unwrap_err(), error);
    }
    // A key type that came after 0.38 (bls12381, field 3) is one that we do not know.
    let later = [&[0x0a, 4, 0x1a, 2, 7, 7], &[0x12, 1, 0][..]].concat();
    assert_eq!(with_last_message(|_| delimit(&later)).unwrap_err(), MissingKey);
}

#[test]
fn an_evil_ephemeral_key_is_refused() {
    use SecretConnectionError::*;
    for (message, error) in [
        (ephemeral(&[]), EphemeralLength(0)),
        (ephemeral(&[1; 31]), EphemeralLength(31)),
        (ephemeral(&[1; 33]), EphemeralLength(33)),
        (ephemeral(&[1; 64]), EphemeralLength(64)),
        (ephemeral(&[1; 600]), MessageTooLarge(603)),
        (vec![0xff; 10], Undecodable),
        (vec![0x80, 0x80, 0x40], MessageTooLarge(1 << 20)),
        (delimit(&[0xff; 5]), Undecodable),
        (delimit(&[]), EphemeralLength(0)),
    ] {
        assert_eq!(answer(|_| message).unwrap_err(), error);
        assert!(error.blame().is_peer());
    }
    assert_eq!(answer(<[u8]>::to_vec).unwrap_err(), Reflected);
}

#[test]
fn an_evil_identity_is_refused() {
    use SecretConnectionError::*;
    let peer = key(2);
    let public = peer.public();
    let is_point = |y: &u8| ed25519_dalek::VerifyingKey::from_bytes(&[*y; 32]).is_ok();
    let no_point = [(0..=u8::MAX).find(|y| !is_point(y)).unwrap(); 32];
    type Make<'a> = Box<dyn FnOnce([u8; 32]) -> Vec<u8> + 'a>;
    let cases: Vec<(Make<'_>, SecretConnectionError)> = vec![
        // Tendermint #4030: a message without a key crashed the node.
        (
            Box::new(|c| delimit(&AuthSigMessage { pub_key: None, sig: peer.sign(&c).to_vec() }.encode_to_vec())),
            MissingKey,
        ),
        (Box::new(|c| auth(None, None, &peer.sign(&c))), MissingKey),
        (Box::new(|c| auth(None, Some(&[2; 33]), &peer.sign(&c))), UnsupportedKey),
        (Box::new(|c| auth(Some(&public[..31]), None, &peer.sign(&c))), KeyLength(31)),
        (Box::new(|c| auth(Some(&[]), None, &peer.sign(&c))), KeyLength(0)),
        (Box::new(|c| auth(Some(&no_point), None, &peer.sign(&c))), WeakKey),
        (Box::new(|c| auth(Some(&key(3).public()), None, &peer.sign(&c))), Signature),
        (Box::new(|_| auth(Some(&public), None, &peer.sign(&[0; 32]))), Signature),
        (Box::new(|c| auth(Some(&public), None, &peer.sign(&c)[..63])), Signature),
        (Box::new(|_| auth(Some(&public), None, &[])), Signature),
        (Box::new(|_| delimit(&[0x0a])), Undecodable),
        (Box::new(|_| vec![0xff, 0x7f]), MessageTooLarge(16_383)),
    ];
    for (make, error) in cases {
        assert_eq!(with_last_message(make).unwrap_err(), error);
    }
    // Not even a frame.
    let garbage = answer(|_| [ephemeral(&[9; 32]), vec![0; SEALED_SIZE]].concat());
    assert_eq!(garbage.unwrap_err(), Frame(FrameError::Decrypt));
}

/// Bytes that the machine holds in buffers.
fn held(handshake: &Handshake<'_>) -> usize {
    let transmit = handshake.transmit.as_ref().map_or(0, Vec::capacity);
    transmit
        + match &handshake.state {
            State::Ephemeral { received, .. } => received.capacity(),
            State::Authenticating { received, .. } => received.capacity(),
            State::Done => 0,
        }
}

proptest! {
    /// However much is claimed or sent, a handshake holds two kilobytes and a part of what was ours to send.
    #[test]
    fn any_bytes_in_any_pieces_are_answered_and_never_hoarded(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1500), 0..6),
        stage in 0u8..3, claim in any::<u64>(),
    ) {
        let key = key(1);
        let mut handshake = Handshake::new(&key, &mut rng(1));
        let mut claimed = Vec::new();
        prost::encoding::encode_varint(claim, &mut claimed);
        let mut alive = match stage {
            0 => handshake.handle_bytes(&claimed).is_ok(),
            1 => handshake.handle_bytes(&ephemeral(&[9; 32])).is_ok(),
            _ => true,
        };
        for piece in pieces {
            alive = alive && handshake.handle_bytes(&piece).is_ok();
            prop_assert!(held(&handshake) < 4 * SEALED_SIZE, "{}", held(&handshake));
        }
        prop_assert!(handshake.poll_secured().is_none());
    }

    /// The last message, in frames that open: only the right signature over this challenge is taken.
    #[test]
    fn any_last_message_is_answered(
        message in proptest::collection::vec(any::<u8>(), 0..600), delimited: bool,
        at in 0usize..103, byte: u8,
    ) {
        let peer = key(2);
        let garbage = if delimited { delimit(&message) } else { message };
        let answered = with_last_message(|_| garbage);
        prop_assert!(!matches!(answered, Ok(Some(_))));
        let changed = with_last_message(|challenge| {
            let mut good = auth(Some(&peer.public()), None, &peer.sign(&challenge));
            good[at] ^= byte;
            good
        });
        prop_assert_eq!(byte == 0, matches!(changed, Ok(Some(_))));
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..2500), good_start: bool) {
        let key = key(1);
        let mut handshake = Handshake::new(&key, &mut rng(1));
        if good_start {
            handshake.handle_bytes(&ephemeral(&[9; 32])).unwrap();
        }
        let _ = handshake.handle_bytes(&bytes);
        prop_assert!(handshake.poll_secured().is_none());
    }

    /// One flipped bit anywhere in what the peer sends never yields a connection with another's identity.
    #[test]
    fn a_flipped_bit_is_noticed(at in 0usize..35 + SEALED_SIZE, bit in 0u8..8) {
        let peer = key(2);
        let mut bytes = Vec::new();
        let honest = key(1);
        let mut theirs = Handshake::new(&peer, &mut rng(2));
        let mut ours = Handshake::new(&honest, &mut rng(1));
        bytes.extend(theirs.poll_transmit().unwrap());
        theirs.handle_bytes(&ours.poll_transmit().unwrap()).unwrap();
        bytes.extend(theirs.poll_transmit().unwrap());
        bytes[at] ^= 1 << bit;
        let _ = ours.handle_bytes(&bytes);
        // The top bit of an X25519 key is ignored by the curve, but not by the transcript.
        prop_assert!(ours.poll_secured().is_none());
    }
}
