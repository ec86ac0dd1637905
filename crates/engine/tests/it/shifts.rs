//! Shifts: what comes of the calls of each version.

use engine::{EngineConfig, Shifting};
use model::alias::rollout::Sample;
use model::alias::{Rollout, Target};
use model::clock::UnixMillis;
use model::ids::VersionRef;
use model::namespace::Quotas;

use crate::scripted::{World, bare, call};

const HALF: &str = r#"{"targets":[{"version":1,"weight":1},{"version":2,"weight":1}],"rules":[
    {"when":[{"on":"header.to","exact":"3"}],"to":3},{"when":[{"on":"header.to","exact":"2"}],"to":2},
    {"when":[{"on":"header.to","exact":"1"}],"to":1}]}"#;

pub(crate) fn rollout(started_at: u64, step: usize) -> Rollout {
    Rollout {
        to: VersionRef::Number(2),
        before: vec![Target { version: VersionRef::Number(1), weight: 1 }],
        steps: ["5%", "50%", "100%"].map(|s| s.parse().unwrap()).to_vec(),
        step,
        step_since: UnixMillis(started_at),
        every_ms: 1_000,
        stop_if: Vec::new(),
        min_calls: 1,
        started_at: UnixMillis(started_at),
        baseline: None,
    }
}

/// Calls and errors of versions 2 and 1, in this order.
fn counts(shifting: &Shifting) -> Vec<(String, u64, u64)> {
    let of = |(version, sample): &(VersionRef, Sample)| {
        (version.to_string(), sample.calls, sample.errors)
    };
    shifting.samples.iter().map(of).collect()
}

fn only(world: &World) -> Shifting {
    let mut shifts = world.engine.shifts();
    assert_eq!(shifts.len(), 1);
    shifts.remove(0)
}

#[tokio::test(start_paused = true)]
async fn calls_are_sampled_by_version_while_the_shift_goes_on() {
    let world = World::new(EngineConfig::default()).await;
    world.versions("f", &["echo", "fail", "echo"]).await;
    assert!(world.engine.shifts().is_empty());
    world.shift("f", "live", HALF, Some(rollout(7, 0))).await;
    for (to, calls) in [("1", 3), ("2", 2), ("3", 4)] {
        for _ in 0..calls {
            world.invoke_with("f:live", "x", &[("header.to", to)]).await.unwrap();
        }
    }
    // Calls that do not come by the alias are not its business.
    world.invoke("f:2").await.unwrap();
    let shifting = only(&world);
    assert_eq!(
        (shifting.function.to_string(), shifting.alias.as_str()),
        ("default/f".into(), "live")
    );
    assert_eq!(counts(&shifting), [("2".into(), 2, 2), ("1".into(), 3, 0)]);
    let durations = &shifting.samples[1].1.durations;
    assert_eq!((durations.len(), durations.mean()), (3, Some(1_500)));

    world.shift("f", "live", HALF, Some(rollout(7, 1))).await;
    world.deploy("f", "who").await;
    world.invoke_with("f:live", "x", &[("header.to", "1")]).await.unwrap();
    let shifting = only(&world);
    assert_eq!(shifting.rollout.step, 1);
    assert_eq!(counts(&shifting), [("2".into(), 2, 2), ("1".into(), 4, 0)]);

    world.shift("f", "live", HALF, Some(rollout(8, 0))).await;
    assert_eq!(counts(&only(&world)), [("2".into(), 0, 0), ("1".into(), 0, 0)], "another shift");
    world.alias("f", "live", HALF).await;
    assert!(world.engine.shifts().is_empty());
    world.shift("f", "live", HALF, Some(rollout(9, 0))).await;
    assert_eq!(only(&world).rollout.started_at, UnixMillis(9));
    world.change("f", |f| f.deleted = true).await;
    assert!(world.engine.shifts().is_empty(), "it is gone");
}

#[tokio::test(start_paused = true)]
async fn errors_that_only_the_answer_shows_are_counted_by_its_reader() {
    let world = World::new(EngineConfig::default()).await;
    world.versions("f", &["echo", "echo"]).await;
    world.shift("f", "live", HALF, Some(rollout(7, 0))).await;
    let parameters = crate::scripted::carried(&[("header.to", "2")]);
    let done = world.engine.invoke(call("f:live", "x"), &parameters).await.unwrap();
    done.errors.unwrap().count();
    assert_eq!(counts(&only(&world)), [("2".into(), 1, 1), ("1".into(), 0, 0)]);
    assert!(world.engine.invoke(call("f:2", "x"), &bare()).await.unwrap().errors.is_none());
}

#[tokio::test(start_paused = true)]
async fn starts_that_fail_count_and_throttles_do_not() {
    let world = World::new(EngineConfig::default()).await;
    world.versions("f", &["no-sandbox", "init-fail"]).await;
    world.shift("f", "live", HALF, Some(rollout(7, 0))).await;
    assert_eq!(
        world.invoke_with("f:live", "x", &[("header.to", "2")]).await.unwrap(),
        "failed: init"
    );
    world.invoke_with("f:live", "x", &[("header.to", "1")]).await.unwrap_err();
    world.quotas("default", Quotas { instances: Some(0), ..Quotas::default() }).await;
    world.invoke_with("f:live", "x", &[("header.to", "2")]).await.unwrap_err();
    assert_eq!(counts(&only(&world)), [("2".into(), 1, 1), ("1".into(), 1, 1)]);
}
