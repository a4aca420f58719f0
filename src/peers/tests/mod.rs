//! The peer policy as a whole, as tables of rounds.

mod anchors;
mod answers;
mod calls;
mod counters;
mod crossing;
mod crossing_orders;
mod ethereum;
mod incoming;
mod interleavings;
mod limits;
mod network;
mod patience;
mod rounds;
mod slots;
mod transitions;
mod upgrade;

pub(crate) use rounds::{OWN, Rounds, secs};
