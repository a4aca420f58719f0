//! Two nodes dial each other at the same moment, in every order in which the ends of the handshakes and the closes can reach them: one
//! connection stays, the same at both ends. One end is ours; the other ours too, or one that keeps the first (CometBFT, go-ethereum).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kadwire_discovery::Now;
use kadwire_wire::Blame;

use super::secs;
use crate::{
    book::{Book, BookConfig},
    candidate::{Candidate, Source},
    dial::tests::{address, id},
    peers::{Action, Config, ConnectionId, Event, PeerManager},
};

/// The two connections: each is named by the end that dialed it.
const ENDS: [usize; 2] = [0, 1];

/// What a stream brings to one end, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrives {
    HandshakeDone,
    Closed,
}

/// One of the two nodes.
enum End {
    /// Ours, its clock, and who it has heard is up.
    Ours { manager: Box<PeerManager>, now: Now, up: BTreeSet<u64>, flicker: usize },
    /// Keeps what it adds first and closes what comes second.
    FirstStays { kept: Option<usize> },
}

impl End {
    fn ours(own: u32, other: u32) -> Self {
        let mut manager = Box::new(PeerManager::new(Config::new(id(own)), Book::new(BookConfig::default())));
        let now = Now::read();
        manager.handle_timeout(now);
        manager.add(now, Candidate::new(address(other), Source::Discv4)).unwrap();
        assert_eq!(manager.poll_action(), Some(Action::Dial(address(other))));
        // It dials us at the same moment.
        manager.handle_incoming(now, ConnectionId(0), None).unwrap();
        End::Ours { manager, now, up: BTreeSet::new(), flicker: 0 }
    }
}

/// Both ends, and what is on its way.
struct Crossing {
    numbers: [u32; 2],
    ends: [End; 2],
    /// By end and connection.
    streams: BTreeMap<(usize, usize), VecDeque<Arrives>>,
    /// Which ends have which connections open.
    open: BTreeSet<(usize, usize)>,
}

impl Crossing {
    fn new(numbers: [u32; 2], first_stays: bool) -> Self {
        let ours = End::ours(numbers[0], numbers[1]);
        let theirs = if first_stays { End::FirstStays { kept: None } } else { End::ours(numbers[1], numbers[0]) };
        let streams = ENDS.iter().flat_map(|end| ENDS.map(|link| ((*end, link), [Arrives::HandshakeDone].into())));
        Crossing { numbers, ends: [ours, theirs], streams: streams.collect(), open: BTreeSet::new() }
    }

    /// What may happen next: something arrives, or an end's patience is over. One that closes of itself is not slower than that.
    fn possible(&self) -> Vec<Step> {
        let arrives = self.streams.iter().filter(|(_, stream)| !stream.is_empty());
        let mut steps: Vec<Step> = arrives.map(|((end, link), _)| Step::Arrives(*end, *link)).collect();
        let both_ours = self.ends.iter().all(|end| matches!(end, End::Ours { .. }));
        for (at, end) in self.ends.iter().enumerate() {
            let End::Ours { manager, now, .. } = end else { continue };
            let waits = manager.poll_timeout().is_some_and(|due| due <= now.after(secs(1)).monotonic);
            if waits && self.is_crossed(at) && (both_ours || steps.is_empty()) {
                steps.push(Step::Patience(at));
            }
        }
        steps
    }

    fn is_crossed(&self, end: usize) -> bool {
        ENDS.iter().all(|link| self.open.contains(&(end, *link)))
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Patience(end) => {
                let End::Ours { manager, now, .. } = &mut self.ends[end] else { unreachable!("only ours waits") };
                *now = now.after(secs(1));
                manager.handle_timeout(*now);
                self.drive(end);
            }
            Step::Arrives(end, link) => {
                let stream = self.streams.get_mut(&(end, link)).unwrap();
                match stream.pop_front().unwrap() {
                    Arrives::HandshakeDone => self.handshake_done(end, link),
                    Arrives::Closed if self.open.remove(&(end, link)) => self.closed(end, link),
                    Arrives::Closed => {}
                }
            }
        }
    }

    fn handshake_done(&mut self, end: usize, link: usize) {
        let (peer, dialed) = (self.numbers[1 - end], end == link);
        self.open.insert((end, link));
        let taken = match &mut self.ends[end] {
            End::Ours { manager, now, .. } => {
                // Handed out in the order of arrival at this end; 0 is the inbound one from the start.
                let connection = ConnectionId(u64::from(dialed));
                let taken = match dialed {
                    true => manager.handle_dialed(*now, connection, &address(peer), None),
                    false => manager.handle_accepted(*now, connection, id(peer), None),
                };
                if taken.is_ok() {
                    manager.handle_ready(connection);
                }
                taken.is_ok()
            }
            End::FirstStays { kept } => *kept.get_or_insert(link) == link,
        };
        if !taken {
            self.close(end, link);
        }
        self.drive(end);
    }

    fn closed(&mut self, end: usize, link: usize) {
        match &mut self.ends[end] {
            End::Ours { manager, now, .. } => {
                manager.handle_closed(*now, ConnectionId(u64::from(end == link)), Blame::Local);
            }
            End::FirstStays { kept } => *kept = kept.filter(|kept| *kept != link),
        }
        self.drive(end);
    }

    /// This end leaves, and the other hears of it.
    fn close(&mut self, end: usize, link: usize) {
        self.open.remove(&(end, link));
        self.streams.get_mut(&(1 - end, link)).unwrap().push_back(Arrives::Closed);
    }

    fn drive(&mut self, end: usize) {
        loop {
            let End::Ours { manager, up, flicker, .. } = &mut self.ends[end] else { return };
            while let Some(event) = manager.poll_event() {
                match event {
                    Event::Up { connection, .. } => assert!(up.insert(connection.0)),
                    Event::Down { connection, .. } => {
                        assert!(up.remove(&connection.0));
                        *flicker += 1;
                    }
                }
            }
            match manager.poll_action() {
                None => return,
                Some(Action::Close { connection, .. }) => {
                    let link = if connection.0 == 1 { end } else { 1 - end };
                    if self.open.contains(&(end, link)) {
                        self.close(end, link);
                        self.closed(end, link);
                    }
                }
                Some(other) => panic!("{other:?}"),
            }
        }
    }

    /// Nothing is under way: one connection is left, the same at both ends, and everybody knows of it.
    fn check(&self, story: &[Step]) {
        let links: BTreeSet<usize> = self.open.iter().map(|(_, link)| *link).collect();
        assert_eq!((self.open.len(), links.len()), (2, 1), "{:?} after {story:?}", self.open);
        let link = *links.first().unwrap();
        for (at, end) in self.ends.iter().enumerate() {
            match end {
                End::Ours { manager, up, flicker, .. } => {
                    let connection = u64::from(at == link);
                    assert_eq!(*up, [connection].into(), "up after {story:?}");
                    let standing = manager.peer(&id(self.numbers[1 - at])).map(|peer| peer.connection.0);
                    assert_eq!(standing, Some(connection));
                    assert!(*flicker <= 1, "{flicker} downs after {story:?}");
                    assert_eq!(manager.peers().count(), 1);
                }
                End::FirstStays { kept } => assert_eq!(*kept, Some(link)),
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrives(usize, usize),
    /// An end has waited for the other to say which one it keeps.
    Patience(usize),
}

/// Runs every order of what may happen, and returns how many there are.
fn every_order(numbers: [u32; 2], first_stays: bool) -> usize {
    let (mut path, mut orders) = (Vec::<usize>::new(), 0);
    loop {
        let (mut crossing, mut story, mut options) = (Crossing::new(numbers, first_stays), Vec::new(), Vec::new());
        loop {
            let steps = crossing.possible();
            if steps.is_empty() {
                break;
            }
            let at = story.len();
            if at == path.len() {
                path.push(0);
            }
            options.push(steps.len());
            story.push(steps[path[at]]);
            crossing.step(steps[path[at]]);
            assert!(story.len() < 50, "{story:?}");
        }
        crossing.check(&story);
        orders += 1;
        // The next path: the last choice that has another option takes it.
        while path.pop_if(|last| *last + 1 == options[path_len(&options)]).is_some() {
            options.pop();
        }
        match path.last_mut() {
            Some(last) => *last += 1,
            None => return orders,
        }
    }
}

fn path_len(options: &[usize]) -> usize {
    options.len() - 1
}

#[test]
fn two_of_ours_keep_the_same_one_in_every_order() {
    for numbers in [[1, 2], [2, 1]] {
        let orders = every_order(numbers, false);
        println!("{numbers:?}: {orders} orders");
        assert!(orders > 100);
    }
}

#[test]
fn one_that_keeps_the_first_and_ours_keep_the_same_one_in_every_order() {
    for numbers in [[1, 2], [2, 1]] {
        let orders = every_order(numbers, true);
        println!("{numbers:?}: {orders} orders");
        assert!(orders > 20);
    }
}
