//! The driver of the Ethereum crawl: puts the machine's questions to a [`Discovery`].

use kadwire_discovery::discv4::RequestError;
use kadwire_discovery::{Discovery, DiscoveryError, DiscoveryEvent, NodeRecord, Now};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tracing::debug;

use super::{Answer, Ask, Crawl, EthNode, Question};
use crate::crawl::{Config, Crawled, Progress};

/// Crawls from `start` until nothing new appears or `stop` is ready. `watch` sees the progress whenever it changes.
///
/// Whoever pings us meanwhile is visited too: it may be in nobody's table yet.
pub async fn crawl(
    discovery: &Discovery,
    start: impl IntoIterator<Item = NodeRecord>,
    config: Config,
    mut watch: impl FnMut(Progress),
    stop: impl Future<Output = ()>,
) -> Crawled<EthNode> {
    let started = Now::read();
    let mut machine = Crawl::new(config, discovery.local_record().id());
    start.into_iter().for_each(|record| machine.add(started, record));
    let mut events = discovery.events();
    let mut questions = JoinSet::new();
    tokio::pin!(stop);
    let ended = loop {
        while let Some(question) = machine.poll_question(Now::read()) {
            let discovery = discovery.clone();
            questions.spawn(async move { (question.to.id(), ask(&discovery, question).await) });
        }
        watch(machine.progress());
        if machine.is_over() {
            break true;
        }
        let due = machine.poll_timeout();
        tokio::select! {
            biased;
            () = &mut stop => break false,
            Some(Ok((id, answer))) = questions.join_next() => machine.handle_answer(Now::read(), id, answer),
            Ok(DiscoveryEvent::NodeAdded(node)) = events.recv() => machine.add(Now::read(), node),
            () = sleep_until(due.unwrap_or(started.monotonic).into()), if due.is_some() => {}
        }
    };
    let progress = machine.progress();
    Crawled::new(machine.into_topology(), progress, started, ended)
}

async fn ask(discovery: &Discovery, question: Question) -> Answer {
    let answer = match question.ask {
        Ask::Neighbors(target) => discovery.find_node(&question.to, target).await.map(Answer::Neighbors),
        Ask::Record => discovery.request_enr(&question.to).await.map(Answer::Record),
        Ask::Ping => discovery.ping(&question.to).await.map(|_| Answer::Pong),
    };
    answer.unwrap_or_else(|error| {
        debug!(node = %question.to, ask = ?question.ask, %error, "not answered");
        Answer::Failed(cause(&error))
    })
}

fn cause(error: &DiscoveryError) -> &'static str {
    match error {
        DiscoveryError::Closed => "closed",
        DiscoveryError::Request(error) => match error {
            RequestError::Timeout => "timeout",
            RequestError::Interrupted => "interrupted",
            RequestError::Busy => "busy",
            RequestError::NotAllowed => "not_allowed",
            RequestError::BadRecord => "bad_record",
            RequestError::NotFound => "not_found",
        },
    }
}
