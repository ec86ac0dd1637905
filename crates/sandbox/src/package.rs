//! Bounded unpacking of code packages.
//!
//! [`unpack`] is the door. [`directory`] reads a zip's list of entries, [`name`] says which names an entry may have; this file inflates
//! and writes. A package is a stranger's: no figure in it is believed, each refusal names the entry and the rule, and every loop is
//! bounded by bytes that are really there.
//!
//! The zip format is read here and not by a library: libraries allocate by the announced number of entries, search through any number of
//! candidate directories and drop duplicate names unseen. Inflating is left to `flate2`.

mod directory;
mod name;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use model::ids::Digest;
use model::ports::PackageInfo;
use model::{Code, Error, Result, limits};

use directory::Entry;

/// Bytes that are inflated and written at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Mode of folders, and of files that the package marks as executable.
const MODE_EXECUTABLE: u32 = 0o755;
/// Mode of all other files.
const MODE_PLAIN: u32 = 0o644;

/// Unpacks a package into `into`, an empty folder that nobody else writes to. Blocks; call it where that is allowed.
///
/// Refuses with `invalid-package`, `package-too-large` (more than `limits::UNPACKED_BYTES` of files) or `storage-full`; what was written until
/// then stays in `into`, for the caller to remove.
pub(crate) fn unpack(zip: &[u8], into: &Path) -> Result<PackageInfo> {
    unpack_within(&Bounds::PLATFORM, zip, into)
}

/// What all files of a package together may use up.
pub(crate) struct Bounds {
    pub(crate) entries: usize,
    pub(crate) unpacked_bytes: u64,
}

impl Bounds {
    const PLATFORM: Self =
        Self { entries: limits::PACKAGE_ENTRIES, unpacked_bytes: limits::UNPACKED_BYTES };
}

pub(crate) fn unpack_within(bounds: &Bounds, zip: &[u8], into: &Path) -> Result<PackageInfo> {
    if zip.len() > limits::PACKAGE_BYTES {
        return Err(Error::caller(
            Code::PackageTooLarge,
            format!(
                "the package has {} bytes: expected at most {}",
                zip.len(),
                limits::PACKAGE_BYTES
            ),
        ));
    }
    let entries = directory::read(zip)?;
    let mut target = Target {
        bounds,
        root: into,
        unpacked_bytes: 0,
        made: 0,
        chunk: vec![0; CHUNK_BYTES],
        folder: String::new(),
    };
    for entry in &entries {
        target.take(zip, entry)?;
    }
    if target.made == 0 {
        return Err(empty());
    }
    let Target { unpacked_bytes, made, .. } = target;
    Ok(PackageInfo { digest: Digest::of(zip), unpacked_bytes, entries: made })
}

fn empty() -> Error {
    Error::caller(Code::InvalidPackage, "the package is empty: expected at least one file")
        .with_hint("zip the files of the function, so that the handler's file lies at the top")
}

/// An `invalid-package` error about one entry; its name is a stranger's text and is made harmless.
fn refused(name: &[u8], rule: &str) -> Error {
    Error::caller(
        Code::InvalidPackage,
        format!("the package's entry '{}' {rule}", name::for_message(name)),
    )
}

/// Where files go, and what they have used up.
struct Target<'a> {
    bounds: &'a Bounds,
    root: &'a Path,
    /// Bytes of all files so far.
    unpacked_bytes: u64,
    /// Files and folders so far, folders that only a path implies included.
    made: usize,
    chunk: Vec<u8>,
    /// The folder of the last file: neighbours need not ask for it again.
    folder: String,
}

impl Target<'_> {
    fn take(&mut self, zip: &[u8], entry: &Entry<'_>) -> Result<()> {
        entry.check_kind()?;
        let path = name::check(entry.name).map_err(|rule| refused(entry.name, rule))?;
        if entry.is_folder() {
            // The root itself, as `./`, is there already.
            return if path.is_empty() { Ok(()) } else { self.make_folders(&path, entry) };
        }
        if let Some((folder, _)) = path.rsplit_once('/')
            && folder != self.folder
        {
            self.make_folders(folder, entry)?;
            folder.clone_into(&mut self.folder);
        }
        let data = entry.data(zip)?;
        let file = self.create(&path, entry)?;
        match entry.method {
            directory::STORED => self.fill(file, data, entry),
            _ => self.fill(file, DeflateDecoder::new(data), entry),
        }
    }

    /// Makes a folder and those above it, as far as they are missing.
    fn make_folders(&mut self, path: &str, entry: &Entry<'_>) -> Result<()> {
        let full = self.root.join(path);
        let made = match fs::create_dir(&full) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if let Some((above, _)) = path.rsplit_once('/') {
                    self.make_folders(above, entry)?;
                }
                fs::create_dir(&full)
            }
            other => other,
        };
        match made {
            Ok(()) => {
                self.count(entry)?;
                // Said once more because the daemon's umask may have taken bits away.
                fs::set_permissions(&full, Permissions::from_mode(MODE_EXECUTABLE))
                    .map_err(|e| cannot_write(e, entry))
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && full.is_dir() => Ok(()),
            Err(e) => Err(cannot_write(e, entry)),
        }
    }

    /// Makes an empty file. Whatever is there already is another entry's.
    fn create(&mut self, path: &str, entry: &Entry<'_>) -> Result<File> {
        let mode = if entry.is_executable() { MODE_EXECUTABLE } else { MODE_PLAIN };
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(self.root.join(path))
            .and_then(|file| {
                file.set_permissions(Permissions::from_mode(mode))?;
                Ok(file)
            })
            .map_err(|e| cannot_write(e, entry))?;
        self.count(entry)?;
        Ok(file)
    }

    fn count(&mut self, entry: &Entry<'_>) -> Result<()> {
        self.made += 1;
        if self.made > self.bounds.entries {
            return Err(refused(
                entry.name,
                &format!(
                    "is one too many: expected at most {} files and folders",
                    self.bounds.entries
                ),
            ));
        }
        Ok(())
    }

    /// Copies an entry's bytes, counting them as they come: what the package says of its size is only compared at the end.
    fn fill(&mut self, mut file: File, mut from: impl Read, entry: &Entry<'_>) -> Result<()> {
        let mut crc = Crc::new();
        let mut size = 0_u64;
        loop {
            let n = match from.read(&mut self.chunk) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    return Err(
                        refused(entry.name, "is damaged: it cannot be inflated").with_source(e)
                    );
                }
            };
            let bytes = self.chunk.get(..n).unwrap_or_default();
            size = size.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
            if self.unpacked_bytes.saturating_add(size) > self.bounds.unpacked_bytes {
                return Err(Error::caller(
                    Code::PackageTooLarge,
                    format!(
                        "the package is too large unpacked: with the entry '{}' it passes {} bytes",
                        name::for_message(entry.name),
                        self.bounds.unpacked_bytes
                    ),
                )
                .with_hint("leave out what the function does not need at run time"));
            }
            crc.update(bytes);
            file.write_all(bytes).map_err(|e| cannot_write(e, entry))?;
        }
        if size != entry.size_bytes || crc.sum() != entry.crc {
            return Err(refused(entry.name, "is damaged: size or checksum do not match"));
        }
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(size);
        Ok(())
    }
}

/// Tells what of a failed write is the package's fault from what is the host's.
fn cannot_write(e: io::Error, entry: &Entry<'_>) -> Error {
    match e.kind() {
        io::ErrorKind::AlreadyExists => {
            refused(entry.name, "is there twice, or as a file and as a folder")
        }
        io::ErrorKind::NotADirectory => {
            refused(entry.name, "lies below another entry that is a file")
        }
        io::ErrorKind::InvalidFilename => {
            refused(entry.name, "has a name that the disk cannot hold")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::platform(
            Code::StorageFull,
            "the disk is full: the package could not be unpacked",
        )
        .with_hint("free some space in the data folder, then deploy again")
        .with_source(e),
        _ => Error::internal(e),
    }
}

#[cfg(test)]
mod tests;
