//! The store's ports in memory, for the tests of crates that may not see the store. They pass the same suites as the real one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::clock::{Clock, SystemClock, UnixMillis};
use crate::error::{Code, Error};
use crate::ids::{Digest, FunctionKey, Qualifier, RequestId};
use crate::ports::{
    Blobs, Change, DeadMessage, Enqueued, Entry, Expect, Leased, Meta, NewMessage, Queue, Revision,
    Token, Usage, UsageDelta, UsageQuery, UsageRow, UsageSums, Vault, Watch,
};
use crate::secret::{Sealed, SecretPlace, SecretText};
use crate::{Result, limits};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn conflict(what: &str) -> Error {
    Error::caller(Code::Conflict, format!("{what} was changed by somebody else"))
}

/// A clock whose wall time follows tokio's, so that a test with paused time decides both.
#[derive(Debug)]
pub struct TestClock(Instant);

impl TestClock {
    /// Wall time starts at 2026-01-01T00:00:00Z.
    pub fn new() -> Self {
        Self(SystemClock.instant())
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
        UnixMillis(1_767_225_600_000).after(self.instant() - self.0)
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

#[derive(Debug)]
struct Stored {
    partition: u16,
    run_at: UnixMillis,
    token: Option<Token>,
    deliveries: u32,
    enqueued_at: UnixMillis,
    payload: Bytes,
}

#[derive(Debug, Default)]
struct Messages {
    last_token: u64,
    waiting: BTreeMap<RequestId, Stored>,
    dead: BTreeMap<RequestId, DeadMessage>,
    seen: HashMap<RequestId, UnixMillis>,
}

/// [`Queue`] in memory.
#[derive(Debug)]
pub struct MemoryQueue {
    clock: Arc<dyn Clock>,
    inner: Mutex<Messages>,
    arrived: Notify,
}

impl MemoryQueue {
    /// An empty queue.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, inner: Mutex::default(), arrived: Notify::new() }
    }

    fn settle<T>(
        &self,
        id: RequestId,
        token: Token,
        then: impl FnOnce(&mut Messages, Stored) -> T,
    ) -> Result<T> {
        let mut inner = lock(&self.inner);
        match inner.waiting.remove(&id) {
            Some(stored) if stored.token == Some(token) => Ok(then(&mut inner, stored)),
            other => {
                if let Some(stored) = other {
                    inner.waiting.insert(id, stored);
                }
                Err(conflict("the lease"))
            }
        }
    }

    fn take_due(&self, n: usize, ttl: Duration) -> Vec<Leased> {
        let now = self.clock.now();
        let inner = &mut *lock(&self.inner);
        let mut due: Vec<_> = inner.waiting.iter_mut().filter(|(_, m)| m.run_at <= now).collect();
        due.sort_by_key(|(id, m)| (m.partition, m.run_at, **id));
        let leased = due.into_iter().take(n).map(|(id, stored)| {
            inner.last_token += 1;
            let token = Token(inner.last_token);
            stored.token = Some(token);
            stored.deliveries += 1;
            stored.run_at = now.after(ttl);
            let (deliveries, enqueued_at) = (stored.deliveries, stored.enqueued_at);
            Leased { id: *id, token, deliveries, enqueued_at, payload: stored.payload.clone() }
        });
        leased.collect()
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<Enqueued>> {
        if messages.iter().any(|m| m.partition >= limits::QUEUE_PARTITIONS) {
            return Err(Error::caller(Code::InvalidParameter, "no such partition"));
        }
        if messages.iter().any(|m| m.payload.len() > limits::ASYNC_PAYLOAD_BYTES + 64 * 1024) {
            return Err(Error::caller(Code::PayloadTooLarge, "the message is too large"));
        }
        let now = self.clock.now();
        let mut inner = lock(&self.inner);
        inner.seen.retain(|_, at| at.until(now) <= crate::ports::DEDUPE_WINDOW);
        let answers = messages.into_iter().map(|m| {
            if inner.seen.contains_key(&m.id) || inner.waiting.contains_key(&m.id) {
                return Enqueued::Duplicate;
            }
            inner.seen.insert(m.id, now);
            let (partition, run_at, payload) = (m.partition, m.run_at, m.payload);
            let stored =
                Stored { partition, run_at, token: None, deliveries: 0, enqueued_at: now, payload };
            inner.waiting.insert(m.id, stored);
            Enqueued::New
        });
        let answers = answers.collect();
        self.arrived.notify_waiters();
        Ok(answers)
    }

    async fn lease(&self, n: usize, ttl: Duration, wait: Duration) -> Result<Vec<Leased>> {
        /// Messages also fall due with time; a test's queue may look that often.
        const LOOK_AGAIN: Duration = Duration::from_millis(5);
        let end = self.clock.instant() + wait;
        loop {
            let arrived = self.arrived.notified();
            let leased = self.take_due(n, ttl);
            let now = self.clock.instant();
            if !leased.is_empty() || now >= end {
                return Ok(leased);
            }
            tokio::select! {
                () = arrived => {}
                () = self.clock.sleep_until(end.min(now + LOOK_AGAIN)) => {}
            }
        }
    }

    async fn ack(&self, id: RequestId, token: Token) -> Result<()> {
        self.settle(id, token, |_, _| ())
    }

    async fn nack(
        &self,
        id: RequestId,
        token: Token,
        delay: Duration,
        counted: bool,
    ) -> Result<()> {
        let run_at = self.clock.now().after(delay);
        self.settle(id, token, |inner, mut stored| {
            stored.run_at = run_at;
            stored.token = None;
            stored.deliveries -= u32::from(!counted);
            inner.waiting.insert(id, stored);
        })
    }

    async fn extend(&self, id: RequestId, token: Token, ttl: Duration) -> Result<()> {
        let run_at = self.clock.now().after(ttl);
        self.settle(id, token, |inner, mut stored| {
            stored.run_at = run_at;
            inner.waiting.insert(id, stored);
        })
    }

    async fn dead(&self, id: RequestId, token: Token, reason: &str) -> Result<()> {
        let (dead_at, reason) = (self.clock.now(), reason.to_owned());
        self.settle(id, token, |inner, stored| {
            let Stored { deliveries, payload, .. } = stored;
            inner.dead.insert(id, DeadMessage { id, reason, deliveries, dead_at, payload });
        })
    }

    async fn dead_messages(
        &self,
        after: Option<RequestId>,
        limit: usize,
    ) -> Result<Vec<DeadMessage>> {
        let inner = lock(&self.inner);
        let later = inner.dead.iter().filter(|(id, _)| after.is_none_or(|a| **id > a));
        Ok(later.take(limit).map(|(_, m)| m.clone()).collect())
    }

    async fn depth(&self) -> Result<u64> {
        Ok(lock(&self.inner).waiting.len() as u64)
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
