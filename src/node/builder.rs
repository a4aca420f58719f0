//! [`NodeBuilder`]: what a node is to be, and the order in which its parts are started.

use std::{net::IpAddr, sync::Arc};

use kadwire_discovery::{self as discovery, Discovery, NodeRecord};
use kadwire_wire::{
    address::PeerId,
    transport::{ChannelSpec, MemoryNetwork, Transport},
};
use tokio::{sync::watch, task::JoinSet};

use super::{
    Node, StartError,
    ethereum::{self, EthereumSetup},
    tendermint::{self, Tendermint},
    walk::{Outlets, RecordFilter, Walk, WalkStats},
};
use crate::{
    config::{ConfigError, EthereumConfig, NodeConfig},
    nat::{Nat, Plan},
    pex,
    protocol::Protocol,
    router::{self, Channel},
};

/// Makes a [`Node`] of one wire or two: what it speaks is given before it starts, because it is part of every handshake.
pub struct NodeBuilder {
    tendermint: Option<NodeConfig>,
    channels: router::Setup,
    pex: Option<Channel>,
    ethereum: Option<EthereumConfig>,
    protocols: Vec<Protocol>,
    /// Ethereum's router.
    peers: router::Setup,
    record_filter: Option<RecordFilter>,
    discovery: Option<discovery::Config>,
    nat: Option<Plan>,
}

impl std::fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let NodeBuilder { tendermint, channels, ethereum, protocols, .. } = self;
        let mut builder = f.debug_struct("NodeBuilder");
        builder.field("tendermint", tendermint).field("channels", &channels.specs());
        builder.field("ethereum", ethereum).field("protocols", protocols).finish_non_exhaustive()
    }
}

impl NodeBuilder {
    pub(super) fn new(tendermint: Option<NodeConfig>, ethereum: Option<EthereumConfig>) -> Self {
        NodeBuilder {
            tendermint,
            channels: router::Setup::default(),
            pex: None,
            ethereum,
            protocols: Vec::new(),
            peers: router::Setup::default(),
            record_filter: None,
            discovery: None,
            nat: None,
        }
    }

    /// Speaks Ethereum's RLPx too, with its own peers, key and places.
    pub fn with_ethereum(&mut self, config: EthereumConfig) -> &mut Self {
        self.ethereum = Some(config);
        self
    }

    /// Speaks a protocol with Ethereum peers. Without any, nobody there is of use: the start fails.
    pub fn with_protocol(&mut self, protocol: Protocol) -> &mut Self {
        self.protocols.push(protocol);
        self
    }

    /// Asks `filter` about every node that discovery found before it is dialed over RLPx; [`Forks::filter`] is one. It is given the node with
    /// its signed record: who came without is asked for it, sixteen at a time, and a node that gives none within 3 s is judged without.
    /// The operator's static peers are not asked about, nor anchors, who passed in an earlier run.
    ///
    /// [`Forks::filter`]: crate::fork_id::Forks::filter
    pub fn with_record_filter(&mut self, filter: impl Fn(&NodeRecord) -> bool + Send + Sync + 'static) -> &mut Self {
        self.record_filter = Some(Box::new(filter));
        self
    }

    /// Finds peers by discv4. The node fills in the record's pairs `tm` and `tcp` and what its protocols say; the rest of `config` is the
    /// caller's, who should give `advertise_ips` where the node is reached under other addresses than it listens on, or a plan to
    /// [`with_nat`](NodeBuilder::with_nat).
    pub fn with_discovery(&mut self, config: discovery::Config) -> &mut Self {
        self.discovery = Some(config);
        self
    }

    /// Finds out where others reach the node, and has the gateway map the discovery port and the TCP port of each wire, as the plan says;
    /// what is learnt goes into discovery's record. Without discovery this does nothing. Goes before the configuration's `upnp`.
    pub fn with_nat(&mut self, plan: Plan) -> &mut Self {
        self.nat = Some(plan);
        self
    }

    /// Exchanges addresses with Tendermint peers, on channel 0x00, unless the configuration says `pex = false`.
    pub fn with_pex(&mut self) -> &mut Self {
        if self.pex.is_none() && self.tendermint.as_ref().is_some_and(|config| config.pex) {
            self.pex = Some(self.channels.channel(pex::channel()));
        }
        self
    }

    /// Opens a channel for a reactor. The id must be one that no other reactor has (0x00 is PEX's), the priority at least 1;
    /// the start fails otherwise, and if the node does not speak Tendermint's wire.
    pub fn channel(&mut self, spec: ChannelSpec) -> Channel {
        self.channels.channel(spec)
    }

    /// Asks `filter` about every IP that opens a stream to us; see [`Setup::filter_by_ip`](router::Setup::filter_by_ip).
    pub fn filter_by_ip<A>(&mut self, filter: impl Fn(IpAddr) -> A + Send + Sync + 'static) -> &mut Self
    where
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        let filter = Arc::new(filter);
        let same = filter.clone();
        self.channels.filter_by_ip(move |ip| filter(ip));
        self.peers.filter_by_ip(move |ip| same(ip));
        self
    }

    /// Asks `filter` about every peer that has proven its id; see [`Setup::filter_by_id`](router::Setup::filter_by_id).
    pub fn filter_by_id<A>(&mut self, filter: impl Fn(PeerId) -> A + Send + Sync + 'static) -> &mut Self
    where
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        let filter = Arc::new(filter);
        let same = filter.clone();
        self.channels.filter_by_id(move |id| filter(id));
        self.peers.filter_by_id(move |id| same(id));
        self
    }

    /// Listens on TCP, reads the address book, joins the network, and returns the running node.
    pub async fn start(self) -> Result<Node, StartError> {
        self.check()?;
        let tendermint = match &self.tendermint {
            Some(config) => Some(tendermint::listen(config, &self.channels).await?),
            None => None,
        };
        let ethereum = match &self.ethereum {
            Some(config) => Some(ethereum::listen(config, &self.protocols).await?),
            None => None,
        };
        self.run(tendermint, ethereum).await
    }

    /// The same in a network within this process, where the node can be dialed as `memory:<id>` and, unless its port is 0,
    /// under the address it is to listen on, which is only a name there. (Discovery, if asked for, is real UDP all the same.)
    pub async fn start_in(self, network: &MemoryNetwork) -> Result<Node, StartError> {
        self.check()?;
        let tendermint = self.tendermint.as_ref().map(|config| tendermint::join(network, config, &self.channels));
        let ethereum = self.ethereum.as_ref().map(|config| ethereum::join(network, config, &self.protocols));
        let (tendermint, ethereum) = (tendermint.transpose()?, ethereum.transpose()?);
        self.run(tendermint, ethereum).await
    }

    /// Whether a node can be what the configuration says.
    fn check(&self) -> Result<(), ConfigError> {
        match &self.tendermint {
            Some(config) => {
                config.validate()?;
                if config.seed_mode {
                    let problem = "a node is no seed: run `kadwire seed`, or set it to false";
                    return Err(ConfigError::new("seed_mode", problem));
                }
                if config.upnp && self.nat.is_none() && self.discovery.is_none() {
                    let problem = "ports are mapped beside discovery only: give the node discovery";
                    return Err(ConfigError::new("upnp", problem));
                }
            }
            None if !self.channels.specs().is_empty() => {
                return Err(ConfigError::new("channels", "they are Tendermint's: the node does not speak that wire"));
            }
            None => {}
        }
        match &self.ethereum {
            Some(config) => {
                config.validate()?;
                ethereum::check_protocols(&self.protocols)
            }
            None if !self.protocols.is_empty() => {
                Err(ConfigError::new("protocols", "they are Ethereum's: the node does not speak that wire"))
            }
            None => Ok(()),
        }
    }

    /// Starts what is left, in the order in which one part needs another: our record has the ports that are listened on, the routers have
    /// peers that discovery's walk finds for them.
    async fn run<T: Transport, E: Transport>(
        self,
        tendermint: Option<T>,
        ethereum: Option<E>,
    ) -> Result<Node, StartError> {
        let mut outlets = Outlets { filter: self.record_filter, ..Outlets::default() };
        let upnp = self.tendermint.as_ref().is_some_and(|config| config.upnp);
        let plan = self.nat.unwrap_or_else(|| if upnp { Plan::upnp() } else { Plan::default() });
        let tendermint = match self.tendermint.zip(tendermint) {
            Some((config, transport)) => Some(Tendermint::new(config, self.channels, self.pex, transport).await?),
            None => None,
        };
        let mut ethereum = match self.ethereum.zip(ethereum) {
            Some((config, transport)) => Some(EthereumSetup::new(config, self.peers, self.protocols, transport).await),
            None => None,
        };

        let mut nat = None;
        let discovery = match self.discovery {
            Some(mut discovery) => {
                discovery.tendermint = tendermint.as_ref().and_then(Tendermint::entry);
                discovery.advertise_ips.extend(plan.explicit_ips());
                if let Some(tendermint) = &tendermint {
                    tendermint.advertise(&mut discovery);
                }
                if let Some(ethereum) = &mut ethereum {
                    ethereum.advertise(&mut discovery);
                }
                let discovery = Discovery::bind(discovery).await?;
                let tcp =
                    [tendermint.as_ref().and_then(Tendermint::bound), ethereum.as_ref().and_then(EthereumSetup::bound)];
                nat = Nat::start(&plan, discovery.clone(), tcp.map(|bound| bound.map(|bound| bound.port())));
                Some(discovery)
            }
            None => None,
        };

        outlets.tendermint = tendermint.as_ref().map(|tendermint| tendermint.setup.demand());
        outlets.ethereum = ethereum.as_ref().map(|ethereum| ethereum.setup.demand());
        let (tendermint, pex) = match tendermint.map(|tendermint| tendermint.start(discovery.as_ref())).transpose()? {
            Some((wire, pex)) => (Some(wire), pex),
            None => (None, None),
        };
        let ethereum = ethereum.map(|ethereum| ethereum.start(discovery.as_ref())).transpose()?;
        let (mut walking, (published, walked)) = (JoinSet::new(), watch::channel(WalkStats::default()));
        if let Some(discovery) = &discovery {
            walking.spawn(Walk::new(discovery.clone(), outlets, published).run());
        }
        Ok(Node { tendermint, pex, ethereum, discovery, walking, walked, nat })
    }
}
