//! Finds lines: first in memory, then in blocks, newest first, until there are enough.

use std::ops::ControlFlow;
use std::path::Path;

use model::limits::LOG_QUERY_LINES;
use model::ports::{LogLine, LogQuery};
use rusqlite::Connection;

use super::index::{self, Candidate, Wanted};
use super::line::{self, Raw};
use super::shared::Snapshot;
use super::{segments, summary};
use crate::fault::{self, Failure};

/// Bytes of text after which a query takes no further block.
const RESULT_BYTES: usize = 64 << 20;

/// A query, prepared.
#[derive(Debug)]
pub(super) struct Search {
    query: LogQuery,
    /// `query.contains` in lower case.
    contains: Option<String>,
    limit: usize,
}

/// Lines found so far: groups newest first, each oldest first.
#[derive(Debug, Default)]
struct Found {
    groups: Vec<Vec<LogLine>>,
    count: usize,
    bytes: usize,
}

impl Search {
    pub(super) fn new(query: LogQuery) -> Self {
        let contains = query.contains.as_ref().map(|s| s.to_lowercase());
        let limit = query.limit.min(LOG_QUERY_LINES);
        Self { query, contains, limit }
    }

    /// The newest lines that match, oldest first.
    pub(super) fn run(
        &self,
        conn: &Connection,
        folder: &Path,
        snapshot: &Snapshot,
    ) -> Result<Vec<LogLine>, Failure> {
        let mut found = Found::default();
        let from = snapshot.deleted_before;
        for chunk in &snapshot.chunks {
            if self.is_enough(&found) {
                break;
            }
            self.take(&mut found, chunk.first_seq, &chunk.bytes, from);
        }
        if !self.is_enough(&found) {
            self.blocks(conn, folder, snapshot.floor, from, &mut found)?;
        }
        Ok(found.groups.into_iter().rev().flatten().collect())
    }

    fn is_enough(&self, found: &Found) -> bool {
        found.count >= self.limit || found.bytes >= RESULT_BYTES
    }

    fn blocks(
        &self,
        conn: &Connection,
        folder: &Path,
        floor: u64,
        from: u64,
        found: &mut Found,
    ) -> Result<(), Failure> {
        let wanted = Wanted {
            function: summary::function(&self.query.function),
            from_seq: from,
            before_seq: floor,
            since_ms: self.query.since.map_or(0, |t| t.0),
            until_ms: self.query.until.map_or(u64::MAX, |t| t.0),
            requests: self.query.request.is_some(),
            triples: self.contains.is_some(),
        };
        index::candidates(conn, &wanted, |candidate| {
            if self.excludes(&candidate) {
                return Ok(ControlFlow::Continue(()));
            }
            match segments::read(folder, &candidate.block).map_err(fault::file)? {
                Some(raw) => self.take(found, candidate.block.first_seq, &raw, from),
                // Removed since the index was read, or damaged: the other blocks are still good.
                None => tracing::warn!(block = ?candidate.block, "a block of logs is not readable"),
            }
            Ok::<_, Failure>(if self.is_enough(found) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })
    }

    /// Whether the block certainly has nothing for us.
    fn excludes(&self, candidate: &Candidate) -> bool {
        let no_request = self
            .query
            .request
            .zip(candidate.requests.as_ref())
            .is_some_and(|(request, filter)| !summary::may_have_request(filter, request));
        let no_text = self
            .contains
            .as_ref()
            .zip(candidate.triples.as_ref())
            .is_some_and(|(text, filter)| !summary::may_have_text(filter, text));
        no_request || no_text
    }

    /// Adds the newest matching lines of a block.
    fn take(&self, found: &mut Found, first_seq: u64, bytes: &[u8], from_seq: u64) {
        let matching: Vec<Raw<'_>> = (first_seq..)
            .zip(line::decode(bytes))
            .filter(|(seq, line)| *seq >= from_seq && self.matches(line))
            .map(|(_, line)| line)
            .collect();
        let skip = matching.len().saturating_sub(self.limit - found.count);
        let group: Vec<LogLine> = matching
            .into_iter()
            .skip(skip)
            .map(|line| line.to_line(self.query.function.clone()))
            .collect();
        found.count += group.len();
        found.bytes += group.iter().map(|line| line.text.len()).sum::<usize>();
        found.groups.push(group);
    }

    /// [`LogQuery::matches`] without making a [`LogLine`] first.
    fn matches(&self, line: &Raw<'_>) -> bool {
        let q = &self.query;
        line.name == q.function.name.as_str().as_bytes()
            && line.namespace == q.function.namespace.as_str().as_bytes()
            && q.request.is_none_or(|r| line.request.as_ref() == Some(r.as_bytes()))
            && q.since.is_none_or(|t| line.time >= t)
            && q.until.is_none_or(|t| line.time < t)
            && self.contains.as_ref().is_none_or(|s| line.text().to_lowercase().contains(s))
    }
}
