//! Two nodes that dial each other at the same moment keep the same one of the two connections, whoever sees which first.

use super::{OWN, Rounds, secs};
use crate::{
    dial::WhyNot,
    peers::{Because, Direction, Slots},
};

/// Ids sort like their numbers.
const SMALLER: u32 = 1;
const LARGER: u32 = 2 * OWN;

#[test]
fn the_connection_dialed_by_the_smaller_id_stays() {
    // Seen from us: we are smaller than the one and larger than the other.
    for (peer, stays) in [(LARGER, Direction::Outbound), (SMALLER, Direction::Inbound)] {
        for inbound_first in [false, true] {
            let rounds = Rounds::new(Slots::default()).discovered([peer]).expect_dials([peer]);
            let rounds = if inbound_first {
                rounds.accepted([peer]).dialed([peer])
            } else {
                rounds.dialed([peer]).accepted([peer])
            };
            let first = if inbound_first { Direction::Inbound } else { Direction::Outbound };
            if first == stays {
                rounds
                    .expect_refused(WhyNot::LostCrossing)
                    .expect_closes([])
                    .expect_direction(peer, stays)
                    .expect_up([peer]);
            } else {
                rounds
                    .expect_taken()
                    .expect_closes([(peer, Because::Replaced)])
                    .expect_direction(peer, stays)
                    .older_closed(peer)
                    .expect_direction(peer, stays)
                    .expect_up([peer, peer])
                    .expect_down([peer]);
            }
        }
    }
}

#[test]
fn both_ends_agree_also_when_all_places_are_taken() {
    // The inbound side is full, but the peer has a place already: the one its connection has.
    Rounds::new(Slots { inbound: 1, outbound: 1, ..Slots::default() })
        .accepted([7])
        .discovered([SMALLER])
        .dialed([SMALLER])
        .accepted([SMALLER])
        .expect_taken()
        .expect_closes([(SMALLER, Because::Replaced)])
        .expect_direction(SMALLER, Direction::Inbound)
        .accepted([8])
        .expect_refused(WhyNot::NoSlots)
        .expect_wanted(0); // it still takes the outbound place
}

#[test]
fn a_second_connection_in_the_same_direction_is_refused() {
    Rounds::new(Slots::default()).accepted([1, 1]).expect_refused(WhyNot::AlreadyConnected).expect_closes([]);
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
        .then(|manager, now| manager.disconnect(now, &crate::dial::tests::id(1)))
        .after(secs(60))
        .discovered([1])
        .expect_refused(WhyNot::AlreadyConnected)
        .closed([1])
        .after(secs(2))
        .discovered([1])
        .expect_dials([1]);
}
