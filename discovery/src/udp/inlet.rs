//! The receiving half of the socket: it wakes the driver for every datagram, or leaves it alone.
//!
//! Waking the driver costs more than all that it does with a datagram. While the workers have enough to do, nothing is won
//! by reading at once: the kernel keeps what comes. The runtime, once it watches a socket, is woken for each datagram whether
//! anybody waits or not; so while the driver rests, the socket is not watched.

use std::{
    io,
    net::{self, SocketAddr},
};

use socket2::SockRef;
use tokio::net::UdpSocket;

/// Bytes of datagrams that the kernel is asked to keep until we read them: about 10,000 small ones (Linux counts 768 bytes
/// for each, and doubles what it is asked for), half a second of a flood of 20,000 a second. What does not fit is lost whoever
/// sent it. Linux gives `net.core.rmem_max` at most, by default 208 KiB: 540 datagrams, 27 ms of that flood.
const RECEIVE_BUFFER: usize = 4 << 20;

pub(super) struct Inlet {
    socket: net::UdpSocket,
    /// The same socket, as long as the runtime watches it.
    watched: Option<UdpSocket>,
}

impl Inlet {
    /// `socket` must be in non-blocking mode. Must be called within a tokio runtime with I/O.
    pub(super) fn new(socket: net::UdpSocket) -> io::Result<Self> {
        // Whoever gets a smaller buffer serves all the same.
        let options = SockRef::from(&socket);
        let size = options.set_recv_buffer_size(RECEIVE_BUFFER).and_then(|()| options.recv_buffer_size());
        tracing::debug!(?size, "receive buffer");
        let mut inlet = Self { socket, watched: None };
        inlet.watch()?;
        Ok(inlet)
    }

    /// Reads a datagram, if there is one.
    pub(super) fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match &self.watched {
            Some(watched) => watched.try_recv_from(buffer),
            None => self.socket.recv_from(buffer),
        }
    }

    /// From now on datagrams wake nobody.
    pub(super) fn rest(&mut self) {
        self.watched = None;
    }

    /// From now on they do, also those that are there already.
    pub(super) fn watch(&mut self) -> io::Result<()> {
        if self.watched.is_none() {
            self.watched = Some(UdpSocket::from_std(self.socket.try_clone()?)?);
        }
        Ok(())
    }

    /// Waits for a datagram; for ever while it is not watched. An error of the socket shows when it is read.
    pub(super) async fn readable(&self) {
        match &self.watched {
            Some(watched) => _ = watched.readable().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_during_a_rest_wakes_nobody_and_is_not_lost() {
        let socket = net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let (to, sender) = (socket.local_addr().unwrap(), net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut inlet = Inlet::new(socket).unwrap();
        let mut buffer = [0; 8];
        let mut read = |inlet: &Inlet| inlet.try_recv_from(&mut buffer).map(|(length, _)| length);

        inlet.rest();
        sender.send_to(b"1", to).unwrap();
        tokio::select! {
            biased;
            () = inlet.readable() => panic!("woken from a rest"),
            () = tokio::task::yield_now() => {}
        }
        // It can be read all the same, once the kernel has brought it, and the next one wakes as soon as it may.
        while read(&inlet).is_err() {
            tokio::task::yield_now().await;
        }
        sender.send_to(b"22", to).unwrap();
        inlet.watch().unwrap();
        inlet.readable().await;
        assert_eq!(read(&inlet).unwrap(), 2);
        assert_eq!(read(&inlet).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        sender.send_to(b"333", to).unwrap();
        inlet.readable().await;
        assert_eq!(read(&inlet).unwrap(), 3);
    }
}
