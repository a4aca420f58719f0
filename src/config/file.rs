//! `config.toml` as operators have it: what its section `[p2p]` says goes into a [`NodeConfig`], key by key.
//!
//! Tendermint's keys (`max-connections`), CometBFT's (`max_connections`) and those that only one of them has are all read; every
//! key may be missing. A value that cannot be used is an error with the line and the key's name; an unknown key is a warning.
//! Sections other than `[p2p]` belong to other parts of a chain's node and are passed over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use kadwire_wire::address::PeerId;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Listen, NodeConfig, duration::parse_duration, split_list};

/// Reads one value into its field. The path is the home folder.
type Setter = fn(&mut NodeConfig, Value<'_>, &Path) -> Result<(), String>;

/// Every key of `[p2p]`, in the order of the source documents, spelt as in CometBFT.
const KEYS: [(&str, Setter); 25] = [
    ("disable_legacy", |c, value, _| value.flag().map(|it| c.disable_legacy = it)),
    ("queue_type", |c, value, _| value.parsed().map(|it| c.queue_type = it)),
    ("laddr", |c, value, _| value.parsed().map(|it: Listen| c.laddr = it.address())),
    ("external_address", |c, value, _| value.socket().map(|it| c.external_address = it)),
    ("seeds", |c, value, _| value.list().map(|it| c.seeds = it)),
    ("persistent_peers", |c, value, _| value.list().map(|it| c.persistent_peers = it)),
    ("upnp", |c, value, _| value.flag().map(|it| c.upnp = it)),
    ("addr_book_file", |c, value, home| value.path(home).map(|it| c.addr_book_file = Some(it))),
    ("addr_book_strict", |c, value, _| value.flag().map(|it| c.addr_book_strict = it)),
    ("max_num_inbound_peers", |c, value, _| value.number().map(|it| c.max_num_inbound_peers = it)),
    ("max_num_outbound_peers", |c, value, _| value.number().map(|it| c.max_num_outbound_peers = it)),
    ("max_connections", |c, value, _| value.number().map(|it| c.max_connections = Some(it))),
    ("max_incoming_connection_attempts", |c, value, _| {
        value.number().map(|it| c.max_incoming_connection_attempts = it)
    }),
    ("unconditional_peer_ids", |c, value, _| value.ids().map(|it| c.unconditional_peer_ids = it)),
    ("persistent_peers_max_dial_period", |c, value, _| {
        value.duration().map(|it| c.persistent_peers_max_dial_period = it)
    }),
    ("flush_throttle_timeout", |c, value, _| value.duration().map(|it| c.flush_throttle_timeout = it)),
    ("max_packet_msg_payload_size", |c, value, _| value.number().map(|it| c.max_packet_msg_payload_size = it)),
    ("send_rate", |c, value, _| value.number().map(|it| c.send_rate = it)),
    ("recv_rate", |c, value, _| value.number().map(|it| c.recv_rate = it)),
    ("pex", |c, value, _| value.flag().map(|it| c.pex = it)),
    ("seed_mode", |c, value, _| value.flag().map(|it| c.seed_mode = it)),
    ("private_peer_ids", |c, value, _| value.ids().map(|it| c.private_peer_ids = it)),
    ("allow_duplicate_ip", |c, value, _| value.flag().map(|it| c.allow_duplicate_ip = it)),
    ("handshake_timeout", |c, value, _| value.duration().map(|it| c.handshake_timeout = it)),
    ("dial_timeout", |c, value, _| value.duration().map(|it| c.dial_timeout = it)),
];

/// How alike an unknown key and a known one must be for the second to be suggested (Jaro–Winkler; 1 is the same).
const ALIKE: f64 = 0.85;

/// A `config.toml`, parsed.
#[derive(Debug)]
pub struct ConfigFile<'t> {
    path: &'t Path,
    text: &'t str,
    top: BTreeMap<String, Placed<'t>>,
    p2p: BTreeMap<String, Placed<'t>>,
}

/// A key as it is written, its line, and its value.
#[derive(Debug)]
struct Placed<'t> {
    written: String,
    line: usize,
    value: DeValue<'t>,
}

impl<'t> ConfigFile<'t> {
    /// Parses the text of the file at `path`.
    ///
    /// # Errors
    /// It is no TOML, `p2p` is no section, or a key is given in two spellings.
    pub fn parse(path: &'t Path, text: &'t str) -> Result<Self, ConfigError> {
        let document = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_at(text, span.start));
            // The parser's own words are one line; its picture of the place is not.
            ConfigError::new("config.toml", format!("{}:{line}: {}", path.display(), error.message()))
        })?;
        let mut file = ConfigFile { path, text, top: BTreeMap::new(), p2p: BTreeMap::new() };
        file.top = file.placed(document.into_inner())?;
        match file.top.remove("p2p") {
            None => {}
            Some(Placed { value: DeValue::Table(section), .. }) => file.p2p = file.placed(section)?,
            Some(other) => return Err(file.error("p2p", other.line, "want a section: [p2p]")),
        }
        Ok(file)
    }

    fn placed(&self, table: DeTable<'t>) -> Result<BTreeMap<String, Placed<'t>>, ConfigError> {
        let mut placed = BTreeMap::<String, Placed<'t>>::new();
        for (key, value) in table {
            let line = line_at(self.text, key.span().start);
            let written = key.into_inner().into_owned();
            let here = Placed { line, value: value.into_inner(), written };
            // As viper, which reads CometBFT's file, does not mind the case.
            let name = here.written.replace('-', "_").to_ascii_lowercase();
            if let Some(there) = placed.get(&name) {
                let (first, second) = if there.line < line { (there, &here) } else { (&here, there) };
                let problem =
                    format!("{} says what {} says in line {}: keep one", second.written, first.written, first.line);
                let place = Some(self.place(second.line));
                return Err(ConfigError { place, ..ConfigError::new("config.toml", problem) });
            }
            placed.insert(name, here);
        }
        Ok(placed)
    }

    /// The operator's name for the node.
    pub fn moniker(&self) -> Result<Option<String>, ConfigError> {
        self.top_text("moniker")
    }

    /// Where the node's key is; under `home` if relative.
    pub fn node_key_file(&self, home: &Path) -> Result<Option<PathBuf>, ConfigError> {
        Ok(self.top_text("node_key_file")?.filter(|file| !file.is_empty()).map(|file| home.join(file)))
    }

    /// Where the chain's genesis document is; under `home` if relative.
    pub fn genesis_file(&self, home: &Path) -> Result<Option<PathBuf>, ConfigError> {
        Ok(self.top_text("genesis_file")?.filter(|file| !file.is_empty()).map(|file| home.join(file)))
    }

    fn top_text(&self, key: &'static str) -> Result<Option<String>, ConfigError> {
        let Some(placed) = self.top.get(key) else { return Ok(None) };
        let text = Value(&placed.value).text().map_err(|problem| self.error(key, placed.line, &problem))?;
        Ok(Some(text.to_owned()))
    }

    /// Puts what the file says into `config`, and gives what it says that nothing here understands.
    ///
    /// # Errors
    /// The first value, in the order of the keys, that cannot be used.
    pub fn apply(&self, config: &mut NodeConfig, home: &Path) -> Result<Vec<String>, ConfigError> {
        if let Some(moniker) = self.moniker()? {
            config.moniker = moniker;
        }
        // Tendermint 0.35 has a mode of the whole node instead of the key.
        config.seed_mode = self.top_text("mode")?.is_some_and(|mode| mode == "seed");
        for (key, set) in KEYS {
            if let Some(placed) = self.p2p.get(key) {
                set(config, Value(&placed.value), home).map_err(|problem| self.error(key, placed.line, &problem))?;
            }
        }
        Ok(self.unknown())
    }

    /// The keys that the file has, at its top and in `[p2p]`, in lower case with `_`.
    pub fn given(&self) -> BTreeSet<String> {
        self.top.keys().chain(self.p2p.keys()).cloned().collect()
    }

    fn unknown(&self) -> Vec<String> {
        let is_known = |name: &str| KEYS.iter().any(|(key, _)| *key == name);
        let mut unknown: Vec<_> = self.p2p.iter().filter(|(name, _)| !is_known(name)).collect();
        unknown.sort_by_key(|(_, placed)| placed.line);
        let warning = |(name, placed): (&String, &Placed<'_>)| {
            let alike = KEYS.map(|(key, _)| (strsim::jaro_winkler(name, key), key));
            let most = alike.into_iter().filter(|(alike, _)| *alike >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
            let advice = most.map(|(_, key)| format!(": did you mean {key}?")).unwrap_or_default();
            format!("{}: {} in [p2p] is unknown and has no effect{advice}", self.place(placed.line), placed.written)
        };
        unknown.into_iter().map(warning).collect()
    }

    /// The same error with the line of its key, if the file has that key.
    pub fn locate(&self, error: ConfigError) -> ConfigError {
        let placed = self.p2p.get(error.key).or_else(|| self.top.get(error.key));
        ConfigError { place: placed.map(|placed| self.place(placed.line)), ..error }
    }

    fn error(&self, key: &'static str, line: usize, problem: &str) -> ConfigError {
        ConfigError { place: Some(self.place(line)), ..ConfigError::new(key, problem) }
    }

    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

/// The line, from 1, of a byte of the text.
fn line_at(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
}

/// A value and what it can be read as. Errors say what to write.
#[derive(Clone, Copy)]
struct Value<'v>(&'v DeValue<'v>);

impl<'v> Value<'v> {
    fn text(self) -> Result<&'v str, String> {
        match self.0 {
            DeValue::String(text) => Ok(text),
            _ => Err("want a text in quotes".to_owned()),
        }
    }

    fn flag(self) -> Result<bool, String> {
        match self.0 {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err("want true or false, without quotes".to_owned()),
        }
    }

    fn number<T: TryFrom<i128>>(self) -> Result<T, String> {
        let DeValue::Integer(number) = self.0 else { return Err("want a whole number, without quotes".to_owned()) };
        let read =
            i128::from_str_radix(number.as_str(), number.radix()).map_err(|_| format!("{number} is too large"))?;
        if read < 0 {
            return Err(format!("{number} is less than 0"));
        }
        read.try_into().map_err(|_| format!("{number} is too large"))
    }

    fn duration(self) -> Result<Duration, String> {
        parse_duration(self.text().map_err(|_| "want a duration in quotes, such as \"100ms\" or \"20s\"".to_owned())?)
    }

    fn parsed<T: FromStr<Err: Display>>(self) -> Result<T, String> {
        self.text()?.parse().map_err(|error: T::Err| error.to_string())
    }

    fn list<T: FromStr<Err: Display>>(self) -> Result<Vec<T>, String> {
        let wanted = "want one text in quotes, with commas between its parts";
        split_list(self.text().map_err(|_| wanted.to_owned())?)
    }

    fn ids(self) -> Result<Vec<PeerId>, String> {
        let ids: Vec<PeerId> = self.list()?;
        match ids.iter().find(|id| id.tendermint().is_none()) {
            Some(other) => Err(format!("{other} is no id of a Tendermint node: want 40 hex digits")),
            None => Ok(ids),
        }
    }

    fn path(self, home: &Path) -> Result<PathBuf, String> {
        match self.text()? {
            "" => Err("want the name of a file, or no such line".to_owned()),
            file => Ok(home.join(file)),
        }
    }

    /// A `host:port` with or without `tcp://` before it; a name is looked up once, here, as CometBFT does. Empty is none.
    fn socket(self) -> Result<Option<SocketAddr>, String> {
        let text = self.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        let place = text.split_once("://").map_or(text, |(_, place)| place);
        if let Ok(socket) = place.parse() {
            return Ok(Some(socket));
        }
        let wanted = || format!("{text:?}: want IP:PORT or NAME:PORT, such as 203.0.113.7:26656");
        let (host, port) = place.rsplit_once(':').ok_or_else(wanted)?;
        let port: u16 = port.parse().map_err(|_| wanted())?;
        let mut found = (host, port).to_socket_addrs().map_err(|error| format!("cannot look up {host}: {error}"))?;
        found.next().map(Some).ok_or_else(|| format!("{host} has no address"))
    }
}
