//! The scenarios of go-ethereum's `p2p/dial_test.go`, by their names. A round there ends with 16 s.

use std::collections::BTreeSet;

use kadwire_wire::{Blame, PeerAddress};

use super::{rounds, slots};
use crate::{
    candidate::{Candidate, Source},
    dial::{
        WhyNot,
        tests::{address, ethereum, ethereum_id},
    },
    peers::{
        ConnectionId, PeerManager, WhyFailed,
        tests::{Rounds, secs},
    },
};

/// Who was dialed since the last look.
fn dialed_now(rounds: &mut Rounds) -> BTreeSet<u32> {
    let number = |address: &PeerAddress| (1..3_000).find(|n| ethereum_id(*n) == address.id()).unwrap();
    rounds.dials.drain(..).map(|address| number(&address)).collect()
}

#[test]
fn dyn_dial() {
    rounds(4, 5)
        .persistent([20])
        .expect_dials([20])
        .dialed([20])
        .then(|manager, now| manager.remove_persistent(now, &ethereum_id(20)))
        .connected([1, 2])
        // Three of four are connected, which leaves two slots.
        .discovered([20, 2, 3, 4, 5, 6, 7, 8])
        .expect_dials([3, 4])
        .after(secs(16))
        // One dial is over, and its slot free.
        .failed([4])
        .expect_dials([5])
        .after(secs(16))
        // The last place is taken.
        .dialed([3])
        .failed([5])
        .discovered([9])
        .expect_dials([])
        .expect_wanted(0)
        .after(secs(16))
        // Three leave, which makes six slots: five are used, as no more dials may be under way.
        .closed([20, 1, 2])
        .discovered([10, 11, 12, 13, 15])
        .expect_dials([6, 7, 8, 9, 10])
        .expect_peers([3]);
}

#[test]
fn net_restrict() {
    // Peers 4 to 7 are in it.
    Rounds::ethereum(slots(10, 10), |config| config.netrestrict = vec!["44.0.4.0/22".parse().unwrap()])
        .discovered([1, 2, 3, 4, 5, 6, 7])
        .expect_dials([4, 5, 6, 7])
        .discovered([8])
        .expect_refused(WhyNot::NetRestricted)
        .dialed([4, 5, 6, 7])
        .expect_peers([4, 5, 6, 7])
        // 1.8 drops such a static node from its list with a warning, today's keeps it and never dials it: ours says so at once.
        .persistent([9])
        .expect_refused(WhyNot::NetRestricted)
        .expect_dials([]);
}

#[test]
fn static_dial() {
    let mut rounds = rounds(4, 5)
        .connected([1, 2])
        .after(secs(40))
        // The first two are connected as dynamic peers. Static peers share the slots with all others.
        .persistent([1, 2, 3, 4, 5, 6, 7, 8, 9])
        .expect_dials([3, 4, 5, 6])
        .after(secs(16))
        // One place is left, and two dials are made for it. Where the others are now, discovery is asked.
        .dialed([3])
        .failed([4, 5, 6])
        .expect_resolves([4, 5, 6]);
    let two = dialed_now(&mut rounds);
    let left = [7, 8, 9].into_iter().find(|n| !two.contains(n)).unwrap();
    assert!(two.len() == 2 && two.is_subset(&[7, 8, 9].into()), "{two:?}");
    rounds
        .after(secs(16))
        // One leaves, and the last one comes by itself: only the first is dialed. (Ours lets it rest for two seconds.)
        .accepted([left])
        .closed([1])
        .expect_dials([])
        .after(secs(2))
        .expect_dials([1]);
}

#[test]
fn remove_static() {
    let rounds = rounds(1, 1).persistent([1, 2, 3]).expect_dials([1]).failed([1]).expect_resolves([1]);
    let second = if rounds.manager.is_dialing(&ethereum_id(2)) { 2 } else { 3 };
    rounds
        .expect_dials([second])
        // One is in the history, one is being dialed, one waits.
        .then(|manager, now| [1, 2, 3].iter().for_each(|n| manager.remove_persistent(now, &ethereum_id(*n))))
        .failed([second])
        .expect_resolves([]) // go-ethereum still looks for it
        .after(secs(600))
        .expect_dials([]);
}

#[test]
fn who_is_named_again_is_dialed_at_once() {
    // As in 1.8, where removeStatic takes it out of the history.
    rounds(2, 5)
        .persistent([1])
        .failed([1])
        .expect_dials([1])
        .then(|manager, now| manager.remove_persistent(now, &ethereum_id(1)))
        .persistent([1])
        .expect_dials([1]);
}

#[test]
fn many_static_nodes() {
    let chosen = |seed: u64| {
        let mut rounds = Rounds::ethereum(slots(2, 50), |config| {
            config.persistent = (1..=2_000).map(ethereum).collect();
            config.seed = seed;
        });
        dialed_now(&mut rounds)
    };
    let choices: Vec<_> = (0..4).map(chosen).collect();
    assert!(choices.iter().all(|chosen| chosen.len() == 4), "two places: {choices:?}");
    assert!(choices.iter().flatten().collect::<BTreeSet<_>>().len() > 8, "chosen at random: {choices:?}");
}

#[test]
fn history() {
    rounds(3, 3)
        .persistent([1, 2, 3])
        .expect_dials([1, 2, 3])
        .dialed([1, 2])
        .failed([3])
        .expect_resolves([3])
        .after(secs(34))
        .expect_dials([])
        .after(secs(1))
        .expect_dials([3]);
}

#[test]
fn resolve() {
    let (first, second) = (ethereum(1), PeerAddress::from_socket(ethereum_id(1), "44.9.9.9:30303".parse().unwrap()));
    let mut rounds = rounds(1, 1)
        // Where it is nobody knows.
        .then(|manager, now| manager.add_persistent_id(now, ethereum_id(1)).unwrap())
        .expect_dials([])
        .expect_resolves([1])
        .resolved(1, Some(first.clone()))
        .expect_dials([1]);
    // It is not there. Discovery was asked a moment ago. (In go-ethereum's test it is asked again, as its clock stands at 0.)
    for _ in 0..2 {
        rounds = rounds.failed([1]).expect_resolves([]).after(secs(35)).expect_dials([1]);
    }
    let second = second.unwrap();
    let rounds = rounds.failed([1]).expect_resolves([1]).resolved(1, Some(second.clone()));
    assert_eq!(rounds.dials, [second], "elsewhere it is dialed at once");
}

#[test]
fn a_peer_that_nobody_finds_is_looked_for_after_1_2_4_minutes() {
    let mut rounds = rounds(1, 1).then(|manager, now| manager.add_persistent_id(now, ethereum_id(1)).unwrap());
    for minutes in [2, 4, 8, 16, 32, 60, 60] {
        rounds = rounds.expect_resolves([1]).resolved(1, None).after(secs(minutes * 60 - 1)).expect_resolves([]);
        rounds = rounds.after(secs(1));
    }
    rounds.expect_resolves([1]).expect_dials([]);
}

#[test]
fn dns_hostname() {
    let named: PeerAddress = format!("enode://{}@node-hostname:30303", ethereum_id(1)).parse().unwrap();
    let mut rounds = rounds(1, 1).then(|manager, now| {
        manager.add(now, Candidate::new(named.clone(), Source::Config)).unwrap();
    });
    // Whoever dials looks the name up, each time.
    assert_eq!(std::mem::take(&mut rounds.dials), std::slice::from_ref(&named));
    rounds = rounds.then(|manager, now| manager.handle_dial_failed(now, &named, WhyFailed::NotResolved));
    rounds = rounds.expect_resolves([1]).resolved(1, Some(ethereum(1)));
    assert_eq!(std::mem::take(&mut rounds.dials), [ethereum(1)], "discovery knows it by its id");
    rounds = rounds.failed([1]).after(secs(36));
    assert_eq!(rounds.dials.len(), 1, "one of the two, of the name and what discovery said");
}

#[test]
fn pending_inbound() {
    const OF_3: ConnectionId = ConnectionId(903);
    const OF_7: ConnectionId = ConnectionId(907);
    let knock = |connection, n| {
        move |manager: &mut PeerManager, now| {
            manager.handle_incoming(now, connection, address(n).ip()).unwrap();
            manager.handle_identified(now, connection, ethereum_id(n), None).unwrap();
        }
    };
    rounds(4, 5)
        .connected([1, 2])
        .then(knock(OF_3, 3))
        .discovered([3])
        .expect_refused(WhyNot::PendingInbound)
        .discovered([4, 5])
        .expect_dials([4, 5])
        .after(secs(16))
        // Its own connection is made. One slot is left.
        .then(|manager, now| manager.handle_accepted(now, OF_3, ethereum_id(3), None).unwrap())
        .dialed([4])
        .failed([5])
        .discovered([3])
        .expect_refused(WhyNot::AlreadyConnected)
        .discovered([6])
        .expect_dials([6])
        .after(secs(16))
        // It leaves, and another one knocks.
        .then(|manager, now| manager.handle_closed(now, OF_3, Blame::Local))
        .then(knock(OF_7, 7))
        .after(secs(2))
        .discovered([7])
        .expect_refused(WhyNot::PendingInbound)
        .discovered([3])
        .expect_dials([3]);
}

#[test]
fn a_static_peer_whose_own_connection_fails_is_dialed() {
    const ITS_OWN: ConnectionId = ConnectionId(901);
    rounds(4, 5)
        .then(|manager, now| {
            manager.handle_incoming(now, ITS_OWN, None).unwrap();
            manager.handle_identified(now, ITS_OWN, ethereum_id(1), None).unwrap();
        })
        .persistent([1])
        .expect_dials([])
        .then(|manager, now| manager.handle_incoming_failed(now, ITS_OWN))
        .expect_dials([1]);
}

/// go-ethereum has no back-off: #25446 and others tell of a dead static node that is dialed every 35 s for ever.
#[test]
fn a_dead_static_peer_is_dialed_every_five_minutes() {
    let mut rounds = rounds(4, 5).persistent([1]);
    let (mut last, mut pauses) = (rounds.now, Vec::new());
    while pauses.len() < 12 {
        if rounds.dials.pop().is_some() {
            pauses.push((rounds.now.monotonic - last.monotonic).as_secs());
            last = rounds.now;
            rounds = rounds.failed([1]);
        }
        rounds = rounds.after(secs(1));
    }
    assert_eq!(pauses[..6], [0, 35, 35, 35, 35, 35], "the history is longer than the first pauses of the back-off");
    assert!((64..=66).contains(&pauses[6]) && (128..=130).contains(&pauses[7]), "{pauses:?}");
    assert!(pauses[9..].iter().all(|pause| (300..=301).contains(pause)), "{pauses:?}");
}
