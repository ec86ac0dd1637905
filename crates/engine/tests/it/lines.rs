//! Calls of quick functions, which wait behind each other.
#![expect(clippy::disallowed_methods, reason = "callers of a test need no name and end with it")]

use engine::EngineConfig;
use model::invocation::Call;
use tokio::task::JoinHandle;

use crate::scripted::{World, bare, call, sleep_ms};

/// A world with one warm instance of the quick function `f`.
async fn warm() -> World {
    let world = World::new(EngineConfig { processors: 2, ..EngineConfig::default() }).await;
    world.deploy("f", "quick").await;
    for _ in 0..20 {
        assert_eq!(world.invoke("f").await.unwrap(), "0");
    }
    world
}

/// Makes the call `after_ms` from now; answers with its outcome and when it came.
fn later(world: &World, after_ms: u64, call: Call) -> JoinHandle<(String, u128)> {
    let engine = world.engine.clone();
    let begin = tokio::time::Instant::now();
    tokio::task::spawn(async move {
        sleep_ms(after_ms).await;
        let done = engine.invoke(call, &bare()).await.unwrap();
        let text = match done.outcome.result {
            Ok(body) => String::from_utf8(body.to_vec()).unwrap(),
            Err(failure) => failure.kind.as_str().to_owned(),
        };
        (text, begin.elapsed().as_millis())
    })
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_quick_calls_is_served_by_what_is_warm() {
    let world = warm().await;
    let calls: Vec<_> =
        ["1", "x", "x", "1", "x", "x", "x"].map(|ms| later(&world, 0, call("f", ms))).into();
    for call in calls {
        assert_eq!(call.await.unwrap().0, "0");
    }
    assert_eq!(world.started(), 1, "nothing was started for a wait of some milliseconds");
}

#[tokio::test(start_paused = true)]
async fn calls_behind_one_that_takes_long_are_served_by_others() {
    let world = warm().await;
    let long = later(&world, 0, call("f", "500"));
    let behind: Vec<_> = (0..6).map(|_| later(&world, 0, call("f", "x"))).collect();
    for call in behind {
        let (who, at) = call.await.unwrap();
        assert_ne!(who, "0");
        // Four of patience, ten for the start, and timers' ticks.
        assert!(at <= 18, "at {at} ms");
    }
    assert_eq!(long.await.unwrap(), ("0".to_owned(), 500));
}

#[tokio::test(start_paused = true)]
async fn idle_instances_are_used_after_some_milliseconds() {
    let world = warm().await;
    // A second and a third instance.
    let busy: Vec<_> = (0..3).map(|_| later(&world, 0, call("f", "50"))).collect();
    for call in busy {
        call.await.unwrap();
    }
    let started = world.started();
    assert!(started >= 2, "{started}");
    for _ in 0..20 {
        world.invoke("f").await.unwrap();
    }
    let long: Vec<_> = (0..2).map(|_| later(&world, 0, call("f", "500"))).collect();
    let behind = later(&world, 0, call("f", "x"));
    let (_, at) = behind.await.unwrap();
    assert!(at <= 6, "at {at} ms");
    for call in long {
        call.await.unwrap();
    }
    assert_eq!(world.started(), started);
}

#[tokio::test(start_paused = true)]
async fn calls_behind_one_that_dies_run_elsewhere_and_once() {
    let world = warm().await;
    let before = world.finished();
    let calls: Vec<_> = ["x", "die", "x", "x", "die", "x"]
        .map(|payload| later(&world, 0, call("f", payload)))
        .into_iter()
        .collect();
    let mut ends = Vec::new();
    for call in calls {
        ends.push(call.await.unwrap().0);
    }
    let exited = ends.iter().filter(|end| *end == "exited").count();
    assert_eq!(exited, 2, "{ends:?}");
    assert_eq!(world.finished() - before, 6, "each ran once");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_too_long_is_throttled_and_never_runs() {
    let config = EngineConfig {
        processors: 1,
        queue_wait: std::time::Duration::from_millis(100),
        ..EngineConfig::default()
    };
    let world = World::new(config).await;
    world.deploy_with("f", "quick", |f| f.settings.max_instances = Some(1)).await;
    for _ in 0..20 {
        world.invoke("f").await.unwrap();
    }
    let before = world.finished();
    let long = later(&world, 0, call("f", "500"));
    let engine = world.engine.clone();
    let refused = tokio::task::spawn(async move { engine.invoke(call("f", "x"), &bare()).await });
    assert_eq!(refused.await.unwrap().unwrap_err().code(), model::Code::Throttled);
    long.await.unwrap();
    assert_eq!(world.finished() - before, 1);
}
