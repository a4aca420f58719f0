//! Whose unchecked addresses are visited next. Sources take turns, whoever brings many. A source is doubtful if it told more false than true,
//! or if it never told anything true and we are trying a few of its addresses right now: it waits while others do not, and has less room.

use std::collections::{HashMap, VecDeque};

use kadwire_wire::{PeerAddress, PeerId};

/// Unchecked addresses that one source may have waiting: those of one answer.
const MAX_WAITING_OF_SOURCE: usize = 100;

/// Unchecked addresses that may wait in all: as many as the book has places.
const MAX_WAITING: usize = 20_480;

/// Visits at once to addresses of a source that was never right, before it is doubtful: two dials into the void hold up little.
const UNPROVEN_AT_ONCE: usize = 2;

/// Of so many turns, doubtful sources get one while others wait.
const DOUBTFUL_TURN: u32 = 8;

/// Addresses over which a source is judged; then both counts are halved, so that it can better itself.
const JUDGED_OVER: u32 = 64;

#[derive(Debug, Default)]
struct Source {
    waiting: VecDeque<PeerAddress>,
    in_flight: usize,
    good: u32,
    bad: u32,
    /// It stands in one of the rings.
    has_turn: bool,
    /// It is no peer any more, and is forgotten with its last address here.
    is_gone: bool,
}

impl Source {
    fn is_doubtful(&self) -> bool {
        self.bad > self.good || (self.good == 0 && self.in_flight >= UNPROVEN_AT_ONCE)
    }
}

/// Whom to visit.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) source: PeerId,
    pub(super) address: PeerAddress,
    pub(super) is_doubtful: bool,
    /// Its source was never right, or is doubtful.
    pub(super) is_unproven: bool,
}

#[derive(Debug, Default)]
pub(super) struct Sources {
    sources: HashMap<PeerId, Source>,
    trusted: VecDeque<PeerId>,
    doubtful: VecDeque<PeerId>,
    turn: u32,
    waiting: usize,
}

impl Sources {
    /// How many more addresses `source` may have waiting.
    pub(super) fn room_of(&self, source: &PeerId) -> usize {
        let waiting = self.sources.get(source).map_or(0, |source| source.waiting.len());
        MAX_WAITING_OF_SOURCE.saturating_sub(waiting).min(MAX_WAITING.saturating_sub(self.waiting))
    }

    pub(super) fn put(&mut self, source: PeerId, address: PeerAddress) {
        let known = self.sources.entry(source).or_default();
        known.waiting.push_back(address);
        known.is_gone = false;
        self.waiting += 1;
        self.line_up(source);
    }

    /// The next address, of a doubtful source only if there is room for that. What became of it must be told to [`Self::judge`].
    pub(super) fn take(&mut self, doubtful_too: bool) -> Option<Taken> {
        self.turn = self.turn.wrapping_add(1);
        let doubtful_first = self.turn.is_multiple_of(DOUBTFUL_TURN) || self.trusted.is_empty();
        let is_doubtful = doubtful_too && doubtful_first && !self.doubtful.is_empty();
        let ring = if is_doubtful { &mut self.doubtful } else { &mut self.trusted };
        let id = ring.pop_front()?;
        let source = self.sources.get_mut(&id)?;
        source.has_turn = false;
        let is_unproven = is_doubtful || source.good == 0;
        let address = source.waiting.pop_front()?;
        source.in_flight += 1;
        self.waiting -= 1;
        self.line_up(id);
        Some(Taken { source: id, address, is_doubtful, is_unproven })
    }

    /// An address that [`Self::take`] gave was true or false; `None` if nobody looked.
    pub(super) fn judge(&mut self, id: &PeerId, was_true: Option<bool>) {
        let Some(source) = self.sources.get_mut(id) else { return };
        source.in_flight = source.in_flight.saturating_sub(1);
        match was_true {
            Some(true) => source.good += 1,
            Some(false) => source.bad += 1,
            None => {}
        }
        if source.good + source.bad > JUDGED_OVER {
            source.good /= 2;
            source.bad /= 2;
        }
        if source.is_gone {
            self.forget(id);
        }
    }

    fn line_up(&mut self, id: PeerId) {
        if let Some(source) = self.sources.get_mut(&id)
            && !source.has_turn
            && !source.waiting.is_empty()
        {
            source.has_turn = true;
            if source.is_doubtful() { self.doubtful.push_back(id) } else { self.trusted.push_back(id) }
        }
    }

    /// Forgets what a source's word is worth, as soon as it has no more addresses here.
    pub(super) fn forget(&mut self, id: &PeerId) {
        let Some(source) = self.sources.get_mut(id) else { return };
        source.is_gone = true;
        if source.waiting.is_empty() && source.in_flight == 0 {
            self.sources.remove(id);
        }
    }

    /// Addresses that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    #[cfg(test)]
    pub(super) fn assert_bounds(&self) {
        let waiting: usize = self.sources.values().map(|source| source.waiting.len()).sum();
        assert_eq!(waiting, self.waiting);
        assert!(waiting <= MAX_WAITING);
        let in_rings = self.sources.values().filter(|source| source.has_turn).count();
        assert_eq!(in_rings, self.trusted.len() + self.doubtful.len());
        let stuck = |source: &Source| source.waiting.is_empty() == source.has_turn;
        assert!(!self.sources.values().any(stuck));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial::tests::{address, id};

    /// Identities are free: what is known of those who told of addresses must not pile up when they are gone.
    #[test]
    fn a_source_that_is_gone_is_forgotten_with_its_last_address() {
        let (mut sources, liar) = (Sources::default(), id(1));
        for visited in [Some(false), None] {
            [2, 3].into_iter().for_each(|n| sources.put(liar, address(n)));
            let first = sources.take(true).unwrap();
            sources.forget(&liar);
            assert_eq!(sources.take(true).unwrap().address, address(3), "what it told of is visited all the same");
            sources.judge(&first.source, visited);
            assert_eq!(sources.sources.len(), 1, "one visit is under way");
            sources.judge(&liar, visited);
            assert!(sources.sources.is_empty());
        }
        // Who is back before that stays known for what it told.
        sources.put(liar, address(2));
        sources.take(true).unwrap();
        sources.forget(&liar);
        sources.put(liar, address(3));
        sources.judge(&liar, Some(false));
        sources.take(true).unwrap();
        sources.judge(&liar, None);
        assert_eq!(sources.sources[&liar].bad, 1);
        sources.assert_bounds();
    }
}
