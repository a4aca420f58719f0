//! "Why have I no peers?": what is counted, and that nothing is counted twice.

use kadwire_wire::Blame;

use super::{OWN, Rounds, secs};
use crate::{
    candidate::SourceKind,
    dial::{
        WhyFailed, WhyNot,
        tests::{address, id},
    },
    peers::{Because, DialStats, Slots},
};

fn stats(rounds: &Rounds) -> DialStats {
    rounds.manager.dial_stats()
}

#[test]
fn every_dial_and_candidate_is_counted_once_with_what_became_of_it() {
    let rounds = Rounds::new(Slots { outbound: 2, dialing: 3, ..Slots::default() }).persistent([9]);
    assert_eq!((stats(&rounds).wanted, stats(&rounds).under_way), (2, 1), "three at once, one is the operator's");

    let rounds = rounds.dialed([9]).discovered([1, 2, 3, 4, OWN]).failed([1]).failed_by([2], Blame::Incompatible);
    let rounds = rounds.dialed([3]).accepted([5]).told(5, [6, 7]).closed([3]);
    let found = stats(&rounds);
    assert_eq!((found.operators, found.operators_connected), (1, 1));
    assert_eq!((found.inbound, found.outbound, found.inbound_most, found.outbound_most), (1, 1, 40, 2));
    assert_eq!(found.candidates.iter().map(|(_, count)| count).collect::<Vec<_>>(), [1, 5, 2, 0]);
    assert_eq!(found.candidates_taken.of(SourceKind::Discv4), 4);
    assert_eq!((found.refused.of(WhyNot::SelfId), found.refused.total()), (1, 1));
    assert_eq!(found.succeeded, 2);
    let failed: Vec<_> = found.failed.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(failed, [(WhyFailed::TimedOut, 1), (WhyFailed::WrongIdentity, 1), (WhyFailed::EndedAtOnce, 1)]);
    // Every dial is under way, or came to an end that is counted; the one that ended at once had succeeded.
    assert_eq!(found.tried, found.under_way as u64 + found.succeeded + found.failed.total() - 1);
}

#[test]
fn this_node_among_its_own_static_peers_and_seeds_is_counted_and_passed_over() {
    let rounds = Rounds::with(Slots::default(), |config| {
        config.own_sockets = [address(7).socket_addr().unwrap()].into();
        // Our identity, and our socket under another one.
        config.persistent = vec![address(OWN), address(8), address(7)];
        config.seeds = vec![address(OWN), address(9)];
    });
    let found = stats(&rounds);
    assert_eq!((found.operators, found.seeds, found.refused.of(WhyNot::SelfId)), (1, 1, 3));
    let rounds = rounds.persistent([7]).expect_refused(WhyNot::SelfId).after(secs(600));
    assert_eq!(stats(&rounds).refused.of(WhyNot::SelfId), 4, "each once");
    rounds.expect_dials_of([8, 9]);
}

#[test]
fn a_static_peer_outside_the_networks_is_counted_once() {
    let rounds = Rounds::with(Slots::default(), |config| {
        config.netrestrict = vec!["10.0.0.0/8".parse().unwrap()];
        config.persistent = vec![address(8)];
    });
    assert_eq!(stats(&rounds.after(secs(600)).expect_dials([])).refused.of(WhyNot::NetRestricted), 1);
}

#[test]
fn what_waited_too_long_in_the_queue_is_counted_as_refused() {
    let rounds = Rounds::new(Slots { outbound: 1, ..Slots::default() }).discovered([1, 2, 3]).accepted([3]);
    assert_eq!((stats(&rounds).candidates_waiting, stats(&rounds).refused.total()), (1, 0));
    let rounds = rounds.failed([1, 2]);
    assert_eq!((stats(&rounds).candidates_waiting, stats(&rounds).refused.of(WhyNot::AlreadyConnected)), (0, 1));
}

#[test]
fn a_peer_that_we_leave_ourselves_has_not_failed() {
    let rounds = Rounds::new(Slots::default())
        .connected([1])
        .then(|manager, now| manager.disconnect(now, &id(1)))
        .expect_closes([(1, Because::Requested)])
        .closed([1])
        .connected([2])
        .after(secs(11))
        .closed([2]);
    assert_eq!(stats(&rounds).failed.total(), 0);
}

#[test]
fn it_is_written_with_names_and_without_what_never_happened() {
    let rounds = Rounds::new(Slots::default()).discovered([1]).failed([1]).discovered([1]);
    let text = serde_json::to_value(stats(&rounds)).unwrap();
    assert_eq!(text["failed"], serde_json::json!({ "timed_out": 1 }));
    assert_eq!(text["refused"], serde_json::json!({ "recently_dialed": 1 }));
    assert_eq!(text["candidates"], serde_json::json!({ "discv4": 2 }));
    assert_eq!((&text["tried"], &text["wanted"], &text["outbound_most"]), (&1.into(), &20.into(), &10.into()));
}
