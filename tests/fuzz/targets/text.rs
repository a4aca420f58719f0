//! What is read as text: from peers, from files and from the command line.

use kadwire_discovery::{Enr, NodeRecord, PublicKey, SecretKey};
use kadwire_wire::tendermint::key::NodeKey;
use kadwire_wire::{Host, PeerAddress, PeerId};

pub(crate) fn run(data: &[u8]) {
    let text = &String::from_utf8_lossy(data);
    let _ = (text.parse::<PublicKey>(), SecretKey::from_hex(text), text.parse::<PeerId>(), Host::from_name(text));
    if let Ok(record) = text.parse::<Enr>() {
        assert_eq!(record.to_string(), *text);
    }
    match text.parse::<NodeRecord>() {
        Ok(node) => {
            let again: NodeRecord = node.to_string().parse().expect("its own text");
            assert_eq!((again.id(), again.endpoint(), again.tcp()), (node.id(), node.endpoint(), node.tcp()));
        }
        Err(error) => _ = (error.to_string(), error.blame()),
    }
    match text.parse::<PeerAddress>() {
        Ok(address) => assert_eq!(address.to_string().parse(), Ok(address)),
        Err(error) => _ = (error.to_string(), error.blame()),
    }
    match NodeKey::from_json(text) {
        Ok(key) => assert_eq!(NodeKey::from_json(&key.to_json()).expect("its own text").public(), key.public()),
        Err(error) => _ = (error.to_string(), error.blame()),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let key = super::discv4_packet::key();
    let enode = NodeRecord::new(*key.public(), [24, 0, 0, 1].into(), 30303, 30304).expect("a node").to_string();
    let node_key = NodeKey::from_seed(&[1; 32]).to_json();
    let enr = include_str!("../../../fixtures/enr/eip778.txt").trim();
    let tendermint = "mconn://abcdef0123456789abcdef0123456789abcdef01@[2001:db8::1]:26656";
    [&enode, &*node_key, enr, tendermint, "memory:abcdef0123456789abcdef0123456789abcdef01"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}
