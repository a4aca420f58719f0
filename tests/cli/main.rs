//! The `kadwire` command from outside: what scripts and operators rely on. One behaviour a file, loopback only.

mod bad_flags;
mod bootnode;
mod closed_stdout;
mod crawl;
mod devnet;
mod help;
mod home;
mod key;
mod node;
mod process;
mod rlpx;
mod seed;
mod why;
