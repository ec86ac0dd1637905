//! What is done to many messages at once: leases whose holders are gone come back, and a clock that was set is followed.

use model::clock::{Jump, UnixMillis};
use model::ports::{CutNote, NOTE_BYTES};
use rusqlite::{Connection, Row};

use super::lanes::LaneChange;
use super::{lane, notes};
use crate::embedded::db::{Tx, int};
use crate::fault::Failure;

/// See [`model::ports::Queue::reclaim`].
pub(super) fn reclaim(tx: &mut Tx<'_>, note: &CutNote) -> Result<usize, Failure> {
    type Cut = (i64, model::ports::Lane, u32, Option<Vec<u8>>);
    let read = |row: &Row<'_>| Ok((row.get(0)?, lane(row, 1)?, row.get(2)?, row.get(3)?));
    // No more than ran at once.
    let cut: Vec<Cut> = tx
        .conn
        .prepare_cached("SELECT seq, lane, deliveries, notes FROM queued WHERE token IS NOT NULL")?
        .query_map([], read)?
        .collect::<rusqlite::Result<_>>()?;
    for (seq, lane, deliveries, known) in &cut {
        let note = note(lane, *deliveries);
        let counted = deliveries - u32::from(note.is_none());
        let noted = match note {
            None => known.clone(),
            Some(mut note) => {
                note.truncate(NOTE_BYTES);
                Some(notes::append(known.as_deref(), &note))
            }
        };
        tx.conn
            .prepare_cached(
                "UPDATE queued SET due_at = ?2, token = NULL, notes = ?3, deliveries = ?4 WHERE seq = ?1",
            )?
            .execute((seq, int(tx.now.0), noted, counted))?;
        tx.lane_changed(LaneChange { lane: lane.clone(), messages: 0, bytes: 0, due: true });
    }
    Ok(cut.len())
}

/// The wall clock was set and says `now`: pauses and leases last as long as they would have. A look at everything that waits, which a clock that is set is rare enough for.
pub(crate) fn follow(conn: &Connection, jump: Jump, now: UnixMillis) -> rusqlite::Result<usize> {
    match jump {
        Jump::Forward(by) => conn
            .prepare_cached("UPDATE queued SET due_at = due_at + ?1 WHERE token IS NOT NULL")?
            .execute([int(by.as_millis())]),
        Jump::Back(by) => conn
            .prepare_cached(
                "UPDATE queued SET due_at = max(due_at - ?1, 0) WHERE state = 0 AND due_at > ?2",
            )?
            .execute((int(by.as_millis()), int(now.0))),
    }
}
