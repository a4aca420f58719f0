//! Connections, from the moment the peer manager takes one to the end of its session.

use std::{sync::Arc, time::Duration};

use kadwire_wire::{
    address::PeerId,
    transport::{CloseReason, Connection, Transport},
};
use tokio::{sync::oneshot, task::AbortHandle, time::timeout};
use tracing::{debug, warn};

use super::{
    super::{connected::Peer, now, session::Serving},
    Joined, Router, farewell,
};
use crate::peers::{Because, ConnectionId, WhyNot};

/// How long the last messages to a peer that we leave may take.
const FLUSH: Duration = Duration::from_secs(2);

/// A connection that the peer manager has taken.
pub(super) struct Open {
    pub(super) peer: Arc<Peer>,
    session: AbortHandle,
    /// Lets the session begin, once everybody has heard of the peer.
    pub(super) begin: Option<oneshot::Sender<()>>,
}

impl<T: Transport> Router<T> {
    pub(super) fn number(&mut self) -> ConnectionId {
        self.last_connection += 1;
        ConnectionId(self.last_connection)
    }

    /// Takes a proven connection up, if the peer manager did.
    pub(super) fn take(&mut self, number: ConnectionId, connection: Connection, taken: Result<(), WhyNot>) {
        let peer = Arc::new(Peer::new(number.0, &connection));
        if let Err(why) = taken {
            debug!(peer = %peer.id, remote = %peer.remote, %why, "refused");
            connection.close(match peer.id {
                PeerId::Ethereum(_) => CloseReason::Disconnected(farewell::of_refused(why)),
                PeerId::Tendermint(_) => CloseReason::requested(format!("refused: {why}")),
            });
            return;
        }
        let (begin, begun) = oneshot::channel();
        let session = session(peer.clone(), (self.serve)(peer.clone(), connection.receiver), begun);
        let session = self.tasks.sessions.spawn(async move { (number, session.await) });
        debug!(peer = %peer.id, remote = %peer.remote, direction = ?peer.direction, "connected");
        self.open.insert(number, Open { peer, session, begin: Some(begin) });
        self.peers.handle_ready(number);
        self.carry_out();
    }

    pub(super) fn close(&mut self, number: ConnectionId, because: Because) {
        let Some(open) = self.open.get(&number) else { return };
        let sender = open.peer.sender.clone();
        let reason = match open.peer.id {
            PeerId::Ethereum(_) => CloseReason::Disconnected(farewell::of_peer(because, self.stopping)),
            PeerId::Tendermint(_) => CloseReason::requested(why(because)),
        };
        if because == Because::Misbehaved {
            sender.close(reason);
        } else {
            self.tasks.farewells.spawn(async move {
                if timeout(FLUSH, sender.flush_and_close(reason.clone())).await.is_err() {
                    sender.close(reason);
                }
            });
        }
    }

    pub(super) fn handle_session_end(&mut self, ended: Joined<(ConnectionId, CloseReason)>) {
        let (number, reason) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let found = self.open.iter().find(|(_, open)| open.session.id() == error.id());
                let Some((number, open)) = found else { return };
                warn!(peer = %open.peer.id, %error, "a session ended badly");
                let reason = CloseReason::Dropped;
                open.peer.sender.close(reason.clone());
                (*number, reason)
            }
        };
        if let Some(Open { peer, .. }) = self.open.remove(&number) {
            debug!(peer = %peer.id, remote = %peer.remote, %reason, "disconnected");
        }
        self.peers.handle_closed(now(), number, &reason);
    }
}

/// A session that begins when everybody has heard of its peer. One that crossed with another waits for it, and may end before.
async fn session(peer: Arc<Peer>, serving: Serving, begun: oneshot::Receiver<()>) -> CloseReason {
    tokio::select! {
        biased;
        _ = begun => serving.await,
        reason = peer.sender.closed() => reason,
    }
}

/// What the log of a connection that we end says.
fn why(because: Because) -> &'static str {
    match because {
        Because::Evicted => "a better peer takes its place",
        Because::Crowded => "a peer of a less crowded network takes its place",
        Because::Replaced => "another connection with this peer takes its place",
        Because::Misbehaved => "it broke the rules",
        Because::Requested => "we are leaving",
    }
}
