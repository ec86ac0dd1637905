//! Asynchronous calls: run, retried, given up.

use std::time::Duration;

use engine::{EngineConfig, EnqueueOptions};
use model::Code;
use model::calls::Attempt;
use model::function::{AsyncPolicy, Function, Variable};
use model::ids::RequestId;
use model::ports::{Ended, Enqueued, Standing};
use model::secret::Sealed;

use crate::scripted::{World, bare, call, carried, sleep_ms};

#[tokio::test(start_paused = true)]
async fn an_accepted_call_runs_once() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "echo").await;
    let first = call("f", "x");
    let id = first.id;
    assert_eq!(world.engine.enqueue(first.clone(), &bare()).await.unwrap(), Enqueued::New);
    assert_eq!(world.engine.enqueue(first, &bare()).await.unwrap(), Enqueued::Duplicate(id));
    sleep_ms(100).await;
    assert_eq!(world.finished(), 1);
    assert_eq!(world.queued().await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn unknown_functions_and_large_payloads_are_refused_before_they_are_queued() {
    let world = World::new(EngineConfig::default()).await;
    assert_eq!(
        world.engine.enqueue(call("nope", ""), &bare()).await.unwrap_err().code(),
        Code::NotFound
    );
    world.deploy("f", "echo").await;
    let mut large = call("f", "");
    large.payload = vec![b'x'; model::limits::ASYNC_PAYLOAD_BYTES + 1].into();
    assert_eq!(
        world.engine.enqueue(large, &bare()).await.unwrap_err().code(),
        Code::PayloadTooLarge
    );
    assert_eq!(world.queued().await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failing_call_gets_three_attempts_a_minute_and_two_apart_then_is_dead() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "fail").await;
    world.engine.enqueue(call("f", "x"), &bare()).await.unwrap();
    for (at_ms, attempts) in [(1_000, 1), (58_000, 1), (2_500, 2), (117_000, 2), (4_000, 3)] {
        sleep_ms(at_ms).await;
        assert_eq!(world.finished(), attempts);
    }
    assert_eq!(world.queued().await, (0, 1));
    let dead = world.dead().await.remove(0);
    let attempts: Vec<_> = dead.notes.iter().map(|note| Attempt::read(note).unwrap()).collect();
    let numbers: Vec<_> = attempts.iter().map(|a| (a.attempt, a.outcome.as_str())).collect();
    assert_eq!(numbers, [(1, "handler"), (2, "handler"), (3, "handler")]);
    let said = attempts[2].message.as_deref().unwrap();
    assert!(said.contains("3 times"), "{said}");
    assert_eq!(attempts[0].version.as_deref(), Some("$LATEST"));
}

#[tokio::test(start_paused = true)]
async fn a_function_says_how_often_and_for_how_long_its_calls_are_tried() {
    let world = World::new(EngineConfig::default()).await;
    let policy = |text: &str| -> AsyncPolicy { serde_json::from_str(text).unwrap() };
    let of = |policy: AsyncPolicy| move |f: &mut Function| f.settings.async_calls = policy;
    let often = r#"{"attempts":4,"retry":{"pauses_seconds":[5,20]},"keep_dead_seconds":7200}"#;
    world.deploy_with("f", "fail", of(policy(often))).await;
    let one = call("f", "x");
    world.engine.enqueue(one.clone(), &bare()).await.unwrap();
    for (at_ms, attempts) in [(1_000, 1), (5_000, 2), (15_000, 2), (5_000, 3), (20_000, 4)] {
        sleep_ms(at_ms).await;
        assert_eq!(world.finished(), attempts);
    }
    assert_eq!(world.queued().await, (0, 1));

    // The next attempt would come too late.
    world.deploy_with("f", "fail", of(policy(r#"{"max_age_seconds":60}"#))).await;
    let two = call("f", "x");
    world.engine.enqueue(two.clone(), &bare()).await.unwrap();
    sleep_ms(1_000).await;
    let kept = world.engine.call(two.id).await.unwrap().unwrap();
    assert!(matches!(kept.summary.standing, Standing::Ended(Ended::Dead, _)), "{kept:?}");
    assert!(kept.history[0].message.as_deref().unwrap().contains("too old"), "{kept:?}");

    // One that waited too long for its turn is not run: nobody knows whether it is still wanted.
    let off = |f: &mut Function| {
        f.settings.max_instances = Some(0);
        f.settings.async_calls =
            AsyncPolicy { max_age_seconds: Some(60), ..AsyncPolicy::default() };
    };
    world.deploy_with("f", "echo", off).await;
    let (refused, delayed) = (call("f", "x"), call("f", "y"));
    world.engine.enqueue(refused.clone(), &bare()).await.unwrap();
    let options = EnqueueOptions { delay: Duration::from_secs(3600) };
    world.engine.enqueue_with(delayed.clone(), &bare(), options).await.unwrap();
    sleep_ms(58_000).await;
    let kept = world.engine.call(refused.id).await.unwrap().unwrap();
    assert!(matches!(kept.summary.standing, Standing::Waiting(_)), "{kept:?}");
    sleep_ms(2_000).await;
    let kept = world.engine.call(refused.id).await.unwrap().unwrap();
    assert!(matches!(kept.summary.standing, Standing::Ended(Ended::Dead, _)), "{kept:?}");
    assert_eq!(kept.history.last().unwrap().outcome, "throttled");

    // A delay does not count as age.
    let finished = world.finished();
    world.change("f", |f| f.settings.max_instances = None).await;
    sleep_ms(3_530_000).await;
    assert_eq!(world.finished(), finished, "not due yet");
    sleep_ms(20_000).await;
    let kept = world.engine.call(delayed.id).await.unwrap().unwrap();
    assert_eq!(kept.result.as_deref(), Some(&b"y"[..]), "{kept:?}");
    let long = EnqueueOptions { delay: Duration::from_secs(7 * 24 * 3600 + 1) };
    let e = world.engine.enqueue_with(call("f", ""), &bare(), long).await.unwrap_err();
    assert_eq!(e.code(), Code::InvalidParameter);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_longer_than_their_age_are_not_run() {
    let config = EngineConfig { async_concurrency: 1, ..EngineConfig::default() };
    let world = World::new(config).await;
    let minute = AsyncPolicy { max_age_seconds: Some(60), ..AsyncPolicy::default() };
    world.deploy_with("f", "sleep:70000", |f| f.settings.async_calls = minute).await;
    let (first, second) = (call("f", "x"), call("f", "y"));
    for new in [&first, &second] {
        world.engine.enqueue(new.clone(), &bare()).await.unwrap();
    }
    sleep_ms(75_000).await;
    assert_eq!((world.started(), world.finished()), (1, 1), "the second was not run");
    let kept = world.engine.call(second.id).await.unwrap().unwrap();
    assert_eq!(kept.history[0].outcome, "too-old");
    // Brought back to life it is as young as any.
    world.redrive(second.id).await.unwrap();
    sleep_ms(75_000).await;
    assert_eq!((world.finished(), world.queued().await), (2, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn throttles_do_not_count_as_attempts() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy_with("f", "fail", |f| f.settings.max_instances = Some(0)).await;
    world.engine.enqueue(call("f", "x"), &bare()).await.unwrap();
    sleep_ms(60_000).await;
    assert_eq!((world.finished(), world.queued().await), (0, (1, 0)));
    world.deploy_with("f", "fail", |f| f.settings.max_instances = None).await;
    // Tried after 1, 2, 4, … 64 s of age; the second attempt would follow a minute later.
    sleep_ms(50_000).await;
    assert_eq!((world.finished(), world.queued().await), (1, (1, 0)), "one attempt, not given up");
}

#[tokio::test(start_paused = true)]
async fn a_call_longer_than_its_lease_keeps_it() {
    let config = EngineConfig { async_lease: Duration::from_secs(3), ..EngineConfig::default() };
    let world = World::new(config).await;
    world.deploy("f", "sleep:20000").await;
    world.engine.enqueue(call("f", "x"), &bare()).await.unwrap();
    sleep_ms(25_000).await;
    assert_eq!((world.started(), world.finished()), (1, 1), "nobody ran it a second time");
    assert_eq!(world.queued().await, (0, 0));
}

/// What became of each attempt at a call, and where it stands.
async fn history(world: &World, id: RequestId) -> (Vec<(u32, String)>, u32, Standing) {
    let kept = world.engine.call(id).await.unwrap().unwrap();
    let history = kept.history.into_iter().map(|a| (a.attempt, a.outcome)).collect();
    (history, kept.summary.deliveries, kept.summary.standing)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_killed_daemon_was_at_runs_again_when_the_daemon_does() {
    let mut world = World::new(EngineConfig::default()).await;
    world.deploy("f", "sleep:20000").await;
    let one = call("f", "x");
    world.engine.enqueue(one.clone(), &bare()).await.unwrap();
    sleep_ms(1_000).await;
    world.kill().await;
    sleep_ms(1_000).await;
    assert_eq!((world.started(), world.finished()), (2, 0), "long before its lease is over");
    sleep_ms(25_000).await;
    let (history, deliveries, standing) = history(&world, one.id).await;
    assert_eq!(history, [(1, "cut".into()), (2, "succeeded".into())]);
    assert!(matches!(standing, Standing::Ended(Ended::Succeeded, _)) && deliveries == 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_ends_the_daemon_each_time_is_given_up() {
    let mut world = World::new(EngineConfig::default()).await;
    world.deploy("f", "sleep:20000").await;
    let one = call("f", "x");
    world.engine.enqueue(one.clone(), &bare()).await.unwrap();
    for started in 1..=3 {
        sleep_ms(1_000).await;
        assert_eq!(world.started(), started);
        world.kill().await;
    }
    sleep_ms(1_000).await;
    assert_eq!(world.started(), 3, "not a fourth time");
    let (history, deliveries, standing) = history(&world, one.id).await;
    let numbers: Vec<_> = history.iter().map(|(n, what)| (*n, what.as_str())).collect();
    assert_eq!(numbers, [(1, "cut"), (2, "cut"), (3, "cut"), (3, "given-up")]);
    assert!(matches!(standing, Standing::Ended(Ended::Dead, _)) && deliveries == 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_lease_was_lost_is_ended_and_runs_once_more() {
    let config =
        EngineConfig { async_lease: std::time::Duration::from_secs(3), ..EngineConfig::default() };
    let world = World::new(config).await;
    world.deploy("f", "sleep:20000").await;
    let one = call("f", "x");
    world.engine.enqueue(one.clone(), &bare()).await.unwrap();
    sleep_ms(5_000).await;
    let note = std::sync::Arc::new(|_: &model::ports::Lane, _| Some(bytes::Bytes::new()));
    model::ports::Queue::reclaim(&*world.queue, note).await.unwrap();
    sleep_ms(1_500).await;
    assert_eq!((world.started(), world.stopped()), (2, 1), "the first found out at its renewal");
    sleep_ms(20_000).await;
    let (_, deliveries, standing) = history(&world, one.id).await;
    assert!(matches!(standing, Standing::Ended(Ended::Succeeded, _)) && deliveries == 2);
    assert_eq!((world.started(), world.finished()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_neither_doubles_calls_nor_holds_them_up() {
    const HOUR_MS: i64 = 3_600_000;
    let world = World::new(EngineConfig::default()).await;
    world.deploy("long", "sleep:20000").await;
    world.deploy("bad", "fail").await;
    world.deploy_with("full", "echo", |f| f.settings.max_instances = Some(0)).await;
    for name in ["long", "bad", "full"] {
        world.engine.enqueue(call(name, "x"), &bare()).await.unwrap();
    }
    sleep_ms(1_000).await;
    assert_eq!((world.started(), world.finished()), (2, 1));
    // Back: pauses last as long as they would have, whatever waited already goes on, and what is new runs at once.
    world.wall.set(-HOUR_MS);
    world.deploy("quick", "echo").await;
    world.deploy_with("full", "echo", |f| f.settings.max_instances = None).await;
    world.engine.enqueue(call("quick", "x"), &bare()).await.unwrap();
    sleep_ms(8_000).await;
    assert_eq!(world.finished(), 3, "the new call, and the one that had been refused");
    // Forward: the long call keeps its lease.
    world.wall.set(2 * HOUR_MS);
    sleep_ms(30_000).await;
    assert_eq!(
        (world.started(), world.finished()),
        (4, 5),
        "the bad one again, early, by its instance"
    );
    assert_eq!(world.queued().await, (1, 0), "all but the bad one have succeeded");
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_deleted_function_are_given_up() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy_with("f", "echo", |f| f.settings.max_instances = Some(0)).await;
    world.engine.enqueue(call("f", "x"), &bare()).await.unwrap();
    sleep_ms(10).await;
    let at = model::keys::function(&crate::scripted::key("f"));
    let entry = model::ports::Meta::get(&*world.meta, &at).await.unwrap().unwrap();
    model::ports::Meta::delete_if(&*world.meta, &at, entry.revision).await.unwrap();
    sleep_ms(10_000).await;
    assert_eq!(world.queued().await, (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_alias_decides_when_the_call_runs_by_what_it_came_with() {
    let world = World::new(EngineConfig::default()).await;
    world.versions("f", &["fail", "echo", "echo"]).await;
    let beta_to = |version: u64| {
        format!(
            r#"{{"targets":[{{"version":3,"weight":1}}],"rules":[
                {{"when":[{{"on":"header.x-beta","exact":"yes"}},{{"on":"event.n","range":"[1,]"}}],"to":{version}}}]}}"#
        )
    };
    world.alias("f", "live", &beta_to(1)).await;
    let parameters = carried(&[("header.x-beta", "yes"), ("header.unread", "x")]);
    world.engine.enqueue(call("f:live", r#"{"n":5}"#), &parameters).await.unwrap();
    sleep_ms(1_000).await;
    assert_eq!((world.finished(), world.queued().await), (1, (1, 0)), "version 1 fails");
    // The same rule leads elsewhere at the next attempt.
    world.alias("f", "live", &beta_to(2)).await;
    sleep_ms(70_000).await;
    assert_eq!((world.finished(), world.queued().await), (2, (0, 0)));
    let missing = world.engine.enqueue(call("f:nope", ""), &bare()).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_one_function_holds_up_no_other() {
    let config = EngineConfig { async_concurrency: 8, ..EngineConfig::default() };
    let world = World::new(config).await;
    world.deploy("slow", "sleep:60000").await;
    world.deploy("quick", "echo").await;
    for _ in 0..500 {
        world.engine.enqueue(call("slow", "x"), &bare()).await.unwrap();
    }
    sleep_ms(1_000).await;
    let quick = call("quick", "x");
    world.engine.enqueue(quick.clone(), &bare()).await.unwrap();
    sleep_ms(500).await;
    let kept = world.engine.call(quick.id).await.unwrap().unwrap();
    assert!(matches!(kept.summary.standing, Standing::Ended(Ended::Succeeded, _)), "{kept:?}");
    assert_eq!(kept.result.as_deref(), Some(&b"x"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_call_can_be_waited_for_and_cancelled() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "sleep:20000").await;
    let (ends, stops) = (call("f", "x"), call("f", "y"));
    for new in [&ends, &stops] {
        world.engine.enqueue(new.clone(), &bare()).await.unwrap();
    }
    sleep_ms(5_000).await;
    assert_eq!((world.started(), world.stopped()), (2, 0));
    let kept = world.engine.call(stops.id).await.unwrap().unwrap();
    assert!(matches!(kept.summary.standing, Standing::Leased(_)));
    assert_eq!(kept.event.as_deref(), Some(&b"y"[..]));
    world.cancel(stops.id).await.unwrap();
    sleep_ms(100).await;
    assert_eq!(world.stopped(), 1, "it is ended with its instance");
    let e = world.cancel(stops.id).await.unwrap_err();
    assert_eq!(e.code(), Code::Conflict);

    let until = |ms| world.clock.instant() + Duration::from_millis(ms);
    let early = world.engine.call_ended(ends.id, until(1_000)).await.unwrap().unwrap();
    assert!(matches!(early.summary.standing, Standing::Leased(_)), "waited in vain");
    let ended = world.engine.call_ended(ends.id, until(60_000)).await.unwrap().unwrap();
    assert!(matches!(ended.summary.standing, Standing::Ended(Ended::Succeeded, _)));
    assert_eq!((ended.history.len(), ended.event), (1, None));
    assert_eq!(world.finished(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_call_runs_again_when_it_is_told_to() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "fail").await;
    let one = call("f", "x");
    world.engine.enqueue(one.clone(), &bare()).await.unwrap();
    assert_eq!(world.redrive(one.id).await.unwrap_err().code(), Code::Conflict);
    sleep_ms(200_000).await;
    assert_eq!((world.finished(), world.queued().await), (3, (0, 1)));
    world.deploy("f", "echo").await;
    world.redrive(one.id).await.unwrap();
    sleep_ms(1_000).await;
    let kept = world.engine.call(one.id).await.unwrap().unwrap();
    assert!(matches!(kept.summary.standing, Standing::Ended(Ended::Succeeded, _)));
    let outcomes: Vec<_> = kept.history.iter().map(|a| a.outcome.as_str()).collect();
    assert_eq!(outcomes, ["handler", "handler", "handler", "succeeded"]);
    assert!(world.engine.forget_call(one.id).await.unwrap());
    assert!(world.engine.call(one.id).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_call_is_told_to_a_function_or_a_webhook() {
    let mut world = World::new(EngineConfig::default()).await;
    let policy = |text: &str| -> AsyncPolicy { serde_json::from_str(text).unwrap() };
    world.deploy("told", "echo").await;
    let to_function = r#"{"attempts":1,"on_failure":{"function":"told"}}"#;
    world.deploy_with("f", "fail", |f| f.settings.async_calls = policy(to_function)).await;
    let failed = call("f", r#"{"n":1}"#);
    world.engine.enqueue(failed.clone(), &bare()).await.unwrap();
    sleep_ms(1_000).await;
    let kept = world.engine.call(failed.id).await.unwrap().unwrap();
    let told = kept.destination.unwrap().summary;
    assert!(matches!(told.standing, Standing::Ended(Ended::Succeeded, _)), "{told:?}");
    assert_eq!(told.lane.as_str(), "default/told");
    let event = world.engine.call(told.id).await.unwrap().unwrap().result.unwrap();
    let event: serde_json::Value = serde_json::from_slice(&event).unwrap();
    let context = &event["requestContext"];
    assert_eq!(context["requestId"], failed.id.to_string());
    assert_eq!(context["condition"], "RetriesExhausted");
    assert_eq!(
        (&context["approximateInvokeCount"], &event["requestPayload"]["n"]),
        (&1.into(), &1.into())
    );
    assert_eq!(event["responseContext"]["functionError"], "Unhandled");

    let to_webhook = r#"{"on_success":{"webhook":"https://example.com/","secret":"KEY"}}"#;
    let sealed = Sealed { id: RequestId::generate(), bytes: 1, envelope: "sealed".into() };
    let hooked = |f: &mut Function| {
        f.settings.async_calls = policy(to_webhook);
        f.latest.config.environment.insert("KEY".into(), Variable::Sealed { sealed });
    };
    world.deploy_with("g", "echo", hooked).await;
    let went_well = call("g", "\"x\"");
    world.engine.enqueue(went_well.clone(), &bare()).await.unwrap();
    sleep_ms(1_000).await;
    // It is told again after a kill, by the same id.
    world.kill().await;
    world.webhooks.answers.lock().unwrap().push(204);
    sleep_ms(6_000).await;
    let got = world.webhooks.got.lock().unwrap().clone();
    assert_eq!((got.len(), got[0].id), (2, got[1].id), "{got:?}");
    assert_eq!(
        (got[1].url.as_str(), got[1].secret.1.envelope.as_str()),
        ("https://example.com/", "sealed")
    );
    let event: serde_json::Value = serde_json::from_slice(&got[1].body).unwrap();
    assert_eq!(
        (&event["requestContext"]["condition"], &event["responsePayload"]),
        (&"Success".into(), &"x".into())
    );
    let kept = world.engine.call(went_well.id).await.unwrap().unwrap();
    let told = kept.destination.unwrap().summary;
    assert!(matches!(told.standing, Standing::Ended(Ended::Succeeded, _)), "{told:?}");
    assert_eq!((told.id, told.deliveries), (got[1].id, 2));

    // A receiver that wants no more gets no more, and that is seen.
    world.webhooks.answers.lock().unwrap().push(410);
    let unheard = call("g", "1");
    world.engine.enqueue(unheard.clone(), &bare()).await.unwrap();
    sleep_ms(1_000).await;
    let kept = world.engine.call(unheard.id).await.unwrap().unwrap();
    assert!(matches!(kept.summary.standing, Standing::Ended(Ended::Succeeded, _)));
    let told = kept.destination.unwrap();
    assert!(matches!(told.summary.standing, Standing::Ended(Ended::Dead, _)), "{told:?}");
    assert!(told.message.unwrap().contains("wants no more"));
}
