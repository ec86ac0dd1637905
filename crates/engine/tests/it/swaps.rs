//! Hot swap: what a change brings stands ready before it takes effect.
#![expect(clippy::disallowed_methods, reason = "callers of a test need no name and end with it")]

use std::sync::Arc;
use std::time::Duration;

use engine::{EngineConfig, Faulty};
use model::Code;
use model::function::{Function, Variable};
use model::invocation::Completed;
use model::ports::Meta;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::scripted::{World, bare, call, key, sleep_ms};

/// What a start takes in these tests, unless they say otherwise.
const START_MS: u64 = 500;
/// After which a change is acknowledged whose function was called lately and is no more.
const LOOK_MS: u64 = 10;

async fn world() -> World {
    World::with_start(EngineConfig::default(), START_MS).await
}

/// A call under way.
fn calling(world: &World, name: &str) -> JoinHandle<model::Result<Completed>> {
    let (engine, call) = (world.engine.clone(), call(name, "hello"));
    tokio::task::spawn(async move { engine.invoke(call, &bare()).await })
}

fn target(version: u64) -> String {
    format!(r#"{{"targets":[{{"version":{version},"weight":1}}]}}"#)
}

async fn move_alias(world: &World, json: &str) -> model::Result<()> {
    let alias = serde_json::from_str(json).unwrap();
    let change = |f: &mut Function| {
        f.aliases.get_mut(&"live".parse().unwrap()).unwrap().alias = alias;
    };
    world.swap("f", Faulty::Refused, change).await
}

#[tokio::test(start_paused = true)]
async fn as_many_stand_ready_as_were_busy_and_no_call_waits() {
    let world = world().await;
    world.deploy("f", "sleep:4000").await;
    let old: Vec<_> = (0..3).map(|_| calling(&world, "f")).collect();
    sleep_ms(1_000).await;
    world.swap_code("f", "sleep:10").await.unwrap();
    assert_eq!(world.started(), 6);
    let begin = Instant::now();
    let new: Vec<_> = (0..3).map(|_| calling(&world, "f")).collect();
    for call in new {
        let done = call.await.unwrap().unwrap();
        assert!(!done.timings.cold, "nobody waited for its start");
    }
    assert!(begin.elapsed() < Duration::from_millis(20), "{:?}", begin.elapsed());
    assert!(old.iter().all(|call| !call.is_finished()), "calls in flight go on");
    for call in old {
        call.await.unwrap().unwrap().outcome.result.unwrap();
    }
    sleep_ms(1).await;
    assert_eq!((world.started(), world.stopped()), (6, 3));
}

#[tokio::test(start_paused = true)]
async fn one_stands_ready_for_an_idle_function_and_none_for_one_that_nobody_calls() {
    let world = world().await;
    world.deploy("f", "echo").await;
    let begin = Instant::now();
    world.swap_code("f", "who").await.unwrap();
    assert_eq!((world.started(), begin.elapsed().as_millis()), (0, 0));
    world.invoke("f").await.unwrap();
    // The seconds in which it was busy are over.
    sleep_ms(3_000).await;
    world.swap_code("f", "echo").await.unwrap();
    assert_eq!((world.started(), world.stopped()), (2, 1));
    // What changes nothing that calls reach starts nothing.
    world.swap("f", Faulty::Refused, |f| f.settings.max_instances = Some(7)).await.unwrap();
    assert_eq!(world.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn code_that_shows_before_it_runs_that_it_cannot_be_loaded_is_refused_unless_forced() {
    let world = world().await;
    // Nobody calls it, so nothing is started for a change.
    world.deploy("f", "echo").await;
    let error = world.swap_code("f", "unloadable:no such import").await.unwrap_err();
    assert_eq!((error.code(), error.origin()), (Code::InitFailed, model::Origin::Function));
    assert!(error.message().contains("no such import"), "{error}");
    let spoil = |f: &mut Function| f.latest.config.handler = "unloadable:no".into();
    world.swap("f", Faulty::Accepted, spoil).await.unwrap();
    assert_eq!(world.started(), 0);
}

#[tokio::test(start_paused = true)]
async fn code_that_cannot_be_loaded_takes_no_calls_unless_forced() {
    let world = world().await;
    world.deploy("f", "echo").await;
    world.invoke("f").await.unwrap();
    let error = world.swap_code("f", "init-fail").await.unwrap_err();
    assert_eq!((error.code(), error.origin()), (Code::InitFailed, model::Origin::Function));
    assert!(error.message().contains("Runtime.ImportModuleError: no"), "{error}");
    assert!(error.hint().unwrap().contains("--force"), "{error:?}");
    assert_eq!(world.invoke("f").await.unwrap(), "hello");
    assert_eq!(world.engine.stats().memory_mb, 128, "nothing stays behind");
    let change = |f: &mut Function| f.latest.config.handler = "init-fail".into();
    world.swap("f", Faulty::Accepted, change).await.unwrap();
    assert_eq!(world.invoke("f").await.unwrap(), "failed: init");
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_platform_refuses_no_change() {
    let world = world().await;
    world.deploy("f", "echo").await;
    world.invoke("f").await.unwrap();
    world.swap_code("f", "no-sandbox").await.unwrap();
    assert_eq!(world.invoke("f").await.unwrap_err().code(), Code::SandboxFailed);
}

#[tokio::test(start_paused = true)]
async fn starts_that_take_too_long_do_not_hold_up_the_change_for_ever() {
    let world = world().await;
    world.deploy("f", "echo").await;
    world.invoke("f").await.unwrap();
    let begin = Instant::now();
    world.swap_code("f", "late:60000").await.unwrap();
    let took = begin.elapsed().as_secs();
    assert!((10..20).contains(&took), "{took} s");
    // The start goes on, and its instance is the one that serves.
    sleep_ms(60_000).await;
    assert_eq!(world.invoke("f").await.unwrap(), "hello");
    assert_eq!(world.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_function_with_one_instance_swaps_and_has_one_afterwards() {
    let world = world().await;
    world.deploy_with("f", "sleep:5000", |f| f.settings.max_instances = Some(1)).await;
    let (old, waiting) = (calling(&world, "f"), calling(&world, "f"));
    sleep_ms(1_000).await;
    let begin = Instant::now();
    world.swap_code("f", "echo").await.unwrap();
    assert_eq!(world.engine.stats().memory_mb, 256, "twice as many as the limit at most");
    // The call that waited needs not wait for the old code's end.
    let done = waiting.await.unwrap().unwrap();
    assert_eq!(done.outcome.result.unwrap(), "hello");
    assert_eq!(world.invoke("f").await.unwrap(), "hello");
    assert!(
        begin.elapsed() < Duration::from_millis(START_MS + LOOK_MS + 10),
        "{:?}",
        begin.elapsed()
    );
    // A third generation has no room until the first has ended: it comes without.
    world.swap_code("f", "who").await.unwrap();
    world.swap_code("f", "sleep:1").await.unwrap();
    assert!(world.engine.stats().memory_mb <= 256);
    old.await.unwrap().unwrap().outcome.result.unwrap();
    world.invoke("f").await.unwrap();
    assert_eq!(world.engine.stats().memory_mb, 128);
}

#[tokio::test(start_paused = true)]
async fn an_alias_moves_to_what_stands_ready() {
    let world = world().await;
    world.versions("f", &["who", "sleep:100", "echo"]).await;
    world.alias("f", "live", &target(1)).await;
    move_alias(&world, &target(2)).await.unwrap();
    assert_eq!(world.started(), 0, "nobody calls it");
    let two: Vec<_> = (0..2).map(|_| calling(&world, "f:live")).collect();
    for call in two {
        call.await.unwrap().unwrap();
    }
    move_alias(&world, &target(3)).await.unwrap();
    assert_eq!(world.started(), 4);
    let begin = Instant::now();
    assert_eq!(world.invoke("f:live").await.unwrap(), "hello");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    // What version 2 had is still there: it is the way back.
    move_alias(&world, &target(2)).await.unwrap();
    assert_eq!((world.started(), world.stopped()), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_part_of_the_calls_needs_a_part_of_the_instances() {
    let world = world().await;
    world.versions("f", &["sleep:10000", "echo"]).await;
    world.alias("f", "live", &target(1)).await;
    let _old: Vec<_> = (0..8).map(|_| calling(&world, "f:live")).collect();
    sleep_ms(1_000).await;
    let step = |percent: u32| {
        let rest = 100 - percent;
        format!(
            r#"{{"targets":[{{"version":1,"weight":{rest}}},{{"version":2,"weight":{percent}}}]}}"#
        )
    };
    for (percent, started) in [(5, 9), (50, 12), (100, 16)] {
        move_alias(&world, &step(percent)).await.unwrap();
        assert_eq!(world.started(), started, "{percent} %");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_replaced_makes_way_where_the_limit_is_exceeded() {
    let world = world().await;
    world.versions("f", &["sleep:3000", "echo"]).await;
    world.alias("f", "live", &target(1)).await;
    world.change("f", |f| f.settings.max_instances = Some(1)).await;
    let old = calling(&world, "f:live");
    sleep_ms(1_000).await;
    move_alias(&world, &target(2)).await.unwrap();
    assert_eq!(world.invoke("f:live").await.unwrap(), "hello");
    assert_eq!(world.engine.stats().memory_mb, 256);
    old.await.unwrap().unwrap();
    sleep_ms(1).await;
    assert_eq!((world.engine.stats().memory_mb, world.engine.stats().instances.idle), (128, 1));
    // Back again: the idle one of version 2 makes way as soon as the route has moved.
    move_alias(&world, &target(1)).await.unwrap();
    sleep_ms(1).await;
    assert_eq!((world.engine.stats().memory_mb, world.stopped()), (128, 2));
}

#[tokio::test(start_paused = true)]
async fn an_alias_with_another_environment_is_another_thing() {
    let world = world().await;
    world.versions("f", &["env:MODE"]).await;
    world.alias("f", "live", &target(1)).await;
    world.invoke("f:live").await.unwrap();
    let json = r#"{"targets":[{"version":1,"weight":1}],"environment":{"MODE":"new"}}"#;
    move_alias(&world, json).await.unwrap();
    let begin = Instant::now();
    assert_eq!(world.invoke("f:live").await.unwrap(), "new");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    let change = |f: &mut Function| {
        let environment =
            &mut f.aliases.get_mut(&"live".parse().unwrap()).unwrap().alias.environment;
        environment.insert("MODE".into(), Variable::Plain("newer".into()));
    };
    world.swap("f", Faulty::Refused, change).await.unwrap();
    assert_eq!(world.invoke("f:live").await.unwrap(), "newer");
    assert_eq!(begin.elapsed(), Duration::from_millis(START_MS + LOOK_MS));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_not_made_leaves_nothing() {
    let world = world().await;
    world.deploy("f", "echo").await;
    world.invoke("f").await.unwrap();
    let at = model::keys::function(&key("f"));
    let entry = world.meta.get(&at).await.unwrap().unwrap();
    let mut function: Function = serde_json::from_slice(&entry.value).unwrap();
    function.latest.config.handler = "who".into();
    let prepared = world.engine.prepare(&function, Faulty::Refused).await.unwrap();
    assert_eq!(world.engine.stats().instances.idle, 2);
    // Another change in between takes nothing away.
    world.change("f", |f| f.settings.max_instances = Some(5)).await;
    assert_eq!(world.engine.stats().instances.idle, 2);
    drop(prepared);
    sleep_ms(1).await;
    assert_eq!((world.engine.stats().instances.idle, world.stopped()), (1, 1));
    assert_eq!(world.invoke("f").await.unwrap(), "hello");
}

#[tokio::test(start_paused = true)]
async fn where_the_host_has_no_room_the_change_comes_without() {
    let config = EngineConfig { host_memory_mb: 256, ..EngineConfig::default() };
    let world = World::with_start(config, START_MS).await;
    for name in ["f", "g"] {
        world.deploy(name, "echo").await;
        world.invoke(name).await.unwrap();
    }
    // What another function does not use makes way.
    world.swap_code("f", "who").await.unwrap();
    sleep_ms(1).await;
    assert_eq!((world.started(), world.stopped()), (3, 2));
    // What it uses does not.
    world.deploy("g", "sleep:10000").await;
    let busy = calling(&world, "g");
    sleep_ms(1_000).await;
    world.swap_code("f", "echo").await.unwrap();
    assert_eq!(world.invoke("f").await.unwrap(), "hello");
    busy.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_new_code_is_fresh_the_old_serves_what_would_wait_for_it() {
    let world = Arc::new(world().await);
    world.deploy("f", "who").await;
    // One call at a time, so that one instance is busy.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let engine = world.engine.clone();
    let load = tokio::task::spawn(async move {
        while !*stopped.borrow() {
            engine.invoke(call("f", "1"), &bare()).await.unwrap().outcome.result.unwrap();
            sleep_ms(4).await;
        }
    });
    sleep_ms(2_000).await;
    let old = world.invoke("f").await.unwrap();
    let began = world.started();
    let swapping = Arc::clone(&world);
    let swap = tokio::task::spawn(async move { swapping.swap_code("f", "sleep:1").await });
    sleep_ms(START_MS + 25).await;
    assert!(!swap.is_finished(), "fifty calls are not over yet");
    let both: Vec<_> = (0..2).map(|_| calling(&world, "f")).collect();
    let mut answers = Vec::new();
    for call in both {
        answers.push(call.await.unwrap().unwrap().outcome.result.unwrap());
    }
    assert_eq!(answers.iter().filter(|answer| **answer == old).count(), 1, "{answers:?}");
    assert_eq!(world.started() - began, 1, "nobody waited for a start");

    swap.await.unwrap().unwrap();
    let both: Vec<_> = (0..2).map(|_| calling(&world, "f")).collect();
    for call in both {
        let answer = call.await.unwrap().unwrap().outcome.result.unwrap();
        assert_ne!(answer, old, "acknowledged");
    }
    stop.send(true).unwrap();
    load.await.unwrap();
    sleep_ms(10).await;
    assert!(world.stopped() >= 1, "what was replaced is gone");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_function_that_nobody_calls_waits_for_nothing() {
    let world = world().await;
    world.deploy("f", "echo").await;
    world.invoke("f").await.unwrap();
    sleep_ms(5_000).await;
    let begin = Instant::now();
    world.swap_code("f", "echo:2").await.unwrap();
    assert_eq!(begin.elapsed(), Duration::from_millis(START_MS));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_swaps_under_load_lose_and_delay_no_call() {
    for (handler, load) in [("sleep:3", 8), ("quick", 4)] {
        let config = EngineConfig { processors: 2, ..EngineConfig::default() };
        let world = World::with_start(config, 50).await;
        world.deploy("f", handler).await;
        for _ in 0..20 {
            world.invoke("f").await.unwrap();
        }
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let callers = (0..load).map(|n| {
            let (engine, stopped) = (world.engine.clone(), stopped.clone());
            tokio::task::spawn(async move {
                let mut slowest = Duration::ZERO;
                sleep_ms(n).await;
                while !*stopped.borrow() {
                    let begin = Instant::now();
                    let done = engine.invoke(call("f", "1"), &bare()).await.unwrap();
                    done.outcome.result.unwrap();
                    slowest = slowest.max(begin.elapsed());
                    sleep_ms(1).await;
                }
                slowest
            })
        });
        let callers: Vec<_> = callers.collect();
        sleep_ms(500).await;
        let begun = world.started();
        for n in 0..100 {
            let change = |f: &mut Function| {
                f.latest.config.handler = handler.into();
                f.latest.config.description = n.to_string();
            };
            world.swap("f", Faulty::Refused, change).await.unwrap();
        }
        stop.send(true).unwrap();
        for caller in callers {
            let slowest = caller.await.unwrap();
            assert!(slowest <= Duration::from_millis(60), "{handler}: {slowest:?}");
        }
        assert!(world.started() - begun >= 100, "{}", world.started());
    }
}
