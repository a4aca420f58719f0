//! Signed Neighbors, kept to be sent again.
//!
//! Neighbors names neither its receiver nor the question, and signing is deterministic: the same content is the same
//! datagram. The machine sees to it that content repeats (`answer_expiration` in discv4), so most answers of a busy node with
//! a settled table need no new signature. This is a memory of a pure function, nothing more: an answer that has expired is
//! never asked for again, and gives way to those that are.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use lru::LruCache;

use crate::{
    SecretKey,
    discv4::{
        message::{Message, Neighbors},
        packet::encode,
    },
};

/// Answers kept, of at most 2.5 KB each with their content. A table of 17 full buckets makes 34 of them for strangers, and
/// some more for askers that are in it.
const MAX_ANSWERS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Shared by the workers. The lock is held to look up and to put, never to sign.
pub(super) struct SignedAnswers(Mutex<LruCache<Neighbors, Bytes>>);

impl SignedAnswers {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(MAX_ANSWERS)))
    }

    /// The datagram of these neighbours, from memory or signed now.
    pub(super) fn seal(&self, key: &SecretKey, answer: Neighbors) -> Bytes {
        if let Some(datagram) = self.lock().get(&answer) {
            return datagram.clone();
        }
        let message = Message::Neighbors(answer);
        let datagram = encode(key, &message).datagram;
        if let Message::Neighbors(answer) = message {
            self.lock().put(answer, datagram.clone());
        }
        datagram
    }

    /// A thread that panicked left nothing half done.
    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<Neighbors, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_again_is_what_would_be_signed() {
        let (key, answers) = (SecretKey::from_bytes(&[1; 32]).unwrap(), SignedAnswers::new());
        for expiration in (0..1000).chain(0..1000).chain(995..1000) {
            let answer = Neighbors { nodes: Vec::new(), skipped: 0, expiration };
            let signed = encode(&key, &Message::Neighbors(answer.clone())).datagram;
            assert_eq!(answers.seal(&key, answer), signed);
        }
        assert_eq!(answers.lock().len(), MAX_ANSWERS.get());
    }
}
