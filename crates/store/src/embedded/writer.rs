//! The one thread that writes the catalogue database.
//!
//! It gathers what waits in its channel, at most [`BATCH_MAX`] operations, runs it as one transaction and answers when that is on
//! disk: many callers share one `fsync`. An operation that refuses (a lost compare-and-set) has written nothing and leaves its neighbours
//! alone. If the database fails, the whole batch is rolled back and each operation runs again in a transaction of its own, so that only those
//! that cannot succeed fail.

use std::sync::Arc;

use model::Result;
use model::clock::{Clock, Jump, Jumps, UnixMillis};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::queue::lanes::{LaneChange, Lanes};
use super::queue::recover;
use super::room::{Left, LogFile, Room};
use crate::fault::{self, Failure};

/// Operations per transaction.
const BATCH_MAX: usize = 512;
/// Size of the write-ahead log at which it is folded into the database where little of the disk is left, in bytes.
const LOG_LOW_BYTES: u64 = 256 << 10;

/// What an operation sees while it runs.
pub(crate) struct Tx<'a> {
    /// The transaction.
    pub(crate) conn: &'a Connection,
    /// The time; the same for the whole batch.
    pub(crate) now: UnixMillis,
    counters: &'a mut Counters,
    effects: &'a mut Effects,
    disk: &'a Disk,
}

impl Tx<'_> {
    /// The revision for a change of metadata; watches hear of it after the commit.
    pub(crate) fn next_revision(&mut self) -> u64 {
        self.counters.revision += 1;
        self.effects.revision = Some(self.counters.revision);
        self.counters.revision
    }

    /// A token that no lease had before.
    pub(crate) fn next_token(&mut self) -> u64 {
        self.counters.token += 1;
        self.counters.token
    }

    /// Takes room on the disk for something new of so many bytes. To be called before anything is written.
    ///
    /// Errors: `storage-full`.
    pub(crate) fn take_room(&mut self, bytes: u64) -> Result<()> {
        let disk = self.disk;
        let left = self.effects.left.get_or_insert_with(|| disk.room.look_in(self.conn, &disk.log));
        // Once in the log, once in the database.
        left.as_mut().map_or(Ok(()), |left| left.take(bytes.saturating_mul(2)))
    }

    /// After the commit, the queue's memory knows of it, and whoever watches that.
    pub(crate) fn lane_changed(&mut self, change: LaneChange) {
        self.effects.lanes.push(change);
    }
}

/// Numbers handed out by the writer. Those of a rolled-back transaction are skipped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    /// The last revision given.
    pub(crate) revision: u64,
    /// The last token given.
    pub(crate) token: u64,
}

/// Whom to wake after a commit.
#[derive(Debug, Default)]
struct Effects {
    revision: Option<u64>,
    lanes: Vec<LaneChange>,
    /// What is left of the disk, once somebody has asked; none if nobody knows.
    left: Option<Option<Left>>,
}

/// How the writer tells others what it committed.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    /// The newest committed revision.
    pub(crate) revision: watch::Sender<u64>,
    /// What waits in the queue's lanes.
    pub(crate) lanes: Arc<Lanes>,
}

/// An operation in the channel; it may run twice, but takes effect once.
pub(crate) trait Operation: Send {
    /// Nobody waits for the answer any more.
    fn abandoned(&self) -> bool;
    /// Runs it and keeps the outcome. An error means that the transaction has to be rolled back.
    fn apply(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    /// Sends the outcome, or why the commit failed.
    fn answer(self: Box<Self>, committed: rusqlite::Result<()>);
}

struct Closure<F, T> {
    run: F,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

/// Makes an operation of a closure. A closure that refuses must not have written anything.
pub(crate) fn operation<T, F>(run: F, reply: oneshot::Sender<Result<T>>) -> Box<dyn Operation>
where
    F: FnMut(&mut Tx<'_>) -> Result<T, Failure> + Send + 'static,
    T: Send + 'static,
{
    Box::new(Closure { run, outcome: None, reply })
}

impl<T, F> Operation for Closure<F, T>
where
    F: FnMut(&mut Tx<'_>) -> Result<T, Failure> + Send,
    T: Send,
{
    fn abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn apply(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.outcome = Some(match (self.run)(tx) {
            Ok(value) => Ok(value),
            Err(Failure::Refused(e)) => Err(e),
            Err(Failure::Database(e)) => return Err(e),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, committed: rusqlite::Result<()>) {
        let result = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Err(e), _) => Err(fault::database(e)),
            (Ok(()), None) => return,
        };
        // The caller may have gone away; what was done stays done.
        drop(self.reply.send(result));
    }
}

/// The disk that is written to.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) room: Room,
    pub(crate) log: LogFile,
    /// Little was left when somebody asked last.
    pub(crate) is_low: bool,
}

/// The state of the thread.
pub(crate) struct Writer {
    pub(crate) disk: Disk,
    pub(crate) conn: Connection,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) jumps: Jumps,
    pub(crate) counters: Counters,
    pub(crate) signals: Signals,
}

impl Writer {
    /// Runs until the channel is closed and empty, then folds the write-ahead log into the database.
    pub(crate) fn run(mut self, mut inbox: mpsc::Receiver<Box<dyn Operation>>) {
        let mut batch = Vec::new();
        while let Some(first) = inbox.blocking_recv() {
            batch.push(first);
            while batch.len() < BATCH_MAX
                && let Ok(next) = inbox.try_recv()
            {
                batch.push(next);
            }
            batch.retain(|op| !op.abandoned());
            if let Some(jump) = self.jumps.look(&*self.clock) {
                self.follow(jump);
            }
            self.commit(&mut batch);
        }
        if let Err((_, e)) = self.conn.close() {
            tracing::warn!(error = %e, "closing the catalogue database failed");
        }
    }

    /// The wall clock was set, and what waits is not to be late for it.
    fn follow(&self, jump: Jump) {
        match recover::follow(&self.conn, jump, self.clock.now()) {
            Ok(changed) => tracing::warn!(?jump, changed, "the clock was set"),
            Err(e) => {
                tracing::error!(?jump, error = %e, "the clock was set, and queued calls cannot follow it")
            }
        }
        self.signals.lanes.all_due();
    }

    fn commit(&mut self, batch: &mut Vec<Box<dyn Operation>>) {
        if self.disk.is_low && self.disk.log.bytes() > LOG_LOW_BYTES {
            self.fold();
        }
        let result = self.transact(batch).or_else(|e| {
            if !fault::is_full(&e) {
                return Err(e);
            }
            self.disk.is_low = true;
            self.fold();
            self.transact(batch)
        });
        match result {
            Ok(()) => batch.drain(..).for_each(|op| op.answer(Ok(()))),
            Err(e) if batch.len() == 1 => {
                tracing::warn!(error = %e, "a write to the catalogue database failed");
                if let Some(op) = batch.pop() {
                    op.answer(Err(e));
                }
            }
            Err(e) => {
                tracing::debug!(error = %e, operations = batch.len(), "a batch failed; one by one");
                for mut op in batch.drain(..) {
                    let result = self.transact(std::slice::from_mut(&mut op));
                    op.answer(result);
                }
            }
        }
    }

    /// Folds the write-ahead log into the database and gives its room back, as far as readers let it.
    fn fold(&self) {
        let folded = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = folded {
            tracing::debug!(%error, "the write-ahead log cannot be folded");
        }
    }

    /// All operations in one transaction; on an error none has taken effect.
    fn transact(&mut self, ops: &mut [Box<dyn Operation>]) -> rusqlite::Result<()> {
        let mut effects = Effects::default();
        let result = self.attempt(ops, &mut effects);
        if let Some(Some(left)) = effects.left {
            self.disk.is_low = left.is_low();
        }
        if result.is_err() {
            // Some errors roll back by themselves (https://sqlite.org/lang_transaction.html, section 3).
            if !self.conn.is_autocommit() {
                self.conn.execute_batch("ROLLBACK")?;
            }
            return result;
        }
        // Before the answers: whoever has one finds `revision()` and the watches at least that far.
        if let Some(revision) = effects.revision {
            self.signals.revision.send_replace(revision);
        }
        self.signals.lanes.apply(&effects.lanes);
        Ok(())
    }

    fn attempt(
        &mut self,
        ops: &mut [Box<dyn Operation>],
        effects: &mut Effects,
    ) -> rusqlite::Result<()> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut tx = Tx {
            conn: &self.conn,
            now: self.clock.now(),
            counters: &mut self.counters,
            effects,
            disk: &self.disk,
        };
        for op in ops {
            op.apply(&mut tx)?;
        }
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}
