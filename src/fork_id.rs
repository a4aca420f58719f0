//! Which chain an Ethereum node is on, as its record says: fork identifiers (EIP-2124, with the forks by time of EIP-6122).
//!
//! A node that serves `eth` puts `[[hash, next]]` into its record (pair `eth`): the checksum of the genesis block and all forks that
//! have passed, and the next one it knows of. Whoever compares that with its own chain before it dials does not dial other chains.
//! [`Forks::filter`] is such a [record filter](crate::node::NodeBuilder::with_record_filter).
//!
//! ```
//! use kadwire::fork_id::{ForkId, Forks, Head};
//!
//! let mainnet = Forks::mainnet();
//! let (homestead, remote) = (Head { block: 1_150_000, time: 0 }, ForkId { hash: [0x97, 0xc2, 0xc3, 0x4c], next: 1_920_000 });
//! assert_eq!(mainnet.id(homestead), remote);
//! assert!(mainnet.check(homestead, remote).is_ok());
//! ```

use kadwire_discovery::{Enr, NodeRecord};
use rlp::{Rlp, RlpStream};

/// The key of the pair in a node's record (devp2p, `enr-entries/eth.md`).
pub const ENTRY: &str = "eth";

/// A larger `next` is a time, in seconds since 1970, a smaller one a block: the time of mainnet's genesis block (EIP-6122).
const FIRST_TIME: u64 = 1_438_269_973;

/// A fork identifier: which rules a node follows now, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForkId {
    /// CRC-32 (IEEE) of the genesis hash and the forks passed, each as 8 bytes, big-endian.
    pub hash: [u8; 4],
    /// Block or time (in seconds since 1970) of the next fork that the node knows of; 0 for none.
    pub next: u64,
}

impl ForkId {
    /// What a record's pair `eth` says; `None` if it is absent or malformed. Further elements, for the future, are passed over.
    pub fn of(record: &Enr) -> Option<Self> {
        let id = Rlp::new(record.get(ENTRY.as_bytes())?).at(0).ok()?;
        let hash = id.at(0).ok()?.data().ok()?.try_into().ok()?;
        Some(ForkId { hash, next: id.val_at(1).ok()? })
    }

    /// The value of the pair `eth`, as RLP: `[[hash, next]]`.
    pub fn entry(&self) -> Vec<u8> {
        let mut entry = RlpStream::new_list(1);
        entry.begin_list(2).append(&self.hash.as_slice()).append(&self.next);
        entry.out().to_vec()
    }
}

/// How far a chain has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Number of its last block.
    pub block: u64,
    /// That block's time, in seconds since 1970.
    pub time: u64,
}

/// A chain's forks, and the checksums after each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forks {
    /// Those by block in ascending order, then those by time.
    forks: Vec<u64>,
    /// How many of them are by block.
    by_block: usize,
    /// Before the first fork, after it, after the second one, …
    hashes: Vec<[u8; 4]>,
}

impl Forks {
    /// The forks of a chain, in any order; those of the genesis block itself (block 0, or no later than its time) do not count, and
    /// several at once count as one.
    pub fn new(
        genesis_hash: [u8; 32],
        genesis_time: u64,
        by_block: impl IntoIterator<Item = u64>,
        by_time: impl IntoIterator<Item = u64>,
    ) -> Self {
        let after = |first: u64, forks: &mut dyn Iterator<Item = u64>| {
            let mut forks: Vec<_> = forks.filter(|fork| *fork > first).collect();
            forks.sort_unstable();
            forks.dedup();
            forks
        };
        let mut forks = after(0, &mut by_block.into_iter());
        let by_block = forks.len();
        forks.extend(after(genesis_time, &mut by_time.into_iter()));
        let mut checksum = crc32(0, &genesis_hash);
        let mut hashes = vec![checksum.to_be_bytes()];
        for fork in &forks {
            checksum = crc32(checksum, &fork.to_be_bytes());
            hashes.push(checksum.to_be_bytes());
        }
        Forks { forks, by_block, hashes }
    }

    /// Ethereum's main network, from Homestead to the second blob parameter fork (January 2026; go-ethereum v1.17.10, `params/config.go`).
    pub fn mainnet() -> Self {
        const GENESIS: [u8; 32] = [
            0xd4, 0xe5, 0x67, 0x40, 0xf8, 0x76, 0xae, 0xf8, 0xc0, 0x10, 0xb8, 0x6a, 0x40, 0xd5, 0xf5, 0x67, 0x45, 0xa1,
            0x18, 0xd0, 0x90, 0x6a, 0x34, 0xe6, 0x9a, 0xec, 0x8c, 0x0d, 0xb1, 0xcb, 0x8f, 0xa3,
        ];
        const BY_BLOCK: [u64; 12] = [
            1_150_000, 1_920_000, 2_463_000, 2_675_000, 4_370_000, 7_280_000, 9_069_000, 9_200_000, 12_244_000,
            12_965_000, 13_773_000, 15_050_000,
        ];
        const BY_TIME: [u64; 6] =
            [1_681_338_455, 1_710_338_135, 1_746_612_311, 1_764_798_551, 1_765_290_071, 1_767_747_671];
        // The genesis block of the main network has the time 0.
        Forks::new(GENESIS, 0, BY_BLOCK, BY_TIME)
    }

    /// The test network Sepolia, from the fork of the merge to Amsterdam (October 2026; go-ethereum v1.17.10, `params/chainspecs`).
    pub fn sepolia() -> Self {
        const GENESIS: [u8; 32] = [
            0x25, 0xa5, 0xcc, 0x10, 0x6e, 0xea, 0x71, 0x38, 0xac, 0xab, 0x33, 0x23, 0x1d, 0x71, 0x60, 0xd6, 0x9c, 0xb7,
            0x77, 0xee, 0x0c, 0x2c, 0x55, 0x3f, 0xcd, 0xdf, 0x51, 0x38, 0x99, 0x3e, 0x6d, 0xd9,
        ];
        const BY_TIME: [u64; 7] =
            [1_677_557_088, 1_706_655_072, 1_741_159_776, 1_760_427_360, 1_761_017_184, 1_761_607_008, 1_791_294_816];
        Forks::new(GENESIS, 1_633_267_481, [1_735_371], BY_TIME)
    }

    /// The test network Hoodi, from Prague to the second blob parameter fork (November 2025; go-ethereum v1.17.10, `params/chainspecs`).
    pub fn hoodi() -> Self {
        const GENESIS: [u8; 32] = [
            0xbb, 0xe3, 0x12, 0x86, 0x8b, 0x37, 0x6a, 0x30, 0x01, 0x69, 0x2a, 0x64, 0x6d, 0xd2, 0xd7, 0xd1, 0xe4, 0x40,
            0x63, 0x80, 0xdf, 0xd8, 0x6b, 0x98, 0xaa, 0x8a, 0x34, 0xd1, 0x55, 0x7c, 0x97, 0x1b,
        ];
        Forks::new(GENESIS, 1_742_212_800, [], [1_742_999_832, 1_761_677_592, 1_762_365_720, 1_762_955_544])
    }

    /// What a node of this chain says of itself at `head`.
    pub fn id(&self, head: Head) -> ForkId {
        let passed = self.passed(head);
        ForkId {
            hash: self.hashes.get(passed).copied().unwrap_or_default(),
            next: self.forks.get(passed).copied().unwrap_or(0),
        }
    }

    /// Whether a node with that identifier may be on this chain, seen from `head` (EIP-2124, "Validation rules").
    pub fn check(&self, head: Head, remote: ForkId) -> Result<(), Incompatible> {
        let passed = self.passed(head);
        match self.hashes.iter().position(|hash| *hash == remote.hash) {
            // Rule 1: the same rules now. A fork that we have gone past without it is another chain.
            Some(at) if at == passed => match self.is_past(head, passed, remote.next) {
                true => Err(Incompatible::OtherChain),
                false => Ok(()),
            },
            // Rule 2: it is behind, and must know the fork that comes next there.
            Some(at) if at < passed => match self.forks.get(at) == Some(&remote.next) {
                true => Ok(()),
                false => Err(Incompatible::Stale),
            },
            // Rule 3: we are behind, on the way to where it is.
            Some(_) => Ok(()),
            None => Err(Incompatible::OtherChain),
        }
    }

    /// A filter that lets those be dialed whose record has an identifier that passes [`Forks::check`], where `head` says how far our
    /// chain has come. Whoever gives none is not dialed.
    pub fn filter(
        self,
        head: impl Fn() -> Head + Send + Sync + 'static,
    ) -> impl Fn(&NodeRecord) -> bool + Send + Sync + 'static {
        move |record| {
            let remote = record.enr().and_then(ForkId::of);
            remote.is_some_and(|remote| self.check(head(), remote).is_ok())
        }
    }

    /// How many forks have passed. One by time does not count before all by block have.
    fn passed(&self, head: Head) -> usize {
        let has_passed = |(at, fork): (usize, &u64)| *fork <= if at < self.by_block { head.block } else { head.time };
        self.forks.iter().enumerate().take_while(|fork| has_passed(*fork)).count()
    }

    /// Whether we are past a fork that we do not know. It is by block while the next one of ours is, or when we have none by time; a
    /// number that can only be a time is one in any case.
    fn is_past(&self, head: Head, passed: usize, next: u64) -> bool {
        let only_blocks = self.by_block == self.forks.len();
        let ours = if only_blocks || passed < self.by_block { head.block } else { head.time };
        next > 0 && (ours >= next || (next > FIRST_TIME && head.time >= next))
    }
}

/// Why a node is not on our chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incompatible {
    /// It is behind, and does not know the fork that it will come to.
    #[error("remote needs update")]
    Stale,
    /// It is on another chain; or it is ahead, past a fork that we do not know.
    #[error("local incompatible or needs update")]
    OtherChain,
}

/// CRC-32 as in IEEE 802.3, going on from `crc`. A few dozen bytes at a time: no table.
fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    /// The polynomial, lowest power first.
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.iter().fold(!crc, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use kadwire_discovery::SecretKey;
    use proptest::prelude::*;

    use super::*;

    fn id(hash: u32, next: u64) -> ForkId {
        ForkId { hash: hash.to_be_bytes(), next }
    }

    fn head(block: u64, time: u64) -> Head {
        Head { block, time }
    }

    /// Up to Petersburg, as EIP-2124 has it.
    fn petersburg() -> Forks {
        let mainnet = Forks::mainnet();
        Forks { forks: mainnet.forks[..6].to_vec(), by_block: 6, hashes: mainnet.hashes[..7].to_vec() }
    }

    /// Up to Gray Glacier, the last fork by block.
    fn gray_glacier() -> Forks {
        let mainnet = Forks::mainnet();
        Forks { forks: mainnet.forks[..12].to_vec(), by_block: 12, hashes: mainnet.hashes[..13].to_vec() }
    }

    #[test]
    fn the_checksum_is_the_well_known_one() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), 0xcbf4_3926);
    }

    /// EIP-2124, "Test cases", mainnet.
    #[test]
    fn the_identifiers_of_mainnet_up_to_petersburg() {
        for (block, expected) in [
            (0, id(0xfc64_ec04, 1_150_000)),
            (1_149_999, id(0xfc64_ec04, 1_150_000)),
            (1_150_000, id(0x97c2_c34c, 1_920_000)),
            (1_919_999, id(0x97c2_c34c, 1_920_000)),
            (1_920_000, id(0x91d1_f948, 2_463_000)),
            (2_462_999, id(0x91d1_f948, 2_463_000)),
            (2_463_000, id(0x7a64_da13, 2_675_000)),
            (2_674_999, id(0x7a64_da13, 2_675_000)),
            (2_675_000, id(0x3edd_5b10, 4_370_000)),
            (4_369_999, id(0x3edd_5b10, 4_370_000)),
            (4_370_000, id(0xa00b_c324, 7_280_000)),
            (7_279_999, id(0xa00b_c324, 7_280_000)),
            (7_280_000, id(0x668d_b0af, 0)),
            (7_987_396, id(0x668d_b0af, 0)),
        ] {
            assert_eq!(petersburg().id(head(block, 0)), expected, "{block}");
        }
    }

    /// go-ethereum v1.17.10, `core/forkid/forkid_test.go`, `TestCreation`.
    #[test]
    fn the_identifiers_of_later_forks_and_of_forks_by_time() {
        let mainnet = Forks::mainnet();
        for (block, time, expected) in [
            (9_068_999, 0, id(0x668d_b0af, 9_069_000)),
            (9_069_000, 0, id(0x879d_6e30, 9_200_000)),
            (9_200_000, 0, id(0xe029_e991, 12_244_000)),
            (12_244_000, 0, id(0x0eb4_40f6, 12_965_000)),
            (12_965_000, 0, id(0xb715_077d, 13_773_000)),
            (13_773_000, 0, id(0x20c3_27fc, 15_050_000)),
            (15_050_000, 0, id(0xf0af_d0e3, 1_681_338_455)),
            (20_000_000, 1_681_338_454, id(0xf0af_d0e3, 1_681_338_455)),
            (20_000_000, 1_681_338_455, id(0xdce9_6c2d, 1_710_338_135)),
            (30_000_000, 1_710_338_135, id(0x9f3d_2254, 1_746_612_311)),
            (30_000_000, 1_746_612_311, id(0xc376_cf8b, 1_764_798_551)),
            (30_000_000, 1_764_798_551, id(0x5167_e2a6, 1_765_290_071)),
            (30_000_000, 1_765_290_071, id(0xcba2_a1c0, 1_767_747_671)),
            (30_000_000, 1_767_747_670, id(0xcba2_a1c0, 1_767_747_671)),
            (50_000_000, 2_000_000_000, id(0x07c9_462e, 0)),
        ] {
            assert_eq!(mainnet.id(head(block, time)), expected, "{block}, {time}");
        }
    }

    /// go-ethereum v1.17.10, `core/forkid/forkid_test.go`, `TestCreation`: the first and the last identifier have all forks in them.
    #[test]
    fn the_identifiers_of_the_test_networks() {
        for (forks, block, time, expected) in [
            (Forks::sepolia(), 0, 0, id(0xfe33_66e7, 1_735_371)),
            (Forks::sepolia(), 1_735_371, 0, id(0xb96c_bd13, 1_677_557_088)),
            (Forks::sepolia(), 1_735_372, 2_000_000_000, id(0x6c1d_9423, 0)),
            (Forks::hoodi(), 0, 0, id(0xbef7_1d30, 1_742_999_832)),
            (Forks::hoodi(), 123, 2_000_000_000, id(0x23aa_1351, 0)),
        ] {
            assert_eq!(forks.id(head(block, time)), expected, "{block}, {time}");
        }
    }

    /// EIP-2124, "Test cases", validation; the case numbers of its comments' rules are ours.
    #[test]
    fn who_is_on_our_chain_by_block() {
        use Incompatible::{OtherChain, Stale};
        for (block, remote, expected) in [
            // The same rules, no fork announced, or one that is far away.
            (7_987_396, id(0x668d_b0af, 0), Ok(())),
            (7_987_396, id(0x668d_b0af, u64::MAX), Ok(())),
            // We know of Petersburg, it does not, or it does, or it has another date for it; none of us is there yet.
            (7_279_999, id(0xa00b_c324, 0), Ok(())),
            (7_279_999, id(0xa00b_c324, 7_280_000), Ok(())),
            (7_279_999, id(0xa00b_c324, u64::MAX), Ok(())),
            // It is behind and knows what comes.
            (7_280_000, id(0xa00b_c324, 7_280_000), Ok(())),
            (7_987_396, id(0xa00b_c324, 7_280_000), Ok(())),
            (7_987_396, id(0x3edd_5b10, 4_370_000), Ok(())),
            // We are behind.
            (7_279_999, id(0x668d_b0af, 0), Ok(())),
            (4_369_999, id(0xa00b_c324, 0), Ok(())),
            // It is behind and does not know what comes.
            (7_987_396, id(0xa00b_c324, 0), Err(Stale)),
            // It is past a fork that we do not know.
            (7_987_396, id(0x5cdd_c0e1, 0), Err(OtherChain)),
            (7_279_999, id(0x5cdd_c0e1, 0), Err(OtherChain)),
            // Rinkeby.
            (7_987_396, id(0xafec_6b27, 0), Err(OtherChain)),
            // We are past a fork of its that we do not know.
            (88_888_888, id(0x668d_b0af, 88_888_888), Err(OtherChain)),
            (7_279_999, id(0xa00b_c324, 7_279_999), Err(OtherChain)),
        ] {
            assert_eq!(petersburg().check(head(block, 0), remote), expected, "{block}, {remote:x?}");
        }
    }

    /// go-ethereum v1.17.10, `core/forkid/forkid_test.go`, `TestValidation`: from forks by block to forks by time, and among the latter.
    #[test]
    fn who_is_on_our_chain_by_time() {
        use Incompatible::{OtherChain, Stale};
        let mainnet = Forks::mainnet();
        let after = |hash: u32| crc32(hash, &u64::MAX.to_be_bytes());
        for (block, time, remote, expected) in [
            (15_050_000, 0, id(0xf0af_d0e3, 0), Ok(())),
            (15_050_000, 0, id(0xf0af_d0e3, 1_681_338_455), Ok(())),
            (15_050_000, 0, id(0xf0af_d0e3, u64::MAX), Ok(())),
            (20_000_000, 1_681_338_455, id(0xf0af_d0e3, 1_681_338_455), Ok(())),
            (20_123_456, 1_681_338_456, id(0xf0af_d0e3, 1_681_338_455), Ok(())),
            (20_000_000, 1_681_338_455, id(0x20c3_27fc, 15_050_000), Ok(())),
            (15_050_000, 0, id(0xdce9_6c2d, 0), Ok(())),
            (13_773_000, 0, id(0xf0af_d0e3, 0), Ok(())),
            (20_000_000, 1_681_338_455, id(0xf0af_d0e3, 0), Err(Stale)),
            (15_050_000, 0, id(after(0xf0af_d0e3), 0), Err(OtherChain)),
            (15_050_000, 0, id(after(0xdce9_6c2d), 0), Err(OtherChain)),
            (888_888_888, 1_660_000_000, id(0xf0af_d0e3, 1_660_000_000), Err(OtherChain)),
            (19_999_999, 1_667_999_999, id(0xf0af_d0e3, 1_667_999_999), Err(OtherChain)),
            (20_000_000, 1_681_338_455, id(0xdce9_6c2d, 0), Ok(())),
            (20_000_000, 1_681_338_455, id(0xdce9_6c2d, u64::MAX), Ok(())),
            (20_000_000, 1_668_000_000, id(0xdce9_6c2d, 1_710_338_135), Ok(())),
            (21_000_000, 1_710_338_135, id(0xdce9_6c2d, 1_710_338_135), Ok(())),
            (0, 0, id(0x3edd_5b10, 1_710_338_135), Ok(())),
            (21_000_000, 1_700_000_000, id(0x9f3d_2254, 0), Ok(())),
            (21_000_000, 1_678_000_000, id(0xc376_cf8b, 0), Ok(())),
            (21_000_000, 1_710_338_135, id(0xdce9_6c2d, 0), Err(Stale)),
            (20_000_000, 1_681_338_455, id(after(0xdce9_6c2d), 0), Err(OtherChain)),
            (20_000_000, 1_681_338_455, id(0x1234_5678, 0), Err(OtherChain)),
            (88_888_888, 8_888_888_888, id(0x07c9_462e, 8_888_888_888), Err(OtherChain)),
            (20_999_999, 1_699_999_999, id(0x7114_7644, 1_700_000_000), Err(OtherChain)),
        ] {
            assert_eq!(mainnet.check(head(block, time), remote), expected, "{block}, {time}, {remote:x?}");
        }
        // Without forks by time, a fork far in the future stays one by block.
        let same = id(0xf0af_d0e3, 88_888_888);
        assert_eq!(gray_glacier().check(head(88_888_888, 0), same), Err(OtherChain));
        assert_eq!(gray_glacier().check(head(15_050_000, 0), id(0xf0af_d0e3, u64::MAX)), Ok(()));
    }

    /// go-ethereum, `TestTimeBasedForkInGenesis`.
    #[test]
    fn forks_of_the_genesis_block_do_not_count() {
        let (genesis, time) = ([7; 32], 1_690_475_657);
        let alone = Forks::new(genesis, time, [], []);
        let hash = crc32(0, &genesis);
        assert_eq!(alone.id(head(0, time)), id(hash, 0));
        assert_eq!(Forks::new(genesis, time, [0, 0], [time - 1, time]), alone);
        assert_eq!(Forks::new(genesis, time, [0], [time, time + 1, time + 1]).id(head(0, time)), id(hash, time + 1));
    }

    fn record(value: &[u8]) -> Enr {
        let builder = Enr::builder(1).ip(Ipv4Addr::LOCALHOST).udp(30303).tcp(30303).pair(ENTRY, value).unwrap();
        builder.sign(&SecretKey::from_bytes(&[1; 32]).unwrap()).unwrap()
    }

    /// The encodings are go-ethereum's (`TestEncoding`), in the list that the pair's value is.
    #[test]
    fn the_pair_travels_in_a_record() {
        for (id, inner) in [
            (id(0, 0), &[0xc6, 0x84, 0, 0, 0, 0, 0x80][..]),
            (id(0xdead_beef, 0xbadd_cafe), &[0xca, 0x84, 0xde, 0xad, 0xbe, 0xef, 0x84, 0xba, 0xdd, 0xca, 0xfe]),
            (id(u32::MAX, u64::MAX), &[&[0xce, 0x84][..], &[0xff; 4], &[0x88], &[0xff; 8]].concat()),
        ] {
            assert_eq!(id.entry(), [&[0xc0 + inner.len() as u8][..], inner].concat());
            assert_eq!(ForkId::of(&record(&id.entry())), Some(id));
            // What the future adds is passed over.
            let more = [&[0xc1 + inner.len() as u8][..], inner, &[0x05]].concat();
            assert_eq!(ForkId::of(&record(&more)), Some(id));
        }
        for malformed in [&[0x80][..], &[0xc0], &[0xc1, 0xc0], &[0xc6, 0xc5, 0x83, 1, 2, 3, 0x80], &[0xc1, 0x05]] {
            assert_eq!(ForkId::of(&record(malformed)), None, "{malformed:x?}");
        }
    }

    #[test]
    fn a_filter_lets_only_those_of_our_chain_be_dialed() {
        let mainnet = Forks::mainnet();
        let now = head(30_000_000, 1_800_000_000);
        let (ours, filter) = (mainnet.id(now), mainnet.filter(move || now));
        let node = |enr: Enr| NodeRecord::from_enr(enr).unwrap();
        assert!(filter(&node(record(&ours.entry()))));
        assert!(!filter(&node(record(&id(0x1234_5678, 0).entry()))));
        assert!(!filter(&node(record(&[0xc0]))));
        let unsigned = node(record(&ours.entry()));
        assert!(!filter(&NodeRecord::new(*unsigned.key(), unsigned.ip(), 1, 1).unwrap()), "its chain is not known");
    }

    proptest! {
        #[test]
        fn any_value_is_an_identifier_or_none(elements: Vec<u8>) {
            prop_assume!(elements.len() < 56);
            let value = [&[0xc0 + elements.len() as u8][..], &elements].concat();
            let _ = ForkId::of(&record(&value));
        }

        #[test]
        fn a_node_is_always_on_its_own_chain(block: u64, time: u64, other_block: u64, other_time: u64) {
            let mainnet = Forks::mainnet();
            let (here, there) = (head(block, time), head(other_block, other_time));
            prop_assert!(mainnet.check(here, mainnet.id(here)).is_ok());
            // A node that knows all forks, wherever it is on the chain.
            prop_assert!(mainnet.check(here, mainnet.id(there)).is_ok());
        }
    }
}
