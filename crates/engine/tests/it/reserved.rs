//! Instances that a function has for itself, while others want all there is.

use std::time::Duration;

use engine::EngineConfig;
use model::Code;
use model::function::Function;
use model::namespace::Quotas;
use serde_json::from_slice;

use crate::scripted::{World, bare, call, sleep_ms};

/// Memory of one instance here.
const MEMORY_MB: u32 = 128;
/// Others that want it.
const OTHERS: [&str; 6] = ["a", "b", "c", "d", "e", "g"];

async fn world(host_instances: u64) -> World {
    let world = World::new(EngineConfig {
        host_memory_mb: host_instances * u64::from(MEMORY_MB),
        queue_wait: Duration::from_secs(2),
        ..EngineConfig::default()
    })
    .await;
    for name in OTHERS {
        world.deploy(name, "sleep:90").await;
    }
    world.deploy("f", "sleep:90").await;
    world
}

async fn reserve(world: &World, name: &str, instances: Option<u32>) {
    world.change(name, |f| f.settings.reserved_instances = instances).await;
}

/// Calls of all others, one after the other in each of so many lines, until the answer is dropped.
fn crowd(world: &World, lines: usize) -> Vec<tokio::task::AbortHandle> {
    let lines = OTHERS.iter().flat_map(|name| std::iter::repeat_n(*name, lines));
    lines
        .map(|name| {
            let engine = world.engine.clone();
            #[expect(clippy::disallowed_methods, reason = "callers that never stop")]
            let line = tokio::spawn(async move {
                loop {
                    // Some are throttled.
                    engine.invoke(call(name, "x"), &bare()).await.map(drop).unwrap_or_default();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            line.abort_handle()
        })
        .collect()
}

/// So many calls of `f` at once; milliseconds until all were answered.
async fn calls(world: &World, n: usize) -> u128 {
    let begun = tokio::time::Instant::now();
    let calls = (0..n).map(|_| {
        let engine = world.engine.clone();
        #[expect(clippy::disallowed_methods, reason = "calls at once")]
        tokio::spawn(async move { engine.invoke(call("f", "x"), &bare()).await })
    });
    for called in calls.collect::<Vec<_>>() {
        called.await.unwrap().unwrap().outcome.result.unwrap();
    }
    begun.elapsed().as_millis()
}

fn used(world: &World) -> (u64, u64) {
    let used = world.engine.namespace_use(&"default".parse().unwrap());
    (used.instances, used.reserved_instances)
}

#[tokio::test(start_paused = true)]
async fn what_is_reserved_is_there_at_once_and_others_never_have_it() {
    let world = world(10).await;
    reserve(&world, "f", Some(4)).await;
    let crowd = crowd(&world, 5);
    for _ in 0..200 {
        sleep_ms(7).await;
        assert!(used(&world).0 <= 6, "{:?}", used(&world));
    }
    assert_eq!(used(&world), (6, 4));
    // A start and a call, with everything taken by others.
    assert!(calls(&world, 4).await <= 110);
    // Once more, also after its instances have been idle: nobody takes them.
    sleep_ms(5_000).await;
    let started = world.started();
    assert!(calls(&world, 4).await <= 100);
    assert!(world.engine.stats().memory_mb <= 1_280);
    crowd.iter().for_each(tokio::task::AbortHandle::abort);
    assert!(started > 10, "the others were at each other: {started}");
}

#[tokio::test(start_paused = true)]
async fn it_is_a_ceiling_too() {
    let world = world(10).await;
    reserve(&world, "f", Some(2)).await;
    let took = calls(&world, 6).await;
    assert!((270..330).contains(&took), "three rounds of two: {took}");
    assert_eq!(world.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_reservation_takes_its_room_from_those_who_have_it() {
    for busy in [false, true] {
        let world = world(6).await;
        let crowd = crowd(&world, 4);
        sleep_ms(500).await;
        assert_eq!(used(&world).0, 6);
        if !busy {
            crowd.iter().for_each(tokio::task::AbortHandle::abort);
            sleep_ms(3_000).await;
        }
        reserve(&world, "f", Some(3)).await;
        // The calls under way, a start, a call.
        let took = calls(&world, 3).await;
        assert!(took <= 220, "busy: {busy}, {took}");
        sleep_ms(300).await;
        let theirs = used(&world).0 - 3;
        assert!(theirs <= 3, "busy: {busy}, {theirs}");
        crowd.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

#[tokio::test(start_paused = true)]
async fn zero_switches_it_off_whatever_is_idle_and_null_on_again() {
    let world = world(6).await;
    calls(&world, 2).await;
    reserve(&world, "f", Some(0)).await;
    sleep_ms(50).await;
    assert_eq!(world.stopped(), 2, "they are of no more use");
    let error = world.engine.invoke(call("f", "x"), &bare()).await.unwrap_err();
    assert_eq!(error.code(), Code::Throttled);
    assert!(error.message().contains("reserved_instances"), "{error}");
    reserve(&world, "f", None).await;
    calls(&world, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_function_gives_its_reservation_back() {
    let world = world(6).await;
    reserve(&world, "f", Some(5)).await;
    world.change("f", |f| f.deleted = true).await;
    let _crowd = crowd(&world, 4);
    sleep_ms(500).await;
    assert_eq!(used(&world), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn some_stays_to_all() {
    let world = world(10).await;
    let quotas = Quotas { instances: Some(8), ..Quotas::default() };
    world.quotas("default", quotas).await;
    let document = |name: &str| {
        let at = model::keys::function(&crate::scripted::key(name));
        let meta = world.meta.clone();
        async move {
            let entry = model::ports::Meta::get(&*meta, &at).await.unwrap().unwrap();
            from_slice::<Function>(&entry.value).unwrap()
        }
    };
    let check = |mut function: Function, instances| {
        function.settings.reserved_instances = Some(instances);
        world.engine.check_reserved(&function).map_err(|e| e.message().to_owned())
    };
    check(document("f").await, 7).unwrap();
    let message = check(document("f").await, 8).unwrap_err();
    assert!(message.contains("namespace 'default'") && message.contains("at most 7"), "{message}");
    reserve(&world, "a", Some(3)).await;
    check(document("f").await, 4).unwrap();
    check(document("f").await, 5).unwrap_err();
    // Its own, which is to be replaced, does not count.
    check(document("a").await, 7).unwrap();
    let mut large = document("f").await;
    large.latest.config.memory_mb = 4 * MEMORY_MB;
    let message = check(large, 2).unwrap_err();
    assert!(message.contains("on the host"), "{message}");
    check(document("f").await, 0).unwrap();
}
