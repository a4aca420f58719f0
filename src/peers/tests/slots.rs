//! Who is dialed and when, and who gets a place.

use kadwire_wire::Blame;

use super::{OWN, Rounds, secs};
use crate::{
    candidate::{Candidate, Source},
    dial::{
        WhyNot,
        tests::{address, id, peer_at},
    },
    peers::{Because, Config, ConnectionId, Report, Slots},
};

#[test]
fn dials_fill_the_free_slots_and_history_keeps_an_address_for_35_seconds() {
    Rounds::new(Slots { outbound: 4, dialing: 5, ..Slots::default() })
        .connected([1, 2, 3])
        .discovered([1, 3, 4, 5, 6])
        .expect_dials([4, 5]) // three of four slots taken
        .failed([4])
        .expect_dials([6]) // its place goes to the next candidate
        .failed([5, 6])
        .after(secs(34))
        .discovered([4])
        .expect_dials([]) // history keeps it 35 s
        .after(secs(2))
        .discovered([4])
        .expect_dials([4]);
}

#[test]
fn no_more_dials_are_under_way_than_allowed() {
    Rounds::new(Slots { outbound: 10, dialing: 3, ..Slots::default() })
        .discovered([1, 2, 3, 4, 5])
        .expect_dials([1, 2, 3])
        .dialed([1])
        .expect_dials([4])
        .failed([2, 3, 4])
        .expect_dials([5]);
}

#[test]
fn of_two_dials_for_the_last_place_the_second_finds_it_taken() {
    Rounds::new(Slots { outbound: 1, ..Slots::default() })
        .discovered([1, 2, 3])
        .expect_dials([1, 2]) // twice the free places
        .dialed([1, 2])
        .expect_refused(WhyNot::NoSlots)
        .expect_up([1])
        .expect_dials([]) // the third stays in the queue
        .expect_wanted(0)
        .closed([1])
        .expect_dials([3])
        .expect_down([1]);
}

#[test]
fn discovery_is_asked_for_no_more_than_is_wanted() {
    Rounds::new(Slots { outbound: 2, dialing: 5, ..Slots::default() })
        .expect_wanted(4)
        .discovered([1, 2, 3, 4])
        .expect_wanted(4) // they are dialed, and may all fail
        .discovered([5, 6])
        .expect_wanted(2)
        .dialed([1])
        .expect_wanted(0)
        .dialed([2])
        .expect_wanted(0)
        .closed([1])
        .expect_wanted(0) // 5 and 6 wait still: 3 and 4 are dialed for the free place
        .failed([3, 4])
        .expect_wanted(2);
}

#[test]
fn the_operators_peers_are_dialed_first_and_need_no_free_place() {
    Rounds::with(Slots { outbound: 1, dialing: 2, ..Slots::default() }, |config: &mut Config| {
        config.persistent = vec![address(1), address(2)];
    })
    .discovered([3])
    .expect_dials([1, 2]) // both dials are theirs
    .dialed([1, 2])
    .expect_dials([3]) // and the place is still free
    .dialed([3])
    .expect_up([1, 2, 3])
    .persistent([4])
    .expect_dials([4])
    .dialed([4])
    .expect_peers([1, 2, 3, 4]);
}

#[test]
fn a_lost_persistent_peer_is_dialed_again_with_growing_pauses() {
    let mut rounds = Rounds::new(Slots::default()).persistent([1]).expect_dials([1]).failed([1]);
    // 2, 4, 8 … 256 s and jitter below 1 s, then 5 min.
    for pause in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        rounds = rounds.after(secs(pause - 1)).expect_dials([]).after(secs(2)).expect_dials([1]).failed([1]);
    }
    rounds
        .after(secs(301))
        .expect_dials([1])
        .dialed([1])
        .after(secs(60))
        .closed([1])
        .after(secs(1))
        .expect_dials([]) // it cools down for 2 s
        .after(secs(1))
        .expect_dials([1]); // and the failures of before are forgotten
}

#[test]
fn who_takes_connections_and_drops_them_is_not_dialed_in_a_hot_loop() {
    let mut rounds = Rounds::new(Slots::default()).persistent([1]);
    let mut dials = 0;
    for _ in 0..3_600 {
        let dialed = rounds.manager.is_dialing(&id(1));
        dials += usize::from(dialed);
        rounds = if dialed { rounds.dialed([1]).closed([1]) } else { rounds };
        rounds = rounds.after(secs(1));
    }
    assert!((12..=22).contains(&dials), "{dials} dials in an hour");
}

#[test]
fn a_peer_that_is_no_longer_persistent_takes_a_place_or_leaves() {
    Rounds::new(Slots { outbound: 1, ..Slots::default() })
        .persistent([1, 2])
        .dialed([1, 2])
        .then(|manager, now| manager.remove_persistent(now, &id(1)))
        .expect_closes([])
        .then(|manager, now| manager.remove_persistent(now, &id(2)))
        .expect_closes([(2, Because::Evicted)]) // of equals the younger
        .closed([2])
        .expect_peers([1]);
}

#[test]
fn seeds_are_asked_when_nobody_else_is_known() {
    let with_seed = |config: &mut Config| config.seeds = vec![address(9)];
    Rounds::with(Slots { outbound: 2, ..Slots::default() }, with_seed)
        .expect_dials([9])
        .dialed([9])
        .told(9, [1, 2])
        .expect_dials_of([1, 2])
        .closed([9]) // it answered and hung up
        .dialed([1, 2])
        .after(secs(600))
        .expect_dials([]) // both places are taken
        .closed([1, 2])
        .after(secs(1))
        .expect_dials([9]) // 1 and 2 cool down: ask again
        .failed([9])
        .after(secs(2))
        .expect_dials_of([1, 2]);
}

#[test]
fn one_seed_is_asked_at_a_time_until_one_answers() {
    let seeds = |config: &mut Config| config.seeds = vec![address(7), address(8), address(9)];
    let rounds = Rounds::with(Slots::default(), seeds).expect_dial_count(1);
    let first =
        rounds.manager.is_dialing(&id(7)).then_some(7).or(rounds.manager.is_dialing(&id(8)).then_some(8)).unwrap_or(9);
    rounds.failed([first]).expect_dial_count(1);
}

#[test]
fn a_false_address_is_forgotten_and_the_true_one_still_dialed() {
    Rounds::new(Slots { outbound: 1, ..Slots::default() })
        .connected([9])
        .told(9, [1])
        .closed([9])
        .expect_dials([1])
        .failed_by([1], Blame::Incompatible) // somebody else is there
        .then(|manager, _| assert_eq!(manager.book().address_of(&id(1)), None))
        .after(secs(60))
        .then(|manager, now| {
            let elsewhere = crate::dial::tests::peer_at(1, "51.0.0.1:1");
            let discovered = crate::candidate::Candidate::new(elsewhere, crate::candidate::Source::Discv4);
            assert_eq!(manager.add(now, discovered), Ok(()));
            assert!(manager.is_dialing(&id(1)));
        });
}

#[test]
fn who_misbehaves_is_closed_and_kept_away_for_a_day() {
    let misbehaves =
        |n| move |manager: &mut crate::peers::PeerManager, now| manager.report(now, &id(n), Report::Misbehaved);
    Rounds::new(Slots::default())
        .connected([1])
        .accepted([2])
        .then(misbehaves(1))
        .then(misbehaves(2))
        .expect_closes([(1, Because::Misbehaved), (2, Because::Misbehaved)])
        .closed([1, 2])
        .expect_down([1, 2])
        .accepted([2])
        .expect_refused(WhyNot::Banned) // also where CometBFT lets it in again at once
        .discovered([1])
        .expect_refused(WhyNot::Banned)
        .after(secs(24 * 60 * 60))
        .accepted([2])
        .expect_taken()
        .expect_peers([2]);
}

#[test]
fn a_ban_while_the_dial_is_under_way_counts() {
    Rounds::new(Slots::default())
        .discovered([1])
        .then(|manager, now| manager.ban(now, &id(1), secs(60)))
        .dialed([1])
        .expect_refused(WhyNot::Banned)
        .expect_up([]);
}

#[test]
fn this_node_is_no_peer_of_its_own() {
    Rounds::new(Slots::default())
        .discovered([OWN])
        .expect_refused(WhyNot::SelfId)
        .persistent([OWN])
        .expect_refused(WhyNot::SelfId)
        .accepted([OWN])
        .expect_refused(WhyNot::SelfId)
        .expect_dials([]);
}

#[test]
fn a_user_may_dial_and_end_a_connection() {
    Rounds::new(Slots { outbound: 2, dialing: 1, ..Slots::default() })
        .then(|manager, now| assert_eq!(manager.dial(now, address(1)), Ok(())))
        .expect_dials([1])
        .then(|manager, now| assert_eq!(manager.dial(now, address(1)), Err(WhyNot::AlreadyDialing)))
        .then(|manager, now| assert_eq!(manager.dial(now, address(2)), Err(WhyNot::NoSlots)))
        .dialed([1])
        .expect_up([1])
        .then(|manager, now| manager.disconnect(now, &id(1)))
        .expect_closes([(1, Because::Requested)])
        .then(|manager, now| manager.disconnect(now, &id(1)))
        .expect_closes([]) // once is enough
        .closed([1])
        .expect_down([1]);
}

#[test]
fn whoever_owns_a_subnet_does_not_own_our_peers() {
    let neighbour = |n: u8| crate::dial::tests::peer_at(u32::from(n), &format!("51.0.0.{n}:1"));
    let discover = |n: u8| {
        move |manager: &mut crate::peers::PeerManager, now| {
            let found = crate::candidate::Candidate::new(neighbour(n), crate::candidate::Source::Discv4);
            let _ = manager.add(now, found);
        }
    };
    let mut rounds = Rounds::new(Slots::default());
    for n in 1..=20 {
        rounds = rounds.then(discover(n));
    }
    rounds
        .expect_dials([1, 2]) // of twenty
        .dialed([1])
        .failed([2])
        .then(discover(21))
        .expect_dials([21]) // the failed one leaves room for one more
        .dialed([21])
        .then(discover(22))
        .expect_dials([])
        .persistent([22]) // at an address of its own
        .expect_dials([22]);
}

#[test]
fn a_step_of_the_wall_clock_changes_no_time_out() {
    let mut rounds = Rounds::new(Slots::default()).discovered([1]).failed([1]).after(secs(30));
    rounds.now.wall += secs(365 * 24 * 60 * 60);
    rounds = rounds.discovered([1]).expect_refused(WhyNot::RecentlyDialed);
    rounds.now.wall -= secs(2 * 365 * 24 * 60 * 60);
    rounds.after(secs(6)).expect_dials([1]).discovered([1]).expect_dials([1]);
}

#[test]
fn there_are_no_more_connections_in_all_than_allowed_but_for_unconditional_peers() {
    let slots = Slots { inbound: 40, outbound: 2, total: 4, ..Slots::default() };
    Rounds::with(slots, |config| config.unconditional = [id(9)].into())
        .accepted([1, 2])
        .expect_taken()
        .accepted([3])
        .expect_refused(WhyNot::NoSlots) // the outbound places are kept free
        .connected([4, 5])
        .expect_peers([1, 2, 4, 5])
        .accepted([9])
        .expect_taken() // whatever the limit, and it takes nobody's
        .closed([4])
        .discovered([6])
        .expect_dials([6])
        .dialed([6])
        .persistent([7])
        .expect_dials([7])
        .dialed([7])
        .expect_closes([(2, Because::Evicted)]) // the operator's peer takes a stranger's, rather one that dialed us
        .closed([2])
        .expect_peers([1, 5, 6, 7, 9]);
}

#[test]
fn of_persistent_peers_there_are_as_many_as_all_connections() {
    Rounds::new(Slots { outbound: 1, total: 1, ..Slots::default() })
        .persistent([1, 2])
        .expect_dials([1, 2])
        .dialed([1])
        .dialed([2])
        .expect_refused(WhyNot::NoSlots)
        .expect_peers([1])
        .expect_wanted(0)
        .expect_dials([]) // not at once
        .after(secs(1))
        .expect_dials([])
        .after(secs(2))
        .expect_dials([2])
        .dialed([2])
        .after(secs(3))
        .expect_dials([]) // with growing pauses
        .closed([1])
        .after(secs(2))
        .expect_dials([2]);
}

#[test]
fn one_ip_is_one_peer_unless_allowed_but_for_the_operators_own() {
    let one_ip = |n: u32| peer_at(n, &format!("127.0.0.1:{}", 1_000 + n));
    let come = |allowed: bool| {
        let change = |config: &mut Config| {
            config.allow_duplicate_ip = allowed;
            config.unconditional = [id(3)].into();
            config.persistent = vec![one_ip(4)];
        };
        let mut taken = Vec::new();
        let rounds = Rounds::with(Slots::default(), change).then(|manager, now| {
            for n in [1, 2, 3] {
                let (connection, at) = (ConnectionId(900 + u64::from(n)), one_ip(n).socket_addr());
                manager.handle_incoming(now, connection, one_ip(n).ip()).unwrap();
                taken.push(manager.handle_accepted(now, connection, id(n), at));
            }
            taken.push(manager.handle_dialed(now, ConnectionId(904), &one_ip(4), one_ip(4).socket_addr()));
        });
        // Who is refused afterwards is not dialed at all.
        let dialed = rounds.discovered([5]).then(|manager, now| {
            let _ = manager.add(now, Candidate::new(one_ip(6), Source::Discv4));
        });
        (taken, dialed)
    };
    let (taken, rounds) = come(false);
    assert_eq!(taken, [Ok(()), Err(WhyNot::DuplicateIp), Ok(()), Ok(())]);
    rounds.expect_dials([4, 5]);
    let (taken, rounds) = come(true);
    assert_eq!(taken, [Ok(()); 4]);
    rounds.expect_dials([4, 5, 6]);
}

#[test]
fn a_persistent_peer_never_waits_longer_than_the_operator_says() {
    let mut rounds = Rounds::with(Slots::default(), |config| config.persistent_backoff = secs(7)).persistent([1]);
    for _ in 0..10 {
        rounds = rounds.failed([1]).after(secs(7));
        assert!(rounds.manager.is_dialing(&id(1)), "within 7 s of the last failure");
    }
}

/// It would be passed on as a peer: a seed node hangs up on whoever comes.
#[test]
fn a_seed_that_was_reached_is_not_kept_as_a_peer() {
    Rounds::with(Slots::default(), |config| config.seeds = vec![address(9)])
        .expect_dials([9])
        .dialed([9])
        .expect_taken()
        .then(|manager, _| assert!(manager.book().is_empty()));
}
