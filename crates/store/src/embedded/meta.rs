//! Metadata as rows: one per key, the newest value only, deletions as rows without a value.
//!
//! A watch reads rows by revision from its own place, a page at a time, and waits for the writer's signal in between: it cannot lose a change
//! however slow it is, and a key that changed five times meanwhile is reported once.
//!
//! Deletions are forgotten once there are more than [`DELETIONS_MAX`]: the older half goes. A watch that has not got past those yet
//! fails with `conflict`, and its owner watches again from 0.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use model::ports::{Change, Entry, Expect, Meta, Revision, Watch};
use model::{Code, Error, Result};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use tokio::sync::watch;

use super::db::{Db, FORGOTTEN, Tx, int};
use crate::fault::{self, Failure};

/// Longest key, in bytes (the port's).
const KEY_BYTES: usize = 512;
/// Largest value, in bytes (the port's).
const VALUE_BYTES: usize = 1 << 20;
/// Deleted keys that are remembered for watches.
const DELETIONS_MAX: u64 = 20_000;
/// Changes a watch reads at once, and bytes after which a page ends.
const PAGE_CHANGES: usize = 128;
const PAGE_BYTES: usize = 1 << 20;

/// [`Meta`] in the catalogue database.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddedMeta {
    db: Arc<Db>,
}

impl EmbeddedMeta {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// Forgets the older half of the deletions if there are too many.
    pub(crate) async fn forget_deletions(&self) -> Result<()> {
        self.forget_deletions_over(DELETIONS_MAX).await
    }

    async fn forget_deletions_over(&self, max: u64) -> Result<()> {
        self.db
            .write(move |tx| {
                let count: u64 = tx
                    .conn
                    .prepare_cached("SELECT count(*) FROM document WHERE value IS NULL")?
                    .query_row([], |row| row.get(0))?;
                if count <= max {
                    return Ok(());
                }
                let last: u64 = tx.conn.query_row(
                    "SELECT revision FROM document WHERE value IS NULL
                     ORDER BY revision LIMIT 1 OFFSET ?1",
                    [(count - max / 2).saturating_sub(1)],
                    |row| row.get(0),
                )?;
                tx.conn.execute(
                    "DELETE FROM document WHERE value IS NULL AND revision <= ?1",
                    [last],
                )?;
                tx.conn.execute(
                    "INSERT INTO number (name, value) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    (FORGOTTEN, last),
                )?;
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl Meta for EmbeddedMeta {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let key = key.to_owned();
        self.db
            .read(move |conn| {
                let entry = conn
                    .prepare_cached(
                        "SELECT key, revision, value FROM document
                         WHERE key = ?1 AND value IS NOT NULL",
                    )?
                    .query_row([&key], entry)
                    .optional()?;
                Ok(entry)
            })
            .await
    }

    async fn put_if(&self, key: &str, expect: Expect, value: Bytes) -> Result<Revision> {
        check(key, value.len())?;
        let key = key.to_owned();
        self.db
            .write(move |tx| {
                let expected = match expect {
                    Expect::Absent => None,
                    Expect::Revision(r) => Some(r),
                };
                compare(tx, &key, expected)?;
                set(tx, &key, Some(&value))
            })
            .await
    }

    async fn delete_if(&self, key: &str, revision: Revision) -> Result<Revision> {
        let key = key.to_owned();
        self.db
            .write(move |tx| {
                compare(tx, &key, Some(revision))?;
                set(tx, &key, None)
            })
            .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
        let range = Range::of(prefix);
        let from = match after {
            // The next possible key: pages start in the index where the last one ended.
            Some(after) if after >= prefix => format!("{after}\0"),
            _ => prefix.to_owned(),
        };
        self.db
            .read(move |conn| {
                let entries = conn
                    .prepare_cached(
                        "SELECT key, revision, value FROM document
                         WHERE key >= :from AND key < :end
                           AND value IS NOT NULL
                         ORDER BY key LIMIT :limit",
                    )?
                    .query_map(
                        named_params! {":from": from, ":end": range.end, ":limit": int(limit)},
                        entry,
                    )?
                    .collect::<rusqlite::Result<_>>()?;
                Ok(entries)
            })
            .await
    }

    async fn watch(&self, prefix: &str, revision: Revision) -> Result<Box<dyn Watch>> {
        let mut committed = self.db.revision();
        let now = *committed.borrow_and_update();
        Ok(Box::new(EmbeddedWatch {
            db: Arc::clone(&self.db),
            range: Range::of(prefix),
            place: revision,
            // What was deleted before is not part of "what there is".
            deleted_before: if revision == 0 { now } else { 0 },
            read: VecDeque::new(),
            complete: false,
            told_complete: false,
            committed,
        }))
    }

    async fn revision(&self) -> Result<Revision> {
        Ok(*self.db.revision().borrow())
    }
}

/// The keys with a prefix.
#[derive(Clone, Debug)]
struct Range {
    start: String,
    /// First key after them. If there is no such: an empty blob, which SQLite sorts after every text.
    end: Value,
}

impl Range {
    fn of(prefix: &str) -> Self {
        let mut end = prefix.to_owned();
        // The order of UTF-8 bytes is that of code points: raise the last one that can be raised.
        let end = loop {
            match end.pop() {
                None => break Value::Blob(Vec::new()),
                Some(c) => {
                    if let Some(next) = (c..=char::MAX).nth(1) {
                        end.push(next);
                        break Value::Text(end);
                    }
                }
            }
        };
        Self { start: prefix.to_owned(), end }
    }
}

fn check(key: &str, value_len: usize) -> Result<()> {
    if key.is_empty() || key.len() > KEY_BYTES {
        return Err(Error::caller(
            Code::InvalidParameter,
            format!("metadata key is not valid: expected 1 to {KEY_BYTES} bytes"),
        ));
    }
    if value_len > VALUE_BYTES {
        return Err(Error::caller(
            Code::InvalidParameter,
            format!("metadata value has {value_len} bytes: expected at most {VALUE_BYTES}"),
        ));
    }
    Ok(())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        key: row.get(0)?,
        revision: row.get(1)?,
        value: Bytes::from(row.get::<_, Vec<u8>>(2)?),
    })
}

/// Refuses with `conflict` unless the key was last changed at `expected`; `None` expects that there is no such key.
fn compare(tx: &Tx<'_>, key: &str, expected: Option<Revision>) -> Result<(), Failure> {
    let current: Option<u64> = tx
        .conn
        .prepare_cached("SELECT revision FROM document WHERE key = ?1 AND value IS NOT NULL")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    if current == expected {
        return Ok(());
    }
    let describe = |r: Option<u64>| r.map_or("no such key".to_owned(), |r| format!("revision {r}"));
    Err(Failure::Refused(Error::caller(
        Code::Conflict,
        format!(
            "'{key}' was changed in between: expected {}, found {}",
            describe(expected),
            describe(current)
        ),
    )))
}

fn set(tx: &mut Tx<'_>, key: &str, value: Option<&Bytes>) -> Result<Revision, Failure> {
    let revision = tx.next_revision();
    tx.conn
        .prepare_cached(
            "INSERT INTO document (key, revision, value) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, value = excluded.value",
        )?
        .execute((key, int(revision), value.map(|v| v.as_ref())))?;
    Ok(revision)
}

#[derive(Debug)]
struct EmbeddedWatch {
    db: Arc<Db>,
    range: Range,
    /// Everything up to here was read.
    place: Revision,
    /// Deletions up to here are of no interest.
    deleted_before: Revision,
    /// Read and not yet reported.
    read: VecDeque<Change>,
    /// A read reached the end: whatever stood at the call is reported once `read` is empty.
    complete: bool,
    told_complete: bool,
    committed: watch::Receiver<Revision>,
}

#[async_trait]
impl Watch for EmbeddedWatch {
    async fn next(&mut self) -> Result<Option<Change>> {
        loop {
            if let Some(change) = self.read.pop_front() {
                return Ok(Some(change));
            }
            if self.complete && !self.told_complete {
                self.told_complete = true;
                return Ok(None);
            }
            let newest = *self.committed.borrow_and_update();
            if !self.complete || self.place < newest {
                self.read_page(newest).await?;
            } else if self.db.is_closed() || self.committed.changed().await.is_err() {
                return Err(fault::closed());
            }
        }
    }
}

impl EmbeddedWatch {
    async fn read_page(&mut self, newest: Revision) -> Result<()> {
        let (range, place, deleted_before) = (self.range.clone(), self.place, self.deleted_before);
        let (changes, end) =
            self.db.read(move |conn| page(conn, &range, place, deleted_before)).await?;
        if let Some(last) = changes.last() {
            self.place = last.revision;
        }
        if end {
            // The read began after `newest` was committed, so it saw all up to there.
            self.place = self.place.max(newest);
            self.complete = true;
        }
        self.read = changes.into();
        Ok(())
    }
}

/// Changes after `place`, and whether there were no more.
fn page(
    conn: &Connection,
    range: &Range,
    place: Revision,
    deleted_before: Revision,
) -> Result<(Vec<Change>, bool), Failure> {
    let forgotten: Option<u64> = conn
        .prepare_cached("SELECT value FROM number WHERE name = ?1")?
        .query_row([FORGOTTEN], |row| row.get(0))
        .optional()?;
    if let Some(forgotten) = forgotten.filter(|f| *f > place.max(deleted_before)) {
        return Err(Failure::Refused(Error::caller(
            Code::Conflict,
            format!(
                "changes since revision {place} are no longer known: expected {forgotten} or later, or 0"
            ),
        )));
    }
    let mut statement = conn.prepare_cached(
        // By revision, not by key: a page must not sort all there is.
        "SELECT key, revision, value FROM document INDEXED BY document_revision
         WHERE revision > :place AND key >= :start AND key < :end
         ORDER BY revision",
    )?;
    let mut rows = statement
        .query(named_params! {":place": int(place), ":start": range.start, ":end": range.end})?;
    let (mut changes, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let value: Option<Vec<u8>> = row.get(2)?;
        let change =
            Change { key: row.get(0)?, value: value.map(Bytes::from), revision: row.get(1)? };
        if change.value.is_none() && change.revision <= deleted_before {
            continue;
        }
        bytes += change.value.as_ref().map_or(0, Bytes::len);
        changes.push(change);
        if changes.len() == PAGE_CHANGES || bytes >= PAGE_BYTES {
            return Ok((changes, false));
        }
    }
    Ok((changes, true))
}

#[cfg(test)]
mod tests {
    use model::clock::SystemClock;

    use super::*;
    use crate::embedded::room::Room;
    use crate::format::Folder;

    fn database(folder: &Folder) -> Arc<Db> {
        let room = Room::new(folder.join(""), 0);
        Arc::new(Db::open(folder, room, Arc::new(SystemClock)).unwrap())
    }

    /// Ten keys were made and deleted again, and one is left; the older half of more than eight deletions is forgotten.
    async fn after_forgetting() -> (tempfile::TempDir, EmbeddedMeta) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        let meta = EmbeddedMeta::new(database(&folder));
        meta.put_if("kept", Expect::Absent, Bytes::new()).await.unwrap();
        for n in 0..10 {
            let key = format!("gone/{n}");
            let revision = meta.put_if(&key, Expect::Absent, Bytes::new()).await.unwrap();
            meta.delete_if(&key, revision).await.unwrap();
        }
        meta.forget_deletions_over(10).await.unwrap();
        assert_eq!(drain(&meta, 1).await.unwrap().len(), 10, "ten are not too many");
        meta.forget_deletions_over(8).await.unwrap();
        (temp, meta)
    }

    async fn drain(meta: &EmbeddedMeta, from: Revision) -> Result<Vec<Change>> {
        let mut watch = meta.watch("", from).await?;
        let mut changes = Vec::new();
        while let Some(change) = watch.next().await? {
            changes.push(change);
        }
        Ok(changes)
    }

    #[tokio::test]
    async fn a_watch_older_than_the_known_deletions_is_told() {
        let (_temp, meta) = after_forgetting().await;
        for from in [1, 12] {
            assert_eq!(drain(&meta, from).await.unwrap_err().code(), Code::Conflict, "from {from}");
        }
        assert_eq!(drain(&meta, 13).await.unwrap().len(), 4);
        assert_eq!(
            drain(&meta, 0).await.unwrap().len(),
            1,
            "from the start there is only what is left"
        );
    }

    #[tokio::test]
    async fn revisions_go_on_after_everything_was_forgotten() {
        let (temp, meta) = after_forgetting().await;
        let kept = meta.get("kept").await.unwrap().unwrap();
        meta.delete_if("kept", kept.revision).await.unwrap();
        meta.forget_deletions_over(0).await.unwrap();
        let last = meta.revision().await.unwrap();
        meta.db.close().await.unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        let meta = EmbeddedMeta::new(database(&folder));
        assert_eq!(meta.revision().await.unwrap(), last);
        assert!(meta.put_if("new", Expect::Absent, Bytes::new()).await.unwrap() > last);
    }
}
