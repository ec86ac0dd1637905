//! Many dead calls at once.

use engine::{DeadCalls, EngineConfig, Sweep, Swept};
use model::Code;
use model::namespace::Quotas;
use model::ports::Lane;

use crate::scripted::{World, bare, call, key, sleep_ms};

fn dead(world: &World, limit: usize) -> DeadCalls {
    DeadCalls {
        lane: None,
        lane_prefix: "default/".into(),
        since: None,
        until: None,
        outcome: None,
        died_before: world.clock.now(),
        after: None,
        limit,
    }
}

/// So many calls of a function that fails.
async fn fail(world: &World, name: &str, n: usize) {
    world.deploy(name, "fail").await;
    for _ in 0..n {
        world.engine.enqueue(call(name, "x"), &bare()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn dead_calls_are_redriven_step_by_step_and_each_once() {
    let world = World::new(EngineConfig::default()).await;
    fail(&world, "f", 7).await;
    fail(&world, "g", 2).await;
    sleep_ms(200_000).await;
    assert_eq!(world.queued().await, (0, 9));
    // What dies again meanwhile is not taken twice.
    let lane = Some(Lane::from(&key("f")));
    let mut which = DeadCalls { lane, ..dead(&world, 3) };
    let mut done = Vec::new();
    loop {
        let swept = world.engine.sweep_dead(&which, Sweep::Redrive).await.unwrap();
        done.push(swept.done);
        which.after = swept.after;
        sleep_ms(200_000).await;
        if !swept.more {
            break;
        }
    }
    assert_eq!((done, world.queued().await), (vec![3, 3, 1], (0, 9)));
    // Nor by one who begins again.
    which.after = None;
    let swept = world.engine.sweep_dead(&which, Sweep::Redrive).await.unwrap();
    assert_eq!((swept.done, swept.more), (0, false));

    world.deploy("f", "echo").await;
    let which = DeadCalls { limit: 1_000, ..dead(&world, 1_000) };
    let timeouts = DeadCalls { outcome: Some("timeout".into()), ..which.clone() };
    let swept = world.engine.sweep_dead(&timeouts, Sweep::Redrive).await.unwrap();
    assert_eq!(swept.done, 0);
    let failed = DeadCalls { outcome: Some("handler".into()), ..which };
    let swept = world.engine.sweep_dead(&failed, Sweep::Redrive).await.unwrap();
    assert_eq!((swept.done, swept.more), (9, false));
    sleep_ms(1_000).await;
    assert_eq!(world.queued().await, (2, 0), "those of f succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_step_stops_where_the_queue_is_full_and_goes_on_from_there() {
    let world = World::new(EngineConfig::default()).await;
    fail(&world, "f", 5).await;
    sleep_ms(200_000).await;
    world.deploy_with("f", "echo", |f| f.settings.max_instances = Some(0)).await;
    world.quotas("default", Quotas { queued_calls: Some(2), ..Quotas::default() }).await;
    let mut which = dead(&world, 100);
    let swept = world.engine.sweep_dead(&which, Sweep::Redrive).await.unwrap();
    assert_eq!((swept.done, swept.more), (2, true));
    which.after = swept.after;
    let full = world.engine.sweep_dead(&which, Sweep::Redrive).await.unwrap_err();
    assert_eq!(full.code(), Code::QueueFull);
    world.quotas("default", Quotas::default()).await;
    let swept = world.engine.sweep_dead(&which, Sweep::Redrive).await.unwrap();
    assert_eq!((swept.done, swept.more, world.queued().await), (3, false, (5, 0)));
}

#[tokio::test(start_paused = true)]
async fn dead_calls_are_purged_but_for_those_that_are_not_meant() {
    let world = World::new(EngineConfig::default()).await;
    fail(&world, "f", 5).await;
    fail(&world, "g", 3).await;
    sleep_ms(200_000).await;
    let nobody = DeadCalls { since: Some(world.clock.now()), ..dead(&world, 100) };
    let swept = world.engine.sweep_dead(&nobody, Sweep::Purge).await.unwrap();
    assert_eq!(swept, Swept::default());
    let which = DeadCalls { lane: Some(Lane::from(&key("f"))), ..dead(&world, 2) };
    let mut done = Vec::new();
    loop {
        let swept = world.engine.sweep_dead(&which, Sweep::Purge).await.unwrap();
        assert_eq!(swept.after, None, "what is forgotten is nothing to go on from");
        done.push(swept.done);
        if !swept.more {
            break;
        }
    }
    assert_eq!((done, world.queued().await), (vec![2, 2, 1], (0, 3)));
}
