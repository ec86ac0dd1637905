//! The queue's tables.

/// Part of the catalogue's schema. `state`: 0 waiting (`token` NULL) or on lease, 1 succeeded, 2 dead, 3 cancelled. `due_at`: when it is due; on lease, when that
/// ends; ended, when it is forgotten. `tier`: 0 never leased, 1 leased before. `keep_until`: not forgotten before. `notes`: each its length (`u32`, little-endian) and its bytes.
///
/// `queued_leased` is as small as what runs, and finds that at once among any number that wait. `queued_key` was that of format 4, and always empty.
///
/// A payload over [`INLINE_BYTES`] lies in a table of its own, or each change of its row would write all of it again; what is larger than some more lies in a
/// file, see [`files`](super::files): `what` 0 is a payload, 1 a result.
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS queued (
    seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, lane TEXT NOT NULL, state INTEGER NOT NULL, tier INTEGER NOT NULL,
    due_at INTEGER NOT NULL, enqueued_at INTEGER NOT NULL, ended_at INTEGER, keep_until INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, token INTEGER, bytes INTEGER NOT NULL, notes BLOB, result BLOB, payload BLOB);
CREATE INDEX IF NOT EXISTS queued_due ON queued (lane, tier, due_at, bytes) WHERE state = 0;
CREATE INDEX IF NOT EXISTS queued_ended ON queued (state, lane) WHERE state > 0;
CREATE INDEX IF NOT EXISTS queued_forget ON queued (due_at) WHERE state > 0;
CREATE INDEX IF NOT EXISTS queued_lane ON queued (lane);
CREATE INDEX IF NOT EXISTS queued_leased ON queued (seq) WHERE token IS NOT NULL;
CREATE TABLE IF NOT EXISTS queued_payload (seq INTEGER PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS queued_file (
    seq INTEGER NOT NULL, what INTEGER NOT NULL, name BLOB NOT NULL, PRIMARY KEY (seq, what)) WITHOUT ROWID;
DROP TABLE IF EXISTS queued_key;
CREATE TABLE IF NOT EXISTS queued_once (
    key BLOB PRIMARY KEY, id BLOB NOT NULL, until INTEGER NOT NULL, print BLOB) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS queued_once_until ON queued_once (until);
CREATE INDEX IF NOT EXISTS queued_once_id ON queued_once (id);
";

/// Largest payload that lies in the message's row, in bytes: half a page of the database.
pub(crate) const INLINE_BYTES: usize = 2048;
