//! Records: as they come, and as whoever has a key can make them.

use kadwire_discovery::{Enr, NodeRecord, TendermintEntry};

use super::discv4_packet::{keccak256, key};
use super::hex;

/// Input: a record, or its content (sequence number and pairs) to be signed.
pub(crate) fn run(data: &[u8]) {
    if let Ok(record) = Enr::decode(data) {
        check(&record, data);
    }
    let signed = sign(data);
    match Enr::decode(&signed) {
        Ok(record) => {
            check(&record, &signed);
            let mut builder = Enr::builder(record.seq());
            for (key, value) in record.pairs() {
                builder = builder.pair(key, value).expect("one item");
            }
            assert!(builder.same_content(&record));
            assert_eq!(
                builder.sign(&key()).expect("no longer than it was").encode(),
                signed,
                "made anew it is the same"
            );
        }
        Err(error) => _ = (error.to_string(), error.blame()),
    }
}

fn check(record: &Enr, bytes: &[u8]) {
    assert_eq!(record.encode(), bytes);
    assert_eq!(record.to_string().parse().as_ref(), Ok(record));
    assert!(record.pairs().map(|(key, _)| key).is_sorted_by(|a, b| a < b));
    assert!(record.pairs().all(|(key, value)| record.get(key) == Some(value)));
    let ports =
        [record.udp(), record.tcp(), record.udp6(), record.tcp6(), record.tendermint().map(|entry| entry.tcp_port)];
    assert!(!ports.contains(&Some(0)));
    match NodeRecord::from_enr(record.clone()) {
        Ok(node) => {
            assert!(!node.ip().is_unspecified() && !node.ip().is_multicast() && node.udp() != 0);
            let text: NodeRecord = node.to_string().parse().expect("its own text");
            assert_eq!((text.id(), text.endpoint(), text.tcp()), (node.id(), node.endpoint(), node.tcp()));
        }
        Err(error) => _ = (error.to_string(), error.blame()),
    }
}

fn list(content: &[u8]) -> Vec<u8> {
    let mut list = rlp::RlpStream::new_list(1);
    list.append_raw(content, 1);
    list.out().to_vec()
}

fn sign(content: &[u8]) -> Vec<u8> {
    let signature = key().sign_recoverable(&keccak256(&list(content)));
    list(&[&[0xb8, 64][..], &signature[..64], content].concat())
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let entry = TendermintEntry { node_id: [7; 20], tcp_port: 26656 };
    let builder =
        Enr::builder(7).ip([24, 0, 0, 1].into()).udp(1).tcp(2).ip6("2a00::1".parse().expect("an address")).udp6(3);
    let full =
        builder.tendermint(entry).pair("eth", &[0xc1, 0xc0]).and_then(|builder| builder.sign(&key())).expect("small");
    // Two bytes of the list's header, and the signature.
    let content = full.encode()[2 + 66..].to_vec();
    vec![hex(include_str!("../../../fixtures/enr/eip778.rlp.hex")), full.encode().to_vec(), content]
}
