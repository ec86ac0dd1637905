//! Idle instances stand still, and go on for their next call.

use std::time::Duration;

use engine::EngineConfig;
use model::invocation::Timings;

use crate::scripted::{World, bare, call, sleep_ms};

async fn world(freeze_after_ms: u64) -> World {
    let freeze_after = Duration::from_millis(freeze_after_ms);
    let world = World::new(EngineConfig { freeze_after, ..EngineConfig::default() }).await;
    world.deploy("f", "sleep:100").await;
    world
}

async fn timings(world: &World) -> Timings {
    let done = world.engine.invoke(call("f", "hello"), &bare()).await.unwrap();
    done.outcome.result.unwrap();
    done.timings
}

/// Idle, frozen, freezes, thaws.
fn counts(world: &World) -> [u64; 4] {
    let counts = world.engine.stats().instances;
    [counts.idle, counts.frozen, counts.freezes, counts.thaws]
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_is_frozen_once_and_thawed_by_its_next_call() {
    let world = world(1_000).await;
    assert_eq!(timings(&world).await.thaw_us, 0);
    for round in 1..4 {
        sleep_ms(5_000).await;
        assert_eq!(counts(&world), [1, 1, round, round - 1]);
        let timings = timings(&world).await;
        assert_eq!((timings.thaw_us, timings.cold), (40, false));
        assert!(timings.total_us >= timings.queue_us + timings.thaw_us + timings.handler_us);
        assert_eq!(counts(&world), [1, 0, round, round]);
    }
    assert_eq!(world.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_called_again_and_again_is_not() {
    let world = world(1_000).await;
    for _ in 0..40 {
        assert_eq!(timings(&world).await.thaw_us, 0);
        sleep_ms(300).await;
    }
    assert_eq!(counts(&world), [1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_a_call_is_not_however_long_it_takes() {
    let world = world(1_000).await;
    world.deploy("f", "sleep:2500").await;
    // Scripted instances refuse.
    timings(&world).await;
    assert_eq!(counts(&world)[2], 0);
}

#[tokio::test(start_paused = true)]
async fn none_is_where_that_is_switched_off() {
    let world = world(0).await;
    timings(&world).await;
    sleep_ms(60_000).await;
    assert_eq!(counts(&world), [1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn frozen_ones_are_stopped_like_others_and_serve_calls_at_once() {
    let world = world(1_000).await;
    let calls = (timings(&world), timings(&world), timings(&world));
    tokio::join!(calls.0, calls.1, calls.2);
    sleep_ms(3_000).await;
    assert_eq!(counts(&world), [3, 3, 3, 0]);
    let calls = (timings(&world), timings(&world));
    let (a, b) = tokio::join!(calls.0, calls.1);
    assert_eq!((a.thaw_us, b.thaw_us, world.started()), (40, 40, 3));
    sleep_ms(3_000).await;
    assert_eq!(counts(&world), [3, 3, 5, 2]);
    sleep_ms(600_000).await;
    assert_eq!((counts(&world)[0], world.stopped()), (0, 3));
}
