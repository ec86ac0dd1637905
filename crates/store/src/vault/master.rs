//! The master key: read from a key file, or derived from a passphrase.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use model::{Error, Result};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::envelope::{KEY_BYTES, Key};
use super::{KeySource, locked};
use crate::fault;
use crate::format::sync_folder;

/// What a key file holds before its 64 hexadecimal digits.
const FILE_PREFIX: &str = "hanshu secrets key 1 ";
/// Longest key file or passphrase that is read, in bytes.
const FILE_BYTES: u64 = 1024;
/// Shortest passphrase, in bytes.
const PASSPHRASE_BYTES_MIN: usize = 12;
const SALT_BYTES: usize = 16;
/// Cost of a passphrase: RFC 9106, section 4, second recommended option, of one lane.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;
/// A record that asks for more than this was not made by us.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 64;

/// What the vault is locked with, as its record says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Lock {
    /// A key file.
    KeyFile,
    /// A passphrase, by Argon2id.
    Passphrase {
        /// In hexadecimal.
        salt: String,
        /// Memory cost, in KiB.
        memory_kib: u32,
        /// Time cost.
        passes: u32,
        /// Parallelism.
        lanes: u32,
    },
}

impl Lock {
    /// A new lock of the source's kind.
    pub(super) fn new(source: &KeySource) -> Result<Self> {
        match source {
            KeySource::KeyFile(_) => Ok(Self::KeyFile),
            KeySource::PassphraseFile(_) => {
                let mut salt = [0; SALT_BYTES];
                getrandom::fill(&mut salt).map_err(Error::internal)?;
                let salt = hex::encode(salt);
                Ok(Self::Passphrase { salt, memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES })
            }
        }
    }

    /// The master key that `source` gives for this lock. Blocks: reads a file, and takes a tenth of a second for a passphrase.
    pub(super) fn master(&self, source: &KeySource) -> Result<Key> {
        match (self, source) {
            (Self::KeyFile, KeySource::KeyFile(path)) => read_key(path)?.ok_or_else(|| {
                locked(format!("the key file '{}' is missing", path.display())).with_hint(
                    "the secrets in this data folder are sealed with it: put it back, or name it by secrets.key_file",
                )
            }),
            (Self::Passphrase { salt, memory_kib, passes, lanes }, KeySource::PassphraseFile(path)) => {
                let salt = hex::decode(salt).map_err(|_| damaged())?;
                if *memory_kib > MEMORY_KIB_MAX || *passes > PASSES_MAX || *lanes > PASSES_MAX {
                    return Err(damaged());
                }
                let params = Params::new(*memory_kib, *passes, *lanes, Some(KEY_BYTES));
                derive(&read_passphrase(path)?, &salt, params.map_err(|_| damaged())?)
            }
            (Self::KeyFile, KeySource::PassphraseFile(_)) => Err(locked(
                "the secrets in this data folder are sealed with a key file, not with a passphrase",
            )
            .with_hint("unset secrets.passphrase_file, or change the lock with `hanshu secrets rotate`")),
            (Self::Passphrase { .. }, KeySource::KeyFile(_)) => Err(locked(
                "the secrets in this data folder are sealed with a passphrase, not with a key file",
            )
            .with_hint("set secrets.passphrase_file, or change the lock with `hanshu secrets rotate`")),
        }
    }
}

fn damaged() -> Error {
    locked("the record of the vault's keys is damaged")
}

fn derive(passphrase: &[u8], salt: &[u8], params: Params) -> Result<Key> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, key.as_mut_slice())
        .map_err(|e| Error::internal(format!("the passphrase gives no key: {e}")))?;
    Ok(Key::of(*key))
}

/// Where a key waits that is to replace the one at `path`.
pub(super) fn pending(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Puts the waiting key in the place of the one at `path`.
pub(super) fn promote(path: &Path) -> Result<()> {
    let moved = fs::rename(pending(path), path).and_then(|()| sync_folder(folder_of(path)));
    moved.map_err(|e| unreadable(path, "cannot be replaced", e))
}

/// The key in a file; `None` if there is no such file.
pub(super) fn read_key(path: &Path) -> Result<Option<Key>> {
    let text = match read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(path, "cannot be read", e)),
    };
    let digits = text.strip_prefix(FILE_PREFIX.as_bytes());
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let found = digits.map(|d| hex::decode_to_slice(d.trim_ascii_end(), key.as_mut_slice()));
    if !matches!(found, Some(Ok(()))) {
        return Err(locked(format!(
            "'{}' is not a key file: expected '{}' and 64 hexadecimal digits",
            path.display(),
            FILE_PREFIX.trim_end()
        )));
    }
    Ok(Some(Key::of(*key)))
}

/// Writes a new random key; fails if the file exists.
pub(super) fn create_key(path: &Path) -> Result<Key> {
    let key = Key::random()?;
    let digits = Zeroizing::new(hex::encode(key.bytes()));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let line = Zeroizing::new(format!("{FILE_PREFIX}{}\n", *digits));
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        sync_folder(folder_of(path))
    };
    write().map_err(|e| unreadable(path, "cannot be made", e))?;
    Ok(key)
}

/// The key in a file, which is made if it is missing.
pub(super) fn read_or_create_key(path: &Path) -> Result<Key> {
    match read_key(path)? {
        Some(key) => Ok(key),
        None => create_key(path),
    }
}

fn read_passphrase(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut text = read(path).map_err(|e| unreadable(path, "cannot be read", e))?;
    // Editors and `echo` end a file with a line break; nobody means it.
    for end in [b'\n', b'\r'] {
        if text.last() == Some(&end) {
            text.pop();
        }
    }
    if text.len() < PASSPHRASE_BYTES_MIN {
        return Err(locked(format!(
            "the passphrase in '{}' is too short: expected at least {PASSPHRASE_BYTES_MIN} bytes",
            path.display()
        )));
    }
    Ok(text)
}

/// A short file that the world may not read.
fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    if about.is_file() && about.mode() & 0o007 != 0 {
        let why = "other users may read or change it: expected mode 0600";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    // Room for all of it at once: growing would leave copies behind.
    let mut text =
        Zeroizing::new(Vec::with_capacity(usize::try_from(FILE_BYTES).unwrap_or(0) + 64));
    file.take(FILE_BYTES + 1).read_to_end(&mut text)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES {
        let why = format!("it is too long: expected at most {FILE_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(text)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn unreadable(path: &Path, what: &str, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => fault::file(e),
        _ => locked(format!("the file '{}' {what}: {e}", path.display())).with_source(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn private(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(read_key(&path).unwrap().is_none());
        let made = read_or_create_key(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_or_create_key(&path).unwrap().bytes(), made.bytes());
        assert!(create_key(&path).err().unwrap().message().contains("cannot be made"));
    }

    #[test]
    fn bad_key_files_are_refused_without_repeating_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let digits = "ab".repeat(32);
        for text in [
            "",
            "abab",
            &digits,
            &format!("{FILE_PREFIX}abab"),
            &format!("{FILE_PREFIX}{digits}ab"),
        ] {
            private(&path, text);
            let e = read_key(&path).err().unwrap();
            assert!(e.message().contains("not a key file"), "{}", e.message());
            assert!(!e.message().contains("abab"), "{}", e.message());
        }
        private(&path, &format!("{FILE_PREFIX}{digits}\n"));
        assert_eq!(read_key(&path).unwrap().unwrap().bytes(), &[0xab; 32]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(read_key(&path).err().unwrap().message().contains("expected mode 0600"));
    }

    #[test]
    fn passphrases_lose_one_line_break_and_have_a_least_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        for text in ["correct horse", "correct horse\n", "correct horse\r\n"] {
            private(&path, text);
            assert_eq!(&**read_passphrase(&path).unwrap(), b"correct horse");
        }
        private(&path, "too short\n");
        assert!(read_passphrase(&path).unwrap_err().message().contains("at least 12"));
        private(&path, &"x".repeat(1025));
        assert!(read_passphrase(&path).unwrap_err().message().contains("too long"));
    }

    #[test]
    fn a_passphrase_gives_another_key_under_another_salt() {
        let params = || Params::new(64, 1, 1, Some(KEY_BYTES)).unwrap();
        let key = |salt: &[u8]| *derive(b"correct horse", salt, params()).unwrap().bytes();
        assert_eq!(key(&[1; 16]), key(&[1; 16]));
        assert_ne!(key(&[1; 16]), key(&[2; 16]));
    }

    #[test]
    fn a_record_cannot_ask_for_all_memory() {
        let lock =
            Lock::Passphrase { salt: "00".repeat(16), memory_kib: u32::MAX, passes: 3, lanes: 1 };
        let e = lock.master(&KeySource::PassphraseFile("/nowhere".into())).err().unwrap();
        assert!(e.message().contains("damaged"), "{}", e.message());
    }
}
