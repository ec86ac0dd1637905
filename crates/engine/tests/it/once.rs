//! Calls with a key: one effect and one result.

use engine::EngineConfig;
use model::Code;
use model::function::{CallKey, Idempotency};
use model::ids::Digest;
use model::invocation::{Call, Completed};
use model::ports::{Ended, Enqueued, Standing};

use crate::scripted::{World, bare, call, carried, sleep_ms};

fn plain(function: &str, event: &str) -> Call {
    Call { payload: event.to_owned().into(), ..call(function, "") }
}

fn keyed(function: &str, event: &str, key: &str) -> Call {
    let mut call = plain(function, event);
    let print = Digest::of(&call.payload);
    call.context.key = Some(Box::new(CallKey { given: Some(key.to_owned()), print }));
    call
}

fn answer(completed: &Completed) -> (String, Result<String, String>) {
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let result = completed.outcome.result.as_ref();
    let result = result.map(text).map_err(|f| format!("{} {}", f.kind.as_str(), text(&f.payload)));
    (completed.id.to_string(), result)
}

fn rules(json: &str) -> Idempotency {
    serde_json::from_str(json).unwrap()
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_key_have_one_effect_and_one_result() {
    let world = World::new(EngineConfig::default()).await;
    let short = |f: &mut model::function::Function| {
        f.settings.idempotency = rules(r#"{"window_seconds":600}"#);
    };
    world.deploy_with("f", "sleep:300", short).await;
    let engine = &world.engine;
    let begun = world.clock.instant();
    let later = async {
        sleep_ms(100).await;
        engine.invoke(keyed("f", "x", "k"), &bare()).await
    };
    let now = bare();
    let (first, second) = tokio::join!(engine.invoke(keyed("f", "x", "k"), &now), later);
    let first = answer(&first.unwrap());
    assert_eq!(first, answer(&second.unwrap()), "it waited for the first");
    assert_eq!((world.clock.instant() - begun).as_millis(), 310, "a start, and one run");
    assert_eq!(first, answer(&engine.invoke(keyed("f", "x", "k"), &bare()).await.unwrap()));
    let id = first.0.parse().unwrap();
    let known = engine.enqueue(keyed("f", "x", "k"), &bare()).await.unwrap();
    assert_eq!(known, Enqueued::Duplicate(id));
    assert_eq!((world.finished(), world.queued().await), (1, (0, 0)));

    for error in [
        engine.invoke(keyed("f", "y", "k"), &bare()).await.unwrap_err(),
        engine.enqueue(keyed("f", "y", "k"), &bare()).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::KeyReused);
        assert!(error.message().contains(&first.0), "{error}");
    }
    let other = answer(&engine.invoke(keyed("f", "x", "other"), &bare()).await.unwrap());
    assert_ne!(first.0, other.0);
    world.deploy("g", "echo").await;
    let elsewhere = engine.invoke(keyed("g", "y", "k"), &bare()).await.unwrap();
    assert_eq!(answer(&elsewhere).1, Ok("y".into()), "another function's keys");
    assert_eq!(world.finished(), 3);
    // Windows end.
    sleep_ms(600_000).await;
    let anew = answer(&engine.invoke(keyed("f", "y", "k"), &bare()).await.unwrap());
    assert_ne!(anew.0, first.0);
    assert_eq!(world.finished(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_first_call_that_is_asynchronous_is_waited_for() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "fail").await;
    let first = keyed("f", "x", "k");
    let id = first.id;
    assert_eq!(world.engine.enqueue(first, &bare()).await.unwrap(), Enqueued::New);
    // Three attempts, a minute and two apart.
    let failed = answer(&world.engine.invoke(keyed("f", "x", "k"), &bare()).await.unwrap());
    assert_eq!((failed.0, world.finished()), (id.to_string(), 3));
    let said = failed.1.unwrap_err();
    assert!(said.starts_with("handler {") && said.contains("3 times"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_a_result_and_a_refusal_is_none() {
    let world = World::new(EngineConfig::default()).await;
    let engine = &world.engine;
    world.deploy_with("f", "fail", |f| f.settings.max_instances = Some(0)).await;
    for _ in 0..2 {
        let error = engine.invoke(keyed("f", "x", "k"), &bare()).await.unwrap_err();
        assert_eq!(error.code(), Code::Throttled);
        assert_eq!(world.queued().await, (0, 0));
    }
    world.deploy_with("f", "fail", |f| f.settings.max_instances = None).await;
    let first = answer(&engine.invoke(keyed("f", "y", "k"), &bare()).await.unwrap());
    assert_eq!(
        first.1.as_ref().unwrap_err(),
        r#"handler {"errorMessage":"no","errorType":"Error"}"#
    );
    assert_eq!(first, answer(&engine.invoke(keyed("f", "y", "k"), &bare()).await.unwrap()));
    sleep_ms(600_000).await;
    assert_eq!((world.finished(), world.queued().await), (1, (0, 1)), "nothing ran again");
    // Redriven, it has another result; forgotten, it has none.
    let id = first.0.parse().unwrap();
    world.deploy("f", "echo").await;
    world.redrive(id).await.unwrap();
    let mended = engine.invoke(keyed("f", "y", "k"), &bare()).await.unwrap();
    assert_eq!(answer(&mended), (first.0.clone(), Ok("y".into())));
    engine.forget_call(id).await.unwrap();
    let anew = answer(&engine.invoke(keyed("f", "z", "k"), &bare()).await.unwrap());
    assert_eq!((anew.0 == first.0, anew.1), (false, Ok("z".into())));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_called_off_says_so() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "sleep:5000").await;
    let first = keyed("f", "x", "k");
    let id = first.id;
    let cancel = async {
        sleep_ms(100).await;
        world.cancel(id).await.unwrap();
    };
    let now = bare();
    let (error, ()) = tokio::join!(world.engine.invoke(first, &now), cancel);
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::Conflict);
    assert!(error.message().contains("was cancelled"), "{error}");
    let standing = world.engine.call(id).await.unwrap().unwrap().summary.standing;
    assert!(matches!(standing, Standing::Ended(Ended::Cancelled, _)), "{standing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_function_says_where_its_keys_are() {
    let world = World::new(EngineConfig::default()).await;
    let engine = &world.engine;
    let ask = async |event: &str, headers: &[(&str, &str)]| {
        let completed = engine.invoke(plain("f", event), &carried(headers)).await?;
        Ok::<_, model::Error>(answer(&completed).0)
    };
    let of_field = |f: &mut model::function::Function| {
        f.settings.idempotency = rules(r#"{"key":"event.order.id","required":true}"#);
    };
    world.deploy_with("f", "echo", of_field).await;
    let order = r#"{"order":{"id":7}}"#;
    let first = ask(order, &[]).await.unwrap();
    assert_eq!(ask(order, &[]).await.unwrap(), first);
    let error = ask(r#"{"order":{"id":7},"more":1}"#, &[]).await.unwrap_err();
    assert_eq!(error.code(), Code::KeyReused);
    for without in ["{}", "no json", r#"{"order":{"id":null}}"#, r#"{"order":{"id":""}}"#] {
        let error = ask(without, &[]).await.unwrap_err();
        assert!(error.message().contains("idempotency-key, or event.order.id"), "{error}");
    }
    let long = format!(r#"{{"order":{{"id":"{}"}}}}"#, "x".repeat(20_000));
    assert_eq!(ask(&long, &[]).await.unwrap_err().code(), Code::PayloadTooLarge);
    let given = engine.invoke(keyed("f", order, "7"), &bare()).await.unwrap();
    assert_ne!(answer(&given).0, first, "what callers give is apart");

    let any = r#"{"key":"event.order.id","any_event":true,"window_seconds":60}"#;
    world.change("f", |f| f.settings.idempotency = rules(any)).await;
    let again = ask(r#"{"order":{"id":8},"try":1}"#, &[]).await.unwrap();
    assert_eq!(ask(r#"{"order":{"id":8},"try":2}"#, &[]).await.unwrap(), again);
    sleep_ms(61_000).await;
    assert_ne!(ask(r#"{"order":{"id":8},"try":3}"#, &[]).await.unwrap(), again);
    assert_ne!(ask("{}", &[]).await.unwrap(), ask("{}", &[]).await.unwrap(), "without a key");

    let header = r#"{"key":"header.idempotency-key"}"#;
    world.change("f", |f| f.settings.idempotency = rules(header)).await;
    let quoted = ask("1", &[("header.idempotency-key", "\"k\"")]).await.unwrap();
    assert_eq!(ask("1", &[("header.idempotency-key", "k")]).await.unwrap(), quoted);
    let bad = ask("1", &[("header.idempotency-key", "a b")]).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidParameter);
}
