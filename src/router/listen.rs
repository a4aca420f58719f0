//! The accept loop: streams that others opened, before any handshake, on their way to the router, which asks the peer manager
//! whether each may go on. It never waits for a handshake, so silent sockets keep nobody out.

use std::{sync::Arc, time::Duration};

use kadwire_wire::transport::{AcceptError, Incoming, Transport};
use tokio::{sync::mpsc, time::sleep};
use tracing::warn;

/// Streams that may wait for the router's word; the others wait in the operating system's backlog.
pub(crate) const BACKLOG: usize = 64;

/// After a failed accept (no file descriptors left, as a rule) comes a pause (go-ethereum `server.go`, `listenLoop`: 200 ms).
const PAUSE: Duration = Duration::from_millis(200);

/// Accepts until the transport is closed or the router is gone.
pub(crate) async fn run<T: Transport>(transport: Arc<T>, router: mpsc::Sender<Incoming>) {
    loop {
        match transport.accept().await {
            Ok(incoming) => {
                if router.send(incoming).await.is_err() {
                    return;
                }
            }
            Err(AcceptError::Closed) => return,
            Err(error) => {
                warn!(%error, "cannot accept; trying again");
                sleep(PAUSE).await;
            }
        }
    }
}
