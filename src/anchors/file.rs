//! Anchors on disk: a small JSON file for each wire, which an operator may read, edit or delete.
//!
//! ```json
//! {
//!   "version": 1,
//!   "anchors": [
//!     { "address": "mconn://0707…07@1.2.3.4:26656", "since": "2026-11-20T21:30:00Z", "seen": "2026-11-22T04:12:05Z" }
//!   ]
//! }
//! ```
//!
//! Blocking. Only the owner may read it: it says whom to keep from us. A file that is torn, of another version or of another wire is renamed to
//! `*.corrupt-<unix seconds>`, and the node starts without.

use std::{
    fs::File,
    io::{self, Read},
    mem::discriminant,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use kadwire_wire::address::{PeerAddress, PeerId};
use serde::{Deserialize, Serialize};

use super::{Anchor, MAX_ANCHORS};
use crate::state_file::{self, Readers};

/// Of the file's form.
const VERSION: u32 = 1;

/// The longest file read, in bytes: eight anchors have about 2,500.
const MAX_FILE: u64 = 64 << 10;

/// What was on disk.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The anchors, in the order in which they are to be dialed.
    pub anchors: Vec<Anchor>,
    /// Where a file that could not be understood is now.
    pub set_aside: Option<PathBuf>,
}

/// Reads the anchors at `path` of the node that is `own` on their wire. A missing file has none, nor has one that cannot be understood,
/// which is renamed. An error is only returned if the file is there but cannot be opened or renamed.
pub fn load(path: &Path, own: &PeerId, now: SystemTime) -> io::Result<Loaded> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::default()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    match parse(&bytes, own) {
        Ok(mut anchors) => {
            // A clock that was wrong then must not make a peer younger than any other for years.
            for anchor in &mut anchors {
                (anchor.since, anchor.seen) = (anchor.since.min(now), anchor.seen.min(now));
            }
            Ok(Loaded { anchors, set_aside: None })
        }
        Err(error) => {
            let aside = state_file::set_aside(path, now)?;
            tracing::warn!(%error, file = %path.display(), kept = %aside.display(), "anchors unreadable, starting without");
            Ok(Loaded { anchors: Vec::new(), set_aside: Some(aside) })
        }
    }
}

/// Writes them so that at any moment either the old or the new file is there, whole.
pub fn write(path: &Path, anchors: &[Anchor]) -> io::Result<()> {
    let anchors = anchors.iter().map(AnchorJson::of).collect();
    let mut bytes = serde_json::to_vec_pretty(&FileJson { version: VERSION, anchors })?;
    bytes.push(b'\n');
    state_file::write(path, &bytes, Readers::Owner)
}

/// Why a file has no anchors of ours.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("longer than {MAX_FILE} bytes")]
    TooLong,
    #[error("more than {MAX_ANCHORS} anchors")]
    TooMany,
    #[error("version {0}, want {VERSION}")]
    Version(u32),
    #[error("{0} is not on this wire")]
    OtherWire(PeerAddress),
    #[error("{0} has no IP")]
    Name(PeerAddress),
    #[error("{0:?} is no time such as 2026-11-22T04:12:05Z")]
    Time(String),
}

fn parse(bytes: &[u8], own: &PeerId) -> Result<Vec<Anchor>, FileError> {
    if bytes.len() as u64 > MAX_FILE {
        return Err(FileError::TooLong);
    }
    // Another version may have another form.
    let Version { version } = serde_json::from_slice(bytes)?;
    if version != VERSION {
        return Err(FileError::Version(version));
    }
    let file: FileJson = serde_json::from_slice(bytes)?;
    if file.anchors.len() > MAX_ANCHORS {
        return Err(FileError::TooMany);
    }
    file.anchors.into_iter().map(|anchor| anchor.anchor(own)).collect()
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct FileJson {
    version: u32,
    anchors: Vec<AnchorJson>,
}

#[derive(Serialize, Deserialize)]
struct AnchorJson {
    address: PeerAddress,
    since: String,
    seen: String,
}

impl AnchorJson {
    fn of(anchor: &Anchor) -> Self {
        let Anchor { address, since, seen } = anchor;
        AnchorJson { address: address.clone(), since: print_time(*since), seen: print_time(*seen) }
    }

    fn anchor(self, own: &PeerId) -> Result<Anchor, FileError> {
        let AnchorJson { address, since, seen } = self;
        if discriminant(&address.id()) != discriminant(own) {
            return Err(FileError::OtherWire(address));
        }
        if address.ip().is_none() {
            return Err(FileError::Name(address));
        }
        Ok(Anchor { address, since: parse_time(since)?, seen: parse_time(seen)? })
    }
}

/// To the second.
fn print_time(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.unwrap_or_default().to_string()
}

fn parse_time(text: String) -> Result<SystemTime, FileError> {
    text.parse::<Timestamp>().map(SystemTime::from).map_err(|_| FileError::Time(text))
}
