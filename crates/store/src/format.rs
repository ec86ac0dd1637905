//! The data folder: layout, version, lock, migrations.
//!
//! ```text
//! format         "hanshu data format 5": the version of everything below
//! lock           held with flock(2) by the daemon that uses the folder
//! catalog.db     SQLite: metadata, queue, usage, leases        embedded::db
//! blobs/ab/cd…   packages under their SHA-256                  embedded::blobs
//! payloads/…     payloads and results that are too large for that  embedded::queue::files
//! logs/          segments, journal, index                      embedded::logs
//! secrets.key    the master key, unless it is kept elsewhere   vault
//! ```
//!
//! A change of anything stored raises [`FORMAT_VERSION`] and adds a step to [`MIGRATIONS`]; a folder of an older version is brought up
//! step by step when it is opened, one of a newer version is refused. `tests/fixtures` keeps a folder of every version.
//!
//! | version | came with |
//! |---|---|
//! | 2 | secrets: sealed environment values, `vault/keys`, `secrets.key` |
//! | 3 | many versions of a function, quotas of namespaces: documents in new forms, see `to_3` |
//! | 4 | what is kept of asynchronous calls that have ended, lanes: see `to_4` |
//! | 5 | payloads and results in files, the table `queued_file`; quotas of queued calls, keys of calls and roles in settings, access keys of keys, the table `queued_once` for `queued_key`, which was always empty: nothing to convert |

mod to_3;
mod to_4;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Code, Error, Result};
use rustix::fs::{FlockOperation, flock};

use crate::fault;

/// The version of the data folder that this build writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 5;

const FORMAT_FILE: &str = "format";
const FORMAT_TEMP: &str = "format.new";
const FORMAT_PREFIX: &str = "hanshu data format ";
const LOCK_FILE: &str = "lock";

/// Step `i` turns a folder of version `i + 1` into one of version `i + 2`. A step may be cut off at any point and run again.
const MIGRATIONS: [fn(&Path) -> Result<()>; FORMAT_VERSION as usize - 1] = [
    environments_may_hold_secrets,
    to_3::rewrite_documents,
    to_4::keep_what_has_ended,
    payloads_may_lie_in_files,
];

/// 1 → 2: in the documents of functions and versions an environment value is a text, as before, or a sealed secret, which older daemons
/// cannot read; and there is the document `vault/keys`. What is stored already stays as it is.
#[expect(clippy::unnecessary_wraps, reason = "every step of the table may fail")]
fn environments_may_hold_secrets(_: &Path) -> Result<()> {
    Ok(())
}

/// 4 → 5: a message's payload and result may lie in files, which older daemons do not look for. What is stored already stays as it is; new tables are made when the
/// database is opened.
#[expect(clippy::unnecessary_wraps, reason = "every step of the table may fail")]
fn payloads_may_lie_in_files(_: &Path) -> Result<()> {
    Ok(())
}

/// A data folder that is ours alone until the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Keeps the flock.
    _lock: Arc<File>,
}

impl Folder {
    /// Creates or checks the folder, locks it and brings it to [`FORMAT_VERSION`].
    pub(crate) fn open(path: &Path) -> Result<Self> {
        // 0700: the folder holds keys and other people's code.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| fault::unusable_file(path, "creating it", e))?;
        let path =
            path.canonicalize().map_err(|e| fault::unusable_file(path, "resolving its path", e))?;
        refuse_foreign(&path)?;
        let lock = lock(&path)?;
        match read_version(&path)? {
            None => write_version(&path, FORMAT_VERSION)?,
            Some(version) => migrate(&path, version)?,
        }
        Ok(Self { path, _lock: Arc::new(lock) })
    }

    /// A path within the folder.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Refuses a folder that is neither empty nor ours, before anything is written to it.
fn refuse_foreign(path: &Path) -> Result<()> {
    let unreadable = |e| fault::unusable_file(path, "reading it", e);
    if path.join(FORMAT_FILE).try_exists().map_err(unreadable)? {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        // What an interrupted first start leaves, and what ext4 puts into the root of a fresh volume.
        if ![LOCK_FILE, FORMAT_TEMP, "lost+found"].iter().any(|n| name == *n) {
            return Err(fault::unusable(
                path,
                "is not empty and was not made by hanshu: expected an empty folder or a data folder",
            ));
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(LOCK_FILE))
        .map_err(|e| fault::unusable_file(path, "opening its lock", e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(fault::unusable(path, "is in use by another daemon")
                .with_hint("stop that daemon, or give this one a folder of its own"))
        }
        Err(e) => Err(fault::unusable_file(path, "locking it", e.into())),
    }
}

fn read_version(path: &Path) -> Result<Option<u32>> {
    let text = match fs::read_to_string(path.join(FORMAT_FILE)) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fault::unusable_file(path, "reading its format file", e)),
    };
    let version = text.trim_end().strip_prefix(FORMAT_PREFIX).and_then(|n| n.parse().ok());
    match version {
        Some(v) if v > 0 => Ok(Some(v)),
        _ => Err(fault::unusable(
            path,
            format_args!("has a damaged format file: expected '{FORMAT_PREFIX}N'"),
        )),
    }
}

fn migrate(path: &Path, from: u32) -> Result<()> {
    if from > FORMAT_VERSION {
        return Err(Error::platform(
            Code::StorageUnusable,
            format!(
                "data folder '{}' has format {from}, this daemon reads up to {FORMAT_VERSION}",
                path.display()
            ),
        )
        .with_hint("start the newer daemon that wrote it, or give this one a folder of its own"));
    }
    for (version, step) in (1..).zip(MIGRATIONS).skip_while(|(v, _)| *v < from) {
        step(path)?;
        write_version(path, version + 1)?;
    }
    Ok(())
}

fn write_version(path: &Path, version: u32) -> Result<()> {
    let write = || -> io::Result<()> {
        let temp = path.join(FORMAT_TEMP);
        let mut file = File::create(&temp)?;
        writeln!(file, "{FORMAT_PREFIX}{version}")?;
        file.sync_all()?;
        fs::rename(&temp, path.join(FORMAT_FILE))?;
        sync_folder(path)
    };
    write().map_err(|e| fault::unusable_file(path, "writing its format file", e))
}

/// Makes creations, renames and removals in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_folder_gets_the_current_version_and_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        drop(Folder::open(&path).unwrap());
        assert_eq!(read_version(&path).unwrap(), Some(FORMAT_VERSION));
        drop(Folder::open(&path).unwrap());
    }

    #[test]
    fn an_interrupted_first_start_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        File::create(dir.path().join(LOCK_FILE)).unwrap();
        fs::write(dir.path().join(FORMAT_TEMP), "hansh").unwrap();
        Folder::open(dir.path()).unwrap();
        assert_eq!(read_version(dir.path()).unwrap(), Some(FORMAT_VERSION));
    }

    #[test]
    fn a_strangers_folder_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "precious").unwrap();
        let e = Folder::open(dir.path()).unwrap_err();
        assert_eq!(e.code(), Code::StorageUnusable);
        assert!(e.message().contains("not empty"), "{}", e.message());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_format_file_is_said() {
        for text in ["", "hanshu data format ", "hanshu data format 0", "7", "hanshu data format x"]
        {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FORMAT_FILE), text).unwrap();
            let e = Folder::open(dir.path()).unwrap_err();
            assert_eq!(e.code(), Code::StorageUnusable, "{text:?}");
            assert!(e.message().contains("damaged format file"), "{}", e.message());
        }
    }
}
