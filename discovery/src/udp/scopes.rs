//! Which interface a link-local IPv6 address is behind, as far as we have heard from there.
//!
//! `fe80::1` is an address of every link; the system wants to know of which (the scope id). Neither a record nor a packet has a
//! place for that, so the machine knows addresses only, and the socket adds the scope from which such an address wrote last.
//! One that has not written goes out as it is: where there is one interface only, the system finds it. go-ethereum answers
//! with the scope, and forgets it in its table.

use std::{
    net::{Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use lru::LruCache;

/// Addresses remembered, 100 KB. Only hosts on our own links have such.
const MAX_SCOPES: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

#[derive(Debug)]
pub(super) struct Scopes(Mutex<LruCache<Ipv6Addr, u32>>);

impl Default for Scopes {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_SCOPES)))
    }
}

impl Scopes {
    /// A datagram came from there.
    pub(super) fn learn(&self, from: SocketAddr) {
        if let SocketAddr::V6(from) = from
            && from.ip().is_unicast_link_local()
            && from.scope_id() != 0
        {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).put(*from.ip(), from.scope_id());
        }
    }

    /// The same address, with the scope that it has been heard from.
    pub(super) fn with_scope(&self, to: SocketAddr) -> SocketAddr {
        let SocketAddr::V6(mut v6) = to else { return to };
        if v6.ip().is_unicast_link_local() {
            let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(v6.ip()).copied();
            heard.into_iter().for_each(|scope| v6.set_scope_id(scope));
        }
        v6.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_link_local_address_is_answered_over_the_interface_it_wrote_from() {
        let scopes = Scopes::default();
        scopes.learn(at("[fe80::1%3]:30303"));
        scopes.learn(at("[fe80::2%4]:30303"));
        assert_eq!(scopes.with_scope(at("[fe80::1]:30303")), at("[fe80::1%3]:30303"));
        assert_eq!(scopes.with_scope(at("[fe80::1]:4444")), at("[fe80::1%3]:4444"), "whatever the port");
        assert_eq!(scopes.with_scope(at("[fe80::2]:30303")), at("[fe80::2%4]:30303"));
        assert_eq!(scopes.with_scope(at("[fe80::3]:30303")), at("[fe80::3]:30303"), "not heard of");
        scopes.learn(at("[fe80::1%5]:30303"));
        assert_eq!(scopes.with_scope(at("[fe80::1]:30303")), at("[fe80::1%5]:30303"), "where it is now");
    }

    #[test]
    fn other_addresses_have_no_scope() {
        let scopes = Scopes::default();
        for other in ["[2a00::1%3]:1", "[::1%1]:1", "[fd00::1%3]:1", "169.254.0.1:1", "24.0.0.1:1"] {
            scopes.learn(at(other));
            let plain = SocketAddr::new(at(other).ip(), 1);
            assert_eq!(scopes.with_scope(plain), plain);
        }
        assert!(scopes.0.lock().unwrap().is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let scopes = Scopes::default();
        for host in 0..5000 {
            let ip = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host);
            scopes.learn(std::net::SocketAddrV6::new(ip, 1, 0, 2).into());
        }
        assert_eq!(scopes.0.lock().unwrap().len(), MAX_SCOPES.get());
    }
}
