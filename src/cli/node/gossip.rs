//! The gossip demonstration: what one says reaches all, each message once.
//!
//! A message is sixteen random bytes, which name it, and text. Whoever has not seen the name passes the message on to everybody but the one
//! it came from. Not a protocol to build on: nothing is signed, nothing is repeated for those who come later.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use kadwire_wire::transport::ChannelSpec;

/// CometBFT's mempool channel: gossip's usual place.
const CHANNEL: u8 = 0x30;

/// Bytes of a message, name and text.
const MAX_MESSAGE: usize = 1 << 16;

/// Bytes of the name.
const NAME: usize = 16;

/// Names remembered. A message that comes back after so many others is taken for new, and goes round once more.
const REMEMBERED: usize = 1 << 15;

pub(super) fn channel() -> ChannelSpec {
    ChannelSpec { id: CHANNEL, priority: 5, send_queue: 64, max_message_size: MAX_MESSAGE }
}

/// Which messages have been seen.
#[derive(Debug, Default)]
pub(super) struct Gossip {
    seen: HashSet<[u8; NAME]>,
    oldest_first: VecDeque<[u8; NAME]>,
}

impl Gossip {
    /// A new message of ours; `None` if the text is too long.
    pub(super) fn say(&mut self, name: [u8; NAME], text: &str) -> Option<Bytes> {
        if text.len() > MAX_MESSAGE - NAME {
            return None;
        }
        self.is_new(name);
        Some([&name, text.as_bytes()].concat().into())
    }

    /// The text of a message that was not seen before; it is to be passed on. `None` for one that was, or is none.
    pub(super) fn hear(&mut self, message: &[u8]) -> Option<String> {
        let (name, text) = message.split_first_chunk()?;
        self.is_new(*name).then(|| String::from_utf8_lossy(text).into_owned())
    }

    fn is_new(&mut self, name: [u8; NAME]) -> bool {
        if !self.seen.insert(name) {
            return false;
        }
        self.oldest_first.push_back(name);
        if self.oldest_first.len() > REMEMBERED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_heard_once_and_never_by_its_speaker() {
        let (mut speaker, mut listener) = (Gossip::default(), Gossip::default());
        let message = speaker.say([1; NAME], "good morning").unwrap();
        assert_eq!(listener.hear(&message).as_deref(), Some("good morning"));
        assert_eq!(listener.hear(&message), None);
        assert_eq!(speaker.hear(&message), None);
        let again = speaker.say([2; NAME], "good morning").unwrap();
        assert!(listener.hear(&again).is_some(), "the same words, said again");
    }

    #[test]
    fn what_is_no_message_is_passed_over_and_memory_is_bounded() {
        let mut gossip = Gossip::default();
        assert_eq!(gossip.hear(&[7; NAME - 1]), None);
        assert_eq!(gossip.hear(&[7; NAME]).as_deref(), Some(""));
        assert_eq!(gossip.hear(&[&[8; NAME], &b"\xff"[..]].concat()).as_deref(), Some("\u{fffd}"));
        assert_eq!(gossip.say([9; NAME], &"x".repeat(MAX_MESSAGE)), None);
        for number in 0..2 * REMEMBERED as u128 {
            gossip.hear(&number.to_be_bytes());
        }
        assert_eq!((gossip.seen.len(), gossip.oldest_first.len()), (REMEMBERED, REMEMBERED));
    }
}
