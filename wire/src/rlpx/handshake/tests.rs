use data_encoding::HEXLOWER;
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::rlpx::FrameBuffer;

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
#[allow(dead_code)]
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
        let token = xor(&b().scalar().agree_with(a().public()), &auth.nonce);
        assert_eq!(recover(&token, &auth.signature), Some(Scalar::new(&hex32(EPHEMERAL_A)).unwrap().point()));
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
