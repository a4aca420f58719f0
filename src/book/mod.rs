//! The address book: which peers we know of, how good they proved, and whom we keep away. A machine without clock and files; a
//! [`Snapshot`] is what goes to disk, in CometBFT's `addrbook.json`.
//!
//! Addresses that we were told of are *new*, those that we reached are *old*; both live in bounded [buckets](self) chosen by a keyed hash of
//! networks, so that nobody can fill the book from few networks. It is not the dialer: whether an address may be tried now is
//! [`dial`](crate::dial)'s business. Facts: CometBFT `p2p/pex/addrbook.go`; where this differs, the code says why.

mod bag;
mod bans;
mod buckets;
mod crowds;
mod entry;
pub mod file;
mod group;
mod selection;
mod slots;
mod sources;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use data_encoding::HEXLOWER;
use kadwire_wire::address::{Host, PeerAddress, PeerId};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

pub use entry::Origin;
pub use file::Snapshot;
pub use group::Group;

use crate::time::FOR_EVER;

use bans::Bans;
use buckets::{Buckets, MAX_BUCKETS_PER_ADDRESS, Placement};
use entry::{Entry, Kind};

/// What the book must be told once.
#[derive(Clone, Debug)]
pub struct BookConfig {
    /// Keep only addresses that the internet can reach (CometBFT, `addr_book_strict`): on in public networks, off in private ones.
    pub strict: bool,
    /// Peers whose addresses are neither kept nor passed on, and who are not listened to (CometBFT, `private_peer_ids`).
    pub private: BTreeSet<PeerId>,
    /// Where randomness starts, the placement key of a new book included: take it from the operating system, or the buckets can be guessed.
    pub seed: u64,
}

impl Default for BookConfig {
    /// Strict.
    fn default() -> Self {
        BookConfig { strict: true, private: BTreeSet::new(), seed: 0 }
    }
}

/// Below this many addresses, peers are asked for more (CometBFT, `needAddressThreshold`).
const NEED_ADDRESSES: usize = 1_000;

/// Bytes of the placement key (CometBFT: 12, as 24 hex characters).
const KEY_BYTES: usize = 12;

/// The address book. See the module's documentation.
#[derive(Debug)]
pub struct Book {
    config: BookConfig,
    key: String,
    buckets: Buckets,
    bans: Bans,
    own_ids: BTreeSet<PeerId>,
    own_sockets: BTreeSet<SocketAddr>,
    rng: StdRng,
    changes: u64,
}

impl Book {
    /// An empty book with a new placement key.
    pub fn new(config: BookConfig) -> Self {
        let mut rng = StdRng::seed_from_u64(config.seed);
        let mut key = [0; KEY_BYTES];
        rng.fill_bytes(&mut key);
        Book::with_key(config, HEXLOWER.encode(&key), rng)
    }

    fn with_key(config: BookConfig, key: String, rng: StdRng) -> Self {
        let buckets = Buckets::new(Placement::new(&key, config.strict));
        let (own_ids, own_sockets) = (BTreeSet::new(), BTreeSet::new());
        Book { config, key, buckets, bans: Bans::default(), own_ids, own_sockets, rng, changes: 0 }
    }

    /// This node's identity and the addresses it is known to listen on, which are never kept.
    pub fn add_own(&mut self, id: PeerId, sockets: impl IntoIterator<Item = SocketAddr>) {
        self.own_ids.insert(id);
        self.own_sockets.extend(sockets);
        let own = |entry: &&Entry| entry.address.socket_addr().is_some_and(|socket| self.own_sockets.contains(&socket));
        let kept: Vec<PeerId> = self.buckets.slots().iter().filter(own).map(|entry| entry.address.id()).collect();
        for id in kept.iter().chain([&id]) {
            self.buckets.remove(id);
        }
    }

    /// Keeps an address that somebody told us of. One peer has one address: another claim replaces it only once it failed;
    /// one that we reached, after ten failures in seven days.
    pub fn add(&mut self, now: SystemTime, address: &PeerAddress, origin: &Origin) -> Result<Added, NotAdded> {
        self.may_keep(now, address)?;
        if self.config.private.contains(&origin.id) {
            return Err(NotAdded::PrivateSource);
        }
        let id = address.id();
        match self.buckets.get(&id) {
            Some(known) if known.address != *address && !known.gives_way(now) => return Ok(Added::Known),
            Some(known) if known.address != *address => {
                self.buckets.remove(&id);
            }
            Some(known) => {
                let places = known.buckets.len();
                // The more places it has, the less likely it gets one more: 1/2, 1/4, 1/6 (CometBFT).
                if known.kind == Kind::New
                    && places < MAX_BUCKETS_PER_ADDRESS
                    && self.rng.random_range(0..2 * places) == 0
                {
                    let bucket = self.buckets.placement().new_bucket(address, origin);
                    self.buckets.insert_again(now, &id, bucket);
                    self.changes += 1;
                }
                return Ok(Added::Known);
            }
            None => {}
        }
        self.buckets.insert(now, Entry::new(now, address.clone(), *origin));
        self.changes += 1;
        Ok(Added::New)
    }

    /// Whether an address would be kept, whoever told us of it.
    pub(crate) fn may_keep(&self, now: SystemTime, address: &PeerAddress) -> Result<(), NotAdded> {
        if self.bans.contains(now, &address.id()) {
            return Err(NotAdded::Banned);
        }
        if self.config.private.contains(&address.id()) {
            return Err(NotAdded::Private);
        }
        if self.own_ids.contains(&address.id())
            || address.socket_addr().is_some_and(|socket| self.own_sockets.contains(&socket))
        {
            return Err(NotAdded::Own);
        }
        match address.host() {
            Host::Name(_) => Err(NotAdded::Name),
            Host::Memory if self.config.strict => Err(NotAdded::NotRoutable),
            Host::Memory => Ok(()),
            Host::Ip(ip) if group::is_special(*ip) => Err(NotAdded::Special),
            Host::Ip(ip) if self.config.strict && !group::is_routable(*ip) => Err(NotAdded::NotRoutable),
            Host::Ip(_) => Ok(()),
        }
    }

    /// Notes that dialing an address failed.
    pub fn mark_attempt(&mut self, now: SystemTime, address: &PeerAddress) {
        let id = address.id();
        if self.address_of(&id) == Some(address) {
            self.buckets.update(&id, |entry| entry.mark_attempt(now));
            self.changes += 1;
        }
    }

    /// Notes that a known peer proved good: its address becomes old.
    pub fn mark_good(&mut self, now: SystemTime, id: &PeerId) {
        if self.buckets.update(id, |entry| entry.mark_good(now)) {
            self.buckets.promote(now, id);
            self.changes += 1;
        }
    }

    /// Notes that we reached a peer at this address, whoever told us of it: it is kept, in place of any other claim, and becomes old.
    pub fn mark_reached(&mut self, now: SystemTime, address: &PeerAddress) {
        if self.may_keep(now, address).is_err() {
            return;
        }
        let id = address.id();
        match self.buckets.get(&id) {
            Some(known) if known.address == *address => {}
            known => {
                if known.is_some() {
                    self.buckets.remove(&id);
                }
                let origin = Origin { id, socket: address.socket_addr() };
                self.buckets.insert_old(now, Entry::new(now, address.clone(), origin));
            }
        }
        self.mark_good(now, &id);
    }

    /// Keeps a peer away for a time; an earlier ban that ends later stays. Its address is tried again afterwards.
    pub fn mark_bad(&mut self, now: SystemTime, id: &PeerId, time: Duration) {
        let until = now + time.min(FOR_EVER);
        let mut entry = self.buckets.remove(id);
        if let Some(entry) = &mut entry {
            entry.last_ban = Some(until);
        }
        self.bans.add(*id, until, entry);
        self.changes += 1;
    }

    /// Whether a peer is kept away now.
    pub fn is_banned(&self, now: SystemTime, id: &PeerId) -> bool {
        self.bans.contains(now, id)
    }

    /// For how long a peer is kept away from now on, if it is.
    pub(crate) fn banned_for(&self, now: SystemTime, id: &PeerId) -> Option<Duration> {
        self.bans.end_of(id)?.duration_since(now).ok().filter(|left| !left.is_zero())
    }

    /// How many peers are kept away, or were until a moment ago.
    pub fn banned(&self) -> usize {
        self.bans.len()
    }

    /// Takes back the addresses whose bans are over, as new ones that have yet to be reached. Returns how many.
    pub fn reinstate(&mut self, now: SystemTime) -> usize {
        let mut reinstated = 0;
        for mut entry in self.bans.end(now) {
            self.changes += 1;
            if self.buckets.get(&entry.address.id()).is_none() && self.may_keep(now, &entry.address).is_ok() {
                (entry.attempts, entry.last_success) = (0, None);
                self.buckets.insert(now, entry);
                reinstated += 1;
            }
        }
        reinstated
    }

    /// After what time the next ban is over, at the earliest.
    pub(crate) fn next_reinstatement(&self, now: SystemTime) -> Option<Duration> {
        let least = Duration::from_secs(1);
        self.bans.first_end().map(|end| end.duration_since(now).unwrap_or_default().max(least))
    }

    /// Forgets an address, unless another one of that peer is kept.
    pub fn remove(&mut self, address: &PeerAddress) {
        let id = address.id();
        if self.buckets.get(&id).is_some_and(|known| known.address == *address) {
            self.buckets.remove(&id);
            self.changes += 1;
        }
    }

    /// One address to dial, with a weight of `bias` (0 to 100) for those that we were only told of; of these, every source has the same part,
    /// and a larger one if more of its addresses proved true.
    pub fn pick(&mut self, bias: usize) -> Option<&PeerAddress> {
        selection::pick(&self.buckets, bias, &mut self.rng).map(|entry| &entry.address)
    }

    /// What to answer a peer that asks for addresses: 23 % of the book, 32 to 250 of them. Addresses that we reached come first. The others
    /// are left out if only the peers themselves gave them or if they failed, and those of one source are at most a twentieth.
    pub fn selection(&mut self) -> Vec<PeerAddress> {
        selection::selection(&self.buckets, &mut self.rng)
    }

    /// The same, `bias` percent of them addresses that we were told of, the rest reached: what seeds answer, with a bias of 30.
    pub fn selection_with_bias(&mut self, bias: usize) -> Vec<PeerAddress> {
        selection::selection_with_bias(&self.buckets, bias, &mut self.rng)
    }

    /// Whether there are fewer than 1,000 addresses, with at most 250 counted of one source: nobody can make the book content with its word
    /// alone.
    pub fn need_more(&self) -> bool {
        self.buckets.sources().counted() + self.buckets.old_len() < NEED_ADDRESSES
    }

    /// How many addresses there are.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of them we reached.
    pub fn old_len(&self) -> usize {
        self.buckets.old_len()
    }

    /// The address that is kept for a peer.
    pub fn address_of(&self, id: &PeerId) -> Option<&PeerAddress> {
        self.buckets.get(id).map(|entry| &entry.address)
    }

    /// Whether we reached a peer where the book says it is.
    pub fn is_good(&self, id: &PeerId) -> bool {
        self.buckets.get(id).is_some_and(|entry| entry.kind == Kind::Old)
    }

    /// Every address, in no particular order.
    pub fn addresses(&self) -> impl Iterator<Item = &PeerAddress> {
        self.buckets.slots().iter().map(|entry| &entry.address)
    }

    /// The network by which the addresses of one answer are limited; `None` for those of a private network that the book is meant for.
    pub fn limited_group(&self, address: &PeerAddress) -> Option<Group> {
        self.buckets.placement().limited_group(address)
    }

    /// Grows with every change that is worth saving.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// All that goes to disk, for another thread to write while the book goes on. Nothing is copied before it changes.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { key: self.key.clone(), entries: self.buckets.slots().share(), bans: self.bans.share() }
    }

    /// A book as it was saved, without what would not be added now. Returns also how many addresses were left out.
    pub fn restore(config: BookConfig, now: SystemTime, snapshot: Snapshot) -> (Self, usize) {
        let mut rng = StdRng::seed_from_u64(config.seed);
        if snapshot.key.is_empty() {
            let mut key = [0; KEY_BYTES];
            rng.fill_bytes(&mut key);
            return Book::restore(config, now, Snapshot { key: HEXLOWER.encode(&key), ..snapshot });
        }
        let mut book = Book::with_key(config, snapshot.key, rng);
        let mut left_out = 0;
        for (id, ban) in Arc::unwrap_or_clone(snapshot.bans) {
            book.bans.add(id, ban.until, ban.entry);
        }
        for entry in snapshot.entries.into_iter().flat_map(Arc::unwrap_or_clone).flatten() {
            let unknown = book.buckets.get(&entry.address.id()).is_none();
            let placed = unknown && book.may_keep(now, &entry.address).is_ok() && book.buckets.restore(entry);
            left_out += usize::from(!placed);
        }
        (book, left_out)
    }
}

/// What the book did with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was unknown, or replaces one that gave way.
    New,
    /// The peer was known already.
    Known,
}

/// Why the book does not keep an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAdded {
    /// The peer is kept away.
    #[error("the peer is banned")]
    Banned,
    /// The operator wants this peer not to be known.
    #[error("the peer is private")]
    Private,
    /// The operator wants this peer not to be known, so it is not listened to.
    #[error("its source is a private peer")]
    PrivateSource,
    /// It is this node.
    #[error("it is this node's own")]
    Own,
    /// A network in which no peer can be: 0/8, multicast, 240/4.
    #[error("no peer can be in this network")]
    Special,
    /// The internet cannot reach it, and the book is strict.
    #[error("not routable")]
    NotRoutable,
    /// A DNS name: its owner can let it lead anywhere later.
    #[error("a name, not an IP address")]
    Name,
}

#[cfg(test)]
impl Book {
    pub(crate) fn check(&self) {
        self.buckets.check();
    }
}

#[cfg(test)]
mod tests;
