//! Which channel's packet leaves next: the three disciplines of Tendermint v0.35's `queue-type`, over packets instead of messages.
//!
//! Whatever the discipline, a channel's messages keep their order, each channel's queue is bounded by itself, and nothing is dropped:
//! who finds a queue full waits. (v0.35's `priority` sends newer messages before older ones, and it and `wdrr` drop what does not fit.)

use std::{fmt, str::FromStr, time::Instant};

use super::{
    channel::Channel,
    priority::{Fading, choose},
};

/// How channels that have something to send share the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QueueKind {
    /// The channel with the fewest recently sent bytes per priority (CometBFT `sendPacketMsg`). A channel that was quiet goes before
    /// those that were busy, until it has caught up with them: a message on a quiet channel waits for one packet at most, but a
    /// channel that was busy alone may stand still for seconds when another wakes, even one of less priority.
    #[default]
    Priority,
    /// Messages leave in the order in which they were sent, whatever their channels.
    Fifo,
    /// Weighted deficit round robin: while channels compete, each has its priority's share at every moment, whatever was sent
    /// before. A message on a quiet channel waits until each other channel had its turn of as many packets as it has priority.
    Wdrr,
}

impl QueueKind {
    /// The name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            QueueKind::Priority => "priority",
            QueueKind::Fifo => "fifo",
            QueueKind::Wdrr => "wdrr",
        }
    }
}

impl fmt::Display for QueueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("queue type must be priority, fifo, wdrr or simple-priority")]
pub struct UnknownQueueKind;

impl FromStr for QueueKind {
    type Err = UnknownQueueKind;

    /// Also takes `simple-priority`, which is [`QueueKind::Priority`] here: v0.35's own gives every channel priority 0.
    fn from_str(name: &str) -> Result<Self, UnknownQueueKind> {
        match name {
            "priority" | "simple-priority" => Ok(QueueKind::Priority),
            "fifo" => Ok(QueueKind::Fifo),
            "wdrr" => Ok(QueueKind::Wdrr),
            _ => Err(UnknownQueueKind),
        }
    }
}

/// What a discipline remembers between two packets.
#[derive(Debug)]
pub(super) struct Queue {
    kind: QueueKind,
    fading: Fading,
    /// The number of the next message.
    next: u64,
    /// Whose turn it is in the round.
    turn: usize,
    /// Whether it has had its share of this round.
    credited: bool,
}

impl Queue {
    pub(super) fn new(kind: QueueKind, now: Instant) -> Self {
        Queue { kind, fading: Fading::new(now), next: 0, turn: 0, credited: false }
    }

    /// Numbers a message in the order of sending.
    pub(super) fn number(&mut self) -> u64 {
        let number = self.next;
        self.next = number.saturating_add(1);
        number
    }

    /// Lets time pass.
    pub(super) fn handle_time(&mut self, now: Instant, channels: &mut [Channel]) {
        self.fading.fade(now, channels.iter_mut().map(|channel| &mut channel.recently_sent));
    }

    /// The channel whose packet is next, if any has something to send. `packet` is the size of a full packet.
    pub(super) fn choose<'c>(&mut self, channels: &'c mut [Channel], packet: usize) -> Option<&'c mut Channel> {
        let waiting = channels.iter().enumerate().filter(|(_, channel)| channel.pending() > 0);
        let index = match self.kind {
            QueueKind::Priority => {
                choose(waiting.map(|(index, channel)| (index, channel.recently_sent, channel.spec.priority)))
            }
            QueueKind::Fifo => waiting.min_by_key(|(_, channel)| channel.head()).map(|(index, _)| index),
            QueueKind::Wdrr => self.turn(channels, packet),
        };
        channels.get_mut(index?)
    }

    /// Deficit round robin: at its turn a channel is given its priority times one packet, and sends while it has credit left. What it
    /// sends beyond is taken off its next turn.
    fn turn(&mut self, channels: &mut [Channel], packet: usize) -> Option<usize> {
        // After one round everybody was credited, and the share is never less than a debt: a packet. The rest of a round is for the
        // channel with which it began.
        for _ in 0..=channels.len() {
            if let Some(channel) = channels.get_mut(self.turn) {
                if channel.pending() == 0 {
                    channel.credit = 0;
                } else {
                    if !std::mem::replace(&mut self.credited, true) {
                        let share = packet.saturating_mul(channel.spec.priority.into());
                        channel.credit = channel.credit.saturating_add_unsigned(share);
                    }
                    if channel.credit > 0 {
                        return Some(self.turn);
                    }
                }
            }
            self.credited = false;
            self.turn = self.turn.saturating_add(1);
            if self.turn >= channels.len() {
                self.turn = 0;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
