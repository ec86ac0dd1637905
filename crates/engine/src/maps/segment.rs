//! How chunks and results lie in blobs.
//!
//! A blob begins with [`HEAD`] bytes that only this map's have, so that no two maps share one: the id, the level and the first chunk. Chunks follow as frames: first
//! item (`u64`), items (`u32`), length (`u32`), all little-endian, then the items, with commas between them. Results follow as lines of JSON, as they are given out.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use model::Result;
use model::error::{Code, Error};
use model::ids::RequestId;
use model::map::Segment;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A segment is closed once it has so many bytes.
pub(super) const SEGMENT_BYTES: usize = 4 << 20;
/// Id, level, first chunk.
const HEAD: usize = 16 + 4 + 8;
/// First item, items, length.
const FRAME: usize = 8 + 4 + 4;

/// Some items of an input, or some results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Its first item, from 0.
    pub(super) first_item: u64,
    /// How many it has.
    pub(super) items: u32,
    /// They, with commas between them.
    pub(super) bytes: Bytes,
}

/// A blob under way.
#[derive(Debug)]
pub(super) struct Writer {
    id: RequestId,
    level: u32,
    first: u64,
    chunks: u64,
    bytes: BytesMut,
}

impl Writer {
    /// Of chunks from `first` on.
    pub(super) fn new(id: RequestId, level: u32, first: u64) -> Self {
        let mut writer = Self { id, level, first, chunks: 0, bytes: BytesMut::new() };
        writer.begin();
        writer
    }

    fn begin(&mut self) {
        self.bytes.put_slice(self.id.as_bytes());
        self.bytes.put_u32_le(self.level);
        self.bytes.put_u64_le(self.first);
    }

    pub(super) fn add_chunk(&mut self, chunk: &Chunk) -> Result<()> {
        let length = u32::try_from(chunk.bytes.len()).map_err(Error::internal)?;
        self.bytes.reserve(FRAME + chunk.bytes.len());
        self.bytes.put_u64_le(chunk.first_item);
        self.bytes.put_u32_le(chunk.items);
        self.bytes.put_u32_le(length);
        self.bytes.put_slice(&chunk.bytes);
        self.chunks += 1;
        Ok(())
    }

    pub(super) fn add_line(&mut self, line: &[u8]) {
        self.bytes.put_slice(line);
        self.bytes.put_u8(b'\n');
        self.chunks += 1;
    }

    /// Whether it is large enough.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= SEGMENT_BYTES
    }

    /// How many bytes were added.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - HEAD
    }

    /// What there is, if there is anything; goes on behind it.
    pub(super) fn take(&mut self) -> Option<(Segment, Bytes)> {
        if self.chunks == 0 {
            return None;
        }
        let bytes = self.bytes.split().freeze();
        let (first, chunks) = (self.first, std::mem::take(&mut self.chunks));
        self.first += chunks;
        self.begin();
        Some((Segment { digest: model::ids::Digest::of(&bytes), first, chunks }, bytes))
    }
}

/// The chunks of a blob, in order.
#[derive(Clone, Debug)]
pub(super) struct Chunks(Bytes);

impl Chunks {
    /// Of the blob of a segment.
    pub(super) fn of(blob: Bytes) -> Result<Self> {
        Ok(Self(body(blob)?))
    }
}

impl Iterator for Chunks {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        if self.0.len() < FRAME {
            self.0.clear();
            return Some(Err(damaged()));
        }
        let (first_item, items) = (self.0.get_u64_le(), self.0.get_u32_le());
        let length = usize::try_from(self.0.get_u32_le()).ok().filter(|n| *n <= self.0.len());
        let Some(length) = length else {
            self.0.clear();
            return Some(Err(damaged()));
        };
        Some(Ok(Chunk { first_item, items, bytes: self.0.split_to(length) }))
    }
}

/// What of a blob comes behind its head: of results, the lines.
pub(super) fn body(mut blob: Bytes) -> Result<Bytes> {
    if blob.len() < HEAD {
        return Err(damaged());
    }
    blob.advance(HEAD);
    Ok(blob)
}

fn damaged() -> Error {
    Error::platform(Code::StorageUnusable, "a blob of the map is damaged")
}

/// What came of one chunk, as a line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line<'a> {
    /// Which one, from 0.
    pub(super) chunk: u64,
    /// The function's answer.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<&'a RawValue>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<std::borrow::Cow<'a, str>>,
}

/// An answer as JSON on one line; as text, if it is no JSON.
pub(super) fn one_line(answer: &[u8]) -> Result<Box<RawValue>> {
    let text = std::str::from_utf8(answer).ok().map(str::trim_ascii);
    // An answer in pieces may be empty.
    if let Some(text) = text
        && serde_json::from_str::<&RawValue>(text).is_ok()
    {
        // Within texts of JSON a line end is escaped: those that are there lie between values.
        return RawValue::from_string(text.replace(['\n', '\r'], " ")).map_err(Error::internal);
    }
    serde_json::value::to_raw_value(&String::from_utf8_lossy(answer)).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(first_item: u64, text: &'static str) -> Chunk {
        Chunk { first_item, items: 2, bytes: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn chunks_come_back_and_damage_is_no_panic() {
        let (id, chunks) =
            (RequestId::generate(), [chunk(0, "1,2"), chunk(2, ""), chunk(4, "5,6")]);
        let mut writer = Writer::new(id, 0, 7);
        assert!(writer.take().is_none());
        chunks.iter().for_each(|chunk| writer.add_chunk(chunk).unwrap());
        let (segment, blob) = writer.take().unwrap();
        assert_eq!((segment.first, segment.chunks), (7, 3));
        let read: Vec<_> = Chunks::of(blob.clone()).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, chunks);
        for end in 0..blob.len() {
            let whole =
                Chunks::of(blob.slice(..end)).map(|chunks| chunks.filter(Result::is_ok).count());
            assert!(whole.unwrap_or(0) < 3, "cut at {end}");
        }
        writer.add_chunk(&chunks[0]).unwrap();
        assert_eq!(writer.take().unwrap().0.first, 10, "it goes on");
        let mut other = Writer::new(RequestId::generate(), 0, 7);
        chunks.iter().for_each(|chunk| other.add_chunk(chunk).unwrap());
        assert_ne!(other.take().unwrap().0.digest, segment.digest, "no two maps share a blob");
    }

    #[test]
    fn answers_fit_on_a_line() {
        for (answer, line) in [
            ("{\n \"a\": \"b\\n\"\r\n}", "{  \"a\": \"b\\n\"  }"),
            (" 1 ", "1"),
            ("", "\"\""),
            ("a \"text\"\n", "\"a \\\"text\\\"\\n\""),
        ] {
            assert_eq!(one_line(answer.as_bytes()).unwrap().get(), line);
        }
        let line = Line { chunk: 3, result: Some(&one_line(b"[1]").unwrap()), error: None };
        let json = serde_json::to_string(&line).unwrap();
        assert_eq!(json, r#"{"chunk":3,"result":[1]}"#);
        assert_eq!(serde_json::from_str::<Line<'_>>(&json).unwrap().result.unwrap().get(), "[1]");
    }
}
