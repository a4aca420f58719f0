//! The entries, each in a slot that stays its own, in chunks that a snapshot shares: taking one costs a pointer for each chunk, and what
//! changes while it is written to disk is copied chunk by chunk.

use std::{
    ops::{Index, IndexMut},
    sync::Arc,
};

use super::entry::Entry;

/// Entries in a chunk. A full book has 320 chunks of about 20 KB.
const CHUNK: usize = 64;

pub(crate) type Chunk = Vec<Option<Entry>>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    chunks: Vec<Arc<Chunk>>,
    free: Vec<usize>,
    len: usize,
}

impl Slots {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, entry: Entry) -> usize {
        self.len += 1;
        if let Some(slot) = self.free.pop() {
            Arc::make_mut(&mut self.chunks[slot / CHUNK])[slot % CHUNK] = Some(entry);
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Arc::new(Vec::with_capacity(CHUNK)));
        }
        let last = self.chunks.len() - 1;
        let chunk = Arc::make_mut(&mut self.chunks[last]);
        chunk.push(Some(entry));
        last * CHUNK + chunk.len() - 1
    }

    /// Empties a filled slot.
    pub(crate) fn remove(&mut self, slot: usize) -> Entry {
        let entry = Arc::make_mut(&mut self.chunks[slot / CHUNK])[slot % CHUNK].take();
        self.free.push(slot);
        self.len -= 1;
        entry.expect("buckets and lists hold filled slots only")
    }

    pub(crate) fn get(&self, slot: usize) -> Option<&Entry> {
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK)?.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).flatten()
    }

    /// All entries as they are now.
    pub(crate) fn share(&self) -> Vec<Arc<Chunk>> {
        self.chunks.clone()
    }
}

impl Index<usize> for Slots {
    type Output = Entry;

    fn index(&self, slot: usize) -> &Entry {
        self.get(slot).expect("buckets and lists hold filled slots only")
    }
}

impl IndexMut<usize> for Slots {
    fn index_mut(&mut self, slot: usize) -> &mut Entry {
        let chunk = Arc::make_mut(&mut self.chunks[slot / CHUNK]);
        chunk[slot % CHUNK].as_mut().expect("buckets and lists hold filled slots only")
    }
}
