//! The driver of the Tendermint crawl: dials, asks, hangs up.

use std::sync::Arc;
use std::time::Duration;

use kadwire_discovery::Now;
use kadwire_wire::PeerAddress;
use kadwire_wire::transport::{CloseReason, Transport};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tracing::debug;

use super::{Config, Crawl, TendermintNode, Visit, Visited};
use crate::crawl::{Crawled, Progress};
pub use crate::visit::channel;
use crate::visit::{Trouble, ask};

/// Requests to one peer in one visit. CometBFT lets the first two pass, whenever they come, and hangs up at a third within ten seconds
/// (`pex_reactor.go`, `receiveRequest`).
const REQUESTS: usize = 2;

/// Wait for an answer from a peer that has answered before.
const ANSWER_TIMEOUT_AGAIN: Duration = Duration::from_secs(1);

/// Crawls from `start` through `transport`, whose channels must include [`channel`], until nothing new appears or `stop` is ready.
/// `watch` sees the progress whenever it changes.
pub async fn crawl<T: Transport>(
    transport: Arc<T>,
    start: impl IntoIterator<Item = PeerAddress>,
    config: Config,
    mut watch: impl FnMut(Progress),
    stop: impl Future<Output = ()>,
) -> Crawled<TendermintNode> {
    let started = Now::read();
    let answer_timeout = config.answer_timeout;
    let mut machine = Crawl::new(config, transport.id());
    start.into_iter().for_each(|address| machine.add(started, address));
    let mut visits = JoinSet::new();
    tokio::pin!(stop);
    let ended = loop {
        while let Some(visit) = machine.poll_visit(Now::read()) {
            let transport = transport.clone();
            visits.spawn(async move { (visit.address.id(), call(&*transport, &visit, answer_timeout).await) });
        }
        watch(machine.progress());
        if machine.is_over() {
            break true;
        }
        let due = machine.poll_timeout();
        tokio::select! {
            biased;
            () = &mut stop => break false,
            Some(Ok((id, visited))) = visits.join_next() => machine.handle_visited(Now::read(), id, visited),
            () = sleep_until(due.unwrap_or(started.monotonic).into()), if due.is_some() => {}
        }
    };
    let progress = machine.progress();
    Crawled::new(machine.into_topology(), progress, started, ended)
}

async fn call<T: Transport>(transport: &T, visit: &Visit, answer_timeout: Duration) -> Visited {
    let Visit { address, has_answered } = visit;
    let mut connection = match transport.dial(address).await {
        Ok(connection) => connection,
        Err(error) => {
            debug!(%address, %error, "not reached");
            let trouble = Trouble::from(&error);
            return Visited { error: Some(trouble.name()), hopeless: trouble.is_hopeless(), ..Visited::default() };
        }
    };
    let mut visited = Visited { node_info: connection.info.tendermint().cloned(), ..Visited::default() };
    for _ in 0..REQUESTS {
        let is_known_to_answer = *has_answered || !visited.answers.is_empty();
        let wait = if is_known_to_answer { answer_timeout.min(ANSWER_TIMEOUT_AGAIN) } else { answer_timeout };
        let answered = ask(&mut connection, wait).await;
        visited.asked += u32::from(answered != Err(Trouble::NoPex));
        match answered {
            Ok(answer) => {
                let more = Visited::is_sample(answer.addresses.len());
                visited.answers.push(answer.addresses);
                if !more {
                    break;
                }
            }
            Err(trouble) => {
                visited.hopeless = trouble == Trouble::NoPex;
                visited.error = Some(trouble.name());
                break;
            }
        }
    }
    connection.close(CloseReason::requested("crawled"));
    visited
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use kadwire_wire::tendermint::node_info::NodeInfo;
    use kadwire_wire::tendermint::pex_message::{PEX_CHANNEL, PexMessage};
    use kadwire_wire::transport::{ChannelSpec, MemoryConfig, MemoryNetwork, MemoryTransport};

    use super::*;

    fn id(number: u8) -> [u8; 20] {
        [number; 20]
    }

    fn address(number: u8) -> PeerAddress {
        PeerAddress::from_socket(id(number).into(), ([127, 5, 0, number], 26656).into()).unwrap()
    }

    fn listen(network: &MemoryNetwork, number: u8, chain: &str, channels: Vec<ChannelSpec>) -> MemoryTransport {
        let node_info = NodeInfo::new(id(number), chain, format!("node{number}"));
        let address = address(number).socket_addr();
        network.listen(MemoryConfig { node_info, channels, address }).unwrap()
    }

    /// Answers every PexRequest with `book`; hangs up after the first answer if `seed`.
    async fn serve(transport: MemoryTransport, book: Vec<PeerAddress>, seed: bool) {
        while let Ok(incoming) = transport.accept().await {
            let Ok(mut connection) = incoming.handshake().await else { continue };
            let answer = Bytes::from(PexMessage::addresses(book.clone()).encode());
            tokio::spawn(async move {
                while let Some((PEX_CHANNEL, _)) = connection.recv().await {
                    if connection.send(PEX_CHANNEL, answer.clone()).await.is_err() {
                        break;
                    }
                    if seed {
                        connection.flush_and_close(CloseReason::requested("one answer a connection")).await;
                        break;
                    }
                }
            });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_of_peers_is_walked_to_its_end_past_those_who_do_not_answer() {
        let network = MemoryNetwork::new();
        // 1 is a seed and knows 2..=40; 2 knows 50; the others know nobody.
        let seed = listen(&network, 1, "chain", vec![channel()]);
        tokio::spawn(serve(seed, (2..=40).map(address).collect(), true));
        for number in 2..=37 {
            let book = if number == 2 { vec![address(50), address(1)] } else { vec![] };
            tokio::spawn(serve(listen(&network, number, "chain", vec![channel()]), book, false));
        }
        tokio::spawn(serve(listen(&network, 38, "other-chain", vec![channel()]), vec![], false));
        let silent = listen(&network, 39, "chain", vec![channel()]);
        tokio::spawn(async move {
            let connection = silent.accept().await.unwrap().handshake().await.unwrap();
            connection.closed().await;
        });
        // 40 is offline.
        tokio::spawn(serve(listen(&network, 50, "chain", vec![channel()]), vec![], false));

        let transport = Arc::new(listen(&network, 99, "chain", vec![channel()]));
        let config =
            Config { crawl: crate::crawl::Config { attempts: 1, ..Config::default().crawl }, ..Config::default() };
        let mut last = Progress::default();
        let crawled = crawl(transport, [address(1)], config, |progress| last = progress, std::future::pending()).await;
        let found: BTreeSet<_> = crawled.topology.nodes().iter().map(|node| node.address.clone()).collect();
        assert_eq!(found, (1..=40).chain([50]).map(address).collect());
        let error = |number| crawled.topology.node(&address(number).id()).unwrap().error;
        assert_eq!((error(1), error(2), error(50)), (None, None, None));
        assert_eq!((error(38), error(39)), (Some("wrong_network"), Some("answer_timeout")));
        assert!(error(40).is_some());
        assert_eq!(crawled.summary.reachable, 39, "1 to 37, the silent one and 50");
        assert_eq!((crawled.summary.found, crawled.summary.complete), (41, true));
        assert_eq!(last.found, 41);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crawl_that_is_stopped_keeps_what_it_learned() {
        let network = MemoryNetwork::new();
        let first = listen(&network, 1, "chain", vec![channel()]);
        tokio::spawn(serve(first, vec![address(2)], false));
        let silent = listen(&network, 2, "chain", vec![channel()]);
        tokio::spawn(async move {
            let connection = silent.accept().await.unwrap().handshake().await.unwrap();
            connection.closed().await;
        });
        let transport = Arc::new(listen(&network, 99, "chain", vec![channel()]));
        let stop = tokio::time::sleep(Duration::from_secs(1));
        let crawled = crawl(transport, [address(1)], Config::default(), |_| {}, stop).await;
        assert_eq!((crawled.summary.found, crawled.summary.edges, crawled.summary.complete), (2, 1, false));
    }
}
