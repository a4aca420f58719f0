//! Which addresses we deal with at all: what the socket can send to, and what the operator allows.
//!
//! The machine asks this once before it takes a packet in, once before it begins a request, and once for every packet that
//! leaves ([`Discv4::transmit`](super::Discv4)), whoever named the address: a neighbour, a record, a ping or a flag.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::NodeRecord;
use crate::address::is_public;

/// The address families that a socket can send to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Families {
    /// A socket bound to an IPv4 address.
    V4,
    /// A socket bound to an IPv6 address: the IPv4 internet is not behind it.
    V6,
    /// A socket bound to `::`, which takes IPv4 too.
    #[default]
    Both,
}

impl Families {
    /// What a socket bound to this address can send to.
    pub fn of_socket(bound: IpAddr) -> Families {
        match bound {
            IpAddr::V6(ip) if ip.is_unspecified() => Families::Both,
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_none() => Families::V6,
            IpAddr::V4(_) | IpAddr::V6(_) => Families::V4,
        }
    }

    /// Whether an address of this one's family can be reached.
    pub fn has(self, ip: IpAddr) -> bool {
        match self {
            Families::V4 => ip.to_canonical().is_ipv4(),
            Families::V6 => ip.to_canonical().is_ipv6(),
            Families::Both => true,
        }
    }
}

/// Why an address is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfReach {
    /// The socket does not speak this family.
    #[error("our socket does not speak the address's family")]
    Family,
    /// Private, shared (CGNAT), link-local, loopback, multicast or special, and only public addresses are allowed.
    #[error("not a public address")]
    NotPublic,
    /// Outside the networks given.
    #[error("outside the allowed networks")]
    NetRestricted,
}

/// The rules.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// What the socket can send to.
    pub families: Families,
    /// Only public addresses ([`is_public`]).
    pub public_only: bool,
    /// If not empty: only addresses in these networks.
    pub netrestrict: Vec<IpNet>,
}

impl Reach {
    /// Whether we deal with this address.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn check(&self, ip: IpAddr) -> Result<(), OutOfReach> {
        let ip = ip.to_canonical();
        if !self.families.has(ip) {
            return Err(OutOfReach::Family);
        }
        if self.public_only && !is_public(ip) {
            return Err(OutOfReach::NotPublic);
        }
        if !self.netrestrict.is_empty() && !self.netrestrict.iter().any(|net| net.contains(&ip)) {
            return Err(OutOfReach::NetRestricted);
        }
        Ok(())
    }

    pub(crate) fn allows(&self, ip: IpAddr) -> bool {
        self.check(ip).is_ok()
    }

    /// The node at an endpoint of its that we can reach: the one it is known by, or the other one in its signed record.
    pub(crate) fn place(&self, node: &NodeRecord) -> Option<NodeRecord> {
        if self.allows(node.ip()) {
            return Some(node.clone());
        }
        NodeRecord::from_enr_where(node.enr()?.clone(), |ip| self.allows(ip)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Enr, SecretKey};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_socket_speaks_the_families_it_is_bound_for() {
        for (bound, v4, v6) in [
            ("0.0.0.0", true, false),
            ("23.1.1.1", true, false),
            ("::", true, true),
            ("2a00::1", false, true),
            ("::1", false, true),
            ("::ffff:23.1.1.1", true, false),
        ] {
            let families = Families::of_socket(ip(bound));
            assert_eq!((families.has(ip("24.0.0.1")), families.has(ip("2a00::2"))), (v4, v6), "{bound}");
            assert_eq!(families.has(ip("::ffff:24.0.0.1")), v4, "{bound}: a mapped address is IPv4");
        }
    }

    #[test]
    fn every_rule_has_its_reason_and_mapped_addresses_do_not_walk_around_it() {
        let reach = Reach {
            families: Families::V4,
            public_only: true,
            netrestrict: vec!["24.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
        };
        for (address, verdict) in [
            ("24.1.2.3", Ok(())),
            ("::ffff:24.1.2.3", Ok(())),
            ("2a00::1", Err(OutOfReach::Family)),
            ("10.1.2.3", Err(OutOfReach::NotPublic)),
            ("::ffff:10.1.2.3", Err(OutOfReach::NotPublic)),
            ("25.1.2.3", Err(OutOfReach::NetRestricted)),
        ] {
            assert_eq!(reach.check(ip(address)), verdict, "{address}");
        }
    }

    #[test]
    fn of_two_endpoints_the_one_that_is_in_reach() {
        let key = SecretKey::from_bytes(&[1; 32]).unwrap();
        let both = Enr::builder(1).ip([24, 0, 0, 1].into()).udp(1).ip6("2a00::1".parse().unwrap()).udp6(2);
        let node = NodeRecord::from_enr(both.sign(&key).unwrap()).unwrap();
        assert!(node.ip().is_ipv4(), "of equals IPv4");
        let at = |families| Reach { families, ..Reach::default() }.place(&node).unwrap().endpoint().to_string();
        assert_eq!((at(Families::V4).as_str(), at(Families::V6).as_str()), ("24.0.0.1:1", "[2a00::1]:2"));
        let unsigned = NodeRecord::new(*key.public(), ip("24.0.0.1"), 1, 0).unwrap();
        assert_eq!(Reach { families: Families::V6, ..Reach::default() }.place(&unsigned), None);
    }
}
