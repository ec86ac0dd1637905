//! Folders that are made once per digest, shared, and removed when nobody uses them: what [`super::packages`] keeps on disk.
//!
//! ```text
//! PLACE/DIGEST/code/   what instances see
//! PLACE/DIGEST/info    what it holds; written last, so a folder with it is whole
//! DRAFTS/…             on the way in or out
//! ```
//!
//! What a folder is filled with is not known here.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::Result;
use model::ids::{Digest, RequestId};
use model::tasks::Tasks;
use model::{Code, Error};
use serde::{Deserialize, Serialize};

use super::root::{make_folder, remove_tree};

/// When an unused folder is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Once it is forgotten.
    UntilForgotten,
    /// At once.
    WhileUsed,
}

/// All folders of one kind.
#[derive(Debug)]
pub(super) struct Folders {
    place: PathBuf,
    drafts: PathBuf,
    keep: Keep,
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
    live: Weak<Folder>,
    /// To be removed once nobody uses it.
    forgotten: bool,
}

/// One folder; it stays as long as this does.
#[derive(Debug)]
pub(super) struct Folder {
    digest: Digest,
    contents: Contents,
    code: PathBuf,
    all: Weak<Folders>,
}

/// What a folder holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contents {
    /// Bytes of all files.
    pub(super) unpacked_bytes: u64,
    /// Files and folders.
    pub(super) entries: usize,
}

impl Folder {
    /// What it goes by.
    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What it holds.
    pub(super) fn contents(&self) -> Contents {
        self.contents
    }

    /// The folder that instances see.
    pub(super) fn code(&self) -> &Path {
        &self.code
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Off a runtime the daemon is ending: the folder stays for the next one.
        if let (Some(all), Ok(_)) = (self.all.upgrade(), tokio::runtime::Handle::try_current()) {
            let (digest, tasks) = (self.digest, all.tasks.clone());
            tasks.spawn("folder removal", async move { all.sweep(&digest).await });
        }
    }
}

impl Folders {
    /// Folders below `place`, which exists, as `drafts` on the same disk does.
    pub(super) fn new(place: PathBuf, drafts: PathBuf, keep: Keep, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self { place, drafts, keep, tasks, slots: Mutex::default() })
    }

    /// The folder of that digest. If it is not there, `filler` is awaited, and what it gives fills an empty folder where blocking is allowed.
    pub(super) async fn ensure<F>(
        self: &Arc<Self>,
        digest: &Digest,
        filler: impl Future<Output = Result<F>> + Send,
    ) -> Result<Arc<Folder>>
    where
        F: FnOnce(&Path) -> Result<Contents> + Send + 'static,
    {
        let slot = self.slot(digest);
        let mut state = slot.gate.lock().await;
        let forgotten = self.keep == Keep::WhileUsed;
        if let Some(folder) = state.live.upgrade() {
            state.forgotten = forgotten;
            return Ok(folder);
        }
        let at = self.place.join(digest.to_string());
        let there = at.clone();
        let contents = match blocking(move || Ok(read_info(&there))).await? {
            Some(contents) => contents,
            None => {
                let fill = filler.await?;
                let draft = self.drafts.join(RequestId::generate().to_string());
                let there = at.clone();
                blocking(move || make(fill, &draft, &there)).await?
            }
        };
        let (code, all) = (at.join("code"), Arc::downgrade(self));
        let folder = Arc::new(Folder { digest: *digest, contents, code, all });
        *state = State { live: Arc::downgrade(&folder), forgotten };
        Ok(folder)
    }

    /// Removes a folder, once nothing uses it any more.
    pub(super) async fn forget(&self, digest: &Digest) {
        self.slot(digest).gate.lock().await.forgotten = true;
        self.sweep(digest).await;
    }

    /// Removes a folder if it is forgotten and unused.
    async fn sweep(&self, digest: &Digest) {
        let slot = self.slot(digest);
        let state = slot.gate.lock().await;
        if state.live.strong_count() > 0 {
            return;
        }
        if state.forgotten {
            let folder = self.place.join(digest.to_string());
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

    /// How many digests somebody uses or waits for.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.slots.lock().unwrap().len()
    }

    fn slot(&self, digest: &Digest) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(*digest).or_default())
    }
}

fn read_info(folder: &Path) -> Option<Contents> {
    serde_json::from_slice(&fs::read(folder.join("info")).ok()?).ok()
}

/// Fills `draft`, then moves it to `folder`. Leaves nothing behind when it fails.
fn make(
    fill: impl FnOnce(&Path) -> Result<Contents>,
    draft: &Path,
    folder: &Path,
) -> Result<Contents> {
    let result = (|| {
        let code = draft.join("code");
        make_folder(draft).map_err(disk)?;
        make_folder(&code).map_err(disk)?;
        let contents = fill(&code)?;
        let text = serde_json::to_vec(&contents).map_err(Error::internal)?;
        fs::write(draft.join("info"), text).map_err(disk)?;
        // Without `info` in it, what lies there is half of something.
        remove_tree(folder).map_err(disk)?;
        fs::rename(draft, folder).map_err(disk)?;
        Ok(contents)
    })();
    if result.is_err()
        && let Err(error) = remove_tree(draft)
    {
        tracing::warn!(%error, "a half-unpacked package stays until the next start");
    }
    result
}

/// An error of the cache's disk.
pub(crate) fn disk(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::platform(Code::StorageFull, "the disk of the data folder is full").with_source(e)
        }
        _ => Error::platform(Code::StorageUnusable, "the sandbox's cache folder cannot be written")
            .with_source(e),
    }
}

/// Runs what blocks where that is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(f).await.map_err(Error::internal)?
}
