//! The key file of go-ethereum: 64 hex characters, a newline optional. Readable by its owner only, and refused otherwise.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{Blame, KeyError, SecretKey};

/// A key file is 64 characters and at most a line end; anything longer is not read at all.
const MAX_FILE_SIZE: u64 = 66;

/// Why a key file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system refused.
    #[error("key file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is a file of that name. It may be an identity, and stays.
    #[error("key file {} exists and is not overwritten: take another name", .0.display())]
    Exists(PathBuf),
    /// Somebody else on this machine may read or write it.
    #[error("key file {} is open to others (mode {mode:03o}): run `chmod 600 {}`", path.display(), path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The content is not a key.
    #[error("key file {}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
}

impl KeyFileError {
    /// Always [`Blame::Local`].
    pub fn blame(&self) -> Blame {
        Blame::Local
    }
}

impl SecretKey {
    /// Reads a key file: 64 hex characters and at most one line end.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        let mut file = fs::File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(io(io::ErrorKind::IsADirectory.into()));
        }
        refuse_if_open_to_others(path, &metadata)?;
        let mut content = Zeroizing::new([0; MAX_FILE_SIZE as usize + 1]);
        let mut length = 0_usize;
        loop {
            match file.read(content.get_mut(length..).unwrap_or_default()).map_err(io)? {
                0 => break,
                read => length = length.saturating_add(read),
            }
        }
        let text = content.get(..length).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default();
        let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        Self::from_hex(line).map_err(|source| KeyFileError::Key { path: path.to_owned(), source })
    }

    /// Writes a new key file, mode 0600 from its creation. A file that exists is never overwritten: it may be an identity.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), KeyFileError> {
        let path = path.as_ref();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(path).and_then(|mut file| {
            let written = file.write_all(self.to_hex().as_bytes()).and_then(|()| file.sync_all());
            // Half a key, left by a full disk, would be in the way of every later start.
            written.inspect_err(|_| drop(fs::remove_file(path)))
        });
        written.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
            _ => KeyFileError::Io { path: path.to_owned(), source },
        })
    }
}

#[cfg(unix)]
fn refuse_if_open_to_others(path: &Path, metadata: &fs::Metadata) -> Result<(), KeyFileError> {
    let mode = std::os::unix::fs::MetadataExt::mode(metadata) & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyFileError::OpenToOthers { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn refuse_if_open_to_others(_: &Path, _: &fs::Metadata) -> Result<(), KeyFileError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn key() -> SecretKey {
        SecretKey::random(&mut StdRng::seed_from_u64(7))
    }

    #[test]
    fn a_saved_key_is_private_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodekey");
        key().save(&path).unwrap();
        assert_eq!(SecretKey::load(&path).unwrap().public(), key().public());
        // A second save would destroy an identity.
        assert!(matches!(key().save(&path), Err(KeyFileError::Exists(_))));
        let folder = SecretKey::load(folder.path()).unwrap_err();
        assert!(matches!(folder, KeyFileError::Io { .. }), "no advice on permissions: {folder}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let refused = SecretKey::load(&path).unwrap_err();
            assert!(matches!(refused, KeyFileError::OpenToOthers { mode: 0o640, .. }));
            assert!(refused.to_string().contains("chmod 600"), "{refused}");
        }
    }

    #[test]
    fn line_ends_are_optional_and_anything_else_is_not_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodekey");
        key().save(&path).unwrap();
        let hex = key().to_hex();
        for ending in ["", "\n", "\r\n"] {
            fs::write(&path, format!("{}{ending}", *hex)).unwrap();
            assert_eq!(SecretKey::load(&path).unwrap().public(), key().public());
        }
        for bad in [String::new(), format!("{}\n\n", *hex), format!("0x{}", *hex), "ff".repeat(500)] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(SecretKey::load(&path), Err(KeyFileError::Key { .. })));
        }
        assert!(matches!(SecretKey::load(folder.path().join("absent")), Err(KeyFileError::Io { .. })));
    }
}
