//! Packages as files under their SHA-256: `blobs/ab/cdef…`.
//!
//! A file comes to its name by `rename` after its bytes are on disk, so under a name there is a whole blob or none. Unfinished files lie in
//! `blobs/temp`, which is emptied at start. A file is [`HEADER`] bytes (format, encoding, length), then the bytes, compressed if that helps.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use model::ids::Digest;
use model::ports::Blobs;
use model::{Code, Error, Result};
use tokio::sync::Semaphore;

use super::room::Room;
use crate::fault;
use crate::format::{Folder, sync_folder};

/// Largest blob, in bytes; well over [`model::limits::PACKAGE_BYTES`].
const BLOB_BYTES: usize = 256 << 20;
/// Blobs that are read or written at once, each wholly in memory; further callers wait.
const AT_ONCE: u32 = 4;
/// Bytes of a file before the blob: format, encoding, length as a little-endian 64-bit number.
const HEADER: usize = 10;
const FORMAT: u8 = 1;
const RAW: u8 = 0;
const ZSTD: u8 = 1;
/// The usual trade between size and time; packages are written once.
const ZSTD_LEVEL: i32 = 3;

/// [`Blobs`] in a folder.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddedBlobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    temp: PathBuf,
    next_temp: AtomicU64,
    permits: Arc<Semaphore>,
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
        let permits = Arc::new(Semaphore::new(AT_ONCE as usize));
        Ok(Self(Arc::new(Inner { root, temp, next_temp: AtomicU64::new(0), permits, room })))
    }

    /// Waits for what runs and refuses the rest.
    pub(crate) async fn close(&self) {
        drop(self.0.permits.acquire_many(AT_ONCE).await);
        self.0.permits.close();
    }

    /// Runs `work` on a blocking thread; `unavailable` once closed.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit =
            Arc::clone(&self.0.permits).acquire_owned().await.map_err(|_| fault::closed())?;
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            let result = work(&inner);
            drop(permit);
            result
        })
        .await
        .map_err(Error::internal)?
    }
}

#[async_trait]
impl Blobs for EmbeddedBlobs {
    async fn put(&self, bytes: Bytes) -> Result<Digest> {
        if bytes.len() > BLOB_BYTES {
            return Err(Error::caller(
                Code::InvalidParameter,
                format!("blob has {} bytes: expected at most {BLOB_BYTES}", bytes.len()),
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
            let (header, body) = encode(bytes)?;
            let mut file = File::create_new(&temp)?;
            file.write_all(&header)?;
            file.write_all(body.as_deref().unwrap_or(bytes))?;
            file.sync_all()?;
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
        let path = self.path(digest);
        let file = match fs::read(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fault::file(e)),
        };
        let bytes = decode(file).filter(|bytes| Digest::of(bytes) == *digest);
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

/// The header, and the compressed bytes if they are fewer.
pub(super) fn encode(bytes: &[u8]) -> io::Result<([u8; HEADER], Option<Vec<u8>>)> {
    let compressed = zstd::bulk::compress(bytes, ZSTD_LEVEL)?;
    let body = Some(compressed).filter(|c| c.len() < bytes.len());
    let mut header = [0; HEADER];
    header[0] = FORMAT;
    header[1] = if body.is_some() { ZSTD } else { RAW };
    let length = u64::try_from(bytes.len()).map_err(io::Error::other)?;
    header[2..].copy_from_slice(&length.to_le_bytes());
    Ok((header, body))
}

/// `None` if the file is damaged; the caller compares the digest.
pub(super) fn decode(file: Vec<u8>) -> Option<Bytes> {
    let (header, body) = file.split_first_chunk::<HEADER>()?;
    let [FORMAT, encoding, length @ ..] = header else { return None };
    // Damage must not make us reserve memory.
    let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|n| *n <= BLOB_BYTES)?;
    match *encoding {
        RAW if body.len() == length => Some(Bytes::from(file).slice(HEADER..)),
        ZSTD => {
            zstd::bulk::decompress(body, length).ok().filter(|b| b.len() == length).map(Bytes::from)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(bytes: &[u8]) -> (usize, Bytes) {
        let (header, body) = encode(bytes).unwrap();
        let file = [&header, body.as_deref().unwrap_or(bytes)].concat();
        (file.len(), decode(file).unwrap())
    }

    #[test]
    fn what_does_not_shrink_is_stored_as_it_is() {
        let random = Digest::of(b"random").as_bytes().to_vec();
        let (len, back) = round_trip(&random);
        assert_eq!((len, &*back), (HEADER + random.len(), &*random));
        assert_eq!(round_trip(b"").0, HEADER);
    }

    #[test]
    fn what_shrinks_is_compressed() {
        let text = b"hello hello hello ".repeat(1000);
        let (len, back) = round_trip(&text);
        assert!(len < text.len() / 20, "{len}");
        assert_eq!(&*back, &*text);
    }

    #[test]
    fn damage_is_no_panic_and_no_huge_allocation() {
        let (header, body) = encode(&b"abc".repeat(100)).unwrap();
        let good = [&header[..], &body.unwrap()].concat();
        for i in 0..good.len() {
            assert!(decode(good[..i].to_vec()).is_none(), "cut at {i}");
            let mut bad = good.clone();
            bad[i] ^= 0xff;
            if let Some(bytes) = decode(bad) {
                assert!(*bytes != *b"abc".repeat(100), "flipped byte {i}");
            }
        }
    }
}
