use data_encoding::HEXLOWER;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    Blame,
    rlpx::{FrameBuffer, FrameError, RlpError, ecies::OVERHEAD},
};

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.trim().as_bytes()).unwrap()
}

fn hex32(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Origins: fixtures/README.md.
macro_rules! packet {
    ($name:literal) => {
        hex(include_str!(concat!("../../../../fixtures/rlpx/", $name, ".hex")))
    };
}

/// The keys of all published packets.
fn a() -> SecretKey {
    SecretKey::from_bytes(&hex32("49a7b37aa6f6645917e7b807e9d1c00d4fa71f18343b0d4122a4d2df64dd6fee")).unwrap()
}

fn b() -> SecretKey {
    SecretKey::from_bytes(&hex32("b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291")).unwrap()
}

const EPHEMERAL_A: &str = "869d6ecf5211f1cc60418a13b9d870b22959d0c16f02bec714c960dd2298a32d";
const EPHEMERAL_B: &str = "e238eb8e04fee6511ab04c6dd3c89ce097b11f25d584863ac2b6d5b35b1847e4";
const NONCE_A: &str = "7e968bba13b6c50e2c4cd7f241cc0d64d1ac25c7f5952df231ac6a2bda8ee5d6";
const NONCE_B: &str = "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd";

/// What A and B drew when the packets were published; their boxes' keys are not known.
fn draw(nonce: &str, ephemeral: &str) -> Draw {
    let ephemeral = Scalar::new(&hex32(ephemeral)).unwrap();
    Draw { nonce: hex32(nonce), ephemeral, ..Draw::new(&mut rng(1)) }
}

fn opened(key: &SecretKey, plain_message: usize, packet: &[u8]) -> Opened {
    let mut reader = PacketReader::new(plain_message);
    let mut rest = packet;
    loop {
        let taken = reader.take(rest);
        rest = &rest[taken..];
        if let Some(opened) = reader.open(key.scalar()).unwrap() {
            assert!(rest.is_empty());
            return opened;
        }
    }
}

#[test]
fn every_published_packet_is_read() {
    for (packet, form) in [
        (packet!("auth_plain"), Form::Plain),
        (packet!("auth_eip8"), Form::Eip8),
        (packet!("auth_eip8_v56"), Form::Eip8),
    ] {
        let opened = opened(&b(), Auth::PLAIN, &packet);
        let auth = Auth::decode(form, &opened.message).unwrap();
        assert_eq!((opened.form, &opened.packet), (form, &packet));
        assert_eq!((&auth.static_key, auth.nonce), (a().public().as_bytes(), hex32(NONCE_A)));
        let token = xor(&b().scalar().agree(a().public().as_bytes()).unwrap(), &auth.nonce);
        let ephemeral = SecretKey::from_bytes(&hex32(EPHEMERAL_A)).unwrap();
        assert_eq!(recover(&token, &auth.signature), Some(*ephemeral.public()));
    }
    for (packet, form) in
        [(packet!("ack_plain"), Form::Plain), (packet!("ack_eip8"), Form::Eip8), (packet!("ack_eip8_v57"), Form::Eip8)]
    {
        let opened = opened(&a(), Ack::PLAIN, &packet);
        let ack = Ack::decode(form, &opened.message).unwrap();
        assert_eq!((opened.form, &opened.packet), (form, &packet));
        let ephemeral_key = Scalar::new(&hex32(EPHEMERAL_B)).unwrap().point();
        assert_eq!((ack.ephemeral_key, ack.nonce), (ephemeral_key, hex32(NONCE_B)));
    }
}

#[test]
fn the_published_secrets_are_derived() {
    let ephemeral_a = Scalar::new(&hex32(EPHEMERAL_A)).unwrap();
    let agreed = Scalar::new(&hex32(EPHEMERAL_B)).unwrap().agree(&ephemeral_a.point()).unwrap();
    let (auth, ack) = (packet!("auth_eip8"), packet!("ack_eip8"));
    let secrets = Secrets::of_initiator(&agreed, [&hex32(NONCE_A), &hex32(NONCE_B)], [&auth, &ack]).swapped();
    assert_eq!(*secrets.aes, hex32("80e8632c05fed6fc2a13b0f8d31a3cf645366239170ea067065aba8e28bac487"));
    assert_eq!(*secrets.mac, hex32("2ea74ec5dae199227dff1af715362700e989d889d7a493cb0639691efb8e5f98"));
    let ingress = secrets.ingress.chain_update("foo").finalize();
    assert_eq!(ingress[..], hex("0c7ec6340062cc46f5e9f1e3cf86f8c8c403c5a0964f5df0ebd34a75ddc86db5"));
}

/// Runs both sides, with at most `step` bytes on the way at once.
fn shake<'k>(mut a: Handshake<'k>, mut b: Handshake<'k>, step: usize) -> [Secured; 2] {
    let (mut to_a, mut to_b) = (Vec::new(), Vec::new());
    loop {
        to_b.extend(a.poll_transmit().unwrap_or_default());
        to_a.extend(b.poll_transmit().unwrap_or_default());
        for (side, input) in [(&mut a, &mut to_a), (&mut b, &mut to_b)] {
            let now = input.len().min(step);
            let taken = side.handle_bytes(&input[..now]).unwrap();
            input.drain(..taken);
        }
        if let (State::Done, State::Done) = (&a.state, &b.state) {
            assert!(to_a.is_empty() && to_b.is_empty());
            return [a.poll_secured().unwrap(), b.poll_secured().unwrap()];
        }
    }
}

/// Whether what one writes the other reads.
fn talk(from: &mut Secured, to: &mut Secured) {
    let mut input = FrameBuffer::default();
    for data in [&[0x80][..], &[7; 1000], b"hello"] {
        from.writer.seal(data, input.spare(0)).unwrap();
        assert_eq!(to.reader.open(&mut input).unwrap().unwrap(), data);
    }
}

#[test]
fn both_sides_learn_each_other_however_the_bytes_come() {
    let (a_key, b_key) = (a(), b());
    for step in [1, 2, 3, 4, 113, 210, 307, 5000] {
        let mut a = Handshake::initiator(&a_key, b_key.public(), &mut rng(step as u64));
        let b = Handshake::recipient(&b_key, &mut rng(1 + step as u64));
        assert_eq!(a.missing(), 3);
        a.handle_bytes(&[]).unwrap();
        let [mut a, mut b] = shake(a, b, step);
        assert_eq!((a.peer, b.peer), (*b_key.public(), *a_key.public()));
        talk(&mut a, &mut b);
        talk(&mut b, &mut a);
    }
}

/// Both published packets, each read by the side it was for, as far as the frames that go-ethereum wrote after them.
#[test]
fn our_frames_after_the_published_packets_are_go_ethereums() {
    let (a_key, b_key) = (a(), b());
    let mut initiator = Handshake::initiate(&a_key, b_key.public(), draw(NONCE_A, EPHEMERAL_A));
    initiator.state = State::AwaitingAck { recipient: *b_key.public(), auth: packet!("auth_eip8") };
    assert_eq!(initiator.handle_bytes(&packet!("ack_eip8")), Ok(492));
    let mut secured = initiator.poll_secured().unwrap();

    let agreed = Scalar::new(&hex32(EPHEMERAL_B)).unwrap();
    let agreed = agreed.agree(&Scalar::new(&hex32(EPHEMERAL_A)).unwrap().point()).unwrap();
    let packets: [&[u8]; 2] = [&packet!("auth_eip8"), &packet!("ack_eip8")];
    let secrets = Secrets::of_initiator(&agreed, [&hex32(NONCE_A), &hex32(NONCE_B)], packets).swapped();
    let (mut reader, mut input) = (FrameReader::new(&secrets), FrameBuffer::default());

    let rows = include_str!("../../../../fixtures/rlpx/frames_geth.csv").lines();
    assert_eq!(rows.clone().count(), 7);
    for row in rows {
        let [code, size, frame] = row.split(',').collect::<Vec<_>>().try_into().unwrap();
        let mut data = rlp::encode(&code.parse::<u64>().unwrap()).to_vec();
        data.extend((0..size.parse().unwrap()).map(|at: usize| (at * 7) as u8));
        let mut sealed = Vec::new();
        secured.writer.seal(&data, &mut sealed).unwrap();
        assert_eq!(HEXLOWER.encode(&sealed), frame, "code {code}, {size} bytes");
        input.spare(0).extend_from_slice(&sealed);
        assert_eq!(reader.open(&mut input).unwrap().unwrap(), data);
    }
}

#[test]
fn our_packets_are_eip8s() {
    let (a_key, b_key) = (a(), b());
    for seed in 0..20 {
        let mut a = Handshake::initiator(&a_key, b_key.public(), &mut rng(seed));
        let mut b = Handshake::recipient(&b_key, &mut rng(seed + 100));
        // The list has 169 bytes in auth, 102 in ack.
        let auth = a.poll_transmit().unwrap();
        assert!((2 + OVERHEAD + 169 + 100..2 + OVERHEAD + 169 + 200).contains(&auth.len()));
        assert_eq!(b.handle_bytes(&auth), Ok(auth.len()));
        let ack = b.poll_transmit().unwrap();
        assert!((2 + OVERHEAD + 102 + 100..2 + OVERHEAD + 102 + 200).contains(&ack.len()));
        for packet in [auth, ack] {
            assert_eq!(usize::from(u16::from_be_bytes([packet[0], packet[1]])), packet.len() - 2);
        }
    }
    let again = |seed| Handshake::initiator(&a_key, b_key.public(), &mut rng(seed)).poll_transmit();
    assert_eq!(again(1), again(1));
    assert_ne!(again(1), again(2));
}

/// A packet that anybody can make, for `key`.
fn sealed(form: Form, draw: &Draw, key: &PublicKey, message: &[u8]) -> Vec<u8> {
    let [agreed, point] = multiply([(&draw.box_scalar, Some(key)), (&draw.box_scalar, None)]);
    packet::seal(form, &Seal { agreed: agreed.x(), point: *point.as_bytes(), iv: draw.iv }, message)
}

/// An initiator of 2015.
fn plain_initiator<'k>(key: &'k SecretKey, recipient: &PublicKey, draw: Draw) -> Handshake<'k> {
    let token = xor(&key.scalar().agree(recipient.as_bytes()).unwrap(), &draw.nonce);
    let hash = Keccak256::digest(draw.ephemeral.point());
    let signature = draw.ephemeral.sign(&token);
    let message = [&signature[..], &hash, key.public().as_bytes(), &draw.nonce, &[0]].concat();
    let auth = sealed(Form::Plain, &draw, recipient, &message);
    let mut handshake = Handshake::initiate(key, recipient, draw);
    handshake.transmit = Some(auth.clone());
    handshake.state = State::AwaitingAck { recipient: *recipient, auth };
    handshake
}

#[test]
fn who_begins_as_before_eip8_is_answered_so() {
    let (a_key, b_key) = (a(), b());
    // The published packet first, as far as our answer.
    let mut recipient = Handshake::receive(&b_key, draw(NONCE_B, EPHEMERAL_B));
    assert_eq!(recipient.handle_bytes(&packet!("auth_plain")), Ok(307));
    let ack = opened(&a_key, Ack::PLAIN, &recipient.poll_transmit().unwrap());
    assert_eq!((ack.form, ack.packet.len()), (Form::Plain, 210));
    assert_eq!(Ack::decode(Form::Plain, &ack.message).unwrap().nonce, hex32(NONCE_B));
    assert_eq!(recipient.poll_secured().unwrap().peer, *a_key.public());

    // Then all of it. One of the seeds gives a packet that might be EIP-8's by its first three bytes.
    let looks_like_eip8 = |seed: &u64| Draw::new(&mut rng(*seed)).box_scalar.point()[1] == 4;
    let seeds = [1, (0..).find(looks_like_eip8).unwrap()];
    for (seed, step) in seeds.into_iter().flat_map(|seed| [(seed, 1), (seed, 1000)]) {
        let initiator = plain_initiator(&a_key, b_key.public(), Draw::new(&mut rng(seed)));
        let recipient = Handshake::recipient(&b_key, &mut rng(seed));
        let [mut a, mut b] = shake(initiator, recipient, step);
        assert_eq!((a.peer, b.peer), (*b_key.public(), *a_key.public()));
        talk(&mut a, &mut b);
        talk(&mut b, &mut a);
    }
}

/// A packet of 1,024 to 1,279 bytes begins with 0x04, as a plain one does; 2,048 is the most.
#[test]
fn long_padding_is_read_up_to_the_limit() {
    let (a_key, b_key) = (a(), b());
    for padding in [741, 742, 997, 998, 1766, 1767] {
        let draw = || Draw { padding, ..Draw::new(&mut rng(3)) };
        let mut initiator = Handshake::initiate(&a_key, b_key.public(), draw());
        let auth = initiator.poll_transmit().unwrap();
        assert_eq!(auth.len(), 2 + OVERHEAD + 169 + padding);
        for step in [1, 5000] {
            let mut recipient = Handshake::recipient(&b_key, &mut rng(4));
            let mut with_more = auth.clone();
            with_more.extend([4; 500]);
            let result: Result<usize, _> = with_more.chunks(step).map(|bytes| recipient.handle_bytes(bytes)).sum();
            if auth.len() > 2050 {
                assert_eq!(result, Err(HandshakeError::TooLong(auth.len() - 2)));
                assert_eq!(recipient.reader.missing(), 0);
            } else {
                assert_eq!(result, Ok(auth.len()), "nothing of what follows is taken");
                assert_eq!(recipient.poll_secured().unwrap().peer, *a_key.public());
            }
        }
    }
}

/// What a side makes of a packet and the end of the stream.
fn outcome(mut side: Handshake, packet: &[u8]) -> Result<Secured, HandshakeError> {
    side.handle_bytes(packet)?;
    side.handle_end()?;
    Ok(side.poll_secured().unwrap())
}

/// The published packets, each with a side that reads it.
fn with_each_published(check: impl Fn(&[u8], usize, &dyn Fn(&[u8]) -> Result<Secured, HandshakeError>)) {
    let (a_key, b_key) = (a(), b());
    let recipient = |packet: &[u8]| outcome(Handshake::receive(&b_key, draw(NONCE_B, EPHEMERAL_B)), packet);
    let initiator =
        |packet: &[u8]| outcome(Handshake::initiate(&a_key, b_key.public(), draw(NONCE_A, EPHEMERAL_A)), packet);
    check(&packet!("auth_plain"), 0, &recipient);
    check(&packet!("auth_eip8"), 2, &recipient);
    check(&packet!("auth_eip8_v56"), 2, &recipient);
    check(&packet!("ack_plain"), 0, &initiator);
    check(&packet!("ack_eip8"), 2, &initiator);
    check(&packet!("ack_eip8_v57"), 2, &initiator);
}

#[test]
fn every_flipped_bit_is_an_error_that_says_whose_fault_it_is() {
    use HandshakeError::*;
    with_each_published(|packet, prefix, read| {
        assert!(read(packet).is_ok());
        for at in 0..packet.len() {
            // Every bit of what is looked at before the authenticator is; of the rest, one and then another.
            let bits = if at < prefix + 65 { 0..8 } else { at % 8..at % 8 + 1 };
            for bit in bits {
                let mut flipped = packet.to_vec();
                flipped[at] ^= 1 << bit;
                let error = read(&flipped).unwrap_err();
                let [s1, s0] = [flipped[0], flipped[1]].map(usize::from);
                let size = s1 << 8 | s0;
                let expected = match at.checked_sub(prefix) {
                    // The size: it asks for too much, for more than comes, or for a part.
                    None if size > MAX_PACKET => TooLong(size),
                    None if size + 2 > packet.len() => Cut { missing: size + 2 - packet.len() },
                    None => WrongMac,
                    // No plain packet any more: its first bytes are taken for a size.
                    Some(0) if prefix == 0 && size > MAX_PACKET => TooLong(size),
                    Some(0..=64) => NotAPoint,
                    Some(_) => WrongMac,
                };
                assert_eq!(error, expected, "byte {at}, bit {bit} of {}", packet.len());
                let blame = if matches!(error, Cut { .. }) { Blame::Local } else { Blame::Malformed };
                assert_eq!(error.blame(), blame);
            }
        }
    });
}

#[test]
fn every_cut_is_an_error() {
    with_each_published(|packet, _, read| {
        for end in 0..packet.len() {
            let error = read(&packet[..end]).unwrap_err();
            let HandshakeError::Cut { missing } = error else { panic!("{error} after {end} bytes") };
            assert!((1..=packet.len() - end).contains(&missing), "{missing} are missing after {end}");
            assert_eq!(error.blame(), Blame::Local);
        }
    });
}

#[test]
fn a_size_out_of_bounds_is_refused_before_more_is_read() {
    let key = b();
    for (size, error) in [
        (0, HandshakeError::TooShort(0)),
        (113, HandshakeError::TooShort(113)),
        (2049, HandshakeError::TooLong(2049)),
        (0xffff, HandshakeError::TooLong(0xffff)),
    ] {
        let mut side = Handshake::recipient(&key, &mut rng(1));
        let [s1, s0] = u16::to_be_bytes(size);
        assert_eq!(side.handle_bytes(&[s1, s0]), Ok(2));
        assert_eq!(side.handle_bytes(&[4]), Err(error));
        assert_eq!(error.blame(), Blame::Malformed);
    }
    // Who speaks another protocol is told from a peer at once.
    for other in ["GET / HTTP/1.1\r\n", "\x16\x03\x01\x02\x00", "SSH-2.0-"] {
        let error = outcome(Handshake::recipient(&key, &mut rng(1)), other.as_bytes()).unwrap_err();
        assert!(matches!(error, HandshakeError::TooLong(_)), "{other}");
    }
}

/// Sizes that leave no room for a block made go-ethereum panic (CVE-2026-22862); points off the curve gave bits of the key away
/// (CVE-2026-26315): they are refused before the key is used.
#[test]
fn every_size_of_a_forged_box_is_refused_and_the_key_multiplies_points_only() {
    let key = b();
    for off_the_curve in [false, true] {
        let mut point = [&[4][..], a().public().as_bytes()].concat();
        point[64] ^= u8::from(off_the_curve);
        for size in 0..=400_u16 {
            let mut packet = [&size.to_be_bytes()[..], &point].concat();
            packet.resize(2 + usize::from(size).max(1), 0);
            let error = outcome(Handshake::recipient(&key, &mut rng(1)), &packet).unwrap_err();
            let expected = match usize::from(size) {
                size if size < MIN_PACKET => HandshakeError::TooShort(size),
                _ if off_the_curve => HandshakeError::NotAPoint,
                _ => HandshakeError::WrongMac,
            };
            assert_eq!(error, expected, "{size} bytes");
        }
    }
}

#[test]
fn a_packet_for_another_key_is_not_opened() {
    let (a_key, b_key) = (a(), b());
    let mut initiator = Handshake::initiator(&a_key, a_key.public(), &mut rng(1));
    let auth = initiator.poll_transmit().unwrap();
    let error = outcome(Handshake::recipient(&b_key, &mut rng(2)), &auth).unwrap_err();
    assert_eq!(error, HandshakeError::WrongMac);
}

/// An initiator that seals what it likes, and what the recipient makes of it.
fn after_auth(form: Form, message: &[u8]) -> Result<Secured, HandshakeError> {
    let key = b();
    let auth = sealed(form, &Draw::new(&mut rng(5)), key.public(), message);
    outcome(Handshake::recipient(&key, &mut rng(6)), &auth)
}

#[test]
fn a_sealed_message_that_is_wrong_has_its_error() {
    let key = b();
    let good = opened(&key, Auth::PLAIN, &packet!("auth_eip8")).message;
    let list = &good[..169];
    assert!(after_auth(Form::Eip8, list).is_ok(), "padding is not needed");
    let changed = |at: usize, bytes: &[u8]| {
        let mut message = list.to_vec();
        message[at..at + bytes.len()].copy_from_slice(bytes);
        after_auth(Form::Eip8, &message).unwrap_err()
    };
    // f8a7, b841 signature, b840 key, a0 nonce, 04.
    for (error, expected) in [
        (changed(0, &[0x80]), RlpError::ExpectedList),
        (changed(1, &[0xa8]), RlpError::Truncated),
        (changed(1, &[0xa6]), RlpError::TooFewElements),
        (changed(3, &[0x42]), RlpError::WrongLength { expected: 65, found: 66 }),
        (changed(70, &[0x3f]), RlpError::WrongLength { expected: 64, found: 63 }),
        (changed(135, &[0x9f]), RlpError::WrongLength { expected: 32, found: 31 }),
        (changed(2, &[0xf8]), RlpError::ExpectedBytes),
    ] {
        assert_eq!((error, error.blame()), (HandshakeError::Rlp(expected), Blame::Malformed));
    }
    for (error, expected) in [
        (changed(71, &[0; 64]), HandshakeError::StaticKey),
        (changed(134, &[list[134] ^ 1]), HandshakeError::StaticKey),
        (changed(4, &[0; 65]), HandshakeError::Signature),
        (changed(4, &[0xff; 65]), HandshakeError::Signature),
        (changed(68, &[2]), HandshakeError::Signature),
    ] {
        assert_eq!((error, error.blame()), (expected, Blame::Misbehaved));
    }
    assert_eq!(after_auth(Form::Plain, &[0; Auth::PLAIN]).unwrap_err(), HandshakeError::StaticKey);
    assert_eq!(after_auth(Form::Eip8, &[0]).unwrap_err(), HandshakeError::Rlp(RlpError::ExpectedList));

    // The other way there is one key to be wrong.
    let (a_key, b_key) = (a(), b());
    for form in [Form::Plain, Form::Eip8] {
        let ack = Ack { ephemeral_key: [9; 64], nonce: [9; 32] };
        let ack = sealed(form, &Draw::new(&mut rng(7)), a_key.public(), &ack.encode(form, 100));
        let error = outcome(Handshake::initiator(&a_key, b_key.public(), &mut rng(8)), &ack).unwrap_err();
        assert_eq!((error, error.blame()), (HandshakeError::EphemeralKey, Blame::Misbehaved));
    }
}

/// A forger who can seal (anybody can) but has not the initiator's static key: whatever it changes, no frame of either side opens.
#[test]
fn a_changed_message_gives_an_error_or_frames_that_do_not_open() {
    let (a_key, b_key) = (a(), b());
    let mut initiator = Handshake::initiate(&a_key, b_key.public(), draw(NONCE_A, EPHEMERAL_A));
    let auth = opened(&b_key, Auth::PLAIN, &initiator.poll_transmit().unwrap());
    for at in 0..168 {
        let mut message = auth.message.clone();
        message[at] ^= 1 << (at % 8);
        let changed = sealed(Form::Eip8, &Draw::new(&mut rng(9)), b_key.public(), &message);
        let mut recipient = Handshake::recipient(&b_key, &mut rng(10));
        if recipient.handle_bytes(&changed).is_err() {
            continue;
        }
        let mut initiator = Handshake::initiate(&a_key, b_key.public(), draw(NONCE_A, EPHEMERAL_A));
        initiator.handle_bytes(&recipient.poll_transmit().unwrap()).unwrap();
        let [mut a, mut b] = [initiator, recipient].map(|mut side| side.poll_secured().unwrap());
        let mut input = FrameBuffer::default();
        a.writer.seal(b"hello", input.spare(0)).unwrap();
        assert_eq!(b.reader.open(&mut input), Err(FrameError::HeaderMac), "byte {at}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_nor_take_memory(
        start in prop_oneof![Just(vec![4]), Just(vec![4, 0, 4]), Just(vec![1, 0, 4]), Just(vec![8, 0, 4]), any::<Vec<u8>>()],
        bytes in prop::collection::vec(any::<u8>(), 0..2500),
        step in 1..2500_usize,
        initiator: bool,
    ) {
        let (a_key, b_key) = (a(), b());
        let mut side = if initiator {
            Handshake::initiator(&a_key, b_key.public(), &mut rng(1))
        } else {
            Handshake::recipient(&b_key, &mut rng(1))
        };
        let stream = [start, bytes].concat();
        for bytes in stream.chunks(step) {
            let missing = side.missing();
            let Ok(taken) = side.handle_bytes(bytes) else { break };
            prop_assert!(taken == bytes.len() && missing > 0);
            prop_assert!(side.reader.held() <= 2 * (MAX_PACKET + 2));
        }
        prop_assert!(side.handle_end().is_err() || side.missing() == 0);
        prop_assert!(side.poll_secured().is_none());
    }
}
