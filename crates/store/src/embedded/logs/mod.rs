//! Log lines. Written by one thread in blocks of some 256 KiB, found again through an index that knows what each block holds.
//!
//! | module | what it holds |
//! |---|---|
//! | `shared` | lines in memory, where appenders, queries and the writer meet |
//! | `writer` | the thread; the order of its steps is what makes a crash harmless |
//! | `chunk`, `line`, `frame` | lines as bytes: in memory, one by one, and in files |
//! | `segments`, `journal` | the two kinds of file: blocks for good, and what does not fill a block yet |
//! | `index`, `summary` | which blocks may hold what a query asks for |
//! | `search`, `tail` | queries and live tails |
//! | `recover` | start after whatever happened |
//!
//! Lines are numbered in the order of their arrival. Deleting a function's lines notes the number of the next line: those before it show no
//! more, at once; their bytes go when their segment is the oldest and all together are over their limit.

mod chunk;
mod frame;
mod index;
mod journal;
mod line;
mod recover;
mod search;
mod segments;
mod shared;
mod summary;
mod tail;
mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use model::ids::{FunctionKey, FunctionRef};
use model::ports::{LogLine, LogQuery, LogTail, Logs};
use model::{Error, Result};

use self::search::Search;
use self::shared::Shared;
use super::db::{Db, int};
use super::readers::Readers;
use crate::format::Folder;

pub(crate) use self::recover::LogLimits;

/// [`Logs`] in a folder.
#[derive(Debug)]
pub(crate) struct EmbeddedLogs {
    shared: Arc<Shared>,
    folder: PathBuf,
    index: Readers,
    db: Arc<Db>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedLogs {
    /// Opens `logs/` and starts its writer. `db` keeps what was deleted.
    pub(crate) async fn open(folder: &Folder, limits: LogLimits, db: Arc<Db>) -> Result<Self> {
        let path = folder.join("logs");
        let deleted = load_deleted(&db).await?;
        let at = path.clone();
        let writer = tokio::task::spawn_blocking(move || recover::recover(&at, limits, deleted))
            .await
            .map_err(Error::internal)??;
        let shared = Arc::clone(&writer.shared);
        let held = folder.clone();
        let thread = thread::Builder::new()
            .name("store-logs".into())
            .spawn(move || {
                writer.run();
                // Nobody else may open the folder while this thread writes.
                drop(held);
            })
            .map_err(Error::internal)?;
        let index = Readers::new(path.join(recover::INDEX_FILE));
        Ok(Self { shared, folder: path, index, db, thread: Mutex::new(Some(thread)) })
    }

    /// Forgets deletions of which no line is left on disk.
    pub(crate) async fn forget_deleted(&self) -> Result<()> {
        let Some(oldest) = self.index.read(|conn| Ok(index::oldest(conn)?)).await? else {
            return Ok(());
        };
        self.shared.forget_hidden(oldest);
        self.db
            .write(move |tx| {
                tx.conn.execute("DELETE FROM log_deleted WHERE before <= ?1", [int(oldest)])?;
                Ok(())
            })
            .await
    }

    /// Makes everything durable, refuses further lines and ends the writer.
    pub(crate) async fn close(&self) -> Result<()> {
        let flushed = self.shared.flush().await;
        self.shared.close();
        self.index.close().await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        match thread {
            // Closed before.
            None => Ok(()),
            Some(thread) => {
                tokio::task::spawn_blocking(move || thread.join())
                    .await
                    .map_err(Error::internal)?
                    .map_err(|_| Error::internal("the logs' writer panicked"))?;
                flushed
            }
        }
    }
}

impl Drop for EmbeddedLogs {
    fn drop(&mut self) {
        // The thread writes what it has and ends; nobody waits for it here.
        self.shared.close();
    }
}

async fn load_deleted(db: &Db) -> Result<HashMap<FunctionKey, u64>> {
    let rows: Vec<(String, u64)> = db
        .read(|conn| {
            let rows = conn
                .prepare("SELECT function, before FROM log_deleted")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(rows)
        })
        .await?;
    rows.into_iter().map(|(key, before)| Ok((parse_key(&key)?, before))).collect()
}

fn parse_key(key: &str) -> Result<FunctionKey> {
    let (namespace, name) = key
        .split_once('/')
        .ok_or_else(|| Error::internal(format!("a function in log_deleted is '{key}'")))?;
    Ok(FunctionRef::parse(namespace, name)?.key)
}

#[async_trait]
impl Logs for EmbeddedLogs {
    fn append(&self, lines: Vec<LogLine>) -> usize {
        self.shared.append(&lines)
    }

    async fn flush(&self) -> Result<()> {
        self.shared.flush().await
    }

    async fn query(&self, query: LogQuery) -> Result<Vec<LogLine>> {
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        let snapshot = self.shared.snapshot(&query.function);
        let folder = self.folder.clone();
        let search = Search::new(query);
        self.index.read(move |conn| search.run(conn, &folder, &snapshot)).await
    }

    fn tail(&self, query: LogQuery) -> Box<dyn LogTail> {
        Box::new(self.shared.tails.start(query))
    }

    async fn delete(&self, function: &FunctionKey) -> Result<()> {
        let before = self.shared.next_seq();
        let key = function.to_string();
        self.db
            .write(move |tx| {
                tx.conn
                    .prepare_cached(
                        "INSERT INTO log_deleted (function, before) VALUES (?1, ?2)
                         ON CONFLICT (function) DO UPDATE SET before = max(before, excluded.before)",
                    )?
                    .execute((&key, int(before)))?;
                Ok(())
            })
            .await?;
        self.shared.hide(function.clone(), before);
        Ok(())
    }
}
