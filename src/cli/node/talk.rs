//! A running node's conversation: what is typed is said to all, what others say and do is printed.

use std::io::BufRead;

use bytes::Bytes;
use kadwire::node::Node;
use kadwire::router::{Channel, ChannelEvent, ChannelSender, Peer, PeerEvent, PeerEvents, To};
use kadwire_wire::transport::{CloseReason, Direction};
use rand::Rng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::warn;

use super::super::exit::Failure;
use super::super::random;
use super::events::{Event, Wire};
use super::gossip::Gossip;
use super::rlpx::Echo;

/// Messages on their way to peers. Beyond that new ones are dropped: a slow peer must not keep us from hearing the others.
const MAX_FORWARDING: usize = 256;

/// Messages that wait for peers without room, beside the others. Beyond that such peers are passed over.
const MAX_LATE: usize = 64;

/// Lines read ahead from stdin.
const MAX_LINES: usize = 16;

/// Prints what happens, says what is typed, until the node or the reader of stdout is gone.
pub(super) async fn talk(
    node: &Node,
    mut channel: Option<Channel>,
    mut echo: Option<Echo>,
    json: bool,
) -> Result<(), Failure> {
    listening(node)?.print(json)?;
    let mut gossip = Gossip::default();
    let mut lines = stdin();
    let (mut peers, mut ethereum_peers) = (0_usize, 0_usize);
    let mut ethereum = node.ethereum().map(|ethereum| ethereum.router().peer_events());
    let (forward, forwarding) = mpsc::channel(MAX_FORWARDING);
    let forwarder = channel.as_ref().map(|channel| tokio::spawn(forward_all(channel.sender(), forwarding)));
    let result = loop {
        let event = tokio::select! {
            event = or_never(channel.as_mut().map(Channel::next)) => match event {
                None => break Ok(()),
                Some(ChannelEvent::Up(peer)) => {
                    peers += 1;
                    peer_up(Wire::Mconn, &peer, peers)
                }
                Some(ChannelEvent::Down(peer, reason)) => {
                    peers = peers.saturating_sub(1);
                    peer_down(Wire::Mconn, &peer, &reason, peers)
                }
                Some(ChannelEvent::Message(envelope)) => {
                    let Some(message) = gossip.hear(&envelope.message) else { continue };
                    pass_on(&forward, To::Except(envelope.from), envelope.message);
                    Event::Gossip { from: envelope.from.to_string(), message }
                }
            },
            event = or_never(ethereum.as_mut().map(PeerEvents::next)) => match event {
                None => break Ok(()),
                Some(PeerEvent::Up(peer)) => {
                    ethereum_peers += 1;
                    peer_up(Wire::Rlpx, &peer, ethereum_peers)
                }
                Some(PeerEvent::Down(peer, reason)) => {
                    ethereum_peers = ethereum_peers.saturating_sub(1);
                    peer_down(Wire::Rlpx, &peer, &reason, ethereum_peers)
                }
            },
            Some((from, message)) = or_never(echo.as_mut().map(Echo::answer)) => {
                Event::Echo { from: from.to_string(), message }
            }
            Some(line) = lines.recv() => {
                if let Some(echo) = &echo {
                    echo.ask(&line);
                }
                let mut name = [0; 16];
                random::generator().fill_bytes(&mut name);
                match gossip.say(name, &line) {
                    Some(message) if channel.is_some() => pass_on(&forward, To::All, message),
                    Some(_) => {}
                    None => warn!(bytes = line.len(), "line is too long to be said"),
                }
                continue;
            }
        };
        if let Err(failure) = event.print(json) {
            break Err(failure);
        }
    };
    if let Some(forwarder) = forwarder {
        forwarder.abort();
    }
    result
}

/// What comes, if anything can.
async fn or_never<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn pass_on(forward: &mpsc::Sender<(To, Bytes)>, to: To, message: Bytes) {
    if forward.try_send((to, message)).is_err() {
        warn!("peers are too slow: a message was dropped");
    }
}

async fn forward_all(sender: ChannelSender, mut messages: mpsc::Receiver<(To, Bytes)>) {
    let mut late = JoinSet::new();
    while let Some((to, message)) = messages.recv().await {
        while late.try_join_next().is_some() {}
        if late.len() >= MAX_LATE {
            let _ = sender.try_send(to, message);
            continue;
        }
        let sender = sender.clone();
        let mut sending = Box::pin(async move { sender.send(to, message).await });
        // Those with room have it at once and in order; who has none, and is closed as too slow by the router, keeps nobody waiting.
        tokio::select! {
            biased;
            _ = &mut sending => {}
            () = std::future::ready(()) => { late.spawn(sending); }
        }
    }
}

/// Lines of stdin. A thread of its own reads them: a read of stdin cannot be cancelled, and would keep the runtime from ending.
fn stdin() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(MAX_LINES);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn listening(node: &Node) -> Result<Event, Failure> {
    let mconn = node.tendermint().and_then(|wire| wire.local_address()).map(ToString::to_string);
    let rlpx = node.ethereum().and_then(|ethereum| ethereum.local_address()).map(ToString::to_string);
    let record = node.discovery().map(|discovery| discovery.local_record());
    let record = record.ok_or_else(|| Failure::Failed("the node has no discovery".to_owned()))?;
    let enr = record.enr().map(ToString::to_string).unwrap_or_default();
    Ok(Event::Listening { enode: record.to_string(), enr, mconn, rlpx })
}

fn peer_down(wire: Wire, peer: &Peer, reason: &CloseReason, peers: usize) -> Event {
    Event::PeerDown { wire, peer: peer.id.to_string(), reason: reason.to_string(), peers }
}

fn peer_up(wire: Wire, peer: &Peer, peers: usize) -> Event {
    Event::PeerUp {
        wire,
        peer: peer.id.to_string(),
        address: peer.remote.to_string(),
        direction: match peer.direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        },
        moniker: peer.info.name().to_owned(),
        peers,
    }
}
