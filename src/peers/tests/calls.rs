//! The calls of ADR-062's PeerManager, one story each, with what is different here and why.

use kadwire_wire::Blame;

use super::{OWN, Rounds, secs};
use crate::{
    candidate::{Candidate, Source},
    dial::{
        WhyNot,
        tests::{address, id, peer_at},
    },
    peers::{
        Because, Config, PeerManager, Refused, Report, Slots,
        score::{LOWEST, PERSISTENT},
    },
};

fn report(n: u32, report: Report) -> impl FnOnce(&mut PeerManager, kadwire_discovery::Now) {
    move |manager, now| manager.report(now, &id(n), report)
}

fn score(n: u32, expected: i32) -> impl FnOnce(&mut PeerManager, kadwire_discovery::Now) {
    move |manager, _| assert_eq!(manager.score(&id(n)), expected, "score of {n}")
}

fn one_place(change: impl FnOnce(&mut Config)) -> Rounds {
    Rounds::with(Slots { inbound: 1, outbound: 1, upgrade: 1, ..Slots::default() }, change)
}

/// A fixed score wins, then 32767 for persistent peers, then reports less the failed dials, at least −32768.
#[test]
fn score_is_the_operators_word_then_persistence_then_reports_less_failures() {
    Rounds::with(Slots::default(), |config| config.scores = [(id(1), 7), (id(2), -1)].into())
        .persistent([2, 3])
        .discovered([4])
        .then(score(1, 7))
        .then(score(2, -1)) // also of a persistent peer
        .then(score(3, PERSISTENT))
        .then(report(3, Report::Bad))
        .then(score(3, PERSISTENT))
        .then(report(4, Report::Good))
        .then(score(4, 1))
        .failed([4])
        .then(score(4, 0))
        .after(secs(60))
        .discovered([4])
        .dialed([4])
        .then(score(4, 1)) // it made up for the failure
        .then(|manager, now| (0..40_000).for_each(|_| manager.report(now, &id(5), Report::Bad)))
        .then(score(5, LOWEST));
}

/// `Add`: own id refused, a known address no news. Private peers are not even kept, so that they cannot be passed on by mistake.
#[test]
fn add_takes_what_is_new_and_not_our_own() {
    one_place(|_| {}).accepted([1]).then(|manager, now| {
        let mut add = |n, source| manager.add(now, Candidate::new(address(n), source));
        assert_eq!(add(OWN, Source::Discv4), Err(Refused::Dial(WhyNot::SelfId)));
        assert_eq!(add(OWN, Source::Config), Err(Refused::Dial(WhyNot::SelfId)));
        assert_eq!(add(2, Source::Pex(id(1))), Ok(()));
        assert_eq!(add(2, Source::Pex(id(1))), Ok(()));
        assert_eq!(manager.book().len(), 1);
    });
}

/// `TryDialNext`: not who is dialed or connected, not within 2 s of its end, not before its retry delay. The order is the operator's peers,
/// then discovery and book in turn (CometBFT's bias) instead of by score: by score, whoever is praised once is dialed for ever.
#[test]
fn the_next_dial_is_to_somebody_free_cooled_down_and_due() {
    one_place(|_| {})
        .persistent([1])
        .expect_dials([1])
        .persistent([1])
        .expect_dials([]) // dialing
        .dialed([1])
        .after(secs(600))
        .expect_dials([]) // connected
        .closed([1])
        .after(secs(1))
        .expect_dials([]) // cools down
        .after(secs(1))
        .expect_dials([1])
        .failed([1])
        .after(secs(1))
        .expect_dials([]) // waits
        .after(secs(2))
        .expect_dials([1]);
}

/// `TryDialNext` with all places taken: at most as many dials beyond them as `MaxConnectedUpgrade`, each to somebody better than another peer
/// that no other dial has in view (`findUpgradeCandidate`).
#[test]
fn with_all_places_taken_only_better_peers_are_dialed_each_for_a_place_of_its_own() {
    let slots = Slots { outbound: 2, upgrade: 2, ..Slots::default() };
    Rounds::with(slots, |config| config.scores = [(id(2), 6), (id(7), 5), (id(8), 5), (id(9), 7)].into())
        .connected([1, 2])
        .told(1, [7, 8])
        .expect_dials([7]) // for 1; 8 is no better than 2
        .told(1, [9])
        .expect_dials([9]) // for 2
        .dialed([9])
        .expect_closes([(1, Because::Evicted)]) // looked for again: 1 is the lowest
        .dialed([7])
        .expect_refused(WhyNot::NoSlots) // and 7 is no better than 2
        .closed([1])
        .expect_peers([2, 9]);
}

/// `Dialed`: refused if it is connected already, or if all places are taken and nobody is lower. An address that was not dialed, or given up,
/// is refused too. A success forgets the failures only once the connection has lasted: peers that hang up at once are no success.
#[test]
fn dialed_is_refused_without_a_place() {
    one_place(|_| {})
        .discovered([1, 2])
        .expect_dials([1, 2])
        .dialed([1, 2])
        .expect_refused(WhyNot::NoSlots)
        .dialed([3])
        .expect_refused(WhyNot::Stale)
        .expect_peers([1])
        .expect_closes([]);
}

/// `DialFailed`: one failure more, and it is tried again by itself after the retry delay, which doubles (2 s, 4 s … 30 min, or 5 min for
/// persistent peers) where Tendermint's comment says so and its code adds 250 ms each time.
#[test]
fn a_failed_dial_is_due_again_by_itself() {
    let mut rounds = one_place(|_| {}).accepted([9]).told(9, [1]).expect_dials([1]);
    // The history of 35 s is longer than the first four delays.
    for pause in [36, 36, 36, 36, 36, 66, 130] {
        rounds = rounds.failed([1]).after(secs(pause)).expect_dials([1]);
    }
}

/// `Accepted`: refused for ourselves, a second connection, and when all places are taken by peers no lower. Places of inbound and outbound
/// peers are apart, so that whoever dials us cannot push out whom we chose.
#[test]
fn accepted_needs_a_place_of_its_own_side() {
    one_place(|config| config.scores = [(id(3), 5), (id(9), 10)].into())
        .connected([3])
        .accepted([OWN])
        .expect_refused(WhyNot::SelfId)
        .accepted([1])
        .expect_taken()
        .accepted([1])
        .expect_refused(WhyNot::AlreadyConnected)
        .accepted([2])
        .expect_refused(WhyNot::NoSlots)
        .accepted([9])
        .expect_closes([(1, Because::Evicted)])
        .closed([1])
        .expect_peers([3, 9]);
}

/// `TryEvictNext`: when more are connected than places, the lowest leaves. Nothing is chosen at random.
#[test]
fn who_is_over_the_places_leaves_lowest_first() {
    Rounds::with(Slots { outbound: 1, ..Slots::default() }, |config| config.scores = [(id(2), 1)].into())
        .persistent([1, 2, 3])
        .dialed([1, 2, 3])
        .then(|manager, now| [1, 2, 3].iter().for_each(|n| manager.remove_persistent(now, &id(*n))))
        .expect_closes([(1, Because::Evicted), (3, Because::Evicted)])
        .closed([1, 3])
        .expect_peers([2]);
}

/// `Errored` is `Report::Misbehaved`: it also bans, for 24 h (CometBFT), because an evicted peer that comes back at once is none the better.
#[test]
fn errored_closes_and_keeps_away() {
    one_place(|_| {})
        .accepted([1])
        .then(report(1, Report::Misbehaved))
        .expect_closes([(1, Because::Misbehaved)])
        .closed([1])
        .accepted([1])
        .expect_refused(WhyNot::Banned)
        .discovered([1])
        .expect_refused(WhyNot::Banned);
}

/// `Inactivate`: a peer of another network is not dialed again for half an hour, and its address is forgotten. (Tendermint sets a flag that
/// stops nothing.)
#[test]
fn an_incompatible_peer_is_left_alone() {
    one_place(|_| {})
        .accepted([9])
        .told(9, [1])
        .expect_dials([1])
        .failed_by([1], Blame::Incompatible)
        .then(|manager, _| assert_eq!(manager.book().address_of(&id(1)), None))
        .discovered([1])
        .expect_refused(WhyNot::RecentlyDialed)
        .after(secs(29 * 60))
        .discovered([1])
        .expect_refused(WhyNot::BackingOff)
        .after(secs(2 * 60))
        .discovered([1])
        .expect_dials([1]);
}

/// `Advertise`: not to itself, and only what we reached or were told of by others. Our own address is not in it: who asks has it from our
/// NodeInfo, as in CometBFT. The choice is CometBFT's (a random 23 %), because a score that reporters can raise would choose for them.
#[test]
fn advertise_leaves_out_who_asks() {
    one_place(|_| {}).connected([1]).told(1, [2, 3]).then(|manager, _| {
        let mut told = manager.advertise(&id(3));
        told.sort();
        assert_eq!(told, [address(1), address(2)]);
    });
}

/// `MaxPeers`: the book is bounded by its buckets, and none of them by who tells most.
#[test]
fn what_is_stored_is_bounded() {
    one_place(|_| {}).accepted([9]).then(|manager, now| {
        for answer in 0..400 {
            let told = (0..100).map(|n| peer_at(answer * 100 + n + 10_000, &format!("60.{}.{}.1:1", answer % 250, n)));
            let _ = manager.add_answer(now, &id(9), told.collect());
        }
        // One source has 32 new buckets of 64.
        assert!(manager.book().len() <= 32 * 65, "{} of 40,000", manager.book().len());
    });
}

/// `Status`, `PeerRatio`, `HasMaxPeerCapacity`, `HasDialedMaxPeers`: one snapshot of counters.
#[test]
fn stats_answer_the_queries() {
    one_place(|_| {}).connected([1]).accepted([2]).told(2, [3]).persistent([4]).then(|manager, _| {
        let stats = manager.stats();
        assert_eq!((stats.outbound, stats.inbound, stats.dialing, stats.book), (1, 1, 1, 2));
        assert_eq!(manager.wanted(), 0);
    });
}
