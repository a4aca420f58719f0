//! Which part of one node's table to ask for next.
//!
//! A node answers FindNode with the sixteen of its table closest to a target. Seen from the node itself, a target in its bucket `d` brings
//! first all of bucket `d`, then everything closer than `d`, then `d + 1`, and so on outwards. So an answer that reaches out to distance `m`
//! proves that everything below `m` has been told, and the buckets from `m` to 256 are left to ask: about log2(nodes / 16) + 2 questions a node
//! instead of seventeen.

/// Entries in a full answer, and in a full bucket (discv4 spec, "FindNode Packet": k = 16).
pub(crate) const FULL: usize = 16;

/// The outermost bucket, half of the address space.
const OUTERMOST: u16 = 256;

/// The questions for one node. Starts with its closest neighbours.
///
/// Sixteen are the least that a table of more than sixteen tells. Fewer mean that a datagram was lost, or that the answer names nodes that
/// are no news to anybody (ourselves) or that nobody may speak of; so such a question is put a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Buckets {
    /// Its own key is the target: the sixteen closest to it.
    Closest {
        /// Asked for the second time.
        again: bool,
    },
    /// The closest were fewer than sixteen: perhaps that is all, perhaps an answer was cut short. The outermost bucket tells.
    Confirm {
        /// Asked for the second time.
        again: bool,
    },
    /// Bucket by bucket outwards.
    Bucket {
        /// The log-distance asked for.
        distance: u16,
        /// Asked for the second time.
        again: bool,
    },
    /// Nothing left to ask.
    Done,
}

/// What an answer brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Nodes in it.
    pub(crate) count: usize,
    /// Those that this node had not told before.
    pub(crate) news: usize,
    /// Nodes that it has told by now.
    pub(crate) all: usize,
    /// The largest log-distance, to the node asked, among them.
    pub(crate) outermost: u16,
}

impl Buckets {
    /// The log-distance to put the target at; 0 for the node's own key.
    pub(crate) fn distance(&self) -> Option<u16> {
        match *self {
            Buckets::Closest { .. } => Some(0),
            Buckets::Confirm { .. } => Some(OUTERMOST),
            Buckets::Bucket { distance, .. } => Some(distance),
            Buckets::Done => None,
        }
    }

    /// Takes the answer to the current question.
    pub(crate) fn answered(self, told: Told) -> Self {
        let is_full = told.count >= FULL;
        match self {
            Buckets::Closest { again: false } if !is_full => Buckets::Confirm { again: false },
            Buckets::Closest { .. } => Self::from(told.outermost.max(1)),
            Buckets::Confirm { .. } if told.news > 0 => Buckets::Closest { again: true },
            Buckets::Confirm { again: false } if told.count < told.all => Buckets::Confirm { again: true },
            Buckets::Confirm { .. } => Buckets::Done,
            Buckets::Bucket { distance, .. } if is_full => Self::from(told.outermost.max(distance + 1)),
            Buckets::Bucket { distance, again: false } => Buckets::Bucket { distance, again: true },
            Buckets::Bucket { distance, again: true } => Self::from(distance + 1),
            Buckets::Done => Buckets::Done,
        }
    }

    /// Gives up the current question: the next one outwards.
    pub(crate) fn skipped(self) -> Self {
        match self {
            Buckets::Bucket { distance, .. } => Self::from(distance + 1),
            Buckets::Confirm { .. } => Buckets::Closest { again: true },
            Buckets::Closest { .. } | Buckets::Done => Buckets::Done,
        }
    }

    fn from(distance: u16) -> Self {
        if distance <= OUTERMOST { Buckets::Bucket { distance, again: false } } else { Buckets::Done }
    }
}

#[cfg(test)]
mod tests {
    use super::super::targets::Targets;
    use super::*;
    use kadwire_discovery::NodeId;
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use std::collections::BTreeSet;

    /// A table like go-ethereum's: buckets 240–256 and everything closer in one, sixteen entries each.
    fn table(rng: &mut StdRng, own: &NodeId, network: usize) -> Vec<NodeId> {
        let mut fill = [0; 257];
        let ids: Vec<NodeId> = (0..network).map(|_| NodeId(rng.random())).collect();
        ids.into_iter()
            .filter(|id| {
                let bucket = id.log_distance(own).max(240) as usize;
                fill[bucket] += 1;
                fill[bucket] <= FULL
            })
            .collect()
    }

    fn closest(table: &[NodeId], target: &[u8; 64]) -> Vec<NodeId> {
        let target = NodeId::of_target(target);
        let mut all = table.to_vec();
        all.sort_by_key(|id| id.distance(&target));
        all.truncate(FULL);
        all
    }

    /// What an answer brings to somebody who has heard so much.
    fn tell(own: &NodeId, heard: &mut BTreeSet<NodeId>, answer: &[NodeId]) -> Told {
        let outermost = answer.iter().map(|id| id.log_distance(own)).max().unwrap_or(0);
        let news = answer.iter().filter(|id| heard.insert(**id)).count();
        Told { count: answer.len(), news, all: heard.len(), outermost }
    }

    #[test]
    fn a_whole_table_is_told_in_few_questions() {
        let targets = Targets::new();
        let mut rng = StdRng::seed_from_u64(5);
        for (network, most, times) in
            [(0, 2, 1), (1, 2, 5), (15, 2, 5), (16, 3, 5), (40, 4, 20), (300, 8, 20), (5_000, 12, 3), (60_000, 16, 1)]
        {
            for _ in 0..times {
                let key: [u8; 64] = std::array::from_fn(|_| rng.random());
                let own = NodeId::of_target(&key);
                let table = table(&mut rng, &own, network);
                let (mut plan, mut heard, mut questions) = (Buckets::Closest { again: false }, BTreeSet::new(), 0);
                while let Some(distance) = plan.distance() {
                    let target = if distance == 0 { key } else { targets.at(&own, distance).unwrap() };
                    plan = plan.answered(tell(&own, &mut heard, &closest(&table, &target)));
                    questions += 1;
                }
                assert_eq!(heard, table.iter().copied().collect(), "network of {network}: all of the table");
                assert!(questions <= most, "network of {network}: {questions} questions");
            }
        }
    }

    /// Of two datagrams, twelve nodes and four, one is lost, whichever: of any answer, of one in three. And one node of a table is nobody
    /// that we take: ourselves.
    #[test]
    fn answers_cut_short_cost_questions_but_no_nodes() {
        let targets = Targets::new();
        let mut rng = StdRng::seed_from_u64(6);
        for network in [1, 12, 17, 20, 31, 40, 300, 5_000] {
            for lost in 0..20 {
                let key: [u8; 64] = std::array::from_fn(|_| rng.random());
                let own = NodeId::of_target(&key);
                let table = table(&mut rng, &own, network);
                let (us, others) = table.split_last().unwrap();
                let (mut plan, mut heard, mut questions) = (Buckets::Closest { again: false }, BTreeSet::new(), 0);
                while let Some(distance) = plan.distance() {
                    let target = if distance == 0 { key } else { targets.at(&own, distance).unwrap() };
                    let mut answer = closest(&table, &target);
                    if questions % 3 == lost % 3 {
                        _ = if lost % 2 == 0 {
                            answer.drain(..answer.len().min(12))
                        } else {
                            answer.drain(answer.len().min(12)..)
                        };
                    }
                    answer.retain(|id| id != us);
                    plan = plan.answered(tell(&own, &mut heard, &answer));
                    questions += 1;
                }
                assert_eq!(heard, others.iter().copied().collect(), "network of {network}, {lost}: all of the table");
            }
        }
    }

    #[test]
    fn a_question_without_answer_is_passed_over() {
        let plan = Buckets::Bucket { distance: 255, again: false };
        assert_eq!(plan.skipped(), Buckets::Bucket { distance: 256, again: false });
        assert_eq!(plan.skipped().skipped(), Buckets::Done);
        assert_eq!(Buckets::Closest { again: false }.skipped(), Buckets::Done);
    }
}
