//! Two nodes that dial each other at the same moment: seen from one side. (Both sides in every order: `crossing_orders`.)

use super::{OWN, Rounds, secs};
use crate::{
    dial::{
        WhyNot,
        tests::{address, id},
    },
    peers::{Because, Direction, PeerManager, Slots},
};

/// Ids sort like their numbers.
const SMALLER: u32 = 1;
const LARGER: u32 = 2 * OWN;

fn crossed(peer: u32, first: Direction) -> Rounds {
    let rounds = Rounds::new(Slots::default()).discovered([peer]).expect_dials([peer]);
    let rounds = match first {
        Direction::Inbound => rounds.accepted([peer]).expect_taken().dialed([peer]),
        Direction::Outbound => rounds.dialed([peer]).expect_taken().accepted([peer]),
    };
    // The second is taken, but nobody hears of it.
    rounds.expect_taken().expect_closes([]).expect_direction(peer, first).expect_up([peer])
}

const BOTH: [Direction; 2] = [Direction::Inbound, Direction::Outbound];

#[test]
fn while_both_are_there_the_one_dialed_by_the_smaller_id_stays_after_a_second() {
    // Seen from us: we are smaller than the one and larger than the other.
    for (peer, stays) in [(LARGER, Direction::Outbound), (SMALLER, Direction::Inbound)] {
        for first in BOTH {
            let rounds = crossed(peer, first).after(secs(1)).expect_closes([(peer, Because::Replaced)]);
            let rounds = rounds.expect_direction(peer, stays);
            assert_eq!(rounds.manager.stats().refusals.of(WhyNot::LostCrossing), 1);
            // The one that leaves takes no place any more, also while it closes.
            assert_eq!(BOTH.map(|direction| rounds.manager.places_taken(direction).open).iter().sum::<usize>(), 1);
            if first == stays {
                rounds.closed([peer]).expect_up([]).expect_down([]).expect_direction(peer, stays);
            } else {
                rounds.expect_up([peer]).older_closed(peer).expect_down([peer]).expect_direction(peer, stays);
            }
        }
    }
}

#[test]
fn the_one_that_the_other_end_keeps_stays_whatever_the_ids() {
    for peer in [SMALLER, LARGER] {
        for first in BOTH {
            // It closes the second: nobody hears of anything.
            crossed(peer, first)
                .closed([peer])
                .expect_up([])
                .expect_down([])
                .after(secs(5))
                .expect_direction(peer, first)
                .expect_closes([]);
            // It closes the first: the second takes over at once.
            crossed(peer, first)
                .older_closed(peer)
                .expect_down([peer])
                .expect_up([peer])
                .after(secs(5))
                .expect_closes([])
                .expect_peers([peer]);
        }
    }
}

#[test]
fn the_one_that_stays_has_the_place_of_the_first() {
    // The inbound side is full, but the peer has a place already: the one its connection has.
    let full = || {
        Rounds::new(Slots { inbound: 1, outbound: 1, ..Slots::default() })
            .accepted([7])
            .discovered([SMALLER])
            .dialed([SMALLER])
            .accepted([SMALLER])
            .expect_taken()
    };
    for rounds in [full().after(secs(1)).expect_closes([(SMALLER, Because::Replaced)]), full().older_closed(SMALLER)] {
        rounds
            .expect_direction(SMALLER, Direction::Inbound)
            .accepted([8])
            .expect_refused(WhyNot::NoSlots)
            .expect_wanted(0) // it still takes the outbound place
            .closed([7])
            .expect_wanted(2); // until there is one on its own side
    }
}

#[test]
fn the_one_that_stays_takes_a_place_of_its_own_side_if_there_is_one() {
    let slots = || Slots { inbound: 8, outbound: 4, ..Slots::default() };
    for first in BOTH {
        for (peer, stays) in [(LARGER, Direction::Outbound), (SMALLER, Direction::Inbound)] {
            let rounds = Rounds::new(slots()).discovered([peer]);
            let rounds = match first {
                Direction::Inbound => rounds.accepted([peer]).dialed([peer]),
                Direction::Outbound => rounds.dialed([peer]).accepted([peer]),
            };
            // The other one of the two is closed by us, and is gone then.
            let rounds = rounds.after(secs(1));
            let rounds = if first == stays { rounds.closed([peer]) } else { rounds.older_closed(peer) };
            let taken = |direction| rounds.manager.places_taken(direction).open;
            let expected = |direction| usize::from(direction == stays);
            assert_eq!(BOTH.map(taken), BOTH.map(expected), "{first:?} first, {stays:?} stays");
        }
    }
}

#[test]
fn a_connection_without_queues_comes_up_when_it_has_them() {
    let early = super::super::ConnectionId(77);
    Rounds::new(Slots::default())
        .discovered([SMALLER])
        .dialed([SMALLER])
        .expect_up([SMALLER])
        .then(|manager, now| {
            manager.handle_incoming(now, early, None).unwrap();
            manager.handle_accepted(now, early, id(SMALLER), None).unwrap();
        })
        .older_closed(SMALLER)
        .expect_down([SMALLER])
        .expect_up([])
        .then(|manager, _| manager.handle_ready(early))
        .expect_up([SMALLER]);
}

#[test]
fn when_both_are_lost_the_history_does_not_keep_the_peer_away() {
    // A CometBFT node that is slow: it closes the one that we kept, after we closed the one that it kept.
    let lost = |peer| {
        let rounds = crossed(peer, Direction::Outbound).after(secs(1));
        rounds.older_closed(peer).closed([peer]).expect_peers([]).discovered([peer])
    };
    for peer in [SMALLER, LARGER] {
        lost(peer)
            .expect_refused(WhyNot::CoolingDown)
            .after(secs(3))
            .discovered([peer])
            .expect_dials([peer])
            .failed([peer])
            .after(secs(10))
            .discovered([peer])
            .expect_refused(WhyNot::RecentlyDialed); // only once
    }
    // The operator's peer comes back by itself.
    Rounds::new(Slots::default())
        .persistent([SMALLER])
        .expect_dials([SMALLER])
        .dialed([SMALLER])
        .accepted([SMALLER])
        .closed([SMALLER, SMALLER])
        .expect_peers([])
        .after(secs(3))
        .expect_dials([SMALLER]);
}

#[test]
fn who_crosses_dials_and_hangs_up_is_not_dialed_in_a_hot_loop() {
    let mut rounds = Rounds::new(Slots::default()).persistent([SMALLER]);
    let mut dials = 0;
    for _ in 0..3_600 {
        if rounds.manager.is_dialing(&id(SMALLER)) {
            dials += 1;
            rounds = rounds.dialed([SMALLER]).accepted([SMALLER]).closed([SMALLER, SMALLER]);
        }
        rounds = rounds.after(secs(1));
    }
    assert!((12..=22).contains(&dials), "{dials} dials in an hour");
}

#[test]
fn whoever_leaves_leaves_with_both() {
    let leave: [fn(&mut PeerManager, kadwire_discovery::Now); 2] =
        [|manager, now| manager.disconnect(now, &id(SMALLER)), |manager, now| manager.ban(now, &id(SMALLER), secs(60))];
    for leave in leave {
        let rounds = crossed(SMALLER, Direction::Inbound).then(leave);
        let why = if rounds.manager.book().is_banned(rounds.now.wall, &id(SMALLER)) {
            Because::Misbehaved
        } else {
            Because::Requested
        };
        rounds
            .expect_closes([(SMALLER, why), (SMALLER, why)])
            .expect_peers([])
            .after(secs(5))
            .closed([SMALLER, SMALLER])
            .expect_up([])
            .expect_down([SMALLER]);
    }
}

#[test]
fn a_second_connection_in_the_same_direction_is_refused() {
    Rounds::new(Slots::default()).accepted([1, 1]).expect_refused(WhyNot::AlreadyConnected).expect_closes([]);
    // And so is a third one while two are there.
    crossed(SMALLER, Direction::Outbound).accepted([SMALLER]).expect_refused(WhyNot::AlreadyConnected);
}

#[test]
fn who_comes_back_long_after_has_lost_the_first_connection() {
    // A peer dials only whom it is not connected with. We have not noticed that it restarted: its new connection is the true one,
    // whatever the ids.
    for peer in [SMALLER, LARGER] {
        Rounds::new(Slots::default())
            .connected([peer])
            .after(secs(76))
            .accepted([peer])
            .expect_taken()
            .expect_closes([(peer, Because::Replaced)])
            .expect_direction(peer, Direction::Inbound)
            .after(secs(76))
            .accepted([peer])
            .expect_taken();
    }
}

#[test]
fn who_is_being_closed_is_not_dialed_before_it_is_gone() {
    Rounds::new(Slots::default())
        .connected([1])
        .then(|manager, now| manager.disconnect(now, &id(1)))
        .after(secs(60))
        .discovered([1])
        .expect_refused(WhyNot::AlreadyConnected)
        .closed([1])
        .after(secs(2))
        .discovered([1])
        .expect_dials([1])
        .then(|manager, _| assert_eq!(manager.book().address_of(&id(1)), Some(&address(1))));
}

/// It does not come back through the other connection.
#[test]
fn who_loses_its_place_while_two_connections_cross_loses_both() {
    let slots = Slots { inbound: 1, outbound: 1, upgrade: 1, ..Slots::default() };
    Rounds::with(slots, |config| config.scores = [(id(3), 5)].into())
        .discovered([LARGER])
        .accepted([LARGER])
        .dialed([LARGER])
        .expect_taken()
        .accepted([3])
        .expect_taken()
        .expect_closes([(LARGER, Because::Evicted), (LARGER, Because::Evicted)])
        .expect_peers([3]);
}
