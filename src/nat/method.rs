//! What the operator can ask for: [`Method`], and [`Plan`], which has one for each address family at most.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use kadwire_wire::Host;

/// Where a STUN server listens unless it says otherwise (RFC 8489 §18.6).
const STUN_PORT: u16 = 3478;

/// The servers of a plain `stun`, asked in this order until one answers. Only an operator who says `stun` contacts them.
const STUN_SERVERS: [(&str, u16); 3] =
    [("stun.cloudflare.com", STUN_PORT), ("stun.l.google.com", 19302), ("stun.nextcloud.com", STUN_PORT)];

/// How to find out where others reach us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Nobody is asked; other nodes say it in their pongs.
    None,
    /// It is this address. Never unspecified, multicast or IPv4-mapped.
    ExternalIp(IpAddr),
    /// UPnP and PCP or NAT-PMP at once; the first that works.
    Any,
    /// UPnP, from a gateway that answers on the local network.
    Upnp,
    /// PCP, else NAT-PMP, from this gateway or that of the default route.
    Pmp(Option<Ipv4Addr>),
    /// A STUN server's view: of this one, or of a known one. Maps nothing.
    Stun(Option<StunServer>),
}

/// A STUN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StunServer {
    pub(super) host: Host,
    pub(super) port: u16,
}

/// Why a text is no method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// `extip` without an address.
    #[error("want an IP address after extip:")]
    NoAddress,
    /// An address that no host can have.
    #[error("nobody can be reached at {0}")]
    NoHost(IpAddr),
    /// What stands after `pmp:` is no IPv4 address.
    #[error("want the gateway's IPv4 address after pmp:")]
    Gateway,
    /// What stands after `stun:` is no server.
    #[error("want HOST or HOST:PORT after stun:")]
    Server,
    /// Something stands after a method that takes nothing.
    #[error("nothing can follow {0}:")]
    TakesNothing(String),
    /// None of the methods.
    #[error("want none, any, upnp, pmp[:GATEWAY], stun[:HOST[:PORT]] or extip:IP")]
    Unknown,
}

/// go-ethereum's spellings, in either case.
impl FromStr for Method {
    type Err = MethodError;

    fn from_str(text: &str) -> Result<Self, MethodError> {
        let lower = text.to_ascii_lowercase();
        let (name, rest) = lower.split_once(':').map_or((lower.as_str(), None), |(name, rest)| (name, Some(rest)));
        let plain = |method| match rest {
            None => Ok(method),
            Some(_) => Err(MethodError::TakesNothing(name.to_owned())),
        };
        match name {
            "" | "none" | "off" => plain(Method::None),
            "any" | "auto" | "on" => plain(Method::Any),
            "upnp" => plain(Method::Upnp),
            "pmp" | "natpmp" | "nat-pmp" => {
                let gateway = rest.map(|rest| rest.parse().map_err(|_| MethodError::Gateway));
                gateway.transpose().map(Method::Pmp)
            }
            "stun" => match rest {
                None | Some("default") => Ok(Method::Stun(None)),
                Some(server) => server.parse().map(|server| Method::Stun(Some(server))),
            },
            "extip" | "ip" => {
                let ip: IpAddr = rest.unwrap_or_default().parse().map_err(|_| MethodError::NoAddress)?;
                let ip = ip.to_canonical();
                if ip.is_unspecified() || ip.is_multicast() {
                    return Err(MethodError::NoHost(ip));
                }
                Ok(Method::ExternalIp(ip))
            }
            _ => Err(MethodError::Unknown),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::None => f.write_str("none"),
            Method::ExternalIp(ip) => write!(f, "extip:{ip}"),
            Method::Any => f.write_str("any"),
            Method::Upnp => f.write_str("upnp"),
            Method::Pmp(None) => f.write_str("pmp"),
            Method::Pmp(Some(gateway)) => write!(f, "pmp:{gateway}"),
            Method::Stun(None) => f.write_str("stun"),
            Method::Stun(Some(server)) => write!(f, "stun:{server}"),
        }
    }
}

impl FromStr for StunServer {
    type Err = MethodError;

    fn from_str(text: &str) -> Result<Self, MethodError> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let (ip, port) = match (bare.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
            (Ok(ip), _) => (ip, STUN_PORT),
            (_, Ok(address)) => (address.ip(), address.port()),
            _ => return StunServer::named(text),
        };
        let host = Host::from_ip(ip).map_err(|_| MethodError::Server)?;
        StunServer { host, port }.usable()
    }
}

impl StunServer {
    fn named(text: &str) -> Result<Self, MethodError> {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, port.parse().map_err(|_| MethodError::Server)?),
            None => (text, STUN_PORT),
        };
        let host = Host::from_name(name).map_err(|_| MethodError::Server)?;
        StunServer { host, port }.usable()
    }

    fn usable(self) -> Result<Self, MethodError> {
        if self.port == 0 { Err(MethodError::Server) } else { Ok(self) }
    }

    fn known() -> Vec<StunServer> {
        let server = |(name, port)| Some(StunServer { host: Host::from_name(name).ok()?, port });
        STUN_SERVERS.into_iter().filter_map(server).collect()
    }
}

impl fmt::Display for StunServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Method {
    /// The servers to ask, if this asks STUN servers.
    pub(super) fn stun_servers(&self) -> Vec<StunServer> {
        match self {
            Method::Stun(Some(server)) => vec![server.clone()],
            Method::Stun(None) => StunServer::known(),
            _ => Vec::new(),
        }
    }

    /// Whether it finds an address of IPv6. Gateways map IPv4 only; a server with a name is asked over IPv4, as go-ethereum does.
    fn is_ipv6(&self) -> bool {
        match self {
            Method::ExternalIp(ip) => ip.is_ipv6(),
            Method::Stun(Some(StunServer { host: Host::Ip(ip), .. })) => ip.is_ipv6(),
            _ => false,
        }
    }
}

/// Two methods that cannot both be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Both say where we are in the same family.
    #[error("{first} and {second} both say where we are in {family}: give one of them")]
    SameFamily {
        /// The one given first.
        first: Method,
        /// The other.
        second: Method,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// Nothing, and something.
    #[error("{0} and {1} contradict each other: give one of them")]
    NoneAndSome(Method, Method),
}

/// A method at most for each address family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    v4: Option<Method>,
    v6: Option<Method>,
}

impl Plan {
    /// Puts methods together.
    ///
    /// # Errors
    /// The first two that contradict each other.
    pub fn new(methods: impl IntoIterator<Item = Method>) -> Result<Self, Conflict> {
        let (mut plan, mut earlier) = (Plan::default(), Vec::<Method>::new());
        for method in methods {
            if let Some(other) = earlier.iter().find(|other| (**other == Method::None) != (method == Method::None)) {
                return Err(Conflict::NoneAndSome(other.clone(), method));
            }
            earlier.push(method.clone());
            let family = if method.is_ipv6() { &mut plan.v6 } else { &mut plan.v4 };
            match family.take().filter(|_| method != Method::None) {
                Some(first) => {
                    let family = if method.is_ipv6() { "IPv6" } else { "IPv4" };
                    return Err(Conflict::SameFamily { first, second: method, family });
                }
                None => *family = Some(method).filter(|method| *method != Method::None),
            }
        }
        Ok(plan)
    }

    /// UPnP in IPv4, nothing in IPv6: what `upnp = true` says in a `config.toml`.
    pub fn upnp() -> Self {
        Plan { v4: Some(Method::Upnp), v6: None }
    }

    /// The addresses that the operator gives, IPv4 first.
    pub fn explicit_ips(&self) -> Vec<IpAddr> {
        let explicit = self.methods().filter_map(|method| match method {
            Method::ExternalIp(ip) => Some(*ip),
            _ => None,
        });
        explicit.collect()
    }

    /// The methods that ask somebody, IPv4's first.
    pub fn asking(&self) -> Vec<Method> {
        self.methods().filter(|method| !matches!(method, Method::ExternalIp(_))).cloned().collect()
    }

    fn methods(&self) -> impl Iterator<Item = &Method> {
        self.v4.iter().chain(&self.v6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(text: &str) -> Method {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn plan(texts: &[&str]) -> Result<Plan, Conflict> {
        Plan::new(texts.iter().map(|text| method(text)))
    }

    #[test]
    fn every_spelling_of_go_ethereum_is_one() {
        for (texts, canonical) in [
            (&["", "none", "off", "NONE"][..], "none"),
            (&["any", "auto", "on", "Any"], "any"),
            (&["upnp", "UPnP"], "upnp"),
            (&["pmp", "natpmp", "nat-pmp", "PMP"], "pmp"),
            (&["pmp:192.168.0.1", "NAT-PMP:192.168.0.1"], "pmp:192.168.0.1"),
            (&["stun", "stun:default"], "stun"),
            (&["stun:stun.example.org", "stun:STUN.example.org:3478"], "stun:stun.example.org:3478"),
            (&["stun:24.1.1.1", "stun:24.1.1.1:3478"], "stun:24.1.1.1:3478"),
            (&["stun:2a00::1", "stun:[2a00::1]", "stun:[2a00::1]:3478"], "stun:[2a00::1]:3478"),
            (&["extip:77.12.33.4", "ip:77.12.33.4", "EXTIP:77.12.33.4", "extip:::ffff:77.12.33.4"], "extip:77.12.33.4"),
            (&["extip:2001:DB8::1"], "extip:2001:db8::1"),
        ] {
            for text in texts {
                assert_eq!(method(text).to_string(), canonical, "{text:?}");
            }
            assert_eq!(method(canonical).to_string(), canonical);
        }
    }

    #[test]
    fn what_is_no_method_is_told_what_to_write() {
        for (text, hint) in [
            ("sideways", "extip:IP"),
            ("extip", "after extip:"),
            ("extip:", "after extip:"),
            ("extip:host.example", "after extip:"),
            ("extip:0.0.0.0", "nobody"),
            ("extip:ff02::1", "nobody"),
            ("pmp:router", "after pmp:"),
            ("pmp:2001:db8::1", "after pmp:"),
            ("stun:", "after stun:"),
            ("stun:host:port", "after stun:"),
            ("stun:host:0", "after stun:"),
            ("stun:host:1:2", "after stun:"),
            ("upnp:1.2.3.4", "nothing can follow upnp:"),
            ("none:", "nothing can follow none:"),
        ] {
            let error = text.parse::<Method>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn one_for_each_family() {
        let both = plan(&["extip:2a00::1", "extip:24.0.0.1"]).unwrap();
        assert_eq!(both.explicit_ips(), ["24.0.0.1".parse::<IpAddr>().unwrap(), "2a00::1".parse().unwrap()]);
        assert!(both.asking().is_empty());
        for (texts, explicit, asking) in [
            (&[][..], 0, 0),
            (&["none"], 0, 0),
            (&["none", "off"], 0, 0),
            (&["upnp", "extip:2a00::1"], 1, 1),
            (&["extip:24.0.0.1", "stun:[2a00::1]:3478"], 1, 1),
            (&["any", "stun:[2a00::1]:3478"], 0, 2),
        ] {
            let plan = plan(texts).unwrap();
            assert_eq!((plan.explicit_ips().len(), plan.asking().len()), (explicit, asking), "{texts:?}");
        }
    }

    #[test]
    fn two_for_one_family_are_both_named() {
        for (texts, named) in [
            (["extip:24.0.0.1", "extip:24.0.0.2"], ["extip:24.0.0.1", "extip:24.0.0.2", "IPv4"]),
            (["extip:2a00::1", "stun:[2a00::2]:1"], ["extip:2a00::1", "stun:[2a00::2]:1", "IPv6"]),
            (["upnp", "pmp"], ["upnp", "pmp", "IPv4"]),
            (["stun", "extip:24.0.0.1"], ["stun", "extip:24.0.0.1", "IPv4"]),
            (["none", "upnp"], ["none", "upnp", "contradict"]),
            (["extip:2a00::1", "off"], ["extip:2a00::1", "none", "contradict"]),
        ] {
            let conflict = plan(&texts).unwrap_err().to_string();
            assert!(named.iter().all(|name| conflict.contains(name)), "{conflict}");
        }
    }
}
