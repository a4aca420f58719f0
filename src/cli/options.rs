//! Values of flags: what text they take, and what is wrong with one that is not taken.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
pub(super) use kadwire::config::Listen;
use kadwire::nat::{Method, Plan};
use kadwire_discovery::SecretKey;
use kadwire_discovery::discv4::{Families, Reach};
use tracing::warn;

use super::exit::Failure;

/// How others reach us.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct NatFlags {
    /// How others reach us: none (the default), any, upnp, pmp[:GATEWAY], stun[:HOST[:PORT]] or extip:IP; once for IPv4 and once for IPv6
    #[arg(long = "nat", value_name = "NAT")]
    methods: Vec<Method>,
}

impl NatFlags {
    /// Whether there are any.
    pub(super) fn given(&self) -> bool {
        !self.methods.is_empty()
    }

    /// What the flags say, for a node that listens at `listen`.
    pub(super) fn plan(&self, listen: Listen) -> Result<Plan, Failure> {
        let plan = Plan::new(self.methods.iter().cloned()).map_err(|conflict| Failure::usage("--nat", conflict))?;
        let families = Families::of_socket(listen.address().ip());
        if let Some(deaf) = plan.explicit_ips().into_iter().find(|ip| !families.has(*ip)) {
            warn!(ip = %deaf, "the record will give this address, but we do not listen on its family: listen on :PORT for both");
        }
        Ok(plan)
    }
}

/// Whom we deal with.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ReachFlags {
    /// Only deal with nodes in these networks
    #[arg(long, value_name = "CIDR,…", default_value = "", hide_default_value = true, value_parser = networks)]
    pub(super) netrestrict: List<IpNet>,

    /// Never send to private, shared (CGNAT), loopback, link-local, multicast or special addresses, whoever names them
    #[arg(long)]
    pub(super) public_only: bool,
}

impl ReachFlags {
    /// The same for a socket at `listen`.
    pub(super) fn reach(&self, listen: Listen) -> Reach {
        let families = Families::of_socket(listen.address().ip());
        Reach { families, public_only: self.public_only, netrestrict: self.netrestrict.0.clone() }
    }
}

fn networks(text: &str) -> Result<List<IpNet>, String> {
    text.parse().map_err(|error| format!("{error}: want networks such as 10.0.0.0/8,fd00::/8"))
}

/// The place of a socket.
pub(super) fn socket(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "want IP:PORT, such as 127.0.0.1:6060 or [::1]:6060")
}

/// A comma-separated list; empty places are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<T: FromStr<Err: std::fmt::Display>> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parsed = parts.map(|part| {
            part.parse().map_err(|error| match shorten(part, ENOUGH) {
                whole if whole == text => format!("{error}"),
                part => format!("{part:?}: {error}"),
            })
        });
        parsed.collect::<Result<_, _>>().map(List)
    }
}

/// Characters of a value that are enough to find it by.
const ENOUGH: usize = 40;

/// At most so many characters of a value.
pub(super) fn shorten(text: &str, enough: usize) -> String {
    match text.char_indices().nth(enough) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Where the secp256k1 key of a node comes from. Keys are read only after the flags: no message about a flag may quote a key.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct NodeKeyFlags {
    /// Node key: a file with 64 hex digits, or the digits themselves.
    #[arg(long, value_name = "FILE|HEX")]
    pub(super) nodekey: Option<String>,

    /// Node key as 64 hex digits. Others on this machine may see it; a file is better.
    #[arg(long, value_name = "HEX", conflicts_with = "nodekey")]
    pub(super) nodekeyhex: Option<String>,
}

impl NodeKeyFlags {
    /// The key that the flags name, if any.
    pub(super) fn key(&self) -> Result<Option<SecretKey>, Failure> {
        if let Some(hex) = &self.nodekeyhex {
            return SecretKey::from_hex(hex).map(Some).map_err(|error| Failure::usage("--nodekeyhex", error));
        }
        let Some(given) = &self.nodekey else { return Ok(None) };
        if given.len() == 64 && given.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return SecretKey::from_hex(given).map(Some).map_err(|error| Failure::usage("--nodekey", error));
        }
        let path = PathBuf::from(given);
        if !path.exists() {
            let problem = format!("neither 64 hex digits nor a file: {} (--genkey makes one)", shorten(given, ENOUGH));
            return Err(Failure::usage("--nodekey", problem));
        }
        if path.is_dir() {
            let problem = format!("{} is a folder: want the file in it", path.display());
            return Err(Failure::usage("--nodekey", problem));
        }
        SecretKey::load(path).map(Some).map_err(|error| Failure::usage("--nodekey", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_its_bad_part() {
        assert_eq!(" 10.0.0.0/8, ,192.168.0.0/16,".parse::<List<IpNet>>().unwrap().0.len(), 2);
        assert!("10.0.0.0/8,127.0.0.1/99".parse::<List<IpNet>>().unwrap_err().starts_with("\"127.0.0.1/99\": "));
        assert!(
            !"127.0.0.1/99".parse::<List<IpNet>>().unwrap_err().contains("127"),
            "the whole value is quoted by clap"
        );
        assert!("".parse::<List<IpNet>>().unwrap().0.is_empty());
    }

    #[test]
    fn no_message_quotes_a_key() {
        let secret = "0".repeat(63) + "1z";
        let flags = NodeKeyFlags { nodekey: None, nodekeyhex: Some(secret.clone()) };
        let Err(Failure::Usage(problem)) = flags.key() else { panic!("65 digits are no key") };
        assert!(problem.starts_with("--nodekeyhex: ") && !problem.contains(&secret), "{problem}");
    }
}
