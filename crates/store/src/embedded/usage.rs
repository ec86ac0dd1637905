//! Metered use: one row per function, minute and version, added to in place.

use std::sync::Arc;

use async_trait::async_trait;
use model::Result;
use model::clock::UnixMillis;
use model::ids::Qualifier;
use model::ports::{Usage, UsageDelta, UsageQuery, UsageRow, UsageSums};
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row};

use super::db::{Db, Tx, int};
use crate::fault::Failure;

const MINUTE_MS: u64 = 60_000;

/// [`Usage`] in the catalogue database.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddedUsage {
    db: Arc<Db>,
}

impl EmbeddedUsage {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }
}

fn minute(time: UnixMillis) -> i64 {
    int(time.0 - time.0 % MINUTE_MS)
}

#[async_trait]
impl Usage for EmbeddedUsage {
    async fn add(&self, deltas: Vec<UsageDelta>) -> Result<()> {
        self.db.write(move |tx| deltas.iter().try_for_each(|delta| add(tx, delta))).await
    }

    async fn query(&self, query: UsageQuery) -> Result<Vec<UsageRow>> {
        let mut rows: Vec<UsageRow> = self
            .db
            .read(move |conn| {
                let rows = conn
                    .prepare_cached(
                        "SELECT requests, failures, cold_starts, throttles, duration_ms, memory_mb_ms,
                                bytes_in, bytes_out, minute, version
                         FROM usage WHERE function = ?1 AND minute >= ?2 AND minute < ?3",
                    )?
                    .query_map(
                        (query.function.to_string(), minute(query.since), int(query.until.0)),
                        usage_row,
                    )?
                    .collect::<rusqlite::Result<_>>()?;
                Ok(rows)
            })
            .await?;
        // Not in SQL: version 10 comes after version 9.
        rows.sort_by(|a, b| (a.minute, &a.version).cmp(&(b.minute, &b.version)));
        Ok(rows)
    }
}

/// Reads, adds and writes back: SQL's `+` turns into floating point where ours stops at the largest number.
fn add(tx: &mut Tx<'_>, delta: &UsageDelta) -> Result<(), Failure> {
    let key = (delta.function.to_string(), minute(delta.time), delta.version.to_string());
    let stored = tx
        .conn
        .prepare_cached(
            "SELECT requests, failures, cold_starts, throttles, duration_ms, memory_mb_ms,
                    bytes_in, bytes_out
             FROM usage WHERE function = ?1 AND minute = ?2 AND version = ?3",
        )?
        .query_row((&key.0, key.1, &key.2), sums)
        .optional()?;
    let mut total = stored.unwrap_or_default();
    total.add(&delta.sums);
    tx.conn
        .prepare_cached("INSERT OR REPLACE INTO usage VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)")?
        .execute((
            &key.0,
            key.1,
            &key.2,
            int(total.requests),
            int(total.failures),
            int(total.cold_starts),
            int(total.throttles),
            int(total.duration_ms),
            int(total.memory_mb_ms),
            int(total.bytes_in),
            int(total.bytes_out),
        ))?;
    Ok(())
}

fn sums(row: &Row<'_>) -> rusqlite::Result<UsageSums> {
    Ok(UsageSums {
        requests: row.get(0)?,
        failures: row.get(1)?,
        cold_starts: row.get(2)?,
        throttles: row.get(3)?,
        duration_ms: row.get(4)?,
        memory_mb_ms: row.get(5)?,
        bytes_in: row.get(6)?,
        bytes_out: row.get(7)?,
    })
}

fn usage_row(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    let version: String = row.get(9)?;
    let version: Qualifier = version
        .parse()
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(9, Type::Text, Box::new(e)))?;
    Ok(UsageRow { version, minute: UnixMillis(row.get(8)?), sums: sums(row)? })
}
