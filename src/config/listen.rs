//! Where to listen, as CometBFT and Go write it.

use std::{
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    str::FromStr,
};

/// Where to listen: `IP:PORT`, or `:PORT` for every interface, as Go writes it. `tcp://` and `udp://` may stand in front, as in CometBFT's
/// configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// At this address.
    At(SocketAddr),
    /// On this port, over IPv4 and IPv6.
    EveryInterface(u16),
}

impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let place = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("udp://")).unwrap_or(text);
        let every_interface = place.strip_prefix(':').and_then(|port| port.parse().ok());
        every_interface
            .map(Listen::EveryInterface)
            .or_else(|| place.parse().ok().map(Listen::At))
            .ok_or("want IP:PORT or :PORT, such as 0.0.0.0:30301 or [::]:30301")
    }
}

impl Listen {
    /// Where to bind. Every interface means both families, unless this machine has no IPv6.
    pub fn address(self) -> SocketAddr {
        match self {
            Listen::At(address) => address,
            Listen::EveryInterface(port) => {
                let has_ipv6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
                let every =
                    if has_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { std::net::Ipv4Addr::UNSPECIFIED.into() };
                SocketAddr::new(every, port)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_listen_is_written_as_in_go_or_in_cometbft() {
        assert_eq!(":30301".parse(), Ok(Listen::EveryInterface(30301)));
        let everywhere = Listen::EveryInterface(30301).address();
        assert!(everywhere.ip().is_unspecified() && everywhere.port() == 30301, "{everywhere}");
        for (text, address) in
            [("127.3.2.1:0", "127.3.2.1:0"), ("[::]:30303", "[::]:30303"), ("tcp://0.0.0.0:26656", "0.0.0.0:26656")]
        {
            assert_eq!(text.parse(), Ok(Listen::At(address.parse().unwrap())));
        }
        for bad in ["", "nonsense", "30301", "127.0.0.1", "127.0.0.1:99999", "http://1.2.3.4:5", ":"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }
}
