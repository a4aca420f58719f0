//! Dials: those that the peer manager asks for, and probes of addresses that peers give for themselves.

use std::time::Duration;

use kadwire_wire::{
    address::{PeerAddress, PeerId},
    transport::{Connection, DialError, HandshakeError, Transport},
};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{
    super::{
        filter::{Filters, NoPeer},
        handle::DialFailure,
        now,
    },
    Joined, Router,
};

/// A dial, or the handshake of a stream that others opened, that the transport's own time-outs (by default 3 s for a name, 3 s for the
/// stream, 20 s for the handshake) have not ended by then is dropped; longer time-outs are refused at the start. With the filters it stays
/// below the 75 s in which the peer set takes two connections of one peer for dials that crossed: a slower one would be judged differently by
/// both.
pub const DIAL_LIMIT: Duration = Duration::from_secs(60);

/// The longest search for a peer: a lookup takes a few seconds.
const SEARCH_LIMIT: Duration = Duration::from_secs(30);

/// Addresses probed at once, and those that may wait for it.
const PROBES: usize = 8;
const PROBES_WAITING: usize = 256;

/// What a dial brings, and of whom.
pub(super) type Dialed = (PeerAddress, Result<Connection, NoPeer<DialError>>);

impl<T: Transport> Router<T> {
    pub(super) fn dial(&mut self, address: PeerAddress) {
        debug!(%address, "dialing");
        let (transport, filters, to) = (self.transport.clone(), self.filters.clone(), address.clone());
        let task = self.tasks.dials.spawn(async move {
            let dialed = connect(&*transport, &to, &filters).await;
            (to, dialed)
        });
        self.dialing.insert(address, task);
    }

    pub(super) fn handle_dial(&mut self, done: Joined<Dialed>) {
        let (address, dialed) = match done {
            Ok(done) => done,
            Err(error) => {
                let found = self.dialing.iter().find(|(_, task)| task.id() == error.id());
                let Some((address, _)) = found else { return };
                warn!(%address, %error, "a dial ended badly");
                (address.clone(), Err(NoPeer::Failed(DialError::Timeout(DIAL_LIMIT))))
            }
        };
        self.dialing.remove(&address);
        match dialed {
            Ok(connection) => {
                let number = self.number();
                let remote = connection.remote.socket_addr();
                let taken = self.peers.handle_dialed(now(), number, &address, remote);
                self.take(number, connection, taken);
            }
            Err(NoPeer::Filtered(filtered)) => {
                debug!(%address, %filtered, "dialed in vain");
                self.peers.handle_dialed_filtered(now(), &address, filtered.why());
            }
            Err(NoPeer::Failed(error)) => {
                // The operator wants to know of those that the configuration names; strangers' addresses fail all the time.
                match self.peers.is_configured(&address) {
                    true => warn!(%address, %error, "cannot connect to a configured peer; will try again"),
                    false => debug!(%address, %error, "dial failed"),
                }
                self.peers.handle_dial_failed(now(), &address, (&error).into());
                self.last_dial_failure = Some(DialFailure { address, error });
            }
        }
    }

    /// Has somebody looked for where a peer is now.
    pub(super) fn search(&mut self, peer: PeerId) {
        let Some(resolver) = &self.resolver else { return self.peers.handle_resolved(now(), &peer, None) };
        let search = resolver(peer);
        self.tasks.searches.spawn(async move {
            let found = timeout(SEARCH_LIMIT, search).await.unwrap_or(None);
            debug!(%peer, at = ?found.as_ref().map(ToString::to_string), "looked for");
            (peer, found)
        });
    }

    /// Has one address of the book tried, if any is worth it.
    pub(super) fn feel(&mut self) {
        if let Some(address) = self.peers.feeler(now()) {
            self.probe(address);
        }
    }

    /// Has an address tried that its peer gives for itself.
    pub(super) fn probe(&mut self, address: PeerAddress) {
        if self.to_probe.len() < PROBES_WAITING && !self.to_probe.contains(&address) {
            self.to_probe.push_back(address);
        }
        self.start_probes();
    }

    fn start_probes(&mut self) {
        while self.tasks.probes.len() < PROBES
            && let Some(address) = self.to_probe.pop_front()
        {
            let transport = self.transport.clone();
            self.tasks.probes.spawn(async move {
                let probed = timeout(DIAL_LIMIT, transport.probe(&address)).await;
                (address, probed.unwrap_or(Err(DialError::Timeout(DIAL_LIMIT))))
            });
        }
    }

    pub(super) fn handle_probe(&mut self, done: Joined<(PeerAddress, Result<(), DialError>)>) {
        match done {
            Ok((address, Ok(()))) => {
                debug!(%address, "is where it says");
                self.probes_proven += 1;
                self.peers.handle_probed(now(), &address);
            }
            Ok((address, Err(error))) => {
                debug!(%address, %error, "is not where it says");
                self.probes_failed += 1;
                let reset = HandshakeError::Io(std::io::ErrorKind::ConnectionReset);
                match [HandshakeError::Closed, reset].map(DialError::Handshake).contains(&error) {
                    true => self.peers.handle_probe_refused(now(), &address),
                    false => self.peers.handle_probe_failed(now(), &address),
                }
            }
            Err(error) => warn!(%error, "a probe ended badly"),
        }
        self.start_probes();
    }
}

/// A connection with a proven peer that the filters let in. A refused one is closed as it is dropped.
async fn connect<T: Transport>(
    transport: &T,
    to: &PeerAddress,
    filters: &Filters,
) -> Result<Connection, NoPeer<DialError>> {
    let dialed = timeout(DIAL_LIMIT, transport.dial(to)).await.unwrap_or(Err(DialError::Timeout(DIAL_LIMIT)));
    let connection = dialed.map_err(NoPeer::Failed)?;
    filters.allow_id(connection.peer).await?;
    Ok(connection)
}
