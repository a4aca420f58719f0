//! Who is likely to have signed what comes from an address: whoever signed what came from there before.
//!
//! To check a signature against a key costs less than to find the key, and an address has one node, nearly always. Only a
//! second packet in a row makes a signer likely: who changes identities to make us guess wrong, and so do both, needs two
//! packets of one identity for each.

use std::{net::SocketAddr, num::NonZeroUsize};

use lru::LruCache;

use crate::discv4::packet::Signer;

/// Addresses remembered, those heard of last: some 200 bytes each.
const MAX_ADDRESSES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

pub(super) struct Signers(LruCache<SocketAddr, Last>);

struct Last {
    signer: Signer,
    /// It signed two in a row.
    is_likely: bool,
}

impl Default for Signers {
    fn default() -> Self {
        Self(LruCache::new(MAX_ADDRESSES))
    }
}

impl Signers {
    /// Who signed the next packet from there, most likely.
    pub(super) fn likely(&mut self, from: SocketAddr) -> Option<Signer> {
        self.0.get(&from).filter(|last| last.is_likely).map(|last| last.signer)
    }

    /// It was this one.
    pub(super) fn learn(&mut self, from: SocketAddr, signer: Signer) {
        let is_likely = self.0.peek(&from).is_some_and(|last| last.signer == signer);
        self.0.put(from, Last { signer, is_likely });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    #[test]
    fn two_in_a_row_make_a_signer_likely() {
        let signer = |number| Signer::from(*SecretKey::from_bytes(&[number; 32]).unwrap().public());
        let (here, there) = (SocketAddr::from(([1, 1, 1, 1], 1)), SocketAddr::from(([1, 1, 1, 1], 2)));
        let mut signers = Signers::default();
        let mut likely_after = |from, number| {
            signers.learn(from, signer(number));
            signers.likely(from)
        };
        assert_eq!(likely_after(here, 1), None);
        assert_eq!(likely_after(here, 1), Some(signer(1)));
        assert_eq!(likely_after(there, 2), None, "another port is another node");
        // In turns, nobody is likely.
        assert_eq!(likely_after(here, 2), None);
        assert_eq!(likely_after(here, 1), None);
        assert_eq!(likely_after(here, 2), None);
        assert_eq!(likely_after(here, 2), Some(signer(2)));
    }

    #[test]
    fn so_many_addresses_are_remembered() {
        let signer = Signer::from(*SecretKey::from_bytes(&[1; 32]).unwrap().public());
        let mut signers = Signers::default();
        for port in 0..=u16::MAX {
            signers.learn(([1, 1, 1, 1], port).into(), signer);
        }
        assert_eq!(signers.0.len(), MAX_ADDRESSES.get());
    }
}
