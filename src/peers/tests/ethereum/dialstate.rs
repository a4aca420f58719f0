//! The dial scheduler of the source documents (go-ethereum 1.8, `dialstate`): what it had that today's has not.

use super::slots;
use crate::{
    dial::{
        WhyNot,
        tests::{ethereum, ethereum_id},
    },
    peers::{
        FALLBACK,
        tests::{Rounds, secs},
    },
};

fn with_bootnodes(outbound: usize, dialing: usize) -> Rounds {
    Rounds::ethereum(slots(outbound, dialing), |config| {
        config.seeds = [1, 2, 3].map(ethereum).into();
        config.fallback = Some(FALLBACK);
    })
}

#[test]
fn without_any_peer_for_20_seconds_bootnodes_are_dialed_in_turn() {
    with_bootnodes(4, 5)
        .after(secs(19))
        .expect_dials([])
        .after(secs(1))
        .expect_dials([1]) // one at a time
        .failed([1])
        .expect_dials([2])
        .failed([2])
        .expect_dials([3])
        .failed([3])
        .expect_dials([])
        .after(secs(34))
        .expect_dials([]) // each has its history
        .after(secs(1))
        .expect_dials([1])
        .dialed([1])
        .expect_peers([1]) // a bootnode is a peer like any other
        .after(secs(600))
        .expect_dials([])
        // Alone again.
        .closed([1])
        .after(secs(19))
        .expect_dials([])
        .after(secs(1))
        .expect_dials([2]);
}

#[test]
fn while_there_is_a_peer_no_bootnode_is_dialed() {
    with_bootnodes(4, 5).after(secs(10)).accepted([9]).after(secs(600)).expect_dials([]);
    // Nor without a free slot: static peers come first.
    with_bootnodes(1, 1)
        .persistent([8])
        .expect_dials([8])
        .after(secs(60))
        .expect_dials([])
        .failed([8])
        .expect_dials([1]);
}

#[test]
fn bootnodes_that_discovery_finds_too_are_not_dialed_twice() {
    with_bootnodes(4, 5)
        .discovered([1])
        .expect_dials([1])
        .after(secs(20))
        .expect_dials([2])
        .discovered([2])
        .expect_refused(WhyNot::AlreadyDialing);
}

#[test]
fn what_a_lookup_found_waits_and_is_dialed_as_slots_get_free() {
    // `lookupBuf`: nothing more is looked up while it holds enough; what may not be dialed any more when its turn comes is dropped.
    super::rounds(2, 2)
        .expect_wanted(2)
        .discovered([1, 2, 3, 4, 5])
        .expect_dials([1, 2])
        .expect_wanted(0)
        .accepted([3])
        .failed([1])
        .expect_dials([4])
        .then(|manager, _| assert_eq!(manager.dial_stats().refused.of(WhyNot::AlreadyConnected), 1))
        .failed([2, 4])
        .expect_dials([5])
        .expect_wanted(1);
}

#[test]
fn a_dial_task_ends_after_its_peer_is_in_the_set() {
    // So that no second dial starts between the two (`cont` is answered last in `Server.run`).
    super::rounds(2, 5)
        .discovered([1])
        .dialed([1])
        .discovered([1])
        .expect_refused(WhyNot::AlreadyConnected)
        .then(|manager, _| assert!(!manager.is_dialing(&ethereum_id(1)) && manager.peer(&ethereum_id(1)).is_some()));
}
