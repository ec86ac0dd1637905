//! Where blocks lie and what they hold, in a database of its own (`logs/index.db`).
//!
//! Everything in it can be made again from the segments, so it is written without waiting for the disk, and thrown away if damaged.

use std::fs;
use std::io;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::summary::{Filter, Summary};
use crate::embedded::db::int;

/// Page cache of the writer, in KiB.
const CACHE_KIB: i64 = 1024;
/// Bytes that a block costs besides its frame: its two filters, roughly.
const BLOCK_OVERHEAD_BYTES: u64 = 13 * 1024;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS block (
    first_seq INTEGER PRIMARY KEY, count INTEGER NOT NULL, segment INTEGER NOT NULL,
    offset INTEGER NOT NULL, length INTEGER NOT NULL, min_time INTEGER NOT NULL, max_time INTEGER NOT NULL,
    requests BLOB NOT NULL, triples BLOB NOT NULL);
-- Answers what a start asks without reading the filters.
CREATE INDEX IF NOT EXISTS block_segment ON block (segment, offset, length);
CREATE TABLE IF NOT EXISTS block_function (
    function INTEGER NOT NULL, first_seq INTEGER NOT NULL,
    PRIMARY KEY (function, first_seq)) WITHOUT ROWID;
";

/// Place of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Sequence number of its first line.
    pub(super) first_seq: u64,
    /// Lines.
    pub(super) count: u32,
    /// The segment it is in.
    pub(super) segment: u64,
    /// Where in the segment.
    pub(super) offset: u64,
    /// Bytes of its frame.
    pub(super) length: u64,
}

/// The writer's connection.
#[derive(Debug)]
pub(super) struct Index {
    conn: Connection,
}

impl Index {
    /// Opens or creates the index; a damaged one is thrown away.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        match Self::connect(path) {
            Err(rusqlite::Error::SqliteFailure(e, _))
                if matches!(
                    e.code,
                    rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt
                ) =>
            {
                tracing::warn!(path = %path.display(), "the index of the logs is damaged; making it anew");
                for suffix in ["", "-wal", "-shm"] {
                    let mut file = path.as_os_str().to_owned();
                    file.push(suffix);
                    match fs::remove_file(&file) {
                        Err(e) if e.kind() != io::ErrorKind::NotFound => {
                            return Err(rusqlite::Error::ToSqlConversionFailure(e.into()));
                        }
                        _ => {}
                    }
                }
                Self::connect(path)
            }
            other => other,
        }
    }

    fn connect(path: &Path) -> rusqlite::Result<Self> {
        let conn = Connection::open(path)?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        conn.pragma_update(None, "synchronous", "NORMAL")?;
        conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT;"))?;
        Ok(Self { conn })
    }

    /// Adds a block.
    pub(super) fn insert(&mut self, block: &Block, summary: &Summary) -> rusqlite::Result<()> {
        let tx = self.conn.transaction()?;
        tx.prepare_cached("INSERT OR REPLACE INTO block VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)")?
            .execute((
                int(block.first_seq),
                block.count,
                int(block.segment),
                int(block.offset),
                int(block.length),
                int(summary.min_time.0),
                int(summary.max_time.0),
                &summary.requests.0,
                &summary.triples.0,
            ))?;
        let mut insert =
            tx.prepare_cached("INSERT OR IGNORE INTO block_function VALUES (?1, ?2)")?;
        for function in &summary.functions {
            insert.execute((function, int(block.first_seq)))?;
        }
        drop(insert);
        tx.commit()
    }

    /// Where the known part of a segment ends.
    pub(super) fn end_of(&self, segment: u64) -> rusqlite::Result<u64> {
        self.conn
            .prepare_cached(
                "SELECT coalesce(max(offset + length), 0) FROM block WHERE segment = ?1",
            )?
            .query_row([int(segment)], |row| row.get(0))
    }

    /// Removes blocks that lie beyond the end of their segment or in none.
    pub(super) fn remove_beyond(&self, segment: u64, end: u64) -> rusqlite::Result<()> {
        self.conn.execute(
            "DELETE FROM block WHERE segment = ?1 AND offset + length > ?2",
            (int(segment), int(end)),
        )?;
        Ok(())
    }

    /// Removes a segment's blocks.
    pub(super) fn remove_segment(&mut self, segment: u64) -> rusqlite::Result<()> {
        let tx = self.conn.transaction()?;
        tx.execute("DELETE FROM block WHERE segment = ?1", [int(segment)])?;
        tx.execute(
            "DELETE FROM block_function
             WHERE first_seq < coalesce((SELECT min(first_seq) FROM block), 9223372036854775807)",
            [],
        )?;
        tx.commit()
    }

    /// Every segment that has blocks.
    pub(super) fn segments(&self) -> rusqlite::Result<Vec<u64>> {
        self.conn
            .prepare("SELECT DISTINCT segment FROM block ORDER BY segment")?
            .query_map([], |row| row.get(0))?
            .collect()
    }

    /// Sequence number after the last line in any block.
    pub(super) fn next_seq(&self) -> rusqlite::Result<u64> {
        let last = self
            .conn
            .query_row(
                "SELECT first_seq + count FROM block ORDER BY first_seq DESC LIMIT 1",
                [],
                |row| row.get(0),
            )
            .optional()?;
        Ok(last.unwrap_or(0))
    }

    /// Bytes on disk of each segment with its part of this index, oldest first.
    pub(super) fn sizes(&self) -> rusqlite::Result<Vec<(u64, u64)>> {
        self.conn
            .prepare(
                "SELECT segment, sum(length), count(*) FROM block GROUP BY segment ORDER BY segment",
            )?
            .query_map([], |row| {
                let (bytes, blocks): (u64, u64) = (row.get(1)?, row.get(2)?);
                Ok((row.get(0)?, bytes + cost(0) * blocks))
            })?
            .collect()
    }
}

/// Bytes on disk of a block, its part of the index included.
pub(super) fn cost(length: u64) -> u64 {
    length + BLOCK_OVERHEAD_BYTES
}

/// Sequence number of the oldest line in any block.
pub(super) fn oldest(conn: &Connection) -> rusqlite::Result<Option<u64>> {
    conn.query_row("SELECT min(first_seq) FROM block", [], |row| row.get(0))
}

/// A block with the filters that a query asks for.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) block: Block,
    pub(super) requests: Option<Filter>,
    pub(super) triples: Option<Filter>,
}

/// Which blocks may hold what a query looks for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// [`super::summary::function`].
    pub(super) function: i64,
    /// Only lines from this one on.
    pub(super) from_seq: u64,
    /// Only blocks that begin before this line.
    pub(super) before_seq: u64,
    pub(super) since_ms: u64,
    pub(super) until_ms: u64,
    /// Whether to read the filter.
    pub(super) requests: bool,
    pub(super) triples: bool,
}

/// Shows blocks to `visit`, newest first, until it says to stop.
pub(super) fn candidates<E: From<rusqlite::Error>>(
    conn: &Connection,
    wanted: &Wanted,
    mut visit: impl FnMut(Candidate) -> Result<std::ops::ControlFlow<()>, E>,
) -> Result<(), E> {
    let mut statement = conn.prepare_cached(
        "SELECT b.first_seq, b.count, b.segment, b.offset, b.length,
                CASE WHEN :requests THEN b.requests END, CASE WHEN :triples THEN b.triples END
         FROM block_function f JOIN block b ON b.first_seq = f.first_seq
         WHERE f.function = :function AND f.first_seq < :before
           AND b.max_time >= :since AND b.min_time < :until AND b.first_seq + b.count > :from
         ORDER BY f.first_seq DESC",
    )?;
    let mut rows = statement.query(named_params! {
        ":requests": wanted.requests,
        ":triples": wanted.triples,
        ":function": wanted.function,
        ":before": int(wanted.before_seq),
        ":since": int(wanted.since_ms),
        ":until": int(wanted.until_ms),
        ":from": int(wanted.from_seq),
    })?;
    while let Some(row) = rows.next()? {
        if visit(candidate(row)?)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn candidate(row: &Row<'_>) -> rusqlite::Result<Candidate> {
    Ok(Candidate {
        block: Block {
            first_seq: row.get(0)?,
            count: row.get(1)?,
            segment: row.get(2)?,
            offset: row.get(3)?,
            length: row.get(4)?,
        },
        requests: row.get::<_, Option<Vec<u8>>>(5)?.map(Filter),
        triples: row.get::<_, Option<Vec<u8>>>(6)?.map(Filter),
    })
}
