//! The chunks of a stage, one segment of them in memory.

use model::Result;
use model::error::{Code, Error};
use model::map::Segment;

use super::segment::{Chunk, Chunks};
use crate::Shared;

/// See the module.
#[derive(Debug)]
pub(super) struct Source<'a> {
    shared: &'a Shared,
    segments: std::vec::IntoIter<Segment>,
    current: Option<Chunks>,
    /// Chunks of the first segment that are not wanted.
    skip: u64,
}

impl<'a> Source<'a> {
    /// From chunk `from` on.
    pub(super) fn new(shared: &'a Shared, segments: Vec<Segment>, from: u64) -> Self {
        let wanted = segments.into_iter().filter(|s| s.first + s.chunks > from);
        let segments: Vec<_> = wanted.collect();
        let skip = segments.first().map_or(0, |first| from.saturating_sub(first.first));
        Self { shared, segments: segments.into_iter(), current: None, skip }
    }

    /// The next chunk.
    ///
    /// Errors: `storage-unusable` where there is none: it was asked for fewer than there should be.
    pub(super) async fn next(&mut self) -> Result<Chunk> {
        loop {
            if let Some(chunk) = self.current.as_mut().and_then(Iterator::next) {
                if self.skip == 0 {
                    return chunk;
                }
                chunk?;
                self.skip -= 1;
                continue;
            }
            let Some(segment) = self.segments.next() else {
                let message = "the chunks of the map end too early";
                return Err(Error::platform(Code::StorageUnusable, message));
            };
            self.current = Some(Chunks::of(self.shared.map_blob(&segment.digest).await?)?);
        }
    }
}
