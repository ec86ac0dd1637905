//! The thread that makes lines durable: full chunks become blocks, the rest goes to the journal once a second or when asked.
//!
//! Order of a block's steps: into the segment and to disk, into the index, out of memory; then the journal is emptied. A crash between
//! any two loses nothing: what is in the segment and not in the index is found again at start, what is in both a block and the journal
//! is told apart by its sequence number.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Error, Result};

use super::chunk::Chunk;
use super::frame;
use super::index::{self, Block, Index};
use super::journal::Journal;
use super::segments::{self, Segments};
use super::shared::Shared;
use super::summary::Summary;
use crate::fault;

/// How long a line may stay only in memory.
pub(super) const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) folder: PathBuf,
    pub(super) segments: Segments,
    pub(super) index: Index,
    pub(super) journal: Journal,
    /// Segments with their sizes, oldest first.
    pub(super) sizes: VecDeque<(u64, u64)>,
    /// Most bytes of all segments.
    pub(super) bytes_max: u64,
    /// Lines before this one are on disk.
    pub(super) durable: u64,
}

impl Writer {
    /// Runs until the logs are closed and everything that can be written is.
    pub(super) fn run(mut self) {
        let (mut flush_at, mut stuck) = (None, false);
        loop {
            let work = self.shared.wait(self.durable, &mut flush_at, stuck);
            let result = self.work(work.flush.is_some());
            if let Err(e) = &result {
                if !stuck {
                    tracing::warn!(error = %e, source = ?std::error::Error::source(e), "logs cannot be written; they stay in memory while there is room");
                }
                // Not at once again: the next attempt is when the time is up or somebody asks.
                flush_at = Some(Instant::now() + FLUSH_EVERY);
            } else if work.flush.is_some() {
                flush_at = None;
            }
            stuck = result.is_err();
            if let Some(attempt) = work.flush {
                self.shared.set_flushed(attempt, result.as_ref().map(|_| ()));
            }
            if work.end {
                return;
            }
        }
    }

    fn work(&mut self, flush: bool) -> Result<()> {
        while let Some(chunk) = self.shared.oldest_full() {
            self.write_block(&chunk)?;
            self.durable = self.durable.max(chunk.end());
            self.shared.drop_oldest_full();
            self.journal.clear().map_err(fault::file)?;
            self.keep_within_size();
        }
        if flush && let Some(lines) = self.shared.unjournaled() {
            self.journal.append(&lines).map_err(fault::file)?;
            self.durable = self.durable.max(lines.end());
            self.shared.set_journaled(&lines);
        }
        Ok(())
    }

    fn write_block(&mut self, chunk: &Chunk) -> Result<()> {
        let frame = frame::compressed(chunk.first_seq, chunk.count, &chunk.bytes)
            .map_err(Error::internal)?;
        let (segment, offset) =
            self.segments.append(chunk.first_seq, &frame).map_err(fault::file)?;
        let length = u64::try_from(frame.len()).map_err(Error::internal)?;
        let block =
            Block { first_seq: chunk.first_seq, count: chunk.count, segment, offset, length };
        if let Err(e) = self.index.insert(&block, &Summary::of(&chunk.bytes)) {
            self.segments.take_back(offset);
            return Err(fault::database(e));
        }
        match self.sizes.back_mut() {
            Some((newest, bytes)) if *newest == segment => *bytes += index::cost(length),
            _ => self.sizes.push_back((segment, index::cost(length))),
        }
        Ok(())
    }

    /// Removes the oldest segments while all together are too large; never the one that grows.
    fn keep_within_size(&mut self) {
        let mut total: u64 = self.sizes.iter().map(|(_, bytes)| bytes).sum();
        while total > self.bytes_max
            && let Some((segment, bytes)) = self.sizes.front().copied()
            && self.segments.newest() != Some(segment)
        {
            let removed = self
                .index
                .remove_segment(segment)
                .map_err(fault::database)
                .and_then(|()| segments::remove(&self.folder, segment).map_err(fault::file));
            if let Err(e) = removed {
                tracing::warn!(error = %e, segment, "an old log segment cannot be removed");
                return;
            }
            total -= bytes;
            self.sizes.pop_front();
        }
    }
}
