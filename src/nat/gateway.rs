//! A gateway that maps ports: by UPnP IGD, or by PCP or NAT-PMP. Drives other libraries' clients; decides nothing.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use crab_nat::{
    GatewayAddress, InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp,
};
use igd_next::{
    AddPortError, PortMappingProtocol, SearchOptions,
    aio::tokio::{Tokio, search_gateway},
};

use super::{
    keeper::LEASE,
    route::{default_gateway, source_towards},
    trouble::Trouble,
};

/// How long a UPnP gateway may take to answer the search and describe itself. Devices may wait up to 3 s by themselves (UPnP
/// Device Architecture, `MX`).
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits for an answer of PCP or NAT-PMP: 250 ms, 500 ms, 1 s, 2 s (RFC 6886 §3.1 begins so, and goes on for a minute).
const PMP_TIMES: TimeoutConfig =
    TimeoutConfig { initial_timeout: Duration::from_millis(250), max_retries: 3, max_retry_timeout: None };

/// What the gateway's user interface calls our mappings.
const DESCRIPTION: &str = "kadwire";

/// A port of ours, to be mapped.
pub(super) type Port = (Protocol, u16);

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Udp,
    Tcp,
}

impl Protocol {
    pub(super) fn name(self) -> &'static str {
        match self {
            Protocol::Udp => "UDP",
            Protocol::Tcp => "TCP",
        }
    }
}

/// A mapping made or refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) port: u16,
    /// How long it holds; for ever without.
    pub(super) lease: Option<Duration>,
}

/// A gateway that has answered, and what it maps for us.
#[derive(Debug)]
pub(super) enum Gateway {
    Upnp(Upnp),
    Pmp(Pmp),
}

impl Gateway {
    /// Looks for a UPnP gateway on the local network.
    pub(super) async fn find_upnp() -> Result<Gateway, Trouble> {
        let mut options = SearchOptions::default();
        options.timeout = Some(SEARCH_TIMEOUT);
        let found = search_gateway(options).await.map_err(|error| Trouble::NoUpnp(error.to_string()))?;
        let own = source_towards(found.addr)?;
        Ok(Gateway::Upnp(Upnp { gateway: found, own, permanent: false, mapped: BTreeMap::new() }))
    }

    /// Asks this gateway, or that of the default route, whether it speaks PCP or NAT-PMP.
    pub(super) async fn find_pmp(address: Option<Ipv4Addr>) -> Result<Gateway, Trouble> {
        let address = address.or_else(default_gateway).ok_or(Trouble::NoRoute)?;
        let own = source_towards(SocketAddr::new(address.into(), crab_nat::GATEWAY_PORT))?;
        match natpmp::external_address(address.into(), Some(PMP_TIMES)).await {
            // A gateway that speaks only PCP says so.
            Ok(_) | Err(natpmp::Failure::UnsupportedVersion(_)) => {
                Ok(Gateway::Pmp(Pmp { address: address.into(), own, mapped: BTreeMap::new() }))
            }
            Err(error) => Err(Trouble::NoPmp(address.into(), error.to_string())),
        }
    }

    /// Maps a port of ours, or refreshes its mapping. The port outside is the same if it is free.
    pub(super) async fn map(&mut self, protocol: Protocol, port: u16) -> Result<Mapped, Trouble> {
        let mapped = match self {
            Gateway::Upnp(upnp) => upnp.map(protocol, port).await,
            Gateway::Pmp(pmp) => pmp.map(protocol, port).await,
        };
        mapped.map_err(|why| Trouble::NotMapped { protocol: protocol.name(), port, why })
    }

    /// The address on the far side.
    pub(super) async fn external_ip(&self) -> Result<IpAddr, Trouble> {
        let ip = match self {
            Gateway::Upnp(upnp) => upnp.gateway.get_external_ip().await.map_err(|error| error.to_string()),
            Gateway::Pmp(pmp) => pmp.external_ip().await,
        };
        ip.map_err(Trouble::NoExternalIp)
    }

    /// Takes back all mappings; what the gateway refuses ends with its lease.
    pub(super) async fn unmap_all(&mut self) {
        match self {
            Gateway::Upnp(upnp) => upnp.unmap_all().await,
            Gateway::Pmp(pmp) => pmp.unmap_all().await,
        }
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gateway::Upnp(upnp) => write!(f, "UPnP gateway {}", upnp.gateway.addr.ip()),
            Gateway::Pmp(pmp) => {
                let speaks_pcp = pmp.mapped.values().any(|mapping| pcp_address(mapping).is_some());
                let name = if speaks_pcp { "PCP" } else { "NAT-PMP" };
                write!(f, "{name} gateway {}", IpAddr::from(pmp.address))
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Upnp {
    gateway: igd_next::aio::Gateway<Tokio>,
    /// Our address on the gateway's network.
    own: IpAddr,
    /// The gateway knows no leases.
    permanent: bool,
    /// Ports outside.
    mapped: BTreeMap<Port, u16>,
}

impl Upnp {
    async fn map(&mut self, protocol: Protocol, port: u16) -> Result<Mapped, String> {
        let wanted = self.mapped.get(&(protocol, port)).copied().unwrap_or(port);
        let outside = match self.add(protocol, port, wanted).await {
            Ok(()) => wanted,
            Err(AddPortError::OnlyPermanentLeasesSupported) if !self.permanent => {
                self.permanent = true;
                tracing::warn!("the gateway makes permanent mappings only: one stays if this process is killed");
                self.add(protocol, port, wanted).await.map_err(|error| error.to_string())?;
                wanted
            }
            Err(AddPortError::PortInUse) => {
                let own = SocketAddr::new(self.own, port);
                let any = self.gateway.add_any_port(in_igd(protocol), own, self.lease(), DESCRIPTION).await;
                any.map_err(|error| error.to_string())?
            }
            Err(error) => return Err(error.to_string()),
        };
        self.mapped.insert((protocol, port), outside);
        Ok(Mapped { port: outside, lease: Some(LEASE).filter(|_| !self.permanent) })
    }

    async fn add(&self, protocol: Protocol, port: u16, wanted: u16) -> Result<(), AddPortError> {
        let own = SocketAddr::new(self.own, port);
        self.gateway.add_port(in_igd(protocol), wanted, own, self.lease(), DESCRIPTION).await
    }

    /// In seconds; 0 for ever.
    fn lease(&self) -> u32 {
        if self.permanent { 0 } else { seconds(LEASE) }
    }

    async fn unmap_all(&mut self) {
        while let Some(((protocol, _), port)) = self.mapped.pop_first() {
            if let Err(error) = self.gateway.remove_port(in_igd(protocol), port).await {
                tracing::warn!(protocol = protocol.name(), port, %error, "mapping not removed");
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Pmp {
    address: GatewayAddress,
    /// Our address on the gateway's network, which PCP makes sure of.
    own: IpAddr,
    mapped: BTreeMap<Port, PortMapping>,
}

impl Pmp {
    async fn map(&mut self, protocol: Protocol, port: u16) -> Result<Mapped, String> {
        let renewed = match self.mapped.get_mut(&(protocol, port)) {
            // A lease that went to others meanwhile, or a gateway that began anew, is no reason to give up.
            Some(mapping) => mapping.renew().await.is_ok(),
            None => false,
        };
        if !renewed {
            let mapping = self.map_anew(protocol, port).await?;
            self.mapped.insert((protocol, port), mapping);
        }
        let mapping = self.mapped.get(&(protocol, port)).ok_or("it is gone")?;
        let lease = Duration::from_secs(mapping.lifetime().into());
        Ok(Mapped { port: mapping.external_port().get(), lease: Some(lease) })
    }

    async fn map_anew(&self, protocol: Protocol, port: u16) -> Result<PortMapping, String> {
        let port = NonZeroU16::new(port).ok_or("port 0")?;
        let options = PortMappingOptions {
            external_port: Some(port),
            lifetime_seconds: Some(seconds(LEASE)),
            timeout_config: Some(PMP_TIMES),
        };
        let protocol = match protocol {
            Protocol::Udp => InternetProtocol::Udp,
            Protocol::Tcp => InternetProtocol::Tcp,
        };
        let pcp = match PortMapping::new(self.address, self.own, protocol, port, options).await {
            Ok(mapping) => return Ok(mapping),
            Err(error) => error.to_string(),
        };
        // Some gateways keep silent when asked in PCP.
        natpmp::port_mapping(self.address, protocol, port, options)
            .await
            .map_err(|error| format!("{pcp}; NAT-PMP: {error}"))
    }

    async fn external_ip(&self) -> Result<IpAddr, String> {
        if let Some(ip) = self.mapped.values().find_map(pcp_address) {
            return Ok(ip.to_canonical());
        }
        let ip = natpmp::external_address(self.address, Some(PMP_TIMES)).await;
        ip.map(IpAddr::from).map_err(|error| error.to_string())
    }

    async fn unmap_all(&mut self) {
        while let Some(((protocol, _), mapping)) = self.mapped.pop_first() {
            if let Err((error, _)) = mapping.try_drop().await {
                tracing::warn!(protocol = protocol.name(), %error, "mapping not removed");
            }
        }
    }
}

/// The external address that PCP gives with a mapping.
fn pcp_address(mapping: &PortMapping) -> Option<IpAddr> {
    match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => Some(external_ip),
        PortMappingType::NatPmp => None,
    }
}

fn in_igd(protocol: Protocol) -> PortMappingProtocol {
    match protocol {
        Protocol::Udp => PortMappingProtocol::UDP,
        Protocol::Tcp => PortMappingProtocol::TCP,
    }
}

fn seconds(lease: Duration) -> u32 {
    u32::try_from(lease.as_secs()).unwrap_or(u32::MAX)
}
