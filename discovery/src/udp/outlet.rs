//! The sending half of the socket, shared by the workers and the driver.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{UdpStats, scopes::Scopes};

/// Sends without ever blocking: a full socket buffer loses the datagram, as the network might.
#[derive(Debug)]
pub(super) struct Outlet {
    socket: UdpSocket,
    is_ipv6: bool,
    scopes: Scopes,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    errors: AtomicU64,
}

impl Outlet {
    /// `socket` must be in non-blocking mode.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        let [sent, sent_bytes, errors] = [0; 3].map(AtomicU64::new);
        Ok(Self { socket, is_ipv6, scopes: Scopes::default(), sent, sent_bytes, errors })
    }

    /// A datagram came from there, as the system says it.
    pub(super) fn heard(&self, from: SocketAddr) {
        self.scopes.learn(from);
    }

    pub(super) fn send(&self, to: SocketAddr, datagram: &[u8]) {
        let to = match to {
            // A socket of both families names IPv4 hosts by their mapped addresses.
            SocketAddr::V4(v4) if self.is_ipv6 => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            to => self.scopes.with_scope(to),
        };
        match self.socket.send_to(datagram, to) {
            Ok(bytes) => {
                self.sent.fetch_add(1, Ordering::Relaxed);
                self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(error) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%to, %error, "datagram not sent");
            }
        }
    }

    /// `stats` with what went out.
    pub(super) fn stats(&self, stats: UdpStats) -> UdpStats {
        UdpStats {
            sent: self.sent.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            send_errors: self.errors.load(Ordering::Relaxed),
            ..stats
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet(at: &str) -> (Outlet, SocketAddr) {
        let socket = UdpSocket::bind(at).unwrap();
        socket.set_nonblocking(true).unwrap();
        let at = socket.local_addr().unwrap();
        (Outlet::new(socket).unwrap(), at)
    }

    /// Whatever the system has against one datagram, the next one goes out.
    #[test]
    fn what_the_system_does_not_take_is_counted_and_lost() {
        let (outlet, own) = outlet("127.220.4.1:0");
        let refused: [(&str, &[u8]); 4] = [
            ("127.220.4.1:0", b"no port"),
            ("255.255.255.255:9", b"broadcast is forbidden"),
            ("[2a00::1]:9", b"of the other family"),
            ("127.220.4.1:9", &[0; 70_000]), // EMSGSIZE
        ];
        for (errors, (to, datagram)) in (1..).zip(refused) {
            outlet.send(to.parse().unwrap(), datagram);
            outlet.send(own, b"goes out");
            let stats = outlet.stats(UdpStats::default());
            assert_eq!((stats.send_errors, stats.sent, stats.sent_bytes), (errors, errors, 8 * errors), "{to}");
        }
        // Nobody listens: the system says so to the next who reads or writes, if it says it at all.
        let closed = UdpSocket::bind("127.220.4.2:0").unwrap().local_addr().unwrap();
        (0..9).for_each(|_| outlet.send(closed, b"nobody"));
        let before = outlet.stats(UdpStats::default()).sent;
        outlet.send(own, b"goes out");
        assert_eq!(outlet.stats(UdpStats::default()).sent, before + 1);
    }
}
