//! Port: the catalogue. Small documents under keys, changed by compare-and-set, watched by everybody who caches them.

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;

/// Position of a change in the order of all changes; from 1, ascending, gaps allowed.
pub type Revision = u64;

/// What a conditional write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No such key.
    Absent,
    /// The key, last changed at this revision.
    Revision(Revision),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// When it was last changed.
    pub revision: Revision,
}

/// A change that a watch reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The new value; `None` if the key was deleted.
    pub value: Option<Bytes>,
    /// Position in the order of changes.
    pub revision: Revision,
}

/// Linearizable documents. Contract: `suites::meta`.
///
/// Single-key compare-and-set only: there is no transaction over keys. A change is durable before it is acknowledged. Keys are at
/// most 512 bytes, values at most 1 MiB; over that: `invalid-parameter`. A full disk: `storage-full`, and nothing is changed.
#[async_trait]
pub trait Meta: Send + Sync + std::fmt::Debug {
    /// The value now.
    async fn get(&self, key: &str) -> Result<Option<Entry>>;

    /// Writes if `expect` holds, else fails with `conflict`.
    async fn put_if(&self, key: &str, expect: Expect, value: Bytes) -> Result<Revision>;

    /// Deletes if the key was last changed at `revision`, else fails with `conflict`.
    async fn delete_if(&self, key: &str, revision: Revision) -> Result<Revision>;

    /// Entries whose key starts with `prefix` and comes after `after`, by key, at most `limit`.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>>;

    /// All changes under `prefix` after `revision`, in order, at least once. A key that changed several times before it is read
    /// may be reported with its last change only. `revision` 0 reports what there is, then what changes.
    /// A store may forget old deletions: the watch, or its `next`, then fails with `conflict`, and its owner watches again from 0.
    async fn watch(&self, prefix: &str, revision: Revision) -> Result<Box<dyn Watch>>;

    /// The revision of the newest change: a watch that has reported it, or a later one, is up to date.
    async fn revision(&self) -> Result<Revision>;
}

/// A running watch; dropping it ends it.
#[async_trait]
pub trait Watch: Send + std::fmt::Debug {
    /// The next change; waits for one. `None` marks the moment when everything that stood at the call of [`Meta::watch`] has been
    /// reported (sent exactly once), so that a cache knows that it is complete.
    async fn next(&mut self) -> Result<Option<Change>>;
}
