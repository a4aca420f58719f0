use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

fn geth_frame() -> Vec<u8> {
    HEXLOWER.decode(include_str!("../../../../fixtures/rlpx/hello_geth.hex").trim().as_bytes()).unwrap()
}

fn hello() -> Hello {
    let protocols = [("snap", 1, 8), ("eth", 69, 18), ("eth", 68, 17)];
    let protocols = protocols.map(|(name, version, length)| Protocol::new(name, version, length).unwrap());
    let geth = Hello::from_frame(&geth_frame()).unwrap();
    Hello::new(geth.id, "Geth/v1.17.10-stable/linux-amd64/go1.25", &protocols)
}

/// A Hello with some of its elements replaced by other RLP, and more appended.
fn changed(replace: &[(usize, &[u8])], append: &[u8]) -> Vec<u8> {
    let encoded = hello().encode();
    let (_, mut rest) = encoded.split_at(rlp::PayloadInfo::from(&encoded).unwrap().header_len);
    let mut list = RlpStream::new();
    list.begin_unbounded_list();
    for index in 0..5 {
        let (_, later) = Item::split(rest).unwrap();
        let item = &rest[..rest.len() - later.len()];
        rest = later;
        let replaced = replace.iter().find(|(at, _)| *at == index);
        list.append_raw(replaced.map_or(item, |(_, raw)| raw), 1);
    }
    list.append_raw(append, 1);
    list.finalize_unbounded_list();
    list.out().to_vec()
}

#[test]
fn a_go_ethereum_servers_hello_is_read_and_written_the_same() {
    let hello = hello();
    assert_eq!(Hello::from_frame(&geth_frame()), Ok(hello.clone()));
    assert_eq!(hello.to_frame(), geth_frame());
    assert_eq!((hello.version, hello.listen_port, hello.check()), (5, 0, Ok(())));
    let capabilities: Vec<_> = hello.capabilities.iter().map(Capability::to_string).collect();
    assert_eq!(capabilities, ["eth/68", "eth/69", "snap/1"]);
}

/// EIP-8: what a later version adds is ignored, in the list and behind it.
#[test]
fn more_elements_and_later_versions_are_taken() {
    let more = changed(&[(0, &[0x81, 0xc8])], &[0xc2, 0x01, 0x02, 0x83, 1, 2, 3]);
    assert_eq!(Hello::decode(&more), Ok(Hello { version: 200, ..hello() }));
    let behind = [&hello().encode()[..], &[0xff; 100]].concat();
    assert_eq!(Hello::decode(&behind), Ok(hello()));
}

#[test]
fn capabilities_that_cannot_be_shared_are_left_out() {
    // Nine characters, none, a space, and one with an element more than it needs.
    let list = b"\xe4\xcb\x89ninechars\x01\xc2\x80\x01\xc5\x83a b\x01\xcc\x88istanbul\x40\x05\x01";
    let list = [&[0xc0 + (list.len() - 1) as u8][..], &list[1..]].concat();
    let hello = Hello::decode(&changed(&[(2, &list)], &[])).unwrap();
    assert_eq!(hello.capabilities.iter().map(Capability::to_string).collect::<Vec<_>>(), ["istanbul/64"]);
    let none = Hello::decode(&changed(&[(2, &[0xc0])], &[])).unwrap();
    assert_eq!(none.capabilities, []);
}

#[test]
fn the_client_is_fit_for_a_log() {
    let hello = Hello::decode(&changed(&[(1, b"\x87a\x1b[0m\xff\n")], &[])).unwrap();
    assert_eq!(hello.client, "a\u{fffd}[0m\u{fffd}\u{fffd}");
}

/// go-ethereum `p2p/transport_test.go`, `TestProtocolHandshakeErrors`, and the rest of what can be wrong.
#[test]
fn each_thing_wrong_with_a_hello_has_its_error() {
    use DisconnectReason::{InvalidIdentity, Protocol, Quitting};
    let frame = |code: u64, payload: &[u8]| {
        let mut frame = Vec::new();
        put_code(&mut frame, code);
        frame.extend_from_slice(payload);
        frame
    };
    let long = [0xb8, 65].into_iter().chain([1; 65]).collect::<Vec<_>>();
    let zero = [0xb8, 64].into_iter().chain([0; 64]).collect::<Vec<_>>();
    let many = [&[0xf9, 0x01, 0x83][..], &[0xc2, b'a', 0x01].repeat(129)].concat();
    let table: [(&str, Vec<u8>, HelloError); 17] = [
        ("disconnect", frame(1, &[0xc1, 0x08]), HelloError::Disconnected(Quitting)),
        ("legacy disconnect", frame(1, &[0x08]), HelloError::Disconnected(Quitting)),
        ("another message", frame(0x98_9898, &[1]), HelloError::Unexpected(0x98_9898)),
        ("ping", frame(2, &[0xc0]), HelloError::Unexpected(2)),
        ("too large", frame(0, &[0; 2049]), HelloError::TooLarge(2049)),
        ("a large disconnect", frame(1, &[0; 2049]), HelloError::TooLarge(2049)),
        ("not a list", frame(0, &[0x83, 1, 2, 3]), HelloError::Undecodable(RlpError::ExpectedList)),
        ("nothing", frame(0, &[]), HelloError::Undecodable(RlpError::Truncated)),
        ("no code", vec![], HelloError::Message(MessageError::Code)),
        ("a list for a code", vec![0xc0, 0xc0], HelloError::Message(MessageError::Code)),
        ("an empty list", frame(0, &[0xc0]), HelloError::Undecodable(RlpError::TooFewElements)),
        ("id too short", changed(&[(4, &[0x80])], &[]), HelloError::Identity),
        ("id too long", changed(&[(4, &long)], &[]), HelloError::Identity),
        ("id of zeros", changed(&[(4, &zero)], &[]), HelloError::Identity),
        ("capability of one", changed(&[(2, &[0xc2, 0xc1, b'a'])], &[]), RlpError::TooFewElements.into()),
        ("capability that is none", changed(&[(2, &[0xc1, b'a'])], &[]), RlpError::ExpectedList.into()),
        ("too many capabilities", changed(&[(2, &many)], &[]), HelloError::TooManyCapabilities),
    ];
    for (what, bytes, error) in table {
        let bytes = if bytes.first().is_some_and(|first| *first >= 0xf7) { frame(0, &bytes) } else { bytes };
        assert_eq!(Hello::from_frame(&bytes), Err(error), "{what}");
        let told = match error {
            HelloError::Disconnected(_) => None,
            HelloError::Identity => Some(InvalidIdentity),
            _ => Some(Protocol),
        };
        assert_eq!(error.reason(), told, "{what}");
        assert_eq!(error.blame().is_peer(), !matches!(error, HelloError::Disconnected(_)), "{what}");
    }
}

#[test]
fn our_own_hello_is_checked() {
    let id = hello().id;
    assert_eq!(Hello::new([0; 64], "kadwire", &[]).check(), Err(HelloError::Identity));
    let wordy = Hello::new(id, "x".repeat(2000), &[]);
    assert_eq!(wordy.check(), Err(HelloError::TooLarge(wordy.encode().len())));
    // As many protocols as may be offered, with the longest names and versions.
    let most: Vec<_> = (0..64).map(|n| Protocol::new("istanbul", u64::MAX - n, 1).unwrap()).collect();
    assert_eq!(Hello::new(id, "kadwire/v0.1.0/linux-x86_64", &most).check(), Ok(()));
}

#[test]
fn a_hello_cut_anywhere_is_refused() {
    let whole = geth_frame();
    for len in 0..whole.len() {
        assert!(Hello::from_frame(&whole[..len]).is_err(), "cut at {len}");
    }
}

proptest! {
    #[test]
    fn any_first_frame_is_answered(data: Vec<u8>) {
        let _ = Hello::from_frame(&data);
    }

    /// Almost right: a real one with some bytes changed.
    #[test]
    fn a_changed_hello_is_read_or_refused(changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4)) {
        let mut frame = geth_frame();
        for (at, byte) in changes {
            let at = usize::from(at) % frame.len();
            frame[at] = byte;
        }
        if let Ok(hello) = Hello::from_frame(&frame) {
            // Lossy are only words that are not UTF-8 and names that are none.
            prop_assert_eq!(Hello::decode(&hello.encode()).unwrap(), hello);
        }
    }

    #[test]
    fn what_is_written_is_read(
        version: u64, port: u64, id in proptest::array::uniform32(1u8..), client in "[ -~]{0,100}",
        capabilities in proptest::collection::vec(("[!-~]{1,8}", any::<u64>()), 0..30),
    ) {
        let capability = |(name, version): (String, u64)| Capability { name: name.parse().unwrap(), version };
        let capabilities = capabilities.into_iter().map(capability).collect();
        let id: [u8; 64] = [id, id].concat().try_into().unwrap();
        let hello = Hello { version, client, capabilities, listen_port: port, id };
        prop_assert_eq!(Hello::from_frame(&hello.to_frame()), Ok(hello));
    }
}
