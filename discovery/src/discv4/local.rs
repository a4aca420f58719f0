//! What our own record says: the operator's word first, then what others see, then a guess.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::message::Endpoint;
use crate::{Enr, EnrBuilder, TendermintEntry};

/// What is known of our own endpoint beforehand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnEndpoint {
    /// Addresses given by the operator, at most one for each family counts; nothing overrules them.
    pub explicit_ips: Vec<IpAddr>,
    /// Addresses to claim until others tell us better, e.g. the one the socket is bound to.
    pub fallback_ips: Vec<IpAddr>,
    /// UDP port the socket is bound to; a vote on our endpoint can change the published one.
    pub udp: u16,
    /// TCP port to publish; 0 for none.
    pub tcp: u16,
}

/// What our record is to say. The driver signs it, with a sequence number higher than any before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalContent {
    /// `ip` and `udp`.
    pub v4: Option<SocketAddrV4>,
    /// `ip6` and `udp6`.
    pub v6: Option<SocketAddrV6>,
    /// `tcp`, and `tcp6` if there is an `ip6`; 0 for none.
    pub tcp: u16,
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
            builder = builder.ip6(*v6.ip()).udp6(v6.port()).tcp6(self.tcp);
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
            Some(ours) => Endpoint::new(ours, self.tcp),
            None => Endpoint { ip: None, udp, tcp: self.tcp },
        }
    }
}

/// Puts the content together from its sources.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    own: OwnEndpoint,
    pub(crate) tendermint: Option<TendermintEntry>,
    seen_v4: Option<SocketAddr>,
    seen_v6: Option<SocketAddr>,
}

impl Local {
    pub(crate) fn new(own: OwnEndpoint, tendermint: Option<TendermintEntry>) -> Local {
        Local { own, tendermint, seen_v4: None, seen_v6: None }
    }

    /// The majority says we are at `endpoint`. It stays until another majority says otherwise, so that a quiet hour
    /// does not change our record.
    pub(crate) fn seen_at(&mut self, endpoint: SocketAddr) {
        match endpoint {
            SocketAddr::V4(_) => self.seen_v4 = Some(endpoint),
            SocketAddr::V6(_) => self.seen_v6 = Some(endpoint),
        }
    }

    /// Whether the operator has given an address of this family: then nobody is asked.
    pub(crate) fn is_explicit(&self, ip: IpAddr) -> bool {
        self.own.explicit_ips.iter().any(|explicit| explicit.to_canonical().is_ipv4() == ip.is_ipv4())
    }

    pub(crate) fn udp(&self) -> u16 {
        self.own.udp
    }

    pub(crate) fn content(&self) -> LocalContent {
        let udp = self.own.udp;
        let pick = |is_v4: bool, seen: Option<SocketAddr>| {
            let of_family = |ips: &[IpAddr]| {
                let found = ips.iter().map(IpAddr::to_canonical).find(|ip| ip.is_ipv4() == is_v4);
                found.map(|ip| SocketAddr::new(ip, udp))
            };
            of_family(&self.own.explicit_ips).or(seen).or_else(|| of_family(&self.own.fallback_ips))
        };
        let v4 = pick(true, self.seen_v4).and_then(|endpoint| match endpoint {
            SocketAddr::V4(v4) => Some(v4),
            SocketAddr::V6(_) => None,
        });
        let v6 = pick(false, self.seen_v6).and_then(|endpoint| match endpoint {
            SocketAddr::V6(v6) => Some(v6),
            SocketAddr::V4(_) => None,
        });
        LocalContent { v4, v6, tcp: self.own.tcp, tendermint: self.tendermint }
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
