//! Takes an input in: items, chunks, segments, blobs, while it comes.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use model::Result;
use model::error::{Code, Error};
use model::limits;
use model::map::{Map, MapSpec, MapState, Segment, Stage};

use super::docs::{At, goes_on};
use super::items::Items;
use super::segment::{Chunk, Writer};
use crate::Shared;

/// Most bytes that are looked at before others get their turn.
const PIECE_BYTES: usize = 256 * 1024;

/// Makes chunks of items.
#[derive(Debug)]
pub(super) struct Chunker {
    items_max: u32,
    bytes_max: usize,
    first_item: u64,
    items: u32,
    bytes: BytesMut,
}

impl Chunker {
    pub(super) fn new(items_max: u32, bytes_max: u32) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Self { items_max, bytes_max, first_item: 0, items: 0, bytes: BytesMut::new() }
    }

    /// Adds an item; answers with the chunk that is full without it.
    pub(super) fn add(&mut self, item: &[u8]) -> Option<Chunk> {
        let is_full = self.items == self.items_max
            || (self.items > 0 && self.bytes.len() + 1 + item.len() > self.bytes_max);
        let full = if is_full { self.take() } else { None };
        if self.items > 0 {
            self.bytes.put_u8(b',');
        }
        self.bytes.extend_from_slice(item);
        self.items += 1;
        full
    }

    /// The items that there are, if there are any.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        if self.items == 0 {
            return None;
        }
        let (first_item, items) = (self.first_item, std::mem::take(&mut self.items));
        self.first_item += u64::from(items);
        Some(Chunk { first_item, items, bytes: self.bytes.split().freeze() })
    }

    /// Items that were added.
    pub(super) fn added(&self) -> u64 {
        self.first_item + u64::from(self.items)
    }
}

/// An input on its way into the store.
struct Intake<'a> {
    shared: &'a Shared,
    at: At,
    chunker: Chunker,
    /// Chunks that are not in a segment yet.
    chunks: Vec<Chunk>,
    writer: Writer,
    source: Vec<Segment>,
    count: u64,
    bytes: u64,
}

/// Reads an input to its end, and answers with the map, which runs from then on.
///
/// Errors: `invalid-body`, `payload-too-large`, `conflict` if it was cancelled meanwhile, `storage-full`, and what the input says.
pub(super) async fn receive(
    shared: &Arc<Shared>,
    map: &Map,
    mut input: impl Stream<Item = Result<Bytes>> + Send + Unpin,
) -> Result<Map> {
    let MapSpec { chunk_items, chunk_bytes, format, .. } = map.spec;
    let mut intake = Intake {
        shared,
        at: At::of(map),
        chunker: Chunker::new(chunk_items, chunk_bytes),
        chunks: Vec::new(),
        writer: Writer::new(map.id, 0, 0),
        source: Vec::new(),
        count: 0,
        bytes: 0,
    };
    let mut items = Items::new(format);
    while let Some(piece) = input.next().await {
        for piece in piece?.chunks(PIECE_BYTES) {
            intake.bytes += piece.len() as u64;
            if intake.bytes > limits::MAP_INPUT_BYTES {
                return Err(too_much("bytes", limits::MAP_INPUT_BYTES));
            }
            items.push(piece, &mut |item| intake.item(item))?;
            intake.store().await?;
        }
    }
    items.finish(&mut |item| intake.item(item))?;
    intake.finish().await
}

impl Intake<'_> {
    fn item(&mut self, item: &[u8]) -> Result<()> {
        if self.chunker.added() >= limits::MAP_ITEMS {
            return Err(too_much("items", limits::MAP_ITEMS));
        }
        match self.chunker.add(item) {
            Some(chunk) => self.chunk(chunk),
            None => Ok(()),
        }
    }

    fn chunk(&mut self, chunk: Chunk) -> Result<()> {
        if self.count >= limits::MAP_CHUNKS {
            return Err(
                too_much("chunks", limits::MAP_CHUNKS).with_hint("let a chunk have more items")
            );
        }
        self.count += 1;
        self.chunks.push(chunk);
        Ok(())
    }

    /// Puts the chunks that there are into segments, and full segments into the store.
    async fn store(&mut self) -> Result<()> {
        for chunk in std::mem::take(&mut self.chunks) {
            self.writer.add_chunk(&chunk)?;
            if self.writer.is_full() {
                self.store_segment().await?;
            }
        }
        Ok(())
    }

    async fn store_segment(&mut self) -> Result<()> {
        if let Some((segment, blob)) = self.writer.take() {
            self.shared.put_map_blob(&self.at, &segment, blob).await?;
            self.source.push(segment);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Map> {
        if let Some(chunk) = self.chunker.take() {
            self.chunk(chunk)?;
        }
        self.store().await?;
        self.store_segment().await?;
        let (items, chunks, bytes) = (self.chunker.added(), self.count, self.bytes);
        let source = self.source;
        self.shared
            .change_map(&self.at, |map| {
                goes_on(map)?;
                (map.items, map.chunks, map.bytes) = (items, chunks, bytes);
                map.stage = Stage { chunks, source: source.clone(), ..Stage::default() };
                map.state = MapState::Running;
                Ok(())
            })
            .await
    }
}

fn too_much(what: &str, most: u64) -> Error {
    let message = format!("the input has too many {what}: expected at most {most}");
    Error::caller(Code::PayloadTooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_have_as_many_items_as_they_may() {
        let chunks = |items_max, bytes_max, items: &[&str]| {
            let mut chunker = Chunker::new(items_max, bytes_max);
            let mut chunks: Vec<_> =
                items.iter().filter_map(|i| chunker.add(i.as_bytes())).collect();
            chunks.extend(chunker.take());
            assert_eq!(chunker.added(), items.len() as u64);
            let text =
                |chunk: Chunk| (chunk.first_item, String::from_utf8(chunk.bytes.to_vec()).unwrap());
            chunks.into_iter().map(text).collect::<Vec<_>>()
        };
        let chunk = |first, text: &str| (first, text.to_owned());
        let items = ["1", "2", "3", "4", "5"];
        assert_eq!(chunks(2, 99, &items), [chunk(0, "1,2"), chunk(2, "3,4"), chunk(4, "5")]);
        assert_eq!(chunks(9, 3, &items), [chunk(0, "1,2"), chunk(2, "3,4"), chunk(4, "5")]);
        let long = chunks(9, 3, &["long", "1", "2", "long"]);
        assert_eq!(long, [chunk(0, "long"), chunk(1, "1,2"), chunk(3, "long")]);
        assert!(chunks(9, 3, &[]).is_empty());
    }
}
