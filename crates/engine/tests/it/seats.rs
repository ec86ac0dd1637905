//! Several calls at once in one instance.

use std::time::Duration;

use engine::EngineConfig;
use model::Code;
use model::clock::UnixMillis;
use model::ports::{Usage as _, UsageQuery};

use crate::scripted::{World, bare, call, key, sleep_ms};

async fn world(at_once: u32, instances: u32) -> World {
    let world = World::new(EngineConfig::default()).await;
    world
        .deploy_with("f", "crowd", |f| {
            f.latest.config.instance_concurrency = Some(at_once);
            f.settings.max_instances = Some(instances);
        })
        .await;
    world
}

/// Calls at the same time, with these payloads.
async fn at_once<const N: usize>(world: &World, payloads: [&'static str; N]) -> Vec<String> {
    let calls = payloads.map(|payload| world.invoke_with("f", payload, &[]));
    let done = futures_util::future::join_all(calls).await;
    done.into_iter().map(|done| done.unwrap_or_else(|e| e.code().to_string())).collect()
}

#[tokio::test(start_paused = true)]
async fn one_start_serves_as_many_as_the_instance_takes() {
    let world = world(3, 9).await;
    let begun = tokio::time::Instant::now();
    let served = at_once(&world, ["50"; 7]).await;
    assert_eq!(world.started(), 3, "{served:?}");
    // All at the same time, behind a start of 10 ms.
    assert_eq!(begun.elapsed(), Duration::from_millis(60));
    let mut by = ["0", "1", "2"].map(|n| served.iter().filter(|s| *s == n).count());
    by.sort_unstable();
    assert_eq!(by, [1, 3, 3], "{served:?}");
    assert_eq!(world.stopped(), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_fill_an_instance_before_they_take_another() {
    let world = world(2, 9).await;
    at_once(&world, ["50"; 4]).await;
    assert_eq!(world.started(), 2);
    let (long, short) = tokio::join!(world.invoke_with("f", "200", &[]), async {
        let mut by = Vec::new();
        for _ in 0..5 {
            sleep_ms(10).await;
            by.push(world.invoke_with("f", "5", &[]).await.unwrap());
        }
        by
    });
    let long = long.unwrap();
    assert!(short.iter().all(|by| *by == long), "{long} {short:?}");
}

#[tokio::test(start_paused = true)]
async fn over_the_limit_calls_wait_for_a_place() {
    let world = world(2, 1).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(at_once(&world, ["100"; 5]).await, ["0"; 5]);
    // Three rounds behind the start.
    assert_eq!((begun.elapsed().as_millis(), world.started()), (310, 1));
    let use_now = world.engine.stats();
    assert_eq!((use_now.instances.idle, use_now.waiting_calls), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_takes_no_more_ends_when_its_last_call_does() {
    let world = world(3, 2).await;
    world.invoke_with("f", "1", &[]).await.unwrap();
    let (first, second, failed, after) = tokio::join!(
        world.invoke_with("f", "100", &[]),
        world.invoke_with("f", "200", &[]),
        async {
            sleep_ms(10).await;
            world.invoke_with("f", "die", &[]).await
        },
        async {
            sleep_ms(20).await;
            let by = world.invoke_with("f", "1", &[]).await;
            assert_eq!(world.stopped(), 0, "it has calls still");
            by
        }
    );
    assert_eq!((first.unwrap(), second.unwrap()), ("0".to_owned(), "0".to_owned()));
    assert_eq!(failed.unwrap(), "failed: timeout");
    assert_eq!(after.unwrap(), "1", "another one serves what comes");
    sleep_ms(1).await;
    assert_eq!((world.started(), world.stopped()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_old_instance_ends_behind_its_last_call() {
    let world = world(4, 4).await;
    let busy = [(); 3].map(|()| world.engine.clone()).map(|engine| async move {
        engine.invoke(call("f", "100"), &bare()).await.unwrap().outcome.result.unwrap()
    });
    let change = async {
        sleep_ms(50).await;
        world.deploy("f", "who").await;
        assert_eq!(world.stopped(), 0);
        world.invoke("f").await.unwrap()
    };
    let (old, new) = tokio::join!(futures_util::future::join_all(busy), change);
    assert!(old.iter().all(|by| by == "0"), "{old:?}");
    assert_eq!(new, "1");
    sleep_ms(100).await;
    assert_eq!(world.stopped(), 1);
}

#[tokio::test(start_paused = true)]
async fn idle_instances_go_and_busy_ones_stay() {
    let world = world(2, 9).await;
    at_once(&world, ["50"; 4]).await;
    let long = world.invoke_with("f", "899000", &[]);
    let look = async {
        sleep_ms(898_000).await;
        assert_eq!((world.started(), world.stopped()), (2, 1));
    };
    let (long, ()) = tokio::join!(long, look);
    long.unwrap();
    sleep_ms(1_000_000).await;
    assert_eq!(world.stopped(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_answers_those_that_it_would_have_served() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy_with("f", "init-fail", |f| f.latest.config.instance_concurrency = Some(10)).await;
    let begun = tokio::time::Instant::now();
    let served = at_once(&world, ["1"; 10]).await;
    assert_eq!(served, ["failed: init"; 10]);
    assert_eq!(begun.elapsed(), Duration::from_millis(10), "one start");
    world.deploy_with("g", "no-sandbox", |f| f.latest.config.instance_concurrency = Some(2)).await;
    let one = world.invoke("g");
    let (one, two) = tokio::join!(one, world.invoke("g"));
    for failed in [one, two] {
        assert_eq!(failed.unwrap_err().code(), Code::SandboxFailed);
    }
}

#[tokio::test(start_paused = true)]
async fn each_call_is_metered() {
    let world = world(3, 1).await;
    at_once(&world, ["5"; 3]).await;
    world.engine.drain(Duration::from_secs(1)).await;
    let all = UsageQuery { function: key("f"), since: UnixMillis(0), until: UnixMillis(u64::MAX) };
    let rows = world.usage.query(all).await.unwrap();
    let requests: u64 = rows.iter().map(|row| row.sums.requests).sum();
    assert_eq!(requests, 3, "{rows:?}");
    assert_eq!(world.stopped(), 1);
}
