//! Ethereum's wire: handshake, frames, messages, the multiplexer.

use std::time::Duration;

use bytes::Bytes;
use kadwire_discovery::Now;
use kadwire_wire::rlpx::capability::{Protocol, SharedProtocol, match_protocols};
use kadwire_wire::rlpx::disconnect::DisconnectReason;
use kadwire_wire::rlpx::hello::{Hello, MAX_BASE_MESSAGE_SIZE};
use kadwire_wire::rlpx::message::{Codec, join, split};
use kadwire_wire::rlpx::multiplex::{Multiplex, MultiplexConfig};
use kadwire_wire::rlpx::{FrameBuffer, Handshake, SecretKey, Secured};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::hex;
use crate::script::Script;

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32]).expect("a key")
}

/// Changes some of the bytes; whether any was.
fn damage(bytes: &mut Vec<u8>, script: &mut Script<'_>) -> bool {
    let whole = bytes.clone();
    match script.below(4) {
        0 => {}
        1 => bytes.truncate(usize::from(script.u16()) % (whole.len() + 1)),
        2 => {
            let at = usize::from(script.u16()) % whole.len().max(1);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= script.byte());
        }
        _ => {
            let at = usize::from(script.u16()) % (whole.len() + 1);
            bytes.splice(at..at, script.bytes().iter().copied());
        }
    }
    *bytes != whole
}

/// Feeds a handshake in pieces; gives what it leaves, or nothing after an error.
fn feed<'b>(handshake: &mut Handshake<'_>, mut bytes: &'b [u8], script: &mut Script<'_>) -> Option<&'b [u8]> {
    while handshake.missing() > 0 && !bytes.is_empty() {
        let piece = bytes.len().min(match script.byte() {
            0 => handshake.missing(),
            some => usize::from(some),
        });
        let taken = handshake
            .handle_bytes(bytes.get(..piece)?)
            .inspect_err(|error| _ = (error.to_string(), error.blame()))
            .ok()?;
        assert!(taken <= piece);
        bytes = bytes.get(taken..)?;
    }
    let _ = handshake.handle_end();
    Some(bytes)
}

/// Input: how a true handshake is damaged and cut, or what somebody sends in place of one.
pub(crate) fn handshake(data: &[u8]) {
    let mut script = Script::new(data);
    let ([ours, theirs], kind) = ([key(1), key(2)], script.below(3));
    let mut rng = StdRng::seed_from_u64(script.byte().into());
    let mut recipient = Handshake::recipient(&ours, &mut rng);
    if kind == 0 {
        let pieces = script.take(4);
        feed(&mut recipient, script.rest(), &mut Script::new(pieces));
        return;
    }
    let mut initiator = Handshake::initiator(&theirs, ours.public(), &mut rng);
    let mut auth = initiator.poll_transmit().expect("auth");
    let is_damaged = kind == 1 && damage(&mut auth, &mut script);
    feed(&mut recipient, &auth, &mut script);
    let Some(mut ack) = recipient.poll_transmit() else {
        assert!(is_damaged, "a true auth is answered");
        return;
    };
    let is_damaged = damage(&mut ack, &mut script) || is_damaged;
    feed(&mut initiator, &ack, &mut script);
    match (recipient.poll_secured(), initiator.poll_secured()) {
        (Some(here), Some(there)) => {
            assert_eq!(
                (here.peer.as_bytes(), there.peer.as_bytes()),
                (theirs.public().as_bytes(), ours.public().as_bytes())
            );
        }
        _ => assert!(is_damaged, "a true handshake comes to its end"),
    }
}

pub(crate) fn handshake_seeds() -> Vec<Vec<u8>> {
    let packets = [
        include_str!("../../../fixtures/rlpx/auth_eip8.hex"),
        include_str!("../../../fixtures/rlpx/auth_eip8_v56.hex"),
        include_str!("../../../fixtures/rlpx/auth_plain.hex"),
    ];
    let sent = packets.map(|packet| [&[0; 6][..], &hex(packet)].concat());
    sent.into_iter().chain([vec![1, 7, 2, 0, 9, 1], vec![2, 7, 2, 0, 9, 1], vec![2, 1]]).collect()
}

fn secured() -> [Secured; 2] {
    let ([ours, theirs], mut rng) = ([key(1), key(2)], StdRng::seed_from_u64(1));
    let mut recipient = Handshake::recipient(&ours, &mut rng);
    let mut initiator = Handshake::initiator(&theirs, ours.public(), &mut rng);
    recipient.handle_bytes(&initiator.poll_transmit().expect("auth")).expect("true");
    initiator.handle_bytes(&recipient.poll_transmit().expect("ack")).expect("true");
    [recipient, initiator].map(|mut side| side.poll_secured().expect("done"))
}

/// Input: frames, how they are cut, and what happens to them on the way.
pub(crate) fn frames(data: &[u8]) {
    let mut script = Script::new(data);
    let [mut here, mut there] = secured();
    let (mut sent, mut received, mut buffer) = (Vec::new(), 0, FrameBuffer::default());
    let mut max = kadwire_wire::rlpx::MAX_FRAME;
    let mut is_damaged = false;
    while !script.is_over() {
        let (mut frame, data) = (Vec::new(), script.bytes().repeat(1 + script.below(8)));
        if there.writer.seal(&data, &mut frame).is_err() {
            assert!(data.is_empty() && frame.is_empty());
            continue;
        }
        sent.push(data);
        is_damaged |= script.byte() > 200 && damage(&mut frame, &mut script);
        if script.byte() > 250 {
            max = usize::from(script.u16());
            here.reader.set_max_frame(max);
        }
        let piece = usize::from(script.byte()).max(1);
        for piece in frame.chunks(piece) {
            buffer.spare(piece.len()).extend_from_slice(piece);
            loop {
                match here.reader.open(&mut buffer) {
                    Ok(Some(data)) => {
                        assert_eq!(sent.get(received).map(Vec::as_slice), Some(&*data), "what was sent, in order");
                        received += 1;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        let _ = (error.to_string(), error.blame());
                        assert!(is_damaged || sent.iter().any(|data| data.len() > max), "{error}");
                        return;
                    }
                }
            }
            assert!(here.reader.missing(&buffer) > 0);
            buffer.release();
        }
        assert!(is_damaged || (received == sent.len() && !here.reader.is_mid_frame(&buffer)));
    }
}

pub(crate) fn frame_seeds() -> Vec<Vec<u8>> {
    let frame = |data: &[u8], fate: &[u8]| [&[data.len() as u8], data, fate].concat();
    let whole = frame(b"hello", &[0, 0, 0, 255]);
    let changed = frame(b"changed", &[3, 255, 2, 0, 40, 1, 0, 16]);
    let limited = frame(b"limited", &[7, 0, 255, 0, 9, 1]);
    vec![whole.clone(), [whole.clone(), changed].concat(), [whole, limited].concat()]
}

/// Input: the version of a peer, a limit, then frame data.
pub(crate) fn messages(data: &[u8]) {
    let mut script = Script::new(data);
    let mut codec = Codec::for_version(u64::from(script.byte() % 8));
    let (code, max) = (script.byte().into(), usize::from(script.u16()));
    let data = script.rest();
    match codec.decode(code, data, max) {
        Ok(message) => {
            let (own, payload) = split(message.clone()).expect("what was received has a code");
            assert!(own == code && payload.len() <= max);
            assert_eq!(join(code, &payload), message);
        }
        Err(error) => _ = (error.to_string(), error.blame()),
    }
    let mut frame = Vec::new();
    codec.encode(code, data, &mut frame).expect("short");
    let (read, body) = split(Bytes::from(frame)).expect("a code");
    let again = codec.decode(read, &body, data.len()).expect("what we wrote");
    assert_eq!(split(again).expect("a code"), (code, Bytes::copy_from_slice(data)));

    let reason = DisconnectReason::decode(data);
    assert_eq!(DisconnectReason::decode(&reason.encode()), reason);
    for hello in [Hello::decode(data), Hello::from_frame(data)] {
        match hello {
            Ok(hello) => {
                let written = hello.encode();
                // A control character takes more bytes as what is put in its place.
                assert!(written.len() > MAX_BASE_MESSAGE_SIZE || Hello::decode(&written).as_ref() == Ok(&hello));
                let ours = ["eth", "les", "p2p"].map(|name| Protocol::new(name, 5, 17).expect("a name"));
                let _ = match_protocols(&ours, &hello.capabilities);
            }
            Err(error) => _ = (error.to_string(), error.blame(), error.reason()),
        }
    }
}

pub(crate) fn message_seeds() -> Vec<Vec<u8>> {
    let hello = hex(include_str!("../../../fixtures/rlpx/hello_geth.hex"));
    let ours = Hello::new([7; 64], "kadwire", &protocols());
    let mut compressed = Vec::new();
    Codec::for_version(5).encode(16, &[9; 200], &mut compressed).expect("short");
    let after = |head: [u8; 4], data: &[u8]| [&head[..], data].concat();
    vec![
        after([4, 0, 8, 0], &hello),
        after([5, 0, 8, 0], &ours.to_frame()),
        after([5, 0, 8, 0], &ours.encode()),
        after([5, 0, 8, 0], &compressed[1..]),
        after([5, 1, 8, 0], &DisconnectReason::TooManyPeers.encode()),
    ]
}

fn protocols() -> [Protocol; 2] {
    [("big", 2, 4), ("small", 1, 3)].map(|(name, version, length)| {
        let max_message_size = if name == "small" { 64 } else { 4096 };
        Protocol { max_message_size, send_queue: 4, ..Protocol::new(name, version, length).expect("a name") }
    })
}

fn shared() -> Vec<SharedProtocol> {
    match_protocols(&protocols(), &protocols().map(|protocol| protocol.capability())).expect("the same")
}

/// Input: a version, then what happens on one side of a connection.
pub(crate) fn multiplex(data: &[u8]) {
    let mut script = Script::new(data);
    let version = u64::from(script.byte() % 8);
    let mut now = Now::read().monotonic;
    let side = |now| {
        Multiplex::new(MultiplexConfig::default(), &shared(), Codec::for_version(version), now)
            .expect("a configuration")
    };
    let (mut here, mut there) = (side(now), side(now));
    let (mut alive, mut peer_hears) = (true, true);
    while !script.is_over() {
        match script.below(6) {
            0 => {
                let frame = script.bytes();
                let result = here.handle_frame(now, frame);
                assert!(alive || result.is_err(), "an error is the end");
                alive = result.inspect_err(|error| _ = (error.to_string(), error.blame(), error.reason())).is_ok();
            }
            1 => {
                let (channel, code) = (script.byte() % 3, script.byte() % 5);
                let message = join(code.into(), &script.bytes().repeat(1 + script.below(20)));
                let could = here.can_send(channel);
                let sent = here.send(channel, message);
                assert!(could || sent.is_err());
            }
            2 => {
                now += Duration::from_millis(u64::from(script.u16()));
                alive &= here.handle_timeout(now).is_ok();
                there.excuse(now);
                assert!(!alive || here.poll_timeout().is_some_and(|due| due > now), "no timer fires again at once");
            }
            3 if script.byte() > 250 => here.disconnect(DisconnectReason::ALL[script.below(13)]),
            3 => here.release(),
            4 => {
                let mut frame = Vec::new();
                let is_sending = here.is_sending();
                assert_eq!(here.poll_transmit(&mut frame), is_sending);
                // What this machine writes, its twin reads, but for what ends it.
                if is_sending && peer_hears {
                    assert!(frame.len() <= there.max_frame(), "{}", frame.len());
                    peer_hears = there
                        .handle_frame(now, &frame)
                        .inspect_err(|error| assert_eq!(error.reason(), None, "{error}"))
                        .is_ok();
                }
            }
            _ => while here.poll_sent().is_some() {},
        }
        for side in [&mut here, &mut there] {
            while let Some((channel, message)) = side.poll_message() {
                let (code, payload) = split(message).expect("a code");
                let SharedProtocol { protocol, .. } = shared()[usize::from(channel)];
                assert!(code < protocol.length.into() && payload.len() <= protocol.max_message_size);
            }
        }
    }
}

pub(crate) fn multiplex_seeds() -> Vec<Vec<u8>> {
    let ping = [0, 2, 2, 0xc0];
    let send = [1, 0, 1, 4, 0xc3, 1, 2, 3, 0];
    let disconnect = [0, 4, 1, 0xc1, 4, 0];
    let time = [2, 0x3a, 0x98];
    let theirs = [0, 7, 17, 4, 12, 0xc3, 1, 2, 3];
    vec![
        [&[5][..], &ping, &[4, 4], &send, &[4, 5], &time, &[4], &disconnect].concat(),
        [&[4][..], &theirs, &time, &[3, 255, 4, 4]].concat(),
        [&[5][..], &theirs, &send, &send, &[4, 4]].concat(),
    ]
}
