//! What is fuzzed: everything that reads what a stranger sends, and the machines that act on it. A target must neither panic nor fail an
//! assertion, whatever the bytes.

mod discv4_machine;
mod discv4_packet;
mod enr;
mod rlpx;
mod tendermint;
mod text;

/// One target.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) run: fn(&[u8]),
    /// Where a run begins: published vectors, and what we write ourselves.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Changed inputs in `cargo test`: about a second.
    #[allow(dead_code, reason = "libFuzzer runs for as long as it is told")]
    pub(crate) runs: u64,
}

const fn target(run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>, runs: u64) -> Target {
    Target { run, seeds, runs }
}

/// All targets, by name.
pub(crate) const ALL: [(&str, Target); 11] = [
    ("discv4_packet", target(discv4_packet::run, discv4_packet::seeds, 1000)),
    ("discv4_machine", target(discv4_machine::run, discv4_machine::seeds, 300)),
    ("enr", target(enr::run, enr::seeds, 1000)),
    ("text", target(text::run, text::seeds, 10_000)),
    ("rlpx_handshake", target(rlpx::handshake, rlpx::handshake_seeds, 200)),
    ("rlpx_frames", target(rlpx::frames, rlpx::frame_seeds, 200)),
    ("rlpx_messages", target(rlpx::messages, rlpx::message_seeds, 5000)),
    ("rlpx_multiplex", target(rlpx::multiplex, rlpx::multiplex_seeds, 2000)),
    ("secret_connection", target(tendermint::secret_connection, tendermint::secret_connection_seeds, 300)),
    ("mconnection", target(tendermint::mconnection, tendermint::mconnection_seeds, 2000)),
    ("tendermint_messages", target(tendermint::messages, tendermint::message_seeds, 5000)),
];

pub(crate) fn named(name: &str) -> Option<Target> {
    ALL.into_iter().find(|(other, _)| *other == name).map(|(_, target)| target)
}

/// The bytes of a fixture in hex, whatever its line ends.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}
