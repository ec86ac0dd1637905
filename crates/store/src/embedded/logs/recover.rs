//! From what lies in the folder to a writer that goes on: makes index and segments agree, reads the journal.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use model::ids::FunctionKey;
use model::{Error, Result};

use super::index::Index;
use super::journal::Journal;
use super::segments::{self, Segments};
use super::shared::Shared;
use super::summary::Summary;
use super::writer::Writer;
use crate::fault;

/// Name of the index within the folder.
pub(super) const INDEX_FILE: &str = "index.db";
const JOURNAL_FILE: &str = "journal";
/// A segment is this part of all of them, within bounds: removing the oldest then removes little.
const SEGMENTS: u64 = 16;
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// Limits of the logs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogLimits {
    /// Most bytes on disk.
    pub(crate) disk_bytes: u64,
    /// Most bytes in memory that are not on disk yet.
    pub(crate) memory_bytes: usize,
}

/// Opens the folder, which may be empty.
pub(super) fn recover(
    folder: &Path,
    limits: LogLimits,
    deleted: HashMap<FunctionKey, u64>,
) -> Result<Writer> {
    fs::create_dir_all(folder).map_err(|e| fault::unusable_file(folder, "creating it", e))?;
    let mut index = Index::open(&folder.join(INDEX_FILE)).map_err(fault::database)?;
    let known = segments::list(folder).map_err(fault::file)?;
    for segment in index.segments().map_err(fault::database)? {
        if !known.contains(&segment) {
            index.remove_segment(segment).map_err(fault::database)?;
        }
    }
    let mut newest = None;
    for segment in known {
        newest = Some((segment, reconcile(folder, segment, &mut index)?));
    }
    let bytes_max = (limits.disk_bytes / SEGMENTS).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    let segments = Segments::open(folder.to_owned(), bytes_max, newest).map_err(fault::file)?;
    let in_blocks = index.next_seq().map_err(fault::database)?;
    let (journal, lines) =
        Journal::open(&folder.join(JOURNAL_FILE), in_blocks).map_err(fault::file)?;
    // A function's deletion counts for numbers that were given and lost in a crash, too: they must not be given again.
    let next_seq = deleted.values().copied().fold(lines.end(), u64::max);
    let durable = next_seq;
    let sizes = index.sizes().map_err(fault::database)?.into();
    let shared = Shared::new(lines, next_seq, deleted, limits.memory_bytes);
    Ok(Writer {
        shared: Arc::new(shared),
        folder: folder.to_owned(),
        segments,
        index,
        journal,
        sizes,
        bytes_max: limits.disk_bytes,
        durable,
    })
}

/// Makes the index say what the segment holds; answers where its last whole block ends.
fn reconcile(folder: &Path, segment: u64, index: &mut Index) -> Result<u64> {
    let length = fs::metadata(segments::path(folder, segment)).map_err(fault::file)?.len();
    index.remove_beyond(segment, length).map_err(fault::database)?;
    let end = index.end_of(segment).map_err(fault::database)?;
    if end == length {
        return Ok(end);
    }
    segments::scan(folder, segment, end, |block, raw| {
        index.insert(block, &Summary::of(raw)).map_err(Found::Database)
    })
    .map_err(Error::from)
}

/// Errors while a segment is scanned.
enum Found {
    File(io::Error),
    Database(rusqlite::Error),
}

impl From<io::Error> for Found {
    fn from(e: io::Error) -> Self {
        Self::File(e)
    }
}

impl From<Found> for Error {
    fn from(found: Found) -> Self {
        match found {
            Found::File(e) => fault::file(e),
            Found::Database(e) => fault::database(e),
        }
    }
}
