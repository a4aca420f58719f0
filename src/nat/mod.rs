//! How others reach us when we cannot know it ourselves: port mappings on the gateway (UPnP IGD, PCP, NAT-PMP), the address
//! that a STUN server sees, or the operator's word.
//!
//! [`Plan`] is what the operator wants, for each address family by itself. [`Nat`] is the driver: it asks in the background,
//! asks again before a lease ends, tells [`Discovery`](kadwire_discovery::Discovery) what it learns, and takes mappings back
//! at the end. When to ask, what still holds and what is news is decided by the `keeper` machine. Nothing is contacted unless
//! the plan says so.
//!
//! Who is believed, in each family: the operator (`extip`) before the gateway or STUN server, before the vote of the pongs,
//! before the address listened on. Only UPnP, PCP and NAT-PMP change anything outside this process.
//!
//! Spellings are go-ethereum's (`p2p/nat/nat.go`).

mod gateway;
mod keeper;
mod method;
mod route;
mod stun;
mod task;
mod trouble;

pub use method::{Conflict, Method, MethodError, Plan, StunServer};
pub use task::Nat;
