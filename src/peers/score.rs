//! What a peer is worth: the operator's fixed score, else what the reactors reported about it, less its failed dials (ADR-062).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use kadwire_wire::address::PeerId;

/// The worth of a peer. Higher is better; a full node gives the place of a peer only to one with a strictly higher score.
pub type Score = i32;

/// The score of persistent peers (ADR-062: 32767).
pub(crate) const PERSISTENT: Score = 32_767;

/// No failures make a score lower than this (ADR-062).
pub(crate) const LOWEST: Score = -32_768;

/// Reports about one peer cannot raise it to the score of a persistent one.
const MAX_REPORTED: Score = PERSISTENT - 1;

/// Peers whose reports are remembered. When full, the one nearest to nothing is forgotten.
const MAX_REMEMBERED: usize = 4_096;

/// What a reactor thinks of a peer after dealing with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// It was useful: score +1.
    Good,
    /// It was of little use: score −1.
    Bad,
    /// It broke the rules: closed, banned for 24 h, its address kept back.
    Misbehaved,
}

/// The scores that reports and the operator gave.
#[derive(Debug, Default)]
pub(crate) struct Scores {
    fixed: BTreeMap<PeerId, Score>,
    reported: BTreeMap<PeerId, Score>,
    /// All known scores, best first; the same peers as in `fixed` and `reported`.
    ranked: BTreeSet<(Reverse<Score>, PeerId)>,
}

impl Scores {
    pub(crate) fn new(fixed: BTreeMap<PeerId, Score>) -> Self {
        let ranked = fixed.iter().map(|(id, score)| (Reverse(*score), *id)).collect();
        Scores { fixed, reported: BTreeMap::new(), ranked }
    }

    /// Raises or lowers what is thought of a peer. A fixed score does not move.
    pub(crate) fn adjust(&mut self, id: PeerId, by: Score) {
        if self.fixed.contains_key(&id) {
            return;
        }
        let old = self.reported.remove(&id).unwrap_or(0);
        self.ranked.remove(&(Reverse(old), id));
        let score = old.saturating_add(by).clamp(LOWEST, MAX_REPORTED);
        if score == 0 {
            return;
        }
        if self.reported.len() >= MAX_REMEMBERED {
            self.forget_one();
        }
        self.reported.insert(id, score);
        self.ranked.insert((Reverse(score), id));
    }

    fn forget_one(&mut self) {
        let least = self.reported.iter().min_by_key(|(_, score)| score.unsigned_abs()).map(|(id, score)| (*id, *score));
        if let Some((id, score)) = least {
            self.reported.remove(&id);
            self.ranked.remove(&(Reverse(score), id));
        }
    }

    /// The operator's score for a peer.
    pub(crate) fn fixed(&self, id: &PeerId) -> Option<Score> {
        self.fixed.get(id).copied()
    }

    /// The score without persistence and failures; 0 for a peer nobody spoke of.
    pub(crate) fn of(&self, id: &PeerId) -> Score {
        self.fixed.get(id).or_else(|| self.reported.get(id)).copied().unwrap_or(0)
    }

    /// Known scores, best first.
    pub(crate) fn ranked(&self) -> impl Iterator<Item = (PeerId, Score)> + '_ {
        self.ranked.iter().map(|(Reverse(score), id)| (*id, *score))
    }

    /// The best known score.
    pub(crate) fn best(&self) -> Option<Score> {
        self.ranked.first().map(|(Reverse(score), _)| *score)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.ranked.len(), self.fixed.len() + self.reported.len());
        self.reported.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial::tests::id;

    #[test]
    fn reports_move_a_score_within_its_bounds_and_a_fixed_one_stays() {
        let mut scores = Scores::new([(id(9), 50)].into());
        for (peer, by, score) in [
            (1, 1, 1),
            (1, 1, 2),
            (1, -3, -1),
            (1, Score::MAX, MAX_REPORTED),
            (1, Score::MIN, LOWEST),
            (9, -1, 50),
            (9, 100, 50),
        ] {
            scores.adjust(id(peer), by);
            assert_eq!(scores.of(&id(peer)), score, "peer {peer} after {by}");
        }
        assert_eq!(scores.ranked().collect::<Vec<_>>(), [(id(9), 50), (id(1), LOWEST)]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_extremes_stay() {
        let mut scores = Scores::default();
        scores.adjust(id(0), 10);
        for n in 1..=MAX_REMEMBERED as u32 + 10 {
            scores.adjust(id(n), -1);
        }
        assert_eq!((scores.len(), scores.of(&id(0))), (MAX_REMEMBERED, 10));
    }
}
