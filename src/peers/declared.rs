//! How often one host is looked into because peers elsewhere say that they are there: whoever has identities could make us knock at somebody
//! else's door with every one of them.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::set::host;

/// Probes of one host that peers elsewhere declare, within [`WINDOW`]. A household of nodes behind one address is known after some minutes.
const MOST: usize = 5;

const WINDOW: Duration = Duration::from_secs(60);

/// All of them within [`WINDOW`]: many more than the router finds time for.
const MOST_OF_ALL: usize = 1_024;

/// The recent probes, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Declared(VecDeque<(Instant, IpAddr)>);

impl Declared {
    /// Whether this IP may be looked into now, and notes it if so.
    pub(crate) fn allow(&mut self, now: Instant, ip: IpAddr) -> bool {
        while self.0.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        let host = host(ip);
        let allowed = self.0.len() < MOST_OF_ALL && self.0.iter().filter(|(_, other)| *other == host).count() < MOST;
        if allowed {
            self.0.push_back((now, host));
        }
        allowed
    }
}
