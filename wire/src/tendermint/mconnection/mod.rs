//! Messages of several channels over one encrypted stream (CometBFT `p2p/conn/connection.go`).

mod error;

pub use error::MConnectionError;

/// One channel of a connection, as its user declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelSpec {
    /// The id on the wire; both sides must list it in their NodeInfo.
    pub id: u8,
    /// Its share when channels compete, at least 1: the one with the least recently sent bytes per priority goes first.
    pub priority: u8,
    /// Messages that may wait to be sent, at least 1; more senders wait.
    pub send_queue: usize,
    /// The largest message, sent or received, in bytes.
    pub max_message_size: usize,
}

impl ChannelSpec {
    /// Messages that may wait by default. CometBFT's library default is 1; its reactors ask for 10–100.
    pub const DEFAULT_SEND_QUEUE: usize = 64;

    /// CometBFT's default limit (`defaultRecvMessageCapacity`), 21 MiB.
    pub const DEFAULT_MAX_MESSAGE_SIZE: usize = 22_020_096;

    /// A channel with default priority 1, queue and message size.
    pub fn new(id: u8) -> Self {
        ChannelSpec {
            id,
            priority: 1,
            send_queue: Self::DEFAULT_SEND_QUEUE,
            max_message_size: Self::DEFAULT_MAX_MESSAGE_SIZE,
        }
    }
}
