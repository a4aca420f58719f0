//! Full places go to better peers: strictly better, of the same side, and never from persistent or unconditional ones.

use kadwire_wire::Blame;

use super::{Rounds, secs};
use crate::{
    dial::{
        WhyNot,
        tests::{address, id},
    },
    peers::{Because, Config, PeerManager, Report, Slots},
};

fn report(n: u32, report: Report) -> impl FnOnce(&mut PeerManager, kadwire_discovery::Now) {
    move |manager, now| manager.report(now, &id(n), report)
}

/// Fixed scores: the operator's word.
fn scores<const N: usize>(scores: [(u32, i32); N]) -> impl FnOnce(&mut Config) {
    move |config| config.scores = scores.map(|(n, score)| (id(n), score)).into()
}

#[test]
fn a_better_newcomer_takes_the_place_of_the_lowest_and_an_equal_one_does_not() {
    Rounds::with(Slots { inbound: 2, ..Slots::default() }, scores([(1, 5), (2, 3), (3, 3), (4, 4)]))
        .accepted([1, 2, 3])
        .expect_refused(WhyNot::NoSlots)
        .accepted([4])
        .expect_taken()
        .expect_closes([(2, Because::Evicted)])
        .closed([2])
        .expect_peers([1, 4]);
}

#[test]
fn reports_make_a_peer_better_or_worse() {
    Rounds::new(Slots { inbound: 2, ..Slots::default() })
        .accepted([1, 2])
        .then(report(1, Report::Good))
        .then(report(2, Report::Bad))
        .accepted([3])
        .expect_taken()
        .expect_closes([(2, Because::Evicted)])
        .closed([2])
        .accepted([2])
        .expect_refused(WhyNot::NoSlots); // it is remembered
}

#[test]
fn broken_rules_on_a_connection_cost_score() {
    Rounds::new(Slots { inbound: 1, ..Slots::default() })
        .accepted([1])
        .closed_by([1], Blame::Malformed)
        .accepted([1])
        .expect_taken()
        .accepted([2])
        .expect_closes([(1, Because::Evicted)]);
}

#[test]
fn while_those_who_leave_still_close_only_a_few_more_are_let_in() {
    let better = scores([(11, 1), (12, 1), (13, 1)]);
    Rounds::with(Slots { inbound: 3, upgrade: 2, ..Slots::default() }, better)
        .accepted([1, 2, 3, 11, 12])
        .expect_closes([(3, Because::Evicted), (2, Because::Evicted)])
        .accepted([13])
        .expect_refused(WhyNot::NoSlots) // five are open
        .closed([3])
        .accepted([13])
        .expect_taken();
}

#[test]
fn who_dials_us_never_pushes_out_whom_we_chose() {
    Rounds::with(Slots { inbound: 1, outbound: 1, ..Slots::default() }, scores([(3, 100)]))
        .connected([1])
        .accepted([2, 3])
        .expect_taken()
        .expect_closes([(2, Because::Evicted)]);
}

#[test]
fn persistent_and_unconditional_peers_need_no_place_and_never_leave() {
    let unconditional = |config: &mut Config| {
        config.unconditional = [id(1), id(2)].into();
        config.scores = [(id(1), -100), (id(3), 100), (id(4), 100)].into();
    };
    Rounds::with(Slots { inbound: 1, ..Slots::default() }, unconditional)
        .accepted([5, 1, 2])
        .expect_taken()
        .accepted([3])
        .expect_closes([(5, Because::Evicted)])
        .accepted([4])
        .expect_refused(WhyNot::NoSlots) // equal to the one that has the place
        .expect_peers([1, 2, 3]);
}

#[test]
fn a_persistent_peer_is_one_whoever_dials() {
    Rounds::new(Slots { inbound: 1, ..Slots::default() })
        .persistent([1])
        .failed([1])
        .accepted([2, 1])
        .expect_taken()
        .expect_closes([])
        .accepted([3])
        .expect_refused(WhyNot::NoSlots) // the place is that of 2
        .expect_peers([1, 2]);
}

#[test]
fn a_known_better_peer_is_dialed_when_all_outbound_places_are_taken() {
    Rounds::with(Slots { outbound: 2, upgrade: 1, ..Slots::default() }, scores([(3, 10), (4, 10), (5, -1)]))
        .connected([1, 2])
        .told(1, [3, 4, 5])
        .expect_dials([3]) // one upgrade at a time; 5 is no better
        .failed([3])
        .expect_dials([4])
        .dialed([4])
        .expect_closes([(2, Because::Evicted)])
        .closed([2])
        .expect_peers([1, 4])
        .after(secs(60))
        .expect_dials([3]) // for the place of 1
        .dialed([3])
        .expect_closes([(1, Because::Evicted)])
        .closed([1])
        .after(secs(600))
        .expect_dials([]);
}

#[test]
fn every_upgrade_under_way_has_a_place_of_its_own_in_view() {
    let known = scores([(1, 0), (2, 5), (3, 4), (4, 4)]);
    Rounds::with(Slots { outbound: 2, upgrade: 4, ..Slots::default() }, known)
        .connected([1, 2])
        .told(1, [3, 4])
        .expect_dials([3]); // better than 1; there is nobody that 4 is better than
}

#[test]
fn failed_dials_make_a_peer_less_wanted() {
    Rounds::new(Slots { outbound: 1, upgrade: 1, ..Slots::default() })
        .discovered([2])
        .expect_dials([2])
        .failed([2])
        .then(report(2, Report::Good))
        .then(|manager, _| assert_eq!(manager.score(&id(2)), 0))
        .connected([1])
        .told(1, [2])
        .after(secs(60))
        .expect_dials([])
        .then(|manager, _| assert_eq!(manager.book().address_of(&id(2)), Some(&address(2))));
}

#[test]
fn a_peer_that_gets_better_by_reports_is_dialed_within_half_a_minute() {
    Rounds::new(Slots { outbound: 1, upgrade: 1, ..Slots::default() })
        .connected([1])
        .told(1, [2])
        .then(report(2, Report::Good))
        .expect_dials([])
        .after(secs(30))
        .expect_dials([2])
        .dialed([2])
        .expect_closes([(1, Because::Evicted)]);
}

/// The newest inbound peers of one /24 give way to peers from elsewhere, until two of it are left.
#[test]
fn one_network_does_not_keep_all_inbound_places_to_itself() {
    let slots = Slots { inbound: 6, upgrade: 6, ..Slots::default() };
    let mut rounds = Rounds::with(slots, scores([(5, 1)]));
    for n in 1..=6 {
        rounds = rounds.accepted_from(n, &format!("51.0.0.{n}:1"));
    }
    rounds
        .accepted_from(7, "51.0.0.7:1")
        .expect_refused(WhyNot::NoSlots) // it is of the crowd itself
        .accepted_from(11, "52.0.0.1:1")
        .accepted_from(12, "53.0.0.1:1")
        .expect_closes([(6, Because::Crowded), (4, Because::Crowded)]) // 5 has a higher score than they
        .accepted_from(13, "52.0.0.2:1")
        .expect_closes([(3, Because::Crowded)])
        .accepted_from(14, "52.0.0.3:1")
        .expect_refused(WhyNot::NoSlots) // three against two: they would take turns
        .accepted_from(15, "54.0.0.1:1")
        .expect_closes([(2, Because::Crowded)])
        .accepted_from(16, "55.0.0.1:1")
        .expect_refused(WhyNot::NoSlots) // two are no crowd
        .expect_peers([1, 5, 11, 12, 13, 15]);
}

#[test]
fn on_a_private_network_nobody_is_crowded() {
    Rounds::new(Slots { inbound: 3, ..Slots::default() })
        .accepted_from(1, "10.0.0.1:1")
        .accepted_from(2, "10.0.0.2:1")
        .accepted_from(3, "10.0.0.3:1")
        .accepted_from(4, "10.0.1.1:1")
        .expect_refused(WhyNot::NoSlots);
}
