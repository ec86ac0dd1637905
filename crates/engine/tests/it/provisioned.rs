//! Provisioned instances: kept started, replaced, moved, by the clock.

use engine::{EngineConfig, Faulty, Readiness};
use model::ids::FunctionRef;
use model::provisioned::{Provisioned, ProvisionedRecord};

use crate::scripted::{World, bare, call, sleep_ms};

async fn world() -> World {
    // A test's queue is looked at so often that hours would take minutes.
    let config = EngineConfig { async_concurrency: 0, ..EngineConfig::default() };
    World::new(config).await
}

/// Keeps instances started for a qualifier of `f`, or no more.
async fn provision(world: &World, qualifier: &str, instances: u32, schedule: &[&str]) {
    let schedule = schedule.iter().map(|s| s.parse().unwrap()).collect();
    let provisioned = Provisioned { instances, schedule, timezone: None };
    let at = world.clock.now();
    let record = ProvisionedRecord { provisioned, revision: 1, modified_at: at };
    world.change("f", |f| drop(f.provisioned.insert(qualifier.parse().unwrap(), record))).await;
}

fn readiness(world: &World, target: &str) -> (u32, u32) {
    let target = FunctionRef::parse("default", target).unwrap();
    let Readiness { wanted, ready } = world.engine.readiness(&target).unwrap();
    (wanted, ready)
}

fn live(world: &World) -> usize {
    world.started() - world.stopped()
}

#[tokio::test(start_paused = true)]
async fn they_are_there_before_the_first_call_and_stay() {
    let world = world().await;
    world.versions("f", &["who"]).await;
    provision(&world, "1", 3, &[]).await;
    assert_eq!(readiness(&world, "f:1"), (3, 0));
    sleep_ms(1_500).await;
    assert_eq!(readiness(&world, "f:1"), (3, 3));
    let done = world.engine.invoke(call("f:1", "x"), &bare()).await.unwrap();
    assert!(!done.timings.cold);
    // Far beyond any keep-alive.
    sleep_ms(3_600_000).await;
    assert_eq!((live(&world), world.started()), (3, 3));
    world.change("f", |f| f.provisioned.clear()).await;
    sleep_ms(600_000).await;
    assert_eq!((live(&world), readiness(&world, "f:1")), (0, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn those_that_die_are_replaced_and_what_cannot_start_is_tried_less_and_less() {
    let world = world().await;
    world.deploy("f", "die").await;
    provision(&world, "$LATEST", 2, &[]).await;
    sleep_ms(1_500).await;
    world.invoke("f").await.unwrap();
    sleep_ms(1_500).await;
    assert_eq!((readiness(&world, "f"), world.started()), ((2, 2), 3));

    world.deploy("f", "no-sandbox").await;
    sleep_ms(3_600_000).await;
    assert_eq!(readiness(&world, "f"), (2, 0));
    world.deploy("f", "echo").await;
    sleep_ms(1_500).await;
    assert_eq!(readiness(&world, "f"), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn they_move_with_their_alias() {
    let world = world().await;
    world.versions("f", &["who", "echo"]).await;
    let to = |version: u64| format!(r#"{{"targets":[{{"version":{version},"weight":1}}]}}"#);
    world.alias("f", "live", &to(1)).await;
    provision(&world, "live", 12, &[]).await;
    sleep_ms(3_000).await;
    assert_eq!(readiness(&world, "f:live"), (12, 12));
    let change = |f: &mut model::function::Function| {
        let alias = serde_json::from_str(&to(2)).unwrap();
        f.aliases.get_mut(&"live".parse().unwrap()).unwrap().alias = alias;
    };
    world.swap("f", Faulty::Refused, change).await.unwrap();
    assert_eq!(readiness(&world, "f:live"), (12, 12), "all of them stand ready, not ten");
    // Those of version 1 are ordinary idle instances now.
    sleep_ms(600_000).await;
    assert_eq!((live(&world), readiness(&world, "f:live")), (12, (12, 12)));
}

#[tokio::test(start_paused = true)]
async fn an_alias_over_two_versions_keeps_a_part_of_each() {
    let world = world().await;
    world.versions("f", &["who", "echo", "fail"]).await;
    let alias = r#"{"targets":[{"version":1,"weight":3},{"version":2,"weight":1}],
        "rules":[{"when":[{"on":"path","exact":"/"}],"to":3}]}"#;
    world.alias("f", "live", alias).await;
    provision(&world, "live", 8, &[]).await;
    sleep_ms(3_000).await;
    // Six, two, and one for the rule.
    assert_eq!((live(&world), readiness(&world, "f:live")), (9, (8, 8)));
}

#[tokio::test(start_paused = true)]
async fn a_schedule_raises_and_lowers_their_number() {
    let world = world().await;
    world.deploy("f", "echo").await;
    // The clock of the test begins at midnight.
    provision(&world, "$LATEST", 1, &["0 10 * * * *=5", "0 20 * * * *=2"]).await;
    let minutes = |n: u64| sleep_ms(n * 60_000);
    minutes(5).await;
    // What is before: the hour's last time, of the hour before.
    assert_eq!(readiness(&world, "f"), (2, 2));
    minutes(6).await;
    assert_eq!(readiness(&world, "f"), (5, 5));
    minutes(20).await;
    assert_eq!((readiness(&world, "f"), live(&world)), ((2, 2), 2));
}

#[tokio::test(start_paused = true)]
async fn limits_hold_and_nobody_takes_them_away() {
    let config =
        EngineConfig { async_concurrency: 0, host_memory_mb: 384, ..EngineConfig::default() };
    let world = World::new(config).await;
    world.deploy("f", "echo").await;
    world.deploy("g", "sleep:1000").await;
    world.change("f", |f| f.settings.max_instances = Some(2)).await;
    provision(&world, "$LATEST", 3, &[]).await;
    sleep_ms(5_000).await;
    assert_eq!(readiness(&world, "f"), (3, 2), "max_instances holds");
    let (a, b) = tokio::join!(world.invoke("g"), world.invoke("g"));
    a.and(b).unwrap();
    assert_eq!(readiness(&world, "f"), (3, 2));
    assert!(world.engine.stats().memory_mb <= 384);
}
