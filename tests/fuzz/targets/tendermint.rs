//! Tendermint's wire: SecretConnection, MConnection, and the messages on both.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kadwire_discovery::Now;
use kadwire_wire::tendermint::key::NodeKey;
use kadwire_wire::tendermint::mconnection::{ChannelSpec, MConnection, MConnectionConfig, MConnectionError};
use kadwire_wire::tendermint::node_info::NodeInfo;
use kadwire_wire::tendermint::pex_message::{MAX_PEX_ADDRESSES, PexMessage};
use kadwire_wire::tendermint::secret_connection::{Handshake, OpenBuffer, SEALED_SIZE, SealBuffer, Secured};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::script::Script;

fn key(number: u8) -> NodeKey {
    NodeKey::from_seed(&[number; 32])
}

/// Input: how a true handshake is damaged, or what somebody sends in place of it; then frames.
pub(crate) fn secret_connection(data: &[u8]) {
    let mut script = Script::new(data);
    let (keys, mut rng) = ([key(1), key(2)], StdRng::seed_from_u64(1));
    let [mut here, mut there] = keys.each_ref().map(|key| Handshake::new(key, &mut rng));
    if script.bit() {
        let piece = usize::from(script.byte()).max(1);
        for piece in script.rest().chunks(piece) {
            if let Err(error) = here.handle_bytes(piece) {
                let _ = (error.to_string(), error.blame());
                return;
            }
        }
        assert!(here.poll_secured().is_none(), "nobody signs by chance");
        return;
    }
    let (mut is_damaged, mut ends) = (false, [None, None]);
    for _ in 0..2 {
        let mut sent = [here.poll_transmit(), there.poll_transmit()].map(Option::unwrap_or_default);
        if script.byte() > 200 {
            let (side, at) = (script.below(2), usize::from(script.u16()));
            let (byte, place) = (script.byte(), sent[side].len().max(1));
            sent[side].iter_mut().skip(at % place).take(1).for_each(|one| *one ^= byte);
            is_damaged |= byte != 0;
        }
        let [from_here, from_there] = sent;
        for (side, bytes) in [(&mut here, from_there), (&mut there, from_here)] {
            if let Err(error) = side.handle_bytes(&bytes) {
                let _ = (error.to_string(), error.blame());
                assert!(is_damaged, "{error}");
                return;
            }
        }
    }
    for (end, side) in ends.iter_mut().zip([here, there].iter_mut()) {
        *end = side.poll_secured();
    }
    let [Some(here), Some(there)] = ends else {
        assert!(is_damaged, "a true handshake comes to its end");
        return;
    };
    assert_eq!((here.key, there.key), (keys[1].public(), keys[0].public()));
    frames(script, here, there);
}

fn frames(mut script: Script<'_>, here: Secured, there: Secured) {
    let (mut opener, mut sealer) = (here.opener, there.sealer);
    let (mut opened, mut sent, mut received, mut is_damaged) = (OpenBuffer::default(), Vec::new(), Vec::new(), false);
    while !script.is_over() {
        let data = script.bytes().repeat(1 + script.below(16));
        let mut frames = SealBuffer::default();
        frames.put(&data);
        frames.seal(&mut sealer).expect("nonces are left");
        assert_eq!(frames.sealed().len(), data.len().div_ceil(1024) * SEALED_SIZE);
        sent.extend(data);
        let mut bytes = frames.sealed().to_vec();
        if script.byte() > 220 && !bytes.is_empty() {
            let at = usize::from(script.u16()) % bytes.len();
            bytes[at] ^= 1 << (script.byte() % 8);
            is_damaged = true;
        }
        let piece = usize::from(script.u16()).max(1);
        for piece in bytes.chunks(piece) {
            opened.spare(piece.len()).extend_from_slice(piece);
            if let Err(error) = opened.open(&mut opener) {
                let _ = (error.to_string(), error.blame());
                assert!(is_damaged, "{error}");
                received.extend_from_slice(opened.plaintext());
                assert!(sent.starts_with(&received), "nothing but what was sent");
                return;
            }
            let taken = usize::from(script.byte());
            received.extend(opened.plaintext().iter().take(taken));
            opened.consume(taken);
            opened.release();
        }
    }
    received.extend_from_slice(opened.plaintext());
    assert!(sent.starts_with(&received) && (is_damaged || sent == received));
}

pub(crate) fn secret_connection_seeds() -> Vec<Vec<u8>> {
    let first = Handshake::new(&key(3), &mut StdRng::seed_from_u64(3)).poll_transmit().expect("a key");
    let frame = [9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 0, 3, 200];
    let changed = [5, 1, 2, 3, 4, 5, 3, 255, 0, 200, 1, 1, 0];
    vec![
        [&[1, 7][..], &first].concat(),
        [&[0, 0, 0][..], &frame, &frame].concat(),
        [&[0, 0, 0][..], &frame, &changed].concat(),
        vec![0, 255, 0, 0, 40, 1],
    ]
}

fn channels() -> [ChannelSpec; 3] {
    [0, 0x20, 0x90].map(|id| ChannelSpec {
        max_message_size: 4096,
        send_queue: 4,
        priority: 1 + (id & 3),
        ..ChannelSpec::new(id)
    })
}

fn connection(now: Instant) -> MConnection {
    MConnection::new(MConnectionConfig { max_packet_payload: 64, ..MConnectionConfig::default() }, &channels(), now)
        .expect("a configuration")
}

/// All that comes out of a connection that reads `plaintext` in such pieces.
fn told(now: Instant, plaintext: &[u8], piece: usize) -> (Vec<(u8, Bytes)>, Result<(), MConnectionError>) {
    let mut connection = connection(now);
    let result = plaintext.chunks(piece).try_for_each(|piece| connection.handle_bytes(now, piece));
    if let Err(error) = result {
        let _ = (error.to_string(), error.blame());
        assert_eq!(connection.handle_bytes(now, &[]), Err(error), "an error is the end");
    }
    (std::iter::from_fn(|| connection.poll_message()).collect(), result)
}

/// Input: plaintext of the stream; or, after a zero, what happens on one side of a connection.
pub(crate) fn mconnection(data: &[u8]) {
    let now = Now::read().monotonic;
    let mut script = Script::new(data);
    if script.byte() == 0 {
        return work(now, script);
    }
    let piece = usize::from(script.byte()).max(1);
    let plaintext = script.rest();
    let whole = told(now, plaintext, plaintext.len().max(1));
    assert_eq!(told(now, plaintext, piece), whole, "wherever it is cut");
    assert!(whole.0.iter().all(|(id, message)| channels().iter().any(|c| c.id == *id) && message.len() <= 4096));
}

fn work(mut now: Instant, mut script: Script<'_>) {
    let (mut here, mut there) = (connection(now), connection(now));
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    let mut wire = Vec::new();
    while !script.is_over() {
        match script.below(5) {
            0 => {
                let channel = [0, 0x20, 0x90, 7][script.below(4)];
                let message = Bytes::from(script.bytes().repeat(1 + script.below(32)));
                let could = here.can_send(channel);
                match here.send(channel, message.clone()) {
                    Ok(()) => sent.push((channel, message)),
                    Err(error) => assert!(!could || message.len() > 4096, "{error}"),
                }
            }
            1 => {
                let written = here.poll_transmit(now, &mut wire, usize::from(script.u16()));
                assert!(written <= wire.len());
            }
            2 => {
                let piece = usize::from(script.u16()).min(wire.len());
                there.handle_bytes(now, &wire[..piece]).expect("what its twin wrote");
                wire.drain(..piece);
                received.extend(std::iter::from_fn(|| there.poll_message()));
            }
            3 => {
                now += Duration::from_millis(u64::from(script.u16()));
                if here.handle_timeout(now).is_err() {
                    return; // nobody answers its pings
                }
                assert!(here.poll_timeout().is_some_and(|due| due > now), "no timer fires again at once");
            }
            _ => while here.poll_sent().is_some() {},
        }
    }
    for channel in channels() {
        let of = |all: &[(u8, Bytes)]| {
            all.iter().filter(|(id, _)| *id == channel.id).map(|(_, m)| m.clone()).collect::<Vec<_>>()
        };
        assert!(of(&sent).starts_with(&of(&received)), "each channel keeps its order");
    }
}

pub(crate) fn mconnection_seeds() -> Vec<Vec<u8>> {
    let now = Now::read().monotonic;
    let (mut here, mut wire) = (connection(now), Vec::new());
    for (channel, length) in [(0, 10), (0x20, 100), (0x90, 300)] {
        here.send(channel, vec![7; length].into()).expect("room");
    }
    here.poll_transmit(now, &mut wire, usize::MAX);
    let send = [0, 1, 3, 1, 2, 3, 31];
    vec![
        [&[1, 3][..], &wire].concat(),
        [1, 1, 2, 0x0a, 0, 2, 0x12, 0].to_vec(),
        [&[0][..], &send, &send, &[1, 255, 255, 2, 0, 40, 2, 255, 255, 3, 255, 255, 1, 255, 255]].concat(),
    ]
}

/// Input: a PEX message, or a NodeInfo.
pub(crate) fn messages(data: &[u8]) {
    match PexMessage::decode(data) {
        Ok(mut message) => {
            match &mut message {
                PexMessage::Addresses { addresses, skipped } | PexMessage::AddressesV2 { addresses, skipped } => {
                    assert!(addresses.len() + *skipped <= MAX_PEX_ADDRESSES);
                    *skipped = 0;
                }
                PexMessage::Request | PexMessage::RequestV2 => {}
            }
            assert_eq!(PexMessage::decode(&message.encode()), Ok(message), "what we write is what we read");
        }
        Err(error) => _ = (error.to_string(), error.blame()),
    }
    match NodeInfo::decode(data) {
        Ok(info) => {
            assert_eq!(NodeInfo::decode(&info.encode()).as_ref(), Ok(&info));
            let _ = (info.listen_address(), info.compatible_with(&NodeInfo::new([1; 20], "chain", "we")));
        }
        Err(error) => _ = (error.to_string(), error.blame()),
    }
}

pub(crate) fn message_seeds() -> Vec<Vec<u8>> {
    let addresses = ["[2001:db8::1]:26656", "24.0.0.1:1", "127.0.0.1:65535"]
        .map(|at| format!("abcdef0123456789abcdef0123456789abcdef01@{at}").parse().expect("an address"));
    let mut info = NodeInfo::new([7; 20], "chain", "moniker");
    info.channels = vec![0, 0x20];
    info.rpc_address = "tcp://0.0.0.0:26657".to_owned();
    vec![
        PexMessage::Request.encode(),
        PexMessage::addresses(addresses.to_vec()).encode(),
        PexMessage::RequestV2.encode(),
        PexMessage::addresses_v2(addresses.to_vec()).encode(),
        info.encode(),
    ]
}
