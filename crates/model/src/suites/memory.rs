//! The store's ports in memory, for the tests of crates that may not see the store. They pass the same suites as the real one.

mod queue;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::clock::{Clock, SystemClock, UnixMillis};
use crate::error::{Code, Error};
use crate::ids::{Digest, FunctionKey, Qualifier, RequestId};
use crate::ports::{
    Blobs, Change, Entry, Expect, Meta, Revision, Usage, UsageDelta, UsageQuery, UsageRow,
    UsageSums, Vault, Watch,
};
use crate::secret::{Sealed, SecretPlace, SecretText};
use crate::{Result, limits};

pub use queue::MemoryQueue;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn conflict(what: &str) -> Error {
    Error::caller(Code::Conflict, format!("{what} was changed by somebody else"))
}

/// A clock whose wall time follows tokio's, so that a test with paused time decides both; and which can be set.
#[derive(Debug)]
pub struct TestClock {
    start: Instant,
    /// How far it was set forward.
    set_ms: AtomicI64,
}

impl TestClock {
    /// Wall time starts at 2026-01-01T00:00:00Z.
    pub fn new() -> Self {
        Self { start: SystemClock.instant(), set_ms: AtomicI64::new(0) }
    }

    /// Sets the wall clock so many milliseconds forward, or back.
    pub fn set(&self, by_ms: i64) {
        self.set_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> UnixMillis {
        let start = 1_767_225_600_000_u64.saturating_add_signed(self.set_ms.load(Ordering::SeqCst));
        UnixMillis(start).after(self.instant() - self.start)
    }

    fn instant(&self) -> Instant {
        SystemClock.instant()
    }

    async fn sleep_until(&self, deadline: Instant) {
        SystemClock.sleep_until(deadline).await;
    }
}

#[derive(Debug, Default)]
struct Documents {
    revision: Revision,
    /// A deleted key keeps its place, so that watches report it.
    documents: BTreeMap<String, (Revision, Option<Bytes>)>,
}

/// [`Meta`] in memory.
#[derive(Debug, Default)]
pub struct MemoryMeta {
    inner: Arc<Mutex<Documents>>,
    changed: Arc<watch::Sender<Revision>>,
}

impl MemoryMeta {
    fn write(&self, key: &str, expect: Expect, value: Option<Bytes>) -> Result<Revision> {
        let mut inner = lock(&self.inner);
        let current = inner.documents.get(key).and_then(|(r, v)| v.as_ref().map(|_| *r));
        let wanted = match expect {
            Expect::Absent => None,
            Expect::Revision(r) => Some(r),
        };
        if current != wanted {
            return Err(conflict(key));
        }
        inner.revision += 1;
        let revision = inner.revision;
        inner.documents.insert(key.to_owned(), (revision, value));
        self.changed.send_replace(revision);
        Ok(revision)
    }
}

#[async_trait]
impl Meta for MemoryMeta {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let inner = lock(&self.inner);
        let found = inner.documents.get(key).and_then(|(r, v)| v.clone().map(|v| (*r, v)));
        Ok(found.map(|(revision, value)| Entry { key: key.to_owned(), value, revision }))
    }

    async fn put_if(&self, key: &str, expect: Expect, value: Bytes) -> Result<Revision> {
        if key.len() > 512 || value.len() > 1024 * 1024 {
            return Err(Error::caller(Code::InvalidParameter, "key or value is too long"));
        }
        self.write(key, expect, Some(value))
    }

    async fn delete_if(&self, key: &str, revision: Revision) -> Result<Revision> {
        self.write(key, Expect::Revision(revision), None)
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
        let inner = lock(&self.inner);
        let all = inner.documents.iter().filter_map(|(k, (r, v))| {
            let wanted = k.starts_with(prefix) && after.is_none_or(|a| k.as_str() > a);
            let value = v.clone().filter(|_| wanted)?;
            Some(Entry { key: k.clone(), value, revision: *r })
        });
        Ok(all.take(limit).collect())
    }

    async fn watch(&self, prefix: &str, revision: Revision) -> Result<Box<dyn Watch>> {
        let now = lock(&self.inner).revision;
        Ok(Box::new(MemoryWatch {
            inner: Arc::clone(&self.inner),
            changed: self.changed.subscribe(),
            prefix: prefix.to_owned(),
            seen: revision,
            gone: if revision == 0 { now } else { 0 },
            mark: Some(now),
        }))
    }

    async fn revision(&self) -> Result<Revision> {
        Ok(lock(&self.inner).revision)
    }
}

#[derive(Debug)]
struct MemoryWatch {
    inner: Arc<Mutex<Documents>>,
    changed: watch::Receiver<Revision>,
    prefix: String,
    seen: Revision,
    /// Deletions up to here are no news: they were before a watch that began at 0.
    gone: Revision,
    /// Until the initial state has been reported: where it ends.
    mark: Option<Revision>,
}

impl MemoryWatch {
    fn ready(&self) -> Option<Change> {
        let inner = lock(&self.inner);
        let news = |r: Revision, v: &Option<Bytes>| r > self.seen && (v.is_some() || r > self.gone);
        let next =
            inner.documents.iter().filter(|(k, (r, v))| k.starts_with(&self.prefix) && news(*r, v));
        let (key, (revision, value)) = next.min_by_key(|(_, (r, _))| *r)?;
        Some(Change { key: key.clone(), value: value.clone(), revision: *revision })
    }
}

#[async_trait]
impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<Option<Change>> {
        loop {
            let ready = self.ready();
            if let Some(mark) = self.mark
                && ready.as_ref().is_none_or(|c| c.revision > mark)
            {
                self.mark = None;
                self.seen = self.seen.max(mark);
                return Ok(None);
            }
            if let Some(change) = ready {
                self.seen = change.revision;
                return Ok(Some(change));
            }
            self.changed.changed().await.map_err(Error::internal)?;
        }
    }
}

/// [`Blobs`] in memory.
#[derive(Debug, Default)]
pub struct MemoryBlobs(Mutex<HashMap<Digest, Bytes>>);

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn put(&self, bytes: Bytes) -> Result<Digest> {
        let digest = Digest::of(&bytes);
        lock(&self.0).insert(digest, bytes);
        Ok(digest)
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>> {
        Ok(lock(&self.0).get(digest).cloned())
    }

    async fn contains(&self, digest: &Digest) -> Result<bool> {
        Ok(lock(&self.0).contains_key(digest))
    }

    async fn delete(&self, digest: &Digest) -> Result<bool> {
        Ok(lock(&self.0).remove(digest).is_some())
    }
}

type UsageKey = (FunctionKey, UnixMillis, Qualifier);

/// [`Usage`] in memory.
#[derive(Debug, Default)]
pub struct MemoryUsage(Mutex<BTreeMap<UsageKey, UsageSums>>);

#[async_trait]
impl Usage for MemoryUsage {
    async fn add(&self, deltas: Vec<UsageDelta>) -> Result<()> {
        let mut rows = lock(&self.0);
        for delta in deltas {
            let minute = UnixMillis(delta.time.0 / 60_000 * 60_000);
            rows.entry((delta.function, minute, delta.version)).or_default().add(&delta.sums);
        }
        Ok(())
    }

    async fn query(&self, query: UsageQuery) -> Result<Vec<UsageRow>> {
        let since = UnixMillis(query.since.0 / 60_000 * 60_000);
        let rows = lock(&self.0);
        let wanted = rows.iter().filter(|((function, minute, _), _)| {
            *function == query.function && *minute >= since && *minute < query.until
        });
        let rows = wanted.take(limits::LOG_QUERY_LINES).map(|((_, minute, version), sums)| {
            UsageRow { version: version.clone(), minute: *minute, sums: *sums }
        });
        Ok(rows.collect())
    }
}

/// [`Vault`] that keeps the texts to itself and hands out numbers.
#[derive(Default)]
pub struct MemoryVault(Mutex<HashMap<RequestId, Kept>>);

/// One text of a [`MemoryVault`]: where it belongs, what was handed out for it, and the text.
type Kept = (FunctionKey, String, Sealed, SecretText);

impl std::fmt::Debug for MemoryVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryVault({} secrets)", lock(&self.0).len())
    }
}

impl Vault for MemoryVault {
    fn seal(&self, place: SecretPlace<'_>, text: &SecretText) -> Result<Sealed> {
        let id = RequestId::generate();
        let envelope = format!("memory:{}", RequestId::generate());
        let sealed = Sealed { id, bytes: text.expose().len(), envelope };
        let kept =
            (place.function.clone(), place.variable.to_owned(), sealed.clone(), text.clone());
        lock(&self.0).insert(id, kept);
        Ok(sealed)
    }

    fn open(&self, place: SecretPlace<'_>, sealed: &Sealed) -> Result<SecretText> {
        let kept = lock(&self.0);
        let found = kept.get(&sealed.id).filter(|(function, variable, known, _)| {
            function == place.function && variable == place.variable && known == sealed
        });
        found.map(|(.., text)| text.clone()).ok_or_else(|| {
            Error::platform(Code::StorageUnusable, "the secret is not one of this vault's")
        })
    }

    fn reseal(&self, place: SecretPlace<'_>, sealed: &Sealed) -> Result<Option<Sealed>> {
        self.open(place, sealed).map(|_| None)
    }
}

#[cfg(test)]
mod vault_tests {
    #[test]
    fn the_vault_in_memory_keeps_the_contract() {
        crate::suites::vault::run(&super::MemoryVault::default());
    }
}
