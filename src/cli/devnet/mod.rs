//! Networks of our own nodes in one process, for a first look and for tests.

mod discoveries;

pub(super) use discoveries::Discoveries;
