//! A node's Ethereum side: its flags, and the demonstration protocol `kad/1`.
//!
//! `kad/1` has two messages: code 0 is a request with any payload, code 1 its answer with the same payload. What is typed on stdin is sent
//! to all Ethereum peers as a request, and their answers are printed.

use std::str::FromStr;

use bytes::Bytes;
use kadwire::config::EthereumConfig;
use kadwire::fork_id::{Forks, Head};
use kadwire::protocol::{Message, PeerStream, Protocol, ProtocolError};
use kadwire_discovery::{NodeRecord, SecretKey};
use kadwire_wire::address::{AddressError, PeerAddress, PeerId};
use tokio::sync::{broadcast, mpsc};

use super::super::exit::Failure;
use super::super::options::{List, Listen};

/// The flags have go-ethereum's names.
#[derive(Debug, clap::Args)]
pub(super) struct RlpxFlags {
    /// Speak Ethereum's wire (RLPx), on this TCP address or that of --addr; below is which wire is used when
    #[arg(long, value_name = "IP:PORT", num_args = 0..=1)]
    rlpx: Option<Option<Listen>>,

    /// Ethereum peers to stay connected with
    #[arg(long = "static", value_name = "ENODE,…", requires = "rlpx")]
    static_nodes: Option<List<PeerAddress>>,

    /// Ethereum peers that are let in when all places are taken
    #[arg(long, value_name = "ENODE|KEY,…", requires = "rlpx")]
    trusted: Option<List<Key>>,

    /// Most Ethereum peers (50)
    #[arg(long, alias = "maxpeers", value_name = "N", requires = "rlpx")]
    max_peers: Option<usize>,

    /// Of so many Ethereum peers we dial one (3)
    #[arg(long, alias = "dialratio", value_name = "N", requires = "rlpx")]
    dial_ratio: Option<usize>,

    /// Dial only nodes whose record's pair eth is of this chain (EIP-2124), and static ones
    #[arg(long, value_enum, value_name = "CHAIN", requires = "rlpx")]
    eth_network: Option<EthNetwork>,

    /// Dial no Ethereum peers but static ones
    #[arg(long, alias = "nodial", requires = "rlpx")]
    no_dial: bool,

    /// Dial a bootnode as a peer when there has been none for 20 s, as go-ethereum 1.8 did
    #[arg(long, requires = "rlpx")]
    bootnode_fallback: bool,
}

/// A chain, as go-ethereum's flags and `devp2p nodeset filter -eth-network` name it.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum EthNetwork {
    Mainnet,
    Sepolia,
    Hoodi,
}

impl RlpxFlags {
    /// Whether the node speaks RLPx.
    pub(super) fn given(&self) -> bool {
        self.rlpx.is_some()
    }

    /// Whether a node is dialed, by its record. We follow no chain: whoever is anywhere on it will do (go-ethereum `forkid.NewStaticFilter`).
    pub(super) fn filter(&self) -> Option<impl Fn(&NodeRecord) -> bool + Send + Sync + 'static> {
        let forks = match self.eth_network? {
            EthNetwork::Mainnet => Forks::mainnet(),
            EthNetwork::Sepolia => Forks::sepolia(),
            EthNetwork::Hoodi => Forks::hoodi(),
        };
        Some(forks.filter(Head::default))
    }

    /// What the flags say, if the node speaks RLPx; `addr` is where discovery listens.
    pub(super) fn config(&self, key: SecretKey, addr: Listen) -> Result<Option<EthereumConfig>, Failure> {
        let Some(listen) = self.rlpx else { return Ok(None) };
        let mut config = EthereumConfig::new(key, Some(listen.unwrap_or(addr).address()));
        config.static_nodes = self.static_nodes.as_ref().map(|list| list.0.clone()).unwrap_or_default();
        let trusted = self.trusted.iter().flat_map(|list| &list.0);
        config.trusted_nodes = trusted.map(|Key(id)| *id).collect();
        config.max_peers = self.max_peers.unwrap_or(config.max_peers);
        config.dial_ratio = self.dial_ratio.unwrap_or(config.dial_ratio);
        config.no_dial = self.no_dial;
        config.bootnode_fallback = self.bootnode_fallback;
        if let Some(other) = config.static_nodes.iter().find(|node| node.id().ethereum().is_none()) {
            return Err(Failure::usage("--static", format!("{other} is not an enode URL")));
        }
        Ok(Some(config))
    }
}

/// Who an Ethereum node is: the key of its enode URL, or the key alone.
#[derive(Debug, Clone, Copy)]
struct Key(PeerId);

impl FromStr for Key {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let id = match text.strip_prefix("enode://") {
            // The address does not matter, and may have port 0.
            Some(node) => node.split('@').next().unwrap_or(node).parse()?,
            None => text.parse()?,
        };
        match id {
            PeerId::Ethereum(_) => Ok(Key(id)),
            PeerId::Tendermint(_) => Err(AddressError::BadId),
        }
    }
}

/// Requests that wait for a peer; the oldest are passed over.
const MAX_REQUESTS: usize = 16;

/// Answers that wait to be printed; more are passed over.
const MAX_ANSWERS: usize = 64;

const REQUEST: u64 = 0;
const ANSWER: u64 = 1;

/// The node's end of `kad/1`.
pub(super) struct Echo {
    requests: broadcast::Sender<Bytes>,
    answers: mpsc::Receiver<(PeerId, Bytes)>,
}

impl Echo {
    /// The protocol, and its end here.
    pub(super) fn new() -> Result<(Protocol, Self), Failure> {
        let (requests, _) = broadcast::channel(MAX_REQUESTS);
        let (heard, answers) = mpsc::channel(MAX_ANSWERS);
        let said = requests.clone();
        let handler = move |stream| speak(stream, said.subscribe(), heard.clone());
        let protocol = Protocol::new("kad", 1, 2, handler).map_err(|error| Failure::of("kad/1", error))?;
        Ok((protocol, Echo { requests, answers }))
    }

    /// Asks all peers.
    pub(super) fn ask(&self, text: &str) {
        // Nobody may be there.
        let _ = self.requests.send(Bytes::copy_from_slice(text.as_bytes()));
    }

    /// The next answer, and whose it is.
    pub(super) async fn answer(&mut self) -> Option<(PeerId, String)> {
        let (peer, answer) = self.answers.recv().await?;
        Some((peer, String::from_utf8_lossy(&answer).into_owned()))
    }
}

/// What one peer is told and asked.
async fn speak(
    mut stream: PeerStream,
    mut requests: broadcast::Receiver<Bytes>,
    heard: mpsc::Sender<(PeerId, Bytes)>,
) -> Result<(), ProtocolError> {
    loop {
        tokio::select! {
            message = stream.recv() => match message {
                Some(Message { code: REQUEST, payload }) => stream.send(ANSWER, payload).await?,
                Some(Message { payload, .. }) => drop(heard.try_send((stream.id(), payload))),
                None => return Ok(()),
            },
            request = requests.recv() => match request {
                Ok(request) => stream.send(REQUEST, request).await?,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_trusted_is_an_enode_or_a_key() {
        let key = SecretKey::from_bytes(&[1; 32]).unwrap().public().to_string();
        for text in [key.clone(), format!("enode://{key}@127.0.0.1:0?discport=30303"), format!("enode://{key}")] {
            assert_eq!(text.parse::<Key>().unwrap().0.to_string(), key);
        }
        for text in ["07".repeat(20), "enode://07".to_owned(), String::new()] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }
}
