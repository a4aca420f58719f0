//! go-ethereum's rules: its own tests of dial scheduler and server told again as tables of rounds. Which is which, and what is different
//! on purpose, is listed in `docs/dialing.md`.

mod dial;
mod dialstate;
mod schedules;
mod server;

use super::Rounds;
use crate::peers::Slots;

/// So many dialed peers and dials at once; places for those who dial us are plenty.
fn rounds(outbound: usize, dialing: usize) -> Rounds {
    Rounds::ethereum(slots(outbound, dialing), |_| {})
}

fn slots(outbound: usize, dialing: usize) -> Slots {
    Slots { inbound: 20, outbound, total: 20 + outbound, dialing, ..Slots::ethereum(25, 0) }
}
