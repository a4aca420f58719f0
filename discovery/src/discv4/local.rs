//! What our own record says, for each address family by itself: the operator's word, then a gateway's or a STUN server's, then
//! what other nodes see, then a guess. Whoever is asked costs a mistake less than whoever only talks: an operator knows, a
//! gateway has made the mapping, a STUN server was chosen, and ten networks of strangers may still be one liar's.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::message::Endpoint;
use crate::{Enr, EnrBuilder, TendermintEntry};

/// What is known of our own endpoint beforehand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnEndpoint {
    /// Addresses given by the operator: of each family the first counts, and nothing overrules it.
    pub explicit_ips: Vec<IpAddr>,
    /// Addresses to claim until others tell us better, e.g. the one the socket is bound to. A loopback address is claimed only
    /// while nothing is known of either family: to give one family's address must not make one up for the other
    /// (go-ethereum #29495).
    pub fallback_ips: Vec<IpAddr>,
    /// UDP port the socket is bound to; a vote on our endpoint can change the published one.
    pub udp: u16,
    /// TCP port to publish; 0 for none.
    pub tcp: u16,
}

/// Where a gateway or a STUN server says that we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExternalEndpoint {
    /// The address on the far side of the gateway.
    pub ip: IpAddr,
    /// The UDP port there. Without one, the port that other nodes see if they see this address, else the one we listen on.
    pub udp: Option<u16>,
    /// TCP ports of ours, each with the one there that leads to it: whatever of our record names the first (`tcp`, `tm`) names the
    /// second instead.
    pub tcp: [Option<(u16, u16)>; MAX_TCP],
}

/// TCP ports in a record: one of each wire.
const MAX_TCP: usize = 2;

/// What our record is to say. The driver signs it, with a sequence number higher than any before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalContent {
    /// `ip` and `udp`.
    pub v4: Option<SocketAddrV4>,
    /// `ip6` and `udp6`.
    pub v6: Option<SocketAddrV6>,
    /// `tcp`; 0 for none.
    pub tcp: u16,
    /// `tcp6`, if there is an `ip6`; 0 for none.
    pub tcp6: u16,
    /// `tm`.
    pub tendermint: Option<TendermintEntry>,
}

impl LocalContent {
    /// The unsigned record.
    pub fn builder(&self, seq: u64) -> EnrBuilder {
        let mut builder = Enr::builder(seq);
        if let Some(v4) = self.v4 {
            builder = builder.ip(*v4.ip()).udp(v4.port());
        }
        if let Some(v6) = self.v6 {
            builder = builder.ip6(*v6.ip()).udp6(v6.port()).tcp6(self.tcp6);
        }
        if self.v4.is_some() || self.v6.is_none() {
            builder = builder.tcp(self.tcp);
        }
        match self.tendermint {
            Some(entry) => builder.tendermint(entry),
            None => builder,
        }
    }

    /// What we say of ourselves in a ping to `to`: the address of its family, or any we have.
    pub(crate) fn endpoint_towards(&self, to: SocketAddr, udp: u16) -> Endpoint {
        let (v4, v6) = (self.v4.map(SocketAddr::V4), self.v6.map(SocketAddr::V6));
        let ours = if to.is_ipv4() { v4.or(v6) } else { v6.or(v4) };
        match ours {
            Some(ours) => Endpoint::new(ours, if ours.is_ipv4() { self.tcp } else { self.tcp6 }),
            None => Endpoint { ip: None, udp, tcp: self.tcp },
        }
    }
}

/// Puts the content together from its sources.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    udp: u16,
    tcp: u16,
    pub(crate) tendermint: Option<TendermintEntry>,
    v4: Sources,
    v6: Sources,
}

/// What is known of our endpoint in one family, by who says it.
#[derive(Debug, Clone, Copy, Default)]
struct Sources {
    explicit: Option<IpAddr>,
    external: Option<ExternalEndpoint>,
    seen: Option<SocketAddr>,
    fallback: Option<IpAddr>,
}

type TcpPorts = [Option<(u16, u16)>; MAX_TCP];

impl Sources {
    /// Anything but a guess: the UDP endpoint, and the TCP ports that may have other numbers there.
    fn told(&self, udp: u16) -> Option<(SocketAddr, TcpPorts)> {
        let explicit = self.explicit.map(|ip| (SocketAddr::new(ip, udp), TcpPorts::default()));
        let external = || {
            let ExternalEndpoint { ip, udp: udp_there, tcp } = self.external?;
            let seen_there = self.seen.filter(|seen| seen.ip() == ip).map(|seen| seen.port());
            Some((SocketAddr::new(ip, udp_there.or(seen_there).unwrap_or(udp)), tcp))
        };
        explicit.or_else(external).or_else(|| Some((self.seen?, TcpPorts::default())))
    }
}

impl Local {
    pub(crate) fn new(own: OwnEndpoint, tendermint: Option<TendermintEntry>) -> Local {
        let sources = |is_v4: bool| {
            let first = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_canonical).find(|ip| ip.is_ipv4() == is_v4);
            Sources { explicit: first(&own.explicit_ips), fallback: first(&own.fallback_ips), ..Sources::default() }
        };
        Local { udp: own.udp, tcp: own.tcp, tendermint, v4: sources(true), v6: sources(false) }
    }

    /// The majority says we are at `endpoint`. It stays until another majority says otherwise, so that a quiet hour
    /// does not change our record.
    pub(crate) fn seen_at(&mut self, endpoint: SocketAddr) {
        self.family(endpoint.ip()).seen = Some(endpoint);
    }

    /// Gateways and STUN servers say that we are at these endpoints, and at no others.
    pub(crate) fn set_external(&mut self, endpoints: &[ExternalEndpoint]) {
        (self.v4.external, self.v6.external) = (None, None);
        for endpoint in endpoints {
            let ip = endpoint.ip.to_canonical();
            if !ip.is_unspecified() && !ip.is_multicast() {
                self.family(ip).external.get_or_insert(ExternalEndpoint { ip, ..*endpoint });
            }
        }
    }

    /// Whether the operator has given an address of this family: then nobody is asked.
    pub(crate) fn is_explicit(&self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.v4.explicit.is_some() } else { self.v6.explicit.is_some() }
    }

    fn family(&mut self, ip: IpAddr) -> &mut Sources {
        if ip.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }

    pub(crate) fn udp(&self) -> u16 {
        self.udp
    }

    pub(crate) fn content(&self) -> LocalContent {
        let (v4, v6) = (self.v4.told(self.udp), self.v6.told(self.udp));
        let is_told = v4.is_some() || v6.is_some();
        let guess = |sources: &Sources| {
            let ip = sources.fallback.filter(|ip| !(is_told && ip.is_loopback()))?;
            Some((SocketAddr::new(ip, self.udp), TcpPorts::default()))
        };
        let (v4, v6) = (v4.or_else(|| guess(&self.v4)), v6.or_else(|| guess(&self.v6)));
        let [mapped, mapped6] = [v4, v6].map(|told| told.map(|(_, mapped)| mapped));
        let outside = |mapped: Option<TcpPorts>, port: u16| {
            let mut mapped = mapped.into_iter().flatten().flatten();
            mapped.find(|(inside, _)| *inside == port).map_or(port, |(_, outside)| outside)
        };
        let is_mapped = |mapped: &TcpPorts| mapped.iter().any(Option::is_some);
        // `tm` has one port for both families.
        let tendermint = self.tendermint.map(|entry| {
            let tcp_port = outside(mapped.filter(is_mapped).or(mapped6), entry.tcp_port);
            TendermintEntry { tcp_port, ..entry }
        });
        let v4 = v4.and_then(|(endpoint, _)| match endpoint {
            SocketAddr::V4(v4) => Some(v4),
            SocketAddr::V6(_) => None,
        });
        let v6 = v6.and_then(|(endpoint, _)| match endpoint {
            SocketAddr::V6(v6) => Some(v6),
            SocketAddr::V4(_) => None,
        });
        LocalContent { v4, v6, tcp: outside(mapped, self.tcp), tcp6: outside(mapped6, self.tcp), tendermint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    fn own(explicit: &[&str], fallback: &[&str]) -> OwnEndpoint {
        let parse = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect();
        OwnEndpoint { explicit_ips: parse(explicit), fallback_ips: parse(fallback), udp: 30303, tcp: 30304 }
    }

    #[test]
    fn explicit_wins_over_seen_wins_over_fallback() {
        let mut local = Local::new(own(&[], &["127.0.0.1"]), None);
        assert_eq!(local.content().v4.unwrap().to_string(), "127.0.0.1:30303");
        local.seen_at("23.1.1.1:4444".parse().unwrap());
        assert_eq!(local.content().v4.unwrap().to_string(), "23.1.1.1:4444");
        let mut local = Local::new(own(&["23.9.9.9"], &["127.0.0.1"]), None);
        local.seen_at("23.1.1.1:4444".parse().unwrap());
        assert_eq!(local.content().v4.unwrap().to_string(), "23.9.9.9:30303");
    }

    #[test]
    fn what_a_gateway_says_wins_over_the_vote_and_never_over_the_operator() {
        let external = |ip: &str, udp, tcp| ExternalEndpoint { ip: ip.parse().unwrap(), udp, tcp: [tcp, None] };
        let entry = TendermintEntry { node_id: [7; 20], tcp_port: 30304 };
        let mut local = Local::new(own(&["2a00::1"], &["127.0.0.1"]), Some(entry));
        local.seen_at("23.1.1.1:4444".parse().unwrap());
        local.set_external(&[
            external("23.2.2.2", Some(5555), Some((30304, 6666))),
            external("2a00::2", Some(7777), None),
        ]);
        let content = local.content();
        assert_eq!(content.v4.unwrap().to_string(), "23.2.2.2:5555");
        assert_eq!((content.tcp, content.tcp6), (6666, 30304), "each family has its TCP port");
        assert_eq!(content.tendermint, Some(TendermintEntry { tcp_port: 6666, ..entry }));
        assert_eq!(content.v6.unwrap().to_string(), "[2a00::1]:30303");

        // What is mapped is one TCP port, not whichever the record names.
        local.set_external(&[external("23.2.2.2", Some(5555), Some((26656, 6666)))]);
        assert_eq!((local.content().tcp, local.content().tendermint), (30304, Some(entry)));

        // Each wire has a port of its own.
        local.tendermint = Some(TendermintEntry { tcp_port: 26656, ..entry });
        let tcp = [Some((26656, 6666)), Some((30304, 7777))];
        local.set_external(&[ExternalEndpoint { ip: [23, 2, 2, 2].into(), udp: Some(5555), tcp }]);
        let content = local.content();
        assert_eq!((content.tcp, content.tendermint.unwrap().tcp_port), (7777, 6666));
        local.tendermint = Some(entry);

        // A STUN server knows no port: the one that others see, if they see the same address.
        local.set_external(&[external("23.1.1.1", None, None)]);
        assert_eq!(local.content().v4.unwrap().to_string(), "23.1.1.1:4444");
        local.set_external(&[external("23.3.3.3", None, None)]);
        assert_eq!(local.content().v4.unwrap().to_string(), "23.3.3.3:30303");

        // The mapping is gone: the vote is heard again.
        local.set_external(&[]);
        assert_eq!(local.content().v4.unwrap().to_string(), "23.1.1.1:4444");
        let before = local.content();
        local.set_external(&[external("0.0.0.0", None, None), external("224.0.0.1", None, None)]);
        assert_eq!(local.content(), before, "nobody is there");
    }

    /// go-ethereum #29495: with an IPv6 address only, its record said 127.0.0.1 besides.
    #[test]
    fn one_familys_address_makes_none_up_for_the_other() {
        let content = Local::new(own(&["2a00::1"], &["127.0.0.1"]), None).content();
        assert_eq!((content.v4, content.v6), (None, "[2a00::1]:30303".parse().ok()));
        let record = content.builder(1).sign(&SecretKey::from_bytes(&[1; 32]).unwrap()).unwrap();
        assert_eq!((record.ip(), record.udp(), record.tcp()), (None, None, None));
        assert_eq!((record.udp6(), record.tcp6()), (Some(30303), Some(30304)));
        // An address that somebody may reach stays.
        let content = Local::new(own(&["2a00::1"], &["192.168.1.2"]), None).content();
        assert_eq!(content.v4, "192.168.1.2:30303".parse().ok());
        // Likewise when it is a vote that brings the first real address.
        let mut local = Local::new(own(&[], &["127.0.0.1"]), None);
        local.seen_at("[2a00::1]:4".parse().unwrap());
        assert_eq!((local.content().v4, local.content().v6), (None, "[2a00::1]:4".parse().ok()));
    }

    #[test]
    fn both_families_are_written_explicitly() {
        let entry = TendermintEntry { node_id: [7; 20], tcp_port: 26656 };
        let content = Local::new(own(&["23.9.9.9", "2a00::1"], &[]), Some(entry)).content();
        let key = SecretKey::from_bytes(&[1; 32]).unwrap();
        let record = content.builder(7).sign(&key).unwrap();
        assert_eq!(
            (record.seq(), record.ip(), record.udp(), record.tcp()),
            (7, "23.9.9.9".parse().ok(), Some(30303), Some(30304))
        );
        assert_eq!((record.ip6(), record.udp6(), record.tcp6()), ("2a00::1".parse().ok(), Some(30303), Some(30304)));
        assert_eq!(record.tendermint(), Some(entry));
    }

    #[test]
    fn without_any_address_there_is_still_a_record() {
        let content = Local::new(own(&[], &[]), None).content();
        assert_eq!((content.v4, content.v6), (None, None));
        let record = content.builder(1).sign(&SecretKey::from_bytes(&[1; 32]).unwrap()).unwrap();
        assert_eq!((record.ip(), record.tcp()), (None, Some(30304)));
    }
}
