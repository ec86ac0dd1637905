//! Payloads and results that are too large for the database: each a file of its own in `payloads`, named in the table `queued_file`.
//!
//! A file is whole and durable before the row that names it is written, and goes after that row has gone. So a daemon that is killed can leave a file that nobody
//! names, never a name without its file. [`sweep`] clears such files away, at the start and from time to time.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use model::Result;
use model::ids::RequestId;
use rusqlite::{Connection, OptionalExtension};

use crate::embedded::at_once::AtOnce;
use crate::embedded::db::Db;
use crate::embedded::packed;
use crate::embedded::room::Room;
use crate::fault;
use crate::format::{Folder, sync_folder};

/// Largest payload that lies in the database, in bytes: from there on a file of its own is the quicker way for it, and holds up others less. Part of the
/// format: a longer one lies in a file.
pub(crate) const PAYLOAD_BYTES: usize = 256 * 1024;
/// Largest result that lies in the database, in bytes.
pub(crate) const RESULT_BYTES: usize = 256 * 1024;
/// Files that are read or written at once, each wholly in memory; further callers wait.
const AT_ONCE: u32 = 4;

/// What of a message lies in a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Payload = 0,
    Result = 1,
}

/// A file's name.
pub(super) type Name = RequestId;

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    inner: Arc<Inner>,
    at_once: Arc<AtOnce>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    room: Room,
    /// Files that are written, and those whose rows are.
    unnamed: Mutex<HashSet<Name>>,
}

/// A file that is about to be named. Belongs to the operation that does it: as long as that may happen, no sweep takes the file.
#[derive(Debug)]
pub(super) struct Unnamed {
    inner: Arc<Inner>,
    pub(super) name: Name,
}

impl Unnamed {
    fn new(inner: &Arc<Inner>) -> Self {
        let name = RequestId::generate();
        inner.unnamed().insert(name);
        Self { inner: Arc::clone(inner), name }
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        self.inner.unnamed().remove(&self.name);
    }
}

impl Files {
    /// Makes the folder if need be.
    pub(crate) fn open(folder: &Folder, room: Room) -> Result<Self> {
        let path = folder.join("payloads");
        let prepare = || -> io::Result<()> {
            fs::create_dir_all(&path)?;
            sync_folder(&folder.join(""))
        };
        prepare().map_err(|e| fault::unusable_file(&path, "preparing it", e))?;
        let inner = Arc::new(Inner { folder: path, room, unnamed: Mutex::default() });
        Ok(Self { inner, at_once: Arc::new(AtOnce::new(AT_ONCE)) })
    }

    /// Waits for what runs and refuses the rest.
    pub(crate) async fn close(&self) {
        self.at_once.close().await;
    }

    /// Writes a file; durable when it returns. `reserved`: it may take the last of the disk as well.
    pub(super) async fn write(&self, bytes: Bytes, reserved: bool) -> Result<Unnamed> {
        let file = Unnamed::new(&self.inner);
        self.run(move |inner| inner.write(file.name, &bytes, reserved).map(|()| file)).await
    }

    /// What is in a file; none if there is no such file, or what is in it is damaged.
    pub(super) async fn read(&self, name: Name) -> Result<Option<Bytes>> {
        self.run(move |inner| inner.read(name)).await
    }

    /// Removes files that nobody names any more. What fails is left to the next sweep.
    pub(super) async fn remove(&self, names: Vec<Name>) {
        if names.is_empty() {
            return;
        }
        let remove = move |inner: &Inner| {
            for name in names {
                match fs::remove_file(inner.path(name)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(%name, %error, "a payload cannot be removed");
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        if let Err(error) = self.run(remove).await {
            tracing::debug!(%error, "payloads are removed by the next sweep");
        }
    }

    /// Runs `work`, as [`AtOnce::run`] does.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        self.at_once.run(move || work(&inner)).await
    }
}

impl Inner {
    fn path(&self, name: Name) -> PathBuf {
        self.folder.join(name.to_string())
    }

    fn write(&self, name: Name, bytes: &[u8], reserved: bool) -> Result<()> {
        if let Some(mut left) = self.room.look().filter(|_| !reserved) {
            left.take(bytes.len() as u64)?;
        }
        let write = || -> io::Result<()> {
            packed::write_new(&self.path(name), bytes)?;
            sync_folder(&self.folder)
        };
        write().map_err(|e| {
            // If this fails too the file is swept away.
            fs::remove_file(self.path(name)).unwrap_or_default();
            fault::file(e)
        })
    }

    fn read(&self, name: Name) -> Result<Option<Bytes>> {
        Ok(packed::read(&self.path(name))?.and_then(packed::decode))
    }

    fn unnamed(&self) -> MutexGuard<'_, HashSet<Name>> {
        self.unnamed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files there are.
    fn list(&self) -> io::Result<Vec<Name>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            names.extend(entry?.file_name().to_str().and_then(|name| name.parse::<Name>().ok()));
        }
        Ok(names)
    }
}

/// Removes the files that nobody names.
pub(super) async fn sweep(files: &Files, db: &Db) -> Result<()> {
    let mut left = files.run(|inner| inner.list().map_err(fault::file)).await?;
    if left.is_empty() {
        return Ok(());
    }
    // In this order: what leaves the one is in the other by then.
    {
        let unnamed = files.inner.unnamed();
        left.retain(|name| !unnamed.contains(name));
    }
    let named = db.read(|conn| Ok(all(conn)?)).await?;
    left.retain(|name| !named.contains(name));
    if !left.is_empty() {
        tracing::debug!(files = left.len(), "payloads that nobody names are removed");
    }
    files.remove(left).await;
    Ok(())
}

/// Names the file of a message.
pub(super) fn put(conn: &Connection, seq: i64, what: What, name: Name) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO queued_file (seq, what, name) VALUES (?1, ?2, ?3)")?
        .execute((seq, what as u8, name.as_bytes()))
        .map(drop)
}

/// The name of a message's file.
pub(super) fn named(conn: &Connection, seq: i64, what: What) -> rusqlite::Result<Option<Name>> {
    conn.prepare_cached("SELECT name FROM queued_file WHERE seq = ?1 AND what = ?2")?
        .query_row((seq, what as u8), |row| row.get(0).map(Name::from_bytes))
        .optional()
}

/// Takes the name of a message's file away.
pub(super) fn take(conn: &Connection, seq: i64, what: What) -> rusqlite::Result<Option<Name>> {
    conn.prepare_cached("DELETE FROM queued_file WHERE seq = ?1 AND what = ?2 RETURNING name")?
        .query_row((seq, what as u8), |row| row.get(0).map(Name::from_bytes))
        .optional()
}

/// Every name.
pub(super) fn all(conn: &Connection) -> rusqlite::Result<HashSet<Name>> {
    conn.prepare_cached("SELECT name FROM queued_file")?
        .query_map([], |row| row.get(0).map(Name::from_bytes))?
        .collect()
}
