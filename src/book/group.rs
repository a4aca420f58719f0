//! Which network an address belongs to. A group is what one owner can cheaply have many addresses in; limits and bucket placement go by it.
//! Rules: CometBFT `p2p/netaddress.go` and `groupKeyFor`, after Bitcoin Core's `netaddress.cpp`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kadwire_wire::address::{Host, PeerAddress};

/// The network of an address: /16 of IPv4 (also inside 6to4, Teredo and NAT64), /32 of IPv6, /36 of Hurricane Electric's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// This machine or this process.
    Local,
    /// Not reachable from the internet; one group if the book is strict.
    Unroutable,
    /// A DNS name: nobody knows which network it is in.
    Named,
    /// The first two bytes of an IPv4 address.
    V4([u8; 2]),
    /// The first four bytes of an IPv6 address.
    V6([u8; 4]),
    /// The first 36 bits of an address of Hurricane Electric's tunnels, which it hands out to everybody.
    HurricaneElectric([u8; 5]),
    /// Four bits of a Tor onion key in OnionCat's network, fd87:d87e:eb43::/48: keys are free, so all of them are few groups.
    Tor(u8),
}

impl Group {
    /// The group of a peer's address; `strict` makes one group of all that is not routable.
    pub fn of(address: &PeerAddress, strict: bool) -> Self {
        match address.host() {
            Host::Ip(ip) => Group::of_ip(*ip, strict),
            Host::Name(_) => Group::Named,
            Host::Memory => Group::Local,
        }
    }

    /// The group of an IP address.
    pub fn of_ip(ip: IpAddr, strict: bool) -> Self {
        let ip = ip.to_canonical();
        if strict && is_local(ip) {
            return Group::Local;
        }
        if strict && !is_routable(ip) {
            return Group::Unroutable;
        }
        match ip {
            IpAddr::V4(ip) => Group::v4(ip),
            IpAddr::V6(ip) => embedded_v4(ip).map_or_else(|| Group::v6(ip), Group::v4),
        }
    }

    fn v4(ip: Ipv4Addr) -> Self {
        let [a, b, ..] = ip.octets();
        Group::V4([a, b])
    }

    fn v6(ip: Ipv6Addr) -> Self {
        let [a, b, c, d, e, _, key, ..] = ip.octets();
        if let [0xfd87, 0xd87e, 0xeb43, ..] = ip.segments() {
            return Group::Tor(key & 0x0f);
        }
        if [a, b, c, d] == [0x20, 0x01, 0x04, 0x70] {
            return Group::HurricaneElectric([a, b, c, d, e & 0xf0]);
        }
        Group::V6([a, b, c, d])
    }

    /// Bytes that differ between any two groups, for the placement hash.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Group::Local => b"local".to_vec(),
            Group::Unroutable => b"unroutable".to_vec(),
            Group::Named => b"named".to_vec(),
            Group::V4(prefix) => prefix.to_vec(),
            Group::V6(prefix) => prefix.to_vec(),
            Group::HurricaneElectric(prefix) => [b"he".as_slice(), prefix].concat(),
            Group::Tor(key) => [b"tor:".as_slice(), &[*key]].concat(),
        }
    }
}

/// What one host can be: an IPv4 address, or the /48 that an IPv6 customer may be given.
pub(crate) fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 80 << 80).into(),
        v4 => v4,
    }
}

/// The IPv4 address inside an IPv6 one: NAT64 (RFC 6052), stateless translation (RFC 6145), 6to4 (RFC 3964), Teredo (RFC 4380).
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [_, _, c, d, e, f, .., w, x, y, z] = ip.octets();
    match ip.segments() {
        [0x0064, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Some(Ipv4Addr::new(w, x, y, z)),
        [0x2002, ..] => Some(Ipv4Addr::new(c, d, e, f)),
        [0x2001, 0, ..] => Some(Ipv4Addr::new(!w, !x, !y, !z)),
        _ => None,
    }
}

/// Nothing that can be dialed is ever there: this network (0/8), multicast, the reserved 240/4, and IPv6's like, also by way of a
/// translation. Refused by every book.
pub(crate) fn is_special(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, ..] = ip.octets();
            first == 0 || first >= 224
        }
        IpAddr::V6(ip) => {
            let embedded = embedded_v4(ip).is_some_and(|v4| is_special(IpAddr::V4(v4)));
            ip.is_unspecified() || ip.is_multicast() || embedded
        }
    }
}

/// Loopback.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether the internet can reach an address. Stricter than CometBFT by shared address space (RFC 6598), documentation (RFC 5737) and
/// benchmarking (RFC 2544) networks, which Bitcoin Core refuses too.
pub(crate) fn is_routable(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    if is_special(ip) || is_local(ip) {
        return false;
    }
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && b & 0xc0 == 64;
            let benchmarking = a == 198 && b & 0xfe == 18;
            !(ip.is_private() || ip.is_link_local() || ip.is_documentation() || shared || benchmarking)
        }
        IpAddr::V6(ip) => {
            let orchid = matches!(ip.segments(), [0x2001, second, ..] if second & 0xfff0 == 0x10);
            let documentation = matches!(ip.segments(), [0x2001, 0x0db8, ..]);
            let embedded_bad = embedded_v4(ip).is_some_and(|v4| !is_routable(IpAddr::V4(v4)));
            !(ip.is_unique_local() || ip.is_unicast_link_local() || orchid || documentation || embedded_bad)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The cases of CometBFT's `addrbook_test.go`, TestAddrBookGroupKey, not strict.
    #[test]
    fn groups_are_those_of_cometbft() {
        let v4 = Group::V4([12, 1]);
        let v6 = Group::V6([0x26, 2, 1, 0]);
        let he = Group::HurricaneElectric([0x20, 1, 4, 0x70, 0x10]);
        for (address, group) in [
            ("12.1.2.3", v4),
            ("173.1.2.3", Group::V4([173, 1])),
            ("196.1.2.3", Group::V4([196, 1])),
            ("2002:0c01:0203::", v4),
            ("2001:0:1234::f3fe:fdfc", v4),
            ("64:ff9b::0c01:0203", v4),
            ("::ffff:0:0c01:0203", v4),
            ("fd87:d87e:eb43:1234::5678", Group::Tor(2)),
            ("fd87:d87e:eb43:1245::6789", Group::Tor(2)),
            ("fd87:d87e:eb43:1345::6789", Group::Tor(3)),
            ("2602:100::1", v6),
            ("2602:0100::1234", v6),
            ("2001:470:1f10:a1::2", he),
            ("2001:0470:1f10:a1::2", he),
            // Ours: the mapped form is the same address.
            ("::ffff:12.1.9.9", v4),
        ] {
            assert_eq!(Group::of_ip(ip(address), false), group, "{address}");
            let strict = if matches!(group, Group::Tor(_)) { Group::Unroutable } else { group };
            assert_eq!(Group::of_ip(ip(address), true), strict, "{address} strict");
        }
    }

    /// The same test's strict cases. Ours differ in 0/8, which is refused before it is grouped.
    #[test]
    fn a_strict_book_has_one_group_for_what_is_local_and_one_for_what_is_not_routable() {
        for local in ["127.0.0.1", "::1"] {
            assert_eq!(Group::of_ip(ip(local), true), Group::Local, "{local}");
        }
        for unroutable in [
            "255.255.255.255",
            "10.1.2.3",
            "172.16.1.2",
            "192.168.1.2",
            "2001:db8::1234",
            "169.254.1.2",
            "fc00::1234",
            "2001:10::1234",
            "fe80::1234",
        ] {
            assert_eq!(Group::of_ip(ip(unroutable), true), Group::Unroutable, "{unroutable}");
            assert!(!matches!(Group::of_ip(ip(unroutable), false), Group::Local | Group::Unroutable), "{unroutable}");
        }
    }

    #[test]
    fn special_and_unroutable_networks_are_known() {
        for special in [
            "0.1.2.3",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "64:ff9b::e000:1",
            "2002:f000:0001::1",
        ] {
            assert!(is_special(ip(special)) && !is_routable(ip(special)), "{special}");
        }
        for unroutable in
            ["100.64.0.1", "192.0.2.1", "198.18.0.1", "2001:db8::1", "2002:0a00:0001::1", "64:ff9b::7f00:1"]
        {
            assert!(!is_routable(ip(unroutable)) && !is_special(ip(unroutable)), "{unroutable}");
        }
        for routable in ["1.2.3.4", "100.128.0.1", "198.20.0.1", "2600::1", "2001:470::1"] {
            assert!(is_routable(ip(routable)), "{routable}");
        }
    }
}
