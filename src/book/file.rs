//! The book on disk: CometBFT's `addrbook.json`, so that either program can go on with the other's file. One key is our own, `banned`, which
//! CometBFT does not read: it forgets bans.
//!
//! Blocking; a driver calls it from a thread of its own with a [`Snapshot`], so that saving never holds the book. Written to a temporary
//! file, synced and renamed. A file that cannot be read is renamed to `*.corrupt-<unix seconds>` and the book starts empty (CometBFT panics).
//! Only IP addresses of Tendermint peers are in it; one peer has one address.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use jiff::Timestamp;
use kadwire_wire::address::{PeerAddress, PeerId};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{
    Book, BookConfig,
    bans::Ban,
    entry::{Entry, Kind, Origin},
    slots::Chunk,
};
use crate::state_file::{self, Readers};

/// The longest file read, in bytes: a full book is about 8 MB.
const MAX_FILE: u64 = 64 << 20;

/// The longest placement key taken over, in characters (CometBFT: 24).
const MAX_KEY: usize = 128;

/// Bytes of a line of the text, about.
const LINE: usize = 512;

/// All that the book keeps, as it was at one moment; shared with the book until that changes.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) key: String,
    pub(super) entries: Vec<Arc<Chunk>>,
    pub(super) bans: Arc<BTreeMap<PeerId, Ban>>,
}

/// A book read from disk.
#[derive(Debug)]
pub struct Loaded {
    /// The book; empty if there was no file or it could not be read.
    pub book: Book,
    /// Addresses in the file that were left out: badly written, or not to be kept.
    pub left_out: usize,
    /// Where a file that could not be read is now.
    pub set_aside: Option<PathBuf>,
}

/// Reads the book at `path`. A missing file gives an empty book, and so does a corrupt one, which is renamed. An error is only returned if
/// the file is there but cannot be opened or set aside: starting without it would overwrite it.
pub fn load(path: &Path, config: BookConfig, now: SystemTime) -> io::Result<Loaded> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Loaded { book: Book::new(config), left_out: 0, set_aside: None });
        }
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    match Snapshot::parse(&bytes) {
        Ok((snapshot, unreadable)) => {
            let (book, left_out) = Book::restore(config, now, snapshot);
            Ok(Loaded { book, left_out: left_out + unreadable, set_aside: None })
        }
        Err(error) => {
            let aside = state_file::set_aside(path, now)?;
            tracing::warn!(%error, file = %path.display(), kept = %aside.display(), "address book unreadable, starting with an empty one");
            Ok(Loaded { book: Book::new(config), left_out: 0, set_aside: Some(aside) })
        }
    }
}

/// Why a file is not an address book.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Not JSON, or not of the right form.
    #[error("not an address book: {0}")]
    Json(#[from] serde_json::Error),
    /// Longer than 64 MiB.
    #[error("longer than {MAX_FILE} bytes")]
    TooLong,
}

impl Snapshot {
    /// Reads the text of a file. Single addresses that cannot be read are left out and counted; one bad line should not cost the others.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), FileError> {
        if bytes.len() as u64 > MAX_FILE {
            return Err(FileError::TooLong);
        }
        let file: FileJson = serde_json::from_slice(bytes)?;
        let (addrs, banned) = (file.addrs.unwrap_or_default(), file.banned);
        let lines = addrs.len() + banned.len();
        let entry = |line: &&RawValue| serde_json::from_str::<EntryJson>(line.get()).ok()?.entry();
        let entries: Chunk = addrs.iter().filter_map(|line| entry(line).map(Some)).collect();
        let ban = |line: &&RawValue| serde_json::from_str::<BanJson>(line.get()).ok()?.ban();
        let bans: Vec<(PeerId, Ban)> = banned.iter().filter_map(ban).collect();
        let unreadable = lines - entries.len() - bans.len();
        let key = if file.key.len() <= MAX_KEY { file.key } else { String::new() };
        Ok((Snapshot { key, entries: vec![Arc::new(entries)], bans: Arc::new(bans.into_iter().collect()) }, unreadable))
    }

    /// The text of the file, indented by tabs as CometBFT's is.
    pub fn to_json(&self) -> Result<Vec<u8>, FileError> {
        let file = SnapshotJson {
            key: &self.key,
            addrs: Lines(&self.entries),
            banned: self.bans.iter().map(|(id, ban)| BanJson::of(id, ban)).collect(),
        };
        let entries: usize = self.entries.iter().map(|chunk| chunk.len()).sum();
        let mut bytes = Vec::with_capacity(entries * LINE);
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        file.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
        Ok(bytes)
    }

    /// Writes the file so that at any moment either the old or the new one is there, whole.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let bytes = self.to_json().map_err(io::Error::other)?;
        state_file::write(path, &bytes, Readers::Default)
    }
}

/// What is read: lines are looked at one by one.
#[derive(Deserialize)]
struct FileJson<'a> {
    key: String,
    #[serde(borrow)]
    addrs: Option<Vec<&'a RawValue>>,
    #[serde(default, borrow)]
    banned: Vec<&'a RawValue>,
}

/// What is written, without a copy of the entries.
#[derive(Serialize)]
struct SnapshotJson<'a> {
    key: &'a str,
    addrs: Lines<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    banned: Vec<BanJson>,
}

struct Lines<'a>(&'a [Arc<Chunk>]);

impl Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().flat_map(|chunk| chunk.iter()).flatten().filter_map(EntryJson::of))
    }
}

/// CometBFT's `NetAddress`.
#[derive(Serialize, Deserialize)]
struct AddressJson {
    id: PeerId,
    ip: IpAddr,
    port: u16,
}

impl AddressJson {
    fn of(id: PeerId, socket: SocketAddr) -> Self {
        AddressJson { id, ip: socket.ip(), port: socket.port() }
    }

    fn id(&self) -> Option<PeerId> {
        self.id.tendermint().map(PeerId::Tendermint)
    }
}

/// CometBFT's `knownAddress`.
#[derive(Serialize, Deserialize)]
struct EntryJson {
    addr: AddressJson,
    src: AddressJson,
    buckets: Option<Vec<u16>>,
    attempts: i32,
    bucket_type: u8,
    last_attempt: String,
    last_success: String,
    last_ban_time: String,
}

/// CometBFT's `bucketTypeNew`.
const NEW: u8 = 1;

/// CometBFT's `bucketTypeOld`.
const OLD: u8 = 2;

impl EntryJson {
    fn of(entry: &Entry) -> Option<Self> {
        entry.address.id().tendermint()?;
        let addr = AddressJson::of(entry.address.id(), entry.address.socket_addr()?);
        // A source without an IP is within this process, and then so is the address; an Ethereum one has no id to write.
        let src_id = entry.origin.id.tendermint().map_or(entry.address.id(), PeerId::Tendermint);
        let src = AddressJson::of(src_id, entry.origin.socket.or(entry.address.socket_addr())?);
        Some(EntryJson {
            addr,
            src,
            buckets: Some(entry.buckets.clone()),
            attempts: i32::try_from(entry.attempts).unwrap_or(i32::MAX),
            bucket_type: if entry.kind == Kind::New { NEW } else { OLD },
            last_attempt: print_time(entry.last_attempt),
            last_success: print_time(entry.last_success),
            last_ban_time: print_time(entry.last_ban),
        })
    }

    fn entry(self) -> Option<Entry> {
        let address = PeerAddress::from_socket(self.addr.id()?, SocketAddr::new(self.addr.ip, self.addr.port)).ok()?;
        let kind = match self.bucket_type {
            NEW => Kind::New,
            OLD => Kind::Old,
            _ => return None,
        };
        Some(Entry {
            address,
            origin: Origin { id: self.src.id()?, socket: Some(SocketAddr::new(self.src.ip, self.src.port)) },
            attempts: u32::try_from(self.attempts).unwrap_or(0),
            last_attempt: parse_time(&self.last_attempt)?,
            last_success: parse_time(&self.last_success)?,
            last_ban: parse_time(&self.last_ban_time)?,
            kind,
            buckets: self.buckets.unwrap_or_default(),
        })
    }
}

/// Our own addition.
#[derive(Serialize, Deserialize)]
struct BanJson {
    id: PeerId,
    until: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<EntryJson>,
}

impl BanJson {
    fn of(id: &PeerId, ban: &Ban) -> Self {
        BanJson { id: *id, until: print_time(Some(ban.until)), entry: ban.entry.as_ref().and_then(EntryJson::of) }
    }

    fn ban(self) -> Option<(PeerId, Ban)> {
        let entry = self.entry.and_then(EntryJson::entry).filter(|entry| entry.address.id() == self.id);
        Some((self.id, Ban { until: parse_time(&self.until)??, entry }))
    }
}

/// Go's zero time, which stands for "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

fn print_time(time: Option<SystemTime>) -> String {
    let time = time.and_then(|time| Timestamp::try_from(time).ok());
    time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

/// `Some(None)` for Go's zero time, `None` for what is no time at all. Offsets other than `Z` are understood: CometBFT writes local time.
fn parse_time(text: &str) -> Option<Option<SystemTime>> {
    if text == NEVER {
        return Some(None);
    }
    let time: Timestamp = text.parse().ok()?;
    Some(Some(SystemTime::from(time)))
}
