//! Maps: chunks, retries, tolerance, reduce, cancel, and an engine that goes on where another one was.

use bytes::Bytes;
use engine::{EngineConfig, KeptMap};
use futures_util::{StreamExt as _, stream};
use model::clock::UnixMillis;
use model::ids::{FunctionRef, NamespaceName, RequestId};
use model::map::{InputFormat, MapSpec, MapState};
use model::ports::{Blobs as _, Expect, Meta as _, Queue as _};
use model::{Code, Result};
use serde_json::{Value, json};

use crate::scripted::{World, bare, call, sleep_ms};

fn spec(function: &str, chunk_items: u32) -> MapSpec {
    let function = FunctionRef::parse("default", function).unwrap();
    MapSpec { chunk_items, ..MapSpec::new(function) }
}

fn reduced(function: &str, chunk_items: u32, reduce: &str) -> MapSpec {
    let reduce = Some(FunctionRef::parse("default", reduce).unwrap());
    MapSpec { reduce, ..spec(function, chunk_items) }
}

impl World {
    async fn start_map(&self, spec: MapSpec, input: &str) -> Result<KeptMap> {
        // As it may come over a network.
        let pieces: Vec<_> =
            input.as_bytes().chunks(1_000).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
        self.engine.start_map(RequestId::generate(), spec, stream::iter(pieces)).await
    }

    async fn map(&self, id: RequestId) -> KeptMap {
        self.engine.map(&NamespaceName::default_namespace(), id).await.unwrap().unwrap()
    }

    /// The map once it has ended, within so many seconds.
    async fn ended(&self, id: RequestId, seconds: u64) -> KeptMap {
        for _ in 0..seconds * 10 {
            let kept = self.map(id).await;
            if kept.map.cleared {
                return kept;
            }
            sleep_ms(100).await;
        }
        panic!("it goes on: {:?}", self.map(id).await);
    }

    async fn results(&self, kept: &KeptMap) -> Vec<Value> {
        let mut lines = Vec::new();
        for segment in kept.map.gathered() {
            let text = self.engine.map_results(segment).await.unwrap();
            let text = std::str::from_utf8(&text).unwrap();
            lines.extend(text.lines().map(|line| serde_json::from_str(line).unwrap()));
        }
        lines
    }

    async fn result(&self, kept: &KeptMap) -> Value {
        let result = self.engine.map_result(&kept.map).await.unwrap().unwrap();
        serde_json::from_slice(&result).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn chunks_run_and_their_results_are_reduced_in_order() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "sum").await;
    let started = world.start_map(reduced("f", 3, "f"), "[1,2,3, 4,5,6, 7,8,9, 10]").await.unwrap();
    assert_eq!(
        (started.map.state, started.map.items, started.map.chunks),
        (MapState::Running, 10, 4)
    );
    let kept = world.ended(started.map.id, 5).await;
    assert_eq!((kept.map.state, kept.map.done, kept.map.failed), (MapState::Succeeded, 4, 0));
    assert_eq!(kept.progress.items_ended, 10);
    let sums = [6, 15, 24, 10];
    let lines: Vec<_> =
        (0..).zip(sums).map(|(i, sum)| json!({ "chunk": i, "result": sum })).collect();
    assert_eq!(world.results(&kept).await, lines);
    assert_eq!(world.result(&kept).await, 55);
    assert_eq!(world.finished(), 5);
    // The queue holds nothing of it, the store its results only.
    let listed = model::ports::Listing { limit: 100, ..Default::default() };
    assert_eq!(world.engine.calls(listed).await.unwrap(), []);
    assert_eq!(kept.map.blobs.len(), 2);
    for digest in &started.map.blobs {
        assert!(!world.blobs.contains(digest).await.unwrap(), "the input is gone");
    }
    // Another input, of no items at all: a reduce of nothing.
    let lines = MapSpec { format: InputFormat::Lines, ..reduced("f", 3, "f") };
    let empty = world.start_map(lines, "").await.unwrap();
    let empty = world.ended(empty.map.id, 5).await;
    assert_eq!((empty.map.state, empty.map.chunks), (MapState::Succeeded, 0));
    assert_eq!(world.result(&empty).await, 0);
    // It is forgotten when it is deleted.
    world.engine.delete_map(kept.map.namespace(), kept.map.id).await.unwrap();
    for digest in &kept.map.blobs {
        assert!(!world.blobs.contains(digest).await.unwrap());
    }
    let left = world.engine.maps(kept.map.namespace(), None, 10).await.unwrap();
    assert_eq!(left.iter().map(|kept| kept.map.id).collect::<Vec<_>>(), [empty.map.id]);
    // Or when its day is over.
    let at = model::keys::map(kept.map.namespace(), &empty.map.id);
    let entry = world.meta.get(&at).await.unwrap().unwrap();
    let mut old = empty.map.clone();
    old.ended_at = old.ended_at.map(|at| UnixMillis(at.0 - 24 * 3_600_000));
    let (old, now) = (serde_json::to_vec(&old).unwrap(), Expect::Revision(entry.revision));
    world.meta.put_if(&at, now, old.into()).await.unwrap();
    sleep_ms(61_000).await;
    assert!(world.engine.maps(kept.map.namespace(), None, 10).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_chunk_is_tried_again_and_some_may_fail() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "sum").await;
    let tolerant = |tolerate: &str| MapSpec {
        tolerate: tolerate.parse().unwrap(),
        attempts: 2,
        ..reduced("f", 1, "f")
    };
    let input = "[1,\"two\",3,4,\"five\",6,7,8,9,10]";
    let kept = world.start_map(tolerant("20%"), input).await.unwrap();
    let kept = world.ended(kept.map.id, 10).await;
    assert_eq!((kept.map.state, kept.map.done, kept.map.failed), (MapState::Succeeded, 8, 2));
    assert_eq!(world.result(&kept).await, 48, "what failed is left out");
    let failed: Vec<_> = kept.map.failures.iter().map(|f| (f.chunk, f.first_item)).collect();
    assert_eq!(failed, [(1, 1), (4, 4)]);
    assert!(kept.map.failures[0].message.contains("failed 2 times"), "{:?}", kept.map.failures);
    assert!(world.results(&kept).await[1]["error"].as_str().unwrap().contains("not a number"));
    assert_eq!(world.finished(), 8 + 2 * 2 + 1);
    let dead = world.dead().await;
    assert_eq!(dead.len(), 2, "they can be looked at");

    let kept = world.start_map(tolerant("1"), input).await.unwrap();
    let kept = world.ended(kept.map.id, 10).await;
    assert_eq!(kept.map.state, MapState::Failed);
    assert!(
        kept.map.error.as_ref().unwrap().contains("2 of 10 chunks failed"),
        "{:?}",
        kept.map.error
    );
    assert_eq!(kept.map.failures.len(), 2);
    // A reduce that fails.
    world.deploy("broken", "fail").await;
    let spec = MapSpec { attempts: 1, ..reduced("f", 1, "broken") };
    let kept = world.start_map(spec, "[1,2]").await.unwrap();
    let kept = world.ended(kept.map.id, 10).await;
    assert_eq!((kept.map.state, kept.map.done), (MapState::Failed, 2));
    assert!(kept.map.error.as_ref().unwrap().contains("reduce"), "{:?}", kept.map.error);
    assert_eq!(world.results(&kept).await.len(), 2, "those of the chunks are there");
}

#[tokio::test(start_paused = true)]
async fn so_many_run_at_once_and_nobody_waits_behind_them() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "sum:1000").await;
    let spec = MapSpec { concurrency: 2, ..spec("f", 1) };
    let kept = world.start_map(spec, "[1,2,3,4,5,6]").await.unwrap();
    sleep_ms(1_500).await;
    let now = world.map(kept.map.id).await;
    assert_eq!((now.progress.done, now.progress.running), (2, 2), "{now:?}");
    // A call of the same function does not stand behind the chunks.
    let other = call("f", r#"{"items":[5]}"#);
    world.engine.enqueue(other.clone(), &bare()).await.unwrap();
    sleep_ms(1_300).await;
    let other = world.engine.call(other.id).await.unwrap().unwrap();
    assert_eq!(other.result.as_deref(), Some(&b"5"[..]));
    let kept = world.ended(kept.map.id, 3).await;
    assert_eq!((kept.map.state, world.finished()), (MapState::Succeeded, 7));
}

#[tokio::test(start_paused = true)]
async fn another_engine_goes_on_where_one_was() {
    let mut world = World::new(EngineConfig::default()).await;
    world.deploy("f", "sum:1000").await;
    let of_two = MapSpec { concurrency: 2, ..reduced("f", 1, "f") };
    let kept = world.start_map(of_two, "[1,2,3,4,5,6,7,8,9,10]").await.unwrap();
    let id = kept.map.id;
    sleep_ms(3_500).await;
    assert_eq!(world.map(id).await.progress.done, 6);
    world.kill().await;
    let kept = world.ended(id, 120).await;
    assert_eq!((kept.map.state, kept.map.done), (MapState::Succeeded, 10));
    assert_eq!(world.result(&kept).await, 55);
    let finished = world.finished();
    assert!((11..=13).contains(&finished), "only what was cut off ran again: {finished}");
    // An input that nobody knows the end of is not kept.
    let half = stream::iter([Ok(Bytes::from_static(b"[1,"))]).chain(stream::pending());
    let id = RequestId::generate();
    let engine = world.engine.clone();
    let sending = tokio::time::timeout(
        std::time::Duration::from_millis(50),
        engine.start_map(id, spec("f", 1), half),
    );
    sending.await.unwrap_err();
    assert_eq!(world.map(id).await.map.state, MapState::Receiving);
    world.kill().await;
    sleep_ms(10).await;
    assert!(world.engine.map(&NamespaceName::default_namespace(), id).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_map_ends_its_calls() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "sum:1000").await;
    let of_two = MapSpec { concurrency: 2, ..spec("f", 1) };
    let kept = world.start_map(of_two, "[1,2,3,4,5,6]").await.unwrap();
    let (namespace, id) = (kept.map.namespace().clone(), kept.map.id);
    let e = world.engine.delete_map(&namespace, id).await.unwrap_err();
    assert_eq!(e.code(), Code::Conflict);
    sleep_ms(1_500).await;
    world.engine.cancel_map(&namespace, id).await.unwrap();
    let kept = world.ended(id, 1).await;
    assert_eq!((kept.map.state, kept.map.done), (MapState::Cancelled, 2));
    assert_eq!(world.queue.depths(), []);
    sleep_ms(10_000).await;
    assert_eq!(world.finished(), 2, "those that ran were ended");
    let e = world.engine.cancel_map(&namespace, id).await.unwrap_err();
    assert_eq!(e.code(), Code::Conflict);
    let nowhere = world.engine.cancel_map(&namespace, RequestId::generate()).await.unwrap_err();
    assert_eq!(nowhere.code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn many_large_results_are_reduced_level_by_level() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("wide", "wide:200000").await;
    world.deploy("wider", "wide:300000").await;
    let kept =
        world.start_map(reduced("wide", 1, "wide"), "[1,2,3,4,5,6,7,8,9,10,11,12]").await.unwrap();
    let kept = world.ended(kept.map.id, 10).await;
    assert_eq!(kept.map.state, MapState::Succeeded, "{kept:?}");
    assert_eq!(world.result(&kept).await.as_str().unwrap().len(), 200_000);
    // Five answers fit into one call: twelve, three, one.
    assert_eq!(world.finished(), 12 + 3 + 1);
    assert_eq!((kept.map.stage.level, kept.map.stage.chunks), (2, 1));
    // What is not kept cannot be reduced.
    let kept = world.start_map(spec("wider", 1), "[1]").await.unwrap();
    let kept = world.ended(kept.map.id, 10).await;
    assert_eq!(kept.map.state, MapState::Failed);
    assert!(kept.map.failures[0].message.contains("longer than"), "{:?}", kept.map.failures);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_run_is_refused_and_nothing_is_left_of_it() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "sum:100000").await;
    let few = MapSpec { chunk_items: 1, ..spec("f", 1) };
    for (spec, input, code) in [
        (spec("nowhere", 1), "[1]", Code::NotFound),
        (reduced("f", 1, "nowhere"), "[1]", Code::NotFound),
        (MapSpec { attempts: 0, ..spec("f", 1) }, "[1]", Code::InvalidParameter),
        (spec("f", 1), "[1,2", Code::InvalidBody),
        (few, &format!("[{}1]", "1,".repeat(100_000)), Code::PayloadTooLarge),
    ] {
        assert_eq!(world.start_map(spec, input).await.unwrap_err().code(), code, "{code}");
    }
    let namespace = NamespaceName::default_namespace();
    assert!(world.engine.maps(&namespace, None, 10).await.unwrap().is_empty());
    for _ in 0..10 {
        world.start_map(spec("f", 1), "[1]").await.unwrap();
    }
    let e = world.start_map(spec("f", 1), "[1]").await.unwrap_err();
    assert_eq!(e.code(), Code::Throttled);
    assert!(e.message().contains("10 maps"), "{}", e.message());
    // They go with their namespace.
    world.engine.forget_maps(&namespace).await.unwrap();
    sleep_ms(100).await;
    assert!(world.engine.maps(&namespace, None, 10).await.unwrap().is_empty());
    assert_eq!(world.queue.depths(), []);
    world.start_map(spec("f", 1), "[1]").await.unwrap();
}
