//! 3 → 4: the queue keeps what has ended, and its messages wait in lanes.
//!
//! | format 3 | format 4 |
//! |---|---|
//! | `message`: waiting and leased | `queued`, state 0, in the lane of the function that the message's envelope names |
//! | `dead_message` | `queued`, dead, with the reason as its note |
//! | `settled_0`, `settled_1`: ids of the last minutes | `queued`, succeeded, without anything but the id |

use std::path::Path;

use model::Result;
use model::clock::{Clock as _, SystemClock, UnixMillis};
use model::ports::{DEDUPE_WINDOW, Lane};
use rusqlite::{Connection, Transaction};
use serde::Deserialize;

use crate::embedded::db::{self, int};
use crate::embedded::queue::schema::INLINE_BYTES;
use crate::fault::Failure;

/// How long dead messages are kept from here on, as format 3 did.
const DEAD_RETENTION_MS: u64 = 14 * 24 * 3600 * 1000;
/// The lane of what names no function: nobody will run it, and the daemon says so when it tries.
const NOWHERE: &str = "default/unknown";

/// The step: all in one transaction, so that it has been done or not.
pub(super) fn keep_what_has_ended(folder: &Path) -> Result<()> {
    let path = folder.join(db::FILE);
    let mut conn = db::connect(&path).map_err(|e| db::unusable(&path, e.into()))?;
    convert(&mut conn).map_err(|e| db::unusable(&path, e))
}

fn convert(conn: &mut Connection) -> Result<(), Failure> {
    let tx = conn.transaction()?;
    if !tx.table_exists(None, "message")? {
        return Ok(());
    }
    waiting(&tx)?;
    dead(&tx)?;
    settled(&tx)?;
    tx.execute_batch(
        "DROP TABLE message; DROP TABLE dead_message; DROP TABLE settled_0; DROP TABLE settled_1;",
    )?;
    tx.commit()?;
    Ok(())
}

fn waiting(tx: &Transaction<'_>) -> Result<(), Failure> {
    let mut old = tx.prepare(
        "SELECT id, due_at, enqueued_at, deliveries, token, payload FROM message ORDER BY seq",
    )?;
    let mut new = tx.prepare(
        "INSERT INTO queued (id, lane, state, tier, due_at, enqueued_at, keep_until, deliveries, token, bytes, payload)
         VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let mut rows = old.query([])?;
    while let Some(row) = rows.next()? {
        let (enqueued_at, deliveries): (u64, u32) = (row.get(2)?, row.get(3)?);
        let (token, payload): (Option<i64>, Vec<u8>) = (row.get(4)?, row.get(5)?);
        let tried = deliveries > 0 || token.is_some();
        new.execute((
            row.get::<_, [u8; 16]>(0)?,
            lane(&payload),
            tried,
            row.get::<_, i64>(1)?,
            int(enqueued_at),
            int(UnixMillis(enqueued_at).after(DEDUPE_WINDOW).0),
            deliveries,
            token,
            int(payload.len()),
            inline(&payload),
        ))?;
        apart(tx, &payload)?;
    }
    Ok(())
}

fn dead(tx: &Transaction<'_>) -> Result<(), Failure> {
    let mut old = tx.prepare(
        "SELECT id, reason, deliveries, dead_at, payload FROM dead_message ORDER BY seq",
    )?;
    let mut new = tx.prepare(
        "INSERT INTO queued (id, lane, state, tier, due_at, enqueued_at, ended_at, keep_until, deliveries, bytes, notes, payload)
         VALUES (?1, ?2, 2, 1, ?3, ?4, ?4, ?3, ?5, ?6, ?7, ?8)",
    )?;
    let mut rows = old.query([])?;
    while let Some(row) = rows.next()? {
        let (reason, deliveries): (String, u32) = (row.get(1)?, row.get(2)?);
        let (dead_at, payload): (u64, Vec<u8>) = (row.get(3)?, row.get(4)?);
        let note = serde_json::json!({
            "at": dead_at, "attempt": deliveries, "outcome": "given-up", "message": reason,
        });
        new.execute((
            row.get::<_, [u8; 16]>(0)?,
            lane(&payload),
            int(dead_at.saturating_add(DEAD_RETENTION_MS)),
            int(dead_at),
            deliveries,
            int(payload.len()),
            noted(&note.to_string()),
            inline(&payload),
        ))?;
        apart(tx, &payload)?;
    }
    Ok(())
}

/// When they were settled is not known: they are kept for a whole window from now.
fn settled(tx: &Transaction<'_>) -> Result<(), Failure> {
    let now = SystemClock.now();
    let forget_at = int(now.after(DEDUPE_WINDOW).0);
    for table in ["settled_0", "settled_1"] {
        tx.execute(
            &format!(
                "INSERT OR IGNORE INTO queued
                 (id, lane, state, tier, due_at, enqueued_at, ended_at, keep_until, deliveries, bytes)
                 SELECT id, ?1, 1, 1, ?2, ?3, ?3, ?2, 1, 0 FROM {table}"
            ),
            (NOWHERE, forget_at, int(now.0)),
        )?;
    }
    Ok(())
}

/// One note, as the queue keeps it.
fn noted(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes(), text.as_bytes()].concat()
}

fn inline(payload: &[u8]) -> Option<&[u8]> {
    (payload.len() <= INLINE_BYTES).then_some(payload)
}

fn apart(tx: &Transaction<'_>, payload: &[u8]) -> Result<(), Failure> {
    if payload.len() > INLINE_BYTES {
        tx.prepare_cached("INSERT INTO queued_payload (seq, payload) VALUES (?1, ?2)")?
            .execute((tx.last_insert_rowid(), payload))?;
    }
    Ok(())
}

/// What of a message's envelope says whose it is: `u32` length, JSON, payload.
#[derive(Deserialize)]
struct Envelope {
    target: Target,
}

#[derive(Deserialize)]
struct Target {
    namespace: String,
    name: String,
}

/// The lane that a message belongs to, by its envelope.
fn lane(message: &[u8]) -> String {
    let named = || {
        let (length, rest) = message.split_first_chunk()?;
        let envelope = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let Envelope { target } = serde_json::from_slice(envelope).ok()?;
        let name = format!("{}/{}", target.namespace, target.name);
        Lane::new(&name).is_ok().then_some(name)
    };
    named().unwrap_or_else(|| NOWHERE.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_whose_it_is() {
        let head = br#"{"v":1,"target":{"namespace":"a","name":"f","qualifier":"$LATEST"},"context":{"hops":0}}"#;
        let length = u32::try_from(head.len()).unwrap().to_le_bytes();
        assert_eq!(lane(&[&length[..], head, b"x"].concat()), "a/f");
        for damaged in [&b""[..], b"\x01", b"\xff\xff\xff\xff{}", b"\x02\0\0\0{}"] {
            assert_eq!(lane(damaged), NOWHERE);
        }
    }
}
