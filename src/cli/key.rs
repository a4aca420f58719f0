//! `kadwire key`: node keys of the Ethereum kind.

use std::path::PathBuf;

use clap::Subcommand;
use kadwire_discovery::SecretKey;

use super::exit::{Exit, Failure};
use super::{output, random};

/// Make and show node keys
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a new node key in FILE (64 hex digits, mode 0600); prints its public key
    Generate { file: PathBuf },
    /// Print the public key (128 hex digits) and the node id (64) of the key in FILE
    Show { file: PathBuf },
}

pub(super) fn run(args: Args) -> Result<Exit, Failure> {
    match args.action {
        Action::Generate { file } => {
            let key = SecretKey::random(&mut random::generator());
            key.save(&file).map_err(|error| Failure::Failed(error.to_string()))?;
            output::line(key.public())?;
        }
        Action::Show { file } => {
            let key = SecretKey::load(&file).map_err(|error| Failure::Failed(error.to_string()))?;
            output::line(key.public())?;
            output::line(key.public().node_id())?;
        }
    }
    Ok(Exit::Done)
}
