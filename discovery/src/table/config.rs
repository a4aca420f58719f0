//! Sizes, times and rules of a table, and the two that have a name: go-ethereum's (the default) and the C++
//! `NodeTable`'s.

use std::time::Duration;

use super::subnet_limit::SubnetLimits;

/// How it is found out that a node which was alive has died. A node that has never answered, or not from the endpoint it
/// has now, is checked soon in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revalidation {
    /// All are checked, one at random at a time, and sooner if they missed a check (go-ethereum's fast and slow lists).
    FastSlow {
        /// Longest pause between two checks of nodes that passed their last; 9 s (go-ethereum
        /// `slowRevalidationFactor` 3).
        slow: Duration,
    },
    /// Nobody is checked before somebody else wants the place. Then the node of the full bucket that was silent for
    /// longest is pinged: silence makes place for the newcomer, an answer makes it the most recent, and the newcomer
    /// waits outside (textbook Kademlia, and what the C++ `NodeTable` meant).
    PingOldest,
}

/// How a table looks for nodes that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshing {
    /// By lookups: of ourselves and of three random targets (go-ethereum `doRefresh`).
    Lookups {
        /// Longest time from one refresh to the next, drawn from the upper half; 30 min (go-ethereum
        /// `RefreshInterval`). Shorter for a young or lonely node.
        interval: Duration,
    },
    /// By short runs towards one random target each (C++ `doDiscover`). A round asks up to alpha nodes, not asked
    /// before, of the bucket size nearest to the target that the table has by then.
    Runs {
        /// From the end of one run to the start of the next; 7.2 s (C++ `c_bucketRefresh`).
        pause: Duration,
        /// Rounds of a run at most; 8, the binary logarithm of the 256 distances (C++ `s_maxSteps`).
        rounds: u32,
        /// Longest wait for the answers of a round; 600 ms, twice the C++ time-out of a request.
        round: Duration,
    },
}

/// Sizes, times and rules of a table. The default is go-ethereum's of today; [`TableConfig::cpp_ethereum`] is the other.
///
/// | | default | `cpp_ethereum` |
/// |---|---|---|
/// | buckets of 16 | 17, the first for everything close | 256: one for every distance |
/// | looks around | for itself and 3 random targets, every 15 to 30 min | for one random target, every 7.2 s |
/// | pings | everybody in turn, one each 4.5 s | the oldest of a full bucket, when somebody wants its place |
/// | forgets | who misses its checks | who is silent and has a successor, or answers no `findnode` |
/// | dead entries 5 min after half of 100 nodes have gone | 0 % | 10 %, and 0 % after 20 min |
/// | sends, in a quiet network of 100 | 2,100 packets an hour | 25,500 packets an hour |
///
/// The default is right for nearly everybody: a twelfth of the traffic, and the dead are found sooner. The C++ table
/// suits a small or private network where packets cost nothing: its steady runs reach every region again and again,
/// whoever looks for itself or not, and it has a bucket for the closest. Its preference for old nodes has no bound:
/// that is a defence, but newcomers to a full bucket stay outside for as long as the old ones answer.
///
/// Both find exactly the closest nodes in the same simulations; the figures are printed by
/// `cargo test -p kadwire-discovery --test discv4_convergence -- --nocapture`.
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
    /// it one of the others. Of the places of one network they get the same part ([`SubnetLimits`]). In a bucket without
    /// nodes of the internet those from a LAN get all of it, unless [`SubnetLimits::lan`]. go-ethereum has no such rule. The
    /// bucket size switches it off.
    pub inbound: usize,
    /// How many of them may share a network.
    pub subnet_limits: SubnetLimits,
    /// Longest pause between two checks of new or doubtful nodes; 3 s (go-ethereum `PingInterval`).
    pub fast_check: Duration,
    /// How dead nodes are found.
    pub revalidation: Revalidation,
    /// A node that answered this recently is not checked: it would prove nothing; 1 s. Without this a node that has
    /// just bonded can get a second ping at once.
    pub check_not_within: Duration,
    /// How new nodes are found.
    pub refreshing: Refreshing,
    /// `findnode` failures in a row at which a node goes, if its bucket stays usable; 5 (go-ethereum
    /// `maxFindnodeFailures`).
    pub find_failures: u32,
    /// Checks missed in a row at which a node that was alive goes even if nobody can replace it; 3. go-ethereum
    /// deletes at the first where no checks are left, so that one lost packet can empty a bucket.
    pub misses: u32,
    /// Requests of one lookup in flight, or of one round; 3.
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
            revalidation: Revalidation::FastSlow { slow: Duration::from_secs(9) },
            check_not_within: Duration::from_secs(1),
            refreshing: Refreshing::Lookups { interval: Duration::from_secs(30 * 60) },
            find_failures: 5,
            misses: 3,
            alpha: super::lookup::ALPHA,
            attempts: 2,
        }
    }
}

impl TableConfig {
    /// The table of the C++ `NodeTable` (cpp-ethereum 1.4, later aleth): a bucket for every distance, a run of discovery
    /// every 7.2 s, and old nodes preferred to new ones.
    ///
    /// The rule of eviction is the one that its comments describe; its code dropped the newcomer whatever the old node
    /// did. On purpose not as it was:
    ///
    /// - The limits of subnets and of nodes that only contacted us stay: keys are free, and without limits whoever has many
    ///   owns the table.
    /// - A node whose `findnode` fails 5 times goes, or is pinged if its bucket is small. A bucket that nobody else wants
    ///   would keep its dead for ever.
    /// - A round ends with its last answer, not always after 600 ms; a node is asked to prove its endpoint when it is in
    ///   its bucket, not before, and others are told of it only then.
    /// - The bootnodes are asked again when nobody else is left, as with every other start from nothing.
    ///
    /// Only runs are limited to 8 rounds. A lookup that somebody asks for goes on until it has found the closest.
    ///
    /// The commands use the default; this is for those who build a node of their own:
    ///
    /// ```
    /// # use kadwire_discovery::{Config, SecretKey, table::TableConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut config = Config::new(SecretKey::from_bytes(&[1; 32])?, "127.0.0.1:0".parse()?);
    /// config.table = TableConfig::cpp_ethereum();
    /// # Ok(())
    /// # }
    /// ```
    pub fn cpp_ethereum() -> TableConfig {
        TableConfig {
            buckets: 256,
            // The one that waits for the oldest's answer.
            replacements: 1,
            revalidation: Revalidation::PingOldest,
            refreshing: Refreshing::Runs {
                pause: Duration::from_millis(7200),
                rounds: 8,
                round: Duration::from_millis(600),
            },
            ..TableConfig::default()
        }
    }
}
