//! `kadwire man`: a manual page for each command, from what its `--help` says.

use std::path::PathBuf;

use super::exit::{Exit, Failure};

/// Write the manual pages, one a command, into a folder, such as /usr/local/share/man/man1
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn run(args: &Args, command: clap::Command) -> Result<Exit, Failure> {
    clap_mangen::generate_to(command, &args.folder)
        .map_err(|error| Failure::Failed(format!("{}: {error}", args.folder.display())))?;
    Ok(Exit::Done)
}
