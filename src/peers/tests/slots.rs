//! Who is dialed and when, and who gets a place.

use super::{Rounds, secs};
use crate::peers::Slots;

#[test]
fn dials_fill_the_free_slots_and_history_keeps_an_address_for_35_seconds() {
    Rounds::new(Slots { outbound: 4, dialing: 5, ..Slots::default() })
        .connected([1, 2, 3])
        .discovered([1, 3, 4, 5, 6])
        .expect_dials([4, 5]) // three of four slots taken
        .failed([4])
        .expect_dials([6]) // its place goes to the next candidate
        .failed([5, 6])
        .after(secs(34))
        .discovered([4])
        .expect_dials([]) // history keeps it 35 s
        .after(secs(2))
        .discovered([4])
        .expect_dials([4]);
}
