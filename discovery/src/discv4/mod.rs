//! Node Discovery v4: the messages and their datagrams.

mod body;
pub mod message;
pub mod packet;
#[cfg(test)]
mod packet_tests;
