//! Sizes and times of a table.

use std::time::Duration;

use super::subnet_limit::SubnetLimits;

/// Sizes and times of a table; the default is go-ethereum's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// Buckets, at most 256: one for each of the largest log distances, everything closer in the first. 17
    /// (go-ethereum `nBuckets`): a network of a million nodes never meets a distance below 236.
    pub buckets: usize,
    /// Nodes in a bucket, and in the result of a lookup (Kademlia's k); 16.
    pub bucket_size: usize,
    /// Nodes a full bucket keeps to replace failing ones; 10 (go-ethereum `maxReplacements`).
    pub replacements: usize,
    /// Nodes of a bucket that may be there only because they contacted us; 8, half of it. The other half, and all
    /// replacements, are for nodes that our own lookups have found: whoever pings us chooses when and with which keys
    /// (Marcus, Heilman, Goldberg 2018), while a lookup goes where we choose. A lookup that finds an inbound node makes
    /// it one of the others. go-ethereum has no such rule. The bucket size switches it off.
    pub inbound: usize,
    /// How many of them may share a network.
    pub subnet_limits: SubnetLimits,
    /// Longest pause between two checks of new or doubtful nodes; 3 s (go-ethereum `PingInterval`).
    pub fast_check: Duration,
    /// Longest pause between two checks of the others; 9 s (go-ethereum `slowRevalidationFactor` 3).
    pub slow_check: Duration,
    /// A node that answered this recently is not checked: it would prove nothing; 1 s. Without this a node that has
    /// just bonded can get a second ping at once.
    pub check_not_within: Duration,
    /// Longest time from one refresh to the next, drawn from the upper half; 30 min (go-ethereum `RefreshInterval`).
    pub refresh: Duration,
    /// `findnode` failures in a row at which a node goes, if its bucket stays usable; 5 (go-ethereum
    /// `maxFindnodeFailures`).
    pub find_failures: u32,
    /// Checks missed in a row at which a node that was alive goes even if nobody can replace it; 3. go-ethereum
    /// deletes at the first where no checks are left, so that one lost packet can empty a bucket.
    pub misses: u32,
    /// Requests of one lookup in flight; 3.
    pub alpha: usize,
    /// Times a lookup asks a node that does not answer; 2. One lost packet in a hundred would otherwise cost every
    /// sixth lookup one of its sixteen nodes.
    pub attempts: u32,
}

impl Default for TableConfig {
    fn default() -> TableConfig {
        TableConfig {
            buckets: 17,
            bucket_size: 16,
            replacements: 10,
            inbound: 8,
            subnet_limits: SubnetLimits::default(),
            fast_check: Duration::from_secs(3),
            slow_check: Duration::from_secs(9),
            check_not_within: Duration::from_secs(1),
            refresh: Duration::from_secs(30 * 60),
            find_failures: 5,
            misses: 3,
            alpha: super::lookup::ALPHA,
            attempts: 2,
        }
    }
}
