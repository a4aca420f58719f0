//! Node Discovery v4: the messages and their datagrams.

pub mod message;
