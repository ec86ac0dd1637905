//! Port: packages by digest.

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;
use crate::ids::Digest;

/// Immutable bytes under their SHA-256. Contract: `suites::blobs`.
///
/// A blob is durable before `put` returns, so metadata may name it. Stored compressed; what is read back is verified.
#[async_trait]
pub trait Blobs: Send + Sync + std::fmt::Debug {
    /// Stores `bytes`; storing the same again is no error and costs no space. A full disk: `storage-full`, nothing half written.
    async fn put(&self, bytes: Bytes) -> Result<Digest>;

    /// The bytes, `None` if there are none of that digest; `storage-unusable` if they no longer match it.
    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>>;

    /// Whether `get` would find it.
    async fn contains(&self, digest: &Digest) -> Result<bool>;

    /// Removes it; `false` if there was none.
    async fn delete(&self, digest: &Digest) -> Result<bool>;
}
