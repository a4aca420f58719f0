//! From an address to the endpoints that it names (ADR-062, `NodeAddress.Resolve`).

use std::io;

use super::{DialError, Endpoint};
use crate::{Host, PeerAddress};

/// Of the addresses of a name, this many are looked at.
const MAX_RESOLVED: usize = 8;

/// The endpoints of an address, in the order in which they should be tried: its IP; the IPs of its name, as the system finds them, at
/// most 8 and without those that cannot be dialed; or the node of this process. Never empty. Bound it by a time-out.
pub async fn resolve(address: &PeerAddress) -> Result<Vec<Endpoint>, DialError> {
    let name = match (address.host(), address.socket_addr()) {
        (_, Some(socket)) => return Ok(vec![Endpoint::Socket(socket)]),
        (Host::Memory, _) => return Ok(vec![Endpoint::Memory(address.id())]),
        (Host::Name(name), _) => name,
        (Host::Ip(_), None) => return Err(DialError::Unsupported),
    };
    let found = tokio::net::lookup_host((name.as_str(), address.port())).await;
    let found = found.map_err(|error| DialError::Resolve(error.kind()))?.take(MAX_RESOLVED);
    let usable: Vec<_> =
        found.filter_map(|socket| PeerAddress::from_socket(address.id(), socket).ok()?.socket_addr()).collect();
    if usable.is_empty() {
        return Err(DialError::Resolve(io::ErrorKind::NotFound));
    }
    Ok(usable.into_iter().map(Endpoint::Socket).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After Tendermint v0.35.9, `internal/p2p/address_test.go`, TestNodeAddress_Resolve.
    #[tokio::test]
    async fn addresses_become_endpoints() {
        let id = "00112233445566778899aabbccddeeff00112233";
        let resolved = async |text: String| resolve(&text.parse().unwrap()).await;
        for (text, expected) in [
            (format!("mconn://{id}@127.0.0.1:80/path"), "127.0.0.1:80"),
            (format!("{id}@8.8.8.8:1"), "8.8.8.8:1"),
            (format!("{id}@[2001:db8::ff00:42:8329]:2"), "[2001:db8::ff00:42:8329]:2"),
            (format!("memory:{id}"), "memory:00112233445566778899aabbccddeeff00112233"),
        ] {
            let found: Vec<_> = resolved(text).await.unwrap().iter().map(Endpoint::to_string).collect();
            assert_eq!(found, [expected]);
        }
        assert!(
            resolved(format!("{id}@localhost:80")).await.unwrap().iter().all(|found| found.ip().unwrap().is_loopback())
        );
        assert!(matches!(resolved(format!("{id}@nobody.invalid:80")).await, Err(DialError::Resolve(_))));
    }
}
