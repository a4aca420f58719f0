//! SIGINT and SIGTERM: a command that serves or crawls saves, says what it did, and exits with 0.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Failure;

/// Listens for signals from its making on, so that none is missed between the first line printed and the wait.
pub(super) struct Shutdown {
    interrupt: Signal,
    terminate: Signal,
}

impl Shutdown {
    pub(super) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error: io::Error| Failure::of("cannot listen for signals", error));
        Ok(Shutdown { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for a signal. Cancel-safe.
    pub(super) async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Lets `last_work` come to its end, unless another signal comes: whoever asks twice means it.
    pub(super) async fn unless_asked_again<T>(&mut self, last_work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = last_work => Some(done),
            () = self.requested() => None,
        }
    }
}

/// The runtime of a command that uses the network.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of("cannot start the runtime", error))
}

/// The same for a command whose work is one task (and the threads that it keeps for signatures): a second thread would only
/// be woken to find that there is nothing for it.
pub(super) fn runtime_of_one_thread() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::of("cannot start the runtime", error))
}
