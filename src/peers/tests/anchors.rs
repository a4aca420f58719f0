//! Peers of the last run are dialed first, and keep nobody else waiting.

use std::time::{Duration, UNIX_EPOCH};

use super::rounds::{Rounds, secs};
use crate::{
    anchors::Anchor,
    candidate::{Candidate, Source},
    dial::{
        WhyNot,
        tests::{address, ethereum, id},
    },
    peers::{Because, Config, PeerManager, Report, Slots},
};
use kadwire_discovery::Now;
use kadwire_wire::{Blame, address::PeerAddress};

fn outbound(outbound: usize) -> Slots {
    Slots { outbound, ..Slots::default() }
}

/// Numbers in networks of their own.
const FAR: [u32; 6] = [0x100, 0x200, 0x300, 0x400, 0x500, 0x600];

fn at(address: PeerAddress) -> Anchor {
    let then = UNIX_EPOCH + secs(1_600_000_000);
    Anchor { address, since: then, seen: then }
}

fn anchors<const N: usize>(peers: [u32; N]) -> impl FnOnce(&mut Config) {
    move |config| config.anchors = peers.map(|n| at(address(n))).into()
}

/// Who would be dialed first after a restart now.
fn chosen(manager: &mut PeerManager, now: Now) -> Vec<PeerAddress> {
    manager.choose_anchors(now).into_iter().map(|anchor| anchor.address).collect()
}

#[test]
fn they_are_dialed_after_the_operators_peers_and_before_all_others() {
    let with_both = |config: &mut Config| {
        anchors([1, 2])(config);
        config.persistent = vec![address(9)];
    };
    Rounds::with(outbound(5), with_both).expect_dials([9, 1, 2]).discovered([3]).expect_dials([3]);
    let ethereum_one = |config: &mut Config| {
        config.anchors = vec![at(ethereum(1))];
        config.persistent = vec![ethereum(9)];
    };
    Rounds::ethereum(Slots::ethereum(12, 3), ethereum_one).expect_dials([9, 1]).discovered([3]).expect_dials([3]);
}

#[test]
fn they_get_a_quarter_of_the_dialed_places() {
    for (places, dialed) in [(0, 0), (1, 0), (2, 1), (10, 3), (16, 4)] {
        Rounds::with(outbound(places), anchors([1, 2, 3, 4, 5, 6, 7, 8, 9])).expect_dial_count(dialed);
    }
}

/// Others are nearer, and their dials end first.
#[test]
fn their_places_are_kept_while_they_are_dialed_and_no_longer() {
    Rounds::with(outbound(5), anchors([1, 2, 3]))
        .expect_dials([1, 2])
        .discovered([4, 5, 6, 7, 8])
        .expect_dials([4, 5, 6, 7, 8])
        .dialed([4, 5, 6])
        .expect_taken()
        .dialed([7])
        .expect_refused(WhyNot::NoSlots)
        // One of the two is dead, and the third has its turn at once.
        .failed([1])
        .expect_dials([3])
        .dialed([2])
        .expect_taken()
        .dialed([8])
        .expect_refused(WhyNot::NoSlots)
        .failed([3])
        // Nobody is left: its place is anybody's.
        .discovered([9])
        .dialed([9])
        .expect_taken()
        .expect_peers([2, 4, 5, 6, 9])
        .then(|manager, _| {
            let stats = manager.dial_stats();
            assert_eq!((stats.anchors_dialed, stats.anchors_reached), (3, 1));
        });
}

/// Where static peers take places, the operator's word goes before.
#[test]
fn no_place_is_kept_from_the_operators_peers() {
    let slots = Slots::ethereum(6, 3);
    let one = |config: &mut Config| config.anchors = vec![at(ethereum(1))];
    let one_place_left = || Rounds::ethereum(slots, one).expect_dials([1]).discovered([3]).dialed([3]);
    one_place_left().discovered([4]).dialed([4]).expect_refused(WhyNot::NoSlots);
    one_place_left().persistent([4]).dialed([4]).expect_taken().expect_peers([3, 4]);
}

/// Each has one attempt; then it is an address like any other.
#[test]
fn one_that_is_dead_is_not_dialed_again() {
    Rounds::with(outbound(4), anchors([1]))
        .expect_dials([1])
        .failed([1])
        .after(secs(3_600))
        .expect_dials([])
        .then(|manager, now| assert_eq!(chosen(manager, now), [address(1)], "nobody is there to take its place"))
        .then(|manager, now| {
            let candidate = Candidate::new(address(1), Source::Discv4);
            manager.add(now, candidate).unwrap();
        })
        .expect_dials([1]);
}

#[test]
fn whoever_is_somebody_else_by_now_is_forgotten() {
    Rounds::with(outbound(5), anchors([1, 2]))
        .failed_by([1], Blame::Incompatible)
        .failed([2])
        .then(|manager, now| assert_eq!(chosen(manager, now), [address(2)]));
}

#[test]
fn an_anchor_that_is_a_peer_again_gives_its_place_to_a_better_one() {
    let slots = Slots { upgrade: 1, ..outbound(2) };
    let scored = |config: &mut Config| {
        anchors([1])(config);
        config.scores = [(id(2), 5), (id(5), 10)].into();
    };
    Rounds::with(slots, scored)
        .dialed([1])
        .connected([2])
        .told(2, [5])
        .after(secs(40))
        .dialed([5])
        .expect_taken()
        .expect_closes([(1, Because::Evicted)]);
}

#[test]
fn those_we_dialed_longest_are_chosen_and_nobody_who_dialed_us_or_whom_the_operator_named() {
    let [a, b, c, d, e, f] = FAR;
    Rounds::new(outbound(10))
        .persistent([a])
        .dialed([a])
        .accepted([b])
        .connected([c])
        .after(secs(10))
        .connected([d, e])
        .after(secs(104))
        .then(move |manager, now| assert_eq!(chosen(manager, now), [address(c)], "the others are too young"))
        .after(secs(1))
        .connected([f])
        .then(move |manager, now| assert_eq!(chosen(manager, now), [c, d, e].map(address)))
        .then(move |manager, now| manager.report(now, &id(d), Report::Bad))
        .then(move |manager, now| assert_eq!(chosen(manager, now), [c, e].map(address), "a reactor complains of d"))
        .then(move |manager, now| manager.ban(now, &id(c), Duration::from_secs(60)))
        .closed([c])
        .then(move |manager, now| assert_eq!(chosen(manager, now), [address(e)]));
}

/// 44.0.0.1 and 44.0.1.1 are of one /16.
#[test]
fn a_network_has_one_anchor() {
    Rounds::new(outbound(10))
        .connected([1, 2, 0x100])
        .after(secs(200))
        .then(|manager, now| assert_eq!(chosen(manager, now).len(), 2));
}
