//! The loop that carries a [`Pex`] machine: its channel on one side, the router with the book on the other.

use kadwire_wire::{tendermint::pex_message::PexMessage, transport::Direction};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::debug;

use super::{Action, Pex, Stats, Version};
use crate::{
    candidate::{Candidate, Source},
    router::{Channel, ChannelEvent, Handle, To, now},
    visit::most_addresses,
};

/// Exchanges addresses with every peer until the router stops. `seed` decides whom it asks and when; `stats` is kept up to date.
pub async fn run(mut channel: Channel, router: Handle, seed: u64, stats: watch::Sender<Stats>) {
    let mut pex = Pex::new(now(), seed);
    loop {
        while let Some(action) = pex.poll_action() {
            carry_out(&mut pex, action, &channel, &router).await;
        }
        stats.send_replace(pex.stats());
        let timeout = Instant::from_std(pex.poll_timeout());
        tokio::select! {
            biased;
            () = sleep_until(timeout) => pex.handle_timeout(now()),
            event = channel.next() => match event {
                Some(ChannelEvent::Up(peer)) => {
                    let dialed = peer.direction == Direction::Outbound;
                    pex.handle_peer_up(now(), peer.id, dialed, peer.reachable_at(), peer.declared_at());
                    if let Some(node_info) = peer.info.tendermint() {
                        pex.limit_answers(&peer.id, most_addresses(node_info));
                    }
                }
                Some(ChannelEvent::Message(envelope)) => pex.handle_message(now(), envelope.from, &envelope.message),
                Some(ChannelEvent::Down(peer, _)) => pex.handle_peer_down(now(), peer.id),
                None => break,
            },
        }
    }
}

async fn carry_out(pex: &mut Pex, action: Action, channel: &Channel, router: &Handle) {
    match action {
        // The queue is far longer than what one peer is sent; a full one belongs to a peer that does not read.
        Action::Ask(peer) => {
            if let Err(error) = channel.try_send(To::Peer(peer), PexMessage::Request.encode().into()) {
                debug!(%peer, %error, "not asked");
                pex.handle_unsent(&peer);
            }
        }
        Action::Answer { to: peer, version, most } => {
            let mut addresses = router.advertise(peer).await;
            addresses.truncate(most);
            let answer = match version {
                Version::V1 => PexMessage::addresses(addresses),
                Version::V2 => PexMessage::addresses_v2(addresses),
            };
            if let Err(error) = channel.try_send(To::Peer(peer), answer.encode().into()) {
                debug!(%peer, %error, "not answered");
            }
        }
        Action::Learned(peer, addresses) => router.add_answer(peer, addresses).await,
        Action::Introduced(address) => router.add(Candidate::new(address, Source::Inbound)).await,
        Action::Report(peer, report) => router.report(peer, report).await,
        Action::CheckBook => {
            let wants_more = router.wants_addresses().await;
            pex.handle_book(now(), wants_more);
        }
    }
}
