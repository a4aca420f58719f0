//! Streams that others opened: whether each may begin its handshake, and what becomes of it.

use kadwire_wire::{
    address::PeerId,
    rlpx::disconnect::DisconnectReason,
    transport::{Connection, Endpoint, HandshakeError, Incoming, Transport},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::timeout,
};
use tracing::{debug, warn};

use super::{
    super::{
        filter::{Filters, NoPeer},
        now,
    },
    Joined, Router,
    dialing::DIAL_LIMIT,
    farewell,
};
use crate::peers::ConnectionId;

/// A handshake under way.
pub(super) struct HalfOpen {
    remote: Endpoint,
    handshake: AbortHandle,
}

/// What a handshake brings.
pub(super) type Accepted = (ConnectionId, Result<Connection, NoPeer<HandshakeError>>);

/// An Ethereum peer that has proven its key, and waits to hear whether it may say more.
pub(super) struct Identified {
    number: ConnectionId,
    peer: PeerId,
    reply: oneshot::Sender<Result<(), DisconnectReason>>,
}

impl<T: Transport> Router<T> {
    pub(super) fn handle_incoming(&mut self, incoming: Incoming) {
        let (number, remote) = (self.number(), incoming.remote());
        if let Err(why) = self.peers.handle_incoming(now(), number, remote.ip()) {
            debug!(%remote, %why, "refused before the handshake");
            return;
        }
        let (filters, checkpoint) = (self.filters.clone(), self.checkpoint.clone());
        let handshake = self.tasks.handshakes.spawn(async move {
            let done = shake_hands(incoming, &filters, number, checkpoint).await;
            (number, done)
        });
        self.half_open.insert(number, HalfOpen { remote, handshake });
    }

    pub(super) fn abort(&mut self, number: ConnectionId) {
        if let Some(HalfOpen { remote, handshake }) = self.half_open.remove(&number) {
            debug!(%remote, "handshake cut: newer ones need its room");
            handshake.abort();
        }
    }

    /// Whether a peer is wanted at all is told to it before it says what it is; and from now on it is not dialed.
    pub(super) fn handle_identified(&mut self, Identified { number, peer, reply }: Identified) {
        let remote = self.half_open.get(&number).map(|half_open| half_open.remote);
        let checked = self.peers.handle_identified(now(), number, peer, remote.and_then(|remote| remote.socket_addr()));
        if let Err(why) = checked {
            debug!(%peer, %why, "refused before its Hello");
        }
        // Its handshake may have been cut.
        let _ = reply.send(checked.map_err(farewell::of_refused));
    }

    pub(super) fn handle_handshake(&mut self, done: Joined<Accepted>) {
        let (number, connection) = match done {
            Ok(done) => done,
            Err(error) => {
                // Aborted ones are already forgotten.
                let found = self.half_open.iter().find(|(_, half_open)| half_open.handshake.id() == error.id());
                let Some((number, HalfOpen { remote, .. })) = found else { return };
                warn!(%remote, %error, "a handshake ended badly");
                (*number, Err(NoPeer::Failed(HandshakeError::Closed)))
            }
        };
        let remote = self.half_open.remove(&number).map(|half_open| half_open.remote.to_string()).unwrap_or_default();
        match connection {
            Ok(connection) => {
                let socket = connection.remote.socket_addr();
                let taken = self.peers.handle_accepted(now(), number, connection.peer, socket);
                self.take(number, connection, taken);
            }
            Err(NoPeer::Filtered(filtered)) => {
                debug!(remote, %filtered, "refused");
                self.peers.handle_incoming_filtered(now(), number, filtered.why());
            }
            Err(NoPeer::Failed(error)) => {
                debug!(remote, %error, "handshake failed");
                self.peers.handle_incoming_failed(now(), number);
            }
        }
    }
}

/// A connection with a proven peer that the filters let in. A refused one is closed as it is dropped.
async fn shake_hands(
    incoming: Incoming,
    filters: &Filters,
    number: ConnectionId,
    checkpoint: mpsc::Sender<Identified>,
) -> Result<Connection, NoPeer<HandshakeError>> {
    filters.allow_ip(incoming.remote().ip()).await?;
    let check = |peer| async move {
        let (reply, answer) = oneshot::channel();
        // Without a router there is nobody to be a peer of.
        let _ = checkpoint.send(Identified { number, peer, reply }).await;
        answer.await.unwrap_or(Err(DisconnectReason::Quitting))
    };
    let done = timeout(DIAL_LIMIT, incoming.handshake_checked(check)).await;
    let connection = done.unwrap_or(Err(HandshakeError::Timeout(DIAL_LIMIT))).map_err(NoPeer::Failed)?;
    filters.allow_id(connection.peer).await?;
    Ok(connection)
}
