//! Lookup targets that point at a chosen bucket of somebody else's table.
//!
//! FindNode carries a 64-byte target and the answer is ordered by distance to its keccak256 (discv4 spec, "FindNode Packet"). To ask a node
//! for its bucket `d` one needs a target whose hash has log-distance `d` to that node's id, and a hash can only be searched for. So many
//! targets are hashed once and kept in the order of their hashes; the one wanted is then found by its first bits.

use kadwire_discovery::NodeId;

/// A set of targets dense enough for every bucket that a real table fills.
#[derive(Debug, Clone)]
pub(super) struct Targets {
    /// (first 32 bits of the hash, number of the target), ascending.
    by_hash: Vec<(u32, u32)>,
}

/// 2^15 targets leave a given prefix of 11 bits (log-distance 246) empty once in e^16 cases. Deeper buckets are never asked for below half a
/// million nodes: a node's sixteen closest come from its own key as the target. Costs 15 ms and 256 KiB.
const COUNT: u32 = 1 << 15;

impl Targets {
    /// Hashes the targets.
    pub(super) fn new() -> Self {
        let mut by_hash: Vec<_> =
            (0..COUNT).map(|number| (prefix(&NodeId::of_target(&target(number))), number)).collect();
        by_hash.sort_unstable();
        Targets { by_hash }
    }

    /// A target whose hash has exactly log-distance `distance` (1–256) to `of`; `None` for a bucket so close that no target falls into it.
    pub(super) fn at(&self, of: &NodeId, distance: u16) -> Option<[u8; 64]> {
        let equal_bits = 256_u16.checked_sub(distance).filter(|&bits| bits < 32)?;
        // The wanted hashes begin like `of`, differ in the bit after, and are free from there on.
        let differing = 1_u32 << (31 - equal_bits);
        let low = (prefix(of) ^ differing) & !(differing - 1);
        let start = self.by_hash.partition_point(|&(hash, _)| hash < low);
        let &(hash, number) = self.by_hash.get(start)?;
        (hash <= low | (differing - 1)).then(|| target(number))
    }
}

fn target(number: u32) -> [u8; 64] {
    let mut bytes = *b"kadwire crawl: a lookup target, need not be a point of the curve";
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn prefix(id: &NodeId) -> u32 {
    let [a, b, c, d, ..] = id.0;
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_lands_in_the_bucket_it_was_chosen_for() {
        let targets = Targets::new();
        for start in 0..50_u8 {
            let node = NodeId::of_target(&[start; 64]);
            for distance in 246..=256 {
                let target = targets.at(&node, distance).expect("dense down to 246");
                assert_eq!(NodeId::of_target(&target).log_distance(&node), distance);
            }
        }
    }

    #[test]
    fn a_bucket_out_of_reach_has_none() {
        let targets = Targets::new();
        let node = NodeId([0; 32]);
        assert_eq!(targets.at(&node, 0), None);
        assert_eq!(targets.at(&node, 200), None);
        assert_eq!(targets.at(&node, 257), None);
        assert_eq!(targets.at(&NodeId([0xff; 32]), 225), None, "beyond the last hash");
    }
}
