//! The lifecycle of ADR-062, row by row. Where it has sets (dialing, connected, ready, evict, evicting), this has one state a peer; *upgrading*
//! is no state of the peer that may have to leave: who leaves is looked for again when the better one is there. *Evict* is *evicting* at once.

use kadwire_wire::Blame;

use super::{OWN, Rounds, secs};
use crate::{
    dial::{
        WhyNot,
        tests::{address, id},
    },
    peers::{Because, Config, ConnectionId, Report, Slots, State},
};

/// Where a peer is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Disconnected,
    Dialing,
    Connected,
    Ready,
    Evicting,
}
use Life::*;

fn life(rounds: &Rounds, n: u32) -> Life {
    match rounds.manager.connection_state(&id(n)) {
        Some(State::Closing) => Evicting,
        Some(State::Connected | State::Held) => Connected,
        Some(State::Ready) => Ready,
        None if rounds.manager.is_dialing(&id(n)) => Dialing,
        None => Disconnected,
    }
}

type Step = fn(Rounds) -> Rounds;

/// A peer with a higher score than all others.
const BETTER: u32 = 9;

/// A connection that the test itself makes.
const LATER: ConnectionId = ConnectionId(77);

/// What happens to peer 1, and its life before and after.
const TRANSITIONS: &[(&str, &[(Step, Life)])] = &[
    (
        "outbound",
        &[
            (|r| r, Disconnected),
            (|r| r.discovered([1]), Dialing),
            (|r| r.dialed([1]).expect_up([1]), Ready),
            (|r| r.closed([1]).expect_down([1]), Disconnected),
        ],
    ),
    (
        "connected first, ready once its queues are there",
        &[
            (|r| r.discovered([1]), Dialing),
            (
                |r| {
                    r.then(|m, now| m.handle_dialed(now, LATER, &address(1), address(1).socket_addr()).unwrap())
                        .expect_up([])
                },
                Connected,
            ),
            (|r| r.then(|m, _| m.handle_ready(LATER)).expect_up([1]), Ready),
            (|r| r.then(|m, _| m.handle_ready(LATER)).expect_up([]), Ready),
            (|r| r.then(|m, now| m.handle_closed(now, LATER, Blame::Local)).expect_down([1]), Disconnected),
        ],
    ),
    (
        "dial fails",
        &[
            (|r| r.persistent([1]), Dialing),
            (|r| r.failed([1]), Disconnected),
            (|r| r.after(secs(1)), Disconnected), // the retry delay
            (|r| r.after(secs(2)), Dialing),
            (|r| r.failed_by([1], Blame::Incompatible), Disconnected),
            (|r| r.after(secs(299)), Disconnected), // no sense in trying soon
            (|r| r.after(secs(2)), Dialing),
        ],
    ),
    ("inbound", &[(|r| r.accepted([1]).expect_up([1]), Ready), (|r| r.closed([1]).expect_down([1]), Disconnected)]),
    (
        "evicted for an error",
        &[
            (|r| r.connected([1]), Ready),
            (
                |r| {
                    r.then(|m, now| m.report(now, &id(1), Report::Misbehaved)).expect_closes([(1, Because::Misbehaved)])
                },
                Evicting,
            ),
            // Messages that were under way make nothing of it.
            (|r| r.then(|m, now| m.report(now, &id(1), Report::Misbehaved)).expect_closes([]), Evicting),
            (|r| r.closed([1]).expect_down([1]), Disconnected),
        ],
    ),
    (
        "evicted for a better one",
        &[
            (|r| r.accepted([1, 2]), Ready),
            (|r| r.accepted([50]).accepted([51]).expect_refused(WhyNot::NoSlots), Ready),
            (|r| r.then(|m, now| m.report(now, &id(1), Report::Bad)).accepted([51]), Evicting),
            (|r| r.closed([1]).expect_peers([2, 50, 51]), Disconnected),
        ],
    ),
    (
        "a better one is dialed for its place",
        &[
            (|r| r.connected([1]).told(1, [BETTER]).expect_dials([BETTER]), Ready),
            (|r| r.failed([BETTER]), Ready), // its place is its own again
            (|r| r.after(secs(60)).expect_dials([BETTER]), Ready),
            (|r| r.dialed([BETTER]).expect_closes([(1, Because::Evicted)]), Evicting),
            (|r| r.closed([1]).expect_peers([BETTER]), Disconnected),
        ],
    ),
    (
        "it leaves by itself while a better one is dialed",
        &[
            (|r| r.connected([1]).told(1, [BETTER]).expect_dials([BETTER]), Ready),
            (|r| r.closed([1]), Disconnected),
            (|r| r.dialed([BETTER]).expect_taken().expect_closes([]), Disconnected),
        ],
    ),
    (
        "the end, and the cool-down of 2 s",
        &[
            (|r| r.persistent([1]).dialed([1]).after(secs(60)), Ready),
            (|r| r.closed([1]), Disconnected),
            (|r| r.after(secs(1)), Disconnected),
            (|r| r.after(secs(1)), Dialing),
        ],
    ),
    (
        "connected from the other side while dialing",
        &[
            (|r| r.discovered([1]), Dialing),
            (|r| r.accepted([1]), Ready),
            (|r| r.failed([1]), Ready), // our own dial came too late
        ],
    ),
    (
        "an answer to a dial that is no more",
        &[
            (|r| r.discovered([1]).failed([1]), Disconnected),
            (|r| r.dialed([1]).expect_refused(WhyNot::Stale), Disconnected),
        ],
    ),
    (
        "a connection's end is told twice",
        &[
            (|r| r.connected([1]), Ready),
            (|r| r.closed([1]).expect_down([1]), Disconnected),
            (|r| r.then(|m, now| m.handle_closed(now, ConnectionId(2), Blame::Local)).expect_down([]), Disconnected),
        ],
    ),
];

#[test]
fn every_transition_of_adr_062() {
    for (name, steps) in TRANSITIONS {
        let slots = Slots { inbound: 3, outbound: 1, upgrade: 1, ..Slots::default() };
        let mut rounds = Rounds::with(slots, |config| config.scores = [(id(BETTER), 10)].into());
        for (at, (step, after)) in steps.iter().enumerate() {
            rounds = step(rounds);
            assert_eq!(life(&rounds, 1), *after, "{name}, step {at}");
        }
    }
}

#[test]
fn a_peer_that_never_got_ready_is_told_to_nobody() {
    Rounds::new(Slots::default())
        .discovered([1])
        .then(|manager, now| {
            assert_eq!(manager.handle_dialed(now, LATER, &address(1), address(1).socket_addr()), Ok(()));
            manager.handle_closed(now, LATER, Blame::Local);
        })
        .expect_up([])
        .expect_down([]);
}

#[test]
fn refusals_of_adr_062() {
    // Dialed: full. Accepted: self, already connected, full.
    let rows: &[(&str, Step, WhyNot)] = &[
        ("self", |r| r.accepted([OWN]), WhyNot::SelfId),
        ("already connected", |r| r.accepted([1, 1]), WhyNot::AlreadyConnected),
        ("full", |r| r.accepted([1, 2]), WhyNot::NoSlots),
        ("dialed, full", |r| r.discovered([1, 2]).dialed([1, 2]), WhyNot::NoSlots),
        ("cool-down", |r| r.accepted([1]).closed([1]).discovered([1]), WhyNot::CoolingDown),
        ("dialing", |r| r.discovered([1, 1]), WhyNot::AlreadyDialing),
        ("history", |r| r.discovered([1]).failed([1]).discovered([1]), WhyNot::RecentlyDialed),
        (
            "back-off",
            |r| r.discovered([1]).failed_by([1], Blame::Malformed).after(secs(36)).discovered([1]),
            WhyNot::BackingOff,
        ),
        ("queued", |r| r.discovered([1, 2, 3, 3]), WhyNot::AlreadyQueued),
    ];
    for (name, happens, why) in rows {
        println!("{name}");
        happens(Rounds::with(Slots { inbound: 1, outbound: 1, ..Slots::default() }, |_: &mut Config| {}))
            .expect_refused(*why);
    }
}
