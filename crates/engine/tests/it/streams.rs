//! Answers in pieces: when they begin, who waits for whom, what is counted at the end.
#![expect(clippy::disallowed_methods, reason = "callers of a test need no name and end with it")]

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use engine::{EngineConfig, Reply, Shadowed, Stream};
use model::Code;
use model::clock::UnixMillis;
use model::function::WEB;
use model::invocation::FailureKind;
use model::limits::STREAM_PIECES;
use model::ports::{Usage, UsageQuery, UsageSums};
use model::stream::{BodyCut, BodySource, BodyStream, Part};

use crate::scripted::{PRELUDE, World, bare, call, key, sleep_ms};
use crate::shifts::rollout;

async fn world() -> World {
    World::new(EngineConfig { host_memory_mb: 100_000, ..EngineConfig::default() }).await
}

async fn stream(world: &World, name: &str) -> Box<Stream> {
    match world.engine.invoke_in_pieces(call(name, "x"), &bare()).await.unwrap() {
        Reply::Stream(stream) => stream,
        Reply::Whole(completed) => panic!("{completed:?}"),
    }
}

/// All that comes: bytes of the pieces, and the end if one is told.
async fn taken(stream: &mut Stream) -> (usize, Option<Result<(), FailureKind>>) {
    let (mut bytes, mut end) = (0, None);
    while let Some(part) = stream.parts.recv().await {
        assert!(end.is_none(), "a part behind the end: {part:?}");
        match part {
            Part::Piece(piece) => bytes += piece.len(),
            Part::End(how) => end = Some(how.map_err(|failure| failure.kind)),
        }
    }
    (bytes, end)
}

async fn used(world: &World) -> UsageSums {
    sleep_ms(1_100).await;
    let query =
        UsageQuery { function: key("f"), since: UnixMillis(0), until: UnixMillis(u64::MAX) };
    let rows = world.usage.query(query).await.unwrap();
    rows.first().map(|row| row.sums).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_answer_begins_before_its_call_is_over_and_holds_the_instance() {
    let world = world().await;
    world.deploy("f", "stream:20").await;
    let mut first = stream(&world, "f").await;
    assert_eq!(first.prelude, PRELUDE);
    assert!(first.timings.cold && first.timings.handler_us == 500, "{:?}", first.timings);
    assert_eq!((world.finished(), world.started()), (0, 1));
    let mut second = stream(&world, "f").await;
    assert_eq!(world.started(), 2, "the first instance is busy");
    assert_eq!(taken(&mut first).await, (20 * 1024, Some(Ok(()))));
    assert_eq!(taken(&mut second).await, (20 * 1024, Some(Ok(()))));
    let mut third = stream(&world, "f").await;
    assert_eq!(taken(&mut third).await, (20 * 1024, Some(Ok(()))));
    assert_eq!((world.started(), world.stopped()), (2, 0), "instances are used again");
    let sums = used(&world).await;
    assert_eq!((sums.requests, sums.failures, sums.bytes_out), (3, 0, 3 * 20 * 1024));
    assert_eq!(sums.duration_ms, 30, "until the end");
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_makes_the_function_wait_and_who_leaves_does_not_end_it() {
    let world = world().await;
    world.deploy("f", "stream:1000").await;
    let idle = stream(&world, "f").await;
    sleep_ms(60_000).await;
    assert_eq!(world.counts.pieces.load(Ordering::SeqCst), STREAM_PIECES);
    assert_eq!(world.finished(), 0);
    drop(idle);
    sleep_ms(1_100).await;
    assert_eq!((world.finished(), world.stopped()), (1, 0), "it ran to its end");
    assert_eq!(used(&world).await.bytes_out, 1_000 * 1024);
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_no_pieces_gets_them_together() {
    let world = world().await;
    world.deploy("f", "stream:3").await;
    assert_eq!(world.invoke("f").await.unwrap(), "x".repeat(3 * 1024));
    assert_eq!(used(&world).await.bytes_out, 3 * 1024);
    world.engine.enqueue(call("f", "x"), &bare()).await.unwrap();
    sleep_ms(1_000).await;
    assert_eq!((world.finished(), world.queued().await), (2, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn an_error_on_the_way_is_told_and_counted_and_repeated_where_calls_are() {
    let world = world().await;
    world.deploy("f", "cut:2").await;
    let mut first = stream(&world, "f").await;
    assert_eq!(taken(&mut first).await, (2 * 1024, Some(Err(FailureKind::Handler))));
    assert_eq!(used(&world).await.failures, 1);
    world.engine.enqueue(call("f", "x"), &bare()).await.unwrap();
    sleep_ms(600_000).await;
    assert_eq!((world.finished(), world.queued().await), (1 + 3, (0, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_shift_learns_of_the_end() {
    let world = world().await;
    world.versions("f", &["cut:10", "stream:10"]).await;
    let alias = r#"{"targets":[{"version":1,"weight":1}]}"#;
    world.shift("f", "live", alias, Some(rollout(7, 0))).await;
    let counts = || {
        let shifting = world.engine.shifts().pop().unwrap();
        let (_, sample) = shifting.samples.into_iter().find(|(v, _)| v.to_string() == "1").unwrap();
        (sample.calls, sample.errors)
    };
    let mut first = stream(&world, "f:live").await;
    assert!(first.errors.is_some());
    assert_eq!(counts(), (0, 0), "nothing is known yet");
    taken(&mut first).await;
    assert_eq!(counts(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_shadow_is_compared_with_what_could_be_kept() {
    let world = world().await;
    world.versions("f", &["stream:3", "stream:300", "stream:3"]).await;
    let mut news = world.engine.shadow_pairs().unwrap();
    for (version, compared) in [(1, true), (2, false)] {
        let alias = format!(
            r#"{{"targets":[{{"version":{version},"weight":1}}],"shadow":{{"version":3,"share":"100%"}}}}"#
        );
        world.alias("f", "live", &alias).await;
        let mut first = stream(&world, "f:live").await;
        taken(&mut first).await;
        match news.recv().await.unwrap() {
            Shadowed::Pair(pair) => assert!(compared && pair.identical, "{pair:?}"),
            Shadowed::Skipped(skips) => assert!(!compared && skips.skipped == 1, "{skips:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_streams_within_its_grace() {
    for (handler, left) in [("stream:100", 0), ("stream:100000", 1)] {
        let world = world().await;
        world.deploy("f", handler).await;
        let mut first = stream(&world, "f").await;
        let reader = tokio::task::spawn(async move { taken(&mut first).await });
        assert_eq!(world.engine.drain(Duration::from_secs(20)).await, left, "{handler}");
        if left == 0 {
            assert_eq!(reader.await.unwrap(), (100 * 1024, Some(Ok(()))));
        }
    }
}

/// A body of which nothing is ever asked.
struct Unread;

impl BodySource for Unread {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyCut>>> {
        panic!("it is read");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_beside_the_event_goes_to_functions_that_take_one() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "echo").await;
    world
        .deploy_with("site", "echo", |f| {
            f.latest.config.runtime = WEB.into();
            f.latest.config.instance_concurrency = Some(1);
        })
        .await;
    for (name, takes) in [("f", false), ("site", true)] {
        let mut call = call(name, "");
        let asked = world.engine.takes_body_stream(&call, &bare()).await.unwrap();
        assert_eq!(asked, takes, "{name}");
        call.context.body = Some(BodyStream::new(None, Box::new(Unread)));
        let called = world.engine.invoke(call, &bare()).await.map_err(|e| e.code());
        assert_eq!(called.is_err_and(|code| code == Code::Unavailable), !takes, "{name}");
    }
}
