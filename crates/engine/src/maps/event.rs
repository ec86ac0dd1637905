//! What a function gets of a chunk.
//!
//! `{"map":{"id":…,"level":0,"chunk":3,"chunks":10,"first_item":300,"failed":0},"items":[…]}`; a reduce function has `level` from 1 and `results` in the place of `items`.

use bytes::{BufMut as _, Bytes, BytesMut};
use model::map::Map;

use super::segment::Chunk;

/// The event of chunk `index` of the stage under way.
pub(super) fn of_chunk(map: &Map, index: u64, chunk: &Chunk) -> Bytes {
    let (stage, items) = (&map.stage, if map.stage.level == 0 { "items" } else { "results" });
    let head = format!(
        r#"{{"map":{{"id":"{}","level":{},"chunk":{index},"chunks":{},"first_item":{},"failed":{}}},"{items}":["#,
        map.id, stage.level, stage.chunks, chunk.first_item, map.failed
    );
    let mut event = BytesMut::with_capacity(head.len() + chunk.bytes.len() + 2);
    event.put_slice(head.as_bytes());
    event.put_slice(&chunk.bytes);
    event.put_slice(b"]}");
    event.freeze()
}

#[cfg(test)]
mod tests {
    use model::clock::UnixMillis;
    use model::ids::{FunctionRef, RequestId};
    use model::limits;
    use model::map::MapSpec;
    use serde_json::Value;

    use super::*;

    /// Longest text around the items, in bytes: names, an id, and five numbers of at most 20 digits.
    const AROUND: usize = 256;

    #[test]
    fn events_are_json_and_never_too_long_for_the_queue() {
        let spec = MapSpec::new(FunctionRef::parse("default", "f").unwrap());
        let mut map = Map::new(RequestId::generate(), spec, UnixMillis(1));
        (map.stage.chunks, map.failed) = (u64::MAX, u64::MAX);
        for (level, name) in [(0, "items"), (u32::MAX, "results")] {
            map.stage.level = level;
            let chunk =
                Chunk { first_item: u64::MAX, items: 2, bytes: Bytes::from_static(b"1,[2]") };
            let event = of_chunk(&map, u64::MAX, &chunk);
            assert!(event.len() <= chunk.bytes.len() + AROUND, "{}", event.len());
            let event: Value = serde_json::from_slice(&event).unwrap();
            assert_eq!(event[name], serde_json::json!([1, [2]]));
            assert_eq!(event["map"]["chunk"], u64::MAX);
        }
        let most = limits::ASYNC_PAYLOAD_BYTES - AROUND;
        assert!(usize::try_from(limits::MAP_CHUNK_BYTES).unwrap() <= most);
    }
}
