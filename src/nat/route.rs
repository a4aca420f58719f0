//! The gateway of the default route over IPv4: whom to ask for a mapping.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
};

/// Linux's table of routes.
const ROUTES: &str = "/proc/net/route";

/// An address on the internet, to ask the system which of ours it would send from. Nothing is sent there.
const INTERNET: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)), 9);

/// The gateway. Where the system does not tell, the first address of our own /24, as go-ethereum guesses.
pub(super) fn default_gateway() -> Option<Ipv4Addr> {
    match std::fs::read_to_string(ROUTES) {
        Ok(routes) => gateway_in(&routes),
        Err(_) => match source_towards(INTERNET).ok()? {
            IpAddr::V4(own) => {
                let [a, b, c, _] = own.octets();
                Some(Ipv4Addr::new(a, b, c, 1))
            }
            IpAddr::V6(_) => None,
        },
    }
}

/// Which of our addresses a datagram to `to` would come from. Nothing is sent.
pub(super) fn source_towards(to: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// The gateway of the default route with the least metric. Columns: interface, destination, gateway, flags, …, the sixth of
/// them (from 0) the metric; addresses are hexadecimal in the machine's byte order.
fn gateway_in(routes: &str) -> Option<Ipv4Addr> {
    let default = routes.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let address = |column: usize| u32::from_str_radix(columns.get(column)?, 16).ok();
        let (destination, gateway, mask) = (address(1)?, address(2)?, address(7)?);
        let metric: u32 = columns.get(6)?.parse().ok()?;
        (destination == 0 && mask == 0 && gateway != 0).then(|| (metric, Ipv4Addr::from(gateway.to_ne_bytes())))
    });
    default.min_by_key(|(metric, _)| *metric).map(|(_, gateway)| gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_with_the_least_metric() {
        const HEAD: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let routes = "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                      eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                      eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                      tun0\t00000000\t0102000A\t0003\t0\t0\t50\t00000080\t0\t0\t0\n\
                      ppp0\t00000000\t00000000\t0001\t0\t0\t10\t00000000\t0\t0\t0\n\
                      nonsense\n\nx\ty\tz\n";
        assert_eq!(gateway_in(&format!("{HEAD}{routes}")), Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(gateway_in(HEAD), None);
        assert_eq!(gateway_in(""), None);
    }

    #[test]
    fn the_source_towards_loopback_is_loopback() {
        let source = source_towards("127.61.3.1:9".parse().unwrap()).unwrap();
        assert!(source.is_loopback(), "{source}");
    }
}
