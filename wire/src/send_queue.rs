//! How a send queue is bounded in messages and in bytes at once: it has places, and a message takes one for each MiB that it begins.
//!
//! The link, where users wait for places, and the machine behind it count alike, so that what was let in by one finds room in the other.

/// Bytes of a message that one place has room for. Messages of most protocols are smaller; a queue of 16 places holds 16 MiB, or one
/// message of any size.
const PLACE: usize = 1 << 20;

/// The places that a message of `len` bytes takes of a queue that has `places`: never more than all of them.
pub(crate) fn places_taken(len: usize, places: usize) -> usize {
    len.div_ceil(PLACE).clamp(1, places.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_takes_a_place_for_each_mib_that_it_begins() {
        let taken = |len| places_taken(len, 16);
        assert_eq!([taken(0), taken(PLACE), taken(PLACE + 1), taken(16 * PLACE), taken(usize::MAX)], [1, 1, 2, 16, 16]);
        assert_eq!([places_taken(100 * PLACE, 1), places_taken(1, 0)], [1, 1]);
    }
}
