//! What goes wrong with gateways and STUN servers, and what an operator can do about it. The node goes on in every case.

use std::{io, net::IpAddr};

/// Why nothing was found out this time.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("no UPnP gateway answers: {0}")]
    NoUpnp(String),
    #[error("no default route over IPv4, so no gateway to ask")]
    NoRoute,
    #[error("{0} answers neither PCP nor NAT-PMP: {1}")]
    NoPmp(IpAddr, String),
    #[error("the gateway does not map {protocol} port {port}: {why}")]
    NotMapped { protocol: &'static str, port: u16, why: String },
    #[error("the gateway does not tell its external address: {0}")]
    NoExternalIp(String),
    #[error("the gateway's own external address {0} is not public")]
    BehindAnother(IpAddr),
    #[error("the STUN server sees us at {0}, which is not public")]
    NotPublic(IpAddr),
    #[error("no STUN server answers: {0}")]
    NoStun(String),
    #[error("no answer within {0} s")]
    TimedOut(u64),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Trouble {
    /// What an operator can do.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Trouble::NoUpnp(_) | Trouble::NoPmp(..) => {
                "turn on UPnP or NAT-PMP in the router, or forward the port by hand and give --nat extip:IP"
            }
            Trouble::NoRoute => "give the gateway's address as --nat pmp:IP",
            Trouble::NotMapped { .. } => "allow port mappings for this host in the router, or forward the port by hand",
            Trouble::BehindAnother(_) => {
                "there is a second NAT (perhaps the provider's): no mapping of ours is reached from outside; ask for a public address"
            }
            Trouble::NoExternalIp(_) => "give the address as --nat extip:IP, and forward the port by hand",
            Trouble::NotPublic(_) => "ask a STUN server that is outside the local network",
            Trouble::NoStun(_) => "check the server's name and that UDP leaves this network, or give --nat extip:IP",
            Trouble::TimedOut(_) | Trouble::Io(_) => "nothing, if it comes and goes; it is tried again",
        }
    }

    /// Whether this is the trouble we had already, in other words perhaps.
    pub(super) fn is_like(&self, other: &Trouble) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}
