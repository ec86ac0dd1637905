//! Synchronous calls: pool, limits, changes of code, shutdown.
#![expect(clippy::disallowed_methods, reason = "callers of a test need no name and end with it")]

use std::time::Duration;

use engine::EngineConfig;
use model::Code;
use model::clock::UnixMillis;
use model::ids::Qualifier;
use model::ports::{Meta, Usage, UsageQuery};

use crate::scripted::{World, bare, call, key, sleep_ms};

fn config() -> EngineConfig {
    EngineConfig::default()
}

#[tokio::test(start_paused = true)]
async fn the_second_call_is_warm() {
    let world = World::new(config()).await;
    world.deploy("f", "echo").await;
    let first = world.engine.invoke(call("f", "a"), &bare()).await.unwrap();
    assert!(first.timings.cold);
    assert_eq!(
        (first.timings.sandbox_us, first.timings.runtime_us, first.timings.code_us),
        (1, 2, 3)
    );
    let second = world.engine.invoke(call("f", "b"), &bare()).await.unwrap();
    assert!(!second.timings.cold);
    assert_eq!(second.timings.sandbox_us, 0);
    assert_eq!(second.outcome.result.unwrap(), "b");
    assert_eq!(second.version, Qualifier::Latest);
    assert_eq!(world.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_instance_used_last_is_used_next() {
    let world = World::new(config()).await;
    world.deploy("f", "sleep:100").await;
    let (a, b) = tokio::join!(world.invoke("f"), async {
        sleep_ms(50).await;
        world.invoke("f").await
    });
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_ne!(a, b);
    for _ in 0..3 {
        assert_eq!(world.invoke("f").await.unwrap(), b);
    }
}

#[tokio::test(start_paused = true)]
async fn over_the_limit_calls_wait_in_order_and_are_throttled_in_the_end() {
    let world =
        World::new(EngineConfig { queue_wait: Duration::from_millis(250), ..config() }).await;
    world.deploy_with("f", "sleep:100", |f| f.settings.max_instances = Some(1)).await;
    let begin = tokio::time::Instant::now();
    let calls = (0..5).map(|n| {
        let engine = world.engine.clone();
        tokio::task::spawn(async move {
            sleep_ms(n).await;
            let done = engine.invoke(call("f", "x"), &bare()).await;
            (n, begin.elapsed().as_millis(), done.map(drop))
        })
    });
    let mut ended = Vec::new();
    for handle in calls.collect::<Vec<_>>() {
        ended.push(handle.await.unwrap());
    }
    // 10 ms start, then 100 ms a call: the first three end in order, two wait 250 ms in vain.
    let times: Vec<_> = ended.iter().map(|(_, at, _)| *at).collect();
    assert_eq!(times, [110, 210, 310, 253, 254]);
    for (n, _, result) in ended {
        match result {
            Ok(()) => assert!(n < 3),
            Err(e) => {
                assert!(n >= 3);
                assert_eq!(e.code(), Code::Throttled);
                assert!(e.retry_hint().is_some());
                assert!(e.message().contains("default/f"), "{}", e.message());
            }
        }
    }
    assert_eq!(world.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_line_of_waiting_calls_is_bounded() {
    let world = World::new(EngineConfig { waiters_per_version: 2, ..config() }).await;
    world.deploy_with("f", "sleep:50", |f| f.settings.max_instances = Some(1)).await;
    // One has the start, two wait, the fourth is one too many.
    let (a, b, c, d) =
        tokio::join!(world.invoke("f"), world.invoke("f"), world.invoke("f"), world.invoke("f"));
    for served in [a, b, c] {
        served.unwrap();
    }
    assert_eq!(d.unwrap_err().code(), Code::Throttled);
}

#[tokio::test(start_paused = true)]
async fn a_line_of_no_length_still_starts_instances() {
    let world = World::new(EngineConfig { waiters_per_version: 0, ..config() }).await;
    world.deploy_with("f", "sleep:50", |f| f.settings.max_instances = Some(1)).await;
    let (a, b) = tokio::join!(world.invoke("f"), world.invoke("f"));
    a.unwrap();
    assert_eq!(b.unwrap_err().code(), Code::Throttled);
    world.invoke("f").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_longer_than_the_wait_is_waited_for() {
    let config = EngineConfig { queue_wait: Duration::from_millis(100), ..config() };
    let world = World::with_start(config, 9_000).await;
    world.deploy("f", "echo").await;
    world.invoke("f").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_instances_at_all_refuses_at_once() {
    let world = World::new(config()).await;
    world.deploy_with("f", "echo", |f| f.settings.max_instances = Some(0)).await;
    let begin = tokio::time::Instant::now();
    assert_eq!(world.invoke("f").await.unwrap_err().code(), Code::Throttled);
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_busy_instance_that_comes_back_spares_the_wait_for_a_start() {
    let world = World::with_start(config(), 1_000).await;
    world.deploy("f", "sleep:1").await;
    world.invoke("f").await.unwrap();
    let begin = tokio::time::Instant::now();
    let (a, b) = tokio::join!(world.invoke("f"), world.invoke("f"));
    a.unwrap();
    b.unwrap();
    assert!(begin.elapsed() < Duration::from_millis(10), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn failures_to_start_reach_the_caller_and_are_tried_anew() {
    let world = World::new(config()).await;
    world.deploy("f", "init-fail").await;
    assert_eq!(world.invoke("f").await.unwrap(), "failed: init");
    assert_eq!(world.invoke("f").await.unwrap(), "failed: init");
    world.deploy("f", "no-sandbox").await;
    assert_eq!(world.invoke("f").await.unwrap_err().code(), Code::SandboxFailed);
    world.deploy("f", "echo").await;
    assert_eq!(world.invoke("f").await.unwrap(), "hello");
    assert_eq!(world.engine.stats().memory_mb, 128, "failed starts must give their permits back");
}

#[tokio::test(start_paused = true)]
async fn a_dead_instance_serves_nobody() {
    let world = World::new(config()).await;
    world.deploy("f", "die").await;
    for n in 1..=3 {
        assert_eq!(world.invoke("f").await.unwrap(), "failed: exited");
        assert_eq!(world.started(), n);
    }
    sleep_ms(1).await;
    assert_eq!(world.stopped(), 3);
    assert_eq!(world.engine.stats().memory_mb, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_came_too_late_for_an_instance_goes_to_another() {
    let world = World::new(config()).await;
    world.deploy("f", "leave").await;
    for n in 0..3 {
        assert_eq!(world.invoke("f").await.unwrap(), n.to_string());
    }
    sleep_ms(1).await;
    assert_eq!((world.started(), world.stopped()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn new_code_serves_new_calls_and_old_calls_end_on_old_code() {
    let world = World::new(config()).await;
    world.deploy("f", "sleep:500").await;
    let old = tokio::task::spawn({
        let engine = world.engine.clone();
        async move { engine.invoke(call("f", "x"), &bare()).await.unwrap() }
    });
    sleep_ms(50).await;
    world.deploy("f", "echo").await;
    assert_eq!(world.invoke("f").await.unwrap(), "hello");
    assert!(!old.is_finished());
    assert_eq!(old.await.unwrap().outcome.result.unwrap(), "0");
    sleep_ms(1).await;
    assert_eq!(world.stopped(), 1, "the old instance ends with its last call");
}

#[tokio::test(start_paused = true)]
async fn new_code_waits_for_the_only_instance_that_old_code_has() {
    let world = World::new(config()).await;
    world.deploy_with("f", "sleep:500", |f| f.settings.max_instances = Some(1)).await;
    let old = tokio::task::spawn({
        let engine = world.engine.clone();
        async move { engine.invoke(call("f", "x"), &bare()).await.unwrap() }
    });
    sleep_ms(50).await;
    world.deploy("f", "echo").await;
    let begin = tokio::time::Instant::now();
    assert_eq!(world.invoke("f").await.unwrap(), "hello");
    assert!(begin.elapsed() < Duration::from_millis(600), "{:?}", begin.elapsed());
    old.await.unwrap().outcome.result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_change_of_settings_keeps_the_instances() {
    let world = World::new(config()).await;
    world.deploy("f", "who").await;
    assert_eq!(world.invoke("f").await.unwrap(), "0");
    world.deploy_with("f", "who", |f| f.settings.max_instances = Some(7)).await;
    assert_eq!(world.invoke("f").await.unwrap(), "0");
}

#[tokio::test(start_paused = true)]
async fn published_versions_stay_as_they_were() {
    let world = World::new(config()).await;
    world.deploy("f", "who").await;
    world.publish("f", 1).await;
    world.deploy("f", "echo").await;
    assert_eq!(world.invoke("f").await.unwrap(), "hello");
    assert_eq!(world.invoke("f:1").await.unwrap(), "1");
    let done = world.engine.invoke(call("f:1", ""), &bare()).await.unwrap();
    assert_eq!(done.version, Qualifier::Version(1));
    for missing in ["f:2", "f:live"] {
        assert_eq!(world.invoke(missing).await.unwrap_err().code(), Code::NotFound, "{missing}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_a_change_that_does_not_come() {
    let world = World::new(config()).await;
    let error = world.engine.caught_up(u64::MAX).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_function_is_unknown_and_its_instances_end() {
    let world = World::new(config()).await;
    world.deploy("f", "echo").await;
    world.invoke("f").await.unwrap();
    let at = model::keys::function(&key("f"));
    let entry = world.meta.get(&at).await.unwrap().unwrap();
    let revision = world.meta.delete_if(&at, entry.revision).await.unwrap();
    world.engine.caught_up(revision).await.unwrap();
    assert_eq!(world.invoke("f").await.unwrap_err().code(), Code::NotFound);
    sleep_ms(1).await;
    assert_eq!(world.stopped(), 1);
}

#[tokio::test(start_paused = true)]
async fn idle_instances_end_after_the_keep_alive() {
    let world = World::new(EngineConfig { keep_alive: Duration::from_secs(60), ..config() }).await;
    world.deploy("f", "echo").await;
    world.invoke("f").await.unwrap();
    sleep_ms(50_000).await;
    assert_eq!(world.stopped(), 0);
    sleep_ms(12_000).await;
    assert_eq!(world.stopped(), 1);
    let mut stats = world.engine.stats();
    assert_eq!(std::mem::take(&mut stats.instances.freezes), 1, "it stood still before");
    assert_eq!(stats, engine::Stats::default());
}

#[tokio::test(start_paused = true)]
async fn memory_of_the_host_goes_to_whoever_needs_it() {
    let world = World::new(EngineConfig { host_memory_mb: 256, ..config() }).await;
    for name in ["a", "b", "c"] {
        world.deploy(name, "sleep:100").await;
    }
    world.invoke("a").await.unwrap();
    sleep_ms(10).await;
    world.invoke("b").await.unwrap();
    // No room for c: the instance idle longest, a's, makes way.
    world.invoke("c").await.unwrap();
    assert_eq!((world.started(), world.stopped()), (3, 1));
    // Both busy: a waits until one comes back.
    let begin = tokio::time::Instant::now();
    let (b, c, a) = tokio::join!(world.invoke("b"), world.invoke("c"), async {
        sleep_ms(10).await;
        world.invoke("a").await
    });
    b.unwrap();
    c.unwrap();
    a.unwrap();
    assert!(begin.elapsed() <= Duration::from_millis(1_400), "{:?}", begin.elapsed());
    assert!(world.engine.stats().memory_mb <= 256);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_shares_its_limit() {
    let world = World::new(EngineConfig { instances_per_namespace: 1, ..config() }).await;
    world.deploy("a", "echo").await;
    world.deploy("b", "echo").await;
    world.invoke("a").await.unwrap();
    world.invoke("b").await.unwrap();
    assert_eq!((world.started(), world.stopped()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_when_the_caller_goes_away() {
    let world = World::new(config()).await;
    world.deploy("f", "sleep:100").await;
    let gone = tokio::time::timeout(Duration::from_millis(50), world.invoke("f")).await;
    assert!(gone.is_err());
    assert_eq!(world.finished(), 0);
    sleep_ms(100).await;
    assert_eq!(world.finished(), 1);
    world.invoke("f").await.unwrap();
    assert_eq!(world.started(), 1, "its instance is whole and serves the next call");
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_calls_end_and_refuses_new_ones() {
    let world = World::new(config()).await;
    world.deploy("f", "sleep:500").await;
    let engine = world.engine.clone();
    let running = tokio::task::spawn(async move { engine.invoke(call("f", "x"), &bare()).await });
    sleep_ms(50).await;
    let draining = tokio::task::spawn({
        let engine = world.engine.clone();
        async move { engine.drain(Duration::from_secs(30)).await }
    });
    sleep_ms(1).await;
    assert_eq!(world.invoke("f").await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(draining.await.unwrap(), 0);
    running.await.unwrap().unwrap();
    assert_eq!(world.stopped(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_ran_is_metered() {
    let world = World::new(config()).await;
    world.deploy("f", "echo").await;
    world.deploy("g", "fail").await;
    for _ in 0..3 {
        world.invoke("f").await.unwrap();
    }
    assert_eq!(world.invoke("g").await.unwrap(), "failed: handler");
    sleep_ms(1_100).await;
    let (since, until) = (UnixMillis(0), UnixMillis(u64::MAX));
    let query = |name| UsageQuery { function: key(name), since, until };
    let rows = world.usage.query(query("f")).await.unwrap();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    // 1.5 ms each, billed as 2 ms of 128 MiB.
    assert_eq!((row.sums.requests, row.sums.failures, row.sums.cold_starts), (3, 0, 1));
    assert_eq!((row.sums.duration_ms, row.sums.memory_mb_ms), (6, 768));
    assert_eq!((row.sums.bytes_in, row.sums.bytes_out), (15, 15));
    let rows = world.usage.query(query("g")).await.unwrap();
    assert_eq!(rows.first().map(|r| r.sums.failures), Some(1));
}
