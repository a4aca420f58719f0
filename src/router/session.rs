//! One connected peer: its messages go to the reactors of their channels. Ends when the connection does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kadwire_wire::transport::{CloseReason, Receiver};
use tokio::time::sleep;
use tracing::debug;

use super::{channel::Inlet, connected::Peer};

/// How long the last messages of a connection that is over may wait for a slow reactor.
const DRAIN: Duration = Duration::from_secs(5);

/// Where messages go, by channel.
pub(super) type Inlets = Arc<BTreeMap<u8, Inlet>>;

/// Hands every message of one peer to its channel's reactor, waiting for room there, and returns why the connection ended. Messages
/// that came before the peer ended it are delivered; when we ended it, none after that.
pub(super) async fn run(peer: Arc<Peer>, mut receiver: Receiver, inlets: Inlets) -> CloseReason {
    while let Some((channel, message)) = receiver.recv().await {
        if let Some(CloseReason::Requested(_)) = peer.close_reason() {
            break;
        }
        // The wire refuses channels that we do not list, and we list those that have a reactor.
        let Some(inlet) = inlets.get(&channel) else { continue };
        tokio::select! {
            taken = inlet.put(&peer, message) => if !taken {
                debug!(channel, "no reactor takes this channel's messages any more");
            },
            () = given_up(&peer) => break,
        }
    }
    peer.sender.closed().await
}

/// Waits until the connection has been over for so long, or was ended by us, that its messages no longer matter.
async fn given_up(peer: &Peer) {
    if !matches!(peer.sender.closed().await, CloseReason::Requested(_)) {
        sleep(DRAIN).await;
    }
}
