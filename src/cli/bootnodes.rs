//! `--bootnodes`: records and URLs, the latter with an address or a host name. Names are resolved when the command starts.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use kadwire_discovery::discv4::{OutOfReach, Reach};
use kadwire_discovery::{NodeRecord, RecordError};
use kadwire_wire::Host;
use tokio::net::lookup_host;
use tokio::time::timeout;
use tracing::warn;

use super::exit::Failure;
use super::options::List;

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
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Bootnode::read(text).map_err(|error| match error {
            RecordError::Scheme if text.starts_with("enrtree:") => "DNS lists are not read: give nodes".to_owned(),
            RecordError::Scheme => "want enode://KEY@IP:PORT or enr:…".to_owned(),
            error => error.to_string(),
        })
    }
}

impl Bootnode {
    fn read(text: &str) -> Result<Self, RecordError> {
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

    fn at(&self, ip: IpAddr) -> Result<NodeRecord, RecordError> {
        match self {
            Bootnode::Known(record) => Ok(record.clone()),
            Bootnode::Named { url, host } => {
                let ip = Host::from_ip(ip).map_err(|_| RecordError::Address)?;
                url.replacen(&format!("@{host}"), &format!("@{ip}"), 1).parse()
            }
        }
    }

    /// The node, at an address that we deal with if it has a name.
    async fn resolve(&self, reach: &Reach) -> Option<NodeRecord> {
        let host = match self {
            Bootnode::Known(record) => return Some(record.clone()),
            Bootnode::Named { host, .. } => host,
        };
        let found: Vec<IpAddr> = match timeout(RESOLVE_TIMEOUT, lookup_host((host.as_str(), 0))).await {
            Ok(Ok(found)) => found.map(|address| address.ip().to_canonical()).collect(),
            Ok(Err(error)) => {
                warn!(host, %error, "bootnode left out: its name does not resolve");
                return None;
            }
            Err(_) => Vec::new(),
        };
        let usable = found.iter().filter(|ip| reach.check(**ip).is_ok()).min_by_key(|ip| ip.is_ipv6());
        let record = usable.and_then(|ip| self.at(*ip).ok());
        if record.is_none() {
            let why = found.first().and_then(|ip| reach.check(*ip).err());
            let why = why.map_or_else(|| "its name does not resolve".to_owned(), |why| why.to_string());
            warn!(host, at = ?found, why, "bootnode left out");
        }
        record
    }
}

impl Bootnodes {
    /// Whether we may deal with all of them: one that is not public where only such are dealt with is the operator's mistake,
    /// and named. Names are looked at when they are resolved.
    pub(super) fn check(&self, reach: &Reach) -> Result<(), Failure> {
        for bootnode in &self.0 {
            let Bootnode::Known(record) = bootnode else { continue };
            let in_enr = record.enr().map(|enr| [enr.ip().map(IpAddr::from), enr.ip6().map(IpAddr::from)]);
            let has_another = in_enr.into_iter().flatten().flatten().any(|ip| reach.check(ip).is_ok());
            match reach.check(record.ip()) {
                Err(OutOfReach::NotPublic) if !has_another => {
                    let problem =
                        format!("{} is not a public address, and --public-only deals with no other", record.ip());
                    return Err(Failure::usage("--bootnodes", problem));
                }
                Err(why) if !has_another => warn!(bootnode = %record, %why, "bootnode left out"),
                _ => {}
            }
        }
        Ok(())
    }

    /// All whose names resolve; one that does not keeps nobody from starting.
    pub(super) async fn resolve(&self, reach: &Reach) -> Vec<NodeRecord> {
        let mut records = Vec::new();
        for bootnode in &self.0 {
            records.extend(bootnode.resolve(reach).await);
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kadwire_discovery::discv4::Families;

    const KEY: &str = "ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd3138\
                       7574077f301b421bc84df7266c44e9e6d569fc56be00812904767bf5ccd1fc7f";

    fn parse(rest: &str) -> Result<Bootnode, RecordError> {
        Bootnode::read(&format!("enode://{KEY}@{rest}"))
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
    async fn a_name_resolves_to_an_address_that_we_deal_with() {
        let list = format!("enode://{KEY}@localhost:7,enode://{KEY}@127.0.0.1:8").parse::<Bootnodes>().unwrap();
        let resolved =
            async |reach: Reach| list.resolve(&reach).await.iter().map(|record| record.ip()).collect::<Vec<_>>();
        assert_eq!(resolved(Reach::default()).await, [IpAddr::from([127, 0, 0, 1]); 2]);
        let public = Reach { public_only: true, ..Reach::default() };
        // The second is an error before it comes to this.
        assert_eq!(resolved(public.clone()).await, [IpAddr::from([127, 0, 0, 1])], "the name is left out");
        let Err(Failure::Usage(problem)) = list.check(&public) else { panic!("127.0.0.1 is not public") };
        assert!(problem.contains("127.0.0.1 is not a public address"), "{problem}");
        assert!(list.check(&Reach { families: Families::V6, ..Reach::default() }).is_ok(), "left out, with a warning");
    }
}
