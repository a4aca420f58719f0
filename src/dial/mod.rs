//! The dial scheduler: whether and when to try an address, for both worlds. A machine: it is told the time and never dials itself.
//!
//! It knows the operator's peers (dialed first, for ever), a short queue of discovered candidates, the dials under way, the history
//! (no address twice within 35 s), a back-off per (id, address), and a cool-down per id. It does not know who is connected or banned; that
//! the [`PeerManager`](crate::peers::PeerManager) says, which also brings addresses from the book.
//! Rules: go-ethereum `p2p/dial.go`; CometBFT `p2p/pex/pex_reactor.go` for the back-off; ADR-062 for caps and cool-down.

mod backoff;
mod check;
mod expiring;
mod failure;
mod operator;
mod pace;
mod queue;
mod resolve;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use kadwire_discovery::Now;
use kadwire_wire::{
    Blame,
    address::{PeerAddress, PeerId},
};
use rand::{SeedableRng, rngs::StdRng};

pub(crate) use backoff::Backoff;
pub use check::{Refusals, WhyNot};
pub(crate) use expiring::Expiring;
pub use failure::{Ended, Failures, WhyFailed};
pub(crate) use queue::{MAX_PER_SUBNET, Subnet, is_lan};

use pace::Pace;
use queue::CandidateQueue;
use resolve::Resolving;

/// Whom the limits are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Places {
    /// Strangers only: persistent and unconditional peers come on top of the places, and are dialed without a free one (CometBFT).
    #[default]
    Strangers,
    /// Everybody: a static peer waits for a place like all others, and is only tried first; a trusted one is let in when all places are
    /// taken, but takes one (go-ethereum; in 1.8 static peers came on top of `MaxPeers`).
    Everybody,
}

/// What the dial scheduler must be told once.
#[derive(Clone, Debug)]
pub struct DialConfig {
    /// This node's identity, never dialed.
    pub own_id: PeerId,
    /// Where this node is known to listen, never dialed under any id.
    pub own_sockets: BTreeSet<SocketAddr>,
    /// Connections to hold that we dial.
    pub outbound: usize,
    /// Whether persistent peers are counted among them.
    pub places: Places,
    /// Dials under way at once.
    pub dialing: usize,
    /// If not empty, only these networks are dialed. Names are the operator's own and pass.
    pub netrestrict: Vec<IpNet>,
    /// Only public addresses are dialed ([`is_public`](kadwire_discovery::is_public)).
    pub public_only: bool,
    /// Whether the limits per subnet hold for private networks too.
    pub limit_lan: bool,
    /// The longest wait between two dials of a persistent peer or seed.
    pub persistent_backoff: Duration,
    /// If given, seeds are bootnodes: dialed in turn, as peers to keep, once there has been no peer for this time.
    pub fallback: Option<Duration>,
    /// Where randomness starts.
    pub seed: u64,
}

impl DialConfig {
    /// go-ethereum's and CometBFT's defaults: 10 outbound, 50 dials at once.
    pub fn new(own_id: PeerId) -> Self {
        DialConfig {
            own_id,
            own_sockets: BTreeSet::new(),
            outbound: 10,
            places: Places::Strangers,
            dialing: 50,
            netrestrict: Vec::new(),
            public_only: false,
            limit_lan: false,
            persistent_backoff: PERSISTENT_BACKOFF,
            fallback: None,
            seed: 0,
        }
    }
}

/// No address is dialed twice within this time, counted from the start of the dial: remote go-ethereum nodes refuse an IP that comes
/// back within 30 s, and 5 s are for slow clocks (dial.go, `dialHistoryExpiration`).
const HISTORY: Duration = Duration::from_secs(35);

/// Addresses in the history. Dials are limited in number per second, so this is never reached with the defaults.
const MAX_HISTORY: usize = 4_096;

/// A peer is left alone for this long after its connection ended (ADR-062, DisconnectCooldownPeriod).
const COOL_DOWN: Duration = Duration::from_secs(2);

/// Peers that cool down at once: connections end no faster than they are made.
const MAX_COOLING: usize = 1_024;

/// The longest wait between two dials of an address (Tendermint 0.35, MaxRetryTime).
const MAX_BACKOFF: Duration = Duration::from_secs(30 * 60);

/// The same for persistent peers and seeds (Tendermint 0.35, MaxRetryTimePersistent).
pub(crate) const PERSISTENT_BACKOFF: Duration = Duration::from_secs(5 * 60);

/// A connection that ends sooner counts as a failed dial, so that a peer who takes connections and drops them is not dialed in a hot
/// loop (GHSA-cpqw-5g6w-h8rr).
pub(crate) const SHORT_LIVED: Duration = Duration::from_secs(10);

/// After this many failures in a row an address that is not persistent is given up (CometBFT, `maxAttemptsToDial`).
pub(crate) const MAX_FAILURES: u32 = 16;

/// Why an address is dialed. It decides which places and rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The operator's peer: needs no free outbound place.
    Persistent,
    /// From discovery or the book: fills a free outbound place.
    Dynamic,
    /// From the book, to take the place of a peer with a lower score.
    Upgrade,
    /// A configured seed, when nobody else is known.
    Seed,
    /// Asked for by the library's user or a crawler.
    Requested,
}

#[derive(Debug)]
struct Dial {
    address: PeerAddress,
    kind: Kind,
}

/// The dial scheduler. See the module's documentation.
#[derive(Debug)]
pub struct Dialer {
    config: DialConfig,
    persistent: Vec<PeerAddress>,
    /// The operator's peers whose address is not known.
    unplaced: BTreeSet<PeerId>,
    seeds: VecDeque<PeerAddress>,
    resolving: Resolving,
    queue: CandidateQueue,
    dialing: BTreeMap<PeerId, Dial>,
    history: Expiring<PeerAddress>,
    cooling: Expiring<PeerId>,
    backoff: Backoff,
    pace: Pace,
    rng: StdRng,
}

impl Dialer {
    /// A scheduler with nobody to dial.
    pub fn new(config: DialConfig) -> Self {
        Dialer {
            persistent: Vec::new(),
            unplaced: BTreeSet::new(),
            seeds: VecDeque::new(),
            resolving: Resolving::default(),
            queue: CandidateQueue::new(config.limit_lan),
            dialing: BTreeMap::new(),
            history: Expiring::new(MAX_HISTORY),
            cooling: Expiring::new(MAX_COOLING),
            backoff: Backoff::default(),
            pace: Pace::new(config.dialing),
            rng: StdRng::seed_from_u64(config.seed),
            config,
        }
    }

    /// Queues a discovered address. `known` as in [`Dialer::check_dial`].
    pub fn add_candidate(
        &mut self,
        now: Now,
        address: PeerAddress,
        known: impl Fn(&PeerId) -> Result<(), WhyNot>,
    ) -> Result<(), WhyNot> {
        self.check_dial(now, &address, known)?;
        self.queue.push(address)
    }

    /// The next discovered candidate that may still be dialed; the others are dropped and counted, discovery finds them again.
    pub(crate) fn next_candidate(
        &mut self,
        now: Now,
        known: impl Fn(&PeerId) -> Result<(), WhyNot>,
        refusals: &mut Refusals,
    ) -> Option<PeerAddress> {
        while let Some(address) = self.queue.pop() {
            match self.check_dial(now, &address, &known) {
                Ok(()) => return Some(address),
                Err(why) => drop(refusals.count(why)),
            }
        }
        None
    }

    /// How many more dials may start to fill outbound places, of which `connected` are taken: twice the free places, because many
    /// dials fail, less what is under way (dial.go, `freeDialSlots`).
    pub(crate) fn room(&self, connected: usize) -> usize {
        self.room_for(self.deficit(connected))
    }

    /// The same when so many dials are wanted.
    pub(crate) fn room_for(&self, wanted: usize) -> usize {
        let wanted = wanted.min(self.config.dialing);
        let fills = |dial: &&Dial| match self.config.places {
            Places::Strangers => matches!(dial.kind, Kind::Dynamic | Kind::Seed),
            Places::Everybody => true,
        };
        let filling = self.dialing.values().filter(fills).count();
        let free = self.config.dialing.saturating_sub(self.dialing.len());
        wanted.saturating_sub(filling).min(free)
    }

    /// Whether one more dial may start at all.
    pub(crate) fn has_free_dial(&self) -> bool {
        self.dialing.len() < self.config.dialing
    }

    /// How many candidates discovery should bring, when `connected` outbound places are taken: nothing is looked up that is not wanted.
    pub fn wanted(&self, connected: usize) -> usize {
        let wanted = match self.config.places {
            // Those under way may all fail, and a book is asked in turns.
            Places::Strangers => self.deficit(connected).min(self.config.dialing),
            Places::Everybody => self.room(connected),
        };
        wanted.saturating_sub(self.queue.len())
    }

    fn deficit(&self, connected: usize) -> usize {
        self.config.outbound.saturating_sub(connected).saturating_mul(2)
    }

    /// Whether the pace allows one more dial at `now`.
    pub(crate) fn pace_allows(&self, now: Now) -> bool {
        self.pace.allows(now.monotonic)
    }

    /// When the pace allows the next dial, if it does not now.
    pub(crate) fn pace_allows_at(&self, now: Now) -> Option<Instant> {
        self.pace.allows_at().filter(|at| *at > now.monotonic)
    }

    /// Notes that `address` is dialed now.
    pub(crate) fn start(&mut self, now: Now, address: PeerAddress, kind: Kind) {
        // CometBFT nodes have no throttle of 30 s, so a lost persistent peer of that world comes back as soon as its back-off allows.
        let throttled = matches!(address.id(), PeerId::Ethereum(_));
        if throttled || !matches!(kind, Kind::Persistent) {
            self.history.insert(address.clone(), now.monotonic + HISTORY);
        }
        self.pace.pay(now.monotonic);
        self.dialing.insert(address.id(), Dial { address, kind });
    }

    /// The dial ended with a proven identity. Failures are forgotten only once the connection has lasted ([`Dialer::disconnected`]).
    pub(crate) fn succeeded(&mut self, address: &PeerAddress) -> Option<Kind> {
        self.finish(address)
    }

    /// The dial failed. Returns whether the address should be given up: it is not what was said, or it failed too often.
    pub(crate) fn failed(&mut self, now: Now, address: &PeerAddress, blame: Blame) -> Option<GiveUp> {
        let kind = self.finish(address)?;
        self.back_off(now, address, kind, blame);
        let too_often = self.backoff.failures(address) > MAX_FAILURES;
        let kept = self.is_persistent(&address.id()) || kind == Kind::Seed;
        if kept {
            None
        } else if blame != Blame::Local {
            Some(GiveUp::NotAsSaid)
        } else {
            too_often.then_some(GiveUp::TooOften)
        }
    }

    /// A connection ended after `lasted`. A dialed one that ended at once, and not by our wish, counts as a dial that failed for `why`.
    pub(crate) fn disconnected(
        &mut self,
        now: Now,
        id: PeerId,
        dialed: Option<&PeerAddress>,
        lasted: Duration,
        failed: Option<WhyFailed>,
    ) {
        self.cooling.insert(id, now.monotonic + COOL_DOWN);
        let Some(address) = dialed else { return };
        if lasted >= SHORT_LIVED {
            self.backoff.clear(address);
        } else if let Some(why) = failed {
            let kind = if self.seeds.contains(address) { Kind::Seed } else { Kind::Dynamic };
            self.back_off(now, address, kind, why.blame());
        }
    }

    /// Both of two crossed connections with a peer are gone, one of which went to this address. It is not the peer that failed: the history
    /// does not keep us from trying again as soon as the back-off allows, which keeps this from becoming a hot loop.
    pub(crate) fn lost_crossing(&mut self, now: Now, address: &PeerAddress) {
        self.cooling.insert(address.id(), now.monotonic + COOL_DOWN);
        self.history.remove(address);
        self.no_place(now, address);
    }

    /// A dial ended well, and there is no place for the peer after all. It waits as if it had failed: a persistent peer would otherwise be
    /// dialed again at once, at the speed of the network (GHSA-cpqw-5g6w-h8rr).
    pub(crate) fn no_place(&mut self, now: Now, address: &PeerAddress) {
        self.back_off(now, address, Kind::Dynamic, Blame::Local);
    }

    fn back_off(&mut self, now: Now, address: &PeerAddress, kind: Kind, blame: Blame) {
        let cap = self.backoff_cap(address, kind);
        if blame == Blame::Local {
            self.backoff.fail(now.monotonic, address, cap, &mut self.rng);
        } else {
            // Another identity, another network or no such protocol: not better in two seconds.
            self.backoff.fail_for(now.monotonic, address, cap);
        }
    }

    fn backoff_cap(&self, address: &PeerAddress, kind: Kind) -> Duration {
        let kept = kind == Kind::Seed || self.is_persistent(&address.id());
        if kept { self.config.persistent_backoff } else { MAX_BACKOFF }
    }

    fn finish(&mut self, address: &PeerAddress) -> Option<Kind> {
        if self.dialing.get(&address.id())?.address != *address {
            return None;
        }
        self.dialing.remove(&address.id()).map(|dial| dial.kind)
    }

    /// The dials under way, by id.
    pub fn dialing(&self) -> impl Iterator<Item = &PeerAddress> {
        self.dialing.values().map(|dial| &dial.address)
    }

    /// Candidates that wait for a free place.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn dialing_of(&self, kind: Kind) -> usize {
        self.dialing.values().filter(|dial| dial.kind == kind).count()
    }

    /// The failures in a row of all addresses of a peer, which count against its score.
    pub fn failures_of(&self, id: &PeerId) -> u32 {
        self.backoff.failures_of(id)
    }

    /// Forgets what is over.
    pub(crate) fn expire(&mut self, now: Now) {
        self.history.expire(now.monotonic);
        self.cooling.expire(now.monotonic);
    }
}

/// Why an address is not worth keeping after a failed dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GiveUp {
    /// Somebody else, another network or another protocol is there.
    NotAsSaid,
    /// It failed [`MAX_FAILURES`] times in a row.
    TooOften,
}

#[cfg(test)]
pub(crate) mod tests;
