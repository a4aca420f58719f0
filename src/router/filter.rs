//! The library user's own say in who may be a peer: filters by IP, asked about a stream that others opened before its handshake, and
//! filters by id, asked about every peer once it has proven who it is, whoever dialed (ADR-062, `FilterPeerByIP` and `FilterPeerByID`;
//! CometBFT's connection and peer filters).
//!
//! They run in the task of the dial or handshake that they are asked about: a slow one keeps nobody else waiting.

use std::{future::Future, net::IpAddr, pin::Pin, time::Duration};

use kadwire_wire::address::PeerId;
use tokio::time::timeout;

use crate::peers::WhyNot;

/// How long all filters of one kind together may think about one peer (CometBFT, `defaultFilterTimeout`). No answer in time is a no.
pub const FILTER_TIMEOUT: Duration = Duration::from_secs(5);

type Answer = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
type Filter<About> = Box<dyn Fn(About) -> Answer + Send + Sync>;

/// The filters, by what they are asked about. All of a kind must agree; they are asked in the order they were added.
#[derive(Default)]
pub(super) struct Filters {
    by_ip: Vec<Filter<IpAddr>>,
    by_id: Vec<Filter<PeerId>>,
}

impl Filters {
    pub(super) fn add_by_ip<A>(&mut self, filter: impl Fn(IpAddr) -> A + Send + Sync + 'static)
    where
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.by_ip.push(Box::new(move |ip| Box::pin(filter(ip))));
    }

    pub(super) fn add_by_id<A>(&mut self, filter: impl Fn(PeerId) -> A + Send + Sync + 'static)
    where
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.by_id.push(Box::new(move |id| Box::pin(filter(id))));
    }

    /// Whether a stream from there may begin its handshake. One within the process has no IP, and passes.
    pub(super) async fn allow_ip(&self, ip: Option<IpAddr>) -> Result<(), Filtered> {
        match ip {
            Some(ip) => ask(&self.by_ip, ip).await,
            None => Ok(()),
        }
    }

    /// Whether a peer that has proven its id may be connected.
    pub(super) async fn allow_id(&self, id: PeerId) -> Result<(), Filtered> {
        ask(&self.by_id, id).await
    }
}

async fn ask<About: Copy>(filters: &[Filter<About>], about: About) -> Result<(), Filtered> {
    let all = async {
        for filter in filters {
            filter(about).await.map_err(Filtered::Refused)?;
        }
        Ok(())
    };
    timeout(FILTER_TIMEOUT, all).await.unwrap_or(Err(Filtered::NoAnswer))
}

/// Why a filter keeps somebody out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Filtered {
    /// It said so, and why.
    #[error("filtered: {0}")]
    Refused(String),
    /// It did not answer in time.
    #[error("a filter gave no answer within {FILTER_TIMEOUT:?}")]
    NoAnswer,
}

impl Filtered {
    /// What it is counted as.
    pub(super) fn why(&self) -> WhyNot {
        match self {
            Filtered::Refused(_) => WhyNot::Filtered,
            Filtered::NoAnswer => WhyNot::FilterTimeout,
        }
    }
}

/// Why a stream, whoever opened it, brought no peer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPeer<E: std::error::Error> {
    /// There is no proven and compatible peer.
    #[error("{0}")]
    Failed(E),
    /// There is one, or might be, and a filter keeps it out.
    #[error(transparent)]
    Filtered(#[from] Filtered),
}
