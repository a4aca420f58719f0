//! A home folder as CometBFT's nodes have it: `config/config.toml`, `config/node_key.json`, `config/genesis.json`.
//!
//! What is missing is as `cometbft init` would make it: no `config.toml` means the defaults, a new key is written, and without a
//! `genesis.json` the chain id is empty and must come from elsewhere. Nothing that is there is changed.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use kadwire_wire::tendermint::key::NodeKey;
use rand::CryptoRng;
use serde::Deserialize;

use super::{ConfigError, NodeConfig, file::ConfigFile};

/// The largest `config.toml` that is read, in bytes; CometBFT's has about 25,000.
const MAX_CONFIG: u64 = 1 << 20;

/// What a home folder says.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration. `network` is empty if there is no `genesis.json`; everything else is valid.
    pub config: NodeConfig,
    /// Lines of `[p2p]` that nothing here understands, each with its place and name.
    pub warnings: Vec<String>,
    /// The keys that `config.toml` has, at its top and in `[p2p]`, in lower case with `_`: what is not there is a default.
    pub given: BTreeSet<String>,
}

/// Reads the folder `home`. `rng` makes the node's key if there is none.
///
/// # Errors
/// A file cannot be read or written, or a value cannot be used: the file, the line and the key's name are in the error.
pub fn load(home: &Path, rng: &mut impl CryptoRng) -> Result<Loaded, ConfigError> {
    let path = home.join("config/config.toml");
    let text = read(&path)?;
    let file = ConfigFile::parse(&path, &text)?;
    let network = chain_id(&file.genesis_file(home)?.unwrap_or_else(|| home.join("config/genesis.json")))?;
    let key_file = file.node_key_file(home)?.unwrap_or_else(|| home.join("config/node_key.json"));
    make_parent("node_key_file", &key_file)?;
    let key = NodeKey::load_or_generate(&key_file, rng);
    let key = key.map_err(|error| ConfigError::new("node_key_file", format!("{}: {error}", key_file.display())))?;

    let mut config = NodeConfig::new(key, network.unwrap_or_default());
    config.addr_book_file = Some(home.join("config/addrbook.json"));
    let warnings = file.apply(&mut config, home)?;
    config.validate_values().map_err(|error| file.locate(error))?;
    if let Some(book) = &config.addr_book_file {
        make_parent("addr_book_file", book)?;
    }
    Ok(Loaded { config, warnings, given: file.given() })
}

/// The text of `config.toml`, empty if there is none.
fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |error: io::Error| ConfigError::new("config.toml", format!("{}: {error}", path.display()));
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened.map_err(failed)?,
    };
    let mut text = String::new();
    file.take(MAX_CONFIG + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(failed(io::Error::other(format!("longer than {MAX_CONFIG} bytes"))));
    }
    Ok(text)
}

/// The chain id of a genesis document, if there is one. The rest of it, which may be gigabytes, is passed over as it is read.
fn chain_id(path: &Path) -> Result<Option<String>, ConfigError> {
    #[derive(Deserialize)]
    struct Genesis {
        chain_id: String,
    }
    let failed =
        |error: &dyn std::fmt::Display| ConfigError::new("genesis_file", format!("{}: {error}", path.display()));
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&error)),
        Ok(file) => {
            let genesis: Genesis = serde_json::from_reader(BufReader::new(file)).map_err(|error| failed(&error))?;
            Ok(Some(genesis.chain_id))
        }
    }
}

fn make_parent(key: &'static str, file: &Path) -> Result<(), ConfigError> {
    let Some(folder) = file.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| ConfigError::new(key, format!("{}: {error}", folder.display())))
}
