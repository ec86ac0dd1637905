//! The queue as one table, in which a message stays from its enqueue until it is forgotten; what is large lies in [`files`].
//!
//! A lease moves the time at which a message is due to its own end, so an expired lease needs nobody to notice it. What memory knows besides is in
//! [`lanes`]. Leasing is in [`take`], reading in [`show`], who has a key in [`keys`], what follows a kill or a clock that was set in [`recover`].

pub(crate) mod files;
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
    Leased, Listing, NewMessage, Queue, Record, Standing, Summary, Token,
};
use model::{Code, Error, Result};
use rusqlite::{OptionalExtension, Row};

use self::files::{Files, Name, Unnamed, What};
use self::lanes::LaneChange;
use self::schema::INLINE_BYTES;
use super::db::{Db, Tx, int};
use super::room::MESSAGE_OVERHEAD_BYTES;
use crate::fault::Failure;

/// Rows that one step of [`EmbeddedQueue::purge`] deletes: others get the writer in between.
const PURGE_ROWS: usize = 500;
/// How often a message is looked at whose files went meanwhile.
const LOOKS: usize = 3;

/// [`Queue`] in the catalogue database.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddedQueue {
    db: Arc<Db>,
    files: Files,
}

impl EmbeddedQueue {
    pub(crate) fn new(db: Arc<Db>, files: Files) -> Self {
        Self { db, files }
    }

    /// Forgets what has ended and was kept long enough, keys whose window is over, and files that nobody names.
    pub(crate) async fn purge(&self) -> Result<()> {
        loop {
            let (forgotten, gone) = self.db.write(purge_some).await?;
            self.files.remove(gone).await;
            if forgotten < PURGE_ROWS {
                return files::sweep(&self.files, &self.db).await;
            }
        }
    }

    /// Writes payloads that are too large for the database.
    async fn put_apart(&self, messages: &[NewMessage]) -> Result<Vec<Option<Unnamed>>> {
        let mut apart = Vec::with_capacity(messages.len());
        for message in messages {
            apart.push(match message.payload.len() > files::PAYLOAD_BYTES {
                true => Some(self.files.write(message.payload.clone(), false).await?),
                false => None,
            });
        }
        Ok(apart)
    }

    /// Reads payloads that lie in files into the messages of a batch. A message whose file is damaged comes with an empty payload.
    async fn fetch(&self, batch: &mut Batch, apart: Vec<(RequestId, Name)>) {
        for (id, name) in apart {
            let read = self.files.read(name).await;
            let Some(at) = batch.messages.iter().position(|m| m.id == id) else { continue };
            match read {
                Ok(payload) => batch.messages[at].payload = payload.unwrap_or_default(),
                Err(error) => {
                    // Its lease expires, and it is tried again.
                    tracing::error!(message = %id, %error, "a payload cannot be read");
                    batch.messages.remove(at);
                }
            }
        }
    }

    /// Removes files that were written for nothing. Where nobody knows what came of it, the next start knows.
    async fn take_back<T>(&self, name: Option<Name>, result: Result<T>) -> Result<T> {
        if let (Some(name), Err(error)) = (name, &result)
            && error.code() != Code::Unavailable
        {
            self.files.remove(vec![name]).await;
        }
        result
    }

    /// Stores messages, all or none; those that are new on lease from the beginning, if it is said for how long.
    async fn store(
        &self,
        messages: Vec<NewMessage>,
        lease: Option<Duration>,
    ) -> Result<(Vec<Enqueued>, Vec<Leased>)> {
        messages.iter().try_for_each(NewMessage::check)?;
        let apart = self.put_apart(&messages).await?;
        let names: Vec<Option<Name>> =
            apart.iter().map(|file| file.as_ref().map(|file| file.name)).collect();
        let within =
            messages.iter().map(|m| m.payload.len()).filter(|n| *n <= files::PAYLOAD_BYTES);
        let bytes = within.sum::<usize>() as u64 + messages.len() as u64 * MESSAGE_OVERHEAD_BYTES;
        let stored: Result<(Vec<Enqueued>, Vec<Leased>)> = self
            .db
            .write(move |tx| {
                tx.take_room(bytes)?;
                let (mut answers, mut leased) = (Vec::with_capacity(messages.len()), Vec::new());
                for (message, file) in messages.iter().zip(&apart) {
                    let answer = insert(tx, message, file.as_ref().map(|file| file.name))?;
                    if let Some(ttl) = lease.filter(|_| answer == Enqueued::New) {
                        leased.push(take::begin(tx, message, ttl)?);
                    }
                    answers.push(answer);
                }
                Ok((answers, leased))
            })
            .await;
        let unused = match &stored {
            Ok((answers, _)) => {
                let all = names.iter().zip(answers);
                all.filter(|(_, answer)| **answer != Enqueued::New)
                    .filter_map(|(n, _)| *n)
                    .collect()
            }
            // Nobody knows what came of it; the next start does.
            Err(error) if error.code() == Code::Unavailable => Vec::new(),
            Err(_) => names.into_iter().flatten().collect(),
        };
        self.files.remove(unused).await;
        stored
    }

    /// Changes the message if it is on lease under `token`, else fails with `conflict`.
    async fn settle<T, F>(&self, id: RequestId, token: Token, change: F) -> Result<T>
    where
        F: Fn(&mut Tx<'_>, &Message) -> Result<T, Failure> + Send + 'static,
        T: Send + 'static,
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
        Ok(self.store(messages, None).await?.0)
    }

    async fn begin(&self, message: NewMessage, ttl: Duration) -> Result<Begun> {
        let (answers, leased) = self.store(vec![message], Some(ttl)).await?;
        match (leased.into_iter().next(), answers.into_iter().next()) {
            (Some(leased), _) => Ok(Begun::Leased(leased)),
            (None, Some(known)) => Ok(Begun::Known(known)),
            (None, None) => Err(Error::internal("a message was stored without an answer")),
        }
    }

    async fn lease(&self, lane: &Lane, n: usize, ttl: Duration) -> Result<Batch> {
        let lane = lane.clone();
        let (mut batch, apart) = self.db.write(move |tx| take::lease(tx, &lane, n, ttl)).await?;
        self.fetch(&mut batch, apart).await;
        Ok(batch)
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
        let mut end = end;
        let apart = match end.result.take_if(|result| result.len() > files::RESULT_BYTES) {
            Some(result) => Some(self.files.write(result, true).await?),
            None => None,
        };
        let name = apart.as_ref().map(|file| file.name);
        let ended = self.settle(id, token, move |tx, message| {
            let gone = finish(tx, message, &end)?;
            if let Some(file) = &apart {
                files::put(tx.conn, message.seq, What::Result, file.name)?;
            }
            Ok(gone)
        });
        let gone = self.take_back(name, ended.await).await?;
        self.files.remove(gone).await;
        Ok(())
    }

    async fn withdraw(&self, id: RequestId, token: Token) -> Result<()> {
        let gone = self.settle(id, token, move |tx, message| {
            keys::free(tx, id)?;
            tx.lane_changed(message.change(-1, false));
            Ok(delete(tx, message.seq)?)
        });
        let gone = gone.await?;
        self.files.remove(gone).await;
        Ok(())
    }

    async fn cancel(&self, id: RequestId, note: Bytes, keep: Duration) -> Result<Standing> {
        let (as_what, note, counted) = (Ended::Cancelled, Some(note), true);
        let end = End { as_what, note, result: None, keep, counted };
        end.check()?;
        let (stood, gone) = self
            .db
            .write(move |tx| {
                let message = find(tx, id)?.ok_or_else(|| Error::not_found("message", id))?;
                if !message.is_active() {
                    return Err(conflict(format!("message {id} has ended")).into());
                }
                let gone = finish(tx, &message, &end)?;
                let stood = match message.token {
                    None => Standing::Waiting(message.due_at),
                    Some(_) => Standing::Leased(message.due_at),
                };
                Ok((stood, gone))
            })
            .await?;
        self.files.remove(gone).await;
        Ok(stood)
    }

    async fn redrive(&self, id: RequestId) -> Result<()> {
        let gone = self
            .db
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
                Ok(files::take(tx.conn, message.seq, What::Result)?)
            })
            .await?;
        self.files.remove(gone.into_iter().collect()).await;
        Ok(())
    }

    async fn forget(&self, id: RequestId) -> Result<bool> {
        let (found, gone) = self
            .db
            .write(move |tx| match find(tx, id)? {
                None => Ok((false, Vec::new())),
                Some(message) if message.is_active() => {
                    Err(conflict(format!("message {id} has not ended")).into())
                }
                Some(message) => {
                    keys::free(tx, id)?;
                    Ok((true, delete(tx, message.seq)?))
                }
            })
            .await?;
        self.files.remove(gone).await;
        Ok(found)
    }

    async fn reclaim(&self, note: CutNote) -> Result<usize> {
        self.db.write(move |tx| recover::reclaim(tx, &note)).await
    }

    async fn find(&self, id: RequestId) -> Result<Option<Record>> {
        for look in 1.. {
            let found = self.db.read(move |conn| Ok(show::record(conn, id)?)).await?;
            let Some((mut record, files)) = found else { return Ok(None) };
            let (mut read, named) = (0, files.iter().flatten().count());
            for (place, name) in [&mut record.payload, &mut record.result].into_iter().zip(files) {
                if let Some(name) = name
                    && let Some(bytes) = self.files.read(name).await?
                {
                    *place = Some(bytes);
                    read += 1;
                }
            }
            // It may have ended between the two, and its payload gone.
            if read == named || look == LOOKS {
                return Ok(Some(record));
            }
        }
        Ok(None)
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

    fn group_depth(&self, group: &str) -> Depth {
        self.db.lanes().group_depth(group)
    }

    fn watch(&self) -> Box<dyn LaneWatch> {
        Box::new(self.db.lanes().watch())
    }
}

fn conflict(message: String) -> Error {
    Error::caller(Code::Conflict, message)
}

/// `file`: where the payload lies, if it is too large for the database.
fn insert(tx: &mut Tx<'_>, message: &NewMessage, file: Option<Name>) -> Result<Enqueued, Failure> {
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
    if let Some(file) = file {
        files::put(tx.conn, tx.conn.last_insert_rowid(), What::Payload, file)?;
    } else if inline.is_none() {
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

/// Ends an active message. Returns the files that nobody names any more.
fn finish(tx: &mut Tx<'_>, message: &Message, end: &End) -> Result<Vec<Name>, Failure> {
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
    tx.lane_changed(message.change(-1, false));
    if dead || message.bytes <= int(INLINE_BYTES) {
        return Ok(Vec::new());
    }
    if message.bytes > int(files::PAYLOAD_BYTES) {
        return Ok(files::take(tx.conn, message.seq, What::Payload)?.into_iter().collect());
    }
    remove_payload(tx, message.seq)?;
    Ok(Vec::new())
}

fn remove_payload(tx: &Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    tx.conn.prepare_cached("DELETE FROM queued_payload WHERE seq = ?1")?.execute([seq])?;
    Ok(())
}

/// Forgets a message. Returns the files that nobody names any more.
fn delete(tx: &Tx<'_>, seq: i64) -> rusqlite::Result<Vec<Name>> {
    remove_payload(tx, seq)?;
    tx.conn.prepare_cached("DELETE FROM queued WHERE seq = ?1")?.execute([seq])?;
    let files = [What::Payload, What::Result].map(|what| files::take(tx.conn, seq, what));
    files.into_iter().filter_map(Result::transpose).collect()
}

/// One step of a purge; says how many messages it forgot, and which files nobody names any more.
fn purge_some(tx: &mut Tx<'_>) -> Result<(usize, Vec<Name>), Failure> {
    let now = int(tx.now.0);
    let old: Vec<i64> = tx
        .conn
        .prepare_cached("SELECT seq FROM queued WHERE state > 0 AND due_at <= ?1 LIMIT ?2")?
        .query_map((now, int(PURGE_ROWS)), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut gone = Vec::new();
    for seq in &old {
        gone.extend(delete(tx, *seq)?);
    }
    keys::purge(tx, PURGE_ROWS)?;
    Ok((old.len(), gone))
}
