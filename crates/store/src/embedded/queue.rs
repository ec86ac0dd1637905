//! The queue as one table, in which a message stays from its enqueue until it is forgotten.
//!
//! A lease moves the time at which a message is due to its own end, so an expired lease needs nobody to notice it. What memory knows besides is in
//! [`lanes`]. Leasing is in [`take`], reading in [`show`], who has a key in [`keys`], what follows a kill or a clock that was set in [`recover`].

mod keys;
pub(crate) mod lanes;
mod notes;
pub(crate) mod recover;
pub(crate) mod schema;
mod show;
mod take;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::clock::UnixMillis;
use model::ids::RequestId;
use model::ports::{
    Again, Batch, Begun, CutNote, DEDUPE_WINDOW, Depth, End, Ended, Enqueued, Lane, LaneWatch,
    Listing, NewMessage, Queue, Record, Standing, Summary, Token,
};
use model::{Code, Error, Result};
use rusqlite::{OptionalExtension, Row};

use self::lanes::LaneChange;
use self::schema::INLINE_BYTES;
use super::db::{Db, Tx, int};
use crate::fault::Failure;

/// Rows that one step of [`EmbeddedQueue::purge`] deletes: others get the writer in between.
const PURGE_ROWS: usize = 500;

/// [`Queue`] in the catalogue database.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddedQueue {
    db: Arc<Db>,
}

impl EmbeddedQueue {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// Forgets what has ended and was kept long enough, and keys whose window is over.
    pub(crate) async fn purge(&self) -> Result<()> {
        while self.db.write(purge_some).await? == PURGE_ROWS {}
        Ok(())
    }

    /// Changes the message if it is on lease under `token`, else fails with `conflict`.
    async fn settle<F>(&self, id: RequestId, token: Token, change: F) -> Result<()>
    where
        F: Fn(&mut Tx<'_>, &Message) -> Result<(), Failure> + Send + 'static,
    {
        self.db
            .write(move |tx| {
                let found = find(tx, id)?.filter(|m| m.is_active() && m.token == Some(token));
                change(tx, &found.ok_or_else(|| stale(id))?)
            })
            .await
    }
}

/// What a change has to know of a message.
struct Message {
    seq: i64,
    lane: Lane,
    state: u8,
    due_at: UnixMillis,
    keep_until: UnixMillis,
    token: Option<Token>,
    bytes: i64,
    notes: Option<Vec<u8>>,
}

impl Message {
    /// Reads what [`find`] selects.
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            lane: lane(row, 1)?,
            state: row.get(2)?,
            due_at: UnixMillis(row.get(3)?),
            keep_until: UnixMillis(row.get(4)?),
            token: row.get::<_, Option<u64>>(5)?.map(Token),
            bytes: row.get(6)?,
            notes: row.get(7)?,
        })
    }

    fn is_active(&self) -> bool {
        self.state == 0
    }

    /// It waits no more, or again.
    fn change(&self, messages: i64, due: bool) -> LaneChange {
        LaneChange { lane: self.lane.clone(), messages, bytes: messages * self.bytes, due }
    }

    fn with_note(&self, note: Option<&Bytes>) -> Option<Vec<u8>> {
        match note {
            None => self.notes.clone(),
            Some(note) => Some(notes::append(self.notes.as_deref(), note)),
        }
    }
}

/// A lane's name as it is stored; what is stored was one.
pub(super) fn lane(row: &Row<'_>, column: usize) -> rusqlite::Result<Lane> {
    let name = row.get_ref(column)?.as_str()?;
    Lane::new(name).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e))
    })
}

fn find(tx: &Tx<'_>, id: RequestId) -> rusqlite::Result<Option<Message>> {
    tx.conn
        .prepare_cached(
            "SELECT seq, lane, state, due_at, keep_until, token, bytes, notes FROM queued
             WHERE id = ?1",
        )?
        .query_row([id.as_bytes()], Message::read)
        .optional()
}

fn state(ended: Ended) -> u8 {
    match ended {
        Ended::Succeeded => 1,
        Ended::Dead => 2,
        Ended::Cancelled => 3,
    }
}

fn stale(id: RequestId) -> Error {
    Error::caller(Code::Conflict, format!("message {id} is not on lease under this token"))
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<Enqueued>> {
        messages.iter().try_for_each(NewMessage::check)?;
        self.db.write(move |tx| messages.iter().map(|message| insert(tx, message)).collect()).await
    }

    async fn begin(&self, message: NewMessage, ttl: Duration) -> Result<Begun> {
        message.check()?;
        self.db
            .write(move |tx| {
                Ok(match insert(tx, &message)? {
                    Enqueued::New => {
                        let id = message.id;
                        let found = find(tx, id)?.ok_or_else(|| Error::not_found("message", id))?;
                        Begun::Leased(take::begin(tx, &message, found.seq, ttl)?)
                    }
                    known => Begun::Known(known),
                })
            })
            .await
    }

    async fn lease(&self, lane: &Lane, n: usize, ttl: Duration) -> Result<Batch> {
        let lane = lane.clone();
        self.db.write(move |tx| take::lease(tx, &lane, n, ttl)).await
    }

    async fn extend(&self, id: RequestId, token: Token, ttl: Duration) -> Result<()> {
        self.settle(id, token, move |tx, message| {
            let due = tx.now.after(ttl);
            tx.conn
                .prepare_cached("UPDATE queued SET due_at = ?2 WHERE seq = ?1")?
                .execute((message.seq, int(due.0)))?;
            if due < message.due_at {
                tx.lane_changed(message.change(0, true));
            }
            Ok(())
        })
        .await
    }

    async fn again(&self, id: RequestId, token: Token, again: Again) -> Result<()> {
        again.check()?;
        self.settle(id, token, move |tx, message| {
            tx.conn
                .prepare_cached(
                    "UPDATE queued SET due_at = ?2, token = NULL, deliveries = deliveries - ?3,
                     notes = ?4 WHERE seq = ?1",
                )?
                .execute((
                    message.seq,
                    int(tx.now.after(again.delay).0),
                    !again.counted,
                    message.with_note(again.note.as_ref()),
                ))?;
            tx.lane_changed(message.change(0, true));
            Ok(())
        })
        .await
    }

    async fn end(&self, id: RequestId, token: Token, end: End) -> Result<()> {
        end.check()?;
        self.settle(id, token, move |tx, message| finish(tx, message, &end)).await
    }

    async fn withdraw(&self, id: RequestId, token: Token) -> Result<()> {
        self.settle(id, token, move |tx, message| {
            remove_payload(tx, message.seq)?;
            keys::free(tx, id)?;
            tx.conn.prepare_cached("DELETE FROM queued WHERE seq = ?1")?.execute([message.seq])?;
            tx.lane_changed(message.change(-1, false));
            Ok(())
        })
        .await
    }

    async fn cancel(&self, id: RequestId, note: Bytes, keep: Duration) -> Result<Standing> {
        let (as_what, note, counted) = (Ended::Cancelled, Some(note), true);
        let end = End { as_what, note, result: None, keep, counted };
        end.check()?;
        self.db
            .write(move |tx| {
                let message = find(tx, id)?.ok_or_else(|| Error::not_found("message", id))?;
                if !message.is_active() {
                    return Err(conflict(format!("message {id} has ended")).into());
                }
                finish(tx, &message, &end)?;
                Ok(match message.token {
                    None => Standing::Waiting(message.due_at),
                    Some(_) => Standing::Leased(message.due_at),
                })
            })
            .await
    }

    async fn redrive(&self, id: RequestId) -> Result<()> {
        self.db
            .write(move |tx| {
                let message = find(tx, id)?.ok_or_else(|| Error::not_found("message", id))?;
                if message.state != state(Ended::Dead) {
                    return Err(conflict(format!("message {id} is not dead")).into());
                }
                tx.conn
                    .prepare_cached(
                        "UPDATE queued SET state = 0, tier = 0, due_at = ?2, enqueued_at = ?2,
                         ended_at = NULL, deliveries = 0, result = NULL WHERE seq = ?1",
                    )?
                    .execute((message.seq, int(tx.now.0)))?;
                tx.lane_changed(message.change(1, true));
                Ok(())
            })
            .await
    }

    async fn forget(&self, id: RequestId) -> Result<bool> {
        self.db
            .write(move |tx| match find(tx, id)? {
                None => Ok(false),
                Some(message) if message.is_active() => {
                    Err(conflict(format!("message {id} has not ended")).into())
                }
                Some(message) => {
                    remove_payload(tx, message.seq)?;
                    keys::free(tx, id)?;
                    tx.conn
                        .prepare_cached("DELETE FROM queued WHERE seq = ?1")?
                        .execute([message.seq])?;
                    Ok(true)
                }
            })
            .await
    }

    async fn reclaim(&self, note: CutNote) -> Result<usize> {
        self.db.write(move |tx| recover::reclaim(tx, &note)).await
    }

    async fn find(&self, id: RequestId) -> Result<Option<Record>> {
        self.db.read(move |conn| Ok(show::record(conn, id)?)).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<Summary>> {
        self.db.read(move |conn| show::list(conn, &listing)).await
    }

    fn depths(&self) -> Vec<(Lane, Depth)> {
        self.db.lanes().depths()
    }

    fn depth(&self, lane: &Lane) -> Depth {
        self.db.lanes().depth(lane)
    }

    fn watch(&self) -> Box<dyn LaneWatch> {
        Box::new(self.db.lanes().watch())
    }
}

fn conflict(message: String) -> Error {
    Error::caller(Code::Conflict, message)
}

fn insert(tx: &mut Tx<'_>, message: &NewMessage) -> Result<Enqueued, Failure> {
    let refusal = message.key.map(|key| keys::refusal(tx, &key)).transpose()?.flatten();
    if let Some(refusal) = refusal {
        return Ok(refusal);
    }
    let forgotten_at = tx.now.after(DEDUPE_WINDOW);
    let keep_until = message.key.map_or(forgotten_at, |key| key.until.max(forgotten_at));
    let inline = (message.payload.len() <= INLINE_BYTES).then(|| message.payload.as_ref());
    let inserted = tx
        .conn
        .prepare_cached(
            "INSERT INTO queued (id, lane, state, tier, due_at, enqueued_at, keep_until, deliveries, bytes, payload)
             VALUES (?1, ?2, 0, 0, ?3, ?4, ?5, 0, ?6, ?7) ON CONFLICT (id) DO NOTHING",
        )?
        .execute((
            message.id.as_bytes(),
            message.lane.as_str(),
            int(message.run_at.0),
            int(tx.now.0),
            int(keep_until.0),
            int(message.payload.len()),
            inline,
        ))?;
    if inserted == 0 {
        return Ok(Enqueued::Duplicate(message.id));
    }
    if inline.is_none() {
        tx.conn
            .prepare_cached("INSERT INTO queued_payload (seq, payload) VALUES (?1, ?2)")?
            .execute((tx.conn.last_insert_rowid(), message.payload.as_ref()))?;
    }
    if let Some(key) = message.key {
        keys::give(tx, &key, message.id)?;
    }
    let (lane, bytes) = (message.lane.clone(), int(message.payload.len()));
    tx.lane_changed(LaneChange { lane, messages: 1, bytes, due: true });
    Ok(Enqueued::New)
}

/// Ends an active message.
fn finish(tx: &mut Tx<'_>, message: &Message, end: &End) -> Result<(), Failure> {
    let forget_at = tx.now.after(end.keep).max(message.keep_until);
    let dead = end.as_what == Ended::Dead;
    tx.conn
        .prepare_cached(
            "UPDATE queued SET state = ?2, due_at = ?3, ended_at = ?4, token = NULL, notes = ?5, result = ?6,
             payload = CASE ?7 WHEN 1 THEN payload END, deliveries = deliveries - ?8 WHERE seq = ?1",
        )?
        .execute((
            message.seq,
            state(end.as_what),
            int(forget_at.0),
            int(tx.now.0),
            message.with_note(end.note.as_ref()),
            end.result.as_deref(),
            dead,
            !end.counted,
        ))?;
    if !dead && message.bytes > int(INLINE_BYTES) {
        remove_payload(tx, message.seq)?;
    }
    tx.lane_changed(message.change(-1, false));
    Ok(())
}

fn remove_payload(tx: &Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    tx.conn.prepare_cached("DELETE FROM queued_payload WHERE seq = ?1")?.execute([seq])?;
    Ok(())
}

/// One step of a purge; says how many messages it forgot.
fn purge_some(tx: &mut Tx<'_>) -> Result<usize, Failure> {
    let now = int(tx.now.0);
    let old: Vec<i64> = tx
        .conn
        .prepare_cached("SELECT seq FROM queued WHERE state > 0 AND due_at <= ?1 LIMIT ?2")?
        .query_map((now, int(PURGE_ROWS)), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for seq in &old {
        remove_payload(tx, *seq)?;
        tx.conn.prepare_cached("DELETE FROM queued WHERE seq = ?1")?.execute([seq])?;
    }
    keys::purge(tx, PURGE_ROWS)?;
    Ok(old.len())
}
