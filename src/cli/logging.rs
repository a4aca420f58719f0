//! Logs: on stderr, at the level that `--verbosity` or `RUST_LOG` asks for.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// go-ethereum's levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Starts logging. `--verbosity` wins over `RUST_LOG`, which wins over `default`. Colours on a terminal only.
pub(super) fn start(verbosity: Option<u8>, default: u8) {
    let level = |number: u8| EnvFilter::new(LEVELS.get(usize::from(number)).copied().unwrap_or("trace"));
    let filter = verbosity.map(level).or_else(|| EnvFilter::try_from_default_env().ok());
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter.unwrap_or_else(|| level(default)))
        .init();
}
