//! Keys of messages: who has one, and for how long.

use model::clock::UnixMillis;
use model::ids::RequestId;
use model::ports::{Enqueued, UniqueKey};
use rusqlite::OptionalExtension;

use super::find;
use crate::embedded::db::{Tx, int};

/// Why a message of this key is not stored: another has it, within its window, and beyond it until that has ended.
pub(super) fn refusal(tx: &Tx<'_>, key: &UniqueKey) -> rusqlite::Result<Option<Enqueued>> {
    let found: Option<([u8; 16], u64, Option<[u8; 32]>)> = tx
        .conn
        .prepare_cached("SELECT id, until, print FROM queued_once WHERE key = ?1")?
        .query_row([key.digest.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((id, until, print)) = found else { return Ok(None) };
    let id = RequestId::from_bytes(id);
    let held = UnixMillis(until) > tx.now || find(tx, id)?.is_some_and(|m| m.is_active());
    let differs = matches!((key.print, print), (Some(new), Some(old)) if *new.as_bytes() != old);
    Ok(held.then_some(if differs { Enqueued::Different(id) } else { Enqueued::Duplicate(id) }))
}

/// From now on the message `id` has the key.
pub(super) fn give(tx: &Tx<'_>, key: &UniqueKey, id: RequestId) -> rusqlite::Result<()> {
    tx.conn
        .prepare_cached(
            "INSERT OR REPLACE INTO queued_once (key, id, until, print) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute((
            key.digest.as_bytes(),
            id.as_bytes(),
            int(key.until.0),
            key.print.as_ref().map(model::ids::Digest::as_bytes),
        ))?;
    Ok(())
}

/// The message has its key no more.
pub(super) fn free(tx: &Tx<'_>, id: RequestId) -> rusqlite::Result<()> {
    tx.conn.prepare_cached("DELETE FROM queued_once WHERE id = ?1")?.execute([id.as_bytes()])?;
    Ok(())
}

/// Forgets some of the keys whose window is over, but for those of messages that have not ended.
pub(super) fn purge(tx: &Tx<'_>, most: usize) -> rusqlite::Result<usize> {
    tx.conn
        .prepare_cached(
            "DELETE FROM queued_once WHERE key IN (
                SELECT key FROM queued_once WHERE until <= ?1
                AND NOT EXISTS (SELECT 1 FROM queued WHERE queued.id = queued_once.id AND state = 0)
                LIMIT ?2)",
        )?
        .execute((int(tx.now.0), int(most)))
}
