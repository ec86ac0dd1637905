//! The queue as one table, ordered by when a message is due. A lease moves that time to its own end, so an expired lease needs nobody
//! to notice it.
//!
//! A waiting [`Queue::lease`] sleeps until the writer says that messages changed or the next message is due; it never polls.
//! De-duplication remembers settled ids in two tables that take turns every [`DEDUPE_WINDOW`]: an id is remembered for one to two windows
//! after it was settled, and while it waits it is its own reminder.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::clock::{Clock, UnixMillis};
use model::ids::RequestId;
use model::ports::{DEDUPE_WINDOW, DeadMessage, Enqueued, Leased, NewMessage, Queue, Token};
use model::{Code, Error, Result, limits};
use rusqlite::{OptionalExtension, Row};

use super::db::{Db, Tx, int};
use crate::fault::Failure;

/// Largest payload, in bytes: an asynchronous call's plus its envelope.
const PAYLOAD_BYTES: usize = limits::ASYNC_PAYLOAD_BYTES + 64 * 1024;
/// Most messages of one lease, and bytes of payload after which it takes no further message.
const LEASE_MESSAGES: usize = 256;
const LEASE_BYTES: usize = 16 << 20;
/// Longest sleep of a waiting lease: bounds what a jump of the host's clock can delay.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// How long dead messages are kept (as the longest retention of Amazon SQS).
const DEAD_RETENTION: Duration = Duration::from_secs(14 * 24 * 3600);

/// Names in `number`: which generation of settled ids is filled, and since when.
const GENERATION: &str = "queue-generation";
const GENERATION_SINCE: &str = "queue-generation-since";

/// [`Queue`] in the catalogue database.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddedQueue {
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
}

impl EmbeddedQueue {
    pub(crate) fn new(db: Arc<Db>, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock }
    }

    /// Forgets settled ids beyond the window and dead messages beyond their retention.
    pub(crate) async fn purge(&self) -> Result<()> {
        self.db
            .write(|tx| {
                let cutoff = tx.now.0.saturating_sub(UnixMillis(0).after(DEAD_RETENTION).0);
                tx.conn.execute("DELETE FROM dead_message WHERE dead_at < ?1", [int(cutoff)])?;
                turn_generation(tx)
            })
            .await
    }

    /// One attempt; also when the next message that is not due yet will be.
    async fn lease_now(
        &self,
        n: usize,
        ttl: Duration,
    ) -> Result<(Vec<Leased>, Option<UnixMillis>)> {
        self.db.write(move |tx| lease(tx, n, ttl)).await
    }

    /// Changes the message if it is on lease under `token`, else fails with `conflict`.
    async fn settle<F>(&self, id: RequestId, token: Token, change: F) -> Result<()>
    where
        F: Fn(&mut Tx<'_>, &Settling) -> Result<(), Failure> + Send + 'static,
    {
        self.db
            .write(move |tx| {
                let found = tx
                    .conn
                    .prepare_cached(
                        "SELECT seq, enqueued_at FROM message WHERE id = ?1 AND token = ?2",
                    )?
                    .query_row((id.as_bytes(), int(token.0)), |row| {
                        let enqueued_at = UnixMillis(row.get(1)?);
                        Ok(Settling { seq: row.get(0)?, id, enqueued_at })
                    })
                    .optional()?;
                let found = found.ok_or_else(|| stale(id))?;
                change(tx, &found)
            })
            .await
    }
}

/// The message that a token fits.
struct Settling {
    seq: i64,
    id: RequestId,
    enqueued_at: UnixMillis,
}

fn stale(id: RequestId) -> Error {
    Error::caller(Code::Conflict, format!("message {id} is not on lease under this token"))
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<Enqueued>> {
        for message in &messages {
            check(message)?;
        }
        self.db
            .write(move |tx| {
                let mut answers = Vec::with_capacity(messages.len());
                for message in &messages {
                    answers.push(insert(tx, message)?);
                }
                if answers.contains(&Enqueued::New) {
                    tx.messages_changed();
                }
                Ok(answers)
            })
            .await
    }

    async fn lease(&self, n: usize, ttl: Duration, wait: Duration) -> Result<Vec<Leased>> {
        if n == 0 {
            return Ok(Vec::new());
        }
        let deadline = self.clock.instant() + wait;
        let messages = self.db.messages();
        loop {
            // Registered before the look: what is enqueued after it wakes us.
            let mut changed = std::pin::pin!(messages.notified());
            changed.as_mut().enable();
            let (leased, next_due) = self.lease_now(n, ttl).await?;
            let now = self.clock.instant();
            if !leased.is_empty() || now >= deadline {
                return Ok(leased);
            }
            let until_due = next_due.map_or(SLEEP_MAX, |due| self.clock.now().until(due));
            let wake = deadline.min(now + until_due.min(SLEEP_MAX));
            tokio::select! {
                () = changed => {}
                () = self.clock.sleep_until(wake) => {}
            }
        }
    }

    async fn ack(&self, id: RequestId, token: Token) -> Result<()> {
        self.settle(id, token, remove).await
    }

    async fn nack(
        &self,
        id: RequestId,
        token: Token,
        delay: Duration,
        counted: bool,
    ) -> Result<()> {
        self.settle(id, token, move |tx, message| {
            tx.conn
                .prepare_cached(
                    "UPDATE message SET due_at = ?2, token = NULL, deliveries = deliveries - ?3
                     WHERE seq = ?1",
                )?
                .execute((message.seq, int(tx.now.after(delay).0), !counted))?;
            tx.messages_changed();
            Ok(())
        })
        .await
    }

    async fn extend(&self, id: RequestId, token: Token, ttl: Duration) -> Result<()> {
        self.settle(id, token, move |tx, message| {
            tx.conn
                .prepare_cached("UPDATE message SET due_at = ?2 WHERE seq = ?1")?
                .execute((message.seq, int(tx.now.after(ttl).0)))?;
            Ok(())
        })
        .await
    }

    async fn dead(&self, id: RequestId, token: Token, reason: &str) -> Result<()> {
        let reason = reason.to_owned();
        self.settle(id, token, move |tx, message| {
            tx.conn
                .prepare_cached(
                    "INSERT OR REPLACE INTO dead_message (id, reason, deliveries, dead_at, payload)
                     SELECT id, ?2, deliveries, ?3, payload FROM message WHERE seq = ?1",
                )?
                .execute((message.seq, &reason, int(tx.now.0)))?;
            remove(tx, message)
        })
        .await
    }

    async fn dead_messages(
        &self,
        after: Option<RequestId>,
        limit: usize,
    ) -> Result<Vec<DeadMessage>> {
        self.db
            .read(move |conn| {
                let after: i64 = match after {
                    None => 0,
                    Some(id) => conn
                        .prepare_cached("SELECT seq FROM dead_message WHERE id = ?1")?
                        .query_row([id.as_bytes()], |row| row.get(0))
                        .optional()?
                        .ok_or_else(|| Error::not_found("dead message", id))?,
                };
                let messages = conn
                    .prepare_cached(
                        "SELECT id, reason, deliveries, dead_at, payload FROM dead_message
                         WHERE seq > ?1 ORDER BY seq LIMIT ?2",
                    )?
                    .query_map((after, int(limit)), dead_message)?
                    .collect::<rusqlite::Result<_>>()?;
                Ok(messages)
            })
            .await
    }

    async fn depth(&self) -> Result<u64> {
        self.db
            .read(|conn| {
                let depth = conn
                    .prepare_cached("SELECT count(*) FROM message")?
                    .query_row([], |row| row.get(0))?;
                Ok(depth)
            })
            .await
    }
}

fn check(message: &NewMessage) -> Result<()> {
    if message.partition >= limits::QUEUE_PARTITIONS {
        return Err(Error::caller(
            Code::InvalidParameter,
            format!(
                "partition {} is out of range: expected less than {}",
                message.partition,
                limits::QUEUE_PARTITIONS
            ),
        ));
    }
    if message.payload.len() > PAYLOAD_BYTES {
        return Err(Error::caller(
            Code::PayloadTooLarge,
            format!(
                "message has {} bytes: expected at most {PAYLOAD_BYTES}",
                message.payload.len()
            ),
        ));
    }
    Ok(())
}

fn insert(tx: &mut Tx<'_>, message: &NewMessage) -> Result<Enqueued, Failure> {
    let id = message.id.as_bytes();
    let inserted = tx
        .conn
        .prepare_cached(
            "INSERT INTO message (id, part, due_at, enqueued_at, deliveries, token, payload)
             SELECT ?1, ?2, ?3, ?4, 0, NULL, ?5
             WHERE NOT EXISTS (SELECT 1 FROM settled_0 WHERE id = ?1)
               AND NOT EXISTS (SELECT 1 FROM settled_1 WHERE id = ?1)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute((
            id,
            message.partition,
            int(message.run_at.0),
            int(tx.now.0),
            message.payload.as_ref(),
        ))?;
    Ok(if inserted == 1 { Enqueued::New } else { Enqueued::Duplicate })
}

fn lease(
    tx: &mut Tx<'_>,
    n: usize,
    ttl: Duration,
) -> Result<(Vec<Leased>, Option<UnixMillis>), Failure> {
    let conn = tx.conn;
    let mut found = Vec::new();
    let mut next_due = None;
    let mut select = conn.prepare_cached(
        "SELECT seq, due_at, id, deliveries, enqueued_at, payload FROM message
         ORDER BY due_at, seq LIMIT ?1",
    )?;
    let mut rows = select.query([int(n.min(LEASE_MESSAGES))])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()?
        && bytes < LEASE_BYTES
    {
        let due_at = UnixMillis(row.get(1)?);
        if due_at > tx.now {
            next_due = Some(due_at);
            break;
        }
        let message = leased(row, tx.next_token())?;
        bytes += message.payload.len();
        found.push((row.get::<_, i64>(0)?, message));
    }
    let end = int(tx.now.after(ttl).0);
    let mut update = conn.prepare_cached(
        "UPDATE message SET due_at = ?2, deliveries = ?3, token = ?4 WHERE seq = ?1",
    )?;
    for (seq, message) in &found {
        update.execute((seq, end, message.deliveries, int(message.token.0)))?;
    }
    Ok((found.into_iter().map(|(_, message)| message).collect(), next_due))
}

fn leased(row: &Row<'_>, token: u64) -> rusqlite::Result<Leased> {
    Ok(Leased {
        id: RequestId::from_bytes(row.get(2)?),
        token: Token(token),
        deliveries: row.get::<_, u32>(3)?.saturating_add(1),
        enqueued_at: UnixMillis(row.get(4)?),
        payload: Bytes::from(row.get::<_, Vec<u8>>(5)?),
    })
}

fn dead_message(row: &Row<'_>) -> rusqlite::Result<DeadMessage> {
    Ok(DeadMessage {
        id: RequestId::from_bytes(row.get(0)?),
        reason: row.get(1)?,
        deliveries: row.get(2)?,
        dead_at: UnixMillis(row.get(3)?),
        payload: Bytes::from(row.get::<_, Vec<u8>>(4)?),
    })
}

/// Takes a message out of the queue and remembers its id for as long as the window asks.
fn remove(tx: &mut Tx<'_>, message: &Settling) -> Result<(), Failure> {
    tx.conn.prepare_cached("DELETE FROM message WHERE seq = ?1")?.execute([message.seq])?;
    if message.enqueued_at.until(tx.now) < DEDUPE_WINDOW {
        let sql = match number(tx, GENERATION)?.unwrap_or_default() {
            0 => "INSERT OR IGNORE INTO settled_0 (id) VALUES (?1)",
            _ => "INSERT OR IGNORE INTO settled_1 (id) VALUES (?1)",
        };
        tx.conn.prepare_cached(sql)?.execute([message.id.as_bytes()])?;
    }
    Ok(())
}

/// Once the filled generation has been that for a whole window, what is in the other one is old enough to go.
fn turn_generation(tx: &mut Tx<'_>) -> Result<(), Failure> {
    let generation = number(tx, GENERATION)?.unwrap_or_default();
    match number(tx, GENERATION_SINCE)?.map(UnixMillis) {
        Some(since) if since <= tx.now && since.until(tx.now) < DEDUPE_WINDOW => Ok(()),
        Some(since) if since <= tx.now => {
            let other = 1 - generation.min(1);
            tx.conn.execute(&format!("DELETE FROM settled_{other}"), [])?;
            set_number(tx, GENERATION, other)?;
            set_number(tx, GENERATION_SINCE, tx.now.0)
        }
        // Never set, or the host's clock went back: a window from now.
        _ => set_number(tx, GENERATION_SINCE, tx.now.0),
    }
}

fn number(tx: &Tx<'_>, name: &str) -> rusqlite::Result<Option<u64>> {
    tx.conn
        .prepare_cached("SELECT value FROM number WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

fn set_number(tx: &Tx<'_>, name: &str, value: u64) -> Result<(), Failure> {
    tx.conn
        .prepare_cached(
            "INSERT INTO number (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )?
        .execute((name, int(value)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use model::clock::SystemClock;

    use super::*;
    use crate::format::Folder;

    /// The host's clock, but for what the wall says.
    #[derive(Debug, Default)]
    struct Wall(AtomicU64);

    #[async_trait]
    impl Clock for Wall {
        fn now(&self) -> UnixMillis {
            UnixMillis(self.0.load(Ordering::SeqCst))
        }
        fn instant(&self) -> Instant {
            SystemClock.instant()
        }
        async fn sleep_until(&self, deadline: Instant) {
            SystemClock.sleep_until(deadline).await;
        }
    }

    const WINDOW_MS: u64 = 600_000;
    const LONG: Duration = Duration::from_secs(365 * 24 * 3600);

    struct Bench {
        _temp: tempfile::TempDir,
        wall: Arc<Wall>,
        queue: EmbeddedQueue,
    }

    async fn bench() -> Bench {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        let wall = Arc::new(Wall(AtomicU64::new(1_767_225_600_000)));
        let clock: Arc<dyn Clock> = Arc::clone(&wall) as _;
        let db = Arc::new(Db::open(&folder, Arc::clone(&clock)).unwrap());
        let queue = EmbeddedQueue::new(db, clock);
        queue.purge().await.unwrap();
        Bench { _temp: temp, wall, queue }
    }

    impl Bench {
        async fn advance(&self, ms: u64) {
            self.wall.0.fetch_add(ms, Ordering::SeqCst);
            self.queue.purge().await.unwrap();
        }

        fn message(&self) -> NewMessage {
            let (run_at, payload) = (self.wall.now(), Bytes::new());
            NewMessage { id: RequestId::generate(), partition: 0, run_at, payload }
        }

        async fn is_known(&self, m: &NewMessage) -> bool {
            self.queue.enqueue(vec![m.clone()]).await.unwrap() == [Enqueued::Duplicate]
        }

        async fn lease(&self) -> Leased {
            self.queue.lease(1, LONG, Duration::ZERO).await.unwrap().remove(0)
        }
    }

    #[tokio::test]
    async fn settled_ids_are_known_for_the_window_and_forgotten_after_two() {
        let bench = bench().await;
        // Settled early and late in a generation: the shortest and the longest memory.
        for offset in [0, WINDOW_MS - 1] {
            bench.advance(offset).await;
            let m = bench.message();
            assert!(!bench.is_known(&m).await);
            let leased = bench.lease().await;
            bench.queue.ack(m.id, leased.token).await.unwrap();
            for _ in 0..10 {
                assert!(bench.is_known(&m).await);
                bench.advance(WINDOW_MS / 10).await;
            }
            bench.advance(WINDOW_MS).await;
            bench.advance(WINDOW_MS).await;
            assert!(!bench.is_known(&m).await, "remembered for ever");
            let leased = bench.lease().await;
            bench.queue.ack(m.id, leased.token).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_message_that_waits_is_its_own_reminder() {
        let bench = bench().await;
        let m = bench.message();
        assert!(!bench.is_known(&m).await);
        bench.advance(WINDOW_MS * 5).await;
        assert!(bench.is_known(&m).await);
        assert_eq!(bench.queue.depth().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn dead_messages_go_after_their_retention() {
        let bench = bench().await;
        let m = bench.message();
        assert!(!bench.is_known(&m).await);
        let leased = bench.lease().await;
        bench.queue.dead(m.id, leased.token, "no").await.unwrap();
        let days = |n: u64| n * 24 * 3600 * 1000;
        bench.advance(days(14)).await;
        assert_eq!(bench.queue.dead_messages(None, 10).await.unwrap().len(), 1);
        bench.advance(days(1)).await;
        assert_eq!(bench.queue.dead_messages(None, 10).await.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_clock_that_goes_back_forgets_nothing_early() {
        let bench = bench().await;
        let m = bench.message();
        assert!(!bench.is_known(&m).await);
        let leased = bench.lease().await;
        bench.queue.ack(m.id, leased.token).await.unwrap();
        bench.wall.0.fetch_sub(WINDOW_MS * 10, Ordering::SeqCst);
        bench.queue.purge().await.unwrap();
        bench.advance(WINDOW_MS - 1).await;
        assert!(bench.is_known(&m).await);
    }
}
