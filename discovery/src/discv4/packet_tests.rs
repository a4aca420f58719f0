//! The codec against the published vectors, and against damage.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BytesMut;
use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::{
    message::{
        Endpoint, EnrRequest, EnrResponse, FindNode, Kind, MAX_NEIGHBORS, Message, MessageError, Neighbor, Neighbors,
        Ping, Pong,
    },
    packet::{MAX_DATAGRAM, Packet, PacketError, Signer, Unverified, encode},
};
use crate::{Blame, Enr, NodeRecord, RlpError, SecretKey, keccak256::keccak256};

const EXPIRATION: u64 = 1_136_239_445;
const V6_NEAR: &str = "2001:db8:3c4d:15::abcd:ef12";
const V6_FAR: &str = "2001:db8:85a3:8d3:1319:8a2e:370:7348";

/// The key that signed the published vectors.
fn secret() -> SecretKey {
    SecretKey::from_hex("b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291").unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn endpoint(address: &str, udp: u16, tcp: u16) -> Endpoint {
    Endpoint { ip: Some(ip(address)), udp, tcp }
}

fn unhex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.trim().as_bytes()).unwrap()
}

/// Reads a vector, which must be signed by the published key.
fn vector(hex: &str) -> Message {
    let packet = Unverified::parse(&unhex(hex)).unwrap().recover().unwrap();
    assert_eq!(packet.from, *secret().public());
    assert_eq!(packet.hash, unhex(hex)[..32]);
    packet.message
}

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../fixtures/discv4/", $name, ".hex"))
    };
}

fn plain_ping() -> Ping {
    let (from, to) = (endpoint("127.0.0.1", 3322, 5544), endpoint("::1", 2222, 3333));
    Ping { version: 4, from, to, expiration: EXPIRATION, enr_seq: None }
}

#[test]
fn a_plain_ping_is_read_and_its_body_written_byte_for_byte() {
    assert_eq!(vector(fixture!("ping")), Message::Ping(plain_ping()));
    let sealed = encode(&secret(), &Message::Ping(plain_ping()));
    // From the type byte on. The vectors were signed with a random nonce, so hash and signature differ from RFC 6979's.
    assert_eq!(sealed.datagram[97..], unhex(fixture!("ping"))[97..]);
    assert_eq!(sealed.hash, sealed.datagram[..32]);
}

#[test]
fn extra_elements_of_a_ping_are_ignored() {
    // The first of the two is an integer at the place of enr-seq.
    assert_eq!(vector(fixture!("ping_eip8")), Message::Ping(Ping { enr_seq: Some(1), ..plain_ping() }));
}

#[test]
fn any_version_a_list_for_enr_seq_and_trailing_data_are_accepted() {
    let (from, to) = (endpoint(V6_NEAR, 3322, 5544), endpoint(V6_FAR, 2222, 33338));
    let expected = Ping { version: 555, from, to, expiration: EXPIRATION, enr_seq: None };
    assert_eq!(vector(fixture!("ping_v555")), Message::Ping(expected));
}

#[test]
fn the_pong_of_eip_8() {
    let ping_hash = unhex("fbc914b16819237dcd8801d7e53f69e9719adecb3cc0e790c57e91ca4461c954").try_into().unwrap();
    let to = endpoint(V6_FAR, 2222, 33338);
    let expected = Pong { to, ping_hash, expiration: EXPIRATION, enr_seq: None };
    assert_eq!(vector(fixture!("pong_eip8")), Message::Pong(expected));
    let unverified = Unverified::parse(&unhex(fixture!("pong_eip8"))).unwrap();
    assert_eq!((unverified.header().reply_to, unverified.header().expiration), (Some(ping_hash), Some(EXPIRATION)));
}

#[test]
fn the_findnode_of_eip_8() {
    let target = *secret().public().as_bytes();
    assert_eq!(vector(fixture!("findnode_eip8")), Message::FindNode(FindNode { target, expiration: EXPIRATION }));
}

#[test]
fn the_neighbors_of_eip_8() {
    let Message::Neighbors(neighbors) = vector(fixture!("neighbors_eip8")) else { panic!("not Neighbors") };
    assert_eq!((neighbors.expiration, neighbors.skipped), (EXPIRATION, 0));
    let found: Vec<_> = neighbors.nodes.iter().map(|node| (node.ip, node.udp, node.tcp)).collect();
    let expected = [("99.33.22.55", 4444, 4445), ("1.2.3.4", 1, 1), (V6_NEAR, 3333, 3333), (V6_FAR, 999, 1000)];
    assert_eq!(found, expected.map(|(address, udp, tcp)| (ip(address), udp, tcp)));
    let keys: Vec<_> = neighbors.nodes.iter().map(|node| node.to_record().unwrap().key().to_string()).collect();
    for (key, (start, end)) in
        keys.iter().zip([("3155e142", "bf32"), ("312c5551", "69db"), ("38643200", "8aac"), ("8dcab861", "df73")])
    {
        assert!(key.starts_with(start) && key.ends_with(end), "{key}");
    }
}

/// One of each kind, as we write them.
fn examples() -> Vec<Message> {
    let record = Enr::builder(7).ip(Ipv4Addr::LOCALHOST).udp(30303).sign(&secret()).unwrap();
    let neighbor = Neighbor::from(&NodeRecord::new(*secret().public(), ip("1.2.3.4"), 5, 6).unwrap());
    vec![
        Message::Ping(Ping { enr_seq: Some(9), ..plain_ping() }),
        Message::Pong(Pong { to: plain_ping().to, ping_hash: [5; 32], expiration: EXPIRATION, enr_seq: Some(0) }),
        Message::FindNode(FindNode { target: [3; 64], expiration: EXPIRATION }),
        Message::Neighbors(Neighbors { nodes: vec![neighbor; 3], skipped: 0, expiration: EXPIRATION }),
        Message::EnrRequest(EnrRequest { expiration: EXPIRATION }),
        Message::EnrResponse(EnrResponse { request_hash: [8; 32], record }),
    ]
}

#[test]
fn every_kind_survives_the_wire() {
    for (message, kind) in examples().into_iter().zip(Kind::ALL) {
        assert_eq!(message.kind(), kind);
        let sealed = encode(&secret(), &message);
        let unverified = Unverified::parse(&sealed.datagram).unwrap();
        let packet = Packet { from: *secret().public(), id: secret().public().node_id(), hash: sealed.hash, message };
        assert_eq!(*unverified.header(), packet.header());
        assert_eq!(unverified.recover().unwrap(), packet);
    }
}

/// Whatever was guessed, and whatever is wrong with the others.
#[test]
fn several_read_at_once_are_what_each_is_alone() {
    let other = SecretKey::from_bytes(&[9; 32]).unwrap();
    let guesses = [None, Some(secret()), Some(other.clone())].map(|key| key.map(|key| Signer::from(*key.public())));
    // r = 0: nobody can have signed this.
    let hashed = [&[0; 65], &encode(&secret(), &examples()[0]).datagram[97..]].concat();
    let bad = Unverified::parse(&[&keccak256(&[&hashed])[..], &hashed].concat()).unwrap();
    let signed = [secret(), other].into_iter().flat_map(|key| {
        examples().into_iter().map(move |message| Unverified::parse(&encode(&key, &message).datagram).unwrap())
    });
    let packets: Vec<_> = signed.chain([bad]).collect();
    let guessed: Vec<_> = packets.iter().flat_map(|packet| guesses.map(|guess| (packet.clone(), guess))).collect();
    let alone: Vec<_> = guessed.iter().map(|(packet, _)| packet.clone().recover()).collect();
    assert_eq!(alone.iter().filter(|packet| packet.is_err()).count(), guesses.len());
    assert_eq!(Unverified::recover_all(guessed), alone);
}

#[test]
fn twelve_of_the_largest_neighbors_fit_and_a_thirteenth_is_left_out() {
    let node = Neighbor { ip: ip(V6_FAR), udp: u16::MAX, tcp: u16::MAX, key: *secret().public().as_bytes() };
    let message = |count| Neighbors { nodes: vec![node; count], skipped: 0, expiration: u64::MAX };
    let sealed = encode(&secret(), &Message::Neighbors(message(MAX_NEIGHBORS + 1)));
    assert!(sealed.datagram.len() <= MAX_DATAGRAM, "{}", sealed.datagram.len());
    let read = Unverified::parse(&sealed.datagram).unwrap().recover().unwrap().message;
    assert_eq!(read, Message::Neighbors(message(MAX_NEIGHBORS)));
}

/// Seals any body, well formed or not.
fn seal(kind: u8, body: &[u8]) -> Vec<u8> {
    let signed = [&[kind], body].concat();
    let hashed = [&secret().sign_recoverable(&keccak256(&[&signed]))[..], &signed].concat();
    [&keccak256(&[&hashed])[..], &hashed].concat()
}

#[test]
fn a_bad_neighbor_is_skipped_and_the_others_stay() {
    let good = |body: &mut rlp::RlpStream| {
        body.begin_list(4).append(&&[1_u8, 2, 3, 4][..]).append(&5_u16).append(&6_u16).append(&&[7_u8; 64][..]);
    };
    let mut body = rlp::RlpStream::new_list(2);
    body.begin_list(6);
    good(&mut body);
    body.begin_list(4).append(&&[1_u8, 2, 3][..]).append(&5_u16).append(&6_u16).append(&&[7_u8; 64][..]); // address
    body.begin_list(4).append(&&[1_u8; 4][..]).append(&70_000_u32).append(&6_u16).append(&&[7_u8; 64][..]); // port
    body.begin_list(4).append(&&[1_u8; 4][..]).append(&5_u16).append(&6_u16).append(&&[7_u8; 63][..]); // key
    body.append(&9_u8); // not even a list
    good(&mut body);
    body.append(&EXPIRATION);
    let read = Unverified::parse(&seal(4, body.as_raw())).unwrap().recover().unwrap().message;
    let Message::Neighbors(neighbors) = read else { panic!("not Neighbors") };
    assert_eq!((neighbors.nodes.len(), neighbors.skipped), (2, 4));
    // Its shape is right, but no such point exists: that is for whoever wants to use it.
    assert_eq!(neighbors.nodes[0].to_record().unwrap_err().blame(), Blame::Malformed);
}

#[test]
fn padded_ports_are_read_and_counted() {
    let mut body = rlp::RlpStream::new_list(4);
    body.append(&4_u8);
    for _ in 0..2 {
        body.begin_list(3).append(&&[127_u8, 0, 0, 1][..]).append(&&[0_u8, 80][..]).append(&&[0_u8, 0][..]);
    }
    body.append(&EXPIRATION);
    let unverified = Unverified::parse(&seal(1, body.as_raw())).unwrap();
    assert_eq!(unverified.padded_ports(), 4);
    let Some(Message::Ping(ping)) = unverified.message() else { panic!("not Ping") };
    assert_eq!(ping.from, endpoint("127.0.0.1", 80, 0));
}

#[test]
fn an_unknown_own_address_is_not_an_error() {
    let from = Endpoint { ip: None, udp: 0, tcp: 30303 };
    let message = Message::Ping(Ping { from, ..plain_ping() });
    assert_eq!(Unverified::parse(&encode(&secret(), &message).datagram).unwrap().message(), Some(&message));
}

#[test]
fn damage_has_a_name() {
    let refused = |datagram: &[u8]| Unverified::parse(datagram).unwrap_err();
    assert_eq!(refused(&[]), PacketError::TooSmall(0));
    assert_eq!(refused(&[0; 97]), PacketError::TooSmall(97));
    assert_eq!(refused(&[0; 98]), PacketError::BadHash);
    assert_eq!(refused(&[0; 1281]), PacketError::TooBig(1281));
    assert_eq!(refused(&seal(0, &[0xc0])), PacketError::UnknownKind(0));
    assert_eq!(refused(&seal(66, &[0xc0])), PacketError::UnknownKind(66));
    let rlp = |kind, source| PacketError::Message(MessageError::Rlp { kind, source });
    assert_eq!(refused(&seal(1, &[])), rlp(Kind::Ping, RlpError::Truncated));
    assert_eq!(refused(&seal(5, &[0xc0])), rlp(Kind::EnrRequest, RlpError::TooFewElements));
    assert_eq!(refused(&seal(5, &[0x05])), rlp(Kind::EnrRequest, RlpError::ExpectedList));
    assert_eq!(refused(&seal(5, &[0xc2, 0x81, 0x05])), rlp(Kind::EnrRequest, RlpError::NotCanonical));
    assert_eq!(refused(&seal(6, &[0xc0])), rlp(Kind::EnrResponse, RlpError::TooFewElements));
    assert_eq!(refused(&[0; 98]).blame(), Blame::Malformed);
    assert_eq!(PacketError::BadSignature.blame(), Blame::Misbehaved);
}

#[test]
fn a_false_record_in_a_true_packet_is_refused() {
    let mut body = Message::encode(&examples()[5], BytesMut::new());
    let last = body.len() - 1;
    body[last] ^= 1; // the last byte of the record: its UDP port
    let error = Unverified::parse(&seal(6, &body)).unwrap().recover().unwrap_err();
    assert_eq!(error, PacketError::Message(MessageError::Record(crate::EnrError::InvalidSignature)));
    assert_eq!(error.blame(), Blame::Misbehaved);
}

#[test]
fn every_cut_and_every_flipped_byte_is_an_error_or_another_signer() {
    for message in examples() {
        let sealed = encode(&secret(), &message).datagram;
        for at in 0..sealed.len() {
            assert!(Unverified::parse(&sealed[..at]).is_err(), "{} cut at {at}", message.kind());
            let mut damaged = sealed.to_vec();
            damaged[at] ^= 0x41;
            assert_eq!(Unverified::parse(&damaged).unwrap_err(), PacketError::BadHash);
            // Whoever repairs the hash still does not have our key.
            let hash = keccak256(&[&damaged[32..]]);
            damaged[..32].copy_from_slice(&hash);
            if at >= 32
                && let Ok(packet) = Unverified::parse(&damaged).and_then(Unverified::recover)
            {
                assert_ne!(packet.from, *secret().public(), "{} flipped at {at}", message.kind());
            }
        }
    }
}

#[test]
fn the_outcome_of_every_recovery_id() {
    let sealed = encode(&secret(), &examples()[4]).datagram;
    for v in 0..=255 {
        let mut other = sealed.to_vec();
        other[96] = v;
        let hash = keccak256(&[&other[32..]]);
        other[..32].copy_from_slice(&hash);
        match Unverified::parse(&other) {
            Err(error) => assert_eq!(error, PacketError::BadRecoveryId(v)),
            Ok(unverified) => assert!(v < 2 && unverified.recover().is_ok()),
        }
    }
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    any::<IpAddr>().prop_map(|ip| ip.to_canonical())
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    (proptest::option::of(any_ip()), any::<u16>(), any::<u16>()).prop_map(|(ip, udp, tcp)| Endpoint { ip, udp, tcp })
}

fn any_message() -> impl Strategy<Value = Message> {
    let neighbor = (any_ip(), any::<u16>(), any::<u16>(), any::<[u8; 32]>()).prop_map(|(ip, udp, tcp, half)| {
        let key = [half, half].concat().try_into().unwrap();
        Neighbor { ip, udp, tcp, key }
    });
    let (exp, seq) = (any::<u64>(), proptest::option::of(any::<u64>()));
    prop_oneof![
        (any::<u64>(), any_endpoint(), any_endpoint(), exp, seq.clone()).prop_map(
            |(version, from, to, expiration, enr_seq)| Message::Ping(Ping { version, from, to, expiration, enr_seq })
        ),
        (any_endpoint(), any::<[u8; 32]>(), any::<u64>(), seq).prop_map(|(to, ping_hash, expiration, enr_seq)| {
            Message::Pong(Pong { to, ping_hash, expiration, enr_seq })
        }),
        (any::<[u8; 32]>(), any::<u64>()).prop_map(|(half, expiration)| {
            Message::FindNode(FindNode { target: [half, half].concat().try_into().unwrap(), expiration })
        }),
        (proptest::collection::vec(neighbor, 0..=MAX_NEIGHBORS), any::<u64>())
            .prop_map(|(nodes, expiration)| Message::Neighbors(Neighbors { nodes, skipped: 0, expiration })),
        any::<u64>().prop_map(|expiration| Message::EnrRequest(EnrRequest { expiration })),
    ]
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_back(message in any_message()) {
        let body = message.encode(BytesMut::new());
        prop_assert!(body.len() + 98 <= MAX_DATAGRAM);
        prop_assert_eq!(Message::decode(message.kind(), &body).unwrap(), message);
    }

    #[test]
    fn arbitrary_bodies_never_panic(body: Vec<u8>, trailing: Vec<u8>) {
        for kind in Kind::ALL {
            let _ = Message::decode(kind, &body);
            let mut listed = rlp::RlpStream::new_list(1);
            listed.append_raw(&body, 1);
            let _ = Message::decode(kind, &[listed.as_raw(), &trailing].concat());
        }
    }

    #[test]
    fn arbitrary_datagrams_never_panic(mut datagram in proptest::collection::vec(any::<u8>(), 0..1400)) {
        prop_assert!(Unverified::parse(&datagram).is_err());
        if let Some((hash, hashed)) = datagram.split_first_chunk_mut::<32>() {
            *hash = keccak256(&[hashed]);
        }
        let _ = Unverified::parse(&datagram).and_then(Unverified::recover);
    }
}

#[test]
fn ipv4_mapped_addresses_are_ipv4() {
    let mapped = Ipv4Addr::new(1, 2, 3, 4).to_ipv6_mapped();
    assert_eq!(Endpoint::new((mapped, 5).into(), 6), endpoint("1.2.3.4", 5, 6));
    let message = Message::Ping(Ping { to: Endpoint { ip: Some(IpAddr::V6(mapped)), udp: 5, tcp: 6 }, ..plain_ping() });
    let Ok(Message::Ping(ping)) = Message::decode(Kind::Ping, &message.encode(BytesMut::new())) else { panic!() };
    assert_eq!(ping.to, endpoint("1.2.3.4", 5, 6));
    assert_ne!(ping.to.ip, Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
}
