//! A TCP stream that counts the bytes it carries: those of the handshake too, as they are on the wire.

use std::{io, net::Shutdown, sync::Arc};

use bytes::BufMut;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::counters::Counters;

#[derive(Debug)]
pub(super) struct Stream {
    stream: TcpStream,
    counters: Arc<Counters>,
}

impl Stream {
    pub(super) fn new(stream: TcpStream, counters: &Arc<Counters>) -> Self {
        Stream { stream, counters: counters.clone() }
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    pub(super) fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(bytes).inspect(|read| self.counters.received(*read))
    }

    pub(super) fn try_read_buf(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        self.stream.try_read_buf(buffer).inspect(|read| self.counters.received(*read))
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes).inspect(|written| self.counters.sent(*written))
    }

    pub(super) fn set_nodelay(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)
    }

    /// Says that nothing more will come from us.
    pub(super) fn finish(&self) -> io::Result<()> {
        SockRef::from(&self.stream).shutdown(Shutdown::Write)
    }
}
