//! Leasing.

use std::time::Duration;

use bytes::Bytes;
use model::clock::UnixMillis;
use model::ids::RequestId;
use model::ports::{Batch, FRESH_PER_RETRIED, LEASE_MESSAGES, Lane, Leased, NewMessage, Token};
use rusqlite::{Connection, OptionalExtension, Row};

use super::files::{self, Name, What};
use crate::embedded::db::{Tx, int};
use crate::fault::Failure;

/// Bytes of payload after which a lease takes no further message.
const LEASE_BYTES: usize = 16 << 20;

/// A due message.
struct Due {
    seq: i64,
    id: RequestId,
    deliveries: u32,
    enqueued_at: UnixMillis,
    bytes: usize,
    payload: Option<Vec<u8>>,
}

impl Due {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            id: RequestId::from_bytes(row.get(1)?),
            deliveries: row.get(2)?,
            enqueued_at: UnixMillis(row.get(3)?),
            bytes: row.get(4)?,
            payload: row.get(5)?,
        })
    }
}

/// See [`model::ports::Queue::lease`]. Says as well which payloads lie in files.
pub(super) fn lease(
    tx: &mut Tx<'_>,
    lane: &Lane,
    n: usize,
    ttl: Duration,
) -> Result<(Batch, Vec<(RequestId, Name)>), Failure> {
    let n = n.min(LEASE_MESSAGES);
    let fresh = due(tx, lane, 0, n)?;
    let retried = due(tx, lane, 1, n)?;
    let end = tx.now.after(ttl);
    let (mut messages, mut bytes) = (Vec::with_capacity(n.min(fresh.len() + retried.len())), 0);
    let (mut left, mut apart) = (false, Vec::new());
    for due in interleave(fresh, retried).take(n) {
        if bytes >= LEASE_BYTES {
            left = true;
            break;
        }
        bytes += due.bytes;
        if due.bytes > files::PAYLOAD_BYTES
            && let Some(name) = files::named(tx.conn, due.seq, What::Payload)?
        {
            apart.push((due.id, name));
        }
        messages.push(take(tx, due, end)?);
    }
    if left {
        return Ok((Batch { messages, next_due: Some(tx.now) }, apart));
    }
    // After the leases: the first of them to expire may be the next that is due.
    let next_due = match (next_due(tx, lane, 0)?, next_due(tx, lane, 1)?) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Ok((Batch { messages, next_due }, apart))
}

/// The due messages of a tier, at most `n`, those due first at the front.
fn due(tx: &Tx<'_>, lane: &Lane, tier: u8, n: usize) -> rusqlite::Result<Vec<Due>> {
    tx.conn
        .prepare_cached(
            "SELECT seq, id, deliveries, enqueued_at, bytes, payload FROM queued
             WHERE state = 0 AND lane = ?1 AND tier = ?2 AND due_at <= ?3
             ORDER BY due_at, seq LIMIT ?4",
        )?
        .query_map((lane.as_str(), tier, int(tx.now.0), int(n)), Due::read)?
        .collect()
}

fn next_due(tx: &Tx<'_>, lane: &Lane, tier: u8) -> rusqlite::Result<Option<UnixMillis>> {
    tx.conn
        .prepare_cached(
            "SELECT min(due_at) FROM queued
             WHERE state = 0 AND lane = ?1 AND tier = ?2 AND due_at > ?3",
        )?
        .query_row((lane.as_str(), tier, int(tx.now.0)), |row| row.get::<_, Option<u64>>(0))
        .optional()
        .map(|found| found.flatten().map(UnixMillis))
}

/// [`FRESH_PER_RETRIED`] of the first for each of the second, while both last.
fn interleave(fresh: Vec<Due>, retried: Vec<Due>) -> impl Iterator<Item = Due> {
    let (mut fresh, mut retried) = (fresh.into_iter(), retried.into_iter());
    let mut turn = 0;
    std::iter::from_fn(move || {
        turn += 1;
        if turn % (FRESH_PER_RETRIED + 1) == 0 {
            retried.next().or_else(|| fresh.next())
        } else {
            fresh.next().or_else(|| retried.next())
        }
    })
}

/// Leases a message that was stored just now.
pub(super) fn begin(
    tx: &mut Tx<'_>,
    message: &NewMessage,
    ttl: Duration,
) -> rusqlite::Result<Leased> {
    let (deliveries, end) = (1, tx.now.after(ttl));
    let seq = find_seq(tx, message.id)?;
    let token = hold(tx, seq, deliveries, end)?;
    let (id, enqueued_at, payload) = (message.id, tx.now, message.payload.clone());
    Ok(Leased { id, token, deliveries, enqueued_at, payload })
}

fn find_seq(tx: &Tx<'_>, id: RequestId) -> rusqlite::Result<i64> {
    tx.conn
        .prepare_cached("SELECT seq FROM queued WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))
}

/// Puts a message on lease.
fn hold(tx: &mut Tx<'_>, seq: i64, deliveries: u32, end: UnixMillis) -> rusqlite::Result<Token> {
    let token = Token(tx.next_token());
    tx.conn
        .prepare_cached(
            "UPDATE queued SET tier = 1, due_at = ?2, deliveries = ?3, token = ?4 WHERE seq = ?1",
        )?
        .execute((seq, int(end.0), deliveries, int(token.0)))?;
    Ok(token)
}

fn take(tx: &mut Tx<'_>, due: Due, end: UnixMillis) -> rusqlite::Result<Leased> {
    let deliveries = due.deliveries.saturating_add(1);
    let token = hold(tx, due.seq, deliveries, end)?;
    let payload = match due.payload {
        Some(payload) => payload,
        None if due.bytes > files::PAYLOAD_BYTES => Vec::new(),
        None => apart(tx.conn, due.seq)?,
    };
    let (id, enqueued_at) = (due.id, due.enqueued_at);
    Ok(Leased { id, token, deliveries, enqueued_at, payload: Bytes::from(payload) })
}

/// A payload that lies in the table of its own.
pub(super) fn apart(conn: &Connection, seq: i64) -> rusqlite::Result<Vec<u8>> {
    conn.prepare_cached("SELECT payload FROM queued_payload WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))
}
