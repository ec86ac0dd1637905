//! Unpacked packages on disk: one folder per digest, shared by every instance, removed when nobody needs it.
//!
//! ```text
//! CACHE/packages/DIGEST/code/   what instances see as /var/task
//! CACHE/packages/DIGEST/info    what it holds; written last, so a folder with it is whole
//! CACHE/drafts/…                on the way in or out; emptied at start
//! ```
//!
//! Nothing here is synced to disk: it can be made again from the blob store. After a crash of the *host* what was written may be missing, so
//! the whole cache is dropped when the host has been booted since.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use model::ids::{Digest, RequestId};
use model::ports::{Blobs, PackageInfo};
use model::tasks::Tasks;
use model::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::root::{make_folder, remove_tree};

/// All packages.
#[derive(Debug)]
pub(super) struct Packages {
    folder: PathBuf,
    drafts: PathBuf,
    blobs: Arc<dyn Blobs>,
    tasks: Tasks,
    slots: Mutex<HashMap<Digest, Arc<Slot>>>,
}

/// One digest's turn: whoever holds `gate` may make or remove its folder.
#[derive(Debug, Default)]
struct Slot {
    gate: tokio::sync::Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    live: Weak<Package>,
    /// To be removed once nobody uses it.
    forgotten: bool,
}

/// One unpacked package; its folder stays as long as this does.
#[derive(Debug)]
pub(super) struct Package {
    info: PackageInfo,
    packages: Weak<Packages>,
    code: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Info {
    unpacked_bytes: u64,
    entries: usize,
}

impl Package {
    /// The folder that holds the code.
    pub(super) fn code(&self) -> &Path {
        &self.code
    }

    /// What it holds.
    pub(super) fn info(&self) -> PackageInfo {
        self.info
    }
}

impl Drop for Package {
    fn drop(&mut self) {
        // Off a runtime the daemon is ending: the folder stays for the next one.
        if let (Some(packages), Ok(_)) =
            (self.packages.upgrade(), tokio::runtime::Handle::try_current())
        {
            let digest = self.info.digest;
            let tasks = packages.tasks.clone();
            tasks.spawn("package removal", async move { packages.sweep(&digest).await });
        }
    }
}

impl Packages {
    /// Opens the folder below `cache`, and clears what cannot be relied on. Blocks.
    pub(super) fn open(
        cache: &Path,
        boot: &str,
        blobs: Arc<dyn Blobs>,
        tasks: Tasks,
    ) -> io::Result<Arc<Self>> {
        let (folder, drafts) = (cache.join("packages"), cache.join("drafts"));
        remove_tree(&drafts)?;
        make_folder(&drafts)?;
        let marker = cache.join("boot");
        if fs::read_to_string(&marker).ok().as_deref() != Some(boot) {
            remove_tree(&folder)?;
            fs::write(&marker, boot)?;
        }
        make_folder(&folder)?;
        Ok(Arc::new(Self { folder, drafts, blobs, tasks, slots: Mutex::default() }))
    }

    /// Unpacks a package that was just uploaded, unless it is there.
    pub(super) async fn take(self: &Arc<Self>, zip: Bytes) -> Result<Arc<Package>> {
        let hashed = zip.clone();
        let digest = blocking(move || Ok(Digest::of(&hashed))).await?;
        self.ensure(&digest, Some(zip)).await
    }

    /// The package of that digest, unpacked from the blob store if need be.
    pub(super) async fn get(self: &Arc<Self>, digest: &Digest) -> Result<Arc<Package>> {
        self.ensure(digest, None).await
    }

    async fn ensure(self: &Arc<Self>, digest: &Digest, zip: Option<Bytes>) -> Result<Arc<Package>> {
        let slot = self.slot(digest);
        let mut state = slot.gate.lock().await;
        if let Some(package) = state.live.upgrade() {
            state.forgotten = false;
            return Ok(package);
        }
        let folder = self.folder.join(digest.to_string());
        let there = folder.clone();
        let info = match blocking(move || Ok(read_info(&there))).await? {
            Some(info) => info,
            None => {
                let zip = match zip {
                    Some(zip) => zip,
                    None => self.fetch(digest).await?,
                };
                let draft = self.drafts.join(RequestId::generate().to_string());
                let there = folder.clone();
                blocking(move || unpack(&zip, &draft, &there)).await?
            }
        };
        let info = PackageInfo {
            digest: *digest,
            unpacked_bytes: info.unpacked_bytes,
            entries: info.entries,
        };
        let code = folder.join("code");
        let package = Arc::new(Package { info, packages: Arc::downgrade(self), code });
        *state = State { live: Arc::downgrade(&package), forgotten: false };
        Ok(package)
    }

    async fn fetch(&self, digest: &Digest) -> Result<Bytes> {
        self.blobs.get(digest).await?.ok_or_else(|| {
            Error::platform(Code::StorageUnusable, format!("package {digest} is not in the store"))
        })
    }

    /// Removes a package, once nothing uses it any more.
    pub(super) async fn forget(&self, digest: &Digest) {
        self.slot(digest).gate.lock().await.forgotten = true;
        self.sweep(digest).await;
    }

    /// Removes a package's folder if it is forgotten and unused.
    async fn sweep(&self, digest: &Digest) {
        let slot = self.slot(digest);
        let state = slot.gate.lock().await;
        if state.live.strong_count() > 0 {
            return;
        }
        if state.forgotten {
            let folder = self.folder.join(digest.to_string());
            let out = self.drafts.join(RequestId::generate().to_string());
            let removed = blocking(move || {
                match fs::rename(&folder, &out) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                    other => other.map_err(disk)?,
                }
                remove_tree(&out).map_err(disk)
            });
            if let Err(error) = removed.await {
                tracing::warn!(%digest, %error, "an unpacked package could not be removed");
            }
        }
        drop(state);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and ours: nobody waits for the gate. Whoever comes later makes a new one.
        if Arc::strong_count(&slot) == 2 {
            slots.remove(digest);
        }
    }

    fn slot(&self, digest: &Digest) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(*digest).or_default())
    }
}

fn read_info(folder: &Path) -> Option<Info> {
    serde_json::from_slice(&fs::read(folder.join("info")).ok()?).ok()
}

/// Unpacks into `draft`, then moves it to `folder`. Leaves nothing behind when it fails.
fn unpack(zip: &[u8], draft: &Path, folder: &Path) -> Result<Info> {
    let result = (|| {
        let code = draft.join("code");
        make_folder(draft).map_err(disk)?;
        make_folder(&code).map_err(disk)?;
        let PackageInfo { unpacked_bytes, entries, .. } = crate::package::unpack(zip, &code)?;
        let info = Info { unpacked_bytes, entries };
        let text = serde_json::to_vec(&info).map_err(Error::internal)?;
        fs::write(draft.join("info"), text).map_err(disk)?;
        // Without `info` in it, what lies there is half of something.
        remove_tree(folder).map_err(disk)?;
        fs::rename(draft, folder).map_err(disk)?;
        Ok(info)
    })();
    if result.is_err()
        && let Err(error) = remove_tree(draft)
    {
        tracing::warn!(%error, "a half-unpacked package stays until the next start");
    }
    result
}

/// An error of the cache's disk.
pub(super) fn disk(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::platform(Code::StorageFull, "the disk of the data folder is full").with_source(e)
        }
        _ => Error::platform(Code::StorageUnusable, "the sandbox's cache folder cannot be written")
            .with_source(e),
    }
}

/// Runs what blocks where that is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(f).await.map_err(Error::internal)?
}
