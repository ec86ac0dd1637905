//! A few read-only connections to one database, opened when first needed.
//!
//! A read runs on a blocking thread and sees everything that was committed before it began.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use model::{Error, Result};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use crate::fault::{self, Failure};

/// Reads at once per database; further ones wait.
const READERS: usize = 4;
/// Page cache of one reader, in KiB; SQLite takes it as it is needed.
const CACHE_KIB: i64 = 1024;

/// Clones share the connections.
#[derive(Clone, Debug)]
pub(crate) struct Readers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// For the database at `path`, which need not exist yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        let permits = Arc::new(Semaphore::new(READERS));
        Self(Arc::new(Inner { path, permits, idle: Mutex::default() }))
    }

    /// Runs `read` in one read transaction; `unavailable` once closed.
    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T>
    where
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
        T: Send + 'static,
    {
        let permit =
            Arc::clone(&self.0.permits).acquire_owned().await.map_err(|_| fault::closed())?;
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let result = this.read_blocking(read);
            drop(permit);
            result
        })
        .await
        .map_err(Error::internal)?
        .map_err(Error::from)
    }

    fn read_blocking<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(c) => c,
            None => self.connect()?,
        };
        let transaction = connection.transaction()?;
        let result = read(&transaction);
        transaction.finish()?;
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        result
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        // Not SQLITE_OPEN_READ_ONLY: a reader of a write-ahead log writes its place into the shared-memory file.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.0.path, flags)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        Ok(connection)
    }

    /// Waits for reads that run, refuses further ones and closes the connections.
    pub(crate) async fn close(&self) {
        // Fails only if it is closed already, and then there is nothing to wait for.
        let all = u32::try_from(READERS).unwrap_or(u32::MAX);
        drop(self.0.permits.acquire_many(all).await);
        self.0.permits.close();
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
