//! Lines on stdout. Unlike `println!`, a reader that went away is an error to end on, not a panic.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line, at once: scripts wait for it.
pub(super) fn line(line: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
