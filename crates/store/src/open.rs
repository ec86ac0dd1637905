//! From a location to a backend. Today a location is a folder of this machine.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::clock::Clock;
use model::ports::{Blobs, Bus, Lease, Logs, Meta, NodeId, Queue, Usage};
use model::tasks::Tasks;
use model::{Error, Result};

use crate::embedded::blobs::EmbeddedBlobs;
use crate::embedded::bus::EmbeddedBus;
use crate::embedded::db::Db;
use crate::embedded::lease::EmbeddedLease;
use crate::embedded::logs::{EmbeddedLogs, LogLimits};
use crate::embedded::meta::EmbeddedMeta;
use crate::embedded::queue::EmbeddedQueue;
use crate::embedded::queue::files::Files;
use crate::embedded::room::Room;
use crate::embedded::usage::EmbeddedUsage;
use crate::format::Folder;

/// Default of [`StoreConfig::logs_bytes_max`]: 2 GiB.
const LOGS_BYTES_MAX: u64 = 2 << 30;
/// Default of [`StoreConfig::logs_memory_bytes_max`]: 32 MiB.
const LOGS_MEMORY_BYTES_MAX: usize = 32 << 20;
/// Default of [`StoreConfig::reserve_bytes`]: 64 MiB.
pub const RESERVE_BYTES: u64 = 64 << 20;
/// How often what has had its time is forgotten.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(60);

/// Where the store is and how large it may grow.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data folder; made if there is none.
    pub path: PathBuf,
    /// What other daemons know this one by.
    pub node: NodeId,
    /// Most bytes of log lines on disk, compressed and with their index; beyond, the oldest go.
    pub logs_bytes_max: u64,
    /// Most bytes of log lines in memory that are not on disk yet; beyond, new ones are dropped.
    pub logs_memory_bytes_max: usize,
    /// Free space of the disk below which new messages and packages are refused, in bytes, so that what was accepted can end; at most a sixteenth of the disk.
    pub reserve_bytes: u64,
}

impl StoreConfig {
    /// The folder `path` with every default.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            node: NodeId("local".into()),
            logs_bytes_max: LOGS_BYTES_MAX,
            logs_memory_bytes_max: LOGS_MEMORY_BYTES_MAX,
            reserve_bytes: RESERVE_BYTES,
        }
    }
}

/// Every port of one store.
#[derive(Clone, Debug)]
pub struct Store {
    /// Metadata.
    pub meta: Arc<dyn Meta>,
    /// Packages.
    pub blobs: Arc<dyn Blobs>,
    /// Asynchronous calls.
    pub queue: Arc<dyn Queue>,
    /// Messages between nodes.
    pub bus: Arc<dyn Bus>,
    /// Who may do what only one may.
    pub lease: Arc<dyn Lease>,
    /// What functions wrote.
    pub logs: Arc<dyn Logs>,
    /// What ran, metered.
    pub usage: Arc<dyn Usage>,
    parts: Arc<Parts>,
}

/// What has to be closed.
#[derive(Debug)]
struct Parts {
    db: Arc<Db>,
    blobs: EmbeddedBlobs,
    payloads: Files,
    logs: Arc<EmbeddedLogs>,
    /// Held until the store is closed, or the last of us is gone.
    folder: Mutex<Option<Folder>>,
}

impl Store {
    /// Makes everything durable, ends the store's threads and closes its files; then another daemon may open the folder. Whatever is
    /// asked of a port afterwards fails with `unavailable`. An error means that log lines of the last second may be lost.
    pub async fn close(&self) -> Result<()> {
        // First the logs: deletions of theirs are in the database.
        let logs = self.parts.logs.close().await;
        self.parts.blobs.close().await;
        self.parts.payloads.close().await;
        self.parts.db.close().await?;
        drop(self.parts.folder.lock().unwrap_or_else(PoisonError::into_inner).take());
        logs
    }
}

/// Opens the store, makes it if there is none. `storage-unusable` if the folder is in use, of a newer format, damaged or not ours.
///
/// `tasks` runs the housekeeping and nothing else: the store works on after the tasks are drained, until [`Store::close`].
pub async fn open(config: StoreConfig, clock: Arc<dyn Clock>, tasks: &Tasks) -> Result<Store> {
    let path = config.path.clone();
    let (at, for_db, reserve) = (path, Arc::clone(&clock), config.reserve_bytes);
    let (folder, db, blobs, payloads) = tokio::task::spawn_blocking(move || {
        let folder = Folder::open(&at)?;
        let room = Room::new(folder.join(""), reserve);
        let db = Db::open(&folder, room.clone(), for_db)?;
        let blobs = EmbeddedBlobs::open(&folder, room.clone())?;
        let payloads = Files::open(&folder, room)?;
        Ok::<_, Error>((folder, Arc::new(db), blobs, payloads))
    })
    .await
    .map_err(Error::internal)??;
    let limits =
        LogLimits { disk_bytes: config.logs_bytes_max, memory_bytes: config.logs_memory_bytes_max };
    let logs = Arc::new(EmbeddedLogs::open(&folder, limits, Arc::clone(&db)).await?);
    let meta = EmbeddedMeta::new(Arc::clone(&db));
    let queue = EmbeddedQueue::new(Arc::clone(&db), payloads.clone());
    tasks.spawn_until_cancelled(
        "store-housekeeping",
        housekeeping(Arc::clone(&clock), meta.clone(), queue.clone(), Arc::clone(&logs)),
    );
    Ok(Store {
        meta: Arc::new(meta),
        blobs: Arc::new(blobs.clone()),
        queue: Arc::new(queue),
        bus: Arc::new(EmbeddedBus::new(config.node, Arc::clone(&clock))),
        lease: Arc::new(EmbeddedLease::new(Arc::clone(&db), clock)),
        logs: Arc::clone(&logs) as Arc<dyn Logs>,
        usage: Arc::new(EmbeddedUsage::new(Arc::clone(&db))),
        parts: Arc::new(Parts { db, blobs, payloads, logs, folder: Mutex::new(Some(folder)) }),
    })
}

/// Forgets what has had its time, until the store is closed.
async fn housekeeping(
    clock: Arc<dyn Clock>,
    meta: EmbeddedMeta,
    queue: EmbeddedQueue,
    logs: Arc<EmbeddedLogs>,
) {
    loop {
        let result = async {
            meta.forget_deletions().await?;
            queue.purge().await?;
            logs.forget_deleted().await
        }
        .await;
        match result {
            Ok(()) => {}
            Err(e) if e.code() == model::Code::Unavailable => return,
            Err(e) => tracing::warn!(error = %e, "housekeeping of the store failed"),
        }
        clock.sleep_until(clock.instant() + HOUSEKEEPING_EVERY).await;
    }
}
