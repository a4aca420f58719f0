//! `kadwire completions`: the script with which a shell completes our commands and flags.

use std::io::{self, Write};

use clap_complete::{Shell, generate};

use super::exit::{Exit, Failure};

/// Print the script that completes commands and flags in a shell, such as: source <(kadwire completions bash)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    shell: Shell,
}

pub(super) fn run(args: &Args, mut command: clap::Command) -> Result<Exit, Failure> {
    // It panics where it cannot write.
    let mut script = Vec::new();
    generate(args.shell, &mut command, "kadwire", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Exit::Done)
}
