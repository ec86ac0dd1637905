//! Packages, unpacked: a function's own code and the layers upon which it stands.
//!
//! ```text
//! CACHE/packages/DIGEST/…   a package, of a function or of a layer; kept until it is forgotten
//! CACHE/merged/DIGEST/…     several layers as one ([`merge`]), by the digest of their list; kept while a version uses it
//! CACHE/drafts/…            on the way in or out
//! CACHE/old/…               what a start has set aside, until it is removed
//! ```
//!
//! How a folder is made and removed: [`super::folders`]. Nothing here is synced to disk: it can be made again from the blob store. After a crash
//! of the *host* what was written may be missing, so the whole cache is dropped when the host has been booted since.

mod merge;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::function::Version;
use model::ids::{Digest, RequestId};
use model::ports::{Blobs, PackageInfo};
use model::tasks::Tasks;
use model::{Code, Error, Result, limits};

use super::folders::{Contents, Folder, Folders, Keep, blocking, disk};
use super::root::{make_folder, remove_tree};

/// All packages.
#[derive(Debug)]
pub(crate) struct Packages {
    unpacked: Arc<Folders>,
    merged: Arc<Folders>,
    blobs: Arc<dyn Blobs>,
}

/// What a version's instances see of packages; it stays on disk as long as this does.
#[derive(Debug)]
pub(crate) struct Unpacked {
    package: Arc<Folder>,
    layers: Vec<Arc<Folder>>,
    /// Of more than one layer.
    merged: Option<Arc<Folder>>,
}

impl Unpacked {
    /// The function's own.
    pub(crate) fn package(&self) -> &Path {
        self.package.code()
    }

    /// The layers', as one folder; `None` without layers.
    pub(crate) fn layers(&self) -> Option<&Path> {
        self.merged.as_ref().or(self.layers.first()).map(|folder| folder.code())
    }
}

impl Packages {
    /// Opens the folders below `cache`, and clears what cannot be relied on. Blocks; within a runtime.
    pub(super) fn open(
        cache: &Path,
        boot: &str,
        blobs: Arc<dyn Blobs>,
        tasks: Tasks,
    ) -> io::Result<Self> {
        let [packages, merged, drafts, old] =
            ["packages", "merged", "drafts", "old"].map(|name| cache.join(name));
        make_folder(&old)?;
        set_aside(&drafts, &old)?;
        // Of the daemon before: nobody uses it any more, and nobody would ever remove it.
        set_aside(&merged, &old)?;
        let marker = cache.join("boot");
        if fs::read_to_string(&marker).ok().as_deref() != Some(boot) {
            set_aside(&packages, &old)?;
            fs::write(&marker, boot)?;
        }
        for folder in [&packages, &merged, &drafts] {
            make_folder(folder)?;
        }
        // Hundreds of thousands of files, perhaps, for which no start has to wait.
        tasks.spawn("clearing of the cache", async move {
            if let Err(error) = blocking(move || remove_tree(&old).map_err(disk)).await {
                tracing::warn!(%error, "what an earlier daemon left in the cache stays");
            }
        });
        let unpacked = Folders::new(packages, drafts.clone(), Keep::UntilForgotten, tasks.clone());
        let merged = Folders::new(merged, drafts, Keep::WhileUsed, tasks);
        Ok(Self { unpacked, merged, blobs })
    }

    /// Unpacks a package that was just uploaded, unless it is there.
    pub(crate) async fn take(&self, zip: Bytes) -> Result<PackageInfo> {
        let hashed = zip.clone();
        let digest = blocking(move || Ok(Digest::of(&hashed))).await?;
        let folder = self.unpacked.ensure(&digest, async { Ok(unpacker(zip)) }).await?;
        let Contents { unpacked_bytes, entries } = folder.contents();
        Ok(PackageInfo { digest, unpacked_bytes, entries })
    }

    /// All that a version needs, unpacked from the blob store if need be: one package after the other, as each is held in memory for that time.
    pub(crate) async fn code(&self, version: &Version) -> Result<Unpacked> {
        let package = self.get(&version.code.digest).await?;
        let mut layers = Vec::with_capacity(version.layers.len());
        for layer in &version.layers {
            layers.push(self.get(&layer.code.digest).await?);
        }
        let together = sum(&layers);
        check_size(package.contents().unpacked_bytes.saturating_add(together.unpacked_bytes))?;
        let merged = if layers.len() > 1 { Some(self.merge(&layers).await?) } else { None };
        Ok(Unpacked { package, layers, merged })
    }

    /// Removes a package, once nothing uses it any more.
    pub(super) async fn forget(&self, digest: &Digest) {
        self.unpacked.forget(digest).await;
    }

    async fn get(&self, digest: &Digest) -> Result<Arc<Folder>> {
        self.unpacked.ensure(digest, async { self.fetch(digest).await.map(unpacker) }).await
    }

    async fn fetch(&self, digest: &Digest) -> Result<Bytes> {
        self.blobs.get(digest).await?.ok_or_else(|| {
            let message = format!("package {digest} is not in the store");
            Error::platform(Code::StorageUnusable, message)
        })
    }

    async fn merge(&self, layers: &[Arc<Folder>]) -> Result<Arc<Folder>> {
        let list: Vec<u8> = layers.iter().flat_map(|layer| *layer.digest().as_bytes()).collect();
        let from: Vec<PathBuf> = layers.iter().map(|layer| layer.code().to_owned()).collect();
        let contents = sum(layers);
        let fill = move |into: &Path| merge::merge(&from, into).map(|()| contents);
        self.merged.ensure(&Digest::of(&list), async { Ok(fill) }).await
    }
}

/// Moves a folder, if it is there, to where it is in nobody's way.
fn set_aside(folder: &Path, old: &Path) -> io::Result<()> {
    match fs::rename(folder, old.join(RequestId::generate().to_string())) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// What fills a folder with a package.
fn unpacker(zip: Bytes) -> impl FnOnce(&Path) -> Result<Contents> + Send + 'static {
    move |into| {
        let PackageInfo { unpacked_bytes, entries, .. } = crate::package::unpack(&zip, into)?;
        Ok(Contents { unpacked_bytes, entries })
    }
}

fn sum(folders: &[Arc<Folder>]) -> Contents {
    folders.iter().map(|folder| folder.contents()).fold(Contents::default(), |sum, one| Contents {
        unpacked_bytes: sum.unpacked_bytes.saturating_add(one.unpacked_bytes),
        entries: sum.entries.saturating_add(one.entries),
    })
}

fn check_size(unpacked_bytes: u64) -> Result<()> {
    if unpacked_bytes <= limits::UNPACKED_BYTES {
        return Ok(());
    }
    let message = format!(
        "the package and its layers have {unpacked_bytes} bytes unpacked: expected at most {}",
        limits::UNPACKED_BYTES
    );
    Err(Error::caller(Code::PackageTooLarge, message)
        .with_hint("leave out what the function does not need at run time"))
}

#[cfg(test)]
mod tests;
