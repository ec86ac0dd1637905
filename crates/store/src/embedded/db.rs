//! The catalogue database: metadata, queue, usage and leases in one SQLite file.
//!
//! SQLite because it was the fastest of those measured with one `fsync` per group of commits, and because a torn write, a full disk and a
//! killed process are what it is tested for. Write-ahead log with `synchronous=FULL`: what is answered is on disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use model::clock::{Clock, Jumps};
use model::ports::{Depth, Lane};
use model::{Error, Result};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::{mpsc, oneshot, watch};

use super::queue::schema::SCHEMA as QUEUE;
use super::queue::{self, lanes::Lanes};
use super::readers::Readers;
use super::room::{LogFile, Room};
use super::writer::{self, Counters, Disk, Operation, Signals, Writer};
use crate::fault::{self, Failure};
use crate::format::Folder;

pub(crate) use super::writer::Tx;

/// Operations that wait for the writer; further callers wait to get in.
const INBOX: usize = 1024;
/// Page cache of the writer, in KiB; SQLite takes it as it is needed.
const CACHE_KIB: i64 = 4 * 1024;
/// Pages in the write-ahead log before they are folded into the database: 16 MiB.
const CHECKPOINT_PAGES: i64 = 4000;
/// The log's file is cut back to this size after a burst, in bytes.
const LOG_LIMIT_BYTES: i64 = 64 << 20;
/// Statements the writer keeps prepared; more than it has.
const STATEMENTS: usize = 64;

const SCHEMA: &str = "
-- Metadata. A deleted key stays with a NULL value, so that watches learn of it.
CREATE TABLE IF NOT EXISTS document (
    key TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL, value BLOB);
CREATE UNIQUE INDEX IF NOT EXISTS document_revision ON document (revision, key);
CREATE INDEX IF NOT EXISTS document_deleted ON document (revision) WHERE value IS NULL;
-- Single numbers by name.
CREATE TABLE IF NOT EXISTS number (
    name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS usage (
    function TEXT NOT NULL, minute INTEGER NOT NULL, version TEXT NOT NULL, requests INTEGER NOT NULL,
    failures INTEGER NOT NULL, cold_starts INTEGER NOT NULL, throttles INTEGER NOT NULL, duration_ms INTEGER NOT NULL,
    memory_mb_ms INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL,
    PRIMARY KEY (function, minute, version)) WITHOUT ROWID;
-- Log lines of these functions with a lower sequence number are deleted.
CREATE TABLE IF NOT EXISTS log_deleted (
    function TEXT PRIMARY KEY, before INTEGER NOT NULL) WITHOUT ROWID;
";

/// The database's file in the data folder.
pub(crate) const FILE: &str = "catalog.db";
/// Name in `number` of the revision up to which deleted keys are forgotten.
pub(crate) const FORGOTTEN: &str = "meta-forgotten";

/// A handle on the database. Shared by every port in it.
#[derive(Debug)]
pub(crate) struct Db {
    inbox: Mutex<Option<mpsc::Sender<Box<dyn Operation>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    readers: Readers,
    signals: Signals,
}

impl Db {
    /// Opens or creates `catalog.db` and starts its writer.
    pub(crate) fn open(folder: &Folder, room: Room, clock: Arc<dyn Clock>) -> Result<Self> {
        let path: PathBuf = folder.join(FILE);
        let unusable = |e: rusqlite::Error| unusable(&path, e.into());
        let conn = connect(&path).map_err(unusable)?;
        let counters = Counters {
            revision: last_revision(&conn).map_err(unusable)?,
            // Those of an earlier run that are still good must not come back, whatever the clock says. From the time on, with room for 65 536 leases a millisecond.
            token: ((clock.now().0 << 16) & i64::MAX.unsigned_abs())
                .max(last_token(&conn).map_err(unusable)?),
        };
        let signals = Signals {
            revision: watch::Sender::new(counters.revision),
            lanes: Arc::new(Lanes::new(depths(&conn).map_err(unusable)?)),
        };
        let (inbox, receiver) = mpsc::channel(INBOX);
        let disk = Disk { room, log: LogFile::of(&path), is_low: false };
        let jumps = Jumps::of(&*clock);
        let writer = Writer { disk, conn, clock, jumps, counters, signals: signals.clone() };
        let held = folder.clone();
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                writer.run(receiver);
                // Nobody else may open the folder while this thread writes.
                drop(held);
            })
            .map_err(Error::internal)?;
        Ok(Self {
            inbox: Mutex::new(Some(inbox)),
            thread: Mutex::new(Some(thread)),
            readers: Readers::new(path),
            signals,
        })
    }

    /// Runs `op` in the writer and waits until its effect is durable. `op` may run twice if the first transaction is rolled back; if it
    /// refuses it must not have written anything.
    pub(crate) async fn write<T, F>(&self, op: F) -> Result<T>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, Failure> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let inbox = inbox.ok_or_else(fault::closed)?;
        inbox.send(writer::operation(op, reply)).await.map_err(|_| fault::closed())?;
        drop(inbox);
        answer.await.map_err(|_| fault::closed())?
    }

    /// Runs `read` on a reader; it sees everything that was answered before.
    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T>
    where
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
        T: Send + 'static,
    {
        self.readers.read(read).await
    }

    /// The newest committed revision, now and as it changes.
    pub(crate) fn revision(&self) -> watch::Receiver<u64> {
        self.signals.revision.subscribe()
    }

    /// What waits in the queue's lanes.
    pub(crate) fn lanes(&self) -> &Lanes {
        &self.signals.lanes
    }

    /// Whether [`Db::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Finishes what was accepted, refuses the rest, and ends the writer.
    pub(crate) async fn close(&self) -> Result<()> {
        drop(self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.readers.close().await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever waits for messages or changes finds the store closed.
        self.signals.lanes.close();
        self.signals.revision.send_modify(|_| {});
        match thread {
            None => Ok(()),
            Some(t) => tokio::task::spawn_blocking(move || t.join())
                .await
                .map_err(Error::internal)?
                .map_err(|_| Error::internal("the store's writer panicked")),
        }
    }
}

/// What makes the database at `path` unusable, unless the failure has a name of its own.
pub(crate) fn unusable(path: &Path, failure: Failure) -> Error {
    match Error::from(failure) {
        e if e.code() == model::Code::Internal => {
            fault::unusable(path, "cannot be opened").with_source(e)
        }
        e => e,
    }
}

/// Opens or creates the database at `path`.
pub(crate) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    conn.pragma_update(None, "journal_size_limit", LOG_LIMIT_BYTES)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    // A plan is made once, whatever values come: without it those of leases were made again for each, a quarter of the writer's time
    // (https://sqlite.org/queryplanner-ng.html, section 4).
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    conn.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} {QUEUE} COMMIT;"))?;
    Ok(conn)
}

/// What waits in each lane. One look at an index: a million messages take a fraction of a second.
fn depths(conn: &Connection) -> rusqlite::Result<HashMap<Lane, Depth>> {
    conn.prepare("SELECT lane, count(*), sum(bytes) FROM queued WHERE state = 0 GROUP BY lane")?
        .query_map([], |row| {
            let depth = Depth { messages: row.get(1)?, bytes: row.get(2)? };
            Ok((queue::lane(row, 0)?, depth))
        })?
        .collect()
}

fn last_token(conn: &Connection) -> rusqlite::Result<u64> {
    let token = "SELECT coalesce(max(token), 0) FROM queued WHERE token IS NOT NULL";
    conn.query_row(token, [], |row| row.get(0))
}

fn last_revision(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row(
        "SELECT max(coalesce((SELECT max(revision) FROM document), 0),
                    coalesce((SELECT value FROM number WHERE name = ?1), 0))",
        [FORGOTTEN],
        |row| row.get(0),
    )
}

/// A number as SQLite keeps it; what is beyond 63 bits is as good as infinite.
pub(crate) fn int<N: TryInto<i64>>(n: N) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}
