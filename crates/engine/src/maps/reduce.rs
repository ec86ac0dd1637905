//! Makes the chunks of a reduce: as many results as a call can carry, in order.
//!
//! Results that fit into one call are reduced by one call. More are reduced level by level: a result ([`limits::MAP_ANSWER_BYTES`]) is at most about a quarter of a chunk, so each
//! level has at most about a third of the chunks of the one below, and there is a last one of one chunk.

use model::Result;
use model::error::Error;
use model::limits;
use model::map::{Map, Segment, Stage};

use super::docs::At;
use super::intake::Chunker;
use super::segment::{Chunk, Line, Writer, body};
use crate::Shared;

/// The stage that comes after the one that is finished. The same each time it is asked for.
pub(super) async fn stage(shared: &Shared, map: &Map) -> Result<Stage> {
    let at = At::of(map);
    let level = map.stage.level + 1;
    let mut stage = Stage { level, ..Stage::default() };
    let mut chunker = Chunker::new(u32::MAX, limits::MAP_CHUNK_BYTES);
    let mut writer = Writer::new(map.id, level, 0);
    for segment in &map.stage.results {
        let mut full = Vec::new();
        let lines = body(shared.map_blob(&segment.digest).await?)?;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Line<'_> = serde_json::from_slice(line).map_err(Error::internal)?;
            // What failed is left out.
            full.extend(line.result.and_then(|result| chunker.add(result.get().as_bytes())));
        }
        for chunk in full {
            add(shared, &at, &mut writer, &mut stage, &chunk).await?;
        }
    }
    // The last one; of no results at all, an empty one.
    let last = chunker.take().or_else(|| (stage.chunks == 0).then(Chunk::default));
    if let Some(chunk) = last {
        add(shared, &at, &mut writer, &mut stage, &chunk).await?;
    }
    if let Some(taken) = writer.take() {
        store(shared, &at, &mut stage.source, taken).await?;
    }
    Ok(stage)
}

async fn add(
    shared: &Shared,
    at: &At,
    writer: &mut Writer,
    stage: &mut Stage,
    chunk: &Chunk,
) -> Result<()> {
    writer.add_chunk(chunk)?;
    stage.chunks += 1;
    if writer.is_full()
        && let Some(taken) = writer.take()
    {
        store(shared, at, &mut stage.source, taken).await?;
    }
    Ok(())
}

async fn store(
    shared: &Shared,
    at: &At,
    source: &mut Vec<Segment>,
    (segment, blob): (Segment, bytes::Bytes),
) -> Result<()> {
    shared.put_map_blob(at, &segment, blob).await?;
    source.push(segment);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_has_fewer_chunks() {
        let answer = vec![b'1'; limits::MAP_ANSWER_BYTES];
        let mut chunker = Chunker::new(u32::MAX, limits::MAP_CHUNK_BYTES);
        let chunks = (0..9).filter_map(|_| chunker.add(&answer)).count();
        assert_eq!(chunks, 2, "three fit into one: the third chunk is not full");
    }
}
