//! The peer policy as a whole.

mod rounds;
mod slots;

pub(crate) use rounds::{OWN, Rounds, secs};
