//! One channel of a connection: its queue, the message being sent, and the message being received.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    ChannelSpec, MConnectionError,
    packet::{Plaintext, payload_on, put_message},
    priority::RecentlySent,
};

/// The first allocation for a message of several packets, in bytes (CometBFT `defaultRecvBufferCapacity`).
const FIRST_RECEIVE_BUFFER: usize = 4096;

/// After a message it is as large as that was, up to this, in bytes: messages of one channel are much alike.
const MAX_FIRST_RECEIVE_BUFFER: usize = 1 << 20;

/// A message below this, in bytes, is given away without the memory that it did not fill; a larger one if that is more than its own.
const EXACT_BELOW: usize = 4096;

/// An empty queue keeps room for this many messages; more is given back.
const KEPT_CAPACITY: usize = 16;

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) spec: ChannelSpec,
    /// Messages not begun, numbered in the order of sending over all channels.
    queue: VecDeque<(u64, Bytes)>,
    /// The message that was begun.
    sending: Option<Sending>,
    pub(super) recently_sent: RecentlySent,
    /// Bytes that it may still send in its turn; below zero, what it sent too much. See [`super::queue`].
    pub(super) credit: isize,
    /// Messages whose last packet was written, since last asked.
    pub(super) sent: usize,
    /// The message whose packets are arriving.
    receiving: Vec<u8>,
    /// The bytes to allocate for the next message of several packets.
    first_buffer: usize,
}

#[derive(Debug)]
struct Sending {
    number: u64,
    message: Bytes,
    /// Bytes written.
    done: usize,
}

impl Channel {
    pub(super) fn new(spec: ChannelSpec) -> Self {
        Channel {
            spec,
            queue: VecDeque::new(),
            sending: None,
            recently_sent: RecentlySent::default(),
            credit: 0,
            sent: 0,
            receiving: Vec::new(),
            first_buffer: FIRST_RECEIVE_BUFFER,
        }
    }

    /// Messages queued or begun.
    pub(super) fn pending(&self) -> usize {
        self.queue.len().saturating_add(usize::from(self.sending.is_some()))
    }

    /// Bytes allocated for the message that is arriving.
    #[cfg(test)]
    pub(super) fn receiving(&self) -> usize {
        self.receiving.capacity()
    }

    pub(super) fn queue(&mut self, number: u64, message: Bytes) {
        self.queue.push_back((number, message));
    }

    /// The number of the message whose packet would be next.
    pub(super) fn head(&self) -> Option<u64> {
        let begun = self.sending.as_ref().map(|sending| sending.number);
        begun.or_else(|| self.queue.front().map(|(number, _)| *number))
    }

    /// Writes the next packet; returns its bytes, and whether it ended its message. 0 bytes: there is nothing to send.
    pub(super) fn put_packet(&mut self, out: &mut impl Plaintext, max_payload: usize) -> (usize, bool) {
        let Sending { number, message, done } = match self.sending.take() {
            Some(begun) => begun,
            None => match self.queue.pop_front() {
                Some((number, message)) => Sending { number, message, done: 0 },
                None => return (0, false),
            },
        };
        if self.queue.is_empty() && self.queue.capacity() > KEPT_CAPACITY {
            self.queue = VecDeque::new();
        }
        let rest = message.get(done..).unwrap_or_default();
        let (data, later) = rest.split_at(rest.len().min(payload_on(self.spec.id, max_payload)));
        let eof = later.is_empty();
        let written = put_message(out, self.spec.id, eof, data);
        if eof {
            self.sent = self.sent.saturating_add(1);
        } else {
            let done = done.saturating_add(data.len());
            self.sending = Some(Sending { number, message, done });
        }
        self.recently_sent.add(written);
        self.credit = self.credit.saturating_sub_unsigned(written);
        (written, eof)
    }

    /// Takes the data of one packet; gives the message if this was its last. Memory grows with what has arrived, at most
    /// twofold (a new message begins with what the last one had), never beyond the channel's limit. A message that is given
    /// holds at most twice its length, a small one no more than it: whoever counts the bytes of waiting messages counts their memory.
    pub(super) fn receive(&mut self, eof: bool, data: &[u8]) -> Result<Option<Bytes>, MConnectionError> {
        let max = self.spec.max_message_size;
        let len = self.receiving.len().saturating_add(data.len());
        if len > max {
            return Err(MConnectionError::MessageTooLarge { channel: self.spec.id, max });
        }
        if eof && self.receiving.is_empty() {
            return Ok(Some(Bytes::copy_from_slice(data)));
        }
        let capacity = self.receiving.capacity();
        if len > capacity {
            let grown = capacity.saturating_mul(2).max(self.first_buffer).min(max).max(len);
            self.receiving.reserve_exact(grown.saturating_sub(self.receiving.len()));
        }
        self.receiving.extend_from_slice(data);
        if !eof {
            return Ok(None);
        }
        self.first_buffer = len.min(MAX_FIRST_RECEIVE_BUFFER);
        let mut message = std::mem::take(&mut self.receiving);
        if len < EXACT_BELOW || message.capacity() > len.saturating_mul(2) {
            message.shrink_to_fit();
        }
        Ok(Some(Bytes::from(message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_what_arrived() {
        let mut channel = Channel::new(ChannelSpec { max_message_size: 1 << 20, ..ChannelSpec::new(1) });
        for n in 1..=1024usize {
            assert_eq!(channel.receive(false, &[0; 1024]), Ok(None));
            assert!(channel.receiving.capacity() <= (2 * n * 1024).max(FIRST_RECEIVE_BUFFER));
        }
        let too_large = MConnectionError::MessageTooLarge { channel: 1, max: 1 << 20 };
        assert_eq!(channel.receive(true, &[0]), Err(too_large));
        assert_eq!(channel.receive(true, &[]).unwrap().unwrap().len(), 1 << 20);
        assert_eq!(channel.receiving.capacity(), 0);
    }
}
