//! Logs: on stderr, at the level that `--verbosity` or `RUST_LOG` asks for.

use std::env;
use std::io::{self, IsTerminal};

use tracing::warn;
use tracing_subscriber::EnvFilter;

/// go-ethereum's levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Starts logging. `--verbosity` wins over `RUST_LOG`, which wins over `default`. Colours on a terminal only, unless `NO_COLOR` is set.
pub(super) fn start(verbosity: Option<u8>, default: u8) {
    let level = |number: u8| EnvFilter::new(LEVELS.get(usize::from(number)).copied().unwrap_or("trace"));
    let asked =
        env::var(EnvFilter::DEFAULT_ENV).ok().filter(|_| verbosity.is_none()).map(EnvFilter::try_new).transpose();
    let (asked, problem) = asked.map_or_else(|problem| (None, Some(problem)), |asked| (asked, None));
    let filter = verbosity.map(level).or(asked);
    let is_plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !is_plain)
        .with_env_filter(filter.unwrap_or_else(|| level(default)))
        .init();
    if let Some(problem) = problem {
        warn!("{} has no effect: {problem}", EnvFilter::DEFAULT_ENV);
    }
}
