//! Datagrams: as they come, and as whoever has a key can make them.

use bytes::BytesMut;
use kadwire_discovery::SecretKey;
use kadwire_discovery::discv4::message::{Kind, MAX_NEIGHBORS, Message};
use kadwire_discovery::discv4::packet::{MAX_DATAGRAM, PacketError, Unverified, encode};
use sha3::{Digest, Keccak256};

use super::hex;

const FIXTURES: [&str; 6] = [
    include_str!("../../../fixtures/discv4/ping.hex"),
    include_str!("../../../fixtures/discv4/ping_eip8.hex"),
    include_str!("../../../fixtures/discv4/ping_v555.hex"),
    include_str!("../../../fixtures/discv4/pong_eip8.hex"),
    include_str!("../../../fixtures/discv4/findnode_eip8.hex"),
    include_str!("../../../fixtures/discv4/neighbors_eip8.hex"),
];

/// Bytes in front of the type.
const HEAD: usize = 97;

pub(super) fn key() -> SecretKey {
    SecretKey::from_bytes(&[1; 32]).expect("a key")
}

pub(super) fn keccak256(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// Input: a datagram, or the type and body of one.
pub(crate) fn run(data: &[u8]) {
    read(data);
    let signed = [key().sign_recoverable(&keccak256(data)).as_slice(), data].concat();
    let datagram = [keccak256(&signed).as_slice(), &signed].concat();
    if let Some(from) = read(&datagram) {
        assert_eq!(from, *key().public(), "the signer of what is well formed is found");
    }
}

/// Who signed it.
fn read(datagram: &[u8]) -> Option<kadwire_discovery::PublicKey> {
    let tell = |error: &PacketError| _ = (error.to_string(), error.blame());
    let parsed = Unverified::parse(datagram).inspect_err(tell).ok()?;
    assert!(datagram.len() <= MAX_DATAGRAM);
    let header = *parsed.header();
    let packet = parsed.recover().inspect_err(tell).ok()?;
    assert_eq!(packet.header(), header, "the signature changes nothing of what was said");
    round_trip(packet.message);
    Some(packet.from)
}

/// What was read can be written, and is then read as the same.
fn round_trip(mut message: Message) {
    let written = message.encode(BytesMut::new());
    assert!(HEAD + 1 + written.len() <= MAX_DATAGRAM, "{message:?}");
    if let Message::Neighbors(neighbors) = &mut message {
        neighbors.nodes.truncate(MAX_NEIGHBORS);
        neighbors.skipped = 0;
        neighbors.nodes.iter().for_each(|node| _ = node.to_record());
    }
    assert_eq!(Message::decode(message.kind(), &written), Ok(message));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let fixtures = FIXTURES.map(hex);
    let bodies = fixtures.clone().map(|datagram| datagram[HEAD..].to_vec());
    let record = include_str!("../../../fixtures/enr/eip778.rlp.hex");
    let response = [&[Kind::EnrResponse as u8, 0xf8, 33 + 134, 0xa0][..], &[7; 32], &hex(record)].concat();
    let request =
        encode(&key(), &Message::EnrRequest(kadwire_discovery::discv4::message::EnrRequest { expiration: 9 }));
    fixtures
        .into_iter()
        .chain(bodies)
        .chain([response, request.datagram.to_vec(), request.datagram[HEAD..].to_vec()])
        .collect()
}
