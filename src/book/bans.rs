//! Peers kept away for a time. Bans are by id, hold for dialing, accepting and adding, and outlive the process. (CometBFT forgets them at its
//! end, and lets a banned peer in again at once.)

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use kadwire_wire::address::PeerId;

use super::entry::Entry;

/// Bans kept; each costs whoever earns it a handshake with an identity of its own. When full, the one that ends first does so now.
pub(crate) const MAX_BANS: usize = 4_096;

/// A ban, and the address to try again after it.
#[derive(Clone, Debug)]
pub(crate) struct Ban {
    pub(crate) until: SystemTime,
    pub(crate) entry: Option<Entry>,
}

/// The banned peers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bans {
    /// Shared with the snapshot that is being written.
    banned: Arc<BTreeMap<PeerId, Ban>>,
    /// No ban ends before this.
    first_end: Option<SystemTime>,
}

impl Bans {
    /// Bans a peer until `until`, or longer if it already is.
    pub(crate) fn add(&mut self, id: PeerId, until: SystemTime, entry: Option<Entry>) {
        self.first_end = Some(self.first_end.map_or(until, |first| first.min(until)));
        let banned = Arc::make_mut(&mut self.banned);
        if let Some(ban) = banned.get_mut(&id) {
            ban.until = ban.until.max(until);
            ban.entry = entry.or(ban.entry.take());
            return;
        }
        if banned.len() >= MAX_BANS
            && let Some(first) = banned.iter().min_by_key(|(_, ban)| ban.until).map(|(id, _)| *id)
        {
            banned.remove(&first);
        }
        banned.insert(id, Ban { until, entry });
    }

    pub(crate) fn contains(&self, now: SystemTime, id: &PeerId) -> bool {
        self.banned.get(id).is_some_and(|ban| ban.until > now)
    }

    /// When the peer's ban ends.
    pub(crate) fn end_of(&self, id: &PeerId) -> Option<SystemTime> {
        self.banned.get(id).map(|ban| ban.until)
    }

    /// Ends the bans that are over, and hands out the addresses that were kept.
    pub(crate) fn end(&mut self, now: SystemTime) -> Vec<Entry> {
        if self.first_end.is_none_or(|first| first > now) {
            return Vec::new();
        }
        let banned = Arc::make_mut(&mut self.banned);
        let over: Vec<PeerId> = banned.iter().filter(|(_, ban)| ban.until <= now).map(|(id, _)| *id).collect();
        let entries = over.iter().filter_map(|id| banned.remove(id)?.entry).collect();
        self.first_end = self.banned.values().map(|ban| ban.until).min();
        entries
    }

    /// No ban ends before this; `None` if there is none.
    pub(crate) fn first_end(&self) -> Option<SystemTime> {
        self.first_end
    }

    /// All bans as they are now.
    pub(crate) fn share(&self) -> Arc<BTreeMap<PeerId, Ban>> {
        self.banned.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.banned.len()
    }
}
