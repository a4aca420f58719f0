//! How many bytes have gone over two transports' streams.

use kadwire_wire::transport::Transport;

/// What the first one has sent and received, once each of the two has read all that the other wrote.
pub(crate) async fn carried(a: &impl Transport, b: &impl Transport) -> (u64, u64) {
    loop {
        let (here, there) = (a.stats(), b.stats());
        if (here.bytes_sent, here.bytes_received) == (there.bytes_received, there.bytes_sent) {
            return (here.bytes_sent, here.bytes_received);
        }
        tokio::task::yield_now().await;
    }
}
