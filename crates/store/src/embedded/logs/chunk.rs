//! Lines in memory: gathered in the order of their arrival until they fill a block.

use model::limits::LOG_LINE_BYTES;
use model::ports::LogLine;

use super::line;

/// Bytes of encoded lines after which a chunk is full; one block on disk.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// Most bytes of a chunk: the line that fills it may be the longest.
pub(super) const CHUNK_BYTES_MAX: usize = CHUNK_BYTES + LOG_LINE_BYTES + line::OVERHEAD_BYTES;

/// Consecutive lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Sequence number of the first line.
    pub(super) first_seq: u64,
    /// Lines.
    pub(super) count: u32,
    /// The lines, encoded.
    pub(super) bytes: Vec<u8>,
}

impl Chunk {
    pub(super) fn empty(first_seq: u64) -> Self {
        Self { first_seq, ..Self::default() }
    }

    pub(super) fn push(&mut self, line: &LogLine) {
        line::encode(line, &mut self.bytes);
        self.count += 1;
    }

    /// Sequence number after the last line.
    pub(super) fn end(&self) -> u64 {
        self.first_seq + u64::from(self.count)
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= CHUNK_BYTES
    }

    /// A copy without the first `count` lines, which take `bytes` bytes.
    pub(super) fn tail(&self, count: u32, bytes: usize) -> Self {
        Self {
            first_seq: self.first_seq + u64::from(count),
            count: self.count - count,
            bytes: self.bytes.get(bytes..).unwrap_or_default().to_vec(),
        }
    }
}
