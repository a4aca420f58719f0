//! The socket: one for both families where it listens on every interface.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Addresses that stand for the internet when the system is asked which of ours it would send from: the first root name
/// server's. Nothing is sent there.
const INTERNET: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4))),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 0x2, 0x30))),
];

/// Binds a socket that does not block. One bound to `::` takes IPv4 too, whatever the system's default is.
pub(super) fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = match listen.ip() {
        IpAddr::V6(ip) if ip.is_unspecified() => {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_only_v6(false)?;
            socket.bind(&listen.into())?;
            socket.into()
        }
        _ => UdpSocket::bind(listen)?,
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The addresses that this machine would send to the internet from, one at most for each family.
pub(super) fn source_ips() -> Vec<IpAddr> {
    let source = |(from, to): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind((from, 0))?;
        socket.connect((to, 9))?;
        socket.local_addr()
    };
    INTERNET.into_iter().filter_map(|pair| source(pair).ok()).map(|source| source.ip()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_socket_takes_both_families() {
        let Ok(both) = bind("[::]:0".parse().unwrap()) else { return }; // no IPv6 on this machine
        both.set_nonblocking(false).unwrap();
        let port = both.local_addr().unwrap().port();
        for (from, to) in [("127.61.0.1", "127.0.0.1"), ("::1", "::1")] {
            let sender = UdpSocket::bind((from.parse::<IpAddr>().unwrap(), 0)).unwrap();
            sender.send_to(b"hello", (to.parse::<IpAddr>().unwrap(), port)).unwrap();
            let (_, source) = both.recv_from(&mut [0; 8]).unwrap();
            assert_eq!(source.ip().to_canonical().to_string(), from);
        }
    }

    #[test]
    fn this_machines_own_addresses_are_specified() {
        assert!(source_ips().iter().all(|ip| !ip.is_unspecified()));
    }
}
