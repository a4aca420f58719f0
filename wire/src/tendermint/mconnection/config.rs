//! What an MConnection may be told, and what it refuses to be told.

use std::time::Duration;

use super::{ChannelSpec, QueueKind};

/// Times and limits of a connection; the defaults are CometBFT's node configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MConnectionConfig {
    /// A ping is sent this often (60 s).
    pub ping_interval: Duration,
    /// Its pong must arrive within this; less than the interval (45 s).
    pub pong_timeout: Duration,
    /// Bytes per second that are sent at most; 0 is no limit (5,120,000; CometBFT's library alone: 512,000).
    pub send_rate: u64,
    /// Bytes per second that are read at most; 0 is no limit (5,120,000; CometBFT's library alone: 512,000).
    pub recv_rate: u64,
    /// Data in one packet, in bytes; larger packets are refused, so both sides must agree (1024; Tendermint v0.35: 1400).
    pub max_packet_payload: usize,
    /// How channels that have something to send share the stream ([`QueueKind::Priority`]).
    pub queue: QueueKind,
}

impl Default for MConnectionConfig {
    fn default() -> Self {
        MConnectionConfig {
            ping_interval: Duration::from_secs(60),
            pong_timeout: Duration::from_secs(45),
            send_rate: 5_120_000,
            recv_rate: 5_120_000,
            max_packet_payload: 1024,
            queue: QueueKind::default(),
        }
    }
}

/// The longest ping interval. Longer ones would let a dead peer hold its place for days.
const MAX_PING_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest packet payload, in bytes: a packet is buffered whole.
const MAX_PACKET_PAYLOAD: usize = 1 << 20;

impl MConnectionConfig {
    /// Checks the configuration and the channels against each other.
    pub fn validate(&self, channels: &[ChannelSpec]) -> Result<(), ConfigError> {
        if self.pong_timeout >= self.ping_interval || self.pong_timeout.is_zero() {
            return Err(ConfigError::PongTimeout);
        }
        if self.ping_interval > MAX_PING_INTERVAL {
            return Err(ConfigError::PingInterval);
        }
        // One byte is lost on channels from 0x80.
        if !(2..=MAX_PACKET_PAYLOAD).contains(&self.max_packet_payload) {
            return Err(ConfigError::PacketPayload(self.max_packet_payload));
        }
        for (index, channel) in channels.iter().enumerate() {
            if channel.priority == 0 {
                return Err(ConfigError::Priority(channel.id));
            }
            if channel.send_queue == 0 {
                return Err(ConfigError::SendQueue(channel.id));
            }
            if channels.iter().take(index).any(|other| other.id == channel.id) {
                return Err(ConfigError::DuplicateChannel(channel.id));
            }
        }
        Ok(())
    }
}

/// Why a configuration is refused. Always this side's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The pong timeout is zero, or not less than the ping interval.
    #[error("pong timeout must be more than zero and less than the ping interval")]
    PongTimeout,
    /// More than a day.
    #[error("ping interval must be at most a day")]
    PingInterval,
    /// Not 2 to 1,048,576.
    #[error("packet payload of {0} bytes, must be 2 to {MAX_PACKET_PAYLOAD}")]
    PacketPayload(usize),
    /// A channel with priority 0.
    #[error("channel {0:#04x} has priority 0")]
    Priority(u8),
    /// A channel whose queue has no room.
    #[error("channel {0:#04x} has a send queue of 0")]
    SendQueue(u8),
    /// A channel declared twice.
    #[error("channel {0:#04x} is declared twice")]
    DuplicateChannel(u8),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CometBFT's node configuration; and the rule that its constructor panics without.
    #[test]
    fn the_defaults_are_cometbfts_and_pong_is_less_than_ping() {
        let config = MConnectionConfig::default();
        assert_eq!((config.ping_interval.as_secs(), config.pong_timeout.as_secs()), (60, 45));
        assert_eq!((config.send_rate, config.recv_rate, config.max_packet_payload), (5_120_000, 5_120_000, 1024));
        assert_eq!(config.validate(&[ChannelSpec::new(0)]), Ok(()));
        let (ping, pong) = (config.ping_interval, config.pong_timeout);
        for (ping_interval, pong_timeout) in [(ping, ping), (pong, ping), (ping, Duration::ZERO)] {
            let config = MConnectionConfig { ping_interval, pong_timeout, ..config };
            assert_eq!(config.validate(&[]), Err(ConfigError::PongTimeout));
        }
    }
}
