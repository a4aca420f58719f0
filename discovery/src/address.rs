//! Classes of IP addresses and the relay rule: who may tell us (and whom we may tell) about which address.
//!
//! Not a firewall: `netrestrict` is the operator's list, this is the protocol's. The lists are go-ethereum's
//! `p2p/netutil` (IANA special-purpose registries).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address may not be passed on or accepted from a sender (go-ethereum `netutil.CheckRelayAddr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// `0.0.0.0` or `::`.
    #[error("unspecified address")]
    Unspecified,
    /// Multicast or one of the IANA special-purpose networks.
    #[error("special network")]
    Special,
    /// A loopback address from a host that is not on loopback.
    #[error("loopback address from a host that is not on loopback")]
    Loopback,
    /// A private or link-local address from a host outside such networks.
    #[error("LAN address from a host on the WAN")]
    Lan,
}

/// Decides whether `sender` may speak of `address` (spec sheet discv4 §6). Applied to neighbours and to the address in
/// an ENR, both when they are received and when they are relayed (`sender` is then the receiver of the answer).
///
/// # Errors
/// The class of address that rules it out.
pub fn check_relay(sender: IpAddr, address: IpAddr) -> Result<(), RelayError> {
    let (sender, address) = (sender.to_canonical(), address.to_canonical());
    if address.is_unspecified() {
        return Err(RelayError::Unspecified);
    }
    if address.is_multicast() || is_special(address) {
        return Err(RelayError::Special);
    }
    if address.is_loopback() && !sender.is_loopback() {
        return Err(RelayError::Loopback);
    }
    if is_lan(address) && !is_lan(sender) {
        return Err(RelayError::Lan);
    }
    Ok(())
}

/// True for loopback, private (RFC 1918, fc00::/7), link-local and "this network" addresses.
pub fn is_lan(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.octets().starts_with(&[0]),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The network an address counts for where sources are told apart: an IPv4 /24 or an IPv6 /48, its other bits zero. A
/// /24 is the smallest that is routed by itself, and a /48 is what one customer gets.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => Ipv4Addr::from(mask_v4(v4, 24)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(mask_v6(v6, 48)).into(),
    }
}

/// True for an address that a host on the internet can have: not loopback, private, shared (RFC 6598, carriers' NAT), link-local,
/// special, multicast or reserved; of IPv6 only global unicast (2000::/3, RFC 4291 §2.4). What `public_only` allows.
pub fn is_public(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let is_unicast = match ip {
        IpAddr::V4(v4) => {
            let is_shared = mask_v4(v4, 10) == u32::from(Ipv4Addr::new(100, 64, 0, 0));
            let is_reserved = mask_v4(v4, 4) == u32::from(Ipv4Addr::new(240, 0, 0, 0));
            let is_assigned_to_protocols = mask_v4(v4, 24) == u32::from(Ipv4Addr::new(192, 0, 0, 0));
            !v4.is_multicast() && !is_shared && !is_reserved && !is_assigned_to_protocols
        }
        IpAddr::V6(v6) => {
            let is_documentation = mask_v6(v6, 20) == u128::from(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0)); // RFC 9637
            mask_v6(v6, 3) == u128::from(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)) && !is_documentation
        }
    };
    is_unicast && !is_lan(ip) && !is_special(ip)
}

/// True inside a network of the IANA special-purpose registries that no host on the internet has an address of
/// (documentation, benchmarking, 6to4, …). Private networks are not special: see [`is_lan`].
pub fn is_special(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            SPECIAL_V4.iter().any(|(net, prefix)| mask_v4(ip, *prefix) == u32::from(Ipv4Addr::from(*net)))
        }
        IpAddr::V6(ip) => {
            SPECIAL_V6.iter().any(|(net, prefix)| mask_v6(ip, *prefix) == u128::from(Ipv6Addr::from(*net)))
        }
    }
}

/// The first `prefix` bits of an IPv4 address, the others zero.
fn mask_v4(ip: Ipv4Addr, prefix: u32) -> u32 {
    u32::from(ip) & u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0)
}

/// The first `prefix` bits of an IPv6 address, the others zero.
fn mask_v6(ip: Ipv6Addr, prefix: u32) -> u128 {
    u128::from(ip) & u128::MAX.checked_shl(128_u32.saturating_sub(prefix)).unwrap_or(0)
}

const SPECIAL_V4: [([u8; 4], u32); 14] = [
    ([0, 0, 0, 0], 8),
    ([192, 0, 0, 0], 29),
    ([192, 0, 0, 9], 32),
    ([192, 0, 0, 170], 32),
    ([192, 0, 0, 171], 32),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 52, 193, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 175, 48, 0], 24),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([255, 255, 255, 255], 32),
];

const SPECIAL_V6: [([u16; 8], u32); 11] = [
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32),
    ([0x2001, 1, 0, 0, 0, 0, 0, 1], 128),
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48),
    ([0x2001, 3, 0, 0, 0, 0, 0, 0], 32),
    ([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48),
    ([0x2001, 5, 0, 0, 0, 0, 0, 0], 32),
    ([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28),
    ([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sender: &str, address: &str) -> Result<(), RelayError> {
        check_relay(sender.parse().unwrap(), address.parse().unwrap())
    }

    #[test]
    fn relay_rule_rows() {
        for (sender, address, expected) in [
            ("127.0.0.1", "0.0.0.0", Err(RelayError::Unspecified)),
            ("127.0.0.1", "::", Err(RelayError::Unspecified)),
            ("192.168.0.1", "127.0.0.1", Err(RelayError::Loopback)),
            ("23.55.1.242", "127.0.0.1", Err(RelayError::Loopback)),
            ("23.55.1.242", "192.168.0.1", Err(RelayError::Lan)),
            ("23.55.1.242", "10.0.0.2", Err(RelayError::Lan)),
            ("23.55.1.242", "169.254.3.4", Err(RelayError::Lan)),
            ("2a00::1", "fd00::1", Err(RelayError::Lan)),
            ("127.0.0.1", "255.255.255.255", Err(RelayError::Special)),
            ("127.0.0.1", "224.0.0.1", Err(RelayError::Special)),
            ("23.55.1.242", "198.19.255.255", Err(RelayError::Special)),
            ("23.55.1.242", "203.0.113.9", Err(RelayError::Special)),
            ("23.55.1.242", "2001:db8::1", Err(RelayError::Special)),
            ("23.55.1.242", "2002:1::1", Err(RelayError::Special)),
            ("192.168.0.1", "192.168.5.6", Ok(())),
            ("127.0.0.1", "127.0.2.19", Ok(())),
            ("127.0.0.1", "192.168.0.1", Ok(())),
            ("127.0.0.1", "23.55.1.242", Ok(())),
            ("192.168.0.1", "23.55.1.242", Ok(())),
            ("23.55.1.242", "23.55.5.6", Ok(())),
            ("23.55.1.242", "192.0.1.1", Ok(())),
        ] {
            assert_eq!(check(sender, address), expected, "{sender} speaks of {address}");
        }
    }

    #[test]
    fn public_is_what_the_internet_routes() {
        let public =
            ["1.1.1.1", "100.63.255.255", "100.128.0.0", "172.32.0.1", "192.0.1.1", "223.255.255.254", "2a00::1"];
        let private = "0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 169.254.1.1 172.16.0.1 192.0.0.170 192.0.2.1 \
                       192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 \
                       :: ::1 ::ffff:10.0.0.1 64:ff9b::a00:1 100::1 2001::1 2001:db8::1 2002:a00:1::1 3fff::1 fc00::1 fd00::1 \
                       fe80::1 ff02::1 5f00::1";
        for (ips, expected) in [(public.join(" "), true), (private.to_owned(), false)] {
            for ip in ips.split_whitespace() {
                assert_eq!(is_public(ip.parse().unwrap()), expected, "{ip}");
            }
        }
        assert!(is_public("::ffff:1.1.1.1".parse().unwrap()));
    }

    /// An IPv4-mapped address is its IPv4 address, or the whole rule could be walked around.
    #[test]
    fn mapped_addresses_are_unwrapped() {
        assert_eq!(check("23.55.1.242", "::ffff:192.168.0.1"), Err(RelayError::Lan));
        assert_eq!(check("::ffff:127.0.0.1", "127.0.0.5"), Ok(()));
    }
}
