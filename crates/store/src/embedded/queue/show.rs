//! Looking at messages.

use bytes::Bytes;
use model::Error;
use model::clock::UnixMillis;
use model::ids::RequestId;
use model::ports::{Ended, LIST_MAX, ListedStanding, Listing, Record, Standing, Summary};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::files::{self, Name, What};
use super::take::apart;
use super::{lane, notes};
use crate::embedded::db::int;
use crate::fault::Failure;

/// What [`summary`] reads.
const COLUMNS: &str =
    "seq, id, lane, state, due_at, enqueued_at, ended_at, deliveries, token, bytes";

fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    let (due_at, ended_at) = (UnixMillis(row.get(4)?), row.get::<_, Option<u64>>(6)?);
    let ended = |as_what| Standing::Ended(as_what, UnixMillis(ended_at.unwrap_or_default()));
    Ok(Summary {
        id: RequestId::from_bytes(row.get(1)?),
        lane: lane(row, 2)?,
        standing: match row.get::<_, u8>(3)? {
            1 => ended(Ended::Succeeded),
            2 => ended(Ended::Dead),
            3 => ended(Ended::Cancelled),
            _ if row.get::<_, Option<i64>>(8)?.is_some() => Standing::Leased(due_at),
            _ => Standing::Waiting(due_at),
        },
        enqueued_at: UnixMillis(row.get(5)?),
        deliveries: row.get(7)?,
        bytes: row.get(9)?,
    })
}

/// See [`model::ports::Queue::find`]. Says as well which files hold the payload and the result, if they do.
pub(super) fn record(
    conn: &Connection,
    id: RequestId,
) -> rusqlite::Result<Option<(Record, [Option<Name>; 2])>> {
    let found = conn
        .prepare_cached(&format!(
            "SELECT {COLUMNS}, notes, result, payload FROM queued WHERE id = ?1"
        ))?
        .query_row([id.as_bytes()], |row| {
            let notes: Option<Vec<u8>> = row.get(10)?;
            let record = Record {
                summary: summary(row)?,
                notes: notes::read(notes.as_deref().unwrap_or_default()),
                result: row.get::<_, Option<Vec<u8>>>(11)?.map(Bytes::from),
                payload: row.get::<_, Option<Vec<u8>>>(12)?.map(Bytes::from),
            };
            Ok((row.get::<_, i64>(0)?, record))
        })
        .optional()?;
    let Some((seq, mut record)) = found else { return Ok(None) };
    let files = [What::Payload, What::Result].map(|what| files::named(conn, seq, what));
    let [payload, result] = files;
    let files = [payload?, result?];
    let kept =
        !matches!(record.summary.standing, Standing::Ended(Ended::Succeeded | Ended::Cancelled, _));
    if kept && record.payload.is_none() && files[0].is_none() {
        record.payload = Some(Bytes::from(apart(conn, seq)?));
    }
    Ok(Some((record, files)))
}

/// See [`model::ports::Queue::list`].
pub(super) fn list(conn: &Connection, listing: &Listing) -> Result<Vec<Summary>, Failure> {
    let (conditions, values) = conditions(conn, listing)?;
    let limit = listing.limit.min(LIST_MAX);
    let sql = format!(
        "SELECT {COLUMNS} FROM queued WHERE {} ORDER BY seq {} LIMIT {limit}",
        conditions.join(" AND "),
        if listing.oldest_first { "ASC" } else { "DESC" }
    );
    let found = conn
        .prepare_cached(&sql)?
        .query_map(params_from_iter(values), summary)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(found)
}

/// What a listing asks for, with the values of its `?`.
fn conditions(
    conn: &Connection,
    listing: &Listing,
) -> Result<(Vec<&'static str>, Vec<Value>), Failure> {
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    let mut only = |condition, value| {
        conditions.push(condition);
        values.push(value);
    };
    if let Some(after) = listing.after {
        let seq: Option<i64> = conn
            .prepare_cached("SELECT seq FROM queued WHERE id = ?1")?
            .query_row([after.as_bytes()], |row| row.get(0))
            .optional()?;
        let behind = if listing.oldest_first { "seq > ?" } else { "seq < ?" };
        only(behind, Value::Integer(seq.ok_or_else(|| Error::not_found("message", after))?));
    }
    if let Some(lane) = &listing.lane {
        only("lane = ?", Value::Text(lane.as_str().to_owned()));
    } else if let Some(end) = after_prefix(&listing.lane_prefix) {
        only("lane >= ?", Value::Text(listing.lane_prefix.clone()));
        only("lane < ?", Value::Text(end));
    }
    if let Some(since) = listing.since {
        only("enqueued_at >= ?", Value::Integer(int(since.0)));
    }
    if let Some(until) = listing.until {
        only("enqueued_at < ?", Value::Integer(int(until.0)));
    }
    conditions.push(match listing.standing {
        None => "1",
        Some(ListedStanding::Waiting) => "state = 0 AND token IS NULL",
        Some(ListedStanding::Leased) => "state = 0 AND token IS NOT NULL",
        // Literals, so that the index of what has ended is used.
        Some(ListedStanding::Ended(Ended::Succeeded)) => "state = 1 AND state > 0",
        Some(ListedStanding::Ended(Ended::Dead)) => "state = 2 AND state > 0",
        Some(ListedStanding::Ended(Ended::Cancelled)) => "state = 3 AND state > 0",
    });
    Ok((conditions, values))
}

/// The least text behind all that begin so, for prefixes in ASCII; none for the empty one.
fn after_prefix(prefix: &str) -> Option<String> {
    let (last, front) = prefix.as_bytes().split_last()?;
    let mut end = front.to_vec();
    end.push(last.checked_add(1)?);
    String::from_utf8(end).ok()
}
