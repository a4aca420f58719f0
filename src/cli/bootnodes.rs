//! `--bootnodes`: records and URLs, the latter with an address or a host name. Names are resolved when the command starts.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use kadwire_discovery::{NodeRecord, RecordError, is_public};
use kadwire_wire::Host;
use tokio::net::lookup_host;
use tokio::time::timeout;
use tracing::warn;

use super::exit::Failure;
use super::options::{List, ReachFlags};

/// The longest wait for a name (go-ethereum `dnsTimeout`).
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A node to begin with.
#[derive(Debug, Clone)]
pub(super) enum Bootnode {
    Known(NodeRecord),
    /// An enode URL with a host name in place of the address.
    Named {
        url: String,
        host: String,
    },
}

pub(super) type Bootnodes = List<Bootnode>;

impl FromStr for Bootnode {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        match text.parse() {
            Ok(record) => Ok(Bootnode::Known(record)),
            Err(RecordError::HostName(host)) if Host::from_name(&host).is_ok() => {
                let named = Bootnode::Named { url: text.to_owned(), host };
                // Whatever else is wrong with it is wrong now, not when the name is resolved.
                named.at(IpAddr::from([127, 0, 0, 1]))?;
                Ok(named)
            }
            Err(RecordError::HostName(_)) => Err(RecordError::Address),
            Err(error) => Err(error),
        }
    }
}

impl Bootnode {
    fn at(&self, ip: IpAddr) -> Result<NodeRecord, RecordError> {
        match self {
            Bootnode::Known(record) => Ok(record.clone()),
            Bootnode::Named { url, host } => {
                let ip = Host::from_ip(ip).map_err(|_| RecordError::Address)?;
                url.replacen(&format!("@{host}"), &format!("@{ip}"), 1).parse()
            }
        }
    }

    async fn resolve(&self) -> Option<NodeRecord> {
        let Bootnode::Named { host, .. } = self else { return self.at(IpAddr::from([127, 0, 0, 1])).ok() };
        let found = match timeout(RESOLVE_TIMEOUT, lookup_host((host.as_str(), 0))).await {
            Ok(Ok(found)) => found.map(|address| address.ip()).min_by_key(IpAddr::is_ipv6),
            Ok(Err(error)) => {
                warn!(host, %error, "bootnode left out: its name does not resolve");
                return None;
            }
            Err(_) => None,
        };
        let record = found.and_then(|ip| self.at(ip).ok());
        if record.is_none() {
            warn!(host, "bootnode left out: its name does not resolve");
        }
        record
    }
}

impl Bootnodes {
    /// Whether we may deal with all of them; one that we may not is the operator's mistake, and named. Names are looked at when
    /// they are resolved.
    pub(super) fn check(&self, reach: &ReachFlags) -> Result<(), Failure> {
        for bootnode in &self.0 {
            let Bootnode::Known(record) = bootnode else { continue };
            let in_enr =
                record.enr().into_iter().flat_map(|enr| [enr.ip().map(IpAddr::from), enr.ip6().map(IpAddr::from)]);
            if reach.public_only && !in_enr.flatten().chain([record.ip()]).any(is_public) {
                let problem = format!("{} is not a public address, and --public-only deals with no other", record.ip());
                return Err(Failure::usage("--bootnodes", problem));
            }
        }
        Ok(())
    }

    /// All whose names resolve; one that does not keeps nobody from starting.
    pub(super) async fn resolve(&self) -> Vec<NodeRecord> {
        let mut records = Vec::new();
        for bootnode in &self.0 {
            records.extend(bootnode.resolve().await);
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd3138\
                       7574077f301b421bc84df7266c44e9e6d569fc56be00812904767bf5ccd1fc7f";

    fn parse(rest: &str) -> Result<Bootnode, RecordError> {
        format!("enode://{KEY}@{rest}").parse()
    }

    #[test]
    fn a_name_is_taken_and_nonsense_is_not() {
        assert!(matches!(parse("1.2.3.4:5"), Ok(Bootnode::Known(_))));
        let named = parse("boot.example:30303?discport=30301").unwrap();
        let record = named.at("2001:db8::1".parse().unwrap()).unwrap();
        assert_eq!((record.ip(), record.tcp(), record.udp()), ("2001:db8::1".parse().unwrap(), 30303, 30301));
        assert_eq!(parse("999.1.1.1:5").unwrap_err(), RecordError::Address);
        assert_eq!(parse("-bad-.example:5").unwrap_err(), RecordError::Address);
        assert_eq!(parse("boot.example:x").unwrap_err(), RecordError::Port);
    }

    #[tokio::test]
    async fn localhost_resolves() {
        let list = format!("enode://{KEY}@localhost:7,enode://{KEY}@127.0.0.1:8");
        let records = list.parse::<Bootnodes>().unwrap().resolve().await;
        assert_eq!(records.iter().map(|record| record.ip()).collect::<Vec<_>>(), [IpAddr::from([127, 0, 0, 1]); 2]);
    }
}
