//! Limits on how many table entries one network may have, in a bucket and in the whole table.
//!
//! They are what makes an eclipse cost addresses and not just keys (Marcus, Heilman, Goldberg 2018): ids are free,
//! networks are not. Replacements count as well, or a full bucket's future could be bought.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::is_lan;

/// How many entries and replacements may share a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubnetLimits {
    /// In one bucket; 2 (go-ethereum `bucketIPLimit`).
    pub bucket: usize,
    /// In the whole table; 10 (go-ethereum `tableIPLimit`).
    pub table: usize,
    /// Leading bits of an IPv4 address that make a network; 24 (go-ethereum `tableSubnet`).
    pub v4_prefix: u8,
    /// Leading bits of an IPv6 address that make a network; 48. go-ethereum uses 24 here too, which is a whole
    /// provider. A /64 is one link, but customers are given a /56 or /48, so that a /64 would make 65,536 networks
    /// of one attacker's.
    pub v6_prefix: u8,
    /// Count loopback, private and link-local addresses too; `false` (as go-ethereum), since a local network is one
    /// subnet. Simulations of attacks on loopback need `true`.
    pub lan: bool,
}

impl Default for SubnetLimits {
    fn default() -> SubnetLimits {
        SubnetLimits { bucket: 2, table: 10, v4_prefix: 24, v6_prefix: 48, lan: false }
    }
}

impl SubnetLimits {
    /// The network `ip` counts for; `None` when it is exempt.
    pub(crate) fn subnet(&self, ip: IpAddr) -> Option<IpNet> {
        let ip = ip.to_canonical();
        if is_lan(ip) && !self.lan {
            return None;
        }
        let prefix = if ip.is_ipv4() { self.v4_prefix.min(32) } else { self.v6_prefix.min(128) };
        IpNet::new(ip, prefix).ok().map(|net| net.trunc())
    }
}

/// Entries of the whole table by network. A bucket is small enough to be counted when asked.
#[derive(Debug, Default)]
pub(crate) struct SubnetCounts(BTreeMap<IpNet, usize>);

impl SubnetCounts {
    pub(crate) fn count(&self, subnet: &IpNet) -> usize {
        self.0.get(subnet).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, subnet: Option<IpNet>) {
        if let Some(subnet) = subnet {
            let count = self.0.entry(subnet).or_default();
            *count = count.saturating_add(1);
        }
    }

    pub(crate) fn remove(&mut self, subnet: Option<IpNet>) {
        let Some(subnet) = subnet else { return };
        if let Some(count) = self.0.get_mut(&subnet) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(&subnet);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_slash_24_or_a_slash_48() {
        let limits = SubnetLimits::default();
        let subnet = |ip: &str| limits.subnet(ip.parse().unwrap()).map(|net| net.to_string());
        assert_eq!(subnet("23.55.1.242").as_deref(), Some("23.55.1.0/24"));
        assert_eq!(subnet("::ffff:23.55.1.242").as_deref(), Some("23.55.1.0/24"));
        assert_eq!(subnet("2a00:1:2:3:4:5:6:7").as_deref(), Some("2a00:1:2::/48"));
    }

    #[test]
    fn lan_is_exempt_unless_asked_for() {
        let mut limits = SubnetLimits::default();
        for ip in ["127.0.0.1", "10.1.2.3", "192.168.4.5", "169.254.1.1", "fd00::1", "::1"] {
            limits.lan = false;
            assert_eq!(limits.subnet(ip.parse().unwrap()), None, "{ip}");
            limits.lan = true;
            assert!(limits.subnet(ip.parse().unwrap()).is_some(), "{ip}");
        }
    }
}
