//! The scenarios of go-ethereum's `p2p/server_test.go` that are about who may be a peer, by their names.

use kadwire_wire::{Blame, PeerId, rlpx::disconnect::DisconnectReason, transport::CloseReason};

use super::rounds;
use crate::{
    dial::tests::{address, ethereum, ethereum_id},
    peers::{
        Because, ConnectionId, Direction, PeerManager, Slots, WhyFailed, WhyNot,
        tests::{OWN, Rounds, secs},
    },
};

/// The first checkpoint for somebody who dialed us, and a fresh number for each.
fn identified(rounds: &mut Rounds, number: u64, peer: PeerId) -> Result<(), WhyNot> {
    let connection = ConnectionId(9_000 + number);
    rounds.manager.handle_incoming(rounds.now, connection, None).unwrap();
    let checked = rounds.manager.handle_identified(rounds.now, connection, peer, None);
    rounds.manager.handle_incoming_failed(rounds.now, connection);
    checked
}

#[test]
fn at_cap() {
    const TRUSTED: u32 = 99;
    let ten = Slots { outbound: 0, inbound: 10, ..Slots::ethereum(10, 0) };
    let mut rounds = Rounds::ethereum(ten, |config| config.unconditional = [ethereum_id(TRUSTED)].into());
    for n in 1..=10 {
        rounds = rounds.accepted([n]).expect_taken();
    }
    // Nobody else is taken, at the checkpoint before the Hello and after it, but for whom we trust.
    assert_eq!(identified(&mut rounds, 1, ethereum_id(50)), Err(WhyNot::NoSlots));
    assert_eq!(identified(&mut rounds, 2, ethereum_id(TRUSTED)), Ok(()));
    rounds = rounds.accepted([50]).expect_refused(WhyNot::NoSlots).accepted([TRUSTED]).expect_taken();
    // Trust is given and taken on a live connection.
    let is_trusted = |rounds: &Rounds, n| rounds.manager.peer(&ethereum_id(n)).unwrap().protected;
    assert!(is_trusted(&rounds, TRUSTED) && !is_trusted(&rounds, 1));
    rounds = rounds
        .then(|manager, now| manager.remove_unconditional(now, &ethereum_id(TRUSTED)))
        .then(|manager, now| manager.add_unconditional(now, ethereum_id(1)));
    assert!(!is_trusted(&rounds, TRUSTED) && is_trusted(&rounds, 1));
    // It stays, but would not be let in again; another one would.
    rounds = rounds.expect_closes([]).closed([TRUSTED]);
    assert_eq!(identified(&mut rounds, 3, ethereum_id(TRUSTED)), Err(WhyNot::NoSlots));
    rounds = rounds.then(|manager, now| manager.add_unconditional(now, ethereum_id(50)));
    assert_eq!(identified(&mut rounds, 4, ethereum_id(50)), Ok(()));
    rounds.after(secs(30)).accepted([50]).expect_taken();
}

#[test]
fn peer_limits() {
    let dials = |number, taken| {
        move |manager: &mut PeerManager, now| {
            assert_eq!(manager.dial(now, ethereum(1)), Ok(()));
            assert_eq!(manager.handle_dialed(now, ConnectionId(number), &ethereum(1), None), taken);
        }
    };
    Rounds::ethereum(Slots::ethereum(0, 0), |_| {})
        .then(dials(901, Err(WhyNot::NoSlots)))
        .then(|manager, now| manager.add_unconditional(now, ethereum_id(1)))
        .after(secs(40))
        // A trusted peer passes, and then there is no protocol that both speak.
        .then(dials(902, Ok(())))
        .then(|manager, now| {
            manager.remove_unconditional(now, &ethereum_id(1));
            let useless = CloseReason::RemoteDisconnected(DisconnectReason::UselessPeer);
            manager.handle_closed(now, ConnectionId(902), &useless);
        })
        .after(secs(1_801)) // which is not better soon
        .then(dials(903, Err(WhyNot::NoSlots)))
        .then(|manager, _| {
            let failed = manager.dial_stats().failed;
            assert_eq!((failed.of(WhyFailed::RefusedByUs), failed.of(WhyFailed::UselessPeer)), (2, 1));
        });
}

#[test]
fn setup_conn() {
    // What the handshakes bring, before they come to the checkpoints, and how it is counted.
    for (why, blame) in [
        (WhyFailed::HandshakeFailed, Blame::Malformed),
        (WhyFailed::WrongIdentity, Blame::Incompatible),
        (WhyFailed::TooManyPeers, Blame::Local),
        (WhyFailed::UselessPeer, Blame::Incompatible),
    ] {
        assert_eq!(why.blame(), blame);
        rounds(4, 5).discovered([1]).then(|manager, now| manager.handle_dial_failed(now, &ethereum(1), why)).then(
            |manager, _| {
                let stats = manager.dial_stats();
                assert_eq!((stats.failed.of(why), stats.failed.total(), stats.succeeded), (1, 1, 0));
            },
        );
    }
    // The checkpoints.
    let mut full = rounds(4, 5).connected([1]).accepted([2]);
    for (number, (peer, expected)) in [
        (ethereum_id(OWN), Err(WhyNot::SelfId)),
        (ethereum_id(2), Err(WhyNot::AlreadyConnected)),
        (ethereum_id(3), Ok(())),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(identified(&mut full, number as u64, peer), expected, "{peer}");
    }
    assert_eq!(full.manager.stats().refusals.total(), 2);
    full.after(secs(30))
        .accepted([OWN])
        .expect_refused(WhyNot::SelfId)
        .accepted([2])
        .expect_refused(WhyNot::AlreadyConnected);
}

#[test]
fn a_peer_that_says_after_the_hello_why_it_leaves_is_counted_by_that() {
    let leaves = |reason: DisconnectReason| {
        rounds(4, 5)
            .connected([1])
            .then(|manager, now| {
                let connection = manager.peer(&ethereum_id(1)).unwrap().connection;
                manager.handle_closed(now, connection, &CloseReason::RemoteDisconnected(reason));
            })
            .after(secs(60))
            .discovered([1])
    };
    let full = leaves(DisconnectReason::TooManyPeers).expect_dials([1]);
    assert_eq!(full.manager.dial_stats().failed.of(WhyFailed::TooManyPeers), 1);
    let useless = leaves(DisconnectReason::UselessPeer).expect_refused(WhyNot::BackingOff);
    assert_eq!(useless.manager.dial_stats().failed.of(WhyFailed::UselessPeer), 1);
}

#[test]
fn a_place_that_was_free_before_the_hello_may_be_taken_after_it() {
    const LATE: ConnectionId = ConnectionId(900);
    let one = Slots { outbound: 0, inbound: 1, ..Slots::ethereum(1, 0) };
    Rounds::ethereum(one, |_| {})
        .then(|manager, now| {
            manager.handle_incoming(now, LATE, None).unwrap();
            assert_eq!(manager.handle_identified(now, LATE, ethereum_id(1), None), Ok(()));
        })
        .accepted([2])
        .then(|manager, now| {
            assert_eq!(manager.handle_accepted(now, LATE, ethereum_id(1), None), Err(WhyNot::NoSlots));
        })
        .expect_peers([2]);
}

#[test]
fn inbound_throttle() {
    rounds(4, 5)
        .accepted_from(1, "95.33.21.2:4444")
        .expect_taken()
        .accepted_from(2, "95.33.21.2:4445")
        .expect_refused(WhyNot::Throttled)
        .after(secs(30))
        .accepted_from(2, "95.33.21.2:4446")
        .expect_taken()
        .accepted_from(3, "192.168.1.1:1")
        .accepted_from(4, "192.168.1.1:2")
        .expect_taken();
}

#[test]
fn remove_peer_disconnect() {
    rounds(4, 5)
        .persistent([1])
        .dialed([1])
        .then(|manager, now| {
            manager.remove_persistent(now, &ethereum_id(1));
            manager.disconnect(now, &ethereum_id(1));
        })
        .expect_closes([(1, Because::Requested)])
        .closed([1])
        .expect_down([1])
        .expect_dials([1])
        .after(secs(600))
        .expect_dials([])
        .expect_peers([]);
}

/// `max_peers` counts all, static and trusted ones too; a static peer has a place like all others, and none without.
#[test]
fn everybody_counts() {
    let slots = Slots::ethereum(3, 3);
    assert_eq!((slots.outbound, slots.inbound, slots.total), (1, 2, 3));
    Rounds::ethereum(slots, |config| config.unconditional = [ethereum_id(9)].into())
        .persistent([1])
        .dialed([1])
        .persistent([2])
        .after(secs(60))
        .expect_dials([1]) // there is one dialed place, and it is taken
        .accepted([2])
        .expect_taken() // by itself it may come
        .accepted([9])
        .expect_taken()
        .accepted([3])
        .expect_refused(WhyNot::NoSlots) // whom we trust has a place
        .closed([1])
        .accepted([4])
        .expect_refused(WhyNot::NoSlots); // the dialed places are not for those who dial us
}

#[test]
fn a_full_node_closes_nobody_for_a_better_one() {
    let better = |config: &mut crate::peers::Config| config.scores = [(ethereum_id(7), 100)].into();
    let slots = Slots { outbound: 1, inbound: 2, ..Slots::ethereum(3, 3) };
    Rounds::ethereum(slots, better)
        .connected([1])
        .accepted([2, 3])
        .accepted([7])
        .expect_refused(WhyNot::NoSlots)
        .after(secs(600))
        .expect_closes([])
        .expect_dials([]);
}

#[test]
fn the_slots_of_a_number_of_peers() {
    // MaxPeers, DialRatio, dialed: `maxDialedConns`.
    for (peers, ratio, outbound) in [(50, 0, 16), (50, 3, 16), (25, 5, 5), (2, 3, 1), (1, 3, 1), (0, 3, 0), (10, 1, 10)]
    {
        let slots = Slots::ethereum(peers, ratio);
        assert_eq!((slots.of(Direction::Outbound), slots.of(Direction::Inbound)), (outbound, peers - outbound));
    }
}

#[test]
fn dials_that_cross_end_with_one_connection() {
    // Only if both dials were under way before either side knew of the other's. go-ethereum keeps the first it saw.
    rounds(4, 5).discovered([1]).accepted([1]).dialed([1]).expect_taken().older_closed(1).expect_peers([1]);
    // A dial is not even begun while the other's handshake is under way: `pending_inbound`.
    let from = address(1).ip();
    rounds(4, 5)
        .then(|manager, now| {
            manager.handle_incoming(now, ConnectionId(900), from).unwrap();
            manager.handle_identified(now, ConnectionId(900), ethereum_id(1), None).unwrap();
        })
        .discovered([1])
        .expect_refused(WhyNot::PendingInbound);
}
