//! How long idle instances stay: learned from a function's calls, in simulated hours.

use engine::EngineConfig;

use crate::scripted::{World, bare, call, sleep_ms};

const MINUTE_MS: u64 = 60_000;

async fn world() -> World {
    // A test's queue is looked at so often that hours would take minutes.
    let config = EngineConfig { async_concurrency: 0, ..EngineConfig::default() };
    let world = World::new(config).await;
    world.deploy("f", "echo").await;
    world
}

/// A call; whether it waited for a start.
async fn cold(world: &World) -> bool {
    let done = world.engine.invoke(call("f", "hello"), &bare()).await.unwrap();
    done.outcome.result.unwrap();
    done.timings.cold
}

/// Instances that live.
fn live(world: &World) -> usize {
    world.started() - world.stopped()
}

#[tokio::test(start_paused = true)]
async fn a_call_every_half_hour_is_expected_and_nothing_is_kept_in_between() {
    let world = world().await;
    let mut colds = 0;
    for _ in 0..11 {
        colds += usize::from(cold(&world).await);
        sleep_ms(30 * MINUTE_MS).await;
    }
    assert_eq!(colds, 11, "five minutes of keep-alive are no use");
    assert_eq!(world.engine.stats().learned, 1);
    for _ in 0..5 {
        assert!(!cold(&world).await);
        sleep_ms(2 * MINUTE_MS).await;
        assert_eq!(live(&world), 0, "gone until it is time");
        sleep_ms(26 * MINUTE_MS).await;
        assert_eq!(live(&world), 1, "back before the call");
        sleep_ms(2 * MINUTE_MS).await;
    }
    assert!((5..=6).contains(&world.engine.stats().instances.foreseen));
    // It stops coming: one more is started in vain, and goes.
    sleep_ms(3 * 60 * MINUTE_MS).await;
    assert_eq!(live(&world), 0);
    assert!(world.engine.stats().instances.foreseen <= 7, "{:?}", world.engine.stats());
}

#[tokio::test(start_paused = true)]
async fn a_call_every_ten_seconds_that_stops_is_not_waited_for() {
    let world = world().await;
    for n in 0..60 {
        assert_eq!(cold(&world).await, n == 0);
        sleep_ms(10_000).await;
    }
    sleep_ms(50_000).await;
    assert_eq!(live(&world), 1);
    sleep_ms(15_000).await;
    assert_eq!(live(&world), 0, "a minute and some, not five");
}

#[tokio::test(start_paused = true)]
async fn bursts_find_an_instance_and_their_others_go_soon() {
    let world = world().await;
    world.deploy("f", "sleep:1000").await;
    for round in 0..20 {
        let calls = (world.invoke("f"), world.invoke("f"), world.invoke("f"));
        let (a, b, c) = tokio::join!(calls.0, calls.1, calls.2);
        a.and(b).and(c).unwrap();
        sleep_ms(5_000).await;
        world.invoke("f").await.unwrap();
        sleep_ms(10 * MINUTE_MS).await;
        let kept = usize::from(round >= 5);
        assert_eq!(live(&world), kept, "round {round}");
        sleep_ms(10 * MINUTE_MS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_pattern_the_fixed_time_holds() {
    let world = world().await;
    // Pauses from nothing to four hours, spread evenly.
    for n in 0..12_u64 {
        cold(&world).await;
        sleep_ms((n * 5 % 12) * 20 * MINUTE_MS).await;
    }
    assert_eq!(world.engine.stats().learned, 0);
    cold(&world).await;
    sleep_ms(4 * MINUTE_MS + 50_000).await;
    assert_eq!(live(&world), 1);
    sleep_ms(15_000).await;
    assert_eq!((live(&world), world.engine.stats().instances.foreseen), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_learned_lives_through_new_code() {
    let world = world().await;
    for _ in 0..12 {
        cold(&world).await;
        sleep_ms(20 * MINUTE_MS).await;
    }
    assert!(!cold(&world).await);
    world.swap_code("f", "who").await.unwrap();
    sleep_ms(19 * MINUTE_MS).await;
    assert_eq!(live(&world), 1, "new code is expected at the same time");
    assert!(!cold(&world).await);
}

#[tokio::test(start_paused = true)]
async fn what_costs_most_to_start_again_stays_longest() {
    let config = EngineConfig { host_memory_mb: 384, ..EngineConfig::default() };
    let world = World::new(config).await;
    for (name, handler) in [("dear", "late:900"), ("cheap", "late:1"), ("large", "late:900")] {
        world.deploy(name, handler).await;
    }
    world.deploy("other", "echo").await;
    // The dear one is idle longer, and stays.
    world.invoke("dear").await.unwrap();
    sleep_ms(500).await;
    world.invoke("cheap").await.unwrap();
    world.invoke("large").await.unwrap();
    world.invoke("other").await.unwrap();
    sleep_ms(1).await;
    assert_eq!((world.stopped(), world.engine.stats().instances.evicted), (1, 1));
    let started = world.started();
    world.invoke("dear").await.unwrap();
    world.invoke("large").await.unwrap();
    assert_eq!(world.started(), started, "neither was stopped");
}

#[tokio::test(start_paused = true)]
async fn the_last_of_many_goes_first() {
    let config = EngineConfig { host_memory_mb: 512, ..EngineConfig::default() };
    let world = World::new(config).await;
    world.deploy("many", "sleep:100").await;
    world.deploy("one", "echo").await;
    world.deploy("other", "echo").await;
    world.invoke("one").await.unwrap();
    let calls = (world.invoke("many"), world.invoke("many"), world.invoke("many"));
    let (a, b, c) = tokio::join!(calls.0, calls.1, calls.2);
    a.and(b).and(c).unwrap();
    world.invoke("other").await.unwrap();
    let started = world.started();
    world.invoke("one").await.unwrap();
    assert_eq!(world.started(), started);
    assert_eq!(world.engine.stats().instances.evicted, 1);
}
