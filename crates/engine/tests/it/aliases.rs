//! Aliases: who reaches which version, while they change and while versions go; their environments; what a dry run says.
#![expect(clippy::disallowed_methods, reason = "callers of a test need no name and end with it")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::EngineConfig;
use model::Code;
use model::alias::Carried;
use model::ids::{FunctionRef, Qualifier, RequestId};
use model::invocation::Call;
use model::ports::Meta;

use crate::scripted::{World, bare, call, carried, key, sleep_ms};

fn to(version: u64) -> String {
    format!(r#"{{"targets":[{{"version":{version},"weight":1}}]}}"#)
}

#[tokio::test(start_paused = true)]
async fn an_alias_leads_to_its_version_under_its_own_name() {
    let world = World::new(EngineConfig::default()).await;
    world.versions("f", &["arn", "echo"]).await;
    world.alias("f", "live", &to(1)).await;
    let done = world.engine.invoke(call("f:live", "x"), &bare()).await.unwrap();
    assert_eq!(done.version, Qualifier::Version(1));
    let arn = "arn:aws:lambda:local:000000000000:function:f:live";
    assert_eq!(done.outcome.result.unwrap(), arn);
    assert!(done.errors.is_none(), "nobody watches");
    assert_eq!(world.invoke("f:1").await.unwrap(), "", "a version has its own name");
    assert_eq!(world.started(), 1, "an alias without an environment shares the version's pool");
    world.alias("f", "live", &to(2)).await;
    assert_eq!(world.invoke("f:live").await.unwrap(), "hello");
    let missing = world.invoke("f:other").await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.message(), "alias 'default/f:other' does not exist");
}

#[tokio::test(start_paused = true)]
async fn settings_are_there_for_targets_that_exist() {
    let world = World::new(EngineConfig::default()).await;
    world.versions("f", &["echo"]).await;
    world.alias("f", "live", &to(1)).await;
    world.change("f", |f| f.settings.max_instances = Some(3)).await;
    let settings = |name| world.engine.settings(&FunctionRef::parse("default", name).unwrap());
    for there in ["f", "f:1", "f:live"] {
        assert_eq!(settings(there).unwrap().max_instances, Some(3));
    }
    for missing in ["f:2", "f:beta", "g"] {
        assert_eq!(settings(missing).unwrap_err().code(), Code::NotFound);
    }
}

#[tokio::test(start_paused = true)]
async fn rules_then_the_key_then_chance() {
    let world = World::new(EngineConfig::default()).await;
    world.versions("f", &["echo", "echo", "echo", "echo"]).await;
    world
        .alias(
            "f",
            "live",
            r#"{"targets":[{"version":1,"weight":95},{"version":2,"weight":5}],"sticky":"event.user","rules":[
                {"when":[{"on":"header.x-beta","exact":"yes"}],"to":3},
                {"when":[{"on":"event.body.plan","one_of":["pro"]}],"to":4}]}"#,
        )
        .await;
    assert_eq!(world.reached("f:live", "", &[("header.x-beta", "yes")]), "3");
    assert_eq!(world.reached("f:live", r#"{"body":"{\"plan\":\"pro\"}"}"#, &[]), "4");
    let alice = world.reached("f:live", r#"{"user":"alice"}"#, &[]);
    for _ in 0..20 {
        assert_eq!(world.reached("f:live", r#"{"user":"alice","x":1}"#, &[]), alice);
    }
    let mut counts = HashMap::<String, u32>::new();
    for _ in 0..100_000 {
        *counts.entry(world.reached("f:live", "", &[])).or_default() += 1;
    }
    assert!((94_000..96_000).contains(&counts["1"]), "{counts:?}");
    assert_eq!(counts.len(), 2);
}

/// The change of an alias while calls run: each call ran a version that the alias had between its start and its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_alias_changed_under_load_leads_nowhere_else() {
    const VERSIONS: usize = 8;
    let world = Arc::new(World::with_start(EngineConfig::default(), 0).await);
    world.versions("f", &["echo"; VERSIONS]).await;
    world.alias("f", "live", &to(1)).await;
    let stop = Arc::new(AtomicBool::new(false));
    // The number that every call has to run at least, and at most.
    let bounds = Arc::new([1_u64, 1].map(std::sync::atomic::AtomicU64::new));
    let callers = (0..4).map(|_| {
        let (world, stop, bounds) = (Arc::clone(&world), Arc::clone(&stop), Arc::clone(&bounds));
        tokio::spawn(async move {
            let mut calls = 0;
            while !stop.load(Ordering::SeqCst) {
                let least = bounds[0].load(Ordering::SeqCst);
                let done = world.engine.invoke(call("f:live", "x"), &bare()).await.unwrap();
                let most = bounds[1].load(Ordering::SeqCst);
                let Qualifier::Version(ran) = done.version else { panic!("{:?}", done.version) };
                assert!((least..=most).contains(&ran), "{ran} is not in {least} to {most}");
                calls += 1;
                // A warm call in memory waits for nothing, and the engine's own tasks have their turn only when somebody does.
                tokio::task::yield_now().await;
            }
            calls
        })
    });
    let callers: Vec<_> = callers.collect();
    for version in 2..=VERSIONS as u64 {
        bounds[1].store(version, Ordering::SeqCst);
        world.alias("f", "live", &to(version)).await;
        bounds[0].store(version, Ordering::SeqCst);
        // Nobody routes to it any more: its body may go, also under a call that has just chosen it.
        let mut gone = None;
        world.change("f", |f| gone = Some((f.id, f.versions.remove(0)))).await;
        let (id, summary) = gone.unwrap();
        let at = model::keys::version_of(&id, &summary);
        let entry = world.meta.get(&at).await.unwrap().unwrap();
        world.meta.delete_if(&at, entry.revision).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    assert!(calls > 100, "{calls} calls");
    assert_eq!(world.invoke("f:1").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn equal_environments_share_instances_and_others_do_not() {
    let world = World::new(EngineConfig::default()).await;
    world
        .deploy_with("f", "env:STAGE", |f| {
            f.latest.config.environment.insert("STAGE".into(), "own".into());
        })
        .await;
    world.publish("f", 1).await;
    let with = |version: &str, stage: &str| {
        format!(
            r#"{{"targets":[{{"version":{version},"weight":1}}],"environment":{{"STAGE":"{stage}"}}}}"#
        )
    };
    for (alias, json) in [
        ("plain", to(1)),
        ("live", with("1", "live")),
        ("green", with("1", "live")),
        ("staging", with("1", "staging")),
        ("edge", with("\"$LATEST\"", "live")),
    ] {
        world.alias("f", alias, &json).await;
    }
    for (name, says, started) in [
        ("f:1", "own", 1),
        ("f:plain", "own", 1),
        ("f:live", "live", 2),
        ("f:green", "live", 2),
        ("f:staging", "staging", 3),
        ("f:edge", "live", 4),
        ("f:live", "live", 4),
    ] {
        assert_eq!(world.invoke(name).await.unwrap(), says, "{name}");
        assert_eq!(world.started(), started, "{name}");
    }
    // Of the two with the same environment one stays: its instances do.
    world.change("f", |f| drop(f.aliases.remove(&"green".parse().unwrap()))).await;
    world.invoke("f:live").await.unwrap();
    assert_eq!((world.started(), world.stopped()), (4, 0));
    world.alias("f", "staging", &with("1", "new")).await;
    sleep_ms(1).await;
    assert_eq!(world.stopped(), 1, "nobody has the environment any more");
    assert_eq!(world.invoke("f:staging").await.unwrap(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_version_ends_with_its_last_call() {
    let world = World::new(EngineConfig::default()).await;
    world.versions("f", &["sleep:500", "echo"]).await;
    let running = tokio::spawn({
        let engine = world.engine.clone();
        async move { engine.invoke(call("f:1", "x"), &bare()).await.unwrap() }
    });
    sleep_ms(50).await;
    world.change("f", |f| f.versions.retain(|v| v.number != 1)).await;
    assert_eq!(world.invoke("f:1").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(running.await.unwrap().outcome.result.unwrap(), "0");
    sleep_ms(1).await;
    assert_eq!(world.stopped(), 1);
    assert_eq!(world.invoke("f:2").await.unwrap(), "hello");
}

#[tokio::test(start_paused = true)]
async fn a_function_marked_as_deleted_is_absent() {
    let world = World::new(EngineConfig::default()).await;
    world.versions("f", &["echo"]).await;
    world.invoke("f:1").await.unwrap();
    world.change("f", |f| f.deleted = true).await;
    assert_eq!(world.invoke("f").await.unwrap_err().code(), Code::NotFound);
    sleep_ms(1).await;
    assert_eq!(world.stopped(), 1);
    let at = model::keys::function(&key("f"));
    let entry = world.meta.get(&at).await.unwrap().unwrap();
    let revision = world.meta.delete_if(&at, entry.revision).await.unwrap();
    world.engine.caught_up(revision).await.unwrap();
    world.deploy("f", "who").await;
    assert_eq!(world.invoke("f").await.unwrap(), "1");
    assert_eq!(world.invoke("f:1").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn versions_make_way_for_each_other() {
    let world = World::new(EngineConfig::default()).await;
    world.versions("f", &["sleep:100", "sleep:10"]).await;
    world.change("f", |f| f.settings.max_instances = Some(1)).await;
    world.invoke("f:1").await.unwrap();
    world.invoke("f:2").await.unwrap();
    assert_eq!((world.started(), world.stopped()), (2, 1), "the idle one of the other made way");
    let begin = tokio::time::Instant::now();
    let (a, b) = tokio::join!(world.invoke("f:1"), async {
        sleep_ms(50).await;
        world.invoke("f:2").await
    });
    a.unwrap();
    b.unwrap();
    let took = begin.elapsed().as_millis();
    assert!(took < 200, "{took} ms: as soon as the busy one came back");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_why() {
    let world = World::new(EngineConfig::default()).await;
    world.versions("f", &["echo", "echo", "echo"]).await;
    world
        .alias(
            "f",
            "live",
            r#"{"targets":[{"version":1,"weight":3},{"version":2,"weight":1}],"sticky":"cookie.id","rules":[
                {"when":[{"on":"header.a","exact":"x"},{"on":"event.n","range":"[1,5]"}],"to":3},
                {"when":[{"on":"source","one_of":["10.0.0.0/8","::1"]}],"to":"$LATEST"}]}"#,
        )
        .await;
    let explain = |name: &str, parameters: Carried, event: &str| {
        let target = FunctionRef::parse("default", name).unwrap();
        world.engine.explain(&target, &parameters, event.as_bytes()).unwrap()
    };
    let by_rule = explain("f:live", carried(&[("header.a", "x")]), r#"{"n":2}"#);
    assert_eq!((by_rule.version.unwrap().to_string(), by_rule.rule), ("3".into(), Some(1)));
    assert_eq!(by_rule.why, "all conditions of rule 1 hold");
    assert_eq!(by_rule.rules.len(), 1);

    let second = explain("f:live", carried(&[("header.a", "x"), ("source", "10.1.1.1")]), "{}");
    assert_eq!((second.version.unwrap().to_string(), second.rule), ("$LATEST".into(), Some(2)));
    let failed = second.rules[0].failed.as_deref();
    assert_eq!(failed, Some("event.n lies in [1,5]: the call has none"));

    let by_key = explain("f:live", carried(&[("cookie.id", "u1")]), "");
    assert_eq!(by_key.sticky.as_deref(), Some("u1"));
    assert_eq!(
        by_key.version.map(|v| v.to_string()),
        Some(world.reached("f:live", "", &[("cookie.id", "u1")]))
    );
    assert_eq!(by_key.rules.len(), 2);

    let by_chance = explain("f:live", bare(), "");
    assert_eq!(by_chance.version, None);
    assert_eq!(
        by_chance.why,
        "no rule matches, and the weights decide, as the call has no cookie.id"
    );
    let chances: Vec<_> =
        by_chance.chances.iter().map(|c| (c.version.to_string(), c.percent)).collect();
    assert_eq!(chances, [("1".into(), 75.0), ("2".into(), 25.0)]);

    world.alias("f", "only", &to(2)).await;
    let only = explain("f:only", bare(), "");
    assert_eq!((only.version.unwrap().to_string(), only.chances.len()), ("2".into(), 0));
    assert_eq!(explain("f:2", bare(), "").why, "the call names version 2");
    assert_eq!(explain("f", bare(), "").version.unwrap().to_string(), "$LATEST");
    let missing = FunctionRef::parse("default", "f:nope").unwrap();
    assert!(world.engine.explain(&missing, &bare(), b"").is_err());
}

#[tokio::test(start_paused = true)]
async fn the_same_call_stays_with_its_version() {
    let world = World::new(EngineConfig::default()).await;
    world.versions("f", &["echo", "echo"]).await;
    world
        .alias("f", "live", r#"{"targets":[{"version":1,"weight":1},{"version":2,"weight":1}]}"#)
        .await;
    let target = FunctionRef::parse("default", "f:live").unwrap();
    for _ in 0..50 {
        let id = RequestId::generate();
        let route = || world.engine.route(&target, &id, &bare(), b"").unwrap();
        let first = route();
        assert!((0..5).all(|_| route() == first));
        let call = Call { id, ..call("f:live", "") };
        let done = world.engine.invoke(call, &bare()).await.unwrap();
        assert_eq!(done.version, first.into());
    }
}
