//! Packages as files under their SHA-256: `blobs/ab/cdef…`.
//!
//! A file comes to its name by `rename` after its bytes are on disk, so under a name there is a whole blob or none. Unfinished files lie in
//! `blobs/temp`, which is emptied at start. The form of a file: [`packed`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use model::ids::Digest;
use model::ports::Blobs;
use model::{Code, Error, Result};

use super::at_once::AtOnce;
use super::packed;
use super::room::Room;
use crate::fault;
use crate::format::{Folder, sync_folder};

/// Blobs that are read or written at once, each wholly in memory; further callers wait.
const AT_ONCE: u32 = 4;

/// [`Blobs`] in a folder.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddedBlobs {
    inner: Arc<Inner>,
    at_once: Arc<AtOnce>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    temp: PathBuf,
    next_temp: AtomicU64,
    room: Room,
}

impl EmbeddedBlobs {
    /// Makes the folder if need be and clears away what a killed daemon left unfinished.
    pub(crate) fn open(folder: &Folder, room: Room) -> Result<Self> {
        let root = folder.join("blobs");
        let temp = root.join("temp");
        let prepare = || -> io::Result<()> {
            match fs::remove_dir_all(&temp) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            fs::create_dir_all(&temp)?;
            sync_folder(&folder.join(""))
        };
        prepare().map_err(|e| fault::unusable_file(&root, "preparing it", e))?;
        let inner = Arc::new(Inner { root, temp, next_temp: AtomicU64::new(0), room });
        Ok(Self { inner, at_once: Arc::new(AtOnce::new(AT_ONCE)) })
    }

    /// Waits for what runs and refuses the rest.
    pub(crate) async fn close(&self) {
        self.at_once.close().await;
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

#[async_trait]
impl Blobs for EmbeddedBlobs {
    async fn put(&self, bytes: Bytes) -> Result<Digest> {
        if bytes.len() > packed::BYTES_MAX {
            return Err(Error::caller(
                Code::InvalidParameter,
                format!("blob has {} bytes: expected at most {}", bytes.len(), packed::BYTES_MAX),
            ));
        }
        self.run(move |inner| inner.put(&bytes)).await
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let digest = *digest;
        self.run(move |inner| inner.get(&digest)).await
    }

    async fn contains(&self, digest: &Digest) -> Result<bool> {
        let digest = *digest;
        self.run(move |inner| inner.path(&digest).try_exists().map_err(fault::file)).await
    }

    async fn delete(&self, digest: &Digest) -> Result<bool> {
        let digest = *digest;
        self.run(move |inner| inner.delete(&digest)).await
    }
}

impl Inner {
    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        let (shard, rest) = hex.split_at(2);
        self.root.join(shard).join(rest)
    }

    fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let path = self.path(&digest);
        // A damaged file is written anew: uploading a package again repairs it.
        if matches!(self.get(&digest), Ok(Some(_))) {
            // Whoever wrote it may not have got this far yet.
            self.sync(&path).map_err(fault::file)?;
            return Ok(digest);
        }
        if let Some(mut left) = self.room.look() {
            left.take(bytes.len() as u64)?;
        }
        let temp = self.temp.join(self.next_temp.fetch_add(1, Ordering::Relaxed).to_string());
        let write = || -> io::Result<()> {
            packed::write_new(&temp, bytes)?;
            self.move_to(&temp, &path)
        };
        write().map_err(|e| {
            // If this fails too the file is cleared away at the next start.
            fs::remove_file(&temp).unwrap_or_default();
            fault::file(e)
        })?;
        Ok(digest)
    }

    fn move_to(&self, temp: &Path, path: &Path) -> io::Result<()> {
        if let Some(shard) = path.parent() {
            match fs::create_dir(shard) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        fs::rename(temp, path)?;
        self.sync(path)
    }

    /// Makes a file's name durable, and that of the folder it is in.
    fn sync(&self, path: &Path) -> io::Result<()> {
        if let Some(shard) = path.parent() {
            sync_folder(shard)?;
        }
        sync_folder(&self.root)
    }

    fn get(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let Some(file) = packed::read(&self.path(digest))? else { return Ok(None) };
        let bytes = packed::decode(file).filter(|bytes| Digest::of(bytes) == *digest);
        bytes.map(Some).ok_or_else(|| {
            Error::platform(
                Code::StorageUnusable,
                format!(
                    "package {digest} is damaged on disk: its bytes no longer match its digest"
                ),
            )
            .with_hint("upload the package again")
        })
    }

    fn delete(&self, digest: &Digest) -> Result<bool> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => self.sync(&path).map(|()| true).map_err(fault::file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(fault::file(e)),
        }
    }
}
