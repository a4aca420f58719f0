//! Connections before their handshake.

use super::{Rounds, secs};
use crate::{
    dial::{WhyNot, tests::id},
    peers::{Action, Config, ConnectionId, Slots},
};

#[test]
fn silent_sockets_do_not_keep_an_honest_peer_out() {
    let mut rounds = Rounds::new(Slots { inbound: 40, half_open: 100, ..Slots::default() });
    let mut aborted = 0;
    for n in 0..10_000_u32 {
        let ip = std::net::IpAddr::from((0x3000_0000 + n).to_be_bytes());
        assert_eq!(
            rounds.manager.handle_incoming(rounds.now, ConnectionId(1_000_000 + u64::from(n)), Some(ip)),
            Ok(())
        );
        while let Some(action) = rounds.manager.poll_action() {
            assert!(matches!(action, Action::Abort(_)), "{action:?}");
            aborted += 1;
        }
    }
    assert_eq!((aborted, rounds.manager.stats().half_open), (9_900, 100));
    rounds.accepted([1]).expect_taken().expect_up([1]);
}

/// CometBFT with its defaults lets nobody in for 36 s.
#[test]
fn five_hundred_silent_sockets_keep_no_honest_peer_out_wherever_they_come_from() {
    let ip_of = |from: &str, n: u32| match from {
        "one host" => "51.1.1.1".parse().unwrap(),
        "loopback" => "127.0.0.1".parse().unwrap(),
        _ => std::net::IpAddr::from((0x3000_0000 + n).to_be_bytes()),
    };
    for (from, held) in [("one host", 8), ("loopback", 100), ("five hundred hosts", 500)] {
        let mut rounds = Rounds::new(Slots::default());
        let silent = (0..500_u32).filter(|n| {
            let connection = ConnectionId(1_000_000 + u64::from(*n));
            rounds.manager.handle_incoming(rounds.now, connection, Some(ip_of(from, *n))).is_ok()
        });
        assert_eq!(silent.count(), held, "{from}");
        // No time has passed. All places of peers are still free, and taken by those who prove who they are.
        let rounds = rounds.accepted([1, 2, 3]).expect_taken().expect_up([1, 2, 3]);
        assert_eq!((rounds.manager.stats().half_open, rounds.manager.stats().inbound), (held, 3));
    }
}

#[test]
fn a_handshake_that_was_cut_is_not_taken_afterwards() {
    Rounds::new(Slots { half_open: 1, ..Slots::default() })
        .then(|manager, now| assert_eq!(manager.handle_incoming(now, ConnectionId(900), None), Ok(())))
        .then(|manager, now| assert_eq!(manager.handle_incoming(now, ConnectionId(901), None), Ok(())))
        .then(|manager, now| {
            assert_eq!(manager.handle_accepted(now, ConnectionId(900), id(1), None), Err(WhyNot::Stale));
            assert_eq!(manager.handle_accepted(now, ConnectionId(901), id(1), None), Ok(()));
            assert_eq!(manager.handle_accepted(now, ConnectionId(902), id(2), None), Err(WhyNot::Stale));
        });
}

#[test]
fn one_ip_may_not_knock_without_end() {
    let few = |config: &mut Config| config.attempts_per_ip = 3;
    for ip in ["44.9.9.9", "127.0.0.1", "10.0.0.1"] {
        let ip = Some(ip.parse().unwrap());
        Rounds::with(Slots::default(), few)
            .then(|manager, now| {
                for n in 0..5_u64 {
                    let refused = manager.handle_incoming(now, ConnectionId(900 + n), ip).err();
                    assert_eq!(refused, (n >= 3).then_some(WhyNot::TooManyAttempts));
                    manager.handle_incoming_failed(now, ConnectionId(900 + n));
                }
            })
            .after(secs(10))
            .then(|manager, now| assert_eq!(manager.handle_incoming(now, ConnectionId(910), ip), Ok(())));
    }
}

#[test]
fn only_allowed_networks_are_let_in() {
    let restrict = |config: &mut Config| config.netrestrict = vec!["44.0.0.0/8".parse().unwrap()];
    Rounds::with(Slots::default(), restrict).accepted([1]).expect_taken().then(|manager, now| {
        for (from, refused) in [("45.0.0.1", true), ("::ffff:44.0.0.1", false), ("::1", true)] {
            let refusal = manager.handle_incoming(now, ConnectionId(900), Some(from.parse().unwrap())).err();
            assert_eq!(refusal, refused.then_some(WhyNot::NetRestricted), "{from}");
        }
    });
}
