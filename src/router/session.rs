//! One connected peer: its messages go to the reactors of their channels. Ends when the connection does.
//!
//! A reactor without room holds up its own channel only: one message of that channel waits for it here, those behind it wait in the
//! connection, and the other channels' messages pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use kadwire_wire::transport::{CloseReason, Receiver};
use tokio::{task::JoinSet, time::sleep};
use tracing::debug;

use super::{
    channel::{Inlet, Refused},
    connected::Peer,
};

/// How long the last messages of a connection that is over may wait for a slow reactor.
const DRAIN: Duration = Duration::from_secs(5);

/// Where messages go, by channel.
pub(crate) type Inlets = Arc<BTreeMap<u8, Inlet>>;

/// Deals with one connection from its first message to its end, which is when its future is ready and says why.
pub(crate) type Serve = Arc<dyn Fn(Arc<Peer>, Receiver) -> Serving + Send + Sync>;

/// One connection being dealt with. It is the session's to end it; it ends soon after the connection does.
pub(crate) type Serving = Pin<Box<dyn Future<Output = CloseReason> + Send>>;

/// Hands each message to the reactor of its channel.
pub(super) fn channels(inlets: BTreeMap<u8, Inlet>) -> Serve {
    let inlets = Arc::new(inlets);
    Arc::new(move |peer, receiver| Box::pin(run(peer, receiver, inlets.clone())))
}

/// Hands every message of one peer to its channel's reactor, waiting for room there, and returns why the connection ended. Messages
/// that came before the peer ended it are delivered; when we ended it, none after that.
pub(crate) async fn run(peer: Arc<Peer>, mut receiver: Receiver, inlets: Inlets) -> CloseReason {
    // Channels whose reactor has no room, and for each the message that waits for it.
    let (mut full, mut waiting) = (BTreeSet::new(), JoinSet::new());
    let mut given_up = pin!(given_up(&peer));
    let mut drained = false;
    while !drained || !waiting.is_empty() {
        tokio::select! {
            biased;
            () = &mut given_up => break,
            Some(handed_over) = waiting.join_next() => {
                let channel = handed_over.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
                full.remove(&channel);
                // More of this channel may have come before the end.
                drained = false;
            }
            received = receiver.recv_where(|channel| !full.contains(&channel)), if !drained => {
                let Some((channel, message)) = received else {
                    drained = true;
                    continue;
                };
                // The wire refuses channels that we do not list, and we list those that have a reactor.
                let Some(inlet) = inlets.get(&channel) else { continue };
                match inlet.try_put(&peer, message) {
                    Ok(()) => {}
                    Err(Refused::Full(message)) => {
                        full.insert(channel);
                        let (inlet, peer) = (inlet.clone(), peer.clone());
                        waiting.spawn(async move {
                            inlet.put(&peer, message).await;
                            channel
                        });
                    }
                    Err(Refused::Gone) => debug!(channel, "no reactor takes this channel's messages any more"),
                }
            }
        }
    }
    peer.sender.closed().await
}

/// Waits until the connection has been over for so long, or was ended by us, that its messages no longer matter.
async fn given_up(peer: &Peer) {
    if !peer.sender.closed().await.is_ours() {
        sleep(DRAIN).await;
    }
}
