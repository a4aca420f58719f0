//! One Ethereum peer: a handler for each protocol that both have, from the connection's first message to its end.
//!
//! ```text
//!   connection ──> session: one bounded queue a protocol ──> handler ──┐ messages
//!        ^                                                             │
//!        └─────────────────────────────────────────────────────────────┘
//!   a handler returns ──> what it sent is written, Disconnect ──> the connection is over ──> the others see it and return
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kadwire_wire::{
    rlpx::{
        capability::match_protocols,
        disconnect::DisconnectReason,
        message::{MAX_CODE_LENGTH, MAX_MESSAGE_SIZE},
    },
    transport::{CloseReason, Receiver},
};
use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};
use tracing::{debug, warn};

use super::{PeerSender, PeerStream, Protocol, ProtocolError};
use crate::router::{
    Peer, Teller, WeakTeller, channel,
    session::{self, Serve},
};

/// How long the last messages to a peer that a handler has left may take.
const FLUSH: Duration = Duration::from_secs(2);

/// How long handlers may go on when their peer is gone; then they are dropped where they wait.
const GRACE: Duration = Duration::from_secs(5);

/// What a handler's task brings.
type Ended = Result<(Result<(), ProtocolError>, Arc<Protocol>), JoinError>;

/// Deals with the connections of a node that has these protocols; tells of messages if there is a `teller`.
pub(crate) fn serve(protocols: Vec<Arc<Protocol>>, teller: Option<Teller>) -> Serve {
    let (protocols, teller): (Arc<[_]>, _) = (protocols.into(), teller.map(|teller| teller.weak()));
    Arc::new(move |peer, receiver| Box::pin(run(peer, receiver, protocols.clone(), teller.clone())))
}

async fn run(
    peer: Arc<Peer>,
    receiver: Receiver,
    protocols: Arc<[Arc<Protocol>]>,
    teller: Option<WeakTeller>,
) -> CloseReason {
    let (mut handlers, mut inlets) = (JoinSet::new(), BTreeMap::new());
    for (place, protocol) in (0..).zip(shared(&protocols, &peer)) {
        // A message waits with its code in front.
        let (inlet, incoming) = channel::queue(MAX_MESSAGE_SIZE.saturating_add(MAX_CODE_LENGTH));
        inlets.insert(place, inlet);
        let sender = PeerSender::new(peer.clone(), protocol.clone(), place, teller.clone());
        let handling = (protocol.handler)(PeerStream::new(incoming, sender));
        handlers.spawn(async move { (handling.await, protocol) });
    }
    let reason = {
        let mut session = std::pin::pin!(session::run(peer.clone(), receiver, Arc::new(inlets)));
        let mut leaving = JoinSet::new();
        loop {
            tokio::select! {
                reason = &mut session => break reason,
                Some(ended) = handlers.join_next() => {
                    leaving.spawn(leave(peer.clone(), ended));
                }
                Some(_) = leaving.join_next() => {}
            }
        }
    };
    let all = async { while handlers.join_next().await.is_some() {} };
    if timeout(GRACE, all).await.is_err() {
        debug!(peer = %peer.id, left = handlers.len(), "handlers that outlive their peer are ended");
        handlers.shutdown().await;
    }
    reason
}

/// Hangs up, because a handler has returned: without it the peer is of no use to the others either (go-ethereum, `Peer.run`).
async fn leave(peer: Arc<Peer>, ended: Ended) {
    let reason = match ended {
        Ok((Ok(()), _)) => DisconnectReason::Quitting,
        Ok((Err(error), protocol)) => {
            debug!(peer = %peer.id, %protocol, %error, "a protocol failed");
            error.reason()
        }
        Err(error) => {
            warn!(peer = %peer.id, %error, "a protocol's handler ended badly");
            DisconnectReason::Subprotocol
        }
    };
    let reason = CloseReason::Disconnected(reason);
    if timeout(FLUSH, peer.sender.flush_and_close(reason.clone())).await.is_err() {
        peer.sender.close(reason);
    }
}

/// The protocols that both have, in the order in which the connection numbers them.
pub(super) fn shared(ours: &[Arc<Protocol>], peer: &Peer) -> Vec<Arc<Protocol>> {
    let Some(hello) = peer.info.ethereum() else { return Vec::new() };
    let specs: Vec<_> = ours.iter().map(|protocol| protocol.spec).collect();
    let shared = match_protocols(&specs, &hello.capabilities).unwrap_or_default();
    shared.iter().filter_map(|shared| ours.iter().find(|ours| ours.spec == shared.protocol)).cloned().collect()
}
