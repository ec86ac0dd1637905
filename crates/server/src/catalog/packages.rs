//! Code packages: checked by the sandbox, stored by their digest, remembered with their sizes. A package's record stands once the package is
//! durable. The bytes are kept once, however many namespaces have the package; a digest names it only where it was uploaded.

use bytes::Bytes;
use model::Result;
use model::error::{Code, Error};
use model::function::CodeRef;
use model::ids::{Digest, NamespaceName};
use model::keys;
use model::ports::Expect;
use tokio::sync::OwnedSemaphorePermit;

use super::source_file::{self, SourceName};
use super::{BUSY_RETRY, Catalog};

impl Catalog {
    /// Waits for one of the few slots in which a package may be held in memory; `throttled` if none comes free in time.
    ///
    /// Taken before the body is read, so that the packages in memory never outnumber the slots.
    pub(crate) async fn upload_slot(&self) -> Result<OwnedSemaphorePermit> {
        let slot =
            tokio::time::timeout(self.upload_wait, self.uploads.clone().acquire_owned()).await;
        match slot {
            Ok(permit) => permit.map_err(Error::internal),
            Err(_) => Err(Error::throttled("too many packages are uploaded at once", BUSY_RETRY)),
        }
    }

    /// Checks and stores a package; with `source`, `body` is that one file's text instead. `_slot` is held to the end.
    pub(crate) async fn add_package(
        &self,
        namespace: &NamespaceName,
        body: Bytes,
        source: Option<SourceName>,
        _slot: OwnedSemaphorePermit,
    ) -> Result<CodeRef> {
        let package = match source {
            // Compressing up to 100 MB takes seconds: not on a thread that serves others.
            Some(name) => tokio::task::spawn_blocking(move || source_file::zip(&name, &body))
                .await
                .map_err(Error::internal)??,
            None => body,
        };
        let size_bytes = package.len() as u64;
        let info = self.sandbox.check_package(package.clone()).await?;
        let digest = self.blobs.put(package).await?;
        let code = CodeRef { digest, size_bytes, unpacked_bytes: info.unpacked_bytes };
        match self.write(&keys::package(namespace, &digest), Expect::Absent, &code).await {
            Ok(_) => Ok(code),
            // Stored before; equal digests are equal packages.
            Err(e) if e.code() == Code::Conflict => Ok(code),
            Err(e) => Err(e),
        }
    }

    /// The record of a package that was uploaded to the namespace before; `not-found` if there is none.
    pub(super) async fn package(
        &self,
        namespace: &NamespaceName,
        digest: &Digest,
    ) -> Result<CodeRef> {
        let record = self.read::<CodeRef>(&keys::package(namespace, digest)).await?;
        match record {
            Some(record) if self.blobs.contains(digest).await? => Ok(record.value),
            _ => Err(Error::not_found("package", digest)
                .with_hint("upload it first, to the namespace's packages")),
        }
    }

    /// The bytes of a package that a function names.
    pub(crate) async fn package_bytes(&self, code: &CodeRef) -> Result<Bytes> {
        self.blobs.get(&code.digest).await?.ok_or_else(|| {
            Error::platform(Code::StorageUnusable, format!("the package {} is gone", code.digest))
        })
    }
}
