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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Buckets {
    /// Its own key is the target: the sixteen closest to it.
    Closest,
    /// The closest were fewer than sixteen: perhaps that is all, perhaps an answer was cut short. The outermost bucket tells.
    Confirm {
        /// Where to go on if it was not all.
        from: u16,
    },
    /// Bucket by bucket outwards.
    Bucket {
        /// The log-distance asked for.
        distance: u16,
        /// The last one to ask for.
        last: u16,
    },
    /// Nothing left to ask.
    Done,
}

impl Buckets {
    /// The log-distance to put the target at; 0 for the node's own key.
    pub(crate) fn distance(&self) -> Option<u16> {
        match *self {
            Buckets::Closest => Some(0),
            Buckets::Confirm { .. } => Some(OUTERMOST),
            Buckets::Bucket { distance, .. } => Some(distance),
            Buckets::Done => None,
        }
    }

    /// Takes the answer to the current question: how many nodes it had, and the largest log-distance (to the node asked) among them.
    pub(crate) fn answered(self, count: usize, outermost: u16) -> Self {
        match self {
            Buckets::Closest if count < FULL => Buckets::Confirm { from: outermost.max(1) },
            Buckets::Closest => Self::from(outermost, OUTERMOST),
            Buckets::Confirm { .. } if count < FULL => Buckets::Done,
            Buckets::Confirm { from } => Self::from(from, OUTERMOST - 1),
            Buckets::Bucket { distance, last } => Self::from(outermost.max(distance + 1), last),
            Buckets::Done => Buckets::Done,
        }
    }

    /// Gives up the current question: the next one outwards.
    pub(crate) fn skipped(self) -> Self {
        match self {
            Buckets::Bucket { distance, last } => Self::from(distance + 1, last),
            Buckets::Confirm { from } => Self::from(from, OUTERMOST - 1),
            Buckets::Closest | Buckets::Done => Buckets::Done,
        }
    }

    fn from(distance: u16, last: u16) -> Self {
        if distance <= last { Buckets::Bucket { distance, last } } else { Buckets::Done }
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
                let (mut plan, mut heard, mut questions) = (Buckets::Closest, BTreeSet::new(), 0);
                while let Some(distance) = plan.distance() {
                    let target = if distance == 0 { key } else { targets.at(&own, distance).unwrap() };
                    let answer = closest(&table, &target);
                    plan =
                        plan.answered(answer.len(), answer.iter().map(|id| id.log_distance(&own)).max().unwrap_or(0));
                    heard.extend(answer);
                    questions += 1;
                }
                assert_eq!(heard, table.iter().copied().collect(), "network of {network}: all of the table");
                assert!(questions <= most, "network of {network}: {questions} questions");
            }
        }
    }

    #[test]
    fn an_answer_cut_short_by_a_lost_packet_is_noticed() {
        // Twelve instead of sixteen came, up to distance 252. The outermost bucket is full, so there is more.
        let plan = Buckets::Closest.answered(12, 252);
        assert_eq!(plan, Buckets::Confirm { from: 252 });
        assert_eq!(plan.answered(16, 256), Buckets::Bucket { distance: 252, last: 255 });
    }

    #[test]
    fn a_question_without_answer_is_passed_over() {
        let plan = Buckets::Bucket { distance: 255, last: 256 };
        assert_eq!(plan.skipped(), Buckets::Bucket { distance: 256, last: 256 });
        assert_eq!(plan.skipped().skipped(), Buckets::Done);
        assert_eq!(Buckets::Closest.skipped(), Buckets::Done);
    }
}
